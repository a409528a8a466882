// Package lowmem keeps the resident memory of a process that is mostly idle small. Much
// of a large program is read once, while it starts, and garbage of a burst of work stays
// until someone asks for the memory back.
package lowmem

import (
	"context"
	"runtime/debug"
	"time"
)

// Keep trims the process soon after its start and then every interval, until ctx ends.
func Keep(ctx context.Context, interval time.Duration) {
	timer := time.NewTimer(min(interval, time.Second))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			Trim()
			timer.Reset(interval)
		}
	}
}

// Trim gives memory back to the system: garbage, and the pages of the program's own
// file that it read once. What is needed again comes back from the page cache.
func Trim() {
	debug.FreeOSMemory()
	dropProgramPages()
}
