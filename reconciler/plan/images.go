package plan

import (
	"slices"

	"github.com/varanhq/varan/fleet"
)

// ForImages is a plan that brings newer images to one stack on one server, and does nothing
// else. causes say which services have one. whyNot: what keeps a deploy from being done, or
// that the stack is not as declared and a deploy of that comes first.
func ForImages(in Input, stack, server string, causes map[string]Cause) (images Plan, whyNot string) {
	const differs = "it does not run as declared, and a deploy comes first"
	in.Policy.Only, in.Policy.Forced = []string{stack}, []string{stack}
	p := Compute(in)
	at := func(op Op) bool { return op.Stack == stack && op.Server == server }
	for i := range p.Blocked {
		if at(p.Blocked[i].Op) {
			return Plan{}, p.Blocked[i].Text
		}
	}
	i := slices.IndexFunc(p.Ops, at)
	declared := slices.ContainsFunc(in.Desired.Stacks, func(s fleet.Stack) bool {
		return s.Name == stack && s.Server == server && i >= 0 && s.Release.Digest == p.Ops[i].Release
	})
	// A rollback may have gone back to another release, which is then as it should be.
	report, _ := in.Observed[server].Stack(stack)
	if !declared || report.Release.Digest != p.Ops[i].Release || p.Ops[i].Kind != OpUpdate || len(p.Ops[i].Gates) > 0 {
		return Plan{}, differs
	}
	in.Policy.Forced = nil
	states := Compute(in).Stacks
	state := slices.IndexFunc(states, func(s StackState) bool { return s.Stack == stack && s.Server == server })
	if state < 0 || states[state].Sync != fleet.Synced {
		return Plan{}, differs
	}
	op := p.Ops[i]
	op.After, op.Causes, op.Services = nil, nil, slices.Clone(op.Services)
	for k := range op.Services {
		s := &op.Services[k]
		cause, ok := causes[s.Service]
		if !ok {
			continue
		}
		s.Action, s.Causes = ActionRecreate, []Cause{cause}
		s.Recreate = max(s.Recreate, 1)
		cause.Field = servicePrefix + s.Service + "." + cause.Field
		op.Causes = append(op.Causes, cause)
	}
	images = Plan{
		Sync: p.Sync, Commit: p.Commit, Time: p.Time, Ops: []Op{op}, Stacks: []StackState{states[state]},
	}
	images.Totals = Count(images)
	images.ID = identify(images)
	return images, ""
}
