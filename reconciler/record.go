package reconciler

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// openResources are the changes that nothing keeps from being recorded.
func openResources(changes []plan.ResourceChange, approved []string) []plan.ResourceChange {
	return slices.DeleteFunc(slices.Clone(changes), func(c plan.ResourceChange) bool {
		return c.Blocked != "" || slices.ContainsFunc(c.Gates, func(g string) bool { return !slices.Contains(approved, g) })
	})
}

// recordOp stands for the record of a run's resources among the attempts.
func recordOp(p plan.Plan) plan.Op {
	return plan.Op{ID: "record resources", Release: fleet.Digest(p.Commit.ID)}
}

// dueResources are the changes that a sync which applies by itself may record now. wait is
// set when nothing may start before the records are made: another run makes them at the
// moment, or the last try failed and the next is at that time. The caller holds the lock.
func (l *loop) dueResources(p plan.Plan, now time.Time) (due []plan.ResourceChange, wait bool, next time.Time) {
	due = slices.DeleteFunc(openResources(p.Resources, nil), func(c plan.ResourceChange) bool {
		return c.Action == plan.ResourceDelete && (awaitsRemoval(p, c) || l.deletes(c))
	})
	if len(due) == 0 {
		return nil, false, next
	}
	if reason, until := l.attempts.hold(recordOp(p), now); reason != "" {
		return nil, true, until
	}
	for e := range l.active {
		if e.isRecording() {
			return nil, true, next // it has the sync looked at again
		}
	}
	return due, false, next
}

// deletes reports whether a run under way is to delete a record. The caller holds the lock.
func (l *loop) deletes(c plan.ResourceChange) bool {
	for e := range l.active {
		if slices.ContainsFunc(e.resources, c.Same) {
			return true
		}
	}
	return false
}

// awaitsRemoval reports whether a record must stay because what it is of does: its removal
// is blocked or waits for consent.
func awaitsRemoval(p plan.Plan, c plan.ResourceChange) bool {
	is := func(op plan.Op) bool { return op.Kind == plan.OpRemove && plan.Declares(c.Kind, c.Name, op.Stack) }
	return slices.ContainsFunc(p.Blocked, func(b plan.Blocked) bool { return is(b.Op) })
}

func (e *execution) isRecording() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.recording
}

// recordDeclared records what is new or changed. Nothing is deployed when that fails: what
// core keeps must not fall behind what runs.
func (e *execution) recordDeclared(work context.Context) bool {
	changes := slices.DeleteFunc(slices.Clone(e.resources), func(c plan.ResourceChange) bool {
		return c.Action == plan.ResourceDelete
	})
	ok := e.record(work, changes)
	e.mu.Lock()
	e.recording = false
	e.mu.Unlock()
	if ok {
		if len(changes) > 0 {
			e.l.check(TriggerResult, e.run.ID)
		}
		return true
	}
	e.abandon("the resources could not be recorded")
	return false
}

// recordGone deletes the records of what is gone: of what runs on servers only when its
// removal succeeded.
func (e *execution) recordGone(work context.Context) {
	removed := map[string]bool{}
	for _, n := range e.nodes {
		removed[n.op.ID] = n.result.Status == OpSucceeded
	}
	changes := slices.DeleteFunc(slices.Clone(e.resources), func(c plan.ResourceChange) bool {
		left := func(op plan.Op) bool {
			return op.Kind == plan.OpRemove && plan.Declares(c.Kind, c.Name, op.Stack) && !removed[op.ID]
		}
		return c.Action != plan.ResourceDelete || awaitsRemoval(e.run.Plan, c) || slices.ContainsFunc(e.run.Plan.Ops, left)
	})
	e.mu.Lock()
	superseded := e.why != ""
	e.mu.Unlock()
	if !superseded { // a newer commit may declare it again
		e.record(work, changes)
	}
}

// record makes changes of the records, and keeps how that went for the run's result.
func (e *execution) record(work context.Context, changes []plan.ResourceChange) bool {
	if len(changes) == 0 {
		return true
	}
	result := OpResult{Status: OpSucceeded}
	err := e.l.r.cfg.Journal.Record(context.WithoutCancel(work), e.run, e.desired, changes)
	if err != nil {
		result.Status, result.Reason, result.Outcome.Retryable = OpFailed, err.Error(), true
		e.log.LogAttrs(work, slog.LevelError, "resources not recorded", slog.Any("err", err))
	}
	e.l.learned(recordOp(e.run.Plan), result)
	result.Ended = time.Now()
	var told []OpResult
	for _, c := range changes {
		if err == nil && e.run.Plan.Covers(c) {
			continue // the op's own result tells
		}
		result.Op = c.ID()
		told = append(told, result)
	}
	e.mu.Lock()
	e.recorded = append(e.recorded, told...)
	e.mu.Unlock()
	for i := range told {
		e.emit(Event{Kind: EventOpEnded, Op: told[i].Op, Result: &told[i]})
	}
	return err == nil
}
