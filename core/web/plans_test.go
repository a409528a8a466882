package web_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
	"github.com/varanhq/varan/wire"
)

func webOp() plan.Op {
	return plan.Op{
		ID: "update web@alpha", Kind: plan.OpUpdate, Stack: "web", Server: "alpha",
		Origin: fleet.Position{File: "stacks.toml", Line: 3, Col: 1},
		Causes: []plan.Cause{{Kind: plan.CauseField, Text: "the release changed"}},
		Services: []plan.ServiceChange{{
			Service: "app", Action: plan.ActionRecreate, Causes: []plan.Cause{{
				Kind: plan.CauseField, Field: "image", From: "a:1", To: "a:2",
				Origin: fleet.Position{File: "web/compose.yaml", Line: 4, Col: 12},
			}},
		}},
	}
}

func TestPlanAnswersWithThePlanOrTheDiagnostics(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSync(t, false)
	f.loop.plan = plan.Plan{ID: "p1", Sync: "main", Ops: []plan.Op{webOp()}}
	f.loop.diagnostics = fleet.Diagnostics{{Rule: "r", Severity: fleet.SeverityWarning, Message: "hm"}}
	result, err := f.Plan(t.Context(), "main", api.PlanRequest{Only: []string{"web"}, Refresh: true})
	must(t, err)
	if diff := cmp.Diff(f.loop.plan, result.Plan); diff != "" || len(result.Diagnostics) != 1 {
		t.Errorf("plan (-want +got):\n%s, %v", diff, result.Diagnostics)
	}
	if !f.loop.planned.Refresh || f.loop.planned.Only[0] != "web" {
		t.Errorf("asked for %+v", f.loop.planned)
	}
	f.loop.diagnostics[0].Severity = fleet.SeverityError
	_, err = f.Plan(t.Context(), "main", api.PlanRequest{})
	if e := wantError(t, err, http.StatusUnprocessableEntity, api.CodeInvalid); len(e.Diagnostics) != 1 {
		t.Errorf("diagnostics %v", e.Diagnostics)
	}
	f.loop.diagnostics, f.loop.err = nil, errors.New("password hunter2 was wrong")
	_, err = f.Plan(t.Context(), "main", api.PlanRequest{})
	if e := wantError(t, err, http.StatusInternalServerError, api.CodeInternal); strings.Contains(e.Message, "hunter2") {
		t.Errorf("an internal error reaches the client: %v", e)
	}
}

func TestAnUploadedDirectoryIsPlannedInPlaceOfItsSync(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	files, err := api.Pack(fstest.MapFS{
		"stacks.toml":    {Data: []byte("x")},
		"bin/run":        {Data: []byte{0, 0xff}, Mode: 0o755},
		".git/config":    {Data: []byte("secret")},
		"web/.git/index": {Data: []byte("secret")},
	})
	must(t, err)
	_, err = f.PlanUpload(t.Context(), api.UploadRequest{Files: files})
	must(t, err)
	if f.loop.planned.Sync != "" || f.loop.planned.Desired == nil {
		t.Errorf("without syncs: asked for %+v", f.loop.planned)
	}
	want := map[string]api.UploadFile{"stacks.toml": {Data: []byte("x")}, "bin/run": {Data: []byte{0, 0xff}, Executable: true}}
	if diff := cmp.Diff(want, f.sources.upload); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	f.addSync(t, false)
	_, err = f.PlanUpload(t.Context(), api.UploadRequest{Files: files})
	must(t, err)
	if f.loop.planned.Sync != "main" {
		t.Errorf("with one sync: asked for %+v", f.loop.planned)
	}
	_, err = f.AddSync(t.Context(), api.SyncSpec{Name: "second", URL: "https://example.org"})
	must(t, err)
	_, err = f.PlanUpload(t.Context(), api.UploadRequest{Files: files})
	wantError(t, err, http.StatusBadRequest, api.CodeBadRequest)
}

func TestAnUploadHasLimits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, name := range []string{"../x", "/etc/passwd", "a//b", "."} {
		_, err := f.PlanUpload(t.Context(), api.UploadRequest{Files: map[string]api.UploadFile{name: {}}})
		wantError(t, err, http.StatusBadRequest, api.CodeBadRequest)
	}
	_, err := f.PlanUpload(t.Context(), api.UploadRequest{Files: map[string]api.UploadFile{"a": {Data: make([]byte, api.MaxUploadBytes+1)}}})
	wantError(t, err, http.StatusRequestEntityTooLarge, api.CodeTooLarge)
	_, err = api.Pack(fstest.MapFS{"a": {Data: make([]byte, api.MaxUploadBytes+1)}})
	if !errors.Is(err, api.ErrUploadTooLarge) {
		t.Errorf("packing: %v", err)
	}
}

// running is an Apply that tells of one op and succeeds.
func running(_ context.Context, req reconciler.ApplyRequest) (reconciler.Run, reconciler.RunResult, error) {
	run := reconciler.Run{ID: "r1", Sync: req.Sync, Actor: req.Actor, Plan: plan.Plan{ID: "p", Ops: []plan.Op{webOp()}}}
	result := reconciler.OpResult{Op: "update web@alpha", Status: reconciler.OpSucceeded}
	req.Watch(reconciler.Event{Kind: reconciler.EventRunStarted, Run: "r1", Plan: &run.Plan})
	req.Watch(reconciler.Event{Kind: reconciler.EventOpStarted, Run: "r1", Op: result.Op})
	req.Watch(reconciler.Event{Kind: reconciler.EventProgress, Run: "r1", Op: result.Op, Progress: &fleet.Progress{Text: "pulling"}})
	req.Watch(reconciler.Event{Kind: reconciler.EventOpEnded, Run: "r1", Op: result.Op, Result: &result})
	return run, reconciler.RunResult{Status: reconciler.OpSucceeded, Ops: []reconciler.OpResult{result}}, nil
}

func TestApplyStreamsItsEvents(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSync(t, false)
	var got reconciler.ApplyRequest
	f.loop.apply = func(ctx context.Context, req reconciler.ApplyRequest) (reconciler.Run, reconciler.RunResult, error) {
		got = req
		return running(ctx, req)
	}
	var kinds []string
	result, err := f.Apply(t.Context(), "main", api.ApplyRequest{Approved: []string{"removals"}}, func(e api.ApplyEvent) error {
		kinds = append(kinds, string(e.Kind))
		return nil
	})
	must(t, err)
	if diff := cmp.Diff([]string{"plan", "started", "progress", "ended", "done"}, kinds); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if result.Status != api.OpSucceeded || len(result.Ops) != 1 || result.Ops[0].Stack != "web" || result.Ops[0].Actor != "ada" {
		t.Errorf("result %+v", result)
	}
	if got.Actor != "ada" || got.Approved[0] != "removals" {
		t.Errorf("asked for %+v", got)
	}
}

func TestApplyThatDoesNotBeginIsAPlainError(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSync(t, false)
	f.loop.apply = func(context.Context, reconciler.ApplyRequest) (reconciler.Run, reconciler.RunResult, error) {
		return reconciler.Run{}, reconciler.RunResult{}, fleet.Diagnostics{{Rule: "r", Severity: fleet.SeverityError, Message: "bad"}}
	}
	_, err := f.Apply(t.Context(), "main", api.ApplyRequest{}, nil)
	wantError(t, err, http.StatusUnprocessableEntity, api.CodeInvalid)
	_, err = f.Apply(t.Context(), "other", api.ApplyRequest{}, nil)
	wantError(t, err, http.StatusNotFound, api.CodeNotFound)
	_, err = f.Apply(t.Context(), "main", api.ApplyRequest{Saved: &plan.Plan{Sync: "other"}}, nil)
	wantError(t, err, http.StatusBadRequest, api.CodeBadRequest)
}

func TestASavedPlanArrivesUnchanged(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSync(t, false)
	saved := plan.Plan{ID: "p", Sync: "main", Ops: []plan.Op{webOp()}, Stacks: []plan.StackState{{Stack: "web"}}}
	f.loop.apply = func(_ context.Context, req reconciler.ApplyRequest) (reconciler.Run, reconciler.RunResult, error) {
		if diff := cmp.Diff(&saved, req.Saved); diff != "" {
			t.Errorf("saved plan (-want +got):\n%s", diff)
		}
		return reconciler.Run{}, reconciler.RunResult{Status: reconciler.OpSucceeded}, nil
	}
	result, err := f.Apply(t.Context(), "main", api.ApplyRequest{Saved: &saved}, nil)
	must(t, err)
	if result.Status != api.OpSucceeded {
		t.Errorf("nothing to do ends as %+v", result)
	}
}

func TestARunThatFailsLaterEndsItsStreamWithTheError(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSync(t, false)
	f.loop.apply = func(ctx context.Context, req reconciler.ApplyRequest) (reconciler.Run, reconciler.RunResult, error) {
		run, _, _ := running(ctx, req)
		return run, reconciler.RunResult{}, reconciler.ErrStopped
	}
	_, err := f.Apply(t.Context(), "main", api.ApplyRequest{}, nil)
	var e *api.Error
	if !errors.As(err, &e) || e.Code != api.CodeUnavailable {
		t.Errorf("got %v", err)
	}
}

func TestAClientThatLeavesEndsTheWaiting(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSync(t, false)
	left := make(chan struct{})
	f.loop.apply = func(ctx context.Context, req reconciler.ApplyRequest) (reconciler.Run, reconciler.RunResult, error) {
		req.Watch(reconciler.Event{Kind: reconciler.EventRunStarted, Run: "r1", Plan: &plan.Plan{}})
		<-ctx.Done()
		close(left)
		return reconciler.Run{}, reconciler.RunResult{}, ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := f.Apply(ctx, "main", api.ApplyRequest{}, func(api.ApplyEvent) error {
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-left
}

func TestDeployForcesOneStack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSync(t, false)
	f.sources.desired["main"] = fleet.Desired{Stacks: []fleet.Stack{{Name: "web", Server: "alpha"}}}
	f.loop.apply = func(ctx context.Context, req reconciler.ApplyRequest) (reconciler.Run, reconciler.RunResult, error) {
		if req.Sync != "main" || req.Only[0] != "web" || req.Forced[0] != "web" {
			t.Errorf("asked for %+v", req)
		}
		return running(ctx, req)
	}
	_, err := f.Deploy(t.Context(), "web", api.DeployRequest{}, nil)
	must(t, err)
	_, err = f.Deploy(t.Context(), "wbe", api.DeployRequest{}, nil)
	if e := wantError(t, err, http.StatusNotFound, api.CodeNotFound); !strings.Contains(e.Hint, "web") {
		t.Errorf("hint %q", e.Hint)
	}
}

func TestLogsComeFromTheServerThatRunsTheStack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	report := []fleet.StackReport{{Stack: "web"}}
	f.agents.observed = fleet.Observed{"alpha": {Online: true, Stacks: report}, "beta": {Stacks: []fleet.StackReport{{Stack: "db"}}}}
	f.agents.logs = func(server string, req wire.LogsRequest) (io.ReadCloser, error) {
		if server != "alpha" || req.Stack != "web" || req.Service != "app" || req.Tail != 5 || !req.Follow {
			t.Errorf("asked %s for %+v", server, req)
		}
		return io.NopCloser(strings.NewReader(`{"service":"app","text":"one"}` + "\n" + `{"service":"app","text":"two"}` + "\n{broken")), nil
	}
	var lines []string
	err := f.Logs(t.Context(), "web", api.LogsRequest{Service: "app", Tail: 5, Follow: true}, func(line api.LogLine) error {
		lines = append(lines, line.Text)
		return nil
	})
	wantLines := []string{"one", "two"}
	var e *api.Error
	if diff := cmp.Diff(wantLines, lines); diff != "" || !errors.As(err, &e) {
		t.Errorf("lines (-want +got):\n%s, %v", diff, err)
	}
	wantError(t, f.Logs(t.Context(), "db", api.LogsRequest{}, nil), http.StatusServiceUnavailable, api.CodeUnavailable)
	wantError(t, f.Logs(t.Context(), "weeb", api.LogsRequest{}, nil), http.StatusNotFound, api.CodeNotFound)
	f.agents.observed["beta"] = fleet.ServerReport{Online: true, Stacks: report}
	wantError(t, f.Logs(t.Context(), "web", api.LogsRequest{}, nil), http.StatusBadRequest, api.CodeBadRequest)
}

func TestDiffShowsOneStackOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSync(t, false)
	f.sources.desired["main"] = fleet.Desired{Stacks: []fleet.Stack{{Name: "web", Server: "alpha"}}}
	other := webOp()
	other.Stack = "other"
	f.loop.plan = plan.Plan{
		Ops:   []plan.Op{webOp(), other},
		Gates: []plan.Gate{{ID: "g"}}, Notices: []plan.Notice{{Stack: "other"}}, Blocked: []plan.Blocked{{Op: other}},
	}
	diff, err := f.Diff(t.Context(), "web")
	must(t, err)
	if len(diff.Ops) != 1 || diff.Ops[0].Stack != "web" || len(diff.Gates)+len(diff.Notices)+len(diff.Blocked) != 0 {
		t.Errorf("diff %+v", diff)
	}
}
