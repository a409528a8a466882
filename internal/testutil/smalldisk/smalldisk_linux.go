// Package smalldisk gives tests a file system that can be filled.
package smalldisk

import (
	"os"
	"syscall"
	"testing"
)

// Mount is the directory of a file system of 16 MiB of its own, until the test ends. Tests that
// may not mount one are skipped.
func Mount(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root mounts file systems")
	}
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}
