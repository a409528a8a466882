package keyfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/wire/noise"
)

// Set is the key of one side over its changes, in up to three files: NAME is the key in use,
// NAME.next will take its place, NAME.prev had it before. Every change is one durable step; a
// crash after any of them leaves what Load understands. One process at a time may use a set.
type Set struct {
	path string
	on   atomicfile.On
}

// NewSet is the set whose key in use is at path. A nil file system is the system's own.
func NewSet(path string, files atomicfile.FS) *Set {
	if files == nil {
		files = atomicfile.OS{}
	}
	return &Set{path: path, on: atomicfile.On{FS: files}}
}

// Keys are the keys of a Set; one without a file is zero.
type Keys struct{ Current, Next, Prev noise.PrivateKey }

func (s *Set) next() string { return s.path + ".next" }

func (s *Set) prev() string { return s.path + ".prev" }

// Load reads the keys that there are. Before that it finishes an Advance or Restore that was
// cut off, and removes what a crash left of a file that was being written: no private key is
// anywhere but in its file. A disk on which that fails is no error as long as there is a key:
// the change is then finished by the next Advance.
func (s *Set) Load() (Keys, error) {
	for _, path := range []string{s.path, s.next(), s.prev()} {
		left, _ := filepath.Glob(atomicfile.TempName(path)) // the pattern is well formed
		for _, name := range left {
			_ = s.on.Remove(name) // the next start tries again
		}
	}
	keys, err := s.read()
	if err != nil || !keys.Current.IsZero() {
		return keys, err
	}
	switch {
	case !keys.Next.IsZero():
		_ = s.on.Rename(s.next(), s.path)
	case !keys.Prev.IsZero():
		_ = s.on.Rename(s.prev(), s.path)
	}
	return s.read()
}

func (s *Set) read() (keys Keys, err error) {
	for path, key := range map[string]*noise.PrivateKey{s.path: &keys.Current, s.next(): &keys.Next, s.prev(): &keys.Prev} {
		*key, err = Load(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Keys{}, err
		}
	}
	return keys, nil
}

// Propose returns the next key, which is on disk then. One that is there is kept: whoever was
// told of it may have accepted it.
func (s *Set) Propose() (noise.PrivateKey, error) {
	key, err := Load(s.next())
	if err == nil {
		// The file may be of an attempt that failed before its entry was durable.
		if err := s.on.SyncDir(filepath.Dir(s.path)); err != nil {
			return noise.PrivateKey{}, fmt.Errorf("sync the next key: %w", err)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return noise.PrivateKey{}, err
	}
	if key, err = noise.GenerateKey(); err != nil {
		return noise.PrivateKey{}, err
	}
	text, err := key.PEM()
	if err != nil {
		return noise.PrivateKey{}, err
	}
	if err := s.on.Create(s.next(), text, 0o600); err != nil {
		// Nobody was told of it. If it cannot be removed either, it is proposed another time.
		_ = s.on.Remove(s.next())
		return noise.PrivateKey{}, fmt.Errorf("store the next key: %w", err)
	}
	return key, nil
}

// DropNext gives the next key up, if it is that one.
func (s *Set) DropNext(key noise.PublicKey) error {
	have, err := Load(s.next())
	if errors.Is(err, fs.ErrNotExist) || err == nil && have.Public() != key {
		return nil
	}
	if err := s.on.Remove(s.next()); err != nil {
		return fmt.Errorf("remove the next key: %w", err)
	}
	return nil
}

// IsZero reports whether there is no key at all.
func (k Keys) IsZero() bool { return k.Current.IsZero() && k.Next.IsZero() && k.Prev.IsZero() }

// Advance puts the next key in the place of the current one, which is kept as the previous
// one. It does nothing when there is no next key.
func (s *Set) Advance() error {
	if _, err := os.Lstat(s.next()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// Between the two no file has the plain name; Load finishes what began.
	if err := s.on.Rename(s.path, s.prev()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("put the current key aside: %w", err)
	}
	if err := s.on.Rename(s.next(), s.path); err != nil {
		return fmt.Errorf("put the next key in place: %w", err)
	}
	return nil
}

// Restore puts the previous key back in the place of the current one.
func (s *Set) Restore() error {
	if err := s.on.Rename(s.prev(), s.path); err != nil {
		return fmt.Errorf("put the previous key back: %w", err)
	}
	return nil
}

// DropPrev removes the previous key, which nobody accepts any more.
func (s *Set) DropPrev() error {
	if err := s.on.Remove(s.prev()); err != nil {
		return fmt.Errorf("remove the previous key: %w", err)
	}
	return nil
}
