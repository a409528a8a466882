package plan

import (
	"fmt"
	"strings"
)

// LimitsGate is the id of the gate that Policy.Limits close.
const LimitsGate = "limits"

// gateLimits asks for consent where a plan would change more than the sync's limits let
// pass. What is only healed does not count: a host that restarts is no change of a commit.
func (p *planner) gateLimits() {
	most := p.in.Policy.Limits
	stacks, servers, containers, removals := map[string]bool{}, map[string]bool{}, 0, 0
	var changes []*item
	for _, it := range p.items {
		if it.reason != "" || it.op.Kind == OpHeal {
			continue
		}
		changes = append(changes, it)
		stacks[it.stack], servers[it.server] = true, true
		if it.op.Kind == OpRemove {
			removals++
		}
		for _, s := range it.op.Services {
			containers += s.Create + s.Recreate + s.Remove
		}
	}
	var over []string
	for _, l := range []struct {
		noun        string
		count, most int
	}{
		{"stack", len(stacks), most.Stacks},
		{"server", len(servers), most.Servers},
		{"container", containers, most.Containers},
		{"removal", removals, most.Removals},
	} {
		if l.most > 0 && l.count > l.most {
			over = append(over, fmt.Sprintf("%s (at most %d)", plural(l.count, l.noun), l.most))
		}
	}
	if len(over) == 0 {
		return
	}
	g := Gate{ID: LimitsGate, Kind: GateLimits}
	g.Text = "more would change at once than the sync's limits let pass: " + strings.Join(over, ", ")
	for _, it := range changes {
		g.Ops = append(g.Ops, it.op.ID)
		p.closeBy(it, g.ID)
	}
	p.plan.Gates = append(p.plan.Gates, g)
}
