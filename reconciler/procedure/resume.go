package procedure

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// Resumable are those of the runs without an end that a new process goes on with, by id:
// nothing of them is half done. They wait for their turn, or for an approval, or for a run
// that does; or their approval is the last thing on record. All others were interrupted.
func Resumable(open []Run) map[string]bool {
	f := family{byID: map[string]*Run{}, children: map[string]map[int]*Run{}}
	for i := range open {
		r := &open[i]
		f.byID[r.ID] = r
		if f.children[r.Parent] == nil {
			f.children[r.Parent] = map[int]*Run{}
		}
		f.children[r.Parent][r.ParentStep] = r
	}
	resumable := map[string]bool{}
	for i := range open {
		if f.goesOn(&open[i]) {
			resumable[open[i].ID] = true
		}
	}
	return resumable
}

// family is runs without an end, by id, and by the step of another that they are.
type family struct {
	byID     map[string]*Run
	children map[string]map[int]*Run
}

// goesOn reports whether nothing of a run is half done, nor of those that it is a step of.
func (f *family) goesOn(r *Run) bool {
	for range MaxDepth + 1 {
		if r == nil || !f.whole(r, 0) {
			return false
		}
		if r.Parent == "" {
			return true
		}
		r = f.byID[r.Parent]
	}
	return false
}

// whole reports whether all that a run has begun has ended, or waits.
func (f *family) whole(r *Run, depth int) bool {
	if len(r.Steps) == 0 {
		return r.Started.IsZero()
	}
	waits := false
	for i := range r.Steps {
		s := &r.Steps[i]
		if !s.Ended.IsZero() {
			continue
		}
		waits = true
		child := f.children[r.ID][s.Number]
		if s.Type != stepApproval && (child == nil || depth > MaxDepth || !f.whole(child, depth+1)) {
			return false
		}
	}
	return waits || r.Steps[len(r.Steps)-1].Type == stepApproval
}

// Resume takes over the runs that an earlier process left waiting. It is called once, before
// Run and before anything is started.
func (r *Runner) Resume(ctx context.Context) error {
	open, err := r.cfg.Journal.OpenProcedures(ctx)
	if err != nil {
		return fmt.Errorf("read the runs that wait: %w", err)
	}
	wanted := Resumable(open)
	open = slices.DeleteFunc(open, func(run Run) bool { return !wanted[run.ID] })
	// Those that had their turn come first in their line.
	late := func(run Run) int {
		if run.Started.IsZero() {
			return 1
		}
		return 0
	}
	slices.SortFunc(open, func(a, b Run) int {
		return cmp.Or(late(a)-late(b), strings.Compare(a.ID, b.ID))
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	runs := map[string]*run{}
	for i := range open {
		if open[i].Steps == nil {
			open[i].Steps = []Step{}
		}
		x := r.newRun(open[i], nil)
		runs[open[i].ID] = x
		r.join(x)
	}
	for _, x := range runs {
		parent := runs[x.record.Parent]
		if parent == nil {
			r.resumed = append(r.resumed, x)
			continue
		}
		if parent.children == nil {
			parent.children = map[int]*run{}
		}
		parent.children[x.record.ParentStep] = x
		step := parent.record.Steps[x.record.ParentStep-1]
		x.watch = parent.newsOf(&step)
	}
	for _, x := range r.resumed {
		x.trace(nil)
	}
	return nil
}

// trace tells resumed runs which procedures lead to them.
func (x *run) trace(path []string) {
	x.path = append(slices.Clone(path), x.path...)
	for _, child := range x.children {
		child.trace(x.path)
	}
}

// leftOf are units for the steps of a stage that an earlier process left waiting.
func (x *run) leftOf(at int) (units []*unit) {
	for _, s := range x.snapshot().Steps {
		child := x.children[s.Number]
		if s.Stage != at || !s.Ended.IsZero() || child == nil {
			continue
		}
		units = append(units, &unit{execution: x.executionOf(&s), procedure: child.record.Procedure, steps: []Step{s}, child: child})
	}
	return units
}

// executionOf is the execution that a step of running procedures comes from.
func (x *run) executionOf(s *Step) *fleet.Execution {
	for i := range x.record.Stages[s.Stage].Executions {
		e := &x.record.Stages[s.Stage].Executions[i]
		if e.Type == s.Type && (e.Text("procedure") == s.Target || e.Type != "RunProcedure") {
			return e
		}
	}
	return &fleet.Execution{Type: s.Type, Enabled: true}
}

// suspend leaves a run as it is on record for the next process to go on with. It keeps its
// place in the line, so that nothing comes before it while this one stops.
func (x *run) suspend() Run {
	x.r.leave(x)
	close(x.ended)
	return x.snapshot()
}
