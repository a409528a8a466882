package reconciler

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// settleFor is how long reports and results are gathered before a check: a deploy makes
// many of each within moments.
const settleFor = 50 * time.Millisecond

// loop watches one sync. Its goroutine loads, plans and begins executions; executions
// run beside it, so that a slow server never keeps a new commit from the others.
type loop struct {
	r    *Reconciler
	name string
	// stop is closed when the sync is removed; woken has room for one wake-up.
	stop, woken chan struct{}
	// reading lets one call of Source.Load run at a time.
	reading *slots

	mu       sync.Mutex
	interval time.Duration
	pending  pending
	// good is the last valid reading, nil before the first.
	good   *Loaded
	status SyncStatus
	// unrecorded is why the last run could not be recorded, empty when it was.
	unrecorded string
	loading    bool
	// came are the servers that were heard of while the source was read, whose files and secrets
	// may be missing from what is read.
	came []string
	// planning is set from before a pass looks at what runs until its plan is kept: what is told
	// in between is in neither.
	planning bool
	active   map[*execution]struct{}
	attempts attempts
	// deploys are the last of each place that succeeded.
	deploys map[place][]plan.Deploy
	// awaits are stacks of other syncs that this one's come after.
	awaits map[string]bool
}

// burstGap is the least time between two looks at a source that webhooks ask for. The
// first of a burst is answered at once; all that follow within the gap share one look.
const burstGap = time.Second

type place struct{ server, stack string }

// pending is what the next wake-up has to do.
type pending struct {
	load, check bool
	// apply asks that this once the plan is carried out even if the sync only plans.
	apply bool
	// only asks the same for these stacks and resources alone.
	only    []string
	trigger Trigger
	actor   string
	// checkTrigger and checkActor go with check.
	checkTrigger Trigger
	checkActor   string
}

func newLoop(r *Reconciler, settings SyncSettings) *loop {
	return &loop{
		r:        r,
		name:     settings.Name,
		stop:     make(chan struct{}),
		woken:    make(chan struct{}, 1),
		reading:  newSlots(1),
		interval: settings.Interval,
		status:   SyncStatus{Sync: settings.Name},
		active:   map[*execution]struct{}{},
		attempts: attempts{},
		deploys:  map[place][]plan.Deploy{},
	}
}

// reset takes over new settings and has a look at once.
func (l *loop) reset(settings SyncSettings) {
	l.mu.Lock()
	l.interval = settings.Interval
	l.mu.Unlock()
	l.poke(TriggerManual, "settings", false, nil)
}

// poke asks for a look at the source; with apply, also that what it finds is done, and with
// only, what it finds of these.
func (l *loop) poke(trigger Trigger, actor string, apply bool, only []string) (coalesced bool) {
	l.mu.Lock()
	coalesced = l.pending.load
	l.pending.apply = l.pending.apply || apply
	l.pending.only = append(l.pending.only, only...)
	// A person who asks does not wait for the end of a burst.
	if !coalesced || trigger == TriggerManual {
		l.pending.load, l.pending.trigger, l.pending.actor = true, trigger, actor
	}
	if trigger == TriggerManual {
		l.attempts = attempts{}
	}
	l.mu.Unlock()
	wake(l.woken)
	return coalesced
}

// check asks for a plan without a look at the source.
func (l *loop) check(trigger Trigger, actor string) {
	l.mu.Lock()
	if !l.pending.check {
		l.pending.check, l.pending.checkTrigger, l.pending.checkActor = true, trigger, actor
	}
	l.mu.Unlock()
	wake(l.woken)
}

// concerned reports whether the sync has any of the stacks on the server.
func (l *loop) concerned(server string, stacks []string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.planning {
		return true
	}
	// The plan lists every stack that is desired or owned, by server and name.
	find := func(stack string) (at int, found bool) {
		return slices.BinarySearchFunc(l.status.Plan.Stacks, place{server, stack}, func(s plan.StackState, p place) int {
			return cmp.Or(cmp.Compare(s.Server, p.server), cmp.Compare(s.Stack, p.stack))
		})
	}
	if len(stacks) == 0 {
		at, _ := find("")
		return at < len(l.status.Plan.Stacks) && l.status.Plan.Stacks[at].Server == server
	}
	return slices.ContainsFunc(stacks, func(stack string) bool {
		_, found := find(stack)
		return found
	})
}

// waits reports whether what was read last may be another now that the server came: its
// agent has files and names of secrets that the commit speaks of.
func (l *loop) waits(server string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waitsLocked(server)
}

func (l *loop) waitsLocked(server string) bool {
	if l.status.Diagnostics.HasErrors() {
		return true
	}
	return l.good != nil && slices.ContainsFunc(l.good.Desired.Stacks, func(s fleet.Stack) bool {
		return s.Server == server && s.Unreadable != ""
	})
}

// arrived notes that a server came.
func (l *loop) arrived(server string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loading {
		l.came = append(l.came, server)
	}
}

// missed asks for another look when what was read waits for a server that came meanwhile.
func (l *loop) missed() {
	l.mu.Lock()
	i := slices.IndexFunc(l.came, l.waitsLocked)
	came := l.came
	l.came = nil
	l.mu.Unlock()
	if i >= 0 {
		l.poke(TriggerReport, came[i], false, nil)
	}
}

// read loads the head of the sync's branch.
func (l *loop) read(ctx context.Context) (Loaded, error) {
	release, err := l.reading.acquire(ctx, l.name)
	if err != nil {
		return Loaded{}, fmt.Errorf("wait to load %s: %w", l.name, err)
	}
	defer release()
	loaded, err := l.r.cfg.Source.Load(ctx, l.name)
	if err != nil {
		return Loaded{}, err // it names the sync and what was tried
	}
	return loaded, nil
}

// noticed has a look at the source when a person's plan or apply found a commit that the
// loop has not seen: until then what it tells of the sync would be of the commit before.
// A sync that applies by itself waits for its own turn, or looking would set work going.
func (l *loop) noticed(loaded Loaded) {
	l.mu.Lock()
	news := !loaded.AutoApply && loaded.Desired.Commit.ID != l.status.Head.ID
	l.mu.Unlock()
	if news {
		l.poke(TriggerPoll, "poll", false, nil)
	}
}

// reading is the answer to a load that the loop asked for.
type reading struct {
	loaded  Loaded
	err     error
	trigger Trigger
	actor   string
	apply   bool
	only    []string
}

// watch is the state of one loop's goroutine.
type watch struct {
	*loop
	group sync.WaitGroup
	poll  *time.Timer
	// settle gathers reports and results, retry ends the longest wait of a held op, rest
	// the gap between the looks of a burst, edge what a window or a pause keeps back.
	settle, retry, rest, edge *time.Timer
	settling                  bool
	// looked is when the last load that a webhook asked for began.
	looked time.Time
	loaded chan reading
	// failures counts failed loads, vain passes that could not plan; both in a row.
	failures, vain int
}

// run watches the sync until ctx ends or it is removed.
func (l *loop) run(ctx, work context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{loop: l, poll: time.NewTimer(l.interval), loaded: make(chan reading, 1)}
	for _, timer := range []**time.Timer{&w.settle, &w.retry, &w.rest, &w.edge} {
		*timer = time.NewTimer(time.Hour)
		(*timer).Stop()
	}
	defer func() {
		cancel()
		l.supersede("the sync is no longer watched", nil)
		w.poll.Stop()
		w.settle.Stop()
		w.retry.Stop()
		w.rest.Stop()
		w.edge.Stop()
		w.group.Wait()
	}()
	l.poke(TriggerStart, "core", false, nil)
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.stop:
			return
		case <-l.woken:
		case <-w.rest.C:
		case <-w.poll.C:
			l.poke(TriggerPoll, "poll", false, nil)
		case <-w.retry.C:
			l.check(TriggerResult, "retry")
		case <-w.edge.C:
			l.check(TriggerTime, "core")
		case <-w.settle.C:
			w.settled(ctx, work)
		case read := <-w.loaded:
			w.accept(ctx, work, read)
		}
		w.begin(ctx)
	}
}

// begin starts what is pending.
func (w *watch) begin(ctx context.Context) {
	w.mu.Lock()
	ask := w.pending
	load := ask.load && !w.loading && w.rested(ask.trigger)
	if load {
		if ask.trigger == TriggerWebhook {
			w.looked = time.Now()
		}
		w.pending.load, w.pending.apply, w.pending.only = false, false, nil
		w.loading = true
	}
	w.mu.Unlock()
	if load {
		w.group.Go(func() {
			loaded, err := w.read(ctx)
			w.loaded <- reading{loaded, err, ask.trigger, ask.actor, ask.apply, ask.only}
		})
	}
	if ask.check && !w.settling {
		w.settling = true
		w.settle.Reset(settleFor)
	}
}

// rested reports whether the source may be looked at now, and else has the loop woken when
// it may.
func (w *watch) rested(trigger Trigger) bool {
	wait := burstGap - time.Since(w.looked)
	if trigger != TriggerWebhook || wait <= 0 {
		return true
	}
	w.rest.Reset(wait)
	return false
}

// settled plans again with what was read last.
func (w *watch) settled(ctx, work context.Context) {
	w.settling = false
	w.mu.Lock()
	ask := w.pending
	w.pending.check = false
	good := w.good
	if good != nil {
		w.status.Checks++
	}
	w.mu.Unlock()
	if good != nil && ask.check {
		w.pass(ctx, work, good, wakeUp{trigger: ask.checkTrigger, actor: ask.checkActor, apply: good.AutoApply})
	}
}

// accept takes in what a load brought and plans with it.
func (w *watch) accept(ctx, work context.Context, read reading) {
	w.mu.Lock()
	w.loading = false
	interval := w.interval
	w.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	if read.err != nil {
		wait := min(backoff(w.failures), interval)
		w.failures++
		w.schedule(wait)
		w.fail(ctx, read.err)
		return
	}
	w.failures = 0
	w.schedule(spread(interval))
	loaded := &read.loaded
	w.mu.Lock()
	w.status.Passes++
	w.status.Head = loaded.Desired.Commit
	w.status.Diagnostics = loaded.Diagnostics
	w.status.AutoApply = loaded.AutoApply
	stalled := loaded.Diagnostics.HasErrors()
	if stalled {
		loaded = w.good
	} else {
		if w.good != nil && w.good.Desired.Commit.ID != loaded.Desired.Commit.ID {
			w.attempts = attempts{}
		}
		w.good = loaded
		w.status.Good = loaded.Desired.Commit
	}
	w.mu.Unlock()
	if stalled {
		w.r.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "sync stalled by invalid input",
			slog.String("sync", w.name), slog.String("commit", read.loaded.Desired.Commit.Short()))
		w.r.emit(Event{Kind: EventStatus, Sync: w.name, Text: "stalled"}, nil)
	}
	if loaded != nil {
		// A stalled head has nothing that a request could ask to be applied.
		apply := loaded.AutoApply || read.apply && !stalled
		by := wakeUp{trigger: read.trigger, actor: read.actor, apply: apply}
		if !stalled {
			by.only = read.only
		}
		w.pass(ctx, work, loaded, by)
	}
	w.missed()
}

// schedule sets the time of the next look at the source.
func (w *watch) schedule(in time.Duration) {
	w.poll.Reset(in)
	w.mu.Lock()
	w.status.NextPoll = time.Now().Add(in)
	w.mu.Unlock()
}

func (w *watch) fail(ctx context.Context, err error) {
	w.mu.Lock()
	w.status.Error = err.Error()
	w.mu.Unlock()
	w.r.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "sync failed, will try again",
		slog.String("sync", w.name), slog.Any("err", err))
	w.r.emit(Event{Kind: EventStatus, Sync: w.name, Text: err.Error()}, nil)
}

// wakeUp is what a pass was woken by, and whether it may act.
type wakeUp struct {
	trigger Trigger
	actor   string
	apply   bool
	// only are the stacks and resources that it may act on when apply is not set.
	only []string
}

// pass plans, and begins what there is to do. It waits for none of it.
func (w *watch) pass(ctx, work context.Context, loaded *Loaded, by wakeUp) {
	w.plans(true)
	defer w.plans(false)
	in, err := w.r.input(ctx, w.name, loaded, loaded.Policy)
	if err != nil {
		w.fail(ctx, err)
		w.retry.Reset(max(backoff(w.vain), settleFor))
		w.vain++
		return
	}
	p, acts, err := w.plan(ctx, work, &in, by)
	if err != nil {
		w.fail(ctx, err)
		w.retry.Reset(max(backoff(w.vain), settleFor))
		w.vain++
		return
	}
	w.vain = 0
	if !acts {
		return
	}
	w.adopt(ctx, in, p)
	w.supersede("commit "+p.Commit.Short()+" superseded it", func(e *execution) bool {
		return e.run.Plan.Commit.ID != p.Commit.ID
	})
	next := w.start(ctx, work, Run{Sync: w.name, Trigger: by.trigger, Actor: by.actor, Plan: p}, loaded, &in)
	if !next.IsZero() {
		w.retry.Reset(max(time.Until(next), settleFor))
	}
}

func (l *loop) plans(now bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.planning = now
}

// plan makes the plan of a pass and keeps it. acts says whether the pass may carry it out.
func (w *watch) plan(ctx, work context.Context, in *plan.Input, by wakeUp) (p plan.Plan, acts bool, err error) {
	if by.apply {
		if p, err = w.decide(ctx, in, by.actor, true); err != nil {
			return p, false, err
		}
		w.note(ctx, work, p, by)
		return p, true, nil
	}
	if err := w.endHolds(ctx, in); err != nil {
		return p, false, err
	}
	p = plan.Compute(*in)
	w.note(ctx, work, p, by)
	only := slices.Concat(by.only, onItsWay(*in, p))
	if len(only) == 0 {
		return p, false, nil
	}
	in.Policy.Only = only
	p, err = w.decide(ctx, in, by.actor, true)
	return p, err == nil, err
}

// note keeps a plan, and has it recorded when it tells something new.
func (w *watch) note(ctx, work context.Context, p plan.Plan, by wakeUp) {
	if before := w.keep(p); before.ID != p.ID || !slices.Equal(before.Stacks, p.Stacks) {
		if err := w.r.cfg.Journal.Planned(work, w.name, by.trigger, by.actor, p); err != nil {
			w.recorded(ctx, fmt.Errorf("record the plan: %w", err))
		}
	}
}

// keep remembers a plan for Status and PokeServer, and returns the one before.
func (w *watch) keep(p plan.Plan) (before plan.Plan) {
	w.mu.Lock()
	fresh := !w.status.Planned || w.status.Plan.ID != p.ID
	before = w.status.Plan
	w.status.Plan, w.status.Planned, w.planning = p, true, false
	w.status.LastPass = p.Time
	w.status.Error = ""
	w.mu.Unlock()
	w.edge.Stop()
	if !p.Recheck.IsZero() {
		w.edge.Reset(max(time.Until(p.Recheck), settleFor))
	}
	w.r.moved(w.name, before, p)
	if fresh {
		w.r.emit(Event{Kind: EventPlan, Sync: w.name, Plan: &p}, nil)
	}
	return before
}

// start begins the ops of a run that may go now, and says when held ones may.
func (w *watch) start(ctx, work context.Context, run Run, loaded *Loaded, in *plan.Input) (next time.Time) {
	now := time.Now()
	w.mu.Lock()
	resources, wait, next := w.dueResources(run.Plan, now)
	if wait {
		w.mu.Unlock()
		return next
	}
	claimed := w.claims()
	take, left := sift(run.Plan.Ops, func(op plan.Op) string {
		if by, ok := claimed[place{op.Server, op.Stack}]; ok {
			return "under way in run " + by
		}
		reason, until := w.attempts.hold(op, now)
		if reason != "" && !until.IsZero() && (next.IsZero() || until.Before(next)) {
			next = until
		}
		if reason == "" {
			reason = closedGate(run.Plan.Gates, op, nil)
		}
		return reason
	})
	if len(take) == 0 && len(resources) == 0 {
		w.mu.Unlock()
		return next
	}
	e := newExecution(w.loop, run, loaded, take, left, nil)
	e.goBack(in)
	e.resources, e.recording = resources, len(resources) > 0
	w.active[e] = struct{}{}
	w.mu.Unlock()
	w.group.Go(func() {
		// An error is about the record; execute has told of it.
		_, _ = e.execute(ctx, work)
	})
	return next
}

// claims maps every place an active execution works on or will to its run. The caller
// holds the lock.
func (l *loop) claims() map[place]string {
	claimed := map[place]string{}
	for e := range l.active {
		for _, p := range e.claims() {
			claimed[p] = e.run.ID
		}
	}
	return claimed
}

// supersede keeps executions from starting what they have not started yet.
func (l *loop) supersede(why string, which func(*execution) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := range l.active {
		if which == nil || which(e) {
			e.supersede(why)
		}
	}
}

// learned remembers how an op fared.
func (l *loop) learned(op plan.Op, result OpResult) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempts.record(op, result, time.Now())
	l.keepDeploy(op, result, time.Now())
}

// began and ended keep the status of runs.
func (l *loop) began(run Run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status.Run, l.status.Result = &run, nil
}

func (l *loop) ended(e *execution, result RunResult) {
	l.mu.Lock()
	delete(l.active, e)
	if l.status.Run != nil && l.status.Run.ID == e.run.ID {
		l.status.Result = &result
	}
	l.mu.Unlock()
	l.check(TriggerResult, e.run.ID)
}

// recorded keeps whether the journal works.
func (l *loop) recorded(ctx context.Context, err error) {
	l.mu.Lock()
	l.unrecorded = ""
	if err != nil {
		l.unrecorded = err.Error()
	}
	l.mu.Unlock()
	if err != nil {
		l.r.cfg.Logger.LogAttrs(ctx, slog.LevelError, "run not recorded",
			slog.String("sync", l.name), slog.Any("err", err))
		l.r.emit(Event{Kind: EventStatus, Sync: l.name, Text: err.Error()}, nil)
	}
}

func (l *loop) snapshot() SyncStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.status
	s.Error = cmp.Or(s.Error, l.unrecorded)
	switch {
	case len(l.active) > 0:
		s.Phase = PhaseApplying
	case l.loading:
		s.Phase = PhaseLoading
	case s.Diagnostics.HasErrors():
		s.Phase = PhaseStalled
	case s.Error != "":
		s.Phase = PhaseFailing
	default:
		s.Phase = PhaseIdle
	}
	s.Diagnostics = append(fleet.Diagnostics(nil), s.Diagnostics...)
	return s
}
