package schedule

import "time"

// maxOverlaps bounds the starts that are looked at for a window that keeps itself open.
const maxOverlaps = 1000

// Window is a time that opens at the times of a schedule and stays open for a while.
type Window struct {
	Schedule Schedule
	Duration time.Duration
}

// Open reports whether the window is open, and until when; when it is not, until is when it
// opens next, zero if never. A window that opens again before it closes stays open.
func (w Window) Open(at time.Time) (open bool, until time.Time) {
	start, ok := w.Schedule.Next(at.Add(-w.Duration))
	if !ok {
		return false, time.Time{}
	}
	if start.After(at) {
		return false, start
	}
	until = start.Add(w.Duration)
	for range maxOverlaps {
		next, ok := w.Schedule.Next(start)
		if !ok || next.After(until) {
			break
		}
		start, until = next, next.Add(w.Duration)
	}
	return true, until
}
