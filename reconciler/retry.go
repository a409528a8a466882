package reconciler

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

const (
	retryBase = 2 * time.Second
	retryCap  = 5 * time.Minute
	// healBurst heals of one stack are done at once; more of them within healWindow are
	// spaced out, so that a stack that dies again and again is not restarted in a spin.
	healBurst  = 5
	healWindow = 10 * time.Minute
)

// backoff is the wait before try number tries+1: full jitter under a doubling bound.
func backoff(tries int) time.Duration {
	bound := retryCap
	if tries < 8 { // retryBase << 8 is beyond the cap
		bound = min(retryCap, retryBase<<tries)
	}
	return time.Duration(rand.Int64N(int64(bound))) //nolint:gosec // jitter needs no secrecy
}

// spread moves d by up to a tenth either way, so that syncs do not poll in step.
func spread(d time.Duration) time.Duration {
	return d - d/10 + time.Duration(rand.Int64N(int64(d/5)+1)) //nolint:gosec // jitter needs no secrecy
}

// attempt remembers how one op fared.
type attempt struct {
	release fleet.Digest
	tries   int
	until   time.Time
	// final is set when the same release would only fail again.
	final  bool
	reason string
	heals  int
	healed time.Time
}

// attempts remembers, by op id, what must not be tried again yet.
type attempts map[string]attempt

// hold says why an op must wait, and until when; a zero time with a reason means until
// something else changes.
func (a attempts) hold(op plan.Op, now time.Time) (reason string, until time.Time) {
	at, ok := a[op.ID]
	switch {
	case !ok || at.release != op.Release:
		return "", time.Time{}
	case at.final:
		return "this release failed: " + at.reason, time.Time{}
	case now.Before(at.until):
		return fmt.Sprintf("tried %d times, next at %s", max(at.tries, at.heals), at.until.UTC().Format(time.RFC3339)), at.until
	}
	return "", time.Time{}
}

// record learns from a result.
func (a attempts) record(op plan.Op, result OpResult, now time.Time) {
	at := a[op.ID]
	if at.release != op.Release {
		at = attempt{release: op.Release}
	}
	switch result.Status {
	case OpSucceeded:
		if op.Kind != plan.OpHeal {
			delete(a, op.ID)
			return
		}
		if now.Sub(at.healed) > healWindow {
			at.heals = 0
		}
		at.heals++
		at.tries, at.healed, at.until = 0, now, time.Time{}
		if at.heals >= healBurst {
			at.until = now.Add(backoff(at.heals - healBurst))
		}
	case OpFailed, OpRolledBack:
		at.reason = result.Reason
		if !result.Outcome.Retryable && (op.Kind == plan.OpCreate || op.Kind == plan.OpUpdate) {
			// The agent remembers the release as bad; this holds until its report says so.
			at.final = true
			break
		}
		at.until = now.Add(backoff(at.tries))
		at.tries++
	case OpCanceled:
		// The agent gave it up before it touched anything: it is going away, most likely.
		if result.Outcome.Status != fleet.OutcomeCanceled {
			return
		}
		at.until = now.Add(backoff(at.tries))
		at.tries++
	case OpSkipped, OpStale:
		return
	}
	a[op.ID] = at
}
