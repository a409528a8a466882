// Package atomicfile writes files so that a crash at any moment leaves either the old
// content or the new one, never a part of it. It knows nothing of what it writes.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Write replaces the file at path. When it returns nil the content is on disk, the
// directory entry included.
func Write(path string, data []byte, perm fs.FileMode) error {
	return write(path, data, perm, os.Rename)
}

// Create is Write for a file that must not exist yet. Of several callers exactly one
// succeeds; the others get an error that is fs.ErrExist, and see that one's content.
func Create(path string, data []byte, perm fs.FileMode) error {
	return write(path, data, perm, func(temp, path string) error {
		if err := os.Link(temp, path); err != nil {
			return err
		}
		return os.Remove(temp)
	})
}

// write puts data beside path and lets place move it there.
func write(path string, data []byte, perm fs.FileMode, place func(temp, path string) error) (err error) {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("create temporary file: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp.Name())
		}
	}()
	if err := fill(temp, data, perm); err != nil {
		return fmt.Errorf("write %s: %w", temp.Name(), err)
	}
	if err := place(temp.Name(), path); err != nil {
		return fmt.Errorf("put %s in place: %w", path, err)
	}
	if err := SyncDir(dir); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// fill writes, syncs and closes f; it closes f in any case.
func fill(f *os.File, data []byte, perm fs.FileMode) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(perm)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
