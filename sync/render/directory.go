package render

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"github.com/varanhq/varan/sync/compose"
)

var _ compose.Tree = (*Directory)(nil)

// errNotRegular refuses links, pipes and devices: opening one could block for ever.
var errNotRegular = errors.New("is not a regular file")

// Directory is a local directory as a tree. It follows no symbolic link, reads regular
// files only, and leaves out .git. What is in a folder is looked at once: most questions are
// about files that are not there.
type Directory struct {
	root *os.Root
	fsys fs.FS

	mu     sync.Mutex
	listed map[string]map[string]fs.FileInfo
}

// DirTree opens a local directory. Close it when done.
func DirTree(dir string) (*Directory, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return &Directory{root: root, fsys: root.FS(), listed: map[string]map[string]fs.FileInfo{}}, nil
}

// Close gives the directory back.
func (d *Directory) Close() error {
	if err := d.root.Close(); err != nil {
		return fmt.Errorf("close directory: %w", err)
	}
	return nil
}

// Stat describes a path without following links, its parents' included.
func (d *Directory) Stat(name string) (fs.FileInfo, error) {
	if !fs.ValidPath(name) {
		return nil, pathError("stat", name, fs.ErrInvalid)
	}
	if hidden(name) {
		return nil, pathError("stat", name, fs.ErrNotExist)
	}
	if name == "." {
		return d.lstat(name)
	}
	parent := path.Dir(name)
	if info, err := d.Stat(parent); err != nil || !info.IsDir() {
		return nil, pathError("stat", name, fs.ErrNotExist)
	}
	list := d.list(parent)
	if list == nil {
		return d.lstat(name) // the folder may be entered and not listed
	}
	if info, ok := list[path.Base(name)]; ok {
		return info, nil
	}
	return nil, pathError("stat", name, fs.ErrNotExist)
}

func (d *Directory) lstat(name string) (fs.FileInfo, error) {
	info, err := d.root.Lstat(filepath.FromSlash(name))
	if err != nil {
		return nil, fmt.Errorf("stat %s: %w", name, err)
	}
	return info, nil
}

// list is what a folder holds by name; nil when it cannot be listed. Links in it are
// described, not followed.
func (d *Directory) list(dir string) map[string]fs.FileInfo {
	d.mu.Lock()
	defer d.mu.Unlock()
	if list, ok := d.listed[dir]; ok {
		return list
	}
	var list map[string]fs.FileInfo
	if f, err := d.root.Open(filepath.FromSlash(dir)); err == nil {
		if infos, err := f.Readdir(-1); err == nil {
			list = make(map[string]fs.FileInfo, len(infos))
			for _, info := range infos {
				list[info.Name()] = info
			}
		}
		_ = f.Close()
	}
	d.listed[dir] = list
	return list
}

// Open opens a regular file or a directory.
func (d *Directory) Open(name string) (fs.File, error) {
	info, err := d.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return nil, pathError("open", name, errNotRegular)
	}
	file, err := d.fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return file, nil
}

// ReadFile reads a regular file of bounded size.
func (d *Directory) ReadFile(name string) ([]byte, error) {
	info, err := d.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, pathError("read", name, errNotRegular)
	case info.Size() > maxTreeFile:
		return nil, pathError("read", name, fmt.Errorf("has more than %d bytes", maxTreeFile))
	}
	data, err := fs.ReadFile(d.fsys, name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// ReadDir lists a directory, sorted by name.
func (d *Directory) ReadDir(name string) ([]fs.DirEntry, error) {
	info, err := d.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, pathError("readdir", name, errors.New("is not a directory"))
	}
	list, err := fs.ReadDir(d.fsys, name)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", name, err)
	}
	return slices.DeleteFunc(list, func(e fs.DirEntry) bool { return e.Name() == gitDir }), nil
}

// ObjectID names content. It reads all of it.
func (d *Directory) ObjectID(name string) (string, error) { return objectID(d, name) }
