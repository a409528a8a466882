package git

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"

	"github.com/varanhq/varan/internal/atomicfile"
)

const (
	// cacheBytes is the room for delta bases while files are read; it is emptied when
	// the mirror is at rest.
	cacheBytes = 4 << 20
	// tempPrefix starts the names of what is not complete yet.
	tempPrefix = "tmp_"
	headFile   = "HEAD"
	branchFile = "varan-branch"
	// bareConfig lets Git's own tools look into the store.
	bareConfig = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
)

// objects is where trees and files are read from.
type objects interface {
	// read returns the content of an object, after checking that it has that id.
	read(typ plumbing.ObjectType, id plumbing.Hash) ([]byte, error)
	// size is the size of an object's content.
	size(id plumbing.Hash) (int64, error)
}

// store is a bare repository that holds packs only and knows one commit as its head.
// Its packs stay open: whoever holds a store can read from it even when its folder is
// gone, and the descriptors close themselves when nobody holds it any more.
type store struct {
	dir string
	// broken is set once anything unreadable was met.
	broken atomic.Bool

	mu     sync.Mutex // guards what follows
	packs  []*pack    // newest first
	reader packReader
	serial int64
}

func newStore(dir string, limits Limits) *store {
	return &store{dir: dir, reader: packReader{maxBytes: limits.objectBytes(), bases: cache.NewBufferLRU(cacheBytes)}}
}

// createStore lays out an empty repository in dir, which exists.
func createStore(dir string, limits Limits) (*store, error) {
	for _, sub := range []string{"objects/pack", "objects/info", "refs/heads"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("create store: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(bareConfig), 0o600); err != nil {
		return nil, fmt.Errorf("create store: %w", err)
	}
	return newStore(dir, limits), nil
}

// openStore opens what createStore and ingest made, and returns its head.
func openStore(dir string, limits Limits) (s *store, head plumbing.Hash, branch string, err error) {
	text, err := os.ReadFile(filepath.Join(dir, headFile))
	if err != nil {
		return nil, head, "", fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	id := strings.TrimSpace(string(text))
	if !plumbing.IsHash(id) {
		return nil, head, "", fmt.Errorf("%w: malformed HEAD", ErrCorrupt)
	}
	name, err := os.ReadFile(filepath.Join(dir, branchFile))
	if err != nil || checkBranch(string(name)) != nil {
		return nil, head, "", fmt.Errorf("%w: malformed branch name", ErrCorrupt)
	}
	_ = atomicfile.Clean(dir) // what a process that died left; the next one tries again
	s = newStore(dir, limits)
	entries, err := os.ReadDir(s.packDir())
	if err != nil {
		return nil, head, "", fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			_ = os.Remove(filepath.Join(s.packDir(), e.Name()))
		}
		packName, ok := strings.CutSuffix(e.Name(), ".idx")
		if !ok {
			continue
		}
		p, err := s.openPack(packName, nil)
		if err != nil {
			return nil, head, "", err
		}
		s.packs = append(s.packs, p)
	}
	return s, plumbing.NewHash(id), string(name), nil
}

func (s *store) packDir() string { return filepath.Join(s.dir, "objects", "pack") }

// openPack opens a pack and, when idx is nil, reads its index from disk.
func (s *store) openPack(name string, idx *idxfile.MemoryIndex) (*pack, error) {
	if idx == nil {
		f, err := os.Open(filepath.Join(s.packDir(), name+".idx"))
		if err != nil {
			return nil, fmt.Errorf("%w: open pack index: %w", ErrCorrupt, err)
		}
		idx = idxfile.NewMemoryIndex()
		err = idxfile.NewDecoder(&indexFile{Reader: bufio.NewReaderSize(f, windowBytes), File: f}).Decode(idx)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("%w: read pack index: %w", ErrCorrupt, err)
		}
	}
	file, err := os.Open(filepath.Join(s.packDir(), name+".pack"))
	if err != nil {
		return nil, fmt.Errorf("%w: open pack: %w", ErrCorrupt, err)
	}
	// A pack ends with its own checksum, which is also in its index and name: this
	// notices packs that are cut short or belong to another index.
	var trailer plumbing.Hash
	end, err := file.Seek(-int64(len(trailer)), io.SeekEnd)
	if err == nil {
		_, err = file.ReadAt(trailer[:], end)
	}
	if err != nil || trailer != idx.PackfileChecksum || name != packName(trailer) {
		return nil, errors.Join(fmt.Errorf("%w: pack does not match its index", ErrCorrupt), file.Close())
	}
	s.serial++
	return &pack{name: name, idx: idx, file: file, serial: s.serial}, nil
}

// indexFile is read in large steps. The decoder asks for the file's size before it
// believes the number of objects.
type indexFile struct {
	*bufio.Reader
	*os.File
}

// Read reads from the buffer.
func (f *indexFile) Read(p []byte) (int, error) { return f.Reader.Read(p) }

func packName(checksum plumbing.Hash) string { return "pack-" + checksum.String() }

// ingest stores a pack from the wire. It returns nil for a pack without objects.
func (s *store) ingest(r io.Reader, limits Limits, stop func() error) (p *pack, err error) {
	f, err := os.CreateTemp(s.packDir(), tempPrefix+"pack_*")
	if err != nil {
		return nil, fmt.Errorf("store pack: %w", err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil || p == nil {
			_ = os.Remove(f.Name())
		}
	}()
	n, err := io.Copy(f, io.LimitReader(r, limits.PackBytes+1))
	if err != nil {
		return nil, fmt.Errorf("store pack: %w", err)
	}
	if n > limits.PackBytes {
		return nil, fmt.Errorf("%w: the pack is larger than %d bytes: %w", ErrLimit, limits.PackBytes, errPackLimit)
	}
	index, err := indexPack(f, limits, stop)
	if err != nil || index == nil {
		return nil, err
	}
	name := packName(index.checksum)
	if s.holds(name) {
		return nil, nil
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("store pack: %w", err)
	}
	if err := os.Rename(f.Name(), filepath.Join(s.packDir(), name+".pack")); err != nil {
		return nil, fmt.Errorf("store pack: %w", err)
	}
	if err := s.writeIndex(name, index.idx); err != nil {
		return nil, err
	}
	p, err = s.openPack(name, index.idx)
	if err != nil {
		return nil, err
	}
	p.sizes = index.sizes
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packs = slices.Insert(s.packs, 0, p)
	return p, nil
}

func (s *store) holds(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.packs, func(p *pack) bool { return p.name == name })
}

func (s *store) writeIndex(name string, idx *idxfile.MemoryIndex) error {
	f, err := os.CreateTemp(s.packDir(), tempPrefix+"idx_*")
	if err != nil {
		return fmt.Errorf("store pack index: %w", err)
	}
	_, err = idxfile.NewEncoder(f).Encode(idx)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(s.packDir(), name+".idx"))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("store pack index: %w", err)
	}
	return nil
}

// drop takes a pack out again whose commit was not believed.
func (s *store) drop(p *pack) {
	if p == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packs = slices.DeleteFunc(s.packs, func(q *pack) bool { return q == p })
	s.reader.rest()
	_ = p.file.Close()
	for _, ext := range []string{".idx", ".pack"} {
		_ = os.Remove(filepath.Join(s.packDir(), p.name+ext))
	}
}

// setHead makes a checked commit the head. Everything it needs is on disk by then.
func (s *store) setHead(id plumbing.Hash, branch string) error {
	if err := atomicfile.Write(filepath.Join(s.dir, branchFile), []byte(branch), 0o600); err != nil {
		return fmt.Errorf("move head: %w", err)
	}
	if err := atomicfile.Write(filepath.Join(s.dir, headFile), []byte(id.String()+"\n"), 0o600); err != nil {
		return fmt.Errorf("move head: %w", err)
	}
	return nil
}

// setShallow records where history is cut, for Git's own tools.
func (s *store) setShallow(cut []plumbing.Hash) error {
	var b strings.Builder
	for _, id := range cut {
		b.WriteString(id.String() + "\n")
	}
	if err := os.WriteFile(filepath.Join(s.dir, "shallow"), []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("create store: %w", err)
	}
	return nil
}

// rest gives memory back that only a burst of reading needs.
func (s *store) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reader.rest()
	for _, p := range s.packs {
		p.sizes = nil
	}
}

func (s *store) fetches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.packs)
}

func (s *store) has(id plumbing.Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, _ := s.find(id)
	return p != nil
}

// find returns the pack that holds an object. The caller holds the lock.
func (s *store) find(id plumbing.Hash) (*pack, int64) {
	for _, p := range s.packs {
		if offset, err := p.idx.FindOffset(id); err == nil {
			return p, offset
		}
	}
	return nil, 0
}

func (s *store) read(typ plumbing.ObjectType, id plumbing.Hash) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, offset := s.find(id)
	if p == nil {
		return nil, s.damage(fmt.Errorf("%s %s is missing", typ, id))
	}
	content, err := s.reader.content(p, offset, s.find, false, 0)
	if err != nil {
		return nil, s.damage(fmt.Errorf("%s %s: %w", typ, id, err))
	}
	// The id covers the type as well.
	if got := plumbing.ComputeHash(typ, content); got != id {
		return nil, s.damage(fmt.Errorf("%s %s holds the content of %s", typ, id, got))
	}
	return content, nil
}

func (s *store) size(id plumbing.Hash) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, offset := s.find(id)
	if p == nil {
		return 0, s.damage(fmt.Errorf("object %s is missing", id))
	}
	if size, ok := p.sizes[id]; ok {
		return size, nil
	}
	size, err := s.reader.size(p, offset)
	if err != nil {
		return 0, s.damage(fmt.Errorf("object %s: %w", id, err))
	}
	return size, nil
}

// damage remembers that the store cannot be relied on.
func (s *store) damage(err error) error {
	s.broken.Store(true)
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}
