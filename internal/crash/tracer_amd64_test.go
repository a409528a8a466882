//go:build linux

package crash_test

import "golang.org/x/sys/unix"

// older are the calls from before there were those that end in "at".
var older = map[uint64]call{
	unix.SYS_OPEN:    {"open", 0},
	unix.SYS_CREAT:   {"creat", 0},
	unix.SYS_MKDIR:   {"mkdir", 0},
	unix.SYS_RMDIR:   {"rmdir", 0},
	unix.SYS_UNLINK:  {"unlink", 0},
	unix.SYS_RENAME:  {"rename", 1},
	unix.SYS_LINK:    {"link", 1},
	unix.SYS_SYMLINK: {"symlink", 1},
	unix.SYS_CHMOD:   {"chmod", 0},
}
