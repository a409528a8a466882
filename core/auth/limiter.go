package auth

import (
	"sync"
	"time"
)

// maxTracked bounds a limiter's memory. Beyond it only the total counts.
const maxTracked = 10_000

// Limiter counts events per key in fixed windows of time.
type Limiter struct {
	limits func() (perKey, total int)
	window time.Duration

	mu     sync.Mutex
	start  time.Time
	counts map[string]int
	sum    int
}

// NewLimiter allows as many events of one key, and of all together, in every window as limits
// says at that moment: what was counted stays when they change.
func NewLimiter(limits func() (perKey, total int), window time.Duration) *Limiter {
	return &Limiter{limits: limits, window: window, counts: map[string]int{}}
}

// Allow counts one event and reports whether it is within the limits. What is refused does
// not count: whoever goes on hammering is let in again when the window ends.
func (l *Limiter) Allow(key string, now time.Time) bool {
	perKey, total := l.limits()
	l.mu.Lock()
	defer l.mu.Unlock()
	if age := now.Sub(l.start); age >= l.window || age < 0 {
		l.start, l.sum = now, 0
		clear(l.counts)
	}
	n, tracked := l.counts[key]
	if l.sum >= total || n >= perKey {
		return false
	}
	l.sum++
	if tracked || len(l.counts) < maxTracked {
		l.counts[key] = n + 1
	}
	return true
}
