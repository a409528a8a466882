package auth

import (
	"container/list"
	"context"
	"sync"
	"time"
)

const (
	// maxAge is how long what a store said of a key is believed. It bounds what a revocation
	// that nobody told of can do.
	maxAge = time.Second
	// maxCached bounds the keys that are remembered; the others are looked up.
	maxCached = 1024
)

// cache remembers what the store says of the keys used last, those that do not exist
// included. It never changes a verdict: it only saves asking again within a second.
type cache struct {
	keys  Keys
	clock func() time.Time

	mu      sync.Mutex
	entries map[string]*list.Element
	order   *list.List // of *cached, the one used last in front
	// changes counts what was forgotten, so that an answer on its way is not kept.
	changes uint64
}

type cached struct {
	id, name string
	hash     [32]byte
	err      error
	at       time.Time
}

func newCache(keys Keys, clock func() time.Time) *cache {
	return &cache{keys: keys, clock: clock, entries: map[string]*list.Element{}, order: list.New()}
}

// hash is Keys.KeyHash.
func (c *cache) hash(ctx context.Context, id string) (name string, hash [32]byte, err error) {
	now := c.clock()
	c.mu.Lock()
	if element := c.entries[id]; element != nil {
		e := element.Value.(*cached) //nolint:forcetypeassert // the list holds nothing else
		if age := now.Sub(e.at); age >= 0 && age < maxAge {
			c.order.MoveToFront(element)
			c.mu.Unlock()
			return e.name, e.hash, e.err
		}
	}
	changes := c.changes
	c.mu.Unlock()
	name, hash, err = c.keys.KeyHash(ctx, id)
	if ctx.Err() != nil {
		return name, hash, err // says nothing about the key
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changes == changes {
		c.keep(&cached{id: id, name: name, hash: hash, err: err, at: now})
	}
	return name, hash, err
}

// keep remembers an answer in place of the one that was not used for longest.
func (c *cache) keep(e *cached) {
	if element := c.entries[e.id]; element != nil {
		element.Value = e
		c.order.MoveToFront(element)
		return
	}
	c.entries[e.id] = c.order.PushFront(e)
	if c.order.Len() > maxCached {
		last := c.order.Back()
		c.order.Remove(last)
		delete(c.entries, last.Value.(*cached).id) //nolint:forcetypeassert // the list holds nothing else
	}
}

// forget drops what is known of one key, or of all when id is empty.
func (c *cache) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	if id == "" {
		clear(c.entries)
		c.order.Init()
		return
	}
	if element := c.entries[id]; element != nil {
		c.order.Remove(element)
		delete(c.entries, id)
	}
}
