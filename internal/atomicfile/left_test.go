package atomicfile_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/internal/atomicfile"
)

func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestCleanRemovesWhatACrashLeftAndNothingElse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "odd [name]*")
	keep := []string{".hidden", ".notes.tmp", ".state.12a.tmp", "state", "state.7.tmp"}
	for _, name := range keep {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A process that dies after Temp leaves its file.
	for _, name := range []string{"state", "keys.pem"} {
		if _, err := (atomicfile.OS{}).Temp(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("state", filepath.Join(dir, ".link.1.tmp")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, ".dir.1.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	left, err := atomicfile.Left(dir, func(name string) bool { return name == "keys.pem" })
	if err != nil || len(left) != 1 {
		t.Errorf("of one file there is left %q, %v", left, err)
	}
	if err := atomicfile.Clean(dir, filepath.Join(dir, "none")); err != nil {
		t.Fatal(err)
	}
	want := slices.Sorted(slices.Values(append(keep, ".link.1.tmp", ".dir.1.tmp")))
	if diff := cmp.Diff(want, names(t, dir)); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); !os.IsNotExist(err) {
		t.Errorf("%v, want %v", err, fs.ErrNotExist)
	}
}
