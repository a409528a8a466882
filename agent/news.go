package agent

import (
	"slices"
	"sync"
)

// news collects which stacks changed since core was told of them. Events only mark; the
// uplink reads what is really there, so a lost or repeated event does no harm.
type news struct {
	// wake has capacity 1: the uplink takes everything after each receive.
	wake chan struct{}

	mu    sync.Mutex
	all   bool
	dirty map[string]struct{}
}

func newNews() *news {
	return &news{wake: make(chan struct{}, 1), dirty: map[string]struct{}{}}
}

// mark notes that a stack changed; "" stands for all of them.
func (n *news) mark(stack string) {
	n.mu.Lock()
	if stack == "" {
		n.all = true
	} else {
		n.dirty[stack] = struct{}{}
	}
	n.mu.Unlock()
	poke(n.wake)
}

// owe notes that everything has to be read again, without waking anybody for it.
func (n *news) owe() {
	n.mu.Lock()
	n.all = true
	n.mu.Unlock()
}

// take empties the list, sorted, but leaves the stacks that later says to leave; left
// says whether there are any. When everything is to be read it leaves nothing.
func (n *news) take(later func(stack string) bool) (all bool, stacks []string, left bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all {
		n.all = false
		clear(n.dirty)
		return true, nil, false
	}
	for stack := range n.dirty {
		if later(stack) {
			left = true
			continue
		}
		stacks = append(stacks, stack)
		delete(n.dirty, stack)
	}
	slices.Sort(stacks)
	return false, stacks, left
}
