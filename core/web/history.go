package web

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
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

func (s *server) registerHistory(a huma.API) {
	handle(s, a, route(http.MethodGet, "/events", "listEvents", "What happened, newest first"), s.events)
}

func (s *server) events(ctx context.Context, in *eventQuery) ([]api.Event, error) {
	for _, kind := range in.Kind {
		if _, ok := api.EventKinds[kind]; !ok {
			kinds := slices.Sorted(maps.Keys(api.EventKinds))
			return nil, badRequest(fmt.Sprintf("there is no kind of event %q", kind), didYouMean(kind, kinds))
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
