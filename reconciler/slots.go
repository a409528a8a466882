package reconciler

import (
	"context"
	"sync"
)

// slots limits how many hold the same key at a time.
type slots struct {
	size int

	mu    sync.Mutex
	byKey map[string]chan struct{}
}

func newSlots(size int) *slots {
	return &slots{size: size, byKey: map[string]chan struct{}{}}
}

// acquire waits for a slot of key. The caller calls release once.
func (s *slots) acquire(ctx context.Context, key string) (release func(), err error) {
	s.mu.Lock()
	ch, ok := s.byKey[key]
	if !ok {
		ch = make(chan struct{}, s.size)
		s.byKey[key] = ch
	}
	s.mu.Unlock()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case ch <- struct{}{}:
		return func() { <-ch }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
