//go:build unix

package keyfile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// openNoFollow opens without following a link and without waiting for a pipe's writer.
func openNoFollow(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
}

func checkPrivate(path string, file, dir fs.FileInfo) error {
	if perm := file.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o: others may use the key; run chmod 600", path, perm)
	}
	if perm := dir.Mode().Perm(); perm&0o022 != 0 {
		return fmt.Errorf("%s has mode %04o: others may replace the key; run chmod 700", filepath.Dir(path), perm)
	}
	for _, info := range []fs.FileInfo{file, dir} {
		stat, ok := info.Sys().(*syscall.Stat_t)
		// Root's files are fine for anyone whom root lets read them.
		if ok && stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
			return fmt.Errorf("%s belongs to user %d, not to the one who runs this", info.Name(), stat.Uid)
		}
	}
	return nil
}
