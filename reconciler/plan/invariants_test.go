package plan_test

import (
	"slices"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// failer is what testing.T and rapid.T have in common here.
type failer interface {
	Helper()
	Error(args ...any)
	Errorf(format string, args ...any)
}

// checkInvariants holds what must be true of every plan.
func checkInvariants(t failer, in plan.Input, p plan.Plan) {
	t.Helper()
	done := map[string]bool{}
	blocked := map[string]bool{}
	for _, b := range p.Blocked {
		blocked[b.Op.ID] = true
	}
	for _, op := range p.Ops {
		for _, dep := range op.After {
			if !done[dep] {
				t.Errorf("%s comes before %s", op.ID, dep)
			}
			if blocked[dep] {
				t.Errorf("%s depends on %s, which is blocked", op.ID, dep)
			}
		}
		if done[op.ID] || blocked[op.ID] {
			t.Errorf("%s is there twice", op.ID)
		}
		done[op.ID] = true
		if len(op.Causes) == 0 {
			t.Errorf("%s has no cause", op.ID)
		}
		checkOp(t, in, op)
	}
	if p.ID != plan.Compute(in).ID {
		t.Error("the same input has another plan")
	}
}

// checkOp holds what must be true of an op that may run.
func checkOp(t failer, in plan.Input, op plan.Op) {
	t.Helper()
	report, known := in.Observed[op.Server]
	if !known || !report.Online || report.Agent.EngineError != "" {
		t.Errorf("%s is on a server that can not do it", op.ID)
	}
	if in.Foreign[op.Stack] != "" {
		t.Errorf("%s is another sync's", op.ID)
	}
	desired := slices.ContainsFunc(in.Desired.Stacks, func(s fleet.Stack) bool {
		return s.Name == op.Stack && s.Server == op.Server
	})
	if op.Kind != plan.OpRemove {
		if !desired {
			t.Errorf("%s is not desired", op.ID)
		}
		return
	}
	if desired {
		t.Errorf("%s is desired", op.ID)
	}
	if !slices.ContainsFunc(in.Inventory, func(o plan.Owned) bool { return o.Stack == op.Stack && o.Server == op.Server }) {
		t.Errorf("%s is not owned", op.ID)
	}
	if op.Causes[0].Kind == plan.CauseLeftGit && !in.Policy.Delete {
		t.Errorf("%s removes without delete", op.ID)
	}
}
