package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

func opOf(kind plan.OpKind, stack string) plan.Op {
	return plan.Op{
		ID: fmt.Sprintf("%s %s@alpha", kind, stack), Kind: kind, Stack: stack, Server: "alpha", Project: stack,
		Release: fleet.SumDigest([]byte(stack)), Causes: []plan.Cause{{Kind: plan.CauseNew}},
	}
}

func begin(t *testing.T, s *store.Store, c *clock, id, sync string, ops ...plan.Op) {
	t.Helper()
	must(t, s.Begin(t.Context(), reconciler.Run{
		ID: id, Sync: sync, Trigger: reconciler.TriggerManual, Actor: "ada", Started: c.now,
		Plan: plan.Plan{ID: "p", Sync: sync, Commit: fleet.Commit{ID: "0123456789", Subject: "s"}, Ops: ops},
	}))
}

func ended(op plan.Op, c *clock, status reconciler.OpStatus) reconciler.OpResult {
	return reconciler.OpResult{
		Op: op.ID, Status: status, Ended: c.now,
		Outcome: fleet.Outcome{Order: "o", Stack: op.Stack, Status: fleet.OutcomeStatus(status)},
	}
}

func inventory(t *testing.T, s *store.Store, sync string) (stacks []string, foreign map[string]string) {
	t.Helper()
	owned, foreign, err := s.Inventory(t.Context(), sync)
	must(t, err)
	for _, o := range owned {
		stacks = append(stacks, o.Stack+"@"+o.Server)
	}
	return stacks, foreign
}

func TestTheInventoryFollowsTheOutcomes(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	must(t, s.AddSync(t.Context(), api.SyncSpec{Name: "main"}))
	must(t, s.AddSync(t.Context(), api.SyncSpec{Name: "other"}))
	untouched := ended(opOf(plan.OpCreate, "untouched"), c, reconciler.OpFailed)
	untouched.Outcome.Untouched = true
	steps := []struct {
		op     plan.Op
		result reconciler.OpResult
		want   string
	}{
		{opOf(plan.OpCreate, "web"), ended(opOf(plan.OpCreate, "web"), c, reconciler.OpSucceeded), "web@alpha"},
		{opOf(plan.OpUpdate, "web"), ended(opOf(plan.OpUpdate, "web"), c, reconciler.OpRolledBack), "web@alpha"},
		{opOf(plan.OpCreate, "debris"), ended(opOf(plan.OpCreate, "debris"), c, reconciler.OpFailed), "debris@alpha web@alpha"},
		{opOf(plan.OpCreate, "untouched"), untouched, "debris@alpha web@alpha"},
		{opOf(plan.OpCreate, "later"), reconciler.OpResult{Status: reconciler.OpSkipped}, "debris@alpha web@alpha"},
		{opOf(plan.OpRemove, "web"), ended(opOf(plan.OpRemove, "web"), c, reconciler.OpFailed), "debris@alpha web@alpha"},
		{opOf(plan.OpRemove, "web"), ended(opOf(plan.OpRemove, "web"), c, reconciler.OpSucceeded), "debris@alpha"},
	}
	for i, step := range steps {
		run := fmt.Sprintf("run-%d", i)
		begin(t, s, c, run, "main", step.op)
		must(t, s.OpStarted(t.Context(), run, "order-"+run, step.op))
		must(t, s.OpEnded(t.Context(), run, step.op, step.result))
		must(t, s.End(t.Context(), run, reconciler.RunResult{Status: step.result.Status, Ended: c.now}))
		stacks, _ := inventory(t, s, "main")
		if got := strings.Join(stacks, " "); got != step.want {
			t.Fatalf("after %s %s: %q, want %q", step.op.ID, step.result.Status, got, step.want)
		}
	}
	_, foreign := inventory(t, s, "other")
	if diff := cmp.Diff(map[string]string{"debris": "main"}, foreign); diff != "" {
		t.Errorf("foreign (-want +got):\n%s", diff)
	}
	must(t, s.RemoveSync(t.Context(), "main"))
	if _, foreign := inventory(t, s, "other"); len(foreign) != 0 {
		t.Errorf("a removed sync still owns %v", foreign)
	}
	if stacks, _ := inventory(t, s, "main"); len(stacks) != 1 {
		t.Errorf("a sync that comes back owns %v", stacks)
	}
}

func TestAdoptedStacksAreOwnedAndTold(t *testing.T) {
	t.Parallel()
	s := open(t, config(t, newClock()))
	must(t, s.Adopt(t.Context(), "main", []plan.Owned{{Stack: "web", Server: "alpha", Project: "web"}}))
	if stacks, _ := inventory(t, s, "main"); len(stacks) != 1 {
		t.Errorf("owned: %v", stacks)
	}
	events, err := s.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 1}})
	must(t, err)
	if len(events) != 1 || !strings.Contains(events[0].Text, "owns it now") {
		t.Errorf("events: %+v", events)
	}
}

func TestHistoryTellsWhatWasDoneAndWhy(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	op := opOf(plan.OpUpdate, "web")
	op.Services = []plan.ServiceChange{{Service: "app", Causes: []plan.Cause{{Kind: plan.CauseField, Field: "image"}}}}
	begin(t, s, c, "r1", "main", op)
	must(t, s.OpStarted(t.Context(), "r1", "order-1", op))
	result := ended(op, c, reconciler.OpRolledBack)
	result.Outcome.Reason, result.Outcome.Hint = "it crashed", "look"
	must(t, s.OpEnded(t.Context(), "r1", op, result))
	got, err := s.History(t.Context(), "web", 0, 10)
	must(t, err)
	want := []api.Op{{
		Seq: 1, Run: "r1", ID: op.ID, Sync: "main", Kind: plan.OpUpdate, Stack: "web", Server: "alpha",
		Commit: fleet.Commit{ID: "0123456789", Subject: "s"}, Release: op.Release, Trigger: "manual", Actor: "ada",
		Status: api.OpRolledBack, Reason: "it crashed", Hint: "look", Outcome: result.Outcome, Started: c.now, Ended: c.now,
		Causes: []plan.Cause{{Kind: plan.CauseNew}, {Kind: plan.CauseField, Field: "image"}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	if again, err := s.History(t.Context(), "web", 1, 10); err != nil || len(again) != 0 {
		t.Errorf("before the first: %v, %v", again, err)
	}
}

func TestAnOutcomeThatCoreDidNotWaitForIsRecordedOnce(t *testing.T) {
	t.Parallel()
	c := newClock()
	cfg := config(t, c)
	s := open(t, cfg)
	op := opOf(plan.OpCreate, "web")
	begin(t, s, c, "r1", "main", op)
	must(t, s.OpStarted(t.Context(), "r1", "order-1", op))
	must(t, s.Close())

	s = open(t, cfg)
	history, err := s.History(t.Context(), "web", 0, 1)
	must(t, err)
	if history[0].Status != api.OpInterrupted {
		t.Errorf("after a restart the op is %s", history[0].Status)
	}
	outcome := fleet.Outcome{Order: "order-1", Stack: "web", Status: fleet.OutcomeSucceeded, EndedAt: c.now}
	must(t, s.RecordOutcome(t.Context(), "beta", outcome)) // another server cannot settle it
	if stacks, _ := inventory(t, s, "main"); len(stacks) != 0 {
		t.Errorf("another server's word made %v ours", stacks)
	}
	for range 2 {
		must(t, s.RecordOutcome(t.Context(), "alpha", outcome))
	}
	history, err = s.History(t.Context(), "web", 0, 10)
	must(t, err)
	stacks, _ := inventory(t, s, "main")
	if len(history) != 1 || history[0].Status != api.OpSucceeded || len(stacks) != 1 {
		t.Errorf("got %+v, owning %v", history, stacks)
	}
}

func TestOldRunsGoButTheLastOfEveryStackStays(t *testing.T) {
	t.Parallel()
	c := newClock()
	cfg := config(t, c)
	s := open(t, cfg)
	op := opOf(plan.OpCreate, "web")
	begin(t, s, c, "run-0", "main", op)
	must(t, s.OpEnded(t.Context(), "run-0", op, ended(op, c, reconciler.OpSucceeded)))
	must(t, s.End(t.Context(), "run-0", reconciler.RunResult{Status: reconciler.OpSucceeded}))
	db, err := sql.Open("sqlite", cfg.Path)
	must(t, err)
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(t.Context(), `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2100)
		INSERT INTO runs SELECT printf('run-%d', 10000 + i), 'main', '', '', '{}', '', '[]', 'failed', 0, 0 FROM n`)
	must(t, err)
	begin(t, s, c, "run-99999", "main")
	must(t, s.End(t.Context(), "run-99999", reconciler.RunResult{Status: reconciler.OpSucceeded}))
	var left int
	must(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM runs").Scan(&left))
	history, err := s.History(t.Context(), "web", 0, 10)
	must(t, err)
	if left > 2002 || left < 2000 || len(history) != 1 {
		t.Errorf("%d runs are left, %d ops of the stack", left, len(history))
	}
}

// TestMain doubles as the process that gets killed.
func TestMain(m *testing.M) {
	path := os.Getenv("STORE_TEST_CRASH")
	if path == "" {
		os.Exit(m.Run())
	}
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{Path: path, SealKey: make([]byte, store.SealKeySize)})
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		op := opOf(plan.OpCreate, fmt.Sprintf("stack-%d", i))
		run := reconciler.Run{ID: fmt.Sprintf("run-%09d", i), Sync: "main", Started: time.Now(), Plan: plan.Plan{Ops: []plan.Op{op}}}
		if err := s.Begin(ctx, run); err != nil {
			panic(err)
		}
		if err := s.OpStarted(ctx, run.ID, run.ID, op); err != nil {
			panic(err)
		}
		result := reconciler.OpResult{Op: op.ID, Status: reconciler.OpSucceeded}
		if err := s.OpEnded(ctx, run.ID, op, result); err != nil {
			panic(err)
		}
		fmt.Println(i) // only what is durable is announced
	}
}

func TestNothingAnnouncedIsLostToKill9(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/varan.db"
	for round := range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("STORE_TEST_CRASH=%s-%d", path, round))
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		var last, next int
		for range 20 + round*7 {
			if _, err := fmt.Fscan(out, &next); err != nil {
				t.Fatal(err)
			}
			last = next
		}
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()

		s := open(t, store.Config{Path: fmt.Sprintf("%s-%d", path, round), SealKey: make([]byte, store.SealKeySize)})
		owned, _, err := s.Inventory(t.Context(), "main")
		must(t, err)
		if len(owned) < last+1 {
			t.Errorf("round %d: %d stacks owned, %d were announced", round, len(owned), last+1)
		}
		running, err := s.RunOps(t.Context(), fmt.Sprintf("run-%09d", len(owned)))
		must(t, err)
		for _, op := range running {
			if op.Status == api.OpRunning {
				t.Errorf("round %d: %s is still running", round, op.ID)
			}
		}
	}
}

func BenchmarkJournalOp(b *testing.B) {
	c := newClock()
	s := open(b, config(b, c))
	if err := s.Begin(b.Context(), reconciler.Run{ID: "r", Sync: "main", Started: c.now}); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		op := opOf(plan.OpUpdate, fmt.Sprintf("web-%d", i))
		if err := s.OpStarted(b.Context(), "r", op.ID, op); err != nil {
			b.Fatal(err)
		}
		if err := s.OpEnded(b.Context(), "r", op, ended(op, c, reconciler.OpSucceeded)); err != nil {
			b.Fatal(err)
		}
	}
}
