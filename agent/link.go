package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/varanhq/varan/internal/backoff"
	"github.com/varanhq/varan/wire"
)

const (
	// renewalCheck is how often a session is asked whether its keys are due for renewal. Few
	// links carry in that time what keys may carry beyond that.
	renewalCheck = 10 * time.Minute
	// settledAge is how long a session must last for the next one to be dialled without
	// delay. Two agents with one key, which push each other off, never get there.
	settledAge = 30 * time.Second
	// No agent tries more than triesMost times within triesIn, whatever its backoff drew: when
	// all of a fleet come back to a core that just started, each try costs it.
	triesMost = 3
	triesIn   = 10 * time.Second
)

// pace remembers the last tries to connect, the oldest first.
type pace [triesMost]time.Time

func (p *pace) add(now time.Time) {
	copy(p[:], p[1:])
	p[triesMost-1] = now
}

// rest is how long the next try has to wait.
func (p *pace) rest(now time.Time) time.Duration { return max(0, p[0].Add(triesIn).Sub(now)) }

// endpoint is one address of core.
type endpoint struct {
	address string
	// rest spaces out tries where a person has to act first: another key than the
	// pinned one. joining is the same for a token that core refuses: somebody may be about
	// to approve the server. until is when the next may be made.
	rest, joining backoff.Backoff
	until         time.Time
}

// link keeps one session to core until ctx ends.
func (a *Agent) link(ctx context.Context) {
	endpoints := make([]*endpoint, len(a.cfg.Cores))
	for i, address := range a.cfg.Cores {
		endpoints[i] = &endpoint{
			address: address, rest: backoff.Backoff{Base: time.Minute, Max: 14 * time.Minute, Floor: time.Minute},
			joining: backoff.Backoff{Base: 4 * time.Second, Max: 14 * time.Minute, Floor: 2 * time.Second},
		}
	}
	retry := backoff.Backoff{Base: time.Second, Max: time.Minute}
	var current *session
	var tries pace
	defer func() {
		if current != nil {
			a.sessions.drop(current)
			current.close(ctx, wire.Errorf(wire.CodeShutdown, "the agent is shutting down"))
		}
	}()
	for ctx.Err() == nil {
		next, err := a.connect(ctx, endpoints)
		tries.add(time.Now()) // its end: the host may be slow to begin
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			wait := max(retry.Next(), restOf(endpoints), tries.rest(time.Now()))
			a.log.WarnContext(ctx, "not connected to core", slog.Any("err", err), slog.Duration("retry_in", wait.Round(time.Millisecond)))
			current = a.serve(ctx, current, wait, func() bool { return true })
			continue
		}
		a.sessions.set(next)
		if current != nil {
			// Make before break: the new session serves already.
			current.close(ctx, wire.Errorf(wire.CodeReplaced, "the agent has a new session"))
		}
		opened := time.Now()
		if current = a.serve(ctx, next, renewalCheck, next.needsRenewal); current != nil {
			continue
		}
		if time.Since(opened) >= settledAge {
			retry.Reset()
		}
		_ = backoff.Pause(ctx, max(retry.Next(), tries.rest(time.Now())))
	}
}

// serve waits until the session ends, or until due says so, which it is asked after
// each interval. It returns the session if it lives on. Without a session it waits once.
func (a *Agent) serve(ctx context.Context, s *session, interval time.Duration, due func() bool) *session {
	if s == nil {
		_ = backoff.Pause(ctx, interval)
		return nil
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return s
		case <-a.renew:
			return s
		case <-ticker.C:
			if due() {
				return s
			}
		case <-s.done:
			a.sessions.drop(s)
			a.ended(ctx, s.err)
			return nil
		}
	}
}

// ended tells why a session ended that we did not end.
func (a *Agent) ended(ctx context.Context, err error) {
	if reason, ok := errors.AsType[*wire.Error](err); ok && reason.Code == wire.CodeReplaced {
		a.log.WarnContext(ctx, "core says that another session took this one's place: is the state directory copied to another host?",
			slog.Any("err", err))
		return
	}
	a.log.WarnContext(ctx, "lost the session with core", slog.Any("err", err))
}

// connect opens a session at the first address that lets us. An address that rests is
// left out.
func (a *Agent) connect(ctx context.Context, endpoints []*endpoint) (*session, error) {
	var errs []error
	for _, ep := range endpoints {
		if time.Now().Before(ep.until) {
			continue
		}
		s, err := a.connectTo(ctx, ep.address)
		if err == nil {
			ep.rest.Reset()
			ep.joining.Reset()
			return s, nil
		}
		switch {
		case errors.Is(err, errNotJoined):
			ep.until = time.Now().Add(ep.joining.Next())
		case needsPerson(err):
			ep.until = time.Now().Add(ep.rest.Next())
		}
		errs = append(errs, fmt.Errorf("%s: %w", ep.address, err))
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		return nil, errors.New("every address of core is waiting for its next try")
	}
	return nil, errors.Join(errs...)
}

// restOf is how long it takes until any address may be tried again.
func restOf(endpoints []*endpoint) time.Duration {
	rest := time.Until(endpoints[0].until)
	for _, ep := range endpoints[1:] {
		rest = min(rest, time.Until(ep.until))
	}
	return max(rest, 0)
}
