package reconciler_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

// declare makes resources the head of the branch, with stacks.
func (b *bench) declare(id string, resources []fleet.Resource, stacks ...fleet.Stack) {
	b.commit(id, stacks...)
	b.source.set(func(s *fakeSource) { s.head.Desired.Resources = resources })
}

func resource(kind, name string, fields ...fleet.Field) fleet.Resource {
	return fleet.Resource{Kind: kind, Name: name, Fields: fields}
}

func TestResourcesAreRecordedBeforeOpsAndDeletedAfter(t *testing.T) {
	onBench(t, func(b *bench) {
		b.declare("c1", []fleet.Resource{resource("stack", "web"), resource("variable", "X")}, stack("web", "alpha", "1"))
	}, func(b *bench) {
		b.pass(time.Second)
		b.declare("c2", []fleet.Resource{resource("stack", "api"), resource("variable", "Y")}, stack("api", "alpha", "1"))
		b.r.Poke("home", reconciler.TriggerWebhook, "webhook")
		b.pass(2 * time.Second)
		log := slices.Clone(b.journal.log)
		slices.Sort(log[5:7]) // the two ops need not wait for each other
		want := []string{
			"create variable/X", "create stack/web", "create web@alpha",
			"create variable/Y", "create stack/api", "create api@alpha", "remove web@alpha", "delete variable/X", "delete stack/web",
		}
		if diff := cmp.Diff(want, log); diff != "" {
			b.Errorf("order (-want +got):\n%s", diff)
		}
		if s := b.status(); !s.Plan.Empty() {
			b.Errorf("something stays pending:\n%s", s.Plan)
		}
	})
}

func TestNothingIsDeployedWhenResourcesCannotBeRecorded(t *testing.T) {
	onBench(t, func(b *bench) {
		b.declare("c1", []fleet.Resource{resource("variable", "X")}, stack("web", "alpha", "1"))
		b.journal.failing = "Record"
	}, func(b *bench) {
		b.pass(time.Second)
		if orders := b.fleet.dispatched(); len(orders) != 0 {
			b.Errorf("deployed %v", orders)
		}
		if s := b.status(); s.Result == nil || s.Result.Status != reconciler.OpFailed {
			b.Errorf("result %+v", s.Result)
		}
		begun, _ := b.journal.counts()
		if begun > 10 {
			b.Errorf("%d runs in a second: no back-off", begun)
		}
		b.journal.set(func(j *fakeJournal) { j.failing = "" })
		b.pass(time.Hour)
		if s := b.status(); !s.Plan.Empty() {
			b.Errorf("it does not recover:\n%s", s.Plan)
		}
	})
}

func TestARecordStaysWhileItsStackDoes(t *testing.T) {
	onBench(t, func(b *bench) {
		b.declare("c1", []fleet.Resource{resource("stack", "web"), resource("stack", "db")},
			stack("web", "alpha", "1"), stack("db", "beta", "1"))
	}, func(b *bench) {
		b.pass(time.Second)
		b.fleet.set(func(f *fakeFleet) {
			f.fail = func(o fleet.Order) (fleet.Outcome, error, bool) {
				return fleet.Outcome{Order: o.ID, Stack: o.Stack, Status: fleet.OutcomeFailed, Reason: "no", Retryable: true}, nil,
					o.Kind == fleet.OrderRemove
			}
		})
		b.declare("c2", []fleet.Resource{resource("stack", "db")}, stack("db", "beta", "1"))
		b.r.Poke("home", reconciler.TriggerWebhook, "webhook")
		b.pass(time.Second)
		if _, there := b.journal.records["stack/web"]; !there {
			b.Error("the record of a stack that could not be removed is gone")
		}
		b.fleet.set(func(f *fakeFleet) { f.fail = nil })
		b.pass(time.Hour)
		if _, there := b.journal.records["stack/web"]; there {
			b.Error("the record outlives its stack")
		}
	})
}

func TestASelectionIsAppliedAndNothingElse(t *testing.T) {
	onBench(t, func(b *bench) {
		b.source.head.AutoApply = false
		b.declare("c1", []fleet.Resource{resource("stack", "web"), resource("stack", "db"), resource("variable", "X")},
			stack("web", "alpha", "1"), stack("db", "alpha", "1"))
	}, func(b *bench) {
		_, result, err := b.r.Apply(b.Context(), reconciler.ApplyRequest{Sync: "home", Only: []string{"stack/web"}})
		if err != nil || result.Status != reconciler.OpSucceeded {
			b.Fatal(err, result)
		}
		if diff := cmp.Diff([]string{"create stack/web", "create web@alpha"}, b.journal.log); diff != "" {
			b.Errorf("done (-want +got):\n%s", diff)
		}
	})
}

// several serves several syncs, each with a source and a journal of its own.
type several struct {
	sources  map[string]*fakeSource
	journals map[string]*fakeJournal

	mu   sync.Mutex
	runs map[string]string
}

func (s *several) Load(ctx context.Context, name string) (reconciler.Loaded, error) {
	return s.sources[name].Load(ctx, name)
}

func (s *several) Inventory(ctx context.Context, name string) ([]plan.Owned, map[string]string, error) {
	return s.journals[name].Inventory(ctx, name)
}

func (s *several) Records(ctx context.Context, name string) ([]fleet.Resource, map[string]string, error) {
	return s.journals[name].Records(ctx, name)
}

func (s *several) Record(ctx context.Context, run reconciler.Run, d fleet.Desired, changes []plan.ResourceChange) error {
	return s.journals[run.Sync].Record(ctx, run, d, changes)
}

func (s *several) Adopt(ctx context.Context, name string, stacks []plan.Owned) error {
	return s.journals[name].Adopt(ctx, name, stacks)
}

func (*several) Planned(context.Context, string, reconciler.Trigger, string, plan.Plan) error {
	return nil
}

func (s *several) Begin(ctx context.Context, run reconciler.Run) error {
	s.mu.Lock()
	s.runs[run.ID] = run.Sync
	s.mu.Unlock()
	return s.journals[run.Sync].Begin(ctx, run)
}

func (s *several) of(run string) *fakeJournal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journals[s.runs[run]]
}

func (s *several) OpStarted(ctx context.Context, run, order string, op plan.Op) error {
	return s.of(run).OpStarted(ctx, run, order, op)
}

func (s *several) OpEnded(ctx context.Context, run string, op plan.Op, result reconciler.OpResult) error {
	return s.of(run).OpEnded(ctx, run, op, result)
}

func (s *several) End(ctx context.Context, run string, result reconciler.RunResult) error {
	return s.of(run).End(ctx, run, result)
}

// onSyncs runs test with a reconciler that watches a sync for each list of stacks.
func onSyncs(
	t *testing.T, stacks map[string][]fleet.Stack, setup func(*fakeFleet),
	test func(*testing.T, *fakeFleet, *reconciler.Reconciler),
) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &several{sources: map[string]*fakeSource{}, journals: map[string]*fakeJournal{}, runs: map[string]string{}}
		f := newFakeFleet("alpha", "beta")
		setup(f)
		r, err := reconciler.New(reconciler.Config{Source: s, Fleet: f, Journal: s, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for name, list := range stacks {
			head := reconciler.Loaded{AutoApply: true}
			head.Desired = fleet.Desired{Sync: name, Commit: fleet.Commit{ID: "c1"}, Stacks: list}
			s.sources[name], s.journals[name] = &fakeSource{head: head}, newFakeJournal()
			r.Add(reconciler.SyncSettings{Name: name})
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		test(t, f, r)
		cancel()
		synctest.Wait()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func elapse(t *testing.T, d time.Duration) {
	t.Helper()
	if err := pause(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func TestAStackWaitsForOneOfAnotherSync(t *testing.T) {
	onSyncs(t, map[string][]fleet.Stack{
		"apps": {stack("web", "alpha", "1", "db")}, "infra": {stack("db", "beta", "1")},
	}, func(f *fakeFleet) {
		f.takes["db"] = 10 * time.Second
	}, func(t *testing.T, f *fakeFleet, _ *reconciler.Reconciler) {
		t.Helper()
		elapse(t, 5*time.Second)
		if diff := cmp.Diff([]string{"db"}, f.dispatched()); diff != "" {
			t.Errorf("too early (-want +got):\n%s", diff)
		}
		elapse(t, 6*time.Second)
		if diff := cmp.Diff([]string{"db", "web"}, f.dispatched()); diff != "" {
			t.Errorf("orders (-want +got):\n%s", diff)
		}
	})
}

func TestAFailedStackOfAnotherSyncStopsItsDependents(t *testing.T) {
	onSyncs(t, map[string][]fleet.Stack{
		"apps": {stack("web", "alpha", "1", "db")}, "infra": {stack("db", "beta", "1")},
	}, func(f *fakeFleet) {
		f.takes["db"] = time.Second
		f.fail = func(o fleet.Order) (fleet.Outcome, error, bool) {
			return fleet.Outcome{Order: o.ID, Stack: o.Stack, Status: fleet.OutcomeFailed, Reason: "it exits"}, nil, o.Stack == "db"
		}
	}, func(t *testing.T, f *fakeFleet, r *reconciler.Reconciler) {
		t.Helper()
		elapse(t, time.Hour)
		for _, name := range f.dispatched() {
			if name == "web" {
				t.Error("web was deployed although db failed")
			}
		}
		status, _ := r.Status("apps")
		if len(status.Plan.Blocked) != 1 || status.Plan.Blocked[0].Reason != plan.BlockDependency ||
			!strings.Contains(status.Plan.Blocked[0].Text, "db of sync infra") {
			t.Errorf("blocked: %+v", status.Plan.Blocked)
		}
	})
}

func TestACircleAcrossSyncsEndsAndIsTold(t *testing.T) {
	onSyncs(t, map[string][]fleet.Stack{
		"apps": {stack("web", "alpha", "1", "db")}, "infra": {stack("db", "beta", "1", "web"), stack("free", "beta", "1")},
	}, func(*fakeFleet) {}, func(t *testing.T, f *fakeFleet, r *reconciler.Reconciler) {
		t.Helper()
		elapse(t, 10*time.Minute)
		if diff := cmp.Diff([]string{"free"}, f.dispatched()); diff != "" {
			t.Errorf("orders (-want +got):\n%s", diff)
		}
		for _, sync := range []string{"apps", "infra"} {
			status, _ := r.Status(sync)
			if len(status.Plan.Blocked) != 1 || !strings.Contains(status.Plan.Blocked[0].Text, "across syncs") {
				t.Errorf("%s: %+v", sync, status.Plan.Blocked)
			}
			if status.Checks > 200 {
				t.Errorf("%s was checked %d times: the two keep each other awake", sync, status.Checks)
			}
		}
	})
}
