package git

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/varanhq/varan/fleet"
)

// Tree is one commit as a read-only file system. It was checked as a whole before it was
// handed out: listings come from memory, and only the content of files is read from the
// store. It may be used by many goroutines and stays readable whatever its mirror does
// later.
//
// Symbolic links and submodules are listed as what they are; opening one, or a path
// through one, gives ErrNotRegular.
type Tree struct {
	objects objects
	root    *dir
	commit  fleet.Commit
}

var (
	_ fs.ReadDirFS  = (*Tree)(nil)
	_ fs.ReadFileFS = (*Tree)(nil)
	_ fs.StatFS     = (*Tree)(nil)
)

// Commit says what the tree was read from. Its texts are fit for printing.
func (t *Tree) Commit() fleet.Commit { return t.commit }

// ObjectID is the id of a file's content or of a folder with all below it: it changes if
// and only if they do. It makes a good cache key. The executable bit of a file is not
// part of its own id, but of its folder's.
func (t *Tree) ObjectID(name string) (string, error) {
	e, err := t.lookup("objectid", name)
	if err != nil {
		return "", err
	}
	return e.id.String(), nil
}

// Open opens a file or folder. A file's content is read at once.
func (t *Tree) Open(name string) (fs.File, error) {
	e, err := t.lookup("open", name)
	if err != nil {
		return nil, err
	}
	if e.dir != nil {
		return &openDir{info: fileInfo{e}, rest: e.dir.entries}, nil
	}
	content, err := t.content("open", name, e)
	if err != nil {
		return nil, err
	}
	return &openFile{info: fileInfo{e}, Reader: *bytes.NewReader(content)}, nil
}

// ReadFile returns the content of a file. The caller may change it.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	e, err := t.lookup("read", name)
	if err != nil {
		return nil, err
	}
	if e.dir != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("is a directory")}
	}
	return t.content("read", name, e)
}

// ReadDir lists a folder, sorted by name.
func (t *Tree) ReadDir(name string) ([]fs.DirEntry, error) {
	e, err := t.lookup("readdir", name)
	if err != nil {
		return nil, err
	}
	if e.dir == nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}
	return dirEntries(e.dir.entries), nil
}

// Stat describes a path without following links.
func (t *Tree) Stat(name string) (fs.FileInfo, error) {
	e, err := t.lookup("stat", name)
	if err != nil {
		return nil, err
	}
	return fileInfo{e}, nil
}

func (t *Tree) lookup(op, name string) (*entry, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	e := &entry{name: ".", id: t.root.id, mode: fs.ModeDir | 0o755, dir: t.root}
	if name == "." {
		return e, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if e.dir == nil {
			err := fs.ErrNotExist
			if !e.mode.IsRegular() {
				err = ErrNotRegular
			}
			return nil, &fs.PathError{Op: op, Path: name, Err: err}
		}
		if e = e.dir.find(part); e == nil {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
	}
	return e, nil
}

func (t *Tree) content(op, name string, e *entry) ([]byte, error) {
	if !e.mode.IsRegular() {
		return nil, &fs.PathError{Op: op, Path: name, Err: ErrNotRegular}
	}
	content, err := t.objects.read(plumbing.BlobObject, e.id)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return content, nil
}

// readTree checks a commit and everything below it, and makes it a Tree. Folders that
// old has too are not walked again.
func readTree(o objects, id plumbing.Hash, branch string, old *Tree, limits Limits, stop func() error) (*Tree, error) {
	size, err := o.size(id)
	if err != nil {
		return nil, err
	}
	if size > limits.objectBytes() {
		return nil, fmt.Errorf("%w: commit %s has %d bytes", ErrLimit, id, size)
	}
	data, err := o.read(plumbing.CommitObject, id)
	if err != nil {
		return nil, err
	}
	raw := &plumbing.MemoryObject{}
	raw.SetType(plumbing.CommitObject)
	if _, err := raw.Write(data); err != nil {
		return nil, fmt.Errorf("read commit %s: %w", id, err)
	}
	var c object.Commit
	if err := c.Decode(raw); err != nil {
		return nil, fmt.Errorf("%w: commit %s: %w", ErrTree, id, err)
	}
	var known *dir
	if old != nil {
		known = old.root
	}
	root, err := newChecker(o, limits, stop).root(c.TreeHash, known)
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", id, err)
	}
	subject, _, _ := strings.Cut(strings.TrimLeft(c.Message, "\n"), "\n")
	return &Tree{objects: o, root: root, commit: fleet.Commit{
		ID:      id.String(),
		Branch:  branch,
		Subject: clip(printable(subject), 200),
		Author:  clip(printable(c.Author.Name)+" <"+printable(c.Author.Email)+">", 200),
		Time:    c.Committer.When,
	}}, nil
}

// fileInfo describes an entry.
type fileInfo struct{ e *entry }

func (i fileInfo) Name() string               { return i.e.name }
func (i fileInfo) Size() int64                { return i.e.size }
func (i fileInfo) Mode() fs.FileMode          { return i.e.mode }
func (i fileInfo) Type() fs.FileMode          { return i.e.mode.Type() }
func (i fileInfo) IsDir() bool                { return i.e.mode.IsDir() }
func (i fileInfo) Info() (fs.FileInfo, error) { return i, nil }
func (fileInfo) Sys() any                     { return nil }
func (i fileInfo) String() string             { return fs.FormatFileInfo(i) }

// ModTime is zero: a tree does not say when a file was changed.
func (fileInfo) ModTime() time.Time { return time.Time{} }

func dirEntries(entries []entry) []fs.DirEntry {
	list := make([]fs.DirEntry, len(entries))
	for i := range entries {
		list[i] = fileInfo{&entries[i]}
	}
	return list
}

// openFile is an open file.
type openFile struct {
	bytes.Reader
	info fileInfo
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (*openFile) Close() error                 { return nil }

// openDir is an open folder.
type openDir struct {
	info fileInfo
	rest []entry
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (*openDir) Close() error                 { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.Name(), Err: errors.New("is a directory")}
}

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(d.rest)
	} else if len(d.rest) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.rest))
	list := dirEntries(d.rest[:n])
	d.rest = d.rest[n:]
	return list, nil
}
