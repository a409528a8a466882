package diskspace

import (
	"os"

	"golang.org/x/sys/unix"
)

func statfs(dir string) (Space, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Space{}, err
	}
	size := uint64(s.Bsize) //nolint:gosec // it is not negative
	return Space{Free: s.Bavail * size, Total: s.Blocks * size}, nil
}

// allocate takes blocks without writing them.
func allocate(f *os.File, size int64) error { return unix.Fallocate(int(f.Fd()), 0, 0, size) }
