package procedure

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
)

// maxWaiting bounds the runs that wait for their turn.
const maxWaiting = 256

// Errors that callers branch on.
var (
	// ErrUnknown: no procedure of that name is declared.
	ErrUnknown = errors.New("unknown procedure")
	// ErrLoop: the procedure runs itself.
	ErrLoop = errors.New("the procedure runs itself")
	// ErrSuspended: a person suspended the procedure.
	ErrSuspended = errors.New("the procedure does not run")
	// ErrInputs: the inputs are not those of the procedure.
	ErrInputs = errors.New("wrong inputs")
	// ErrTooMany: too many runs wait already.
	ErrTooMany = errors.New("too many runs wait for their turn")
	// ErrStopped: Run has returned.
	ErrStopped = errors.New("procedures are not run any more, " + ReasonShutdown)
)

// Applier does the work on stacks. *reconciler.Reconciler is one.
type Applier interface {
	Apply(ctx context.Context, req reconciler.ApplyRequest) (reconciler.Run, reconciler.RunResult, error)
	Order(ctx context.Context, req reconciler.OrderRequest) (fleet.Outcome, error)
}

// Hosts works on the engines of servers.
type Hosts interface {
	// Host returns in words what was done.
	Host(ctx context.Context, server string, task fleet.HostTask) (string, error)
}

// Alerts sends alerts that an execution asks for.
type Alerts interface {
	// Test sends a test through one alerter and returns when it was taken.
	Test(ctx context.Context, alerter string) error
	// Send sends through the alerters named, or all.
	Send(ctx context.Context, level, message, details string, alerters []string) error
}

// Config wires a Runner.
type Config struct {
	// Applier, Hosts, Alerts, Journal, Catalog and Logger are required.
	Applier Applier
	Hosts   Hosts
	Alerts  Alerts
	Journal Journal
	// Catalog is asked at the begin of every run and every stage.
	Catalog func(ctx context.Context) (Catalog, error)
	Logger  *slog.Logger
	// Maintenance is what core can do about itself; one that is missing fails with a reason.
	Maintenance Maintenance
	// Ended is told of every run that ended; optional. It must not block.
	Ended func(Run)
}

// Runner runs procedures. A scheduler, a webhook and a person all do it through Start.
type Runner struct {
	cfg Config
	// tasks run as part of Run; done is closed when it returns.
	tasks chan func(ctx context.Context)
	done  chan struct{}
	// turns hold a place for the one maintenance task of each type that may be under way.
	turns map[string]chan struct{}

	mu sync.Mutex
	// active are the runs that wait or run, lines those of each procedure in the order in
	// which they were asked for: the first has its turn.
	active map[string]*run
	lines  map[string][]*run
	// resumed are runs of an earlier process that Run goes on with.
	resumed []*run
}

// run is a run under way.
type run struct {
	r     *Runner
	watch func(Event)
	// path are the procedures that lead here, this one last.
	path []string
	log  *slog.Logger
	// turn is closed when no run of the procedure is before this one.
	turn chan struct{}
	// canceled is closed when nothing more is to be started.
	canceled chan struct{}
	// ended is closed when the run is over.
	ended chan struct{}
	// decisions are about the approval that the run waits for.
	decisions chan decision
	// children are runs of an earlier process that go on as steps of this one, by number.
	children map[int]*run

	mu       sync.Mutex
	record   Run
	by       string
	stopping bool
}

// New returns a Runner.
func New(cfg Config) (*Runner, error) {
	if cfg.Applier == nil || cfg.Hosts == nil || cfg.Alerts == nil || cfg.Journal == nil || cfg.Catalog == nil || cfg.Logger == nil {
		return nil, errors.New("procedure: Applier, Hosts, Alerts, Journal, Catalog and Logger are required")
	}
	if cfg.Ended == nil {
		cfg.Ended = func(Run) {}
	}
	if err := cfg.Maintenance.check(); err != nil {
		return nil, err
	}
	r := &Runner{
		cfg: cfg, tasks: make(chan func(context.Context)), done: make(chan struct{}), turns: map[string]chan struct{}{},
		active: map[string]*run{}, lines: map[string][]*run{},
	}
	for typ := range cfg.Maintenance {
		r.turns[typ] = make(chan struct{}, 1)
	}
	return r, nil
}

// Run carries out what Start is asked for until ctx ends, and returns when all of it has
// ended: a run that is under way then starts nothing more. It is called once.
func (r *Runner) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	defer close(r.done)
	for _, x := range r.resumed {
		group.Go(func() { x.execute(ctx) })
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case task := <-r.tasks:
			group.Go(func() { task(ctx) })
		}
	}
}

// Start begins a run and returns when it is on record. What becomes of it does not depend on
// ctx. coalesced says that a run that waited already stands for it.
func (r *Runner) Start(ctx context.Context, req Request) (started Run, coalesced bool, err error) {
	catalog, err := r.cfg.Catalog(ctx)
	if err != nil {
		return Run{}, false, err
	}
	record := Run{
		ID: uuid.Must(uuid.NewV7()).String(), Procedure: req.Procedure, Trigger: req.Trigger, Actor: req.Actor, Fire: req.Fire, Cause: req.Cause,
		Status: StatusQueued, Steps: []Step{}, Created: time.Now(),
	}
	if req.Execution != nil {
		x := *req.Execution
		x.Enabled = true
		record.Procedure = ""
		record.Stages = []fleet.Stage{{Name: x.Type, Enabled: true, Executions: []fleet.Execution{x}}}
	} else {
		p, err := runnable(&catalog, req.Procedure)
		if err != nil {
			return Run{}, false, err
		}
		record.Stages, record.FailureAlert = p.Stages, p.FailureAlert
		if record.Inputs, err = fleet.FillInputs(p.Inputs, req.Inputs); err != nil {
			return Run{}, false, fmt.Errorf("%w of procedure %s: %w", ErrInputs, req.Procedure, err)
		}
	}
	x, waiting, err := r.enter(record, req)
	switch {
	case err != nil:
		return Run{}, false, err
	case waiting != nil:
		return *waiting, true, nil
	}
	if err := r.cfg.Journal.BeginProcedure(ctx, record); err != nil {
		r.leave(x)
		r.pass(x)
		return Run{}, false, fmt.Errorf("record the run: %w", err)
	}
	x.emit(Event{Kind: EventQueued})
	select {
	case r.tasks <- func(ctx context.Context) { x.execute(ctx) }:
		return record, false, nil
	case <-r.done:
		err = ErrStopped
	case <-ctx.Done():
		err = ctx.Err()
	}
	x.end(context.WithoutCancel(ctx), StatusCanceled, "it was not begun: "+err.Error())
	return Run{}, false, err
}

// runnable is a procedure that may run.
func runnable(c *Catalog, name string) (fleet.Procedure, error) {
	p, ok := find(c.Procedures, name)
	if !ok {
		return p, fmt.Errorf("%w: %q", ErrUnknown, name)
	}
	if why := c.Suspended[name]; why != "" {
		return p, fmt.Errorf("%w: %s", ErrSuspended, why)
	}
	if loop := Loop(c.Procedures, name); loop != nil {
		return p, fmt.Errorf("%w: %s", ErrLoop, strings.Join(loop, " → "))
	}
	return p, nil
}

// enter makes a run known, unless one that waits stands for it.
func (r *Runner) enter(record Run, req Request) (x *run, waiting *Run, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	queued := 0
	for _, a := range r.active {
		have := a.snapshot()
		if have.Status != StatusQueued {
			continue
		}
		if req.Coalesce && stands(&have, &record) && !a.isStopping() {
			return nil, &have, nil
		}
		queued++
	}
	if queued >= maxWaiting {
		return nil, nil, ErrTooMany
	}
	x = r.newRun(record, req.Watch)
	r.join(x)
	return x, nil, nil
}

// stands reports whether a run that waits for its turn does what another is asked for.
func stands(have, wanted *Run) bool {
	return have.Procedure == wanted.Procedure && wanted.Procedure != "" && have.Parent == "" && maps.Equal(have.Inputs, wanted.Inputs)
}

func (r *Runner) newRun(record Run, watch func(Event)) *run {
	x := &run{
		r: r, record: record, watch: watch, turn: make(chan struct{}), canceled: make(chan struct{}), ended: make(chan struct{}),
		decisions: make(chan decision),
		log:       r.cfg.Logger.With(slog.String("procedure", record.Procedure), slog.String("run", record.ID)),
	}
	if record.Procedure != "" {
		x.path = []string{record.Procedure}
	}
	return x
}

// join makes a run known and puts it at the end of its procedure's line. The caller holds
// the lock.
func (r *Runner) join(x *run) {
	r.active[x.record.ID] = x
	name := x.record.Procedure
	if name != "" {
		r.lines[name] = append(r.lines[name], x)
	}
	if len(r.lines[name]) <= 1 {
		close(x.turn)
	}
}

func (r *Runner) leave(x *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.active, x.record.ID)
}

// pass takes a run out of its procedure's line; the next gets the turn that it had.
func (r *Runner) pass(x *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := x.record.Procedure
	at := slices.Index(r.lines[name], x)
	if at < 0 {
		return
	}
	line := slices.Delete(r.lines[name], at, at+1)
	r.lines[name] = line
	switch {
	case len(line) == 0:
		delete(r.lines, name)
	case at == 0:
		close(line[0].turn)
	}
}

// await waits until no other run of the procedure is under way or was asked for before.
func (x *run) await(ctx context.Context) error {
	if err := x.whyStopped(); err != nil {
		return err
	}
	select {
	case <-x.turn:
		if ctx.Err() != nil {
			return whyOver(ctx)
		}
		return nil
	case <-x.canceled:
		return x.whyStopped()
	case <-ctx.Done():
		return whyOver(ctx)
	}
}

// ReasonShutdown ends the reason of a run that the end of its process ended.
const ReasonShutdown = "core is shutting down"

var errShutdown = errors.New(ReasonShutdown)

// Cancel keeps the runs of a procedure, or the run of that id, from starting another stage,
// and returns how many that concerns.
func (r *Runner) Cancel(name, actor string) int {
	r.mu.Lock()
	var concerned []*run
	for id, x := range r.active {
		if id == name || x.record.Procedure == name && name != "" {
			concerned = append(concerned, x)
		}
	}
	r.mu.Unlock()
	for _, x := range concerned {
		x.cancel(actor)
	}
	return len(concerned)
}

// Active are the runs that wait or run, oldest first.
func (r *Runner) Active() []Run {
	r.mu.Lock()
	runs := make([]Run, 0, len(r.active))
	for _, x := range r.active {
		runs = append(runs, x.snapshot())
	}
	r.mu.Unlock()
	slices.SortFunc(runs, func(a, b Run) int { return strings.Compare(a.ID, b.ID) })
	return runs
}

// Await waits for the end of a run that is under way.
func (r *Runner) Await(ctx context.Context, id string) {
	r.mu.Lock()
	x := r.active[id]
	r.mu.Unlock()
	if x == nil {
		return
	}
	select {
	case <-x.ended:
	case <-ctx.Done():
	}
}

func (x *run) snapshot() Run {
	x.mu.Lock()
	defer x.mu.Unlock()
	record := x.record
	record.Steps = slices.Clone(record.Steps)
	return record
}

func (x *run) isStopping() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.stopping
}

// cancel keeps the run from starting another stage.
func (x *run) cancel(actor string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.stopping {
		x.stopping, x.by = true, actor
		close(x.canceled)
	}
}

// whyStopped names who canceled the run; nil when nobody did.
func (x *run) whyStopped() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.stopping {
		return nil
	}
	return fmt.Errorf("canceled by %s", x.by)
}

// emit tells who watches. The lock keeps events in order.
func (x *run) emit(e Event) {
	if x.watch == nil {
		return
	}
	e.At, e.ID = time.Now(), x.record.ID
	x.mu.Lock()
	defer x.mu.Unlock()
	x.watch(e)
}
