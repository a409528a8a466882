package main

import "syscall"

// newProcessGroup keeps signals for the console's foreground away from a child.
func newProcessGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}
