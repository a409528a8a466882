package procedure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
)

// execute waits for the run's turn, carries it out and records its end. A run that waits, for
// its turn or an approval, when the process stops has no end: the next one goes on with it.
func (x *run) execute(ctx context.Context) Run {
	recording := context.WithoutCancel(ctx)
	if err := x.await(ctx); err != nil {
		if errors.Is(err, errShutdown) {
			return x.suspend()
		}
		return x.end(recording, endOf(err), err.Error())
	}
	if err := x.begin(ctx, recording); err != nil {
		return x.end(recording, StatusFailed, "the start could not be recorded: "+err.Error())
	}
	first, failure := x.sofar()
	for i := first; i < len(x.record.Stages); i++ {
		stage := &x.record.Stages[i]
		if !stage.Enabled || !stage.When.Holds(failure != "") {
			continue
		}
		if err := x.mayGoOn(ctx); err != nil {
			return x.endEarly(recording, err, failure)
		}
		x.stage(ctx, i, stage)
		if x.isOpen(i) {
			return x.suspend()
		}
		failure = cmp.Or(failure, x.failureOf(i))
	}
	if failure == "" {
		return x.end(recording, StatusSucceeded, "")
	}
	return x.endEarly(recording, x.mayGoOn(ctx), failure)
}

// endEarly closes a run that did not get through: what failed by itself counts before what
// ended it.
func (x *run) endEarly(recording context.Context, err error, failure string) Run {
	if failure != "" && (err == nil || !x.onlyCanceled()) {
		return x.end(recording, StatusFailed, failure)
	}
	return x.end(recording, endOf(err), err.Error())
}

// endOf is how a run ended that err did not let go on.
func endOf(err error) Status {
	if _, late := errors.AsType[*lateError](err); late {
		return StatusFailed
	}
	return StatusCanceled
}

// begin records that the run has its turn, unless an earlier process did.
func (x *run) begin(ctx, recording context.Context) error {
	x.mu.Lock()
	started := x.record.Started
	x.mu.Unlock()
	if started.IsZero() {
		started = time.Now()
		if err := x.r.cfg.Journal.ProcedureStarted(recording, x.record.ID, started); err != nil {
			return err
		}
	}
	x.mu.Lock()
	x.record.Status, x.record.Started = StatusRunning, started
	x.mu.Unlock()
	begun := x.snapshot()
	x.emit(Event{Kind: EventStarted, Run: &begun})
	x.log.LogAttrs(ctx, slog.LevelInfo, "procedure started", slog.String("actor", x.record.Actor))
	return nil
}

// sofar is the stage to go on with, and what has failed before it.
func (x *run) sofar() (stage int, failure string) {
	steps := x.snapshot().Steps
	if len(steps) == 0 {
		return 0, ""
	}
	stage = steps[len(steps)-1].Stage
	if !x.isOpen(stage) {
		stage++
	}
	for i := range stage {
		failure = cmp.Or(failure, x.failureOf(i))
	}
	return stage, failure
}

func (x *run) mayGoOn(ctx context.Context) error {
	if ctx.Err() != nil {
		return whyOver(ctx)
	}
	return x.whyStopped()
}

// onlyCanceled reports whether nothing of the run failed by itself.
func (x *run) onlyCanceled() bool {
	for _, s := range x.snapshot().Steps {
		if s.Status == StatusFailed && !s.MayFail {
			return false
		}
	}
	return true
}

// isOpen reports whether steps of a stage have no end.
func (x *run) isOpen(stage int) bool {
	return slices.ContainsFunc(x.snapshot().Steps, func(s Step) bool { return s.Stage == stage && s.Ended.IsZero() })
}

// counts reports whether a step's end is a failure of its stage.
func (s *Step) counts() bool {
	return s.Status != StatusSucceeded && (s.Status != StatusFailed || !s.MayFail)
}

// failureOf says in a sentence what of a stage failed; empty when nothing did.
func (x *run) failureOf(at int) (text string) {
	failed := 0
	for _, s := range x.snapshot().Steps {
		if s.Stage != at || !s.counts() {
			continue
		}
		failed++
		if failed == 1 {
			name := cmp.Or(x.record.Stages[at].Name, fmt.Sprint(at+1))
			text = strings.TrimSpace(fmt.Sprintf("stage %s: %s %s", name, s.Type, s.Target)) + ": " + s.Reason
		}
	}
	if failed > 1 {
		text += fmt.Sprintf(" (and %d more)", failed-1)
	}
	return text
}

// stage runs the executions of a stage to their end, and those that failed again as often as
// it says.
func (x *run) stage(ctx context.Context, at int, stage *fleet.Stage) {
	x.emit(Event{Kind: EventStage, Stage: at, Text: stage.Name})
	if stage.Approval {
		x.approval(ctx, at, stage)
		return
	}
	units := x.leftOf(at)
	if units == nil {
		units = x.unitsOf(ctx, at, stage)
	}
	ctx, cancel := within(ctx, stage.Timeout, x.began(at))
	defer cancel()
	for attempt := 0; len(units) > 0; attempt++ {
		units = x.together(ctx, units)
		if attempt == stage.Retries || len(units) == 0 || !x.pause(ctx, backoff(stage.Policy, attempt)) {
			return
		}
	}
}

// unitsOf makes the units of a stage, and puts their steps on record before any begins.
func (x *run) unitsOf(ctx context.Context, at int, stage *fleet.Stage) (units []*unit) {
	catalog, err := x.r.cfg.Catalog(ctx)
	_, failure := x.sofar()
	var steps []Step
	for i := range stage.Executions {
		e := &stage.Executions[i]
		if !e.Enabled || !cmp.Or(e.When, stage.When).Holds(failure != "") {
			continue
		}
		for _, u := range x.expand(e, &catalog, err) {
			x.number(at, u, stage.ContinueOnError || e.ContinueOnError)
			units, steps = append(units, u), append(steps, u.steps...)
		}
	}
	if len(steps) == 0 {
		return nil
	}
	if err := x.r.cfg.Journal.StageStarted(context.WithoutCancel(ctx), x.record.ID, steps); err != nil {
		for _, u := range units {
			u.fault = "the stage could not be recorded: " + err.Error()
		}
	}
	return units
}

// expand makes the units of an execution with the inputs of the run in it.
func (x *run) expand(e *fleet.Execution, c *Catalog, unread error) []*unit {
	filled, err := e.Fill(func(name string) (string, error) {
		value, ok := x.record.Inputs[name]
		if !ok {
			return "", fmt.Errorf("there is no input %q", name)
		}
		return value, nil
	})
	if unread != nil {
		err = fmt.Errorf("what there is could not be read: %w", unread)
	}
	if err != nil {
		return []*unit{{execution: e, steps: []Step{{Type: e.Type}}, fault: err.Error()}}
	}
	var units []*unit
	for _, u := range expand(&filled, c, x.r.cfg.Maintenance) {
		units = append(units, &u)
	}
	return units
}

// together does units at the same time, and returns what of them may be tried again.
func (x *run) together(ctx context.Context, units []*unit) (left []*unit) {
	var (
		group sync.WaitGroup
		mu    sync.Mutex
	)
	for _, u := range units {
		group.Go(func() {
			if rest := x.unit(ctx, u); rest != nil && !u.execution.ContinueOnError {
				mu.Lock()
				defer mu.Unlock()
				left = append(left, rest)
			}
		})
	}
	group.Wait()
	slices.SortFunc(left, func(a, b *unit) int { return a.steps[0].Number - b.steps[0].Number })
	return left
}

// number gives the steps of a unit their place in the run.
func (x *run) number(stage int, u *unit, mayFail bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range u.steps {
		s := &u.steps[i]
		s.Number, s.Stage, s.Status, s.MayFail = len(x.record.Steps)+1, stage, StatusQueued, mayFail
		x.record.Steps = append(x.record.Steps, *s)
	}
}

// unit does one unit, and what of it failed again as often as its execution says. It returns
// what is left to be tried again, if anything.
func (x *run) unit(ctx context.Context, u *unit) *unit {
	for attempt := 0; ; attempt++ {
		x.attempt(ctx, u)
		if u = u.again(); u == nil || attempt == u.execution.Retries || !x.pause(ctx, backoff(u.execution.Policy, attempt)) {
			return u
		}
	}
}

// again is a unit for the steps that failed by themselves; nil when there are none, or trying
// again changes nothing.
func (u *unit) again() *unit {
	if u.fault != "" {
		return nil
	}
	rest := &unit{execution: u.execution, verb: u.verb, procedure: u.procedure}
	for i := range u.steps {
		if u.steps[i].Status != StatusFailed {
			continue
		}
		rest.steps = append(rest.steps, u.steps[i])
		if len(u.targets) > 0 {
			rest.targets = append(rest.targets, u.targets[i])
		}
	}
	if len(rest.steps) == 0 {
		return nil
	}
	return rest
}

// attempt does one unit: it records its steps, does them, and records what became of them.
func (x *run) attempt(ctx context.Context, u *unit) {
	recording := context.WithoutCancel(ctx)
	began := time.Now()
	ctx, cancel := within(ctx, u.execution.Timeout, began)
	defer cancel()
	for i := range u.steps {
		s := &u.steps[i]
		if u.child != nil {
			continue // it goes on
		}
		s.Status, s.Started, s.Ended, s.Reason, s.Text, s.Log = StatusRunning, began, time.Time{}, "", "", ""
		s.Attempts++
		if err := x.r.cfg.Journal.StepStarted(recording, x.record.ID, *s); err != nil {
			u.fault = "the start could not be recorded: " + err.Error()
		}
		x.keep(*s)
		x.emit(Event{Kind: EventStepStarted, Stage: s.Stage, Step: copyOf(s)})
	}
	var results []Step
	switch {
	case u.fault != "":
		results = all(u, StatusFailed, u.fault)
	case u.child != nil:
		results = x.attach(ctx, u)
	case u.text != "":
		results = all(u, StatusSucceeded, "")
		results[0].Text = u.text
	default:
		results = x.do(ctx, u)
	}
	late, _ := errors.AsType[*lateError](context.Cause(ctx))
	for i := range results {
		s := &results[i]
		if s.Status == StatusQueued || s.Status == StatusWaiting || s.Status == StatusRunning {
			s.Status = StatusRunning
			x.keep(*s)
			continue // it is a run with which the next process goes on
		}
		if late != nil && s.Status != StatusSucceeded {
			s.Status, s.Reason = StatusFailed, late.about(s)
		}
		s.Ended = time.Now()
		if err := x.r.cfg.Journal.StepEnded(recording, x.record.ID, *s); err != nil {
			x.log.LogAttrs(ctx, slog.LevelError, "step not recorded", slog.Any("err", err))
			if s.Status == StatusSucceeded {
				// Later stages must not build on what a restart would not remember.
				s.Status, s.Reason = StatusFailed, "the outcome could not be recorded: "+err.Error()
			}
		}
		x.keep(*s)
		x.emit(Event{Kind: EventStepEnded, Stage: s.Stage, Step: copyOf(s)})
	}
}

func copyOf(s *Step) *Step {
	step := *s
	return &step
}

// all are the steps of a unit, all with the same end.
func all(u *unit, status Status, reason string) []Step {
	for i := range u.steps {
		u.steps[i].Status, u.steps[i].Reason = status, reason
	}
	return u.steps
}

func (x *run) keep(s Step) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.record.Steps[s.Number-1] = s
}

func (x *run) progress(s *Step, text string) {
	x.emit(Event{Kind: EventProgress, Stage: s.Stage, Step: copyOf(s), Text: text})
}

// end closes the run.
func (x *run) end(ctx context.Context, status Status, reason string) Run {
	x.mu.Lock()
	x.record.Status, x.record.Reason, x.record.Ended = status, reason, time.Now()
	x.mu.Unlock()
	record := x.snapshot()
	if err := x.r.cfg.Journal.EndProcedure(ctx, record); err != nil {
		x.log.LogAttrs(ctx, slog.LevelError, "end of a procedure not recorded", slog.Any("err", err))
	}
	level := slog.LevelInfo
	if status == StatusFailed {
		level = slog.LevelError
	}
	x.log.LogAttrs(ctx, level, "procedure ended", slog.String("status", string(status)), slog.String("reason", reason))
	x.emit(Event{Kind: EventEnded, Run: &record})
	x.r.cfg.Ended(record)
	x.r.leave(x)
	x.r.pass(x)
	close(x.ended)
	return record
}

// statusOf is how a step ended whose work failed with err.
func statusOf(ctx context.Context, err error) Status {
	if ctx.Err() != nil || errors.Is(err, reconciler.ErrStopped) {
		return StatusCanceled
	}
	return StatusFailed
}
