package reconciler

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// sift parts ops into those to do and those to leave, with the reason for each. What
// comes after an op that is left is left too. ops are in dependency order.
func sift(ops []plan.Op, hold func(plan.Op) string) (take []plan.Op, left []OpResult) {
	gone := map[string]bool{}
	for i := range ops {
		reason := hold(ops[i])
		for _, dep := range ops[i].After {
			if gone[dep] && reason == "" {
				reason = "comes after " + dep + ", which does not run now"
			}
		}
		if reason == "" {
			take = append(take, ops[i])
			continue
		}
		gone[ops[i].ID] = true
		left = append(left, OpResult{Op: ops[i].ID, Status: OpSkipped, Reason: reason})
	}
	return take, left
}

// closedGate says which consent an op lacks; empty when it has all it needs.
func closedGate(gates []plan.Gate, op plan.Op, approved []string) string {
	var missing []string
	for _, id := range op.Gates {
		keep := slices.Contains(approved, plan.KeepApproval(id)) && slices.ContainsFunc(gates, func(g plan.Gate) bool {
			return g.ID == id && g.Kind == plan.GateVolume
		})
		if !keep && !slices.Contains(approved, id) {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return ""
	}
	return "waits for approval: " + strings.Join(missing, ", ")
}

// opState is how far an op is.
type opState int

const (
	opWaiting opState = iota
	opStarted
	opEnded
)

// node is one op of an execution.
type node struct {
	op    plan.Op
	state opState
	// open counts the dependencies that have not succeeded yet.
	open       int
	dependents []*node
	result     OpResult
}

// execution carries out one run. It decides nothing: what runs, and after what, the plan
// said; it only keeps the order, the limits and the record.
type execution struct {
	// selfHeal is the policy of the sync: its agents heal by themselves while core is away.
	selfHeal bool

	l       *loop
	run     Run
	content Content
	// stacks are the releases of the ops; back are those that are earlier ones.
	stacks map[place]fleet.Release
	back   map[place]bool
	left   []OpResult
	watch  func(Event)
	// verify has every op checked against what is observed right before it starts.
	verify bool
	// images are the services that get newer images, all when it is empty; nil for a run that
	// deploys.
	images      []string
	stopSeconds int
	log         *slog.Logger
	// desired is what resources are recorded from.
	desired   fleet.Desired
	resources []plan.ResourceChange

	mu sync.Mutex
	// recording is set until the resources are on record, or failed to be.
	recording  bool
	recorded   []OpResult
	nodes      []*node
	superseded chan struct{}
	why        string
}

func newExecution(l *loop, run Run, loaded *Loaded, take []plan.Op, left []OpResult, watch func(Event)) *execution {
	run.ID = uuid.Must(uuid.NewV7()).String()
	run.Started = time.Now()
	run.Plan.Stacks = slices.DeleteFunc(slices.Clone(run.Plan.Stacks), func(s plan.StackState) bool {
		return s.Sync == fleet.Synced && s.Health == fleet.Healthy
	})
	e := &execution{
		l: l, run: run, content: loaded.Content, left: left, watch: watch, desired: loaded.Desired,
		selfHeal:   loaded.Policy.SelfHeal,
		stacks:     map[place]fleet.Release{},
		back:       map[place]bool{},
		superseded: make(chan struct{}),
		log:        l.r.cfg.Logger.With(slog.String("sync", run.Sync), slog.String("run", run.ID)),
	}
	byID := map[string]*node{}
	for _, op := range take {
		n := &node{op: op}
		e.stacks[place{op.Server, op.Stack}] = fleet.Release{}
		byID[op.ID] = n
		e.nodes = append(e.nodes, n)
		for _, dep := range op.After {
			// A dependency that is not among the ops taken is of another plan's doing and
			// was weighed when they were chosen.
			if d, ok := byID[dep]; ok {
				n.open++
				d.dependents = append(d.dependents, n)
			}
		}
	}
	for i := range loaded.Desired.Stacks {
		s := &loaded.Desired.Stacks[i]
		at := place{s.Server, s.Name}
		if _, taken := e.stacks[at]; taken {
			e.stacks[at] = s.Release
		}
	}
	return e
}

// claims lists what is worked on or will be.
func (e *execution) claims() []place {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []place
	for _, n := range e.nodes {
		if n.state == opStarted || n.state == opWaiting && e.why == "" {
			list = append(list, place{n.op.Server, n.op.Stack})
		}
	}
	return list
}

// supersede keeps everything that has not started from starting.
func (e *execution) supersede(why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.why == "" {
		e.why = why
		close(e.superseded)
	}
}

// execute carries the run out and records it. ctx ending keeps further ops from
// starting; work ending gives up the wait for those that did.
func (e *execution) execute(ctx, work context.Context) (RunResult, error) {
	if err := e.l.r.cfg.Journal.Begin(work, e.run); err != nil {
		err = fmt.Errorf("record run %s: %w", e.run.ID, err)
		e.l.recorded(ctx, err)
		result := RunResult{Status: OpFailed, Ended: time.Now()}
		for _, n := range e.nodes {
			// Nothing was tried, but trying again at once would be as vain.
			e.l.learned(n.op, OpResult{
				Status: OpFailed, Reason: "the run could not be recorded", Outcome: fleet.Outcome{Retryable: true},
			})
		}
		if len(e.resources) > 0 {
			e.l.learned(recordOp(e.run.Plan), OpResult{Status: OpFailed, Outcome: fleet.Outcome{Retryable: true}})
		}
		e.abandon("the run could not be recorded")
		e.l.ended(e, result)
		return result, err
	}
	e.l.began(e.run)
	e.emit(Event{Kind: EventRunStarted, Plan: &e.run.Plan})
	e.log.LogAttrs(ctx, slog.LevelInfo, "run started", slog.String("commit", e.run.Plan.Commit.Short()),
		slog.String("trigger", string(e.run.Trigger)), slog.Int("ops", len(e.nodes)))

	if e.recordDeclared(work) {
		e.walk(ctx, work)
		e.recordGone(work)
	}
	result := e.summary()
	err := e.l.r.cfg.Journal.End(context.WithoutCancel(work), e.run.ID, result)
	if err != nil {
		err = fmt.Errorf("record the end of run %s: %w", e.run.ID, err)
	}
	e.l.recorded(ctx, err)
	e.l.ended(e, result)
	e.emit(Event{Kind: EventRunEnded, RunResult: &result})
	e.log.LogAttrs(ctx, slog.LevelInfo, "run ended", slog.String("status", string(result.Status)))
	return result, err
}

// abandon ends every op without doing it.
func (e *execution) abandon(why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.nodes {
		n.state = opEnded
		n.result = OpResult{Op: n.op.ID, Status: OpCanceled, Reason: why, Ended: time.Now()}
	}
}

// walk runs the ops in dependency order. Every op runs in a goroutine of its own; this
// one opens the edges, and only on a success that is on record.
func (e *execution) walk(ctx, work context.Context) {
	starting, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan *node)
	var running int
	launch := func(n *node) {
		running++
		go func() {
			e.do(starting, work, n)
			ended <- n
		}()
	}
	for _, n := range e.nodes {
		if n.open == 0 {
			launch(n)
		}
	}
	superseded := e.superseded
	for running > 0 {
		select {
		case <-superseded:
			superseded = nil
			cancel()
		case n := <-ended:
			running--
			for _, d := range n.dependents {
				if n.result.Status != OpSucceeded {
					e.skip(d, n)
					continue
				}
				d.open--
				if d.open == 0 && e.stateOf(d) == opWaiting {
					launch(d)
				}
			}
		}
	}
}

func (e *execution) stateOf(n *node) opState {
	e.mu.Lock()
	defer e.mu.Unlock()
	return n.state
}

// skip ends an op, and all that comes after it, because one before it did not succeed.
func (e *execution) skip(n, because *node) {
	if e.stateOf(n) == opEnded {
		return
	}
	status, reason := OpSkipped, "comes after "+because.op.ID+", which did not succeed"
	if because.result.Status == OpCanceled {
		status, reason = OpCanceled, because.result.Reason
	}
	e.end(n, OpResult{Status: status, Reason: reason})
	for _, d := range n.dependents {
		e.skip(d, n)
	}
}

// end closes an op.
func (e *execution) end(n *node, result OpResult) {
	result.Op, result.Ended = n.op.ID, time.Now()
	e.mu.Lock()
	n.state, n.result = opEnded, result
	e.mu.Unlock()
	e.emit(Event{
		Kind: EventOpEnded, Op: n.op.ID, Stack: n.op.Stack, Server: n.op.Server, Result: &result,
	})
}

// start moves an op from waiting to started, unless it must not start any more.
func (e *execution) start(starting context.Context, n *node) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.why != "" || starting.Err() != nil {
		return false
	}
	n.state = opStarted
	return true
}

// do waits for its turn, carries out one op and records it.
func (e *execution) do(starting, work context.Context, n *node) {
	r := e.l.r
	turn, err := r.stacks.acquire(starting, n.op.Stack+"@"+n.op.Server)
	if err != nil {
		e.end(n, e.canceled())
		return
	}
	defer turn()
	slot, err := r.servers.acquire(starting, n.op.Server)
	if err != nil {
		e.end(n, e.canceled())
		return
	}
	defer slot()
	if e.verify && e.moved(n.op) {
		e.end(n, OpResult{Status: OpStale, Reason: "what runs on " + n.op.Server + " changed since the plan was made"})
		return
	}
	if !e.start(starting, n) {
		e.end(n, e.canceled())
		return
	}
	result := e.dispatch(work, n.op)
	result.Op, result.Ended = n.op.ID, time.Now()
	recording := context.WithoutCancel(work)
	if err := r.cfg.Journal.OpEnded(recording, e.run.ID, n.op, result); err != nil {
		e.log.LogAttrs(work, slog.LevelError, "op not recorded", slog.String("op", n.op.ID), slog.Any("err", err))
		if result.Status == OpSucceeded {
			// Nothing may build on a success that a restart would not remember.
			result.Status, result.Reason = OpFailed, "the outcome could not be recorded: "+err.Error()
			result.Outcome.Retryable = true
		}
	}
	e.logResult(work, n.op, result)
	if result.Status == OpSucceeded {
		e.deployed(recording, n.op)
		e.observe(work, n.op)
	}
	// Learn before the claim on the stack ends, so that no pass in between tries again.
	e.l.learned(n.op, result)
	e.end(n, result)
	e.l.check(TriggerResult, n.op.ID)
}

// deployed keeps what a server runs since, for whoever wants to go back to it.
func (e *execution) deployed(ctx context.Context, op plan.Op) {
	release, ok := e.stacks[place{op.Server, op.Stack}]
	if !ok || op.Kind == plan.OpRemove || op.Kind == plan.OpHeal {
		return
	}
	if err := e.l.r.cfg.Controls.Deployed(ctx, release); err != nil {
		e.log.LogAttrs(ctx, slog.LevelWarn, "release not recorded", slog.String("op", op.ID), slog.Any("err", err))
	}
}

// canceled is the result of an op that must not start any more.
func (e *execution) canceled() OpResult {
	e.mu.Lock()
	reason := cmp.Or(e.why, "core is shutting down")
	e.mu.Unlock()
	return OpResult{Status: OpCanceled, Reason: reason}
}

// moved reports whether a stack no longer looks as it did when the op was planned.
func (e *execution) moved(op plan.Op) bool {
	report, _ := e.l.r.cfg.Fleet.Observed()[op.Server].Stack(op.Stack)
	return plan.Fingerprint(report) != op.Expect
}

// dispatch records the start of an op, sends the order and waits for the outcome.
func (e *execution) dispatch(work context.Context, op plan.Op) OpResult {
	order := e.order(op)
	if err := e.l.r.cfg.Journal.OpStarted(work, e.run.ID, order.ID, op); err != nil {
		return OpResult{
			Status: OpFailed, Reason: "the start could not be recorded: " + err.Error(),
			Outcome: fleet.Outcome{Order: order.ID, Stack: op.Stack, Status: fleet.OutcomeFailed, Untouched: true, Retryable: true},
		}
	}
	e.emit(Event{Kind: EventOpStarted, Op: op.ID, Stack: op.Stack, Server: op.Server})
	outcome, err := e.l.r.cfg.Fleet.Dispatch(work, order, e.content, func(p fleet.Progress) {
		e.emit(Event{Kind: EventProgress, Op: op.ID, Stack: op.Stack, Server: op.Server, Progress: &p})
	})
	switch {
	case err != nil && work.Err() != nil:
		return OpResult{
			Status: OpCanceled, Outcome: outcome,
			Reason: "core shut down while " + op.Server + " was at work; the agent finishes it",
		}
	case err != nil:
		outcome.Order, outcome.Stack, outcome.Status = order.ID, op.Stack, fleet.OutcomeFailed
		outcome.Untouched, outcome.Retryable = true, true
		return OpResult{Status: OpFailed, Reason: err.Error(), Outcome: outcome}
	}
	return OpResult{Status: statusOf(outcome.Status), Reason: outcome.Reason, Outcome: outcome}
}

func statusOf(s fleet.OutcomeStatus) OpStatus {
	switch s {
	case fleet.OutcomeSucceeded:
		return OpSucceeded
	case fleet.OutcomeRolledBack:
		return OpRolledBack
	case fleet.OutcomeCanceled:
		return OpCanceled
	case fleet.OutcomeFailed:
	}
	return OpFailed
}

// order makes the order for an op.
func (e *execution) order(op plan.Op) fleet.Order {
	order := fleet.Order{
		ID: uuid.Must(uuid.NewV7()).String(), Stack: op.Stack, Server: op.Server, Project: op.Project,
		Tier: tierOf(e.desired, op.Server),
	}
	switch op.Kind {
	case plan.OpRemove:
		order.Kind = fleet.OrderRemove
		return order
	case plan.OpCreate, plan.OpUpdate, plan.OpHeal, plan.OpRestart:
		// A restart is an apply too: it brings the files whose change asks for it.
	}
	order.Kind, order.StopSeconds = fleet.OrderApply, e.stopSeconds
	at := place{op.Server, op.Stack}
	order.Release, order.KeepImages = e.stacks[at], e.back[at]
	order.SelfHeal = e.selfHeal
	if e.images != nil {
		order.Kind, order.Services = fleet.OrderUpdate, e.images
	}
	order.Force = slices.ContainsFunc(op.Causes, func(c plan.Cause) bool { return c.Kind == plan.CauseForced })
	for _, g := range e.run.Plan.Gates {
		if g.Kind == plan.GateVolume && slices.Contains(g.Ops, op.ID) && slices.Contains(e.run.Approved, g.ID) {
			order.RecreateVolumes = append(order.RecreateVolumes, g.Volume)
		}
	}
	return order
}

// observe makes sure that the next plan sees what an op did. Most often the agent's
// report is there already; otherwise the server is asked, once for all who wait.
func (e *execution) observe(work context.Context, op plan.Op) {
	r := e.l.r
	if reflected(r.cfg.Fleet.Observed(), op) {
		return
	}
	ctx, cancel := context.WithTimeout(work, r.cfg.Refresh)
	defer cancel()
	release, err := r.refreshing.acquire(ctx, op.Server)
	if err != nil {
		return
	}
	defer release()
	if !reflected(r.cfg.Fleet.Observed(), op) {
		r.cfg.Fleet.Refresh(ctx, []string{op.Server})
	}
}

// reflected reports whether what is observed shows a successful op.
func reflected(observed fleet.Observed, op plan.Op) bool {
	report, found := observed[op.Server].Stack(op.Stack)
	if op.Kind == plan.OpRemove {
		return !found
	}
	return report.Busy == "" && report.Release.Digest == op.Release && plan.Fingerprint(report) != op.Expect
}

// summary gathers the results of a run, in the order of its plan.
func (e *execution) summary() RunResult {
	e.mu.Lock()
	defer e.mu.Unlock()
	result := RunResult{Status: OpSucceeded, Ops: e.recorded, Ended: time.Now()}
	for _, n := range e.nodes {
		result.Ops = append(result.Ops, n.result)
	}
	for _, l := range e.left {
		l.Ended = result.Ended
		result.Ops = append(result.Ops, l)
	}
	result.Status = worst(result.Ops)
	return result
}

// worst is the status of a run: what most needs a person's eye.
func worst(ops []OpResult) OpStatus {
	order := []OpStatus{OpSucceeded, OpSkipped, OpStale, OpCanceled, OpRolledBack, OpFailed}
	at := 0
	for _, op := range ops {
		at = max(at, slices.Index(order, op.Status))
	}
	return order[at]
}

func (e *execution) emit(event Event) {
	event.Sync, event.Run = e.run.Sync, e.run.ID
	e.l.r.emit(event, e.watch)
}

func (e *execution) logResult(ctx context.Context, op plan.Op, result OpResult) {
	level := slog.LevelInfo
	if result.Status != OpSucceeded {
		level = slog.LevelError
	}
	e.log.LogAttrs(ctx, level, "op ended", slog.String("op", op.ID), slog.String("server", op.Server),
		slog.String("stack", op.Stack), slog.String("status", string(result.Status)), slog.String("reason", result.Reason))
}
