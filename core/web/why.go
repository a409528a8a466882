package web

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/core/why"
)

// whyOf is what is asked about.
type whyOf struct {
	Of string `query:"of" required:"true" maxLength:"300" doc:"web, web@alpha, server/alpha, sync/home, procedure/nightly"`
}

func (s *server) registerWhy(a huma.API) {
	handle(s, a, route(http.MethodGet, "/why", "why", "Why a stack, a server, a sync or a procedure is as it is"), s.why)
}

func (s *server) why(ctx context.Context, in *whyOf) (api.Why, error) {
	state, err := s.whyState(ctx)
	if err != nil {
		return api.Why{}, err
	}
	of, known := state.Find(in.Of)
	records, err := s.records(ctx, of)
	if err != nil {
		return api.Why{}, err
	}
	answer := why.Explain(of, state, records)
	if known || answer.Known {
		return answer, nil
	}
	kinds := []string{of.Kind}
	if !strings.Contains(in.Of, "/") {
		kinds = append(kinds, why.KindServer, why.KindSync, why.KindProcedure)
	}
	for _, kind := range kinds {
		for _, name := range closest(of.Name, state.Names(kind)) {
			if kind != why.KindStack {
				name = kind + "/" + name
			}
			answer.Closest = append(answer.Closest, name)
		}
	}
	if len(answer.Closest) > 0 {
		answer.Next = slices.Insert(answer.Next, 0, "did you mean "+strings.Join(answer.Closest, ", ")+"?")
	}
	return answer, nil
}

// whyState is all that an answer is made from but the records.
func (s *server) whyState(ctx context.Context) (*why.State, error) {
	view, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	state := &why.State{Now: s.Now(), Observed: view.observed, Stacks: view.stacks()}
	state.Servers = view.servers(state.Stacks)
	for _, source := range view.sources {
		state.Sources = append(state.Sources, why.Source{Sync: source.sync, Status: source.status, Desired: source.desired})
	}
	if state.Suspensions, err = s.Store.Suspensions(ctx); err != nil {
		return nil, err
	}
	if state.Updates, err = s.Updates.Updates(ctx); err != nil {
		return nil, err
	}
	if state.Procedures, err = s.procedures(ctx); err != nil {
		return nil, err
	}
	state.Schedules, err = s.schedules(ctx, 1)
	return state, err
}

// changes are the kinds of record that tell of a change of each kind of subject.
var changes = map[string][]string{
	why.KindStack:     {"op", "heal", "procedure"},
	why.KindServer:    {"server", "key", "onboarding", "control"},
	why.KindSync:      {"run", "plan", "sync", "control"},
	why.KindProcedure: {"procedure", "schedule"},
}

// fewOps is how many of the last ops of a stack are looked through for one on a server.
const fewOps = 50

// records are those that an answer about a subject needs.
func (s *server) records(ctx context.Context, of why.Subject) (r why.Records, err error) {
	filter := api.EventFilter{Page: api.Page{Limit: fewOps}, Kinds: changes[of.Kind]}
	switch of.Kind {
	case why.KindStack:
		filter.Stack, filter.Server = of.Name, of.Server
		ops, err := s.Store.History(ctx, of.Name, 0, fewOps)
		if err != nil {
			return r, err
		}
		i := slices.IndexFunc(ops, func(op api.Op) bool { return of.Server == "" || op.Server == of.Server })
		if i >= 0 {
			r.LastOp = &ops[i]
		}
	case why.KindServer:
		filter.Server = of.Name
	case why.KindSync:
		filter.Sync = of.Name
	case why.KindProcedure:
		last, err := s.Store.LastProcedureRuns(ctx)
		if err != nil || last[of.Name].ID == "" {
			return r, err
		}
		filter.Run = last[of.Name].ID
	}
	events, err := s.Store.Events(ctx, filter)
	if of.Kind == why.KindServer { // what was decided about a stack there is another matter
		events = slices.DeleteFunc(events, func(e api.Event) bool { return e.Stack != "" })
	}
	if err != nil || len(events) == 0 {
		return r, err
	}
	if r.Last, err = s.chain(ctx, events[0]); err != nil || of.Kind != why.KindStack || succeeded(events[0]) {
		return r, err
	}
	if i := slices.IndexFunc(events, succeeded); i > 0 {
		r.Good, err = s.chain(ctx, events[i])
	}
	return r, err
}

func succeeded(e api.Event) bool { return e.Status == string(api.OpSucceeded) }

// chain is a record and what led to it, the first cause last.
func (s *server) chain(ctx context.Context, e api.Event) ([]api.Event, error) {
	chain := []api.Event{e}
	for at := e; at.Cause != 0 && at.Cause < at.ID && len(chain) <= maxCauses; {
		var err error
		at, err = s.Store.Event(ctx, at.Cause)
		if errors.Is(err, store.ErrNotFound) { // it was deleted because of its age
			break
		}
		if err != nil {
			return nil, err
		}
		chain = append(chain, at)
	}
	return chain, nil
}
