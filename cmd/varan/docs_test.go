package main

import (
	"io"
	"io/fs"
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

// tested finds the tests that a page names.
var tested = regexp.MustCompile("`(Test[A-Z]\\w+)`")

func TestDocsNameTestsThatExist(t *testing.T) {
	t.Parallel()
	exist := map[string]bool{"TestAlerter": true} // an execution of procedures
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, match := range declared.FindAllSubmatch(text, -1) {
			exist[string(match[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range tested.FindAllStringSubmatch(string(text), -1) {
			found++
			if !exist[match[1]] {
				t.Errorf("%s names %s, which is no test", page, match[1])
			}
		}
	}
	if found < 60 {
		t.Errorf("only %d tests are found in the pages", found)
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
