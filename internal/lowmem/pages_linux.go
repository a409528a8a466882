package lowmem

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// dropProgramPages unmaps the read-only pages of the program's file. They are clean, so
// nothing is lost; the writable part is left alone. Errors leave things as they were.
func dropProgramPages() {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for line := range bytes.Lines(maps) {
		start, end, ok := readOnly(line, program)
		if !ok {
			continue
		}
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED)
	}
}

// readOnly returns the range of a line of /proc/self/maps when it maps the program's
// file without the right to write.
func readOnly(line []byte, program string) (start, end uintptr, ok bool) {
	fields := bytes.Fields(line) // address, permissions, offset, device, inode, path
	if len(fields) < 6 || string(fields[5]) != program || fields[1][1] == 'w' {
		return 0, 0, false
	}
	_, err := fmt.Sscanf(string(fields[0]), "%x-%x", &start, &end)
	return start, end, err == nil
}
