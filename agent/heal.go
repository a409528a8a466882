package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/varanhq/varan/fleet"
)

// Healer is an Engine that can say what is missing of what core wants kept running.
type Healer interface {
	// Repairs are orders of the kind OrderHeal, one for each stack of whose last good
	// release something does not run. Nothing that core ordered to be so is among them.
	Repairs(ctx context.Context) ([]fleet.Order, error)
}

const (
	// healAfter is how long core must be away before the agent acts by itself when nothing
	// else is set: a core that restarts sees to it, and says so in a plan.
	healAfter = time.Minute
	// healEvery is how often it looks then, at least.
	healEvery = 15 * time.Second
	// healRest is how long a stack rests after an attempt, doubled with each up to
	// healRestMost: what does not stay up is not started for ever.
	healRest     = 30 * time.Second
	healRestMost = 30 * time.Minute
	// healCalm is after how long without an attempt a stack counts as well again.
	healCalm = time.Hour
)

// attempts are those made for one stack.
type attempts struct {
	last time.Time
	rest time.Duration
}

// heal keeps the stacks running from their last good releases while core is away, until ctx
// ends.
func (a *Agent) heal(ctx context.Context) {
	healer, ok := a.cfg.Engine.(Healer)
	if !ok {
		return
	}
	ticker := time.NewTicker(min(healEvery, a.cfg.HealAfter))
	defer ticker.Stop()
	away := time.Now()
	made := map[string]attempts{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch now := time.Now(); {
		case a.sessions.get() != nil:
			away = time.Time{}
		case away.IsZero():
			away = now
		case now.Sub(away) >= a.cfg.HealAfter:
			a.repair(ctx, healer, made, now)
		}
	}
}

// repair gives the agent the orders that are due.
func (a *Agent) repair(ctx context.Context, healer Healer, made map[string]attempts, now time.Time) {
	due, err := healer.Repairs(ctx)
	if err != nil {
		return // the engine is away too; whoever watches it says so
	}
	for _, order := range due {
		tried := made[order.Stack]
		if now.Sub(tried.last) > healCalm {
			tried = attempts{}
		}
		if a.rests.hold(order.Stack, now) || a.jobs.busy(order.Stack) || now.Sub(tried.last) < tried.rest {
			continue
		}
		made[order.Stack] = attempts{last: now, rest: min(max(2*tried.rest, healRest), healRestMost)}
		a.log.WarnContext(ctx, "core is away and a stack does not run as deployed; putting it back", slog.String("stack", order.Stack))
		if _, err := a.jobs.accept(order); err != nil {
			a.log.ErrorContext(ctx, "the repair could not be begun", slog.String("stack", order.Stack), slog.Any("err", err))
		}
	}
}

// Limits of what is kept to tell core of repairs. What core asked for is never dropped.
const (
	maxHeals     = 1000
	maxHealBytes = 16 << 20
)

// dropHeals returns the oldest repairs that are beyond the limits, and what is left to tell;
// the oldest that is kept says how many were dropped.
func dropHeals(owed []fleet.Outcome, dropped int) (left, gone []fleet.Outcome, total int) {
	count, size := 0, 0
	keep := make([]bool, len(owed))
	for i := len(owed) - 1; i >= 0; i-- {
		o := &owed[i]
		if !o.Heal {
			keep[i] = true
			continue
		}
		count++
		size += len(o.Log) + len(o.Reason) + len(o.Hint) + len(o.Stack) + len(o.Order)
		keep[i] = count <= maxHeals && size <= maxHealBytes
	}
	for i := range owed {
		if keep[i] {
			left = append(left, owed[i])
		} else {
			gone = append(gone, owed[i])
		}
	}
	dropped += len(gone)
	for i := range left {
		if left[i].Heal && dropped > 0 {
			left[i].Dropped = dropped
			break
		}
	}
	return left, gone, dropped
}
