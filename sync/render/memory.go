package render

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/sync/compose"
)

var _ compose.Tree = (*Memory)(nil)

// Memory is uploaded content as a tree. It never changes.
type Memory struct{ nodes map[string]*node }

// node is a file or directory of a Memory. It describes itself.
type node struct {
	name string
	mode fs.FileMode
	data []byte
	// children of a directory, sorted by name.
	children []*node
}

// MemTree makes a tree of files by path. modes says which are executable; a path without
// one is a plain file.
func MemTree(files map[string][]byte, modes map[string]fs.FileMode) (*Memory, error) {
	if len(files) > maxTreeEntries {
		return nil, fmt.Errorf("%d files; at most %d are taken", len(files), maxTreeEntries)
	}
	m := &Memory{nodes: map[string]*node{".": {name: ".", mode: fs.ModeDir | 0o755}}}
	for name, data := range files {
		switch {
		case !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "\\\x00"):
			return nil, fmt.Errorf("%q is not a path inside the directory", name)
		case len(data) > maxTreeFile:
			return nil, fmt.Errorf("%s has more than %d bytes", name, maxTreeFile)
		case hidden(name):
			continue
		}
		mode := fs.FileMode(0o644)
		if modes[name]&0o111 != 0 {
			mode = 0o755
		}
		if err := m.insert(name, &node{name: path.Base(name), mode: mode, data: data}); err != nil {
			return nil, err
		}
	}
	for _, n := range m.nodes {
		slices.SortFunc(n.children, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	}
	return m, nil
}

// insert adds a node and the directories above it.
func (m *Memory) insert(name string, n *node) error {
	if _, taken := m.nodes[name]; taken {
		return fmt.Errorf("%s is a file and a directory", name)
	}
	m.nodes[name] = n
	parent := path.Dir(name)
	dir, ok := m.nodes[parent]
	if !ok {
		dir = &node{name: path.Base(parent), mode: fs.ModeDir | 0o755}
		if err := m.insert(parent, dir); err != nil {
			return err
		}
	}
	if !dir.mode.IsDir() {
		return fmt.Errorf("%s is a file and a directory", parent)
	}
	dir.children = append(dir.children, n)
	return nil
}

func (m *Memory) find(op, name string) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, pathError(op, name, fs.ErrInvalid)
	}
	n, ok := m.nodes[name]
	if !ok {
		return nil, pathError(op, name, fs.ErrNotExist)
	}
	return n, nil
}

// Stat describes a path.
func (m *Memory) Stat(name string) (fs.FileInfo, error) {
	n, err := m.find("stat", name)
	if err != nil {
		return nil, err
	}
	return info{n}, nil
}

// Open opens a file or directory.
func (m *Memory) Open(name string) (fs.File, error) {
	n, err := m.find("open", name)
	if err != nil {
		return nil, err
	}
	return &openNode{node: n, Reader: bytes.NewReader(n.data)}, nil
}

// ReadFile returns a copy of the content of a file.
func (m *Memory) ReadFile(name string) ([]byte, error) {
	n, err := m.find("read", name)
	if err != nil {
		return nil, err
	}
	if n.mode.IsDir() {
		return nil, pathError("read", name, errNotRegular)
	}
	return bytes.Clone(n.data), nil
}

// ReadDir lists a directory, sorted by name.
func (m *Memory) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := m.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if !n.mode.IsDir() {
		return nil, pathError("readdir", name, errors.New("is not a directory"))
	}
	return n.entries(), nil
}

// ObjectID names content.
func (m *Memory) ObjectID(name string) (string, error) { return objectID(m, name) }

func (n *node) entries() []fs.DirEntry {
	list := make([]fs.DirEntry, len(n.children))
	for i, child := range n.children {
		list[i] = fs.FileInfoToDirEntry(info{child})
	}
	return list
}

// info describes a node.
type info struct{ *node }

func (i info) Name() string      { return i.name }
func (i info) Size() int64       { return int64(len(i.data)) }
func (i info) Mode() fs.FileMode { return i.mode }
func (i info) IsDir() bool       { return i.mode.IsDir() }
func (info) ModTime() time.Time  { return time.Time{} }
func (info) Sys() any            { return nil }

// openNode is an open file or directory.
type openNode struct {
	*bytes.Reader
	node *node
	read int
}

// Stat implements fs.File.
func (o *openNode) Stat() (fs.FileInfo, error) { return info{o.node}, nil }

// Close implements fs.File.
func (*openNode) Close() error { return nil }

// ReadDir implements fs.ReadDirFile.
func (o *openNode) ReadDir(n int) ([]fs.DirEntry, error) {
	rest := o.node.entries()[o.read:]
	if n > 0 {
		if len(rest) == 0 {
			return nil, io.EOF
		}
		rest = rest[:min(n, len(rest))]
	}
	o.read += len(rest)
	return rest, nil
}
