// Package backoff spaces out retries: exponentially, with full jitter, so that a fleet
// that lost its core at one instant does not come back at one instant.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff computes how long to wait before each retry: a random time below a ceiling
// that starts at Base and doubles up to Max. It is not safe for concurrent use.
type Backoff struct {
	// Base is the first ceiling. Optional, default 500 ms.
	Base time.Duration
	// Max is the highest ceiling. Optional, default 30 s.
	Max time.Duration
	// Floor is added to every wait. Optional, default none.
	Floor time.Duration
	// Rand returns a number in [0, 1). Optional, default math/rand.
	Rand func() float64

	ceiling time.Duration
}

// Next returns the time to wait before the next try.
func (b *Backoff) Next() time.Duration {
	base, limit := orDefault(b.Base, 500*time.Millisecond), orDefault(b.Max, 30*time.Second)
	switch {
	case b.ceiling == 0:
		b.ceiling = min(base, limit)
	case b.ceiling > limit/2: // doubling would pass the limit, or overflow
		b.ceiling = limit
	default:
		b.ceiling *= 2
	}
	random := b.Rand
	if random == nil {
		random = rand.Float64
	}
	return b.Floor + time.Duration(random()*float64(b.ceiling))
}

// Reset starts over; call it after a success.
func (b *Backoff) Reset() { b.ceiling = 0 }

// Wait waits for Next, or returns the context's error.
func (b *Backoff) Wait(ctx context.Context) error { return Pause(ctx, b.Next()) }

// Pause waits for d, or returns the context's error.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d <= 0 {
		return fallback
	}
	return d
}
