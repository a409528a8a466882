package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/audit"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/internal/backoff"
	"github.com/varanhq/varan/internal/didyoumean"
)

// eventQuery is an api.EventFilter as a query.
type eventQuery struct {
	Limit  int       `query:"limit" minimum:"0" maximum:"500"`
	Before int64     `query:"before" minimum:"0"`
	Kind   []string  `query:"kind,explode" maxItems:"50"`
	Sync   string    `query:"sync" maxLength:"128"`
	Stack  string    `query:"stack" maxLength:"128"`
	Server string    `query:"server" maxLength:"128"`
	Actor  string    `query:"actor" maxLength:"128"`
	Run    string    `query:"run" maxLength:"128"`
	Since  time.Time `query:"since"`
	Until  time.Time `query:"until"`
}

// period is a part of the history.
type period struct {
	Since time.Time `query:"since"`
	Until time.Time `query:"until"`
}

// moment is a time.
type moment struct {
	At time.Time `query:"at" required:"true"`
}

// logOf is the log of an op.
type logOf struct {
	Run    string `path:"run" maxLength:"128"`
	Op     string `query:"op" required:"true" maxLength:"300"`
	Follow bool   `query:"follow"`
}

// eventID is one record.
type eventID struct {
	ID int64 `path:"id" minimum:"1"`
}

func (s *server) registerHistory(a huma.API) {
	handle(s, a, route(http.MethodGet, "/events", "listEvents", "What happened, newest first"), s.events)
	handle(s, a, route(http.MethodGet, "/events/{id}", "getEvent", "One record, what led to it, and what it led to"), s.event)
	handle(s, a, route(http.MethodGet, "/audit/head", "getAuditHead", "The newest record of the history, and its hash"),
		func(ctx context.Context, _ *none) (api.AuditHead, error) {
			head, err := s.Store.AuditHead(ctx)
			return api.AuditHead{ID: head.ID, Hash: head.Hash.String()}, err
		})
	handle(s, a, route(http.MethodGet, "/status/past", "getPastStatus", "How the stacks were at a time"), s.pastStatus)
	stream(s, a, route(http.MethodGet, "/runs/{run}/log", "followOpLog", "What was said while an op was done, as JSON lines"), s.opLog)
	stream(s, a, route(http.MethodGet, "/audit/export", "exportAudit", "The history as verifiable JSON lines, oldest first"), s.exportAudit)
}

func (s *server) events(ctx context.Context, in *eventQuery) ([]api.Event, error) {
	for _, kind := range in.Kind {
		if _, ok := api.EventKinds[kind]; !ok {
			kinds := slices.Sorted(maps.Keys(api.EventKinds))
			hint := "the kinds are " + strings.Join(kinds, ", ")
			if near := didyoumean.Word(kind, kinds); near != "" {
				hint = "did you mean " + near + "? " + hint
			}
			return nil, badRequest(fmt.Sprintf("there is no kind of event %q", kind), hint)
		}
	}
	return s.Store.Events(ctx, api.EventFilter{
		Page: api.Page{Limit: pageSize(in.Limit), Before: in.Before}, Kinds: in.Kind,
		Sync: in.Sync, Stack: in.Stack, Server: in.Server, Actor: in.Actor, Run: in.Run, Since: in.Since, Until: in.Until,
	})
}

// record appends what a caller did to the history. The deed is done: if it cannot be
// recorded, that is logged.
func (s *server) record(ctx context.Context, event api.Event) {
	actor := auth.ActorOf(ctx)
	event.Actor, event.Remote = actor.Name, cmp.Or(event.Remote, actor.Remote)
	event.Listener = cmp.Or(event.Listener, actor.Listener)
	if err := s.Store.AddEvent(ctx, event); err != nil {
		_ = s.failure(ctx, err)
	}
}

// maxCauses bounds the chain of causes that is followed, maxEffects what is listed of what a
// record led to.
const (
	maxCauses  = 50
	maxEffects = 500
)

func (s *server) event(ctx context.Context, in *eventID) (api.EventChain, error) {
	e, err := s.Store.Event(ctx, in.ID)
	if errors.Is(err, store.ErrNotFound) {
		return api.EventChain{}, notFound(fmt.Sprintf("there is no record %d", in.ID), "varan history lists them; what is old was deleted")
	}
	if err != nil {
		return api.EventChain{}, err
	}
	chain := api.EventChain{Event: e}
	if chain.Causes, err = s.chain(ctx, e); err != nil {
		return chain, err
	}
	chain.Causes = chain.Causes[1:]
	slices.Reverse(chain.Causes)
	if chain.Effects, err = s.Store.Effects(ctx, e, maxEffects); err != nil || e.Kind != "op" {
		return chain, err
	}
	op, err := s.Store.Op(ctx, e.Run, e.Op)
	if errors.Is(err, store.ErrNotFound) { // runs are kept for less long than their history
		return chain, nil
	}
	chain.OpRecord = &op
	return chain, err
}

func (s *server) exportAudit(ctx context.Context, in *period) (func(huma.Context), error) {
	return func(hc huma.Context) {
		lines := newLineWriter(hc)
		defer lines.close()
		err := s.Store.ExportAudit(ctx, in.Since, in.Until, func(line audit.Line) error {
			if !lines.queue(line) {
				return context.Canceled // nobody reads on
			}
			return nil
		})
		if err != nil {
			// Whoever reads the export finds that its end is missing.
			_ = s.failure(ctx, err)
		}
	}, nil
}

func (s *server) pastStatus(ctx context.Context, in *moment) (api.PastStatus, error) {
	past := api.PastStatus{At: in.At}
	if in.At.After(s.Now()) {
		return past, badRequest("that time is still to come", "varan plan says what would be done")
	}
	var err error
	if past.Stacks, err = s.Store.StatesAt(ctx, in.At); err != nil {
		return past, err
	}
	past.From, err = s.Store.FirstState(ctx)
	return past, err
}

// logPoll is how often a log that is followed is looked at; logPatience how long after its op
// ended the last of it is waited for.
const (
	logPoll     = 250 * time.Millisecond
	logPatience = 5 * time.Second
)

func (s *server) opLog(ctx context.Context, in *logOf) (func(huma.Context), error) {
	op, err := s.Store.Op(ctx, in.Run, in.Op)
	if errors.Is(err, store.ErrNotFound) {
		return nil, notFound(fmt.Sprintf("there is no op %q in a run %q", in.Op, in.Run),
			"varan history --kind op lists them; runs are named RUN/OP, with the op as varan history show prints it")
	}
	if err != nil {
		return nil, err
	}
	return func(hc huma.Context) {
		lines := newLineWriter(hc)
		defer lines.close()
		if err := s.followLog(ctx, op, in.Follow, lines.write); err != nil {
			lines.write(api.OpLogLine{Error: s.failure(ctx, err)})
		}
	}, nil
}

// followLog writes the log of an op, until its last line where that is to come.
func (s *server) followLog(ctx context.Context, op api.Op, follow bool, write func(any) bool) error {
	var after int64
	ended := s.Now()
	for {
		lines, seq, ok, err := s.Store.OpLog(ctx, op.Run, op.ID, after)
		if err != nil {
			return err
		}
		after = seq
		if !writeLog(lines, write) {
			return nil
		}
		if ok {
			continue
		}
		if op.Status == api.OpRunning {
			if op, err = s.Store.Op(ctx, op.Run, op.ID); err != nil {
				return err
			}
			ended = s.Now()
		}
		if !follow || op.Status != api.OpRunning && (after == 0 || s.Now().Sub(ended) > logPatience) {
			return nil
		}
		if backoff.Pause(ctx, logPoll) != nil {
			return nil //nolint:nilerr // nobody reads it any more
		}
	}
}

// writeLog writes lines and says whether more can come and be written.
func writeLog(lines []api.OpLogLine, write func(any) bool) bool {
	for _, line := range lines {
		if !write(line) || line.Phase == api.OpLogEnd {
			return false
		}
	}
	return true
}
