package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// The kinds of notice.
const (
	// NoticeOrphan: the sync brought the stack up, it left Git, and nothing removes it.
	NoticeOrphan = "orphan"
	// NoticeDrift: what runs is not what was deployed, and nothing heals it.
	NoticeDrift = "drift"
	// NoticeStopped: a person stopped the stack.
	NoticeStopped = "stopped"
	// NoticeUndeclared: no sync declares or owns the stack that runs.
	NoticeUndeclared = "undeclared"
)

// leftovers plans what the sync brought up and Git no longer places there.
func (p *planner) leftovers() {
	for _, stack := range slices.Sorted(maps.Keys(p.left)) {
		places := p.places(stack)
		for _, o := range p.left[stack] {
			p.leftover(address{o.Server, o.Stack}, o, places)
		}
	}
}

func (p *planner) leftover(at address, o Owned, places []string) {
	switch {
	case p.in.Foreign[o.Stack] != "":
		p.notice(at, NoticeOrphan, "the sync "+p.in.Foreign[o.Stack]+" owns it as well; it is left alone")
	case len(places) > 0:
		p.moved(o, places)
	case p.in.Policy.Delete:
		p.remove(o, Cause{Kind: CauseLeftGit, Text: "no longer declared"}).prunes = p.exists(at)
	case p.exists(at):
		p.notice(at, NoticeOrphan, "it left Git and still runs; delete = true on the sync would remove it")
		p.orphanState(at, "left Git")
	}
}

// exists reports whether something of a stack is there, or might be.
func (p *planner) exists(at address) bool {
	if p.unreachable(at.server).reason != "" {
		return true
	}
	r := p.report(at)
	return r.Release.Digest != "" || len(r.Containers) > 0
}

// moved takes a stack down where it was, once it is well where it is now.
func (p *planner) moved(o Owned, places []string) {
	it := p.remove(o, Cause{Kind: CauseMoved, Field: "server", From: o.Server, To: strings.Join(places, ", ")})
	for _, server := range places {
		to := address{server, o.Stack}
		if slices.ContainsFunc(p.work[o.Stack], func(w *item) bool { return w.server == server }) {
			continue // the edge to that op says it all
		}
		switch h := p.health[to]; h {
		case fleet.Healthy, fleet.Suspended:
		case fleet.Progressing, fleet.Degraded, fleet.Missing, fleet.HealthUnknown:
			it.block(BlockDependency, fmt.Sprintf("%s is %s; what runs on %s stays until it is Healthy", to, h, o.Server), "")
		}
	}
}

// remove makes the work that takes a stack down.
func (p *planner) remove(o Owned, cause Cause) *item {
	at := address{o.Server, o.Stack}
	report := p.report(at)
	f := finding{kind: OpRemove, causes: []Cause{cause}}
	for _, c := range report.Containers {
		same := func(s ServiceChange) bool { return s.Service == c.Service }
		i := slices.IndexFunc(f.services, same)
		if i < 0 {
			i = len(f.services)
			f.services = append(f.services, ServiceChange{Service: c.Service, Action: ActionRemove})
		}
		f.services[i].Remove++
	}
	slices.SortFunc(f.services, func(a, b ServiceChange) int { return cmp.Compare(a.Service, b.Service) })
	it := p.newItem(at, f)
	it.op.Project, it.op.Expect = cmp.Or(o.Project, report.Project), Fingerprint(*report)
	it.op.StackAfter = slices.Clone(o.After)
	away := p.unreachable(o.Server)
	it.block(away.reason, away.text, away.hint)
	if report.Busy != "" {
		it.block(BlockBusy, "the agent on "+o.Server+" is at work on "+o.Stack, "")
	}
	it.state = p.orphanState(at, cause.String())
	p.removals[o.Stack] = append(p.removals[o.Stack], it)
	return it
}

// orphanState adds the line of a stack that is not desired.
func (p *planner) orphanState(at address, text string) int {
	state := StackState{Stack: at.stack, Server: at.server, Sync: fleet.OutOfSync, Health: fleet.HealthUnknown, Text: text}
	if p.unreachable(at.server).reason == "" {
		report := p.report(at)
		state.Health, _ = health(&fleet.Stack{Release: report.Release}, report)
	}
	return p.addState(state)
}

// undeclared tells of stacks that agents know and nobody declares or owns.
func (p *planner) undeclared() {
	for server, reports := range p.observed {
		for i := range reports {
			at := address{server, reports[i].Stack}
			owns := func(o Owned) bool { return o.Server == server }
			switch {
			case p.placed(at), p.in.Foreign[at.stack] != "", slices.ContainsFunc(p.left[at.stack], owns):
			case i > 0 && reports[i-1].Stack == at.stack:
			default:
				p.notice(at, NoticeUndeclared, "it runs there and no sync declares it; it is left alone")
			}
		}
	}
}

// gate asks for consent where something would be lost.
func (p *planner) gate() {
	p.gateRemovals()
	p.gateLimits()
	for _, it := range p.items {
		if it.reason != "" {
			continue
		}
		for _, v := range it.volumes {
			id := fmt.Sprintf("volume %s/%s@%s", it.stack, v.Name, it.server)
			p.plan.Gates = append(p.plan.Gates, Gate{
				ID: id, Kind: GateVolume, Volume: v.Name, Ops: []string{it.op.ID},
				Text: fmt.Sprintf("the definition of volume %s changed: making it anew destroys its data", v.Name),
			})
			p.closeBy(it, id)
		}
	}
}

// gateRemovals guards against a source that lost its stacks by mistake.
func (p *planner) gateRemovals() {
	most := p.in.Policy.MaxRemovals
	switch {
	case most == 0:
		most = defaultMaxRemovals
	case most < 0:
		most = 0
	}
	count, onlyStacks := p.countPruned()
	var ops []*item
	for _, it := range p.items {
		if it.op.Kind == OpRemove && it.op.Causes[0].Kind == CauseLeftGit && it.reason == "" {
			ops = append(ops, it)
		}
	}
	what, nothing := "stacks", len(p.in.Desired.Resources) == 0
	if !onlyStacks {
		what = "resources"
	}
	g := Gate{ID: "removals", Kind: GateRemovals}
	g.Text = fmt.Sprintf("%d %s would be removed; at most %d go without consent", count, what, most)
	switch {
	case count == 0:
		return
	case len(p.in.Desired.Stacks) == 0 && nothing && !onlyStacks:
		g.ID, g.Kind = "empty", GateEmpty
		g.Text = fmt.Sprintf("the source declares nothing at all; %s would be removed", plural(count, "resource"))
	case len(p.in.Desired.Stacks) == 0 && (len(ops) > 0 || nothing):
		g.ID, g.Kind = "empty", GateEmpty
		g.Text = fmt.Sprintf("the source declares no stack at all; %d would be removed", count)
	case count <= most:
		return
	}
	p.close(g, ops)
}

// close puts a gate before removals, and before the deletion of records.
func (p *planner) close(g Gate, ops []*item) {
	for _, it := range ops {
		g.Ops = append(g.Ops, it.op.ID)
		p.closeBy(it, g.ID)
	}
	for i := range p.plan.Resources {
		c := &p.plan.Resources[i]
		if c.Action != ResourceDelete {
			continue
		}
		c.Gates = append(c.Gates, g.ID)
		if !workload(c.Kind) || len(ops) == 0 {
			g.Ops = append(g.Ops, c.ID())
		}
	}
	if len(g.Ops) > 0 {
		p.plan.Gates = append(p.plan.Gates, g)
	}
}

// closeBy makes an op wait for a gate.
func (p *planner) closeBy(it *item, gate string) {
	it.op.Gates = append(it.op.Gates, gate)
	if it.state >= 0 {
		p.plan.Stacks[it.state].Text = "waits for approval: " + gate
	}
}
