package procedure

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/varanhq/varan/fleet"
)

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
	inputs, err := givenInputs(u.execution, p.Inputs)
	if err != nil {
		u.fault = err.Error() // no other attempt is better
		return all(u, StatusFailed, u.fault)
	}
	record := Run{
		ID: uuid.Must(uuid.NewV7()).String(), Procedure: u.procedure, Parent: x.record.ID, Trigger: x.record.Trigger,
		Actor: x.record.Actor, Status: StatusQueued, Stages: p.Stages, Steps: []Step{}, Created: time.Now(),
		Inputs: inputs, ParentStep: step.Number,
	}
	child := x.r.newRun(record, x.newsOf(step))
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
	u.child = child
	return x.attach(ctx, u)
}

// newsOf passes what happens in a run on as progress of the step that it is.
func (x *run) newsOf(step *Step) func(Event) {
	return func(e Event) {
		switch {
		case e.Step == nil:
		case e.Kind == EventWaiting:
			x.progress(step, "waits for an approval: varan procedure approve "+e.ID)
		case e.Kind == EventStepStarted || e.Kind == EventStepEnded:
			x.progress(step, fmt.Sprintf("%s %s: %s", e.Step.Type, e.Step.Target, e.Step.Status))
		}
	}
}

// givenInputs are the inputs that an execution gives to the procedure that it runs.
func givenInputs(e *fleet.Execution, declared []fleet.Input) (map[string]string, error) {
	given := map[string]string{}
	if text := e.Text("inputs"); text != "" {
		if err := json.Unmarshal([]byte(text), &given); err != nil {
			return nil, fmt.Errorf("the inputs are no table of texts: %w", err)
		}
	}
	inputs, err := fleet.FillInputs(declared, given)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInputs, err)
	}
	return inputs, nil
}

// attach has the run of a unit carried out as its step.
func (x *run) attach(ctx context.Context, u *unit) []Step {
	child := u.child
	u.child = nil
	u.steps[0].Run = child.record.ID
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
