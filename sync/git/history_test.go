package git_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/varanhq/varan/internal/testutil/gitserver"
	"github.com/varanhq/varan/sync/git"
)

func TestForcePushIsFollowedWhereverItLeads(t *testing.T) {
	srv := gitserver.New(t)
	below := srv.Commit(map[string]string{"a": "below the boundary", "only/there": "x"}, "one")
	boundary := srv.Commit(map[string]string{"a": "boundary", "only/there": "y"}, "two")
	m := open(t, srv)
	fetch(t, m)
	after := srv.Commit(map[string]string{"a": "after"}, "three")
	fetch(t, m)
	srv.CommitTo("orphan", map[string]gitserver.File{"a": {Content: "unrelated"}}, nil, "root")
	orphan := srv.Git("", "rev-parse", "orphan")
	srv.Branch("side", below)
	side := srv.CommitTo("side", map[string]gitserver.File{"a": {Content: "sibling"}}, nil, "sibling")

	for _, step := range []struct{ name, commit, want string }{
		{"back to a commit that is held", boundary, "boundary"},
		{"forward again", after, "after"},
		{"back below the shallow boundary", below, "below the boundary"},
		{"to an unrelated history", orphan, "unrelated"},
		{"to a sibling", side, "sibling"},
	} {
		srv.ForcePush(step.commit)
		tree, changed, err := m.Fetch(t.Context())
		if err != nil || !changed {
			t.Fatalf("%s: changed %t, %v", step.name, changed, err)
		}
		if got := read(t, tree, "a"); got != step.want || tree.Commit().ID != step.commit {
			t.Errorf("%s: a is %q at %s", step.name, got, tree.Commit().ID)
		}
		fsck(t, m)
	}
}

// A server with bitmaps leaves out of a pack what the client's whole history holds, and
// a shallow mirror's history does not hold it.
func TestRevertToContentFromBelowTheBoundaryIsComplete(t *testing.T) {
	srv := gitserver.New(t)
	srv.Commit(map[string]string{"a": "old", "d/b": "old"}, "one")
	srv.Commit(map[string]string{"a": "new", "d/b": "new"}, "two")
	srv.Git("", "repack", "-adb", "--quiet")
	m := open(t, srv)
	fetch(t, m)
	srv.Commit(map[string]string{"a": "old", "d/b": "old"}, "revert two")
	srv.Git("", "repack", "-adb", "--quiet")
	tree := fetch(t, m)
	if read(t, tree, "a") != "old" || read(t, tree, "d/b") != "old" {
		t.Error("the revert did not arrive")
	}
	fsck(t, m)
}

func TestMergeOfAnOldBranchStaysCheap(t *testing.T) {
	srv := gitserver.New(t)
	first := srv.Commit(map[string]string{"a": "0"}, "first")
	for i := range 200 {
		srv.Commit(map[string]string{"a": fmt.Sprint(i), fmt.Sprintf("old/%d", i): "x"}, "more")
	}
	m := open(t, srv)
	fetch(t, m)
	srv.Branch("feature", first)
	feature := srv.CommitTo("feature", map[string]gitserver.File{"feature": {Content: "x"}}, nil, "feature")
	tree := srv.Git("", "rev-parse", "main^{tree}")
	merge := srv.Git("", "commit-tree", "-p", "main", "-p", feature, "-m", "merge", tree)
	srv.ForcePush(merge)
	before := packBytes(t, m)
	fetch(t, m)
	if grown := packBytes(t, m) - before; grown > 4<<10 {
		t.Errorf("merging one small commit from behind the boundary transferred %d bytes", grown)
	}
}

func TestMirrorIsReplacedAfterManyFetches(t *testing.T) {
	srv := gitserver.New(t)
	srv.Commit(map[string]string{"n": "first", "big": string(make([]byte, 40<<10))}, "first")
	dir := t.TempDir()
	m := openWith(t, git.Config{Dir: dir}, git.Source{URL: srv.URL()})
	first := fetch(t, m)
	most := 0
	for i := range 70 {
		srv.Commit(map[string]string{"n": fmt.Sprint(i)}, "change")
		fetch(t, m)
		packs, err := filepath.Glob(filepath.Join(storeDir(t, dir), "objects", "pack", "*.pack"))
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, len(packs))
	}
	if most != 64 {
		t.Errorf("the store grew to %d packs, want 64", most)
	}
	if read(t, first, "n") != "first" || len(read(t, first, "big")) != 40<<10 {
		t.Error("a tree from before the swap cannot be read")
	}
}

func TestTreesOutliveMirrorAndSwap(t *testing.T) {
	srv := gitserver.New(t)
	old := srv.Commit(map[string]string{"a": "1"}, "one")
	m := open(t, srv)
	first := fetch(t, m)
	srv.Commit(map[string]string{"a": "2"}, "two")
	fetch(t, m)
	if tree, err := m.Tree(t.Context(), old); err != nil || read(t, tree, "a") != "1" {
		t.Errorf("a commit in the store: %v", err)
	}
	if _, err := m.Tree(t.Context(), "0123456789012345678901234567890123456789"); !git.Permanent(err) {
		t.Errorf("a commit that is nowhere: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if read(t, first, "a") != "1" {
		t.Error("tree cannot be read after close")
	}
	if _, _, err := m.Fetch(t.Context()); !git.Permanent(err) {
		t.Errorf("fetch after close: %v", err)
	}
}

func TestCurrentSurvivesARestartWithoutNetwork(t *testing.T) {
	srv := gitserver.New(t)
	srv.Commit(map[string]string{"a": "1"}, "one")
	cfg, src := git.Config{Dir: t.TempDir()}, git.Source{URL: srv.URL()}
	m := openWith(t, cfg, src)
	fetch(t, m)
	id := srv.Commit(map[string]string{"a": "2"}, "two")
	fetch(t, m)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	srv.Requests()
	again := openWith(t, cfg, src)
	tree, ok := again.Current()
	if !ok || tree.Commit().ID != id || tree.Commit().Branch != "main" || read(t, tree, "a") != "2" {
		t.Fatalf("current after restart: %t", ok)
	}
	if n := len(srv.Requests()); n != 0 {
		t.Errorf("opening made %d requests", n)
	}
	if _, changed, err := again.Fetch(t.Context()); err != nil || changed {
		t.Errorf("fetch after restart: changed %t, %v", changed, err)
	}
}

func TestManyReadersDuringFetches(t *testing.T) {
	srv := gitserver.New(t)
	files := map[string]string{}
	for i := range 50 {
		files[fmt.Sprintf("d%d/f", i)] = fmt.Sprintf("content %d", i)
	}
	srv.Commit(files, "first")
	m := open(t, srv)
	tree := fetch(t, m)
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for range 20 {
				for path, want := range files {
					if got, err := tree.ReadFile(path); err != nil || string(got) != want {
						t.Errorf("%s is %q, %v", path, got, err)
						return
					}
					m.Current()
				}
			}
		})
	}
	for i := range 5 {
		srv.Commit(map[string]string{"n": fmt.Sprint(i)}, "change")
		fetch(t, m)
	}
	readers.Wait()
}

func TestTwoMirrorsOfTheSameFolderExcludeEachOther(t *testing.T) {
	srv := gitserver.New(t)
	srv.Commit(map[string]string{"a": "1"}, "one")
	cfg := git.Config{Dir: t.TempDir()}
	openWith(t, cfg, git.Source{URL: srv.URL()})
	if _, err := git.Open(cfg, git.Source{URL: srv.URL()}); err == nil {
		t.Error("the same source opened twice")
	}
	openWith(t, cfg, git.Source{URL: srv.URL(), Name: "other"})
	openWith(t, cfg, git.Source{URL: srv.URL(), Branch: "main"})
}

// storeDir is the folder of the only store below dir.
func storeDir(tb testing.TB, dir string) string {
	tb.Helper()
	stores, err := filepath.Glob(filepath.Join(dir, "*", "store-*"))
	if err != nil || len(stores) != 1 {
		tb.Fatalf("stores: %v, %v", stores, err)
	}
	return stores[0]
}

// fsck has Git itself check the mirror's store.
func fsck(tb testing.TB, m *git.Mirror) {
	tb.Helper()
	out, err := exec.CommandContext(tb.Context(), "git", "--git-dir="+git.StoreDir(m), "fsck", "--connectivity-only").CombinedOutput()
	if err != nil {
		tb.Errorf("git fsck: %v\n%s", err, out)
	}
}

func packBytes(tb testing.TB, m *git.Mirror) (total int64) {
	tb.Helper()
	packs, err := filepath.Glob(filepath.Join(git.StoreDir(m), "objects", "pack", "*.pack"))
	if err != nil {
		tb.Fatal(err)
	}
	for _, p := range packs {
		info, err := os.Stat(p)
		if err != nil {
			tb.Fatal(err)
		}
		total += info.Size()
	}
	return total
}
