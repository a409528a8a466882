package reconciler

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/varanhq/varan/reconciler/plan"
)

// Apply does now what a plan says, whether or not the sync applies by itself, and
// returns when it is done. When ctx ends first, what has not started does not start, what
// has is seen to its end in the background. A plan with nothing to do is not recorded.
//
// An invalid head gives its fleet.Diagnostics as the error.
func (r *Reconciler) Apply(ctx context.Context, req ApplyRequest) (Run, RunResult, error) {
	l, ok := r.find(req.Sync)
	if !ok {
		return Run{}, RunResult{}, fmt.Errorf("apply %s: %w", req.Sync, ErrUnknownSync)
	}
	loaded, err := l.read(ctx)
	if err != nil {
		return Run{}, RunResult{}, err
	}
	l.noticed(loaded)
	if loaded.Diagnostics.HasErrors() {
		return Run{}, RunResult{}, loaded.Diagnostics
	}
	policy := loaded.Policy
	policy.Only, policy.Forced, policy.Override = req.Only, req.Forced, req.Override
	if req.Saved != nil {
		policy.Only, policy.Forced = nil, forcedIn(*req.Saved)
	}
	in, err := r.input(ctx, req.Sync, &loaded, policy)
	if err != nil {
		return Run{}, RunResult{}, err
	}
	in.Observed = r.refresh(ctx, concernedServers(in, policy.Only))
	p, err := l.decide(ctx, &in, req.Actor, false)
	if err != nil {
		return Run{}, RunResult{}, err
	}
	run := Run{Sync: req.Sync, Trigger: TriggerManual, Actor: req.Actor, Parent: req.Parent, Plan: p, Approved: req.Approved}

	e := l.prepare(run, &loaded, &in, req)
	if e == nil {
		run.Started = in.Now
		return run, RunResult{Status: OpSucceeded, Ended: time.Now()}, nil
	}
	return r.await(ctx, e)
}

// prepare chooses what a person's run does. Nothing is held back after failures: they
// asked. It is nil when there is nothing to do and nothing to say about it.
func (l *loop) prepare(run Run, loaded *Loaded, in *plan.Input, req ApplyRequest) *execution {
	ops, left := run.Plan.Ops, []OpResult(nil)
	if req.Saved != nil {
		valid, stale := plan.Validate(*req.Saved, run.Plan)
		ops = slices.DeleteFunc(slices.Clone(ops), func(op plan.Op) bool { return !slices.Contains(valid, op.ID) })
		for _, op := range req.Saved.Ops {
			if why, ok := stale[op.ID]; ok {
				left = append(left, OpResult{Op: op.ID, Status: OpStale, Reason: why})
			}
		}
		gates, resources := run.Plan.Gates, plan.ValidResources(*req.Saved, run.Plan)
		run.Plan = *req.Saved
		run.Plan.Gates, run.Plan.Resources = gates, resources
	}
	take, closed := sift(ops, func(op plan.Op) string { return closedGate(run.Plan.Gates, op, req.Approved) })
	left = append(left, closed...)
	resources := openResources(run.Plan.Resources, req.Approved)
	if len(take) == 0 && len(left) == 0 && len(resources) == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := newExecution(l, run, loaded, take, left, req.Watch)
	e.resources, e.recording = resources, len(resources) > 0
	e.goBack(in)
	e.verify, e.stopSeconds = req.Saved != nil, req.StopSeconds
	l.active[e] = struct{}{}
	return e
}

// await runs an execution as part of Run and waits for its end, or for ctx.
func (r *Reconciler) await(ctx context.Context, e *execution) (Run, RunResult, error) {
	type ending struct {
		result RunResult
		err    error
	}
	done := make(chan ending, 1)
	err := r.spawn(ctx, func(running, work context.Context) {
		result, err := e.execute(running, work)
		done <- ending{result, err}
	})
	if err != nil {
		e.abandon("nothing was started")
		e.l.ended(e, RunResult{Status: OpCanceled})
		return e.run, RunResult{}, fmt.Errorf("apply %s: %w", e.run.Sync, err)
	}
	select {
	case end := <-done:
		return e.run, end.result, end.err
	case <-ctx.Done():
		e.supersede("whoever asked for it left")
		return e.run, RunResult{}, fmt.Errorf("wait for run %s: %w", e.run.ID, ctx.Err())
	}
}

// forcedIn lists the stacks that a saved plan forces.
func forcedIn(p plan.Plan) []string {
	var forced []string
	for _, op := range p.Ops {
		if slices.ContainsFunc(op.Causes, func(c plan.Cause) bool { return c.Kind == plan.CauseForced }) {
			forced = append(forced, op.Stack)
		}
	}
	return forced
}
