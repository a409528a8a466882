package core_test

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/fakeengine"
	"github.com/varanhq/varan/internal/testutil/gitserver"
)

const template = `
[[server]]
name = "edge-template"
template = true
description = "a host at the edge"
tags = ["not-copied"]
[server.config]
links = ["https://edge.example.com"]
send_unreachable_alerts = false

[[variable]]
name = "IMAGE"
value = "app:edge"
server_tags = ["edge"]

[[stack]]
name = "web"
server_tags = ["edge"]
file_contents = "services: {app: {image: '[[IMAGE]]'}}"
`

func TestAServerThatJoinsIsWhatItsKeySays(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	srv := gitserver.New(t)
	// The template alone is valid before there is any server to run on.
	commit := srv.Commit(map[string]string{"fleet.toml": template}, "edge")
	r.addSync("main", srv)
	r.eventually("the commit is read", func() bool { return r.sync("main").State.Commit.ID == commit })
	var created api.OnboardingCreated
	r.eventually("the template is known", func() bool {
		var err error
		created, err = r.CreateOnboardingKey(t.Context(), api.OnboardingSpec{
			ServerGlob: "edge-*", Tags: []string{"edge"}, CopyServer: "edge-template", CIDRs: []string{"127.0.0.0/8"},
		})
		return err == nil
	})
	engine := r.joinWith("edge-1", created.Token)
	r.eventually("tags choose the server and the variable", func() bool {
		orders := engine.Orders()
		return len(orders) > 0 && orders[0].Release.Services[0].Image == "app:edge"
	})
	servers, err := r.Servers(t.Context())
	must(t, err)
	at := slices.IndexFunc(servers, func(s api.Server) bool { return s.Name == "edge-1" })
	if at < 0 || servers[at].Declared || !slices.Equal(servers[at].Tags, []string{"edge"}) || servers[at].RemoteAddr != "127.0.0.1" {
		t.Errorf("servers %+v", servers)
	}
	exported, err := r.Export(t.Context())
	must(t, err)
	_, text, _ := strings.Cut(exported.TOML, "[[server]]\nname = \"edge-1\"\n")
	text, _, _ = strings.Cut(text, "[[")
	for _, want := range []string{`description = "a host at the edge"`, `tags = ["edge"]`, `send_unreachable_alerts = false`, "https://edge.example.com"} {
		if !strings.Contains(text, want) {
			t.Errorf("the export of the server lacks %s:\n%s", want, exported.TOML)
		}
	}
}

// joinWith starts an agent with a token over a host in memory.
func (r *rig) joinWith(server string, token api.WriteOnly) *fakeengine.Engine {
	r.t.Helper()
	engine := fakeengine.New(server)
	r.serve(agent.Config{
		Dir: r.t.TempDir(), Server: server, Cores: []string{r.BaseURL},
		OnboardingToken: token.Secret(), Engine: engine, Logger: slog.New(slog.DiscardHandler),
	})
	return engine
}

func TestO07NothingIsGivenToAServerThatWaits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	srv := gitserver.New(t)
	srv.Commit(map[string]string{"fleet.toml": inline("web", "alpha", "app:1", "") + server}, "one")
	r.addSync("main", srv)
	created, err := r.CreateOnboardingKey(t.Context(), api.OnboardingSpec{ServerGlob: "alpha", Approval: true, Tier: fleet.TierTrusted})
	must(t, err)
	engine := r.joinWith("alpha", created.Token)
	r.eventually("alpha waits", func() bool {
		s, err := r.Server(t.Context(), "alpha")
		return err == nil && s.Pending
	})
	if s, err := r.Server(t.Context(), "alpha"); err != nil || s.Online || len(engine.Orders()) > 0 {
		t.Errorf("before it is approved: %+v, %v, %d orders", s, err, len(engine.Orders()))
	}
	must(t, r.ApproveServer(t.Context(), "alpha"))
	r.eventually("alpha connects by itself", func() bool { return len(engine.Orders()) > 0 })
	var refusal *api.Error
	if err := r.RejectServer(t.Context(), "alpha"); !errors.As(err, &refusal) || refusal.Code != api.CodeConflict {
		t.Errorf("rejecting an approved server: %v", err)
	}
}

func TestP12AHostThatSaysItIsUntrustedIsPlannedForAsSuch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	srv := gitserver.New(t)
	srv.Commit(map[string]string{"fleet.toml": inline("web", "alpha", "app:1", "") + server}, "one")
	created, err := r.CreateOnboardingKey(t.Context(), api.OnboardingSpec{})
	must(t, err)
	engine := fakeengine.New("alpha")
	r.serve(agent.Config{
		Dir: t.TempDir(), Server: "alpha", Cores: []string{r.BaseURL}, Tier: fleet.TierUntrusted,
		OnboardingToken: created.Token.Secret(), Engine: engine, Logger: slog.New(slog.DiscardHandler),
	})
	r.eventually("alpha connects", func() bool {
		s, err := r.Server(t.Context(), "alpha")
		return err == nil && s.Online
	})
	r.addSync("main", srv)
	r.eventually("the commit is refused for an untrusted server", func() bool {
		return slices.ContainsFunc(r.sync("main").State.Diagnostics, func(d fleet.Diagnostic) bool {
			return strings.Contains(d.Message, "is untrusted")
		})
	})
	if orders := engine.Orders(); len(orders) > 0 {
		t.Errorf("it was given %+v", orders)
	}
}
