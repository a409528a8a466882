package procedure

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
)

// execute waits for the run's turn, carries it out and records its end.
func (x *run) execute(ctx context.Context) Run {
	recording := context.WithoutCancel(ctx)
	if err := x.await(ctx); err != nil {
		return x.end(recording, StatusCanceled, err.Error())
	}
	started := time.Now()
	if err := x.r.cfg.Journal.ProcedureStarted(recording, x.record.ID, started); err != nil {
		return x.end(recording, StatusFailed, "the start could not be recorded: "+err.Error())
	}
	x.mu.Lock()
	x.record.Status, x.record.Started = StatusRunning, started
	x.mu.Unlock()
	begun := x.snapshot()
	x.emit(Event{Kind: EventStarted, Run: &begun})
	x.log.LogAttrs(ctx, slog.LevelInfo, "procedure started", slog.String("actor", x.record.Actor))
	for i := range x.record.Stages {
		stage := &x.record.Stages[i]
		if !stage.Enabled {
			continue
		}
		if err := x.mayGoOn(ctx); err != nil {
			return x.end(recording, StatusCanceled, err.Error())
		}
		if failed := x.stage(ctx, i, stage); failed > 0 {
			status := StatusFailed
			if err := x.mayGoOn(ctx); err != nil && x.onlyCanceled() {
				return x.end(recording, StatusCanceled, err.Error())
			}
			return x.end(recording, status, x.summary(i, stage, failed))
		}
	}
	return x.end(recording, StatusSucceeded, "")
}

func (x *run) mayGoOn(ctx context.Context) error {
	if ctx.Err() != nil {
		return errShutdown
	}
	return x.whyStopped()
}

// onlyCanceled reports whether nothing of the run failed by itself.
func (x *run) onlyCanceled() bool {
	for _, s := range x.snapshot().Steps {
		if s.Status == StatusFailed {
			return false
		}
	}
	return true
}

// summary says in a sentence what failed.
func (x *run) summary(at int, stage *fleet.Stage, failed int) string {
	name := stage.Name
	if name == "" {
		name = fmt.Sprint(at + 1)
	}
	for _, s := range x.snapshot().Steps {
		if s.Stage != at || s.Status == StatusSucceeded {
			continue
		}
		text := strings.TrimSpace(fmt.Sprintf("stage %s: %s %s", name, s.Type, s.Target)) + ": " + s.Reason
		if failed > 1 {
			text += fmt.Sprintf(" (and %d more)", failed-1)
		}
		return text
	}
	return "stage " + name + " failed"
}

// stage runs the executions of a stage to their end and returns how many steps did not
// succeed.
func (x *run) stage(ctx context.Context, at int, stage *fleet.Stage) (failed int) {
	x.emit(Event{Kind: EventStage, Stage: at, Text: stage.Name})
	catalog, err := x.r.cfg.Catalog(ctx)
	var group sync.WaitGroup
	for i := range stage.Executions {
		if !stage.Executions[i].Enabled {
			continue
		}
		for _, u := range expand(&stage.Executions[i], &catalog, x.r.cfg.Maintenance) {
			if err != nil {
				u.fault = "what there is could not be read: " + err.Error()
			}
			x.number(at, &u)
			group.Go(func() { x.unit(ctx, &u) })
		}
	}
	group.Wait()
	for _, s := range x.snapshot().Steps {
		if s.Stage == at && s.Status != StatusSucceeded {
			failed++
		}
	}
	return failed
}

// number gives the steps of a unit their place in the run.
func (x *run) number(stage int, u *unit) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range u.steps {
		s := &u.steps[i]
		s.Number, s.Stage, s.Status = len(x.record.Steps)+1, stage, StatusQueued
		x.record.Steps = append(x.record.Steps, *s)
	}
}

// unit does one unit: it records its steps, does them, and records what became of them.
func (x *run) unit(ctx context.Context, u *unit) {
	recording := context.WithoutCancel(ctx)
	began := time.Now()
	for i := range u.steps {
		s := &u.steps[i]
		s.Status, s.Started = StatusRunning, began
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
	case u.text != "":
		results = all(u, StatusSucceeded, "")
		results[0].Text = u.text
	default:
		results = x.do(ctx, u)
	}
	for i := range results {
		s := &results[i]
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
	x.r.leave(x)
	level := slog.LevelInfo
	if status == StatusFailed {
		level = slog.LevelError
	}
	x.log.LogAttrs(ctx, level, "procedure ended", slog.String("status", string(status)), slog.String("reason", reason))
	x.emit(Event{Kind: EventEnded, Run: &record})
	x.r.cfg.Ended(record)
	x.r.pass(x)
	close(x.ended)
	return record
}

// nested runs a procedure as a step of this run, in its turn.
func (x *run) nested(ctx context.Context, u *unit) []Step {
	step := &u.steps[0]
	for _, name := range x.path {
		if name == u.procedure {
			return all(u, StatusFailed, fmt.Sprintf("procedure %s is what runs it", name))
		}
	}
	if len(x.path) >= MaxDepth {
		return all(u, StatusFailed, fmt.Sprintf("procedures run procedures more than %d deep", MaxDepth))
	}
	catalog, err := x.r.cfg.Catalog(ctx)
	if err != nil {
		return all(u, StatusFailed, err.Error())
	}
	p, err := runnable(&catalog, u.procedure)
	if err != nil {
		return all(u, StatusFailed, err.Error())
	}
	record := Run{
		ID: uuid.Must(uuid.NewV7()).String(), Procedure: u.procedure, Parent: x.record.ID, Trigger: x.record.Trigger,
		Actor: x.record.Actor, Status: StatusQueued, Stages: p.Stages, Steps: []Step{}, Created: time.Now(),
	}
	child := x.r.newRun(record, func(e Event) {
		if e.Step != nil && (e.Kind == EventStepStarted || e.Kind == EventStepEnded) {
			x.progress(step, fmt.Sprintf("%s %s: %s", e.Step.Type, e.Step.Target, e.Step.Status))
		}
	})
	child.path = append(append([]string(nil), x.path...), u.procedure)
	x.r.mu.Lock()
	x.r.join(child)
	x.r.mu.Unlock()
	step.Run = record.ID
	if err := x.r.cfg.Journal.BeginProcedure(context.WithoutCancel(ctx), record); err != nil {
		x.r.leave(child)
		x.r.pass(child)
		return all(u, StatusFailed, "the run could not be recorded: "+err.Error())
	}
	over := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() { // whoever cancels this run cancels what it runs
		select {
		case <-x.canceled:
			child.cancel(x.canceler())
		case <-over:
		}
	})
	result := child.execute(ctx)
	close(over)
	group.Wait()
	return all(u, result.Status, result.Reason)
}

func (x *run) canceler() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.by
}

// statusOf is how a step ended whose work failed with err.
func statusOf(ctx context.Context, err error) Status {
	if ctx.Err() != nil || errors.Is(err, reconciler.ErrStopped) {
		return StatusCanceled
	}
	return StatusFailed
}
