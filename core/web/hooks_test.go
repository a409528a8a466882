package web_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

// declare records stacks and repos of the sync "main" with their webhooks.
func (f *fixture) declare(t *testing.T, hooks ...fleet.Hook) {
	t.Helper()
	desired := fleet.Desired{Hooks: hooks}
	var changes []plan.ResourceChange
	for _, h := range hooks {
		desired.Resources = append(desired.Resources, fleet.Resource{Kind: h.Kind, Name: h.Name})
		changes = append(changes, plan.ResourceChange{Kind: h.Kind, Name: h.Name, Action: plan.ResourceCreate})
	}
	must(t, f.store.Record(t.Context(), reconciler.Run{ID: "r", Sync: "main"}, desired, changes))
}

func pushTo(path, secret, ref string) hook {
	h := githubPush(secret, `{"ref":"refs/heads/`+ref+`"}`)
	h.path = path
	return h
}

func TestAStackHasAWebhookOfItsOwn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSync(t, false)
	f.declare(t, fleet.Hook{Kind: "stack", Name: "web", Branch: "prod", Secret: fleet.NewSecret("of-the-stack")},
		fleet.Hook{Kind: "repo", Name: "conf"})
	status, body := f.deliver(t, pushTo("/listener/github/stack/web/deploy", "of-the-stack", "prod"))
	if a := accepted(t, status, body); !a.Accepted || a.Action != "sync" || !strings.Contains(a.Reason, "the stack will be planned and applied") {
		t.Errorf("%+v", a)
	}
	status, body = f.deliver(t, pushTo("/listener/github/stack/web/deploy", "of-the-stack", "dev"))
	if a := accepted(t, status, body); a.Accepted || !strings.Contains(a.Reason, "the stack follows branch prod") {
		t.Errorf("%+v", a)
	}
	status, body = f.deliver(t, pushTo("/listener/github/stack/web/refresh", "of-the-stack", "prod"))
	if a := accepted(t, status, body); a.Action != "refresh" {
		t.Errorf("%+v", a)
	}
	status, body = f.deliver(t, pushTo("/listener/github/repo/conf/pull", "default-secret", "main"))
	if a := accepted(t, status, body); a.Action != "sync" {
		t.Errorf("%+v", a)
	}
	// A stack alone is applied by a sync that only plans, and nothing else with it.
	if diff := cmp.Diff([]string{"main: stack/web", "main: repo/conf"}, f.loop.applied); diff != "" {
		t.Errorf("applied (-want +got):\n%s", diff)
	}
	for name, h := range map[string]hook{
		"wrong secret":      pushTo("/listener/github/stack/web/deploy", "default-secret", "prod"),
		"no such stack":     pushTo("/listener/github/stack/api/deploy", "default-secret", "prod"),
		"a stack as a repo": pushTo("/listener/github/repo/web/pull", "of-the-stack", "prod"),
	} {
		if status, _ := f.deliver(t, h); status != http.StatusUnauthorized {
			t.Errorf("%s: status %d", name, status)
		}
	}
	if status, _ := f.deliver(t, pushTo("/listener/github/stack/web/pull", "of-the-stack", "prod")); status != http.StatusNotFound {
		t.Errorf("an action that stacks do not have: status %d", status)
	}
}

func TestAForcedWebhookDeploysThoughNothingChanged(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSync(t, false)
	f.declare(t, fleet.Hook{Kind: "stack", Name: "web", Secret: fleet.NewSecret("of-the-stack"), Force: true})
	deploy := pushTo("/listener/github/stack/web/deploy", "of-the-stack", "main")
	status, body := f.deliver(t, deploy)
	if a := accepted(t, status, body); a.Action != "deploy" || !strings.Contains(a.Reason, "whether it changed or not") {
		t.Errorf("%+v", a)
	}
	f.deliver(t, deploy) // again, which must not deploy again
	f.deliver(t, pushTo("/listener/github/stack/web/refresh", "of-the-stack", "main"))
	f.deliver(t, pushTo("/listener/github/stack/web/deploy", "of-the-stack", "dev"))
	if len(f.ops.started) != 1 || f.ops.started[0].Execution.Type != "DeployStack" || f.ops.started[0].Execution.Text("stack") != "web" {
		t.Errorf("ran %+v", f.ops.started)
	}
}

func TestADeclaredSyncTakesCoresDefaultSecret(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSync(t, false)
	declare := func(name string, spec fleet.SyncSpec) {
		spec.Name = name
		settings := api.SyncSpec{Name: name, Branch: "main", WebhookSecret: api.WriteOnly(spec.WebhookSecret.Reveal())}
		must(t, f.store.DeclareSync(t.Context(), "main", settings, spec))
	}
	declare("plain", fleet.SyncSpec{})
	declare("own", fleet.SyncSpec{WebhookSecret: fleet.NewSecret("its-own-one")})
	declare("off", fleet.SyncSpec{NoWebhook: true})
	for path, want := range map[string]struct {
		secret string
		status int
	}{
		"/listener/github/sync/plain/sync": {"default-secret", http.StatusAccepted},
		"/listener/github/sync/own/sync":   {"its-own-one", http.StatusAccepted},
		"/listener/github/sync/off/sync":   {"default-secret", http.StatusUnauthorized},
		"/listener/github/sync/main/sync":  {"default-secret", http.StatusUnauthorized},
	} {
		if status, body := f.deliver(t, pushTo(path, want.secret, "main")); status != want.status {
			t.Errorf("%s: status %d %s", path, status, body)
		}
	}
}

func TestARefusedWebhookSaysWhereItsSecretIs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSync(t, false)
	for path, want := range map[string]string{
		"/listener/github/sync/main/sync":    "varan sync add showed the secret once",
		"/listener/github/stack/none/deploy": "the webhook_secret that the stack declares, or core's own",
	} {
		if status, body := f.deliver(t, pushTo(path, "wrong-secret", "main")); status != http.StatusUnauthorized || !strings.Contains(body, want) {
			t.Errorf("%s: status %d %s", path, status, body)
		}
	}
}

func TestResourcesAreListedByKind(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSync(t, false)
	f.declare(t, fleet.Hook{Kind: "stack", Name: "web"}, fleet.Hook{Kind: "repo", Name: "conf"})
	f.sources.desired["main"] = fleet.Desired{Resources: []fleet.Resource{
		{Kind: "stack", Name: "web", Origin: fleet.Position{File: "moved.toml", Line: 7}},
	}}
	all, err := f.Resources(t.Context(), "")
	must(t, err)
	if len(all) != 2 || all[0].ID() != "repo/conf" || all[1].Sync != "main" {
		t.Errorf("%+v", all)
	}
	web, err := f.Resource(t.Context(), "stack", "web")
	must(t, err)
	if web.Origin.String() != "moved.toml:7" {
		t.Errorf("declared at %s", web.Origin)
	}
	_, err = f.Resource(t.Context(), "stack", "wbe")
	wantError(t, err, http.StatusNotFound, api.CodeNotFound)
	_, err = f.Pending(t.Context(), "main")
	wantError(t, err, http.StatusServiceUnavailable, api.CodeUnavailable)
}
