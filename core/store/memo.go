package store

import (
	"context"
	"sync"

	"github.com/varanhq/varan/core/api"
)

// memo is what queries said, by what they asked for, as long as nothing at all is written. An
// idle core asks for the same again and again.
type memo[K comparable, V any] struct {
	mu sync.Mutex
	// at is the store's count of writes before the first of these was asked for.
	at     uint64
	values map[K]V
}

// get returns what read says, from memory when nothing was written since it was asked. What
// the value points to is shared with others who ask.
func (m *memo[K, V]) get(ctx context.Context, s *Store, key K, read func(context.Context) (V, error)) (V, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	// A write is counted once it is committed: what is counted now is in what is read now.
	if at := s.writes.Load(); m.values == nil || m.at != at {
		m.at, m.values = at, map[K]V{}
	}
	if value, ok := m.values[key]; ok {
		return value, nil
	}
	value, err := read(ctx)
	if err == nil {
		m.values[key] = value
	}
	return value, err
}

// table is the key of a query that asks for all there is.
type table struct{}

// states are the last ones of all places. Only Planned writes them, so that it need not read
// through what a sync was in all its life to say what is new.
type states struct {
	mu sync.Mutex
	// last is nil until it is read, and again when it may not be what was committed.
	last map[stackPlace]api.PastStack
}
