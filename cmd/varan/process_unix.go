//go:build unix

package main

import "syscall"

// newProcessGroup keeps signals for the terminal's foreground away from a child.
func newProcessGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
