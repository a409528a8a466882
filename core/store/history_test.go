package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
	"github.com/varanhq/varan/reconciler/procedure"
)

func planned(commit string, stacks ...plan.StackState) plan.Plan {
	return plan.Plan{Commit: fleet.Commit{ID: strings.Repeat(commit, 40), Subject: "s" + commit}, Stacks: stacks}
}

func TestTheFleetAsItWas(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	start := c.now
	web := plan.StackState{Stack: "web", Server: "alpha", Sync: fleet.Synced, Health: fleet.Healthy}
	wiki := plan.StackState{Stack: "wiki", Server: "alpha", Sync: fleet.OutOfSync, Health: fleet.Missing, Text: "due"}
	down := web
	down.Health = fleet.Degraded
	behind := web
	behind.Sync = fleet.OutOfSync
	for _, p := range []plan.Plan{planned("a", web), planned("a", down, wiki), planned("b", behind), planned("b", web)} {
		must(t, s.Planned(t.Context(), "main", reconciler.TriggerPoll, "poll", p))
		must(t, s.Planned(t.Context(), "main", reconciler.TriggerPoll, "poll", p)) // the same is no change
		c.now = c.now.Add(time.Hour)
	}
	look := func(at time.Time) (got []string) {
		states, err := s.StatesAt(t.Context(), at)
		must(t, err)
		for _, p := range states {
			got = append(got, fmt.Sprintf("%s %s/%s %.1s since %s", p.Name, p.Sync, p.Health, p.Commit, p.Since.Sub(start)))
		}
		return got
	}
	for after, want := range map[time.Duration][]string{
		-time.Second:     nil,
		time.Minute:      {"web Synced/Healthy a since 0s"},
		90 * time.Minute: {"web Synced/Degraded a since 1h0m0s", "wiki OutOfSync/Missing  since 1h0m0s"},
		2 * time.Hour:    {"web OutOfSync/Healthy a since 2h0m0s"},
		99 * time.Hour:   {"web Synced/Healthy b since 3h0m0s"},
	} {
		if diff := cmp.Diff(want, look(start.Add(after))); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", after, diff)
		}
	}
	must(t, s.PruneLogs(t.Context(), time.Time{}, start.Add(100*time.Hour)))
	if diff := cmp.Diff([]string{"web Synced/Healthy b since 3h0m0s"}, look(start.Add(99*time.Hour))); diff != "" {
		t.Errorf("after what was replaced is gone (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string(nil), look(start.Add(90*time.Minute))); diff != "" {
		t.Errorf("what was replaced is still there:\n%s", diff)
	}
}

func TestAStateIsAsOldAsItIsAfterARestartAndUnderAnotherSync(t *testing.T) {
	t.Parallel()
	c := newClock()
	cfg := config(t, c)
	s, start := open(t, cfg), c.now
	web := plan.StackState{Stack: "web", Server: "alpha", Sync: fleet.Synced, Health: fleet.Healthy}
	wiki := plan.StackState{Stack: "wiki", Server: "alpha", Sync: fleet.Synced, Health: fleet.Healthy}
	planned := func(sync string, stacks ...plan.StackState) {
		t.Helper()
		must(t, s.Planned(t.Context(), sync, reconciler.TriggerPoll, "poll", planned("a", stacks...)))
		c.now = c.now.Add(time.Hour)
	}
	want := func(want ...string) {
		t.Helper()
		states, err := s.StatesAt(t.Context(), c.now)
		must(t, err)
		var got []string
		for _, p := range states {
			got = append(got, fmt.Sprintf("%s of %s since %s", p.Name, p.Source, p.Since.Sub(start)))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	planned("main", web, wiki)
	must(t, s.Close())
	s = open(t, cfg)
	planned("main", web, wiki)
	want("web of main since 0s", "wiki of main since 0s")
	planned("main", web) // wiki leaves
	want("web of main since 0s")
	planned("other", web) // and web is taken over, which does not end when main has it no more
	planned("main")
	want("web of other since 3h0m0s")
	planned("main", wiki)
	planned("other")
	want("wiki of main since 5h0m0s")
}

// A plan that could not be recorded is no state of anything.
func TestAStateIsKeptOnlyWithItsTransaction(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	web := plan.StackState{Stack: "web", Server: "alpha", Sync: fleet.Synced, Health: fleet.Healthy}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		if s.Planned(gone, "main", reconciler.TriggerPoll, "poll", planned("a", web)) == nil {
			t.Fatal("recorded for somebody who went away")
		}
	}
	must(t, s.Planned(t.Context(), "main", reconciler.TriggerPoll, "poll", planned("a", web)))
	if states, err := s.StatesAt(t.Context(), c.now); err != nil || len(states) != 1 {
		t.Errorf("%v, %v", states, err)
	}
}

func TestACommitLeadsToItsRunAndOps(t *testing.T) {
	t.Parallel()
	s := open(t, config(t, newClock()))
	_, _, err := s.WebhookSeen(t.Context(), "h", func(bool) api.Event { return api.Event{Kind: "webhook", Sync: "main", Text: "push"} })
	must(t, err)
	p := planned("a")
	p.Ops = []plan.Op{{ID: "create web@alpha", Kind: plan.OpCreate, Stack: "web", Server: "alpha"}}
	p.Totals = plan.Count(p)
	must(t, s.Planned(t.Context(), "main", reconciler.TriggerWebhook, "webhook", p))
	run := reconciler.Run{ID: "r1", Sync: "main", Trigger: reconciler.TriggerWebhook, Actor: "webhook", Plan: p, Started: time.Unix(1, 0)}
	must(t, s.Begin(t.Context(), run))
	must(t, s.OpStarted(t.Context(), "r1", "o1", p.Ops[0]))
	result := reconciler.OpResult{Op: p.Ops[0].ID, Status: reconciler.OpSucceeded, Ended: time.Now().Add(365 * 24 * time.Hour)}
	must(t, s.OpEnded(t.Context(), "r1", p.Ops[0], result))
	must(t, s.End(t.Context(), "r1", reconciler.RunResult{Status: reconciler.OpSucceeded, Ops: []reconciler.OpResult{result}, Ended: result.Ended}))

	events, err := s.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 10}, Stack: "web"})
	must(t, err)
	if len(events) != 1 || events[0].Status != "succeeded" || events[0].DurationMS == 0 || events[0].Op != p.Ops[0].ID {
		t.Fatalf("of the stack: %+v", events)
	}
	chain := chainOf(t, s, events[0])
	if diff := cmp.Diff([]string{"op", "run", "plan", "sync", "webhook"}, chain); diff != "" {
		t.Errorf("causes (-want +got):\n%s", diff)
	}
}

// chainOf are the kinds of a record and of what led to it, the first cause last.
func chainOf(t *testing.T, s *store.Store, e api.Event) (kinds []string) {
	t.Helper()
	for {
		kinds = append(kinds, e.Kind)
		if e.Cause == 0 {
			return kinds
		}
		var err error
		e, err = s.Event(t.Context(), e.Cause)
		must(t, err)
	}
}

func TestAScheduleLeadsThroughProceduresToOps(t *testing.T) {
	t.Parallel()
	s := open(t, config(t, newClock()))
	due := time.Date(2026, 11, 25, 3, 0, 0, 0, time.UTC)
	must(t, s.BeginProcedure(t.Context(), procedure.Run{
		ID: "p1", Procedure: "nightly", Trigger: reconciler.TriggerSchedule, Actor: procedure.ScheduleActor, Created: due,
		Fire: &procedure.Fire{Expression: "0 3 * * *", Due: due},
	}))
	must(t, s.BeginProcedure(t.Context(), procedure.Run{
		ID: "p2", Procedure: "inner", Parent: "p1", Trigger: reconciler.TriggerSchedule, Actor: procedure.ScheduleActor, Created: due,
	}))
	p := planned("a")
	p.Ops = []plan.Op{{ID: "update web@alpha", Kind: plan.OpUpdate, Stack: "web", Server: "alpha"}}
	must(t, s.Planned(t.Context(), "main", reconciler.TriggerPoll, "poll", p)) // it is no cause of what a procedure asks for
	must(t, s.Begin(t.Context(), reconciler.Run{
		ID: "r1", Sync: "main", Trigger: reconciler.TriggerManual, Actor: "procedure inner", Parent: "p2", Plan: p, Started: due,
	}))
	must(t, s.OpStarted(t.Context(), "r1", "o1", p.Ops[0]))
	must(t, s.OpEnded(t.Context(), "r1", p.Ops[0], reconciler.OpResult{Op: p.Ops[0].ID, Status: reconciler.OpSucceeded, Ended: due.Add(time.Minute)}))
	ops, err := s.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 10}, Kinds: []string{"op"}})
	must(t, err)
	if diff := cmp.Diff([]string{"op", "run", "procedure", "schedule"}, chainOf(t, s, ops[0])); diff != "" {
		t.Errorf("causes (-want +got):\n%s", diff)
	}
	run, err := s.Event(t.Context(), ops[0].Cause)
	must(t, err)
	want := `commit aaaaaaaa ("sa") is applied, asked for by procedure inner: nothing to do`
	if run.Text != want {
		t.Errorf("the run is told as %q", run.Text)
	}
}

func TestADecisionIsTheCauseOfWhatFollowsFromIt(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	p := planned("a")
	p.Ops = []plan.Op{{ID: "update web@alpha", Kind: plan.OpUpdate, Stack: "web", Server: "alpha"}}
	p.Totals = plan.Count(p)
	must(t, s.Planned(t.Context(), "main", reconciler.TriggerPoll, "poll", p))
	suspend := func(stack, by string) {
		must(t, s.Suspend(t.Context(), plan.Suspension{Kind: "stack", Name: stack, By: by, At: c.now}))
	}
	cause := func(id, actor string) string {
		must(t, s.Begin(t.Context(), reconciler.Run{
			ID: id, Sync: "main", Trigger: reconciler.TriggerManual, Actor: actor, Plan: p, Started: c.now,
		}))
		runs, err := s.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 1}, Run: id})
		must(t, err)
		led, err := s.Event(t.Context(), runs[0].Cause)
		must(t, err)
		return led.Kind + " of " + led.Actor
	}
	suspend("wiki", "ada") // not what the run is about
	suspend("web", "bob")  // not by who asks
	if got := cause("r1", "ada"); got != "plan of poll" {
		t.Errorf("without a decision: %s", got)
	}
	suspend("web", "ada")
	if got := cause("r2", "ada"); got != "control of ada" {
		t.Errorf("with one: %s", got)
	}
	c.now = c.now.Add(time.Hour)
	if got := cause("r3", "ada"); got != "plan of poll" {
		t.Errorf("long after: %s", got)
	}
}

func TestARepairIsToldOnceWithItsOwnTime(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	at := c.now.Add(-time.Hour)
	o := fleet.Outcome{
		Order: "heal-1", Stack: "web", Heal: true, Dropped: 2, Status: fleet.OutcomeSucceeded, Started: []string{"app"},
		StartedAt: at.Add(-time.Second), EndedAt: at,
	}
	must(t, s.RecordOutcome(t.Context(), "alpha", o))
	must(t, s.RecordOutcome(t.Context(), "alpha", o))
	events, err := s.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 10}, Kinds: []string{"heal"}})
	must(t, err)
	if len(events) != 1 || !events[0].At.Equal(at) || !events[0].Recorded.Equal(c.now) || events[0].DurationMS != 1000 {
		t.Fatalf("events: %+v", events)
	}
	want := "while core was away, the agent of alpha put web back; started app; 2 earlier repairs are not told, they were too many to keep"
	if events[0].Text != want {
		t.Errorf("text %q", events[0].Text)
	}
}

func TestLogsOfOpsComeInPartsAndGo(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	for i := range 3 {
		must(t, s.AddOpLog(t.Context(), "r", "o", []api.OpLogLine{{Text: fmt.Sprint(i)}}))
		c.now = c.now.Add(time.Hour)
	}
	read := func() (got string) {
		for after := int64(0); ; {
			lines, seq, ok, err := s.OpLog(t.Context(), "r", "o", after)
			must(t, err)
			if !ok {
				return got
			}
			after = seq
			got += lines[0].Text
		}
	}
	if got := read(); got != "012" {
		t.Errorf("log %q", got)
	}
	must(t, s.PruneLogs(t.Context(), c.now.Add(-90*time.Minute), time.Time{}))
	if got := read(); got != "2" {
		t.Errorf("what is left of the log: %q", got)
	}
	must(t, s.Shrink(t.Context()))
}
