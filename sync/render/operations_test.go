package render_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/render"
)

const operations = `
[[server]]
name = "alpha"
[server.config]
send_unreachable_alerts = false
maintenance_windows = [{ name = "patch day", schedule_type = "Weekly", day_of_week = "sunday", hour = 3, duration_minutes = 60, timezone = "Europe/Amsterdam" }]

[[procedure]]
name = "deploy-all"
tags = ["deploy"]
[procedure.config]
webhook_secret = "[[HOOK]]"
failure_alert = false
[[procedure.config.stage]]
name = "Proxy"
executions = [ { execution.type = "Sleep", execution.params.duration_ms = 5 }, { execution.type = "RunSync", execution.sync = "x", enabled = false } ]

[[procedure]]
name = "blueprint"
template = true

[[alerter]]
name = "chat"
[alerter.config]
enabled = true
alert_types = ["ServerUnreachable"]
resources = [{ type = "ResourceSync", id = "x" }]
except_resources = [{ type = "Server", id = "alpha" }]
endpoint = { type = "Slack", params = { url = "https://hooks.example/[[TOKEN]]" } }

[[resource_sync]]
name = "x"
[resource_sync.config]
repo = "a/b"
pending_alert = false
`

func TestProceduresAndAlertersComeWithTheTree(t *testing.T) {
	t.Parallel()
	in := input(t, repo{"ops.toml": operations}, "c1")
	in.Variables = []render.Variable{
		{Name: "HOOK", Value: "hook-secret", Secret: true}, {Name: "TOKEN", Value: "canary", Secret: true},
	}
	out := mustRender(t, newRenderer(), in)
	if len(out.Desired.Procedures) != 1 || len(out.Desired.Alerters) != 1 {
		t.Fatalf("got %+v", out.Desired)
	}
	p, a := out.Desired.Procedures[0], out.Desired.Alerters[0]
	if p.WebhookSecret.Reveal() != "hook-secret" || a.Endpoint.URL.Reveal() != "https://hooks.example/canary" {
		t.Error("the references in secrets are not filled in")
	}
	want := fleet.Procedure{Name: "deploy-all", Tags: []string{"deploy"}, Webhook: true, Stages: []fleet.Stage{{
		Name: "Proxy", Enabled: true, Executions: []fleet.Execution{
			{Type: "Sleep", Enabled: true, Params: []fleet.Param{{Name: "duration_ms", Int: 5}}},
			{Type: "RunSync", Params: []fleet.Param{{Name: "sync", Text: "x"}}},
		},
	}}}
	plain := cmp.Options{cmpopts.IgnoreTypes(fleet.Secret{}, fleet.Position{})}
	if diff := cmp.Diff(want, p, plain); diff != "" {
		t.Error(diff)
	}
	wantAlerter := fleet.Alerter{
		Name: "chat", Enabled: true, Endpoint: fleet.Endpoint{Type: fleet.EndpointSlack}, Types: []string{"ServerUnreachable"},
		Resources: []fleet.ResourceName{{Kind: "resource_sync", Name: "x"}}, Except: []fleet.ResourceName{{Kind: "server", Name: "alpha"}},
	}
	if diff := cmp.Diff(wantAlerter, a, plain); diff != "" {
		t.Error(diff)
	}
	s, _ := out.Desired.Server("alpha")
	if !s.Quiet || len(s.Maintenance) != 1 || s.Maintenance[0].Minutes != 60 || !out.Desired.Syncs[0].QuietPending {
		t.Errorf("server %+v, sync %+v", s, out.Desired.Syncs[0])
	}
}

func TestWrongAlertersAndWindowsAreFound(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"alert_types = [\"ServerUnreachabel\"]":                                                   "alert-type",
		"endpoint = { type = \"Slack\", params = { url = \"ftp://canary\" } }":                    "alerter-url",
		"endpoint = { type = \"Slack\", params = { url = \"\" } }":                                "alerter-url",
		"endpoint = { type = \"Slack\", params = { url = \"https://x/[[NONE]]\" } }":              "undefined-variable",
		"maintenance_windows = [{ schedule_type = \"Weekly\", day_of_week = \"Caturday\" }]":      "maintenance-window",
		"maintenance_windows = [{ schedule_type = \"OneTime\", date = \"24.12.2026\" }]":          "maintenance-window",
		"maintenance_windows = [{ hour = 24, duration_minutes = 1 }]":                             "maintenance-window",
		"maintenance_windows = [{ timezone = \"Mars/Olympus\", duration_minutes = 1, hour = 1 }]": "maintenance-window",
	} {
		file := "[[alerter]]\nname = \"a\"\n[alerter.config]\nenabled = true\n" + text + "\n"
		if !strings.Contains(text, "endpoint") {
			file += "endpoint = { type = \"Custom\", params = { url = \"http://127.0.0.1:1\" } }\n"
		}
		out, err := newRenderer().Render(t.Context(), input(t, repo{"ops.toml": file}, "c1"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, d := range out.Diagnostics {
			found = found || d.Rule == want && d.Severity == fleet.SeverityError && d.Line > 0
			if strings.Contains(d.Message, "canary") {
				t.Errorf("%s repeats the address: %s", text, d)
			}
		}
		if !found {
			t.Errorf("%s: %v, want %s", text, out.Diagnostics, want)
		}
	}
}

func TestAnAddressThatOnlyCoreKnowsIsNoFault(t *testing.T) {
	t.Parallel()
	in := input(t, repo{"ops.toml": "[[alerter]]\nname = \"a\"\n[alerter.config]\nenabled = true\n" +
		"endpoint = { type = \"Discord\", params = { url = \"[[HOOK]]\" } }\n"}, "c1")
	in.Offline, in.Variables = true, nil
	out := mustRender(t, newRenderer(), in)
	if out.Diagnostics.HasErrors() {
		t.Error(out.Diagnostics)
	}
	wantFinding(t, out.Diagnostics, fleet.SeverityNote, "undefined-variable", "ops.toml:5:14")
}
