//go:build unix

package policy

import (
	"io/fs"
	"os"
	"syscall"
)

// ownedByUs reports whether a file belongs to root or to the user we run as.
func ownedByUs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (stat.Uid == 0 || int(stat.Uid) == os.Geteuid())
}
