package reconciler

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// Reconciler watches syncs and keeps the fleet as they say. All methods are safe for
// concurrent use.
type Reconciler struct {
	cfg Config
	// servers bounds the orders in flight to each server; stacks lets one order at a
	// time near a stack, whoever asked for it.
	servers, stacks *slots
	// refreshing lets one refresh of a server run at a time.
	refreshing *slots
	// changed wakes Run when loops were added.
	changed chan struct{}
	tasks   chan task
	// done is closed by Run when it returns.
	done chan struct{}

	mu    sync.Mutex
	loops map[string]*loop
	fresh []*loop

	watchMu  sync.Mutex
	watchers []*watcher
}

// watcher is one subscription.
type watcher struct{ fn func(Event) }

// task runs as part of Run. ctx ends when Run is asked to stop, work when it has waited
// long enough for what is in flight.
type task func(ctx, work context.Context)

// New returns a Reconciler without syncs.
func New(cfg Config) (*Reconciler, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	return &Reconciler{
		cfg:        cfg,
		servers:    newSlots(cfg.PerServer),
		stacks:     newSlots(1),
		refreshing: newSlots(1),
		changed:    make(chan struct{}, 1),
		tasks:      make(chan task),
		done:       make(chan struct{}),
		loops:      map[string]*loop{},
	}, nil
}

// Run reconciles until ctx ends. It then starts nothing more and waits, for Config.Drain
// at most, for the outcomes of orders in flight. It is called once.
func (r *Reconciler) Run(ctx context.Context) error {
	defer close(r.done)
	work, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	var group sync.WaitGroup
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-r.changed:
			for _, l := range r.takeFresh() {
				group.Go(func() { l.run(ctx, work) })
			}
		case t := <-r.tasks:
			group.Go(func() { t(ctx, work) })
		}
	}
	drained := make(chan struct{})
	go func() {
		group.Wait()
		close(drained)
	}()
	patience := time.NewTimer(r.cfg.Drain)
	defer patience.Stop()
	select {
	case <-drained:
	case <-patience.C:
		abandon()
		<-drained
	}
	return nil
}

func (r *Reconciler) takeFresh() []*loop {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := r.fresh
	r.fresh = nil
	return fresh
}

// spawn runs t as part of Run.
func (r *Reconciler) spawn(ctx context.Context, t task) error {
	select {
	case r.tasks <- t:
		return nil
	case <-r.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Add starts to watch a sync, or gives one that is watched new settings. It may be
// called before Run.
func (r *Reconciler) Add(settings SyncSettings) {
	if settings.Interval <= 0 {
		settings.Interval = time.Minute
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if l, ok := r.loops[settings.Name]; ok {
		l.reset(settings)
		return
	}
	l := newLoop(r, settings)
	r.loops[settings.Name] = l
	r.fresh = append(r.fresh, l)
	wake(r.changed)
}

// Remove stops watching a sync. Orders in flight are seen to their end.
func (r *Reconciler) Remove(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l, ok := r.loops[name]; ok {
		delete(r.loops, name)
		close(l.stop)
	}
	for _, other := range r.loops {
		if other.awaitsAny() {
			other.check(TriggerResult, name)
		}
	}
}

// Poke asks a sync to look at its source now. It never waits. coalesced says that an
// earlier poke, not yet begun, covers this one: any number of pokes during a pass make
// one more pass. A manual poke also forgets what was being held back after failures.
func (r *Reconciler) Poke(name string, trigger Trigger, actor string) (coalesced bool) {
	l, ok := r.find(name)
	if !ok {
		return false
	}
	return l.poke(trigger, actor, false, nil)
}

// PokeApply is Poke, and has what it finds carried out this once even if the sync only
// plans: someone with the right to ask did so.
func (r *Reconciler) PokeApply(name string, trigger Trigger, actor string) (coalesced bool) {
	l, ok := r.find(name)
	if !ok {
		return false
	}
	return l.poke(trigger, actor, true, nil)
}

// PokeOnly is PokeApply for a selection, as plan.Policy.Only has it.
func (r *Reconciler) PokeOnly(name string, trigger Trigger, actor string, only ...string) (coalesced bool) {
	l, ok := r.find(name)
	if !ok {
		return false
	}
	return l.poke(trigger, actor, false, only)
}

// PokeServer tells that an agent reported a change: of the stacks named, or of anything
// on its server when there are none. The syncs concerned plan again without a look at
// their sources.
func (r *Reconciler) PokeServer(server string, stacks []string) {
	r.mu.Lock()
	loops := make([]*loop, 0, len(r.loops))
	for _, l := range r.loops {
		loops = append(loops, l)
	}
	r.mu.Unlock()
	for _, l := range loops {
		if len(stacks) == 0 {
			l.arrived(server)
		}
		switch {
		case len(stacks) == 0 && l.waits(server):
			l.poke(TriggerReport, server, false, nil)
		case l.concerned(server, stacks):
			l.check(TriggerReport, server)
		}
	}
}

// Status returns what is known of a sync.
func (r *Reconciler) Status(name string) (SyncStatus, bool) {
	l, ok := r.find(name)
	if !ok {
		return SyncStatus{}, false
	}
	return l.snapshot(), true
}

// Statuses returns what is known of every sync, by name.
func (r *Reconciler) Statuses() []SyncStatus {
	r.mu.Lock()
	loops := make([]*loop, 0, len(r.loops))
	for _, l := range r.loops {
		loops = append(loops, l)
	}
	r.mu.Unlock()
	list := make([]SyncStatus, 0, len(loops))
	for _, l := range loops {
		list = append(list, l.snapshot())
	}
	slices.SortFunc(list, func(a, b SyncStatus) int { return strings.Compare(a.Sync, b.Sync) })
	return list
}

// Subscribe calls fn with every event, one at a time and in order, until cancel is
// called. fn must not block: what it does, everyone waits for. It must not call back
// into the Reconciler's Subscribe or cancel.
func (r *Reconciler) Subscribe(fn func(Event)) (cancel func()) {
	r.watchMu.Lock()
	defer r.watchMu.Unlock()
	w := &watcher{fn: fn}
	r.watchers = append(r.watchers, w)
	return func() {
		r.watchMu.Lock()
		defer r.watchMu.Unlock()
		r.watchers = slices.DeleteFunc(r.watchers, func(other *watcher) bool { return other == w })
	}
}

// emit tells the subscribers, and also the one who watches a single run.
func (r *Reconciler) emit(e Event, also func(Event)) {
	r.watchMu.Lock()
	defer r.watchMu.Unlock()
	e.At = time.Now()
	if also != nil {
		also(e)
	}
	for _, w := range r.watchers {
		w.fn(e)
	}
}

func (r *Reconciler) find(name string) (*loop, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l, ok := r.loops[name]
	return l, ok
}

// Plan says what would be done, and does nothing. When the diagnostics hold errors there
// is no plan.
func (r *Reconciler) Plan(ctx context.Context, req PlanRequest) (plan.Plan, fleet.Diagnostics, error) {
	loaded := req.Desired
	if loaded == nil {
		l, ok := r.find(req.Sync)
		if !ok {
			return plan.Plan{}, nil, fmt.Errorf("plan %s: %w", req.Sync, ErrUnknownSync)
		}
		read, err := l.read(ctx)
		if err != nil {
			return plan.Plan{}, nil, err
		}
		l.noticed(read)
		loaded = &read
	}
	if loaded.Diagnostics.HasErrors() {
		return plan.Plan{}, loaded.Diagnostics, nil
	}
	policy := loaded.Policy
	policy.Only, policy.Forced, policy.Override = req.Only, req.Forced, req.Override
	in, err := r.input(ctx, req.Sync, loaded, policy)
	if err != nil {
		return plan.Plan{}, loaded.Diagnostics, err
	}
	in.Control.Holds = append(slices.Clone(req.Holds), in.Control.Holds...) // the first of a place counts
	if req.Refresh {
		in.Observed = r.refresh(ctx, concernedServers(in, req.Only))
	}
	return plan.Compute(in), loaded.Diagnostics, nil
}

// input gathers what a plan depends on.
func (r *Reconciler) input(ctx context.Context, name string, loaded *Loaded, policy plan.Policy) (plan.Input, error) {
	owned, foreign, err := r.cfg.Journal.Inventory(ctx, name)
	if err != nil {
		return plan.Input{}, fmt.Errorf("read the inventory of %s: %w", name, err)
	}
	records, foreignRecords, err := r.cfg.Journal.Records(ctx, name)
	if err != nil {
		return plan.Input{}, fmt.Errorf("read the records of %s: %w", name, err)
	}
	control, err := r.cfg.Controls.Control(ctx, name)
	if err != nil {
		return plan.Input{}, fmt.Errorf("read what was decided about %s: %w", name, err)
	}
	return plan.Input{
		Control: control,
		Records: records, ForeignRecords: foreignRecords,
		Elsewhere: r.elsewhere(name, loaded.Desired),
		Desired:   loaded.Desired,
		Observed:  r.cfg.Fleet.Observed(),
		Inventory: owned,
		Foreign:   foreign,
		Policy:    policy,
		Now:       time.Now(),
	}, nil
}

// refresh waits a bounded time for fresh observations.
func (r *Reconciler) refresh(ctx context.Context, servers []string) fleet.Observed {
	if len(servers) == 0 {
		return r.cfg.Fleet.Observed()
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Refresh)
	defer cancel()
	return r.cfg.Fleet.Refresh(ctx, servers)
}

// concernedServers lists the servers that a plan speaks of.
func concernedServers(in plan.Input, only []string) []string {
	var servers []string
	add := func(kind fleet.Kind, stack, server string) {
		if plan.Selects(only, string(cmp.Or(kind, fleet.KindStack)), stack) {
			servers = append(servers, server)
		}
	}
	for i := range in.Desired.Stacks {
		add(in.Desired.Stacks[i].Kind, in.Desired.Stacks[i].Name, in.Desired.Stacks[i].Server)
	}
	for _, o := range in.Inventory {
		add(o.Kind, o.Stack, o.Server)
	}
	slices.Sort(servers)
	return slices.Compact(servers)
}

// wake makes sure that whoever waits on ch looks again.
func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
