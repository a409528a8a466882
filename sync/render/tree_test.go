package render_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/sync/render"
)

func TestDirectoryAndMemoryAreTheSameTree(t *testing.T) {
	dir := t.TempDir()
	for name, text := range basic().with(map[string]string{".git/config": "x", "sub/.git": "gitdir: x"}) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := render.DirTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tree.Close() }()
	local, uploaded := input(t, basic(), ""), input(t, basic(), "")
	local.Tree = tree
	want, got := mustRender(t, newRenderer(), uploaded), mustRender(t, newRenderer(), local)
	if diff := cmp.Diff(want.Desired, got.Desired); diff != "" {
		t.Errorf("desired (-memory +directory):\n%s", diff)
	}
	for _, name := range []string{"web", "db/compose.yaml"} {
		a, errA := tree.ObjectID(name)
		b, errB := uploaded.Tree.ObjectID(name)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if info, _ := tree.Stat(name); a != b && info.Mode().Perm()&0o077 == 0o044 {
			t.Errorf("%s: %s in the directory, %s in memory", name, a, b)
		}
	}
	if _, err := tree.Stat(".git/config"); err == nil {
		t.Error(".git is visible")
	}
}

func TestDirectoryFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "real"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"link": "real", "dir": ".", "out": "/etc/passwd"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := render.DirTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tree.Close() }()
	for _, name := range []string{"link", "dir/real", "out"} {
		if _, err := tree.ReadFile(name); err == nil {
			t.Errorf("%s was read", name)
		}
	}
	if info, err := tree.Stat("link"); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("Stat(link) = %v, %v", info, err)
	}
}

func TestMemTreeRefusesPathsOutside(t *testing.T) {
	for _, name := range []string{"../x", "/x", "a//b", ".", `a\b`, "a/../../b"} {
		if _, err := render.MemTree(map[string][]byte{name: nil}, nil); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
	if _, err := render.MemTree(map[string][]byte{"a": nil, "a/b": nil}, nil); err == nil {
		t.Error("a file was taken as a directory")
	}
}
