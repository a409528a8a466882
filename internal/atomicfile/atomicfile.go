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

// FS are the steps that durable changes of files are made of. OS is the one to use; a test
// puts another around it to let a step fail, or the process die after it.
type FS interface {
	// Temp makes a new file beside path, whose content is on disk when it returns. The name
	// is TempName of path. After an error the file is gone.
	Temp(path string, data []byte, perm fs.FileMode) (name string, err error)
	Rename(from, to string) error
	Link(from, to string) error
	Remove(path string) error
	// SyncDir makes the entries of a directory durable.
	SyncDir(dir string) error
}

// Write replaces the file at path. When it returns nil the content is on disk, the
// directory entry included.
func Write(path string, data []byte, perm fs.FileMode) error { return On{OS{}}.Write(path, data, perm) }

// Create is Write for a file that must not exist yet. Of several callers exactly one
// succeeds; the others get an error that is fs.ErrExist, and see that one's content.
func Create(path string, data []byte, perm fs.FileMode) error {
	return On{OS{}}.Create(path, data, perm)
}

// TempName is a pattern for the names of the files that a crash may leave beside path.
func TempName(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
}

// On makes durable changes of files on a file system.
type On struct{ FS }

// Write is the function Write.
func (o On) Write(path string, data []byte, perm fs.FileMode) error {
	return o.write(path, data, perm, o.FS.Rename)
}

// Create is the function Create.
func (o On) Create(path string, data []byte, perm fs.FileMode) error {
	return o.write(path, data, perm, func(temp, path string) error {
		if err := o.Link(temp, path); err != nil {
			return err
		}
		return o.FS.Remove(temp)
	})
}

// Rename moves a file within its directory, over what is there, and makes that durable.
func (o On) Rename(from, to string) error {
	if err := o.FS.Rename(from, to); err != nil {
		return err
	}
	return o.SyncDir(filepath.Dir(to))
}

// Remove removes a file that need not be there, and makes that durable.
func (o On) Remove(path string) error {
	err := o.FS.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return o.SyncDir(filepath.Dir(path))
}

// write puts data beside path and lets place move it there.
func (o On) write(path string, data []byte, perm fs.FileMode, place func(temp, path string) error) (err error) {
	dir := filepath.Dir(path)
	temp, err := o.Temp(path, data, perm)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = o.FS.Remove(temp)
		}
	}()
	if err := place(temp, path); err != nil {
		return fmt.Errorf("put %s in place: %w", path, err)
	}
	if err := o.SyncDir(dir); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// OS is the operating system's file system.
type OS struct{}

var _ FS = OS{}

// Temp implements FS.
func (OS) Temp(path string, data []byte, perm fs.FileMode) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(TempName(path)))
	if err != nil {
		return "", fmt.Errorf("create temporary file: %w", err)
	}
	if err := fill(f, data, perm); err != nil {
		_ = os.Remove(f.Name())
		return "", fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return f.Name(), nil
}

// Rename implements FS.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Link implements FS.
func (OS) Link(from, to string) error { return os.Link(from, to) }

// Remove implements FS.
func (OS) Remove(path string) error { return os.Remove(path) }

// SyncDir implements FS.
func (OS) SyncDir(dir string) error { return SyncDir(dir) }

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
