package procedure

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/fleet"
)

// stepApproval is the type of the one step of a stage that waits for an approval.
const stepApproval = "Approval"

// Errors of decisions.
var (
	// ErrNotWaiting: no run of that id, or of that procedure, waits for an approval.
	ErrNotWaiting = errors.New("it does not wait for an approval")
	// ErrAmbiguous: several runs of the procedure wait.
	ErrAmbiguous = errors.New("several runs wait")
	// ErrNotApprover: somebody else is to decide.
	ErrNotApprover = errors.New("it is not for you to decide")
)

// Decision is what somebody says of a run that waits.
type Decision struct {
	Approve bool
	// Actor is who says so, Reason why; optional.
	Actor, Reason string
}

type decision struct {
	Decision
	// recorded is told whether it is on record.
	recorded chan<- error
}

// Decide lets a run that waits for an approval go on, or fail. It takes the id of the run, or
// the name of its procedure when one of it waits, and returns once the decision is on record.
func (r *Runner) Decide(ctx context.Context, name string, d Decision) (Run, error) {
	x, err := r.waiting(name)
	if err != nil {
		return Run{}, err
	}
	record := x.snapshot()
	approvers := record.Stages[record.Steps[len(record.Steps)-1].Stage].Approvers
	if len(approvers) > 0 && !slices.Contains(approvers, d.Actor) {
		return Run{}, fmt.Errorf("%w: %s is to be approved by %s", ErrNotApprover, record.Procedure, strings.Join(approvers, " or "))
	}
	recorded := make(chan error, 1)
	select {
	case x.decisions <- decision{d, recorded}:
	case <-x.ended:
		return Run{}, ErrNotWaiting
	case <-ctx.Done():
		return Run{}, ctx.Err()
	}
	if err := <-recorded; err != nil {
		return Run{}, fmt.Errorf("record the decision: %w", err)
	}
	return x.snapshot(), nil
}

func (r *Runner) waiting(name string) (found *run, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, x := range r.active {
		switch {
		case x.snapshot().Status != StatusWaiting:
		case id == name:
			return x, nil
		case x.record.Procedure != name:
		case found != nil:
			return nil, fmt.Errorf("%w: name one of them", ErrAmbiguous)
		default:
			found = x
		}
	}
	if found == nil {
		return nil, ErrNotWaiting
	}
	return found, nil
}

// approval waits for somebody's decision. When core stops, it leaves the step without an end.
func (x *run) approval(ctx context.Context, at int, stage *fleet.Stage) {
	step, err := x.ask(ctx, at, stage)
	if err != nil {
		x.close(ctx, step, StatusFailed, "it could not be recorded: "+err.Error())
		return
	}
	ctx, cancel := within(ctx, stage.Timeout, step.Started)
	defer cancel()
	for {
		select {
		case d := <-x.decisions:
			status, reason := StatusSucceeded, ""
			step.Text = words("approved by "+d.Actor, d.Reason)
			if !d.Approve {
				status, reason, step.Text = StatusFailed, words("rejected by "+d.Actor, d.Reason), ""
			}
			err := x.settle(ctx, step, status, reason)
			d.recorded <- err
			if err == nil {
				return
			}
		case <-x.canceled:
			x.close(ctx, step, StatusCanceled, x.whyStopped().Error())
			return
		case <-ctx.Done():
			if late, ok := errors.AsType[*lateError](context.Cause(ctx)); ok {
				x.close(ctx, step, StatusFailed, fmt.Sprintf("nobody approved it within %s", late.after))
			}
			return
		}
	}
}

func words(what, reason string) string {
	if reason == "" {
		return what
	}
	return what + ": " + reason
}

// ask records that the run waits, unless an earlier process did.
func (x *run) ask(ctx context.Context, at int, stage *fleet.Stage) (Step, error) {
	x.mu.Lock()
	var step Step
	if n := len(x.record.Steps); n > 0 && x.record.Steps[n-1].Stage == at {
		step = x.record.Steps[n-1]
	} else {
		step = Step{
			Number: n + 1, Stage: at, Type: stepApproval, Target: strings.Join(stage.Approvers, ", "), Status: StatusWaiting,
			Attempts: 1, MayFail: stage.ContinueOnError, Started: time.Now(),
		}
		x.record.Steps = append(x.record.Steps, step)
	}
	x.mu.Unlock()
	err := x.r.cfg.Journal.StageStarted(context.WithoutCancel(ctx), x.record.ID, []Step{step})
	if err != nil {
		return step, err
	}
	x.mu.Lock()
	x.record.Status = StatusWaiting
	x.mu.Unlock()
	x.emit(Event{Kind: EventWaiting, Stage: at, Step: copyOf(&step)})
	return step, nil
}

// settle records a decision. One that is not on record does not count.
func (x *run) settle(ctx context.Context, step Step, status Status, reason string) error {
	step.Status, step.Reason, step.Ended = status, reason, time.Now()
	if err := x.r.cfg.Journal.StepEnded(context.WithoutCancel(ctx), x.record.ID, step); err != nil {
		return err
	}
	x.decided(step)
	return nil
}

// close ends an approval that nobody decided.
func (x *run) close(ctx context.Context, step Step, status Status, reason string) {
	step.Status, step.Reason, step.Ended = status, reason, time.Now()
	if err := x.r.cfg.Journal.StepEnded(context.WithoutCancel(ctx), x.record.ID, step); err != nil {
		x.log.LogAttrs(ctx, slog.LevelError, "step not recorded", slog.Any("err", err))
	}
	x.decided(step)
}

func (x *run) decided(step Step) {
	x.mu.Lock()
	x.record.Steps[step.Number-1], x.record.Status = step, StatusRunning
	x.mu.Unlock()
	x.emit(Event{Kind: EventStepEnded, Stage: step.Stage, Step: &step})
}
