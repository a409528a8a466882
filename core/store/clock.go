package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"
)

const (
	// jumpFrom is from where on a step forward is none that a clock is put right by.
	jumpFrom = time.Hour
	// jumpFor is how long a jump counts as one. By then people know of it, and the agents
	// that were away are back.
	jumpFor = 24 * time.Hour
)

// Clock is what core makes of its host's clock.
type Clock struct {
	// Wall is what that shows. Now is what expiry is judged by: it never goes back, so that
	// nothing that expired is good again.
	Wall, Now time.Time
	// Jump is how far the clock went forward at once lately, by more than an hour; zero
	// otherwise.
	Jump time.Duration
}

// Behind is how far the clock was set back, as far as it has not caught up.
func (c Clock) Behind() time.Duration { return c.Now.Sub(c.Wall) }

// ratchet is a clock that never goes back: when its host's does, it goes on from where it was.
// It is safe for concurrent use.
type ratchet struct {
	wall func() time.Time
	// elapsed is a clock that nobody sets; nil takes what the other shows for granted.
	elapsed func() time.Duration

	mu sync.Mutex
	// high is what it showed last, shown what its host's clock did, at the elapsed time.
	high, shown time.Time
	at          time.Duration
	jump        time.Duration
	jumped      time.Duration
}

func newRatchet(wall func() time.Time, elapsed func() time.Duration) *ratchet {
	if wall == nil {
		start := time.Now()
		wall, elapsed = time.Now, func() time.Duration { return time.Since(start) }
	}
	r := &ratchet{wall: wall, elapsed: elapsed, shown: wall().Round(0)}
	r.high = r.shown
	if elapsed != nil {
		r.at = elapsed()
	}
	return r
}

// lift has it show at least that.
func (r *ratchet) lift(to time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.high.Before(to) {
		r.high = to
	}
}

func (r *ratchet) read() Clock {
	r.mu.Lock()
	defer r.mu.Unlock()
	wall := r.wall().Round(0) // what is left then is what the host shows
	if r.elapsed != nil {
		at := r.elapsed()
		passed := at - r.at
		r.high = r.high.Add(passed)
		// A step that puts right a clock that was behind is none.
		step, ahead := wall.Sub(r.shown)-passed, wall.Sub(r.high)
		switch {
		case min(step, ahead) > jumpFrom:
			r.jump, r.jumped = r.jump+min(step, ahead), at
		case step < -jumpFrom:
			r.jump = max(r.jump+step, 0)
		}
		if r.jump <= jumpFrom || at-r.jumped >= jumpFor {
			r.jump = 0
		}
		r.at = at
	}
	r.shown = wall
	if r.high.Before(wall) {
		r.high = wall
	}
	return Clock{Wall: wall, Now: r.high, Jump: r.jump}
}

// Clock is what the store makes of the clock now.
func (s *Store) Clock() Clock { return s.ratchet.read() }

// KeepClock remembers the time over restarts: a clock that is set back while core is not
// running makes nothing good again that had expired.
func (s *Store) KeepClock(ctx context.Context) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		_, err := s.now(ctx, tx)
		return err
	})
}

// now is the time that tokens are judged by, remembered from now on.
func (s *Store) now(ctx context.Context, tx *sql.Tx) (time.Time, error) {
	now := stamp(s.Clock().Now)
	err := tx.QueryRowContext(ctx, `INSERT INTO meta (name, value) VALUES ('clock', $1)
		ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value) RETURNING value`, now).Scan(&now)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the clock's high-water mark: %w", err)
	}
	return timeOf(now), nil
}

// keyTime is the time that keys of agents are judged by at that time: a jump of the clock does
// not lock anybody out. Tokens it does.
func (s *Store) keyTime(now time.Time) time.Time { return now.Add(-s.Clock().Jump) }

// loadClock takes up the time that the last process remembered.
func (s *Store) loadClock(ctx context.Context) error {
	var last time.Time
	err := s.writer.QueryRowContext(ctx, "SELECT coalesce(max(value), 0) FROM meta WHERE name = 'clock'").Scan(stampColumn{&last})
	if err != nil {
		return fmt.Errorf("read the clock's high-water mark: %w", err)
	}
	s.ratchet.lift(last)
	return nil
}
