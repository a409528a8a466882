package web_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/procedure"
)

// operations stands in for the runner and the alerters.
type operations struct {
	updates  []api.Update
	checked  []api.UpdateRequest
	declared []fleet.Procedure
	alerters []fleet.Alerter
	started  []procedure.Request
	canceled []string
	decided  []string
	refuse   error
	status   procedure.Status
	waits    bool
	tests    error
}

func (o *operations) Start(_ context.Context, req procedure.Request) (procedure.Run, bool, error) {
	if o.refuse != nil {
		return procedure.Run{}, false, o.refuse
	}
	o.started = append(o.started, req)
	run := procedure.Run{ID: "r1", Procedure: req.Procedure, Status: procedure.StatusRunning, Started: time.Unix(1, 0)}
	if req.Watch != nil {
		step := procedure.Step{Number: 1, Type: "None", Status: procedure.StatusSucceeded}
		req.Watch(procedure.Event{Kind: procedure.EventQueued, ID: "r1"})
		req.Watch(procedure.Event{Kind: procedure.EventStepEnded, ID: "r1", Step: &step})
		run.Status, run.Ended, run.Steps = o.status, time.Unix(2, 0), []procedure.Step{step}
		req.Watch(procedure.Event{Kind: procedure.EventEnded, ID: "r1", Run: &run})
	}
	return run, o.waits && req.Coalesce, nil
}

func (*operations) Zone() string { return "Europe/Berlin" }

func (*operations) ProceduresChanged() {}

func (o *operations) Cancel(name, _ string) int {
	o.canceled = append(o.canceled, name)
	return 1
}

func (o *operations) Decide(_ context.Context, name string, d procedure.Decision) (procedure.Run, error) {
	o.decided = append(o.decided, fmt.Sprintf("%s %t %s %s", name, d.Approve, d.Actor, d.Reason))
	return procedure.Run{ID: "r1", Status: procedure.StatusRunning}, o.refuse
}

func (o *operations) Declared(context.Context) ([]fleet.Procedure, map[string]string, error) {
	sources := map[string]string{}
	for _, p := range o.declared {
		sources[p.Name] = "main"
	}
	return o.declared, sources, nil
}

func (*operations) Execution(typ string, params map[string]string) (fleet.Execution, error) {
	x := fleet.Execution{Type: typ, Enabled: true}
	for name, text := range params {
		x.Params = append(x.Params, fleet.Param{Name: name, Text: text})
	}
	return x, nil
}

// Updates and Check stand in for the search for newer images.
func (o *operations) Updates(context.Context) ([]api.Update, error) { return o.updates, nil }

func (o *operations) Check(_ context.Context, req api.UpdateRequest) (api.UpdateResult, error) {
	o.checked = append(o.checked, req)
	return api.UpdateResult{Updates: o.updates}, nil
}

func (o *operations) Alerters(context.Context) ([]fleet.Alerter, error) { return o.alerters, nil }

func (o *operations) Test(context.Context, string) error { return o.tests }

func TestAProcedureIsRunAndFollowed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ops.status = procedure.StatusFailed
	f.ops.declared = []fleet.Procedure{{Name: "nightly", Webhook: true, Stages: []fleet.Stage{{Name: "s"}}}}
	var kinds []string
	run, err := f.RunProcedure(t.Context(), "nightly", api.RunRequest{}, func(e api.ProcedureEvent) error {
		kinds = append(kinds, e.Kind)
		return nil
	})
	must(t, err)
	if run.Status != api.ProcedureFailed || len(run.Steps) != 1 || strings.Join(kinds, " ") != "queued step_ended ended" {
		t.Errorf("run %+v, heard %v", run, kinds)
	}
	if req := f.ops.started[0]; req.Actor != "ada" || req.Procedure != "nightly" || req.Coalesce {
		t.Errorf("asked for %+v", req)
	}
	detached, err := f.RunExecution(t.Context(), api.ExecutionRequest{Type: "DeployStack", Params: map[string]string{"stack": "web"}, Detach: true},
		func(api.ProcedureEvent) error { return nil })
	must(t, err)
	if detached.ID != "r1" || f.ops.started[1].Execution.Text("stack") != "web" {
		t.Errorf("detached %+v, asked for %+v", detached, f.ops.started[1])
	}
	if _, err := f.RunProcedure(t.Context(), "nightyl", api.RunRequest{}, nil); err == nil ||
		wantError(t, err, http.StatusNotFound, api.CodeNotFound).Hint != "did you mean nightly?" {
		t.Errorf("err %v", err)
	}
	f.ops.refuse = fmt.Errorf("%w: nightly → nightly", procedure.ErrLoop)
	_, err = f.RunProcedure(t.Context(), "nightly", api.RunRequest{}, nil)
	wantError(t, err, http.StatusUnprocessableEntity, api.CodeInvalid)
	if n, err := f.CancelProcedure(t.Context(), "nightly"); err != nil || n.Runs != 1 {
		t.Errorf("canceled %v, %v", n, err)
	}
	list, err := f.Procedures(t.Context())
	must(t, err)
	if len(list) != 1 || list[0].Source != "main" || !list[0].Webhook {
		t.Errorf("listed %+v; core's secret is its webhook's", list)
	}
}

func TestProcedureWebhooks(t *testing.T) {
	t.Parallel()
	const secret = "a webhook secret"
	push := func(branch string) string { return fmt.Sprintf(`{"ref":"refs/heads/%s"}`, branch) }
	for _, tc := range []struct {
		name, path  string
		body        string
		key, event  string
		gitlab      bool
		status      int
		runs        int
		reason      string
		switchedOff bool
	}{
		{name: "a push to the branch", path: "github/procedure/nightly/main", body: push("main"), status: 202, runs: 1, reason: "branch main was pushed; the procedure will be run"},
		{name: "a branch with a slash", path: "github/procedure/nightly/release/1", body: push("release/1"), status: 202, runs: 1, reason: "branch release/1"},
		{name: "any branch", path: "github/procedure/nightly/__ANY__", body: push("dev"), status: 202, runs: 1, reason: "branch dev was pushed"},
		{name: "GitLab", path: "gitlab/procedure/nightly/main", body: push("main"), gitlab: true, status: 202, runs: 1, reason: "branch main"},
		{name: "another branch", path: "github/procedure/nightly/main", body: push("dev"), status: 202, reason: "the procedure follows branch main"},
		{name: "a tag", path: "github/procedure/nightly/__ANY__", body: `{"ref":"refs/tags/v1"}`, status: 202, reason: "is a tag"},
		{name: "a ping", path: "github/procedure/nightly/main", body: `{}`, event: "ping", status: 202, reason: "ping"},
		{name: "a wrong secret", path: "github/procedure/nightly/main", body: push("main"), key: "another secret", status: 401},
		{name: "core's secret", path: "github/procedure/open/main", body: push("main"), key: "default-secret", status: 202, runs: 1},
		{name: "core's secret at GitLab", path: "gitlab/procedure/open/__ANY__", body: push("x"), gitlab: true, key: "default-secret", status: 202, runs: 1},
		{name: "core's secret where there is one of its own", path: "github/procedure/nightly/main", body: push("main"), key: "default-secret", status: 401},
		{name: "another's secret", path: "github/procedure/open/main", body: push("main"), key: "", status: 401},
		{name: "an empty token", path: "gitlab/procedure/open/main", body: push("main"), gitlab: true, key: "-", status: 401},
		{name: "no such procedure", path: "github/procedure/none/main", body: push("main"), status: 401},
		{name: "switched off", path: "github/procedure/nightly/main", body: push("main"), status: 401, switchedOff: true},
		{name: "no branch", path: "github/procedure/nightly/", body: push("main"), status: 404},
		{name: "another host", path: "bitbucket/procedure/nightly/main", body: push("main"), status: 404},
		{name: "no JSON", path: "github/procedure/nightly/main", body: `{`, status: 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.ops.declared = []fleet.Procedure{
				{Name: "nightly", Webhook: !tc.switchedOff, WebhookSecret: fleet.NewSecret(secret)}, {Name: "open", Webhook: true},
			}
			key := secret
			if tc.key != "" {
				key = strings.TrimPrefix(tc.key, "-")
			}
			h := hook{path: "/listener/" + tc.path, body: tc.body, header: http.Header{"X-Hub-Signature-256": {sign(key, tc.body)}}}
			if tc.event != "" {
				h.header.Set("X-Github-Event", tc.event)
			}
			if tc.gitlab {
				h.header = http.Header{"X-Gitlab-Token": {key}}
			}
			status, answer := f.deliver(t, h)
			if status != tc.status || len(f.ops.started) != tc.runs || !strings.Contains(answer, tc.reason) {
				t.Errorf("%d %s with %d runs, want %d, %d and %q", status, answer, len(f.ops.started), tc.status, tc.runs, tc.reason)
			}
			events, err := f.store.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 10}})
			must(t, err)
			if tc.status == http.StatusUnauthorized && len(events) > 0 {
				t.Errorf("an unknown sender wrote %+v", events)
			}
			if tc.runs == 0 {
				return
			}
			if req := f.ops.started[0]; !req.Coalesce || req.Actor != "webhook" {
				t.Errorf("asked for %+v", req)
			}
			if status, answer := f.deliver(t, h); status != 202 || len(f.ops.started) != 1 || !strings.Contains(answer, "duplicate") {
				t.Errorf("a replay: %d %s, %d runs", status, answer, len(f.ops.started))
			}
		})
	}
}

func TestAWebhookTellsAProcedureWhatItAsksFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ops.declared = []fleet.Procedure{
		{Name: "asks", Webhook: true, Inputs: []fleet.Input{{Name: "WEBHOOK_BRANCH"}, {Name: "WEBHOOK_BODY"}, {Name: "other", Default: "x"}}},
		{Name: "silent", Webhook: true},
	}
	body := `{"ref":"refs/heads/release/1","n":1}`
	for _, name := range []string{"asks", "silent"} {
		h := githubPush("default-secret", body)
		h.path = "/listener/github/procedure/" + name + "/__ANY__"
		if status, answer := f.deliver(t, h); status != http.StatusAccepted {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
	want := []map[string]string{{"WEBHOOK_BRANCH": "release/1", "WEBHOOK_BODY": body}, {}}
	got := []map[string]string{f.ops.started[0].Inputs, f.ops.started[1].Inputs}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestARunThatWaitsIsDecided(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	run, err := f.DecideProcedure(t.Context(), "r1", api.DecisionRequest{Approve: true, Reason: "looks good"})
	must(t, err)
	_, err = f.DecideProcedure(t.Context(), "nightly", api.DecisionRequest{})
	must(t, err)
	if diff := cmp.Diff([]string{"r1 true ada looks good", "nightly false ada "}, f.ops.decided); diff != "" || run.ID != "r1" {
		t.Errorf("run %+v:\n%s", run, diff)
	}
	for refused, want := range map[error]int{
		procedure.ErrNotWaiting: http.StatusConflict, procedure.ErrAmbiguous: http.StatusConflict, procedure.ErrNotApprover: http.StatusForbidden,
	} {
		f.ops.refuse = refused
		if _, err := f.DecideProcedure(t.Context(), "r1", api.DecisionRequest{}); err == nil || wantStatus(err) != want {
			t.Errorf("%v: %v", refused, err)
		}
	}
	f.ops.declared = []fleet.Procedure{{Name: "nightly"}}
	f.ops.refuse = fmt.Errorf("%w: input \"X\": it must be given", procedure.ErrInputs)
	if _, err := f.RunProcedure(t.Context(), "nightly", api.RunRequest{Inputs: map[string]string{"Y": "1"}}, nil); wantStatus(err) != http.StatusBadRequest {
		t.Errorf("wrong inputs: %v", err)
	}
}

// wantStatus is the status of an answer that is an error; 0 for anything else.
func wantStatus(err error) int {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return e.Status
	}
	return 0
}

func TestAlertersAreTested(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ops.alerters = []fleet.Alerter{{Name: "chat", Endpoint: fleet.Endpoint{Type: fleet.EndpointSlack, URL: fleet.NewSecret("https://canary")}}}
	must(t, f.TestAlerter(t.Context(), "chat"))
	list, err := f.Alerters(t.Context())
	must(t, err)
	if diff := cmp.Diff([]api.Alerter{{Name: "chat", Type: "Slack"}}, list); diff != "" {
		t.Error(diff)
	}
	f.ops.tests = fmt.Errorf("the endpoint answered 500")
	if e := wantError(t, f.TestAlerter(t.Context(), "chat"), http.StatusBadGateway, api.CodeConflict); !strings.Contains(e.Message, "500") {
		t.Errorf("err %v", e)
	}
	wantError(t, f.TestAlerter(t.Context(), "chats"), http.StatusNotFound, api.CodeNotFound)
	if alerts, err := f.Alerts(t.Context(), false, 5); err != nil || len(alerts) != 0 {
		t.Errorf("alerts %v, %v", alerts, err)
	}
}
