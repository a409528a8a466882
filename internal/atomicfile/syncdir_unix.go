//go:build unix

package atomicfile

import (
	"errors"
	"os"
)

// SyncDir makes the entries of a directory durable: a rename or a removal in it
// survives a power cut once SyncDir has returned.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
