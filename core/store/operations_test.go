package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/alert"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/procedure"
)

func runOf(id, name string, c *clock) procedure.Run {
	return procedure.Run{
		ID: id, Procedure: name, Trigger: "manual", Actor: "ada", Status: procedure.StatusQueued, Created: c.now,
		Stages: []fleet.Stage{{Name: "one", Enabled: true, Executions: []fleet.Execution{{Type: "StopStack", Enabled: true}}}},
	}
}

func TestRunsOfProceduresAreKept(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	run := runOf("1", "nightly", c)
	must(t, s.BeginProcedure(t.Context(), run))
	must(t, s.ProcedureStarted(t.Context(), "1", c.now))
	step := procedure.Step{Number: 1, Type: "StopStack", Target: "web", Stack: "web", Server: "alpha", Status: procedure.StatusRunning, Started: c.now}
	must(t, s.StepStarted(t.Context(), "1", step))
	step.Status, step.Reason, step.Log, step.Ended = procedure.StatusFailed, "it will not", "evidence", c.now.Add(time.Second)
	must(t, s.StepEnded(t.Context(), "1", step))
	run.Status, run.Reason, run.Ended = procedure.StatusFailed, "stage one: it will not", c.now.Add(time.Second)
	must(t, s.EndProcedure(t.Context(), run))

	got, err := s.ProcedureRun(t.Context(), "1")
	must(t, err)
	want := api.ProcedureRun{
		ID: "1", Procedure: "nightly", Trigger: "manual", Actor: "ada", Status: "failed", Reason: "stage one: it will not",
		Stages: run.Stages, Created: c.now, Started: c.now, Ended: run.Ended,
		Steps: []api.ProcedureStep{{
			Number: 1, Type: "StopStack", Target: "web", Stack: "web", Server: "alpha", Status: "failed", Reason: "it will not",
			Log: "evidence", Started: c.now, Ended: step.Ended,
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	events, err := s.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 10}})
	must(t, err)
	var texts []string
	for _, e := range events {
		texts = append(texts, e.Kind+": "+e.Text)
	}
	if diff := cmp.Diff([]string{
		"procedure: procedure nightly failed: stage one: it will not",
		"procedure: StopStack web@alpha: failed: it will not",
		"procedure: procedure nightly begun, asked for by ada",
	}, texts); diff != "" {
		t.Error(diff)
	}
	if _, err := s.ProcedureRun(t.Context(), "2"); err == nil {
		t.Error("a run that never was is there")
	}
}

func TestRunsThatAProcessLeftBehindAreInterrupted(t *testing.T) {
	t.Parallel()
	c := newClock()
	cfg := config(t, c)
	s := open(t, cfg)
	for _, id := range []string{"1", "2"} {
		must(t, s.BeginProcedure(t.Context(), runOf(id, "nightly", c)))
	}
	must(t, s.ProcedureStarted(t.Context(), "1", c.now))
	must(t, s.ProcedureStarted(t.Context(), "2", c.now))
	must(t, s.StepStarted(t.Context(), "1", procedure.Step{Number: 1, Type: "StopStack", Status: procedure.StatusRunning, Started: c.now}))
	must(t, s.Close())
	s, err := store.Open(t.Context(), cfg)
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	runs, err := s.ProcedureRuns(t.Context(), "nightly", "", false, 10)
	must(t, err)
	for _, run := range runs {
		if run.Status != api.ProcedureInterrupted || run.Ended.IsZero() || !strings.Contains(run.Reason, "core stopped") {
			t.Errorf("run %+v", run)
		}
	}
	first, err := s.ProcedureRun(t.Context(), "1")
	must(t, err)
	if len(runs) != 2 || len(first.Steps) != 1 || first.Steps[0].Status != api.ProcedureInterrupted {
		t.Errorf("%d runs, the first with %+v", len(runs), first.Steps)
	}
	last, err := s.LastProcedureRuns(t.Context())
	must(t, err)
	if last["nightly"].ID != "2" {
		t.Errorf("the last is %+v", last)
	}
}

func TestRunsThatWaitOutliveTheirProcess(t *testing.T) {
	t.Parallel()
	c := newClock()
	cfg := config(t, c)
	s := open(t, cfg)
	begin := func(run procedure.Run) {
		must(t, s.BeginProcedure(t.Context(), run))
	}
	begin(runOf("1-queued", "other", c))
	approval := procedure.Step{Number: 2, Stage: 1, Type: "Approval", Target: "ann", Status: procedure.StatusWaiting, Attempts: 1, Started: c.now}
	waits := runOf("2-waits", "nightly", c)
	waits.Inputs, waits.FailureAlert = map[string]string{"A": "1"}, true
	begin(waits)
	must(t, s.ProcedureStarted(t.Context(), waits.ID, c.now))
	done := procedure.Step{Number: 1, Type: "None", Status: procedure.StatusFailed, MayFail: true, Attempts: 3, Started: c.now, Ended: c.now}
	must(t, s.StageStarted(t.Context(), waits.ID, []procedure.Step{done}))
	must(t, s.StageStarted(t.Context(), waits.ID, []procedure.Step{approval}))
	must(t, s.StageStarted(t.Context(), waits.ID, []procedure.Step{approval})) // as a process does that resumes it

	outer, inner := runOf("3-outer", "outer", c), runOf("4-inner", "inner", c)
	begin(outer)
	must(t, s.ProcedureStarted(t.Context(), outer.ID, c.now))
	must(t, s.StageStarted(t.Context(), outer.ID, []procedure.Step{{Number: 1, Type: "RunProcedure", Status: procedure.StatusQueued}}))
	inner.Parent, inner.ParentStep = outer.ID, 1
	begin(inner)
	approved := approval
	approved.Number, approved.Status, approved.Ended = 1, procedure.StatusSucceeded, c.now
	must(t, s.ProcedureStarted(t.Context(), inner.ID, c.now))
	must(t, s.StepEnded(t.Context(), inner.ID, approved))

	works := runOf("5-works", "works", c)
	begin(works)
	must(t, s.ProcedureStarted(t.Context(), works.ID, c.now))
	must(t, s.StageStarted(t.Context(), works.ID, []procedure.Step{{Number: 1, Type: "StopStack", Status: procedure.StatusQueued}}))
	child := runOf("6-child", "child", c) // waits, but its parent does not only wait for it
	child.Parent, child.ParentStep = works.ID, 2
	begin(child)
	must(t, s.Close())

	s, err := store.Open(t.Context(), cfg)
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	left, err := s.OpenProcedures(t.Context())
	must(t, err)
	var ids []string
	for _, run := range left {
		ids = append(ids, run.ID+" "+string(run.Status))
	}
	if diff := cmp.Diff([]string{"1-queued queued", "2-waits waiting", "3-outer running", "4-inner running"}, ids); diff != "" {
		t.Fatal(diff)
	}
	waits.Status, waits.Started, waits.Steps = procedure.StatusWaiting, c.now, []procedure.Step{done, approval}
	if diff := cmp.Diff(waits, left[1]); diff != "" {
		t.Error(diff)
	}
	events, err := s.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 50}})
	must(t, err)
	told := 0
	for _, e := range events {
		if e.Text == "procedure nightly waits for an approval by ann (run 2-waits)" {
			told++
		}
	}
	if told != 1 {
		t.Errorf("that it waits is told %d times: %+v", told, events)
	}
}

func TestAMatterIsOpenOnce(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	a := alert.Alert{
		Key: "server/alpha", Type: fleet.AlertServerUnreachable, Level: alert.LevelCritical, Server: "alpha", Text: "away", At: c.now,
		Target: fleet.ResourceName{Kind: "server", Name: "alpha"}, Data: map[string]any{"name": "alpha"},
	}
	for want := range 2 {
		opened, err := s.OpenAlert(t.Context(), a)
		must(t, err)
		if opened != (want == 0) {
			t.Errorf("time %d: opened %v", want, opened)
		}
	}
	keys, err := s.OpenAlerts(t.Context())
	must(t, err)
	if diff := cmp.Diff([]string{"server/alpha"}, keys); diff != "" {
		t.Error(diff)
	}
	got, ok, err := s.ResolveAlert(t.Context(), "server/alpha", c.now.Add(time.Minute))
	must(t, err)
	a.ID, a.Resolved = got.ID, c.now.Add(time.Minute)
	if diff := cmp.Diff(a, got); diff != "" || !ok {
		t.Errorf("found %v:\n%s", ok, diff)
	}
	if _, ok, err := s.ResolveAlert(t.Context(), "server/alpha", c.now); ok || err != nil {
		t.Errorf("resolved twice: %v, %v", ok, err)
	}
	// What is over as it is told has no key, and is kept each time.
	for range 2 {
		if _, err := s.OpenAlert(t.Context(), alert.Alert{Type: fleet.AlertCustom, Level: alert.LevelOK, At: c.now, Resolved: c.now}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.Alerts(t.Context(), false, 0, 10)
	must(t, err)
	still, err := s.Alerts(t.Context(), true, 0, 10)
	must(t, err)
	if len(all) != 3 || len(still) != 0 {
		t.Errorf("%d alerts, %d open", len(all), len(still))
	}
	c.now = c.now.Add(100 * 24 * time.Hour)
	if _, err := s.OpenAlert(t.Context(), alert.Alert{Key: "x", At: c.now}); err != nil {
		t.Fatal(err)
	}
	if all, err := s.Alerts(t.Context(), false, 0, 10); err != nil || len(all) != 1 {
		t.Errorf("%d alerts stayed, %v", len(all), err)
	}
}
