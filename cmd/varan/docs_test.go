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
	docs, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages = append(append(pages, docs...), root+"/README.md")
	found := 0
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

func TestEveryPageIsLinkedFromTheGuide(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile(root + "/docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if name := filepath.Base(page); name != "guide.md" && !strings.Contains(string(guide), "("+name) {
			t.Errorf("docs/guide.md does not link to %s", name)
		}
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
