package web

import (
	"cmp"
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

// ofKind is the input of a list that can be narrowed.
type ofKind struct {
	Kind string `query:"kind" maxLength:"32"`
}

// oneOfKind names a resource.
type oneOfKind struct {
	Kind string `path:"kind" maxLength:"32"`
	Name string `path:"name" maxLength:"128"`
}

func (s *server) registerResources(a huma.API) {
	handle(s, a, route(http.MethodGet, "/resources", "listResources", "What the applied commits declare, by kind and name"),
		func(ctx context.Context, in *ofKind) ([]api.Resource, error) { return s.resources(ctx, in.Kind) })
	handle(s, a, route(http.MethodGet, "/resources/{kind}/{name}", "getResource", "One declared resource"),
		func(ctx context.Context, in *oneOfKind) (api.Resource, error) {
			list, err := s.resources(ctx, in.Kind)
			if err != nil {
				return api.Resource{}, err
			}
			names := make([]string, 0, len(list))
			for _, r := range list {
				if r.Name == in.Name {
					return r, nil
				}
				names = append(names, r.Name)
			}
			return api.Resource{}, notFound(fmt.Sprintf("no applied commit declares a %s %q", in.Kind, in.Name), didYouMean(in.Name, names))
		})
	handle(s, a, route(http.MethodGet, "/export", "exportResources", "What core holds as one resource file, without secrets"),
		func(ctx context.Context, _ *none) (api.Export, error) {
			text, err := s.Sources.Export(ctx)
			return api.Export{TOML: string(text)}, err
		})
	handle(s, a, route(http.MethodGet, "/syncs/{name}/pending", "pendingSync", "What the last plan of a sync found and is not done"),
		func(ctx context.Context, in *named) (api.PlanResult, error) {
			sync, err := s.syncNamed(ctx, in.Name)
			if err != nil {
				return api.PlanResult{}, err
			}
			status := s.source(sync).status
			if !status.Planned {
				return api.PlanResult{}, unavailable("sync "+in.Name+" was not planned yet", "varan sync run "+in.Name)
			}
			return api.PlanResult{Plan: status.Plan, Diagnostics: status.Diagnostics}, nil
		})
}

// resources lists the records. Those that core read since the last apply know better where
// they are declared.
func (s *server) resources(ctx context.Context, kind string) ([]api.Resource, error) {
	list, err := s.Store.Resources(ctx, kind)
	if err != nil {
		return nil, err
	}
	places := map[string]map[string]fleet.Position{}
	for i := range list {
		r := &list[i]
		if places[r.Sync] == nil {
			places[r.Sync] = s.places(r.Sync)
		}
		r.Origin = cmp.Or(places[r.Sync][r.ID()], r.Origin)
	}
	if kind == "" || kind == "procedure" {
		return s.own(ctx, list)
	}
	return list, nil
}

func (s *server) places(sync string) map[string]fleet.Position {
	desired, _ := s.Sources.Desired(sync)
	at := make(map[string]fleet.Position, len(desired.Resources))
	for i := range desired.Resources {
		at[desired.Resources[i].ID()] = desired.Resources[i].Origin
	}
	return at
}
