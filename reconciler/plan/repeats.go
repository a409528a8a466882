package plan

import (
	"slices"
	"time"

	"github.com/varanhq/varan/fleet"
)

// loopWithin is how soon after a deploy the same work must be due again to be a loop and
// not a new mishap.
const loopWithin = 10 * time.Minute

// loopAfter is how many identical deploys in a row make one.
const loopAfter = 2

// Deploy is one that succeeded, as far as it tells a loop.
type Deploy struct {
	Release fleet.Digest
	// Cause is what made it due, see CauseOf.
	Cause string
	At    time.Time
}

// CauseOf names the field, of a service or of the stack, because of which an op is due. It is
// empty for ops that may well come again: of containers that died, and what a person asked for.
func CauseOf(op Op) string {
	if op.Kind == OpRemove || op.Kind == OpRestart {
		return ""
	}
	for _, c := range op.Causes {
		if c.Kind == CauseForced || c.Kind == CauseRollback || c.Kind == CauseImage {
			return ""
		}
	}
	for _, s := range op.Services {
		for _, c := range s.Causes {
			if lasting(c) {
				return "service " + s.Service + ": " + c.String()
			}
		}
	}
	for _, c := range op.Causes {
		if lasting(c) {
			return c.String()
		}
	}
	return ""
}

// lasting tells causes that a deploy should do away with for good.
func lasting(c Cause) bool {
	switch c.Kind {
	case CauseField, CauseDrift, CauseUnknown, CauseScale, CauseOptions, CauseSource:
		return true
	case CauseNew, CauseMissing, CauseNotRunning, CauseUnhealthy, CauseLeftGit, CauseMoved, CauseForced, CauseAdopt, CauseRollback, CauseImage:
	}
	return false
}

// Repeats reports whether an op would do once more what the last deploys of its stack did in
// vain, and names the field that does not converge. deploys are in the order of time.
func Repeats(deploys []Deploy, op Op, now time.Time) (field string, loop bool) {
	cause := CauseOf(op)
	if cause == "" || len(deploys) < loopAfter {
		return "", false
	}
	last := now
	for _, d := range slices.Backward(deploys[len(deploys)-loopAfter:]) {
		if d.Release != op.Release || d.Cause != cause || last.Sub(d.At) > loopWithin {
			return "", false
		}
		last = d.At
	}
	return cause, true
}
