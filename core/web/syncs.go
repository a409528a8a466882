package web

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/reconciler"
)

const (
	defaultBranch      = "main"
	defaultInterval    = 60
	minInterval        = 5
	defaultMaxRemovals = 3
)

func (s *server) registerSyncs(a huma.API) {
	handle(s, a, route(http.MethodGet, "/syncs", "listSyncs", "Syncs by name"),
		func(ctx context.Context, _ *none) ([]api.Sync, error) {
			syncs, err := s.Store.Syncs(ctx)
			for i := range syncs {
				syncs[i] = s.source(syncs[i]).sync
			}
			return syncs, err
		})
	handle(s, a, route(http.MethodGet, "/syncs/{name}", "getSync", "One sync"),
		func(ctx context.Context, in *named) (api.Sync, error) {
			sync, err := s.syncNamed(ctx, in.Name)
			if err != nil {
				return sync, err
			}
			return s.source(sync).sync, nil
		})
	handle(s, a, route(http.MethodPost, "/syncs", "addSync", "Watch a repository"), s.addSync)
	act(s, a, route(http.MethodDelete, "/syncs/{name}", "removeSync", "Stop watching; what was deployed stays"), s.removeSync)
	handle(s, a, route(http.MethodPost, "/syncs/{name}/run", "runSync", "Look at the repository now"), s.runSync)
}

// syncNamed reads a sync, or says which names come close.
func (s *server) syncNamed(ctx context.Context, name string) (api.Sync, error) {
	syncs, err := s.Store.Syncs(ctx)
	if err != nil {
		return api.Sync{}, err
	}
	names := make([]string, 0, len(syncs))
	for _, sync := range syncs {
		if sync.Name == name {
			return sync, nil
		}
		names = append(names, sync.Name)
	}
	return api.Sync{}, notFound(fmt.Sprintf("there is no sync %q", name), didYouMean(name, names))
}

func (s *server) addSync(ctx context.Context, in *body[api.SyncSpec]) (api.SyncCreated, error) {
	spec := in.Body
	if !validName(spec.Name) {
		return api.SyncCreated{}, badName("sync", spec.Name)
	}
	spec.Branch = cmp.Or(spec.Branch, defaultBranch)
	spec.IntervalSeconds = max(cmp.Or(spec.IntervalSeconds, defaultInterval), minInterval)
	spec.MaxRemovals = cmp.Or(spec.MaxRemovals, defaultMaxRemovals)
	if spec.WebhookSecret == "" {
		spec.WebhookSecret = api.WriteOnly(rand.Text())
	}
	if len(spec.WebhookSecret) < minHookSecret {
		return api.SyncCreated{}, badRequest(
			fmt.Sprintf("the webhook secret is shorter than %d characters", minHookSecret), "leave it out and core makes one up")
	}
	if err := s.Sources.Check(spec); err != nil {
		return api.SyncCreated{}, err
	}
	if err := s.Store.AddSync(ctx, spec); err != nil {
		return api.SyncCreated{}, err
	}
	s.record(ctx, api.Event{Kind: "sync", Sync: spec.Name, Text: fmt.Sprintf("sync added: branch %s of %s", spec.Branch, spec.URL)})
	s.Reconciler.Add(reconciler.SyncSettings{Name: spec.Name, Interval: time.Duration(spec.IntervalSeconds) * time.Second})
	sync, err := s.Store.Sync(ctx, spec.Name)
	if err != nil {
		return api.SyncCreated{}, err
	}
	escaped := url.PathEscape(spec.Name)
	return api.SyncCreated{
		Sync: s.source(sync).sync, WebhookSecret: spec.WebhookSecret,
		WebhookPaths: map[string]string{
			"github": "/listener/github/sync/" + escaped + "/sync",
			"gitlab": "/listener/gitlab/sync/" + escaped + "/sync",
		},
	}, nil
}

func (s *server) removeSync(ctx context.Context, in *named) error {
	if _, err := s.syncNamed(ctx, in.Name); err != nil {
		return err
	}
	if err := s.Store.RemoveSync(ctx, in.Name); err != nil {
		return err
	}
	s.Reconciler.Remove(in.Name)
	s.Sources.Forget(in.Name)
	s.record(ctx, api.Event{Kind: "sync", Sync: in.Name, Text: "sync removed; what it deployed stays"})
	return nil
}

func (s *server) runSync(ctx context.Context, in *named) (api.SyncRun, error) {
	if _, err := s.syncNamed(ctx, in.Name); err != nil {
		return api.SyncRun{}, err
	}
	coalesced := s.Reconciler.Poke(in.Name, reconciler.TriggerManual, auth.ActorOf(ctx).Name)
	return api.SyncRun{Sync: in.Name, Coalesced: coalesced}, nil
}

// validName reports whether a name can be that of a sync or a server.
func validName(name string) bool {
	ok, _ := regexp.MatchString(`^[A-Za-z0-9][A-Za-z0-9_. -]{0,62}$`, name)
	return ok
}

func badName(what, name string) *api.Error {
	return badRequest(fmt.Sprintf("%q cannot be the name of a %s", name, what),
		"use a letter or digit, then up to 62 letters, digits, dots, dashes, underscores or spaces")
}
