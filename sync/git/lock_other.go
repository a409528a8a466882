//go:build !unix

package git

import (
	"fmt"
	"os"
)

// lockFile only opens the file: a core runs on Unix, and the command line elsewhere has
// no mirrors to share.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	return f, nil
}
