package memdir_test

import (
	"errors"
	"os"
	"testing"

	"github.com/varanhq/varan/internal/memdir"
)

func TestDirectoryIsPrivate(t *testing.T) {
	dir, err := memdir.New("varan-test-")
	if errors.Is(err, memdir.ErrNone) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, want 0700", info.Mode().Perm())
	}
}
