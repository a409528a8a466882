package store_test

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

// record applies one commit of a sync that declares all of desired.
func record(t *testing.T, s *store.Store, sync string, action plan.ResourceAction, desired fleet.Desired) error {
	t.Helper()
	var changes []plan.ResourceChange
	for _, r := range desired.Resources {
		changes = append(changes, plan.ResourceChange{Kind: r.Kind, Name: r.Name, Action: action})
	}
	run := reconciler.Run{ID: "r", Sync: sync, Plan: plan.Plan{Commit: fleet.Commit{ID: "c1"}}}
	return s.Record(t.Context(), run, desired, changes)
}

func declared(value string) fleet.Desired {
	return fleet.Desired{
		Resources: []fleet.Resource{
			{Kind: "variable", Name: "TOKEN", Fields: []fleet.Field{{Path: "value", Keyed: "k"}}},
			{Kind: "server", Name: "alpha"},
			{Kind: "stack", Name: "web"},
		},
		Variables: []fleet.Variable{{Name: "TOKEN", Value: fleet.NewSecret(value), Secret: true}},
		Servers:   []fleet.Server{{Name: "alpha", Enabled: true, Tier: fleet.TierUntrusted}},
		Hooks:     []fleet.Hook{{Kind: "stack", Name: "web", Branch: "prod", Secret: fleet.NewSecret(value)}},
	}
}

func TestRecordsBelongToOneSync(t *testing.T) {
	t.Parallel()
	s := open(t, config(t, newClock()))
	for _, name := range []string{"a", "b"} {
		must(t, s.AddSync(t.Context(), api.SyncSpec{Name: name, URL: "https://example.org/" + name}))
	}
	must(t, record(t, s, "a", plan.ResourceCreate, declared("x")))
	own, foreign, err := s.Records(t.Context(), "a")
	must(t, err)
	if len(own) != 3 || own[2].ID() != "variable/TOKEN" || own[2].Field("value").Keyed != "k" {
		t.Errorf("a owns %+v", own)
	}
	if diff := cmp.Diff(map[string]string{"resource_sync/b": "b"}, foreign); diff != "" {
		t.Errorf("foreign to a (-want +got):\n%s", diff)
	}
	_, foreign, err = s.Records(t.Context(), "b")
	must(t, err)
	if foreign["variable/TOKEN"] != "a" || foreign["resource_sync/a"] != "a" {
		t.Errorf("foreign to b: %v", foreign)
	}
	if err := record(t, s, "b", plan.ResourceCreate, declared("y")); !errors.Is(err, store.ErrExists) {
		t.Errorf("b took what a owns: %v", err)
	}
	must(t, record(t, s, "b", plan.ResourceDelete, declared("y")))
	if own, _, err := s.Records(t.Context(), "a"); err != nil || len(own) != 3 {
		t.Errorf("b deleted what a owns: %v, %v", own, err)
	}
	// When its sync is gone, whoever declares a resource has it.
	must(t, s.RemoveSync(t.Context(), "a"))
	must(t, record(t, s, "b", plan.ResourceUpdate, declared("y")))
}

func TestOtherSyncsSeeWhatIsShared(t *testing.T) {
	t.Parallel()
	cfg := config(t, newClock())
	s := open(t, cfg)
	for _, name := range []string{"a", "b"} {
		must(t, s.AddSync(t.Context(), api.SyncSpec{Name: name, URL: "https://example.org/" + name}))
	}
	must(t, record(t, s, "a", plan.ResourceCreate, declared("canary-4")))
	shared, err := s.Shared(t.Context(), "b")
	must(t, err)
	if len(shared) != 3 || shared[0].Server.Tier != fleet.TierUntrusted || shared[1].Stack != "web" ||
		shared[2].Variable.Value.Reveal() != "canary-4" || !shared[2].Variable.Secret {
		t.Errorf("shared: %+v", shared)
	}
	if own, err := s.Shared(t.Context(), "a"); err != nil || len(own) != 0 {
		t.Errorf("a sees its own: %+v, %v", own, err)
	}
	sync, hook, err := s.Hook(t.Context(), "stack", "web")
	if err != nil || sync != "a" || hook.Branch != "prod" || hook.Secret.Reveal() != "canary-4" {
		t.Errorf("hook %s %+v, %v", sync, hook, err)
	}
	if _, _, err := s.Hook(t.Context(), "stack", "api"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a hook that is not there: %v", err)
	}
	must(t, s.Close())
	raw, err := os.ReadFile(cfg.Path)
	must(t, err)
	if bytes.Contains(raw, []byte("canary")) {
		t.Error("the database holds a secret in the clear")
	}
}

func TestADeclaredSyncIsItsDeclarersAlone(t *testing.T) {
	t.Parallel()
	s := open(t, config(t, newClock()))
	must(t, s.AddSync(t.Context(), api.SyncSpec{Name: "main", URL: "https://example.org/main", WebhookSecret: "made-up-one"}))
	spec := func(name string) api.SyncSpec {
		return api.SyncSpec{Name: name, URL: "https://example.org/" + name, Branch: "main"}
	}
	must(t, s.DeclareSync(t.Context(), "main", spec("apps"), fleet.SyncSpec{Name: "apps"}))
	must(t, s.DeclareSync(t.Context(), "main", spec("apps"), fleet.SyncSpec{Name: "apps", Description: "second"}))
	if err := s.DeclareSync(t.Context(), "apps", spec("main"), fleet.SyncSpec{Name: "main"}); !errors.Is(err, store.ErrExists) {
		t.Errorf("apps declared main: %v", err)
	}
	apps, err := s.Sync(t.Context(), "apps")
	must(t, err)
	if apps.DeclaredBy != "main" || apps.Declared.Description != "second" {
		t.Errorf("apps: %+v", apps)
	}
	// One that declares itself keeps its secret, and stays the administrator's.
	self := spec("main")
	self.IntervalSeconds = 90
	must(t, s.DeclareSync(t.Context(), "main", self, fleet.SyncSpec{Name: "main"}))
	main, err := s.Sync(t.Context(), "main")
	must(t, err)
	secret, err := s.WebhookSecret(t.Context(), "main")
	must(t, err)
	if main.DeclaredBy != "" || main.IntervalSeconds != 90 || secret.Reveal() != "made-up-one" {
		t.Errorf("main: %+v", main)
	}
	for name, want := range map[string]bool{"main": false, "apps": true} {
		if gone, err := s.UndeclareSync(t.Context(), "main", name); err != nil || gone != want {
			t.Errorf("removing %s: %t, %v", name, gone, err)
		}
	}
}
