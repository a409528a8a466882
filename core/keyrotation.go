package core

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/varanhq/varan/core/alert"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/hub"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/backoff"
	"github.com/varanhq/varan/wire"
)

const (
	// maxRotating bounds the agents that change their keys at the same time, rotateJitter is
	// over what time each of them is spread.
	maxRotating  = 10
	rotateJitter = 500 * time.Millisecond
	// rotateWithin is how long somebody waits for an agent to come back with its next key. The
	// change itself may still happen after that.
	rotateWithin = 2 * time.Minute
)

// agentKeys changes the keys of agents.
type agentKeys struct {
	store  *store.Store
	hub    *hub.Hub
	alerts *alert.Service
	log    *slog.Logger
	// declared are the servers of all syncs by name.
	declared func() map[string]*fleet.Server

	mu sync.Mutex
	// waiting has a channel for each server that somebody waits for; it is closed when the
	// agent has confirmed a key.
	waiting map[string]chan struct{}
}

// confirmed wakes who waits for the agent of a server: it has a key that core accepted in its
// place, and the one before has nothing left to do.
func (k *agentKeys) confirmed(server string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if done := k.waiting[server]; done != nil {
		close(done)
		delete(k.waiting, server)
	}
}

// wait returns a channel that is closed when the agent of a server confirms a key.
func (k *agentKeys) wait(server string) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.waiting[server] == nil {
		k.waiting[server] = make(chan struct{})
	}
	return k.waiting[server]
}

// all changes the keys of all servers that are there and do not say otherwise.
func (k *agentKeys) all(ctx context.Context, actor string, each func(api.KeyResult)) (api.KeyReport, error) {
	servers, err := k.store.Servers(ctx)
	if err != nil {
		return api.KeyReport{}, err
	}
	declared := k.declared()
	var names []string
	report := api.KeyReport{Results: []api.KeyResult{}}
	skip := func(server, why string) {
		result := api.KeyResult{Server: server, Status: api.KeySkipped, Text: why}
		report.Results = append(report.Results, result)
		each(result)
	}
	for i := range servers {
		s := &servers[i]
		switch d, known := declared[s.Name]; {
		case s.Pending:
			skip(s.Name, "waits for approval")
		case s.Disabled || known && !d.Enabled:
			skip(s.Name, "disabled")
		case known && d.KeepKey:
			skip(s.Name, "auto_rotate_keys is false")
		default:
			names = append(names, s.Name)
		}
	}
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] }) //nolint:gosec // spreads load, guards nothing
	results := make([]api.KeyResult, len(names))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(maxRotating)
	for i, name := range names {
		group.Go(func() error {
			_ = backoff.Pause(groupCtx, rand.N(rotateJitter)) //nolint:gosec // spreads load, guards nothing
			results[i] = k.one(groupCtx, name, actor, false)
			each(results[i])
			return nil
		})
	}
	err = group.Wait()
	report.Results = append(report.Results, results...)
	slices.SortFunc(report.Results, func(a, b api.KeyResult) int { return strings.Compare(a.Server, b.Server) })
	return report, err
}

// one changes the key of the agent of one server and tells what became of it.
func (k *agentKeys) one(ctx context.Context, server, actor string, emergency bool) api.KeyResult {
	result := api.KeyResult{Server: server}
	key, err := k.change(ctx, server, actor, emergency)
	switch _, offline := errors.AsType[*hub.OfflineError](err); {
	case err == nil:
		result.Status, result.Text, result.PublicKey = api.KeyRotated, "has a new key", key
		k.alerts.KeyRotated(server)
		return result
	case offline:
		result.Status, result.Text = api.KeySkipped, "its agent is not connected"
		return result
	case ctx.Err() != nil:
		err = errors.New("nobody waits any more; what was begun is finished by the agent")
	}
	result.Status, result.Text = api.KeyFailed, err.Error()
	k.failed(ctx, server, actor, err)
	return result
}

// failed tells people of a change that did not happen.
func (k *agentKeys) failed(ctx context.Context, server, actor string, reason error) {
	ctx = context.WithoutCancel(ctx)
	k.log.LogAttrs(ctx, slog.LevelError, "key not changed", slog.String("host", server), slog.Any("err", reason))
	k.alerts.KeyFailed(server, reason.Error())
	err := k.store.AddEvent(ctx, api.Event{
		Kind: "key", Server: server, Actor: actor, Text: "agent's key not changed, the old one stays good: " + reason.Error(),
	})
	if err != nil {
		k.log.LogAttrs(ctx, slog.LevelError, "event not recorded", slog.Any("err", err))
	}
}

// change does R1 and waits until the agent and the hub have done the rest, R7 included: who has
// the answer finds the new key on the agent's disk, and the old one is good for nothing. It
// returns the new key.
func (k *agentKeys) change(ctx context.Context, server, actor string, emergency bool) (string, error) {
	if !k.hub.Online(server) {
		return "", &hub.OfflineError{Server: server}
	}
	before, err := k.store.CurrentKey(ctx, server)
	if err != nil {
		return "", err
	}
	done := k.wait(server)
	id, err := k.store.StartRotation(ctx, server, uuid.NewString(), actor, emergency)
	if err != nil {
		return "", err
	}
	switch err := k.hub.StartRotation(ctx, server, id); {
	case err == nil:
	case isGone(err):
		// The agent reads of the change when it is back.
	default:
		return "", errors.Join(err, k.store.AbandonRotation(context.WithoutCancel(ctx), server, id))
	}
	return k.await(ctx, server, before, done)
}

// await waits for an agent to confirm another key than the one it had, and returns that.
func (k *agentKeys) await(ctx context.Context, server, before string, done <-chan struct{}) (string, error) {
	timer := time.NewTimer(rotateWithin)
	defer timer.Stop()
	for over := false; ; {
		select {
		case <-done:
			done = k.wait(server) // it may have confirmed an earlier change
		case <-timer.C:
			over = true
		case <-ctx.Done():
			return "", ctx.Err()
		}
		key, err := k.store.CurrentKey(ctx, server)
		switch {
		case err != nil:
			return "", err
		case key != before:
			// When it came with the key and did not say that it is in place, that needs no
			// saying: whatever the agent has on disk, core accepts one of it.
			return key, nil
		case over:
			return "", fmt.Errorf("its agent did not come back with a new key within %v; if it does within %v, the change still happens",
				rotateWithin, store.RotationTime)
		}
	}
}

// isGone reports whether the link broke before the answer.
func isGone(err error) bool {
	_, offline := errors.AsType[*hub.OfflineError](err)
	refused, known := errors.AsType[*wire.Error](err)
	return offline || errors.Is(err, wire.ErrClosed) || known && refused.Code == wire.CodeStale
}

// named changes the key of one server, which must have joined.
func (k *agentKeys) named(ctx context.Context, server, actor string, emergency bool) (api.KeyReport, error) {
	servers, err := k.store.Servers(ctx)
	if err != nil {
		return api.KeyReport{}, err
	}
	if !slices.ContainsFunc(servers, func(s store.Server) bool { return s.Name == server }) {
		return api.KeyReport{}, &api.Error{
			Status: http.StatusNotFound, Code: api.CodeNotFound, Message: fmt.Sprintf("no server %q has joined", server),
			Hint: "varan server list",
		}
	}
	if emergency && !k.hub.Online(server) {
		return api.KeyReport{}, &api.Error{
			Status: http.StatusConflict, Code: api.CodeConflict,
			Message: fmt.Sprintf("the agent of server %s is not connected: it cannot get another key", server),
			Hint: fmt.Sprintf("varan server disable %s refuses its key at once; varan onboarding-key create --rekey %s then lets it in with a new one",
				server, server),
		}
	}
	return api.KeyReport{Results: []api.KeyResult{k.one(ctx, server, actor, emergency)}}, nil
}
