package git_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/varanhq/varan/internal/testutil/gitserver"
	"github.com/varanhq/varan/sync/git"
)

// rawTree writes a tree exactly as given, without any of Git's own checks.
func rawTree(tb testing.TB, srv *gitserver.Server, entries ...string) string {
	tb.Helper()
	return srv.Git(strings.Join(entries, ""), "hash-object", "-t", "tree", "--literally", "-w", "--stdin")
}

func entry(tb testing.TB, mode, name, id string) string {
	tb.Helper()
	raw, err := hex.DecodeString(id)
	if err != nil {
		tb.Fatal(err)
	}
	return mode + " " + name + "\x00" + string(raw)
}

func blob(srv *gitserver.Server, content string) string {
	return srv.Git(content, "hash-object", "-w", "--stdin")
}

func pushTree(srv *gitserver.Server, tree string) {
	srv.ForcePush(srv.Git("", "commit-tree", "-m", "tree", tree))
}

func TestHostileNamesAreRefusedWithTheTreesID(t *testing.T) {
	srv := gitserver.New(t)
	good := srv.Commit(map[string]string{"a": "good"}, "good")
	m := open(t, srv)
	fetch(t, m)
	b := blob(srv, "x")
	sub := rawTree(t, srv, entry(t, "100644", "f", b))
	for _, tc := range []struct {
		name    string
		entries []string
	}{
		{".git", []string{entry(t, "40000", ".git", sub)}},
		{".GIT", []string{entry(t, "40000", ".GIT", sub)}},
		{"git~1", []string{entry(t, "40000", "git~1", sub)}},
		{"GIT~1", []string{entry(t, "100644", "GIT~1", b)}},
		{".git with a trailing dot", []string{entry(t, "40000", ".git. .", sub)}},
		{".git as a stream", []string{entry(t, "100644", ".git::$INDEX_ALLOCATION", b)}},
		{".git with invisible characters", []string{entry(t, "40000", ".g\u200cit", sub)}},
		{"..", []string{entry(t, "40000", "..", sub)}},
		{".", []string{entry(t, "40000", ".", sub)}},
		{"slash", []string{entry(t, "100644", "a/b", b)}},
		{"newline", []string{entry(t, "100644", "a\nb", b)}},
		{"escape", []string{entry(t, "100644", "a\x1b[31m", b)}},
		{"invalid UTF-8", []string{entry(t, "100644", "a\xff", b)}},
		{"five thousand bytes", []string{entry(t, "100644", strings.Repeat("n", 5000), b)}},
		{"twice the same", []string{entry(t, "100644", "a", b), entry(t, "100644", "a", b)}},
		{"file and folder of a name", []string{entry(t, "100644", "a", b), entry(t, "100644", "a-b", b), entry(t, "40000", "a", sub)}},
		{"differ in case", []string{entry(t, "100644", "Compose.yaml", b), entry(t, "100644", "compose.yaml", b)}},
		{"differ in normal form", []string{entry(t, "100644", "caf\u00e9", b), entry(t, "100644", "cafe\u0301", b)}},
		{"odd mode", []string{entry(t, "100777", "a", b)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tree := rawTree(t, srv, tc.entries...)
			pushTree(srv, rawTree(t, srv, entry(t, "40000", "below", tree)))
			_, _, err := m.Fetch(t.Context())
			if !errors.Is(err, git.ErrTree) || !git.Permanent(err) {
				t.Fatalf("fetch: %v", err)
			}
			if text := err.Error(); !strings.Contains(text, tree) || !utf8.ValidString(text) || strings.ContainsAny(text, "\n\x1b") {
				t.Errorf("error is %q", text)
			}
			srv.Requests()
			if _, _, again := m.Fetch(t.Context()); !errors.Is(again, git.ErrTree) || srv.Requests()["git-upload-pack"] != 0 {
				t.Error("a refused commit is fetched again at every poll")
			}
			current, _ := m.Current()
			if current.Commit().ID != good || read(t, current, "a") != "good" {
				t.Error("the old tree is gone")
			}
		})
	}
	srv.ForcePush(good)
	if _, changed, err := m.Fetch(t.Context()); err != nil || changed {
		t.Errorf("back at the good commit: changed %t, %v", changed, err)
	}
}

func TestLimitsHoldAtTheirEdge(t *testing.T) {
	srv := gitserver.New(t)
	// Five paths, three of them files, of 1, 10 and 100 bytes.
	srv.Commit(map[string]string{
		"d/e/one": "1", "d/ten": strings.Repeat("x", 10), "hundred": strings.Repeat("y", 100),
	}, "one")
	for _, tc := range []struct {
		name  string
		at    git.Limits
		below git.Limits
	}{
		{"paths", git.Limits{Paths: 5}, git.Limits{Paths: 4}},
		{"total bytes", git.Limits{TotalBytes: 111}, git.Limits{TotalBytes: 110}},
		{"bytes of a file", git.Limits{BlobBytes: 100}, git.Limits{BlobBytes: 99}},
		{"depth", git.Limits{Depth: 2}, git.Limits{Depth: 1}},
		{"pack", git.Limits{PackBytes: 100_000}, git.Limits{PackBytes: 100}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fetch(t, openWith(t, git.Config{Dir: t.TempDir(), Limits: tc.at}, git.Source{URL: srv.URL()}))
			dir := t.TempDir()
			m := openWith(t, git.Config{Dir: dir, Limits: tc.below}, git.Source{URL: srv.URL()})
			if _, _, err := m.Fetch(t.Context()); !errors.Is(err, git.ErrLimit) || !git.Permanent(err) {
				t.Errorf("below: %v", err)
			}
			noLeftovers(t, dir)
		})
	}
}

func TestGitBombIsRefusedQuickly(t *testing.T) {
	srv := gitserver.New(t)
	leaf := blob(srv, "x")
	tree := rawTree(t, srv, tenEntries(t, "100644", leaf)...)
	for range 9 {
		tree = rawTree(t, srv, tenEntries(t, "40000", tree)...)
	}
	pushTree(srv, tree)
	start := time.Now()
	if _, _, err := open(t, srv).Fetch(t.Context()); !errors.Is(err, git.ErrLimit) {
		t.Errorf("fetch: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func tenEntries(tb testing.TB, mode, id string) []string {
	tb.Helper()
	entries := make([]string, 10)
	for i := range entries {
		entries[i] = entry(tb, mode, fmt.Sprintf("d%d", i), id)
	}
	return entries
}

func TestLargeFileIsRefusedByItsPath(t *testing.T) {
	srv := gitserver.New(t)
	srv.Commit(map[string]string{"stacks/big.bin": strings.Repeat("\x00", 11_000_000)}, "big")
	_, _, err := open(t, srv).Fetch(t.Context())
	if !errors.Is(err, git.ErrLimit) || !strings.Contains(err.Error(), "stacks/big.bin") {
		t.Errorf("fetch: %v", err)
	}
}

func TestHugeObjectIsRefusedBeforeItIsInflated(t *testing.T) {
	srv := gitserver.New(t)
	srv.Commit(map[string]string{"zeros": strings.Repeat("\x00", 65<<20)}, "zeros")
	if _, _, err := open(t, srv).Fetch(t.Context()); !errors.Is(err, git.ErrLimit) {
		t.Errorf("fetch: %v", err)
	}
}
