package git_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/varanhq/varan/internal/testutil/gitserver"
	"github.com/varanhq/varan/sync/git"
)

func TestDamagedStoreIsReplacedByAFreshClone(t *testing.T) {
	glob := func(t *testing.T, store, pattern string) string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(store, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		return found[0]
	}
	overwrite := func(pattern string, change func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, store string) {
			t.Helper()
			path := glob(t, store, pattern)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, change(bytes.Clone(content)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte {
			for i := range 8 {
				b[(at+i)%len(b)] ^= 0xff
			}
			return b
		}
	}
	cut := func(b []byte) []byte { return b[:len(b)/2] }
	empty := func([]byte) []byte { return nil }
	remove := func(pattern string) func(*testing.T, string) {
		return func(t *testing.T, store string) {
			t.Helper()
			if err := os.Remove(glob(t, store, pattern)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tc := range []struct {
		name   string
		damage func(*testing.T, string)
	}{
		{"pack cut", overwrite("objects/pack/*.pack", cut)},
		{"pack empty", overwrite("objects/pack/*.pack", empty)},
		{"pack flipped at the start", overwrite("objects/pack/*.pack", flip(14))},
		{"pack gone", remove("objects/pack/*.pack")},
		{"index cut", overwrite("objects/pack/*.idx", cut)},
		{"index flipped", overwrite("objects/pack/*.idx", flip(1100))},
		{"index gone", remove("objects/pack/*.idx")},
		{"head cut", overwrite("HEAD", cut)},
		{"head flipped", overwrite("HEAD", flip(3))},
		{"head of another repository", overwrite("HEAD", func([]byte) []byte { return []byte("0123456789012345678901234567890123456789\n") })},
		{"head gone", remove("HEAD")},
		{"branch name gone", remove("varan-branch")},
		{"config gone", remove("config")},
		{"index.lock left", func(t *testing.T, store string) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(store, "index.lock"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := gitserver.New(t)
			srv.Commit(map[string]string{"a": "1", "d/b": "content"}, "one")
			cfg, src := git.Config{Dir: t.TempDir()}, git.Source{URL: srv.URL()}
			m := openWith(t, cfg, src)
			fetch(t, m)
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			tc.damage(t, storeDir(t, cfg.Dir))
			again := openWith(t, cfg, src)
			tree := fetch(t, again)
			if read(t, tree, "a") != "1" || read(t, tree, "d/b") != "content" {
				t.Error("content is wrong")
			}
			storeDir(t, cfg.Dir)
			fsck(t, again)
		})
	}
}

func TestDamageFoundWhileReadingIsCuredByTheNextFetch(t *testing.T) {
	srv := gitserver.New(t)
	// A file that cannot be compressed, so that the damage hits it and nothing else.
	noise := make([]byte, 512<<10)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	srv.Commit(map[string]string{"noise": string(noise)}, "one")
	dir := t.TempDir()
	m := openWith(t, git.Config{Dir: dir}, git.Source{URL: srv.URL()})
	tree := fetch(t, m)
	packs, err := filepath.Glob(filepath.Join(storeDir(t, dir), "objects", "pack", "*.pack"))
	if err != nil || len(packs) != 1 {
		t.Fatalf("packs: %v, %v", packs, err)
	}
	if err := os.Chmod(packs[0], 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(packs[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 4096), 300<<10); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.ReadFile("noise"); err == nil || git.Permanent(err) {
		t.Fatalf("read of a damaged file: %v", err)
	}
	cured := fetch(t, m)
	if read(t, cured, "noise") != string(noise) {
		t.Error("content is wrong after the cure")
	}
}

func TestWhatAKilledFetchLeftIsRemoved(t *testing.T) {
	srv := gitserver.New(t)
	srv.Commit(map[string]string{"a": "1"}, "one")
	cfg, src := git.Config{Dir: t.TempDir()}, git.Source{URL: srv.URL()}
	m := openWith(t, cfg, src)
	fetch(t, m)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	store := storeDir(t, cfg.Dir)
	left := filepath.Join(filepath.Dir(store), "clone-123")
	if err := os.MkdirAll(filepath.Join(left, "objects", "pack"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tmp_pack_1", "tmp_idx_1"} {
		if err := os.WriteFile(filepath.Join(store, "objects", "pack", name), []byte("PACK"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(store, ".HEAD.123.tmp"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	again := openWith(t, cfg, src)
	if _, ok := again.Current(); !ok {
		t.Error("the good store was not loaded")
	}
	noLeftovers(t, cfg.Dir)
}

func TestLocalRepositoryIsReadInPlace(t *testing.T) {
	for _, bare := range []bool{true, false} {
		srv := gitserver.New(t)
		first := srv.Commit(map[string]string{"a": "1", "d/b": "x"}, "one")
		root := filepath.Dir(srv.Dir())
		path := srv.Dir()
		if !bare {
			path = filepath.Join(root, "work")
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(srv.Dir(), filepath.Join(root, "link")); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(srv.Dir(), filepath.Join(path, ".git")); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(filepath.Join(path, ".git"), srv.Dir()); err != nil {
				t.Fatal(err)
			}
		}
		m := openWith(t, git.Config{LocalRoots: []string{root}}, git.Source{URL: "file://" + path})
		tree := fetch(t, m)
		if read(t, tree, "d/b") != "x" || tree.Commit().Branch != "main" {
			t.Errorf("bare %t: %+v", bare, tree.Commit())
		}
		if same, changed, err := m.Fetch(t.Context()); err != nil || changed || same != tree {
			t.Errorf("unchanged: %t, %v", changed, err)
		}
		srv.Commit(map[string]string{"a": "2"}, "two")
		// A repack moves everything to another pack while the old tree is in use.
		srv.Git("", "gc", "--quiet", "--prune=now")
		next := fetch(t, m)
		if read(t, next, "a") != "2" || read(t, tree, "a") != "1" {
			t.Error("content is wrong after a repack")
		}
		if old, err := m.Tree(t.Context(), first); err != nil || read(t, old, "a") != "1" {
			t.Errorf("older commit: %v", err)
		}
	}
}

func TestLocalPathsOutsideTheRootsAreRefused(t *testing.T) {
	srv := gitserver.New(t)
	srv.Commit(map[string]string{"a": "1"}, "one")
	root := t.TempDir()
	link := filepath.Join(root, "link.git")
	if err := os.Symlink(srv.Dir(), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{srv.Dir(), link, filepath.Join(root, "missing"), root} {
		if _, err := git.Open(git.Config{LocalRoots: []string{root}}, git.Source{URL: path}); !git.Permanent(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
