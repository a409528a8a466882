package procedure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/varanhq/varan/fleet"
)

// The first delay before another attempt where none is declared, and the longest that
// doubling makes of one.
const (
	firstDelay   = 5 * time.Second
	longestDelay = 5 * time.Minute
)

// backoff is how long to wait after the attempt with that number, from 0, before the next.
func backoff(p fleet.Policy, attempt int) time.Duration {
	delay := time.Duration(p.RetryDelay)
	if delay <= 0 {
		delay = firstDelay
	}
	for ; attempt > 0 && delay < longestDelay; attempt-- {
		delay *= 2
	}
	return min(delay, max(longestDelay, time.Duration(p.RetryDelay)))
}

// lateError is why something ends whose time is up.
type lateError struct{ after time.Duration }

func (e *lateError) Error() string { return fmt.Sprintf("it took longer than %s", e.after) }

// about is what there is to say of a step.
func (e *lateError) about(s *Step) string {
	text := e.Error()
	if s.Server != "" {
		text += "; what its server has begun goes on there"
	}
	return text
}

// within bounds what began at a time; zero is no bound.
func within(ctx context.Context, timeout fleet.Duration, began time.Time) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.WithCancel(ctx)
	}
	after := time.Duration(timeout)
	return context.WithDeadlineCause(ctx, began.Add(after), &lateError{after})
}

// began is when the first step of a stage was begun; now, when none was.
func (x *run) began(stage int) time.Time {
	began := time.Now()
	for _, s := range x.snapshot().Steps {
		if s.Stage == stage && !s.Started.IsZero() && s.Started.Before(began) {
			began = s.Started
		}
	}
	return began
}

// whyOver is why a context ended: its time was up, or core stops.
func whyOver(ctx context.Context) error {
	if late, ok := errors.AsType[*lateError](context.Cause(ctx)); ok {
		return late
	}
	return errShutdown
}
