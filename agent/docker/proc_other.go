//go:build !linux

package docker

import (
	"errors"
	"os"
	"os/exec"
)

// ownSession does nothing here: agents for other systems are for development only.
func ownSession(*exec.Cmd) {}

// startOf knows nothing here; a worker that outlived its agent is then not waited for.
func startOf(int) uint64 { return 0 }

// nonblocking has no portable meaning.
const nonblocking = 0

// ownedByUs knows no owners here.
func ownedByUs(os.FileInfo) bool { return true }

// inMemory finds no file system in memory here.
func inMemory(string) bool { return false }

func writable(string) bool { return true }

// scriptFile is not there: agents that run commands are Linux hosts.
func scriptFile([]byte) (*os.File, error) {
	return nil, errors.New("commands run on Linux hosts only")
}
