// Package memdir makes private directories in memory, for plain text that must not reach a
// disk.
package memdir

import (
	"errors"
	"fmt"
	"os"
)

// ErrNone says that the system has no place in memory.
var ErrNone = errors.New("this system has no directory in memory")

// New makes a directory that only its owner can enter. Its caller removes it.
func New(pattern string) (string, error) {
	for _, place := range []string{"/dev/shm", os.Getenv("XDG_RUNTIME_DIR")} {
		if place == "" || !inMemory(place) {
			continue
		}
		if dir, err := os.MkdirTemp(place, pattern); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("make a private directory: %w", ErrNone)
}
