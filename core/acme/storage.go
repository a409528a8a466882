package acme

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/caddyserver/certmagic"

	"github.com/varanhq/varan/internal/atomicfile"
)

// Storage keeps files as certmagic does, but durably. One core holds the directory, so locks
// are in memory: none is left behind by a core that died.
type Storage struct {
	certmagic.FileStorage

	mu   sync.Mutex
	held map[string]chan struct{} // closed when it is let go
}

var (
	_ certmagic.Storage   = (*Storage)(nil)
	_ certmagic.TryLocker = (*Storage)(nil)
)

// NewStorage is that of a directory, which need not exist.
func NewStorage(dir string) *Storage {
	return &Storage{FileStorage: certmagic.FileStorage{Path: dir}, held: map[string]chan struct{}{}}
}

// Store implements certmagic.Storage. Nothing is written any more once ctx has ended.
func (s *Storage) Store(ctx context.Context, key string, value []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	name := s.Filename(key)
	if err := makeDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("keep %s: %w", key, err)
	}
	return atomicfile.Write(name, value, 0o600)
}

// makeDir is os.MkdirAll whose directories are on disk when it returns.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return atomicfile.SyncDir(parent)
}

// Lock implements certmagic.Storage.
func (s *Storage) Lock(ctx context.Context, name string) error {
	for {
		held := s.take(name)
		if held == nil {
			return nil
		}
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// TryLock implements certmagic.TryLocker.
func (s *Storage) TryLock(_ context.Context, name string) (bool, error) {
	return s.take(name) == nil, nil
}

// take takes a lock, or returns what is closed when it is free.
func (s *Storage) take(name string) (held <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held, ok := s.held[name]; ok {
		return held
	}
	s.held[name] = make(chan struct{})
	return nil
}

// Unlock implements certmagic.Storage.
func (s *Storage) Unlock(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	held, ok := s.held[name]
	if !ok {
		return fmt.Errorf("the lock %s is not held", name)
	}
	delete(s.held, name)
	close(held)
	return nil
}
