package web_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

// withWeb is a fixture whose sync "main" declares a stack web on alpha.
func withWeb(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	f.addSync(t, false)
	f.sources.desired["main"] = fleet.Desired{
		Sync: "main", Commit: fleet.Commit{ID: strings.Repeat("b", 40)},
		Servers: []fleet.Server{{Name: "alpha", Enabled: true}},
		Stacks:  []fleet.Stack{{Name: "web", Server: "alpha", Release: fleet.Release{Digest: "sha256:new"}}},
	}
	f.loop.apply = func(_ context.Context, req reconciler.ApplyRequest) (reconciler.Run, reconciler.RunResult, error) {
		return reconciler.Run{ID: "r1", Sync: req.Sync}, reconciler.RunResult{Status: reconciler.OpSucceeded}, nil
	}
	return f
}

func (f *fixture) controlEvents(t *testing.T) []string {
	t.Helper()
	events, err := f.Events(t.Context(), api.EventFilter{})
	must(t, err)
	var texts []string
	for _, e := range events {
		if e.Kind == "control" {
			texts = append(texts, e.Actor+": "+e.Text)
		}
	}
	return texts
}

func TestSuspensionsAreOfWhatThereIs(t *testing.T) {
	t.Parallel()
	f := withWeb(t)
	for resource, want := range map[string]int{
		"wbe": http.StatusNotFound, "web@beta": http.StatusNotFound, "server/alhpa": http.StatusNotFound, "sync/mian": http.StatusNotFound,
		"procedure/nightly": http.StatusNotFound, "alerter/x": http.StatusBadRequest, "stack/": http.StatusBadRequest,
	} {
		_, err := f.Suspend(t.Context(), api.SuspendRequest{Resource: resource})
		if want == http.StatusNotFound {
			wantError(t, err, want, api.CodeNotFound)
		} else {
			wantError(t, err, want, api.CodeBadRequest)
		}
	}
	_, err := f.Suspend(t.Context(), api.SuspendRequest{Resource: "web", Until: f.now.Add(-time.Hour)})
	wantError(t, err, http.StatusBadRequest, api.CodeBadRequest)

	got, err := f.Suspend(t.Context(), api.SuspendRequest{Resource: "web@alpha", Seconds: 3600, Reason: "disk"})
	must(t, err)
	want := plan.Suspension{Kind: "stack", Name: "web", Server: "alpha", By: "ada", Reason: "disk", At: f.now, Until: f.now.Add(time.Hour)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, resource := range []string{"server/alpha", "sync/main"} {
		_, err = f.Suspend(t.Context(), api.SuspendRequest{Resource: resource})
		must(t, err)
	}
	all, err := f.Suspensions(t.Context())
	must(t, err)
	if len(all) != 3 {
		t.Errorf("%+v", all)
	}
	f.now = f.now.Add(2 * time.Hour) // the first ends by itself
	_, err = f.Resume(t.Context(), "web@alpha")
	wantError(t, err, http.StatusNotFound, api.CodeNotFound)
	_, err = f.Resume(t.Context(), "server/alpha")
	must(t, err)
	events := f.controlEvents(t)
	if diff := cmp.Diff([]string{
		"ada: server/alpha resumed",
		"ada: sync/main sync main is suspended by ada",
		"ada: server/alpha server alpha is suspended by ada",
		"ada: stack/web@alpha suspended by ada until 2026-11-01 13:00:00 UTC: disk",
	}, events); diff != "" {
		t.Error(diff)
	}
}

func TestARollbackIsOnRecordBeforeItIsDone(t *testing.T) {
	t.Parallel()
	f := withWeb(t)
	hold := plan.Hold{
		Kind: plan.HoldRollback, Sync: "main", Stack: "web", Server: "alpha", Bad: "sha256:new",
		Commit: fleet.Commit{ID: strings.Repeat("b", 40)}, Release: fleet.Release{Digest: "sha256:old"}, By: "ada", Reason: "broken",
	}
	f.loop.back = reconciler.Rollback{Holds: []plan.Hold{hold}}
	f.loop.plan = plan.Plan{Sync: "main", Ops: []plan.Op{
		{ID: "update web@alpha", Kind: plan.OpUpdate, Stack: "web", Server: "alpha", Causes: []plan.Cause{}},
		{ID: "update web@beta", Kind: plan.OpUpdate, Stack: "web", Server: "beta", Causes: []plan.Cause{}},
	}}
	req := api.RollbackRequest{Stack: "web", Server: "alpha", Reason: "broken"}
	shown, err := f.PlanRollback(t.Context(), req)
	must(t, err)
	if len(shown.Plan.Ops) != 1 || len(f.loop.planned.Holds) != 1 {
		t.Errorf("%+v", shown.Plan.Ops)
	}
	if holds, err := f.Holds(t.Context()); err != nil || len(holds) > 0 {
		t.Errorf("a plan holds back: %v %v", holds, err)
	}
	var applied reconciler.ApplyRequest
	f.loop.apply = func(_ context.Context, req reconciler.ApplyRequest) (reconciler.Run, reconciler.RunResult, error) {
		applied = req
		holds, err := f.store.Holds(context.Background(), "main")
		if err != nil || len(holds) != 1 || holds[0].Release.Digest != "sha256:old" {
			t.Errorf("not on record: %+v %v", holds, err)
		}
		if len(f.loop.rechecked) > 0 {
			t.Error("the sync's own pass may do first what is asked for")
		}
		return reconciler.Run{ID: "r1", Sync: req.Sync}, reconciler.RunResult{Status: reconciler.OpSucceeded}, nil
	}
	_, err = f.Rollback(t.Context(), req, nil)
	must(t, err)
	if f.loop.rollback.Sync != "main" || len(applied.Saved.Ops) != 1 || applied.Actor != "ada" {
		t.Errorf("%+v %+v", f.loop.rollback, applied)
	}
	if !slices.Equal(f.loop.rechecked, []string{"main"}) {
		t.Errorf("rechecked are %q", f.loop.rechecked)
	}

	released, err := f.Release(t.Context(), "web", "")
	must(t, err)
	if len(released.Holds) != 1 || len(f.loop.forgiven) != 1 {
		t.Errorf("%+v", released)
	}
	_, err = f.Release(t.Context(), "web", "")
	wantError(t, err, http.StatusConflict, api.CodeConflict)
	_, err = f.Release(t.Context(), "wbe", "")
	wantError(t, err, http.StatusNotFound, api.CodeNotFound)
	if events := f.controlEvents(t); len(events) != 2 || !strings.Contains(events[1], "held back: rolled back from bbbbbbbb by ada: broken") {
		t.Errorf("%q", events)
	}
}

func TestWhatARollbackMaySay(t *testing.T) {
	t.Parallel()
	f := withWeb(t)
	f.loop.back = reconciler.Rollback{Left: []string{"web@alpha: no earlier release of it is on record"}}
	for name, c := range map[string]struct {
		req    api.RollbackRequest
		status int
		code   api.ErrorCode
	}{
		"nothing to go back to":    {api.RollbackRequest{Stack: "web"}, http.StatusConflict, api.CodeConflict},
		"no such stack":            {api.RollbackRequest{Stack: "wbe"}, http.StatusNotFound, api.CodeNotFound},
		"a sync without a commit":  {api.RollbackRequest{Sync: "main"}, http.StatusBadRequest, api.CodeBadRequest},
		"no such sync":             {api.RollbackRequest{Sync: "mian", To: "abcd"}, http.StatusNotFound, api.CodeNotFound},
		"no commit":                {api.RollbackRequest{Stack: "web", To: "main"}, http.StatusBadRequest, api.CodeBadRequest},
		"a commit core never ran":  {api.RollbackRequest{Stack: "web", To: "abcdef"}, http.StatusNotFound, api.CodeNotFound},
		"a whole id, nothing else": {api.RollbackRequest{Stack: "web", To: strings.Repeat("A", 40)}, http.StatusConflict, api.CodeConflict},
	} {
		_, err := f.PlanRollback(t.Context(), c.req)
		if e := wantError(t, err, c.status, c.code); e.Message == "" {
			t.Errorf("%s: no message", name)
		}
	}
	if f.loop.rollback.To != strings.Repeat("a", 40) && f.loop.rollback.To != "" {
		t.Errorf("asked for %q", f.loop.rollback.To)
	}
}

func TestWorkOutsideOfWindowsNeedsAReason(t *testing.T) {
	t.Parallel()
	f := withWeb(t)
	_, err := f.Apply(t.Context(), "main", api.ApplyRequest{OverrideWindow: true}, nil)
	wantError(t, err, http.StatusBadRequest, api.CodeBadRequest)
	_, err = f.Apply(t.Context(), "main", api.ApplyRequest{OverrideWindow: true, Reason: "the shop is down"}, nil)
	must(t, err)
	if events := f.controlEvents(t); len(events) != 1 || !strings.Contains(events[0], "the shop is down") {
		t.Errorf("%q", events)
	}
}

func TestRolloutsAreStoppedAndGoOn(t *testing.T) {
	t.Parallel()
	f := withWeb(t)
	r := plan.Rollout{
		Sync: "main", Stack: "web", Target: "t1", Status: plan.RolloutRunning, Batches: [][]string{{"alpha"}, {"beta"}},
		Failed: []string{"alpha"}, Before: map[string]fleet.Release{"alpha": {Digest: "sha256:old"}},
	}
	must(t, f.store.SaveRollouts(t.Context(), []plan.Rollout{r}, "core", func(plan.Rollout) string { return "" }))
	act := func(action string) (plan.Rollout, error) {
		return f.Rollout(t.Context(), "web", api.RolloutRequest{Action: action, Reason: "lunch"})
	}
	_, err := act("resume")
	wantError(t, err, http.StatusConflict, api.CodeConflict)
	paused, err := act("pause")
	must(t, err)
	if paused.Status != plan.RolloutPaused || paused.By != "ada" || paused.Reason != "lunch" {
		t.Errorf("%+v", paused)
	}
	_, err = act("pause")
	wantError(t, err, http.StatusConflict, api.CodeConflict)
	gone, err := act("resume")
	must(t, err)
	if diff := cmp.Diff([]string{"alpha"}, gone.Excused); gone.Status != plan.RolloutRunning || diff != "" {
		t.Errorf("%+v %s", gone, diff)
	}
	_, err = act("abort")
	must(t, err)
	_, err = f.Rollout(t.Context(), "wbe", api.RolloutRequest{Action: "pause"})
	wantError(t, err, http.StatusNotFound, api.CodeNotFound)
	all, err := f.store.Rollouts(t.Context(), "main")
	must(t, err)
	if len(all) != 1 || all[0].Before["alpha"].Digest != "sha256:old" {
		t.Errorf("what ran before is lost: %+v", all)
	}
}
