package git_test

import (
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/internal/testutil/gitserver"
	"github.com/varanhq/varan/sync/git"
)

func open(tb testing.TB, srv *gitserver.Server) *git.Mirror {
	tb.Helper()
	return openWith(tb, git.Config{Dir: tb.TempDir()}, git.Source{URL: srv.URL(), Branch: "main"})
}

func openWith(tb testing.TB, cfg git.Config, src git.Source) *git.Mirror {
	tb.Helper()
	m, err := git.Open(cfg, src)
	if err != nil {
		tb.Fatalf("open: %v", err)
	}
	tb.Cleanup(func() {
		if err := m.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return m
}

func fetch(tb testing.TB, m *git.Mirror) *git.Tree {
	tb.Helper()
	tree, _, err := m.Fetch(tb.Context())
	if err != nil {
		tb.Fatalf("fetch: %v", err)
	}
	return tree
}

func read(tb testing.TB, tree *git.Tree, path string) string {
	tb.Helper()
	content, err := tree.ReadFile(path)
	if err != nil {
		tb.Fatalf("read: %v", err)
	}
	return string(content)
}

func TestFetchServesTheHeadAsAFileSystem(t *testing.T) {
	srv := gitserver.New(t)
	id := srv.Commit(map[string]string{
		"servers.toml":           "[[server]]\n",
		"stacks/web/compose.yml": "services: {}\n",
		"stacks/db/compose.yml":  "services: {}\n",
		"empty":                  "",
	}, "first\n\nbody")
	m := open(t, srv)
	if _, ok := m.Current(); ok {
		t.Fatal("a new mirror has a current tree")
	}
	tree, changed, err := m.Fetch(t.Context())
	if err != nil || !changed {
		t.Fatalf("fetch: changed %t, %v", changed, err)
	}
	if c := tree.Commit(); c.ID != id || c.Branch != "main" || c.Subject != "first" || c.Author != "Ada <ada@example.org>" {
		t.Errorf("commit is %+v", c)
	}
	if err := fstest.TestFS(tree, "servers.toml", "stacks/web/compose.yml", "empty"); err != nil {
		t.Error(err)
	}
	if head, err := m.Head(t.Context()); err != nil || head != id {
		t.Errorf("head is %s, %v, want %s", head, err, id)
	}
}

func TestUnchangedHeadCostsOneRequest(t *testing.T) {
	srv := gitserver.New(t)
	srv.Commit(map[string]string{"a": "1"}, "first")
	m := open(t, srv)
	first := fetch(t, m)
	srv.Requests()
	again, changed, err := m.Fetch(t.Context())
	if err != nil || changed || again != first {
		t.Errorf("second fetch: same tree %t, changed %t, %v", again == first, changed, err)
	}
	if diff := cmp.Diff(map[string]int{"info/refs": 1}, srv.Requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestARenewedMirrorIsClonedAfresh(t *testing.T) {
	srv := gitserver.New(t)
	srv.Commit(map[string]string{"a": "1"}, "first")
	m := open(t, srv)
	if had, err := m.Renew(t.Context()); had || err != nil {
		t.Errorf("an empty mirror has something to clone: %t, %v", had, err)
	}
	old := fetch(t, m)
	if had, err := m.Renew(t.Context()); !had || err != nil {
		t.Errorf("renew: %t, %v", had, err)
	}
	if _, ok := m.Current(); !ok || read(t, old, "a") != "1" {
		t.Error("renewing took away what there was")
	}
	if tree, changed, err := m.Fetch(t.Context()); err != nil || !changed || read(t, tree, "a") != "1" {
		t.Errorf("nothing was cloned: %t, %v", changed, err)
	}
	if _, changed, err := m.Fetch(t.Context()); err != nil || changed {
		t.Errorf("it is cloned again and again: %t, %v", changed, err)
	}
}

func TestChangedHeadCostsTwoRequests(t *testing.T) {
	srv := gitserver.New(t)
	srv.Commit(map[string]string{"a": "1", "d/b": "1"}, "first")
	m := open(t, srv)
	old := fetch(t, m)
	id := srv.Commit(map[string]string{"a": "2"}, "second")
	srv.Requests()
	tree, changed, err := m.Fetch(t.Context())
	if err != nil || !changed {
		t.Fatalf("fetch: changed %t, %v", changed, err)
	}
	if diff := cmp.Diff(map[string]int{"info/refs": 1, "git-upload-pack": 1}, srv.Requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if tree.Commit().ID != id || read(t, tree, "a") != "2" || read(t, old, "a") != "1" {
		t.Errorf("commit %s: new a is %q, old a is %q", tree.Commit().ID, read(t, tree, "a"), read(t, old, "a"))
	}
	same := func(path string) bool {
		x, err1 := old.ObjectID(path)
		y, err2 := tree.ObjectID(path)
		return err1 == nil && err2 == nil && x == y
	}
	if !same("d") || !same("d/b") || same("a") || same(".") {
		t.Error("object ids do not follow content")
	}
}

func TestLinksAndSubmodulesAreListedAndNotFollowed(t *testing.T) {
	srv := gitserver.New(t)
	srv.CommitTo("main", map[string]gitserver.File{
		"link": {Content: "/etc/passwd", Mode: "120000"},
		"sub":  {Content: "0123456789012345678901234567890123456789", Mode: "160000"},
		"run":  {Content: "#!/bin/sh\n", Mode: "100755"},
	}, nil, "links")
	tree := fetch(t, open(t, srv))
	for _, path := range []string{"link", "sub", "link/x", "sub/x"} {
		if _, err := tree.Open(path); !errors.Is(err, git.ErrNotRegular) {
			t.Errorf("open %s: %v", path, err)
		}
		if _, err := tree.ReadFile(path); !errors.Is(err, git.ErrNotRegular) {
			t.Errorf("read %s: %v", path, err)
		}
	}
	modes := map[string]fs.FileMode{}
	entries, err := tree.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		modes[e.Name()] = info.Mode()
	}
	want := map[string]fs.FileMode{"link": fs.ModeSymlink | 0o777, "sub": fs.ModeIrregular, "run": 0o755}
	if diff := cmp.Diff(want, modes); diff != "" {
		t.Errorf("modes (-want +got):\n%s", diff)
	}
}
