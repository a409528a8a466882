package hub

import (
	"net/netip"
	"sync"
	"time"

	"github.com/varanhq/varan/internal/network"
)

// budget bounds the handshakes under way: in all, and from one network, so that one
// network cannot keep the others out.
type budget struct {
	limits func() (total, perNet int)

	mu   sync.Mutex
	open int
	nets map[netip.Prefix]int
}

func newBudget(limits func() (total, perNet int)) *budget {
	return &budget{limits: limits, nets: make(map[netip.Prefix]int)}
}

// enter takes a place, if there is one.
func (b *budget) enter(addr netip.Addr) bool {
	net := network.Customer(addr)
	total, perNet := b.limits()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open >= total || b.nets[net] >= perNet {
		return false
	}
	b.open++
	b.nets[net]++
	return true
}

// leave gives the place back.
func (b *budget) leave(addr netip.Addr) {
	net := network.Customer(addr)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open--
	b.nets[net]--
	if b.nets[net] == 0 {
		delete(b.nets, net)
	}
}

// Failed onboarding per minute, from one host and in all, before nobody is heard.
const (
	maxFailuresPerHost = 10
	maxFailures        = 100
)

// failures counts onboarding that failed within the running minute.
type failures struct {
	mu     sync.Mutex
	minute time.Time
	total  int
	byHost map[netip.Prefix]int
}

func newFailures() *failures { return &failures{byHost: make(map[netip.Prefix]int)} }

// tooMany reports whether an address has to wait for the next minute.
func (f *failures) tooMany(addr netip.Addr, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turn(now)
	return f.total >= maxFailures || f.byHost[network.Host(addr)] >= maxFailuresPerHost
}

// add counts one.
func (f *failures) add(addr netip.Addr, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turn(now)
	f.total++
	f.byHost[network.Host(addr)]++
}

func (f *failures) turn(now time.Time) {
	if minute := now.Truncate(time.Minute); !minute.Equal(f.minute) {
		f.minute, f.total = minute, 0
		clear(f.byHost)
	}
}
