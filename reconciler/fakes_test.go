package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

// fakeSource serves one sync.
type fakeSource struct {
	mu     sync.Mutex
	head   reconciler.Loaded
	err    error
	takes  time.Duration
	loads  int
	inside int
	// overlapped is set when two loads ran at a time.
	overlapped bool
}

func (s *fakeSource) Load(ctx context.Context, _ string) (reconciler.Loaded, error) {
	s.mu.Lock()
	s.loads++
	s.inside++
	s.overlapped = s.overlapped || s.inside > 1
	takes, head, err := s.takes, s.head, s.err
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.inside--
		s.mu.Unlock()
	}()
	return head, errors.Join(err, pause(ctx, takes))
}

func (s *fakeSource) set(change func(*fakeSource)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *fakeSource) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loads
}

// fakeFleet models agents: an order takes a while and then the host is as it says.
type fakeFleet struct {
	mu       sync.Mutex
	observed fleet.Observed
	orders   []fleet.Order
	takes    map[string]time.Duration // by stack
	// fail decides the outcome of an order; nil lets it succeed.
	fail func(fleet.Order) (fleet.Outcome, error, bool)
	// content is shown what an order's blobs are read from; optional.
	content func(reconciler.Content)
	// looked is called after somebody looked at what runs; optional.
	looked func()
	// mute keeps reports back until Refresh.
	mute      bool
	refreshes int
	generated int
	flight    map[string]int
	most      map[string]int // most in flight at a time, by server and by stack@server
	late      fleet.Observed
}

func newFakeFleet(servers ...string) *fakeFleet {
	f := &fakeFleet{
		observed: fleet.Observed{}, takes: map[string]time.Duration{},
		flight: map[string]int{}, most: map[string]int{},
	}
	for _, s := range servers {
		f.observed[s] = fleet.ServerReport{Server: s, Online: true, Received: time.Now()}
	}
	f.late = maps.Clone(f.observed)
	return f
}

func (f *fakeFleet) Observed() fleet.Observed {
	f.mu.Lock()
	observed, looked := maps.Clone(f.observed), f.looked
	f.mu.Unlock()
	if looked != nil {
		looked()
	}
	return observed
}

func (f *fakeFleet) Refresh(_ context.Context, _ []string) fleet.Observed {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refreshes++
	f.observed = maps.Clone(f.late)
	return maps.Clone(f.observed)
}

func (f *fakeFleet) Dispatch(
	ctx context.Context, order fleet.Order, content reconciler.Content, progress func(fleet.Progress),
) (fleet.Outcome, error) {
	stack := order.Stack + "@" + order.Server
	f.enter(order, stack, order.Server)
	defer f.leave(stack, order.Server)
	progress(fleet.Progress{Order: order.ID, Stack: order.Stack, Phase: fleet.PhaseUp})
	f.mu.Lock()
	takes, fail, show := f.takes[order.Stack], f.fail, f.content
	f.mu.Unlock()
	if show != nil {
		show(content)
	}
	if err := pause(ctx, takes); err != nil {
		return fleet.Outcome{}, err
	}
	outcome := fleet.Outcome{Order: order.ID, Stack: order.Stack, Status: fleet.OutcomeSucceeded}
	if fail != nil {
		if failed, err, is := fail(order); is {
			failed.Order, failed.Stack = order.ID, order.Stack
			return failed, err
		}
	}
	f.carryOut(order)
	return outcome, nil
}

func (f *fakeFleet) enter(order fleet.Order, keys ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.orders = append(f.orders, order)
	for _, k := range keys {
		f.flight[k]++
		f.most[k] = max(f.most[k], f.flight[k])
	}
}

func (f *fakeFleet) leave(keys ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range keys {
		f.flight[k]--
	}
}

func (f *fakeFleet) carryOut(order fleet.Order) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.generated++
	f.change(order.Server, order.Stack, func(r *fleet.StackReport) bool {
		*r = running(order.Release, fmt.Sprint(f.generated))
		return order.Kind != fleet.OrderRemove
	})
}

// happen changes what runs, as someone on the host would.
func (f *fakeFleet) happen(server, stack string, change func(*fleet.StackReport)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.change(server, stack, func(r *fleet.StackReport) bool {
		r.Containers = slices.Clone(r.Containers)
		change(r)
		return true
	})
}

// change edits the report of a stack; the caller holds the lock.
func (f *fakeFleet) change(server, stack string, edit func(*fleet.StackReport) (keep bool)) {
	s := f.late[server]
	var report fleet.StackReport
	if old, ok := s.Stack(stack); ok {
		report = old
	}
	s.Stacks = slices.DeleteFunc(slices.Clone(s.Stacks), func(r fleet.StackReport) bool { return r.Stack == stack })
	if edit(&report) {
		s.Stacks = append(s.Stacks, report)
	}
	f.late = maps.Clone(f.late)
	f.late[server] = s
	if !f.mute {
		f.observed = maps.Clone(f.late)
	}
}

func (f *fakeFleet) connect(server string, online bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.late[server]
	s.Server, s.Online, s.Received = server, online, time.Now()
	f.late = maps.Clone(f.late)
	f.late[server] = s
	f.observed = maps.Clone(f.late)
}

func (f *fakeFleet) set(change func(*fakeFleet)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// dispatched lists the stacks of the orders so far.
func (f *fakeFleet) dispatched() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := []string{}
	for _, o := range f.orders {
		list = append(list, o.Stack)
	}
	return list
}

func running(r fleet.Release, generation string) fleet.StackReport {
	report := fleet.StackReport{Stack: r.Stack, Project: r.Project, Release: r}
	for _, s := range r.Services {
		report.Containers = append(report.Containers, fleet.Container{
			ID: r.Stack + "-" + s.Name + "-" + generation, Service: s.Name,
			State: fleet.StateRunning, Health: fleet.HealthNone, Digest: s.Digest,
		})
	}
	return report
}

// fakeJournal remembers what it was told, and keeps the inventory.
type fakeJournal struct {
	mu      sync.Mutex
	owned   map[string]plan.Owned
	runs    []reconciler.Run
	started []string
	ended   []reconciler.OpResult
	results []reconciler.RunResult
	// records are what was recorded, by id; log is all that was done, in order.
	records map[string]fleet.Resource
	log     []string
	// failing names a method that fails.
	failing string
}

func newFakeJournal() *fakeJournal {
	return &fakeJournal{owned: map[string]plan.Owned{}, records: map[string]fleet.Resource{}}
}

func (j *fakeJournal) Records(context.Context, string) ([]fleet.Resource, map[string]string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Collect(maps.Values(j.records)), nil, j.failure("Records")
}

func (j *fakeJournal) Record(_ context.Context, _ reconciler.Run, desired fleet.Desired, changes []plan.ResourceChange) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.failure("Record"); err != nil {
		return err
	}
	for _, c := range changes {
		j.log = append(j.log, c.ID())
		delete(j.records, c.Resource())
		for _, r := range desired.Resources {
			if r.ID() == c.Resource() && c.Action != plan.ResourceDelete {
				j.records[r.ID()] = r
			}
		}
	}
	return nil
}

func (j *fakeJournal) Inventory(context.Context, string) ([]plan.Owned, map[string]string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Collect(maps.Values(j.owned)), nil, j.failure("Inventory")
}

func (j *fakeJournal) Adopt(_ context.Context, _ string, stacks []plan.Owned) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, o := range stacks {
		j.owned[o.Stack+"@"+o.Server] = o
	}
	return j.failure("Adopt")
}

func (*fakeJournal) Planned(context.Context, string, reconciler.Trigger, string, plan.Plan) error {
	return nil
}

func (j *fakeJournal) Begin(_ context.Context, run reconciler.Run) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.runs = append(j.runs, run)
	return j.failure("Begin")
}

func (j *fakeJournal) OpStarted(_ context.Context, _, _ string, op plan.Op) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.started = append(j.started, op.ID)
	j.log = append(j.log, op.ID)
	return j.failure("OpStarted")
}

func (j *fakeJournal) OpEnded(_ context.Context, _ string, op plan.Op, result reconciler.OpResult) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.failure("OpEnded"); err != nil {
		return err
	}
	j.ended = append(j.ended, result)
	if result.Status == reconciler.OpSucceeded {
		key := op.Stack + "@" + op.Server
		delete(j.owned, key)
		if op.Kind != plan.OpRemove {
			j.owned[key] = plan.Owned{Stack: op.Stack, Server: op.Server, Project: op.Project, After: op.StackAfter}
		}
	}
	return nil
}

func (j *fakeJournal) End(_ context.Context, _ string, result reconciler.RunResult) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.results = append(j.results, result)
	return j.failure("End")
}

func (j *fakeJournal) failure(method string) error {
	if j.failing == method {
		return errors.New("disk full")
	}
	return nil
}

func (j *fakeJournal) set(change func(*fakeJournal)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change(j)
}

// counts are the runs begun and ended.
func (j *fakeJournal) counts() (begun, ended int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.runs), len(j.results)
}

// pause waits for d, or for ctx.
func pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// bench is a reconciler among fakes, inside a bubble of fake time.
type bench struct {
	*testing.T
	source  *fakeSource
	fleet   *fakeFleet
	journal *fakeJournal
	// controls is what people decided, and past the commits that can be read again.
	controls *fakeControls
	past     fakePast
	r        *reconciler.Reconciler
	cancel   context.CancelFunc
	done     chan error
}

// onBench runs test with a started reconciler that watches the sync "home" of servers
// alpha and beta; setup prepares the fakes before.
func onBench(t *testing.T, setup, test func(*bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{
			T: t, source: &fakeSource{}, fleet: newFakeFleet("alpha", "beta"), journal: newFakeJournal(),
			controls: newFakeControls(), past: fakePast{}, done: make(chan error, 1),
		}
		b.source.head = reconciler.Loaded{AutoApply: true, Policy: plan.Policy{SelfHeal: true, Delete: true}}
		b.source.head.Desired = fleet.Desired{Sync: "home", Commit: fleet.Commit{ID: "c1"}}
		setup(b)
		var err error
		b.r, err = reconciler.New(reconciler.Config{
			Source: b.source, Fleet: b.fleet, Journal: b.journal, Logger: slog.New(slog.DiscardHandler), PerServer: 2,
			Controls: b.controls, Past: b.past,
		})
		if err != nil {
			t.Fatal(err)
		}
		b.r.Add(reconciler.SyncSettings{Name: "home"})
		var ctx context.Context
		ctx, b.cancel = context.WithCancel(t.Context())
		go func() { b.done <- b.r.Run(ctx) }()
		synctest.Wait()
		test(b)
		b.cancel()
		synctest.Wait()
		if err := <-b.done; err != nil {
			t.Errorf("run: %v", err)
		}
		if b.source.overlapped {
			t.Error("loads overlapped")
		}
	})
}

// pass lets time go by.
func (b *bench) pass(d time.Duration) {
	b.Helper()
	if err := pause(b.Context(), d); err != nil {
		b.Fatal(err)
	}
	synctest.Wait()
}

// commit makes stacks the head of the branch.
func (b *bench) commit(id string, stacks ...fleet.Stack) {
	b.source.set(func(s *fakeSource) {
		s.head.Diagnostics = nil
		s.head.Desired = fleet.Desired{Sync: "home", Commit: fleet.Commit{ID: id}, Stacks: stacks}
	})
}

// push is a commit with its webhook.
func (b *bench) push(id string, stacks ...fleet.Stack) {
	b.commit(id, stacks...)
	b.r.Poke("home", reconciler.TriggerWebhook, "webhook")
	synctest.Wait()
}

func (b *bench) status() reconciler.SyncStatus {
	b.Helper()
	s, ok := b.r.Status("home")
	if !ok {
		b.Fatal("no status")
	}
	return s
}

// stack makes a stack of one service whose image has a version.
func stack(name, server, version string, after ...string) fleet.Stack {
	service := fleet.Service{
		Name: "app", Image: "app:" + version, Replicas: 1, Digest: fleet.SumDigest([]byte(name + version)),
		Fields: []fleet.Field{{Path: "image", Value: "app:" + version}},
	}
	return fleet.Stack{Name: name, Server: server, After: after, Release: fleet.Release{
		Digest: fleet.SumDigest([]byte(name + server + version)), Stack: name, Server: server, Project: name,
		Services: []fleet.Service{service},
	}}
}
