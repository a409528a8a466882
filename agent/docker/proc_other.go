//go:build !linux

package docker

import "os/exec"

// ownSession does nothing here: agents for other systems are for development only.
func ownSession(*exec.Cmd) {}

// startOf knows nothing here; a worker that outlived its agent is then not waited for.
func startOf(int) uint64 { return 0 }

// nonblocking has no portable meaning.
const nonblocking = 0
