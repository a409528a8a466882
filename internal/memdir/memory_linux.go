package memdir

import "golang.org/x/sys/unix"

// inMemory reports whether a directory is on a file system that has no disk.
func inMemory(dir string) bool {
	var stat unix.Statfs_t
	if unix.Statfs(dir, &stat) != nil {
		return false
	}
	return stat.Type == unix.TMPFS_MAGIC || stat.Type == unix.RAMFS_MAGIC
}
