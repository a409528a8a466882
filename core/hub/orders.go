package hub

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/wire"
)

// work is an order that somebody waits for.
type work struct {
	order   fleet.Order
	content reconciler.Content
	blobs   map[fleet.Digest]bool // what the release names
	outcome chan fleet.Outcome    // capacity 1

	mu       sync.Mutex
	progress func(fleet.Progress) // nil once nobody listens any more
}

// Dispatch sends an order to the agent of its server and waits for the outcome, over as
// many sessions as that takes. It is an error when the order did not reach the agent,
// or the agent did not take it. When ctx ends the agent goes on: its outcome is then
// one that nobody waits for.
func (h *Hub) Dispatch(
	ctx context.Context, order fleet.Order, content reconciler.Content, progress func(fleet.Progress),
) (fleet.Outcome, error) {
	w, err := h.begin(order, content, progress)
	if err != nil {
		return fleet.Outcome{}, err
	}
	defer h.end(w)
	outcome, err := h.await(ctx, w)
	if err != nil {
		return fleet.Outcome{}, fmt.Errorf("order %s for %s: %w", order.ID, order.Server, err)
	}
	return outcome, nil
}

func (h *Hub) begin(order fleet.Order, content reconciler.Content, progress func(fleet.Progress)) (*work, error) {
	w := &work{
		order: order, content: content, progress: progress,
		blobs: make(map[fleet.Digest]bool), outcome: make(chan fleet.Outcome, 1),
	}
	for _, digest := range order.Release.Blobs() {
		w.blobs[digest] = true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.works[order.ID] != nil {
		return nil, fmt.Errorf("order %s is under way already", order.ID)
	}
	h.works[order.ID] = w
	return w, nil
}

func (h *Hub) end(w *work) {
	h.mu.Lock()
	delete(h.works, w.order.ID)
	h.mu.Unlock()
	w.mu.Lock()
	w.progress = nil
	w.mu.Unlock()
}

// await offers the order to each session of the server until one brings the outcome.
func (h *Hub) await(ctx context.Context, w *work) (fleet.Outcome, error) {
	reached := false
	for {
		s, changed := h.watch(w.order.Server)
		if s == nil && !reached {
			return fleet.Outcome{}, &OfflineError{Server: w.order.Server}
		}
		if s != nil {
			outcome, err := s.offer(ctx, w)
			switch {
			case outcome != nil:
				return *outcome, nil
			case err == nil || errors.Is(err, wire.ErrClosed): // it may have arrived
				reached = true
			case isCode(err, wire.CodeStale): // a newer session is on its way
			default:
				return fleet.Outcome{}, err
			}
		}
		select {
		case outcome := <-w.outcome:
			return outcome, nil
		case <-changed:
		case <-ctx.Done():
			return fleet.Outcome{}, ctx.Err()
		}
	}
}

// offer gives the order to an agent, which may know it already.
func (s *session) offer(ctx context.Context, w *work) (*fleet.Outcome, error) {
	if slices.Contains(s.running, w.order.ID) {
		return nil, nil
	}
	var accepted wire.Accepted
	err := s.peer.Call(ctx, wire.VerbApply, wire.OrderRequest{Epoch: s.epoch, Order: w.order}, &accepted)
	if err != nil || accepted.Outcome == nil {
		return nil, err
	}
	outcome := cleanOutcome(*accepted.Outcome)
	outcome.Order, outcome.Stack = w.order.ID, w.order.Stack
	return &outcome, nil
}

// Cancel withdraws an order that has not touched a container yet.
func (h *Hub) Cancel(ctx context.Context, server, order string) error {
	s := h.session(server)
	if s == nil {
		return fmt.Errorf("cancel order %s: %w", order, &OfflineError{Server: server})
	}
	return s.peer.Call(ctx, wire.VerbCancel, wire.CancelRequest{Order: order}, nil)
}

// workOf returns the work under way on that server with that order, or nil.
func (h *Hub) workOf(server, order string) *work {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.works[order]
	if w == nil || w.order.Server != server {
		return nil
	}
	return w
}

// result takes an outcome. An answer is what makes the agent stop repeating it.
func (s *session) result(ctx context.Context, body []byte) error {
	var outcome fleet.Outcome
	if err := wire.Decode(body, &outcome); err != nil {
		return err
	}
	outcome = cleanOutcome(outcome)
	w := s.hub.workOf(s.server, outcome.Order)
	if w == nil {
		s.hub.log.LogAttrs(ctx, slog.LevelInfo, "outcome of an order that nobody waits for",
			slog.String("host", s.server), slog.String("stack", outcome.Stack), slog.String("order", outcome.Order))
		s.hub.cfg.OnOutcome(s.server, outcome)
		return nil
	}
	outcome.Stack = w.order.Stack
	select {
	case w.outcome <- outcome:
	default: // the agent repeats itself
	}
	return nil
}

// progress passes news of an order on to whoever waits for it.
func (s *session) progress(body []byte) error {
	var p fleet.Progress
	if err := wire.Decode(body, &p); err != nil {
		return err
	}
	w := s.hub.workOf(s.server, p.Order)
	if w == nil {
		return nil
	}
	p = cleanProgress(p)
	p.Stack = w.order.Stack
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.progress != nil {
		w.progress(p)
	}
	return nil
}

// blobs streams content to an agent: only of an order that runs on its server, and only
// what that order's release names.
func (s *session) blobs(ctx context.Context, body []byte, stream io.Writer) error {
	var req wire.BlobsRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	if stream == nil {
		return wire.Errorf(wire.CodeBadRequest, "blobs come as a stream")
	}
	w := s.hub.workOf(s.server, req.Order)
	if w == nil {
		return wire.Errorf(wire.CodeNotFound, "no such order is under way on this server")
	}
	if len(req.Digests) > len(w.blobs) {
		return wire.Errorf(wire.CodeTooLarge, "%d blobs are more than the release has", len(req.Digests))
	}
	for _, digest := range req.Digests {
		if !w.blobs[digest] {
			s.hub.log.LogAttrs(ctx, slog.LevelWarn, "blob denied: the order's release does not name it",
				slog.String("host", s.server), slog.String("order", req.Order), slog.String("stack", w.order.Stack))
			return wire.Errorf(wire.CodeDenied, "the order's release does not name that blob")
		}
	}
	out := bufio.NewWriterSize(stream, 32<<10)
	for _, digest := range req.Digests {
		content, err := w.content.Blob(ctx, digest)
		if err != nil {
			return fmt.Errorf("read blob %s: %w", digest.Short(), err)
		}
		_, _ = out.Write(binary.BigEndian.AppendUint64(nil, uint64(len(content))))
		if _, err := out.Write(content); err != nil {
			return err
		}
	}
	return out.Flush()
}

// logins gives an agent the account to pull with: only the one that is named by the
// release of an order that runs on its server.
func (s *session) logins(ctx context.Context, body []byte) (any, error) {
	var req wire.RegistryRequest
	if err := wire.Decode(body, &req); err != nil {
		return nil, err
	}
	w := s.hub.workOf(s.server, req.Order)
	if w == nil {
		return nil, wire.Errorf(wire.CodeNotFound, "no such order is under way on this server")
	}
	account := w.order.Release.Options.Registry
	switch {
	case account.Account == "":
		return nil, wire.Errorf(wire.CodeDenied, "the order's release names no registry account")
	case s.hub.cfg.Logins == nil:
		return nil, wire.Errorf(wire.CodeNotFound, "this core has no registry accounts")
	}
	logins, err := s.hub.cfg.Logins.Logins(ctx, account)
	if err != nil {
		s.hub.log.LogAttrs(ctx, slog.LevelWarn, "no login for an order", slog.String("host", s.server),
			slog.String("stack", w.order.Stack), slog.String("registry", account.Registry),
			slog.String("account", account.Account), slog.Any("err", err))
		return nil, wire.Errorf(wire.CodeNotFound, "core has no account %s at %s", account.Account, account.Registry)
	}
	return wire.Logins{Logins: logins}, nil
}

// commit gives an agent the commit of an order that it has been given.
func (s *session) commit(ctx context.Context, body []byte) (any, error) {
	var req wire.CommitRequest
	if err := wire.Decode(body, &req); err != nil {
		return nil, err
	}
	w := s.hub.workOf(s.server, req.Order)
	switch {
	case w == nil:
		return nil, wire.Errorf(wire.CodeNotFound, "no such order is under way on this server")
	case s.hub.cfg.Commit == nil:
		return nil, wire.Errorf(wire.CodeNotFound, "this core has no commits")
	}
	raw, err := s.hub.cfg.Commit(ctx, w.order.Release.Commit.ID)
	if err != nil {
		s.hub.log.LogAttrs(ctx, slog.LevelWarn, "no commit for an order", slog.String("host", s.server),
			slog.String("stack", w.order.Stack), slog.String("commit", w.order.Release.Commit.ID), slog.Any("err", err))
		return nil, wire.Errorf(wire.CodeNotFound, "core does not have commit %s", w.order.Release.Commit.Short())
	}
	return wire.CommitObject{Raw: raw}, nil
}

func isCode(err error, code wire.Code) bool {
	e, ok := errors.AsType[*wire.Error](err)
	return ok && e.Code == code
}
