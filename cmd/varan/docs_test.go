package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// typed finds what the pages tell people to type: in a code span or at the start of a
// line of a code block, up to a comment or the end.
var typed = regexp.MustCompile("(?m)(?:`|^ *(?:[A-Z_]+=\\S+ )?(?:bin/)?)varan ([a-z][^`#\n]*)")

func TestDocsNameCommandsAndFlagsThatExist(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob(root + "/examples/*/README.md")
	if err != nil {
		t.Fatal(err)
	}
	pages = append(pages, root+"/docs/servers.md", root+"/docs/history.md", root+"/README.md", root+"/docs/guide.md", root+"/docs/configuration.md", root+"/docs/architecture.md", root+"/docs/keys.md", root+"/docs/procedures.md")
	found := 0
	pages = append(pages, root+"/docs/control.md")
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range typed.FindAllStringSubmatch(string(text), -1) {
			found++
			checkTyped(t, page, strings.Fields(strings.ReplaceAll(match[1], ",", " ")))
		}
	}
	if found < 40 {
		t.Errorf("only %d commands are found in the pages", found)
	}
}

func checkTyped(t *testing.T, page string, words []string) {
	t.Helper()
	if words[0] == "help" {
		return
	}
	cmd, _, err := newRoot(strings.NewReader(""), io.Discard, io.Discard).Find(words)
	if err != nil || !cmd.HasParent() {
		t.Errorf("%s: varan %s: no such command", page, strings.Join(words, " "))
		return
	}
	for _, word := range words {
		name, ok := strings.CutPrefix(word, "--")
		name, _, _ = strings.Cut(name, "=")
		if ok && cmd.Flags().Lookup(name) == nil && cmd.InheritedFlags().Lookup(name) == nil {
			t.Errorf("%s: varan %s: no flag --%s", page, strings.Join(words, " "), name)
		}
	}
}
