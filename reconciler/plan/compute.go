package plan

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/varanhq/varan/fleet"
)

// defaultMaxRemovals is Policy.MaxRemovals when it is not set.
const defaultMaxRemovals = 3

// Compute compares what is desired with what is observed and says what to do about it.
// It is total and pure: any input has a plan, and equal inputs have equal plans whatever
// the order of their lists.
//
// A stack that comes after another waits for that one's op, and for nothing else: one
// that is synced imposes nothing, however unwell it is, since waiting would not make it
// better and the change that waits may be its cure.
func Compute(in Input) Plan {
	p := newPlanner(in)
	for _, i := range p.order {
		p.declared(&in.Desired.Stacks[i])
	}
	p.leftovers()
	p.undeclared()
	p.link()
	p.settle()
	p.gate()
	return p.finish()
}

// address is one stack on one server.
type address struct{ server, stack string }

func (a address) String() string { return a.stack + "@" + a.server }

func compareAddress(a, b address) int {
	return cmp.Or(cmp.Compare(a.server, b.server), cmp.Compare(a.stack, b.stack))
}

// item is one piece of work on its way into the plan.
type item struct {
	address
	op   Op
	deps []*item
	// reason is why the work is blocked; empty when it is not.
	reason     BlockReason
	text, hint string
	// state is the index of the stack's line in the plan, -1 when it has none.
	state int
	// create, recreate and remove count containers.
	create, recreate, remove int
	// prunes is set for a removal of something that is still there and left Git.
	prunes  bool
	volumes []fleet.Volume
	color   color
}

// block gives the work a reason not to be done; the first reason stays.
func (it *item) block(reason BlockReason, text, hint string) {
	if it.reason == "" {
		it.reason, it.text, it.hint = reason, text, hint
	}
}

// planner holds one computation.
type planner struct {
	in   Input
	plan Plan
	// order lists the indices of desired stacks by address, repeats left out.
	order    []int
	servers  map[string]fleet.Server
	observed map[string][]fleet.StackReport
	owned    map[address]Owned
	// places maps a desired stack's name to the servers it is desired on.
	places map[string][]string
	forced map[string]bool
	only   map[string]bool
	items  []*item
	// work maps a stack's name to the items that bring it up; removals to those that
	// take it down.
	work, removals map[string][]*item
	health         map[address]fleet.HealthState
}

func newPlanner(in Input) *planner {
	p := &planner{
		in:       in,
		plan:     Plan{Sync: in.Desired.Sync, Commit: in.Desired.Commit, Time: in.Now, Ops: []Op{}},
		servers:  make(map[string]fleet.Server, len(in.Desired.Servers)),
		observed: make(map[string][]fleet.StackReport, len(in.Observed)),
		owned:    make(map[address]Owned, len(in.Inventory)),
		places:   make(map[string][]string, len(in.Desired.Stacks)),
		forced:   set(in.Policy.Forced),
		only:     set(in.Policy.Only),
		work:     map[string][]*item{},
		removals: map[string][]*item{},
		health:   map[address]fleet.HealthState{},
	}
	for _, s := range in.Desired.Servers {
		p.servers[s.Name] = s
	}
	for name, report := range in.Observed {
		p.observed[name] = byName(report.Stacks)
	}
	for _, o := range in.Inventory {
		p.owned[address{o.Server, o.Stack}] = o
	}
	p.sortDesired()
	p.plan.Stacks = make([]StackState, 0, len(p.order))
	return p
}

// sortDesired fills order and places.
func (p *planner) sortDesired() {
	stacks := p.in.Desired.Stacks
	at := func(i int) address { return address{stacks[i].Server, stacks[i].Name} }
	p.order = make([]int, len(stacks))
	for i := range stacks {
		p.order[i] = i
	}
	slices.SortStableFunc(p.order, func(a, b int) int { return compareAddress(at(a), at(b)) })
	p.order = slices.CompactFunc(p.order, func(a, b int) bool { return at(a) == at(b) })
	for _, i := range p.order {
		p.places[stacks[i].Name] = append(p.places[stacks[i].Name], stacks[i].Server)
	}
}

// report finds what is known of a stack; a zero report when nothing is.
func (p *planner) report(at address) fleet.StackReport {
	list := p.observed[at.server]
	i, found := slices.BinarySearchFunc(list, at.stack, func(r fleet.StackReport, name string) int {
		return cmp.Compare(r.Stack, name)
	})
	if !found {
		return fleet.StackReport{}
	}
	return list[i]
}

// wanted reports whether the policy lets the plan speak of a stack.
func (p *planner) wanted(stack string) bool { return len(p.only) == 0 || p.only[stack] }

// declared plans one desired stack.
func (p *planner) declared(s *fleet.Stack) {
	at := address{s.Server, s.Name}
	report := p.report(at)
	found := p.examine(s, &report)
	reason, text, hint := p.unreachable(s.Server)
	state := StackState{Stack: s.Name, Server: s.Server, Sync: fleet.Synced}
	state.Health, state.Text = health(s, &report)
	if reason != "" {
		state.Sync, state.Health, state.Text = fleet.SyncUnknown, fleet.HealthUnknown, text
	}
	switch {
	case found.stopped && found.differs:
		state.Sync = fleet.OutOfSync
	case found.drift != "":
		state.Sync, state.Text = fleet.OutOfSync, cmp.Or(state.Text, found.drift)
	}
	p.note(s, found)
	p.health[at] = state.Health

	foreign := p.in.Foreign[s.Name]
	if found.kind == "" && foreign == "" {
		p.addState(state)
		return
	}
	it := p.newItem(at, found)
	it.op.Project, it.op.Release, it.op.Origin = s.Release.Project, s.Release.Digest, s.Origin
	it.op.StackAfter = slices.Clone(s.After)
	it.op.Expect = Fingerprint(report)
	it.volumes = found.volumes
	if foreign != "" {
		it.block(BlockForeign, "the sync "+foreign+" owns "+s.Name,
			"declare the stack in one sync only, or rename one of the two")
	}
	it.block(reason, text, hint)
	if report.Busy != "" {
		it.block(BlockBusy, "the agent on "+s.Server+" is at work on "+s.Name, "")
	}
	if found.bad != nil {
		it.block(BlockBad, badText(found.bad), "push a fix, or try this release again with `varan deploy "+s.Name+"`")
	}
	state.Sync = fleet.OutOfSync
	it.state = p.addState(state)
	p.work[s.Name] = append(p.work[s.Name], it)
}

// newItem makes the work for a finding.
func (p *planner) newItem(at address, f finding) *item {
	kind := f.kind
	if kind == "" {
		kind = OpUpdate
	}
	if f.causes == nil {
		f.causes = []Cause{}
	}
	it := &item{address: at, state: -1, create: f.create, recreate: f.recreate, remove: f.remove}
	it.op = Op{
		ID: string(kind) + " " + at.String(), Kind: kind, Stack: at.stack, Server: at.server,
		Services: f.services, Causes: f.causes,
	}
	if p.wanted(at.stack) {
		p.items = append(p.items, it)
	}
	return it
}

// note tells of what is left as it is.
func (p *planner) note(s *fleet.Stack, f finding) {
	switch {
	case f.stopped:
		p.notice(address{s.Server, s.Name}, NoticeStopped,
			"a person stopped it; it stays stopped until `varan deploy "+s.Name+"` or deploy = true")
	case f.drift != "":
		p.notice(address{s.Server, s.Name}, NoticeDrift, f.drift)
	}
}

func (p *planner) notice(at address, kind, text string) {
	if p.wanted(at.stack) {
		p.plan.Notices = append(p.plan.Notices, Notice{Stack: at.stack, Server: at.server, Kind: kind, Text: text})
	}
}

// addState adds a stack's line and returns its index, -1 when the policy leaves it out.
func (p *planner) addState(s StackState) int {
	if !p.wanted(s.Stack) {
		return -1
	}
	p.plan.Stacks = append(p.plan.Stacks, s)
	return len(p.plan.Stacks) - 1
}

// unreachable says why nothing can be done on a server now; reason is empty when it can.
func (p *planner) unreachable(server string) (reason BlockReason, text, hint string) {
	if declared, ok := p.servers[server]; ok && !declared.Enabled {
		return BlockDisabled, "server " + server + " is disabled", "set enabled = true for it when it is back in service"
	}
	report, ok := p.in.Observed[server]
	switch {
	case !ok:
		return BlockUnknown, "no agent has joined as " + server,
			"start one there: varan agent --connect-as " + server
	case !report.Online:
		return BlockOffline, "server " + server + " is offline", "it catches up as soon as its agent connects"
	case report.Received.IsZero():
		return BlockOffline, "server " + server + " has connected but not reported yet", ""
	case report.Agent.EngineError != "":
		return BlockEngine, "Docker on " + server + " does not answer: " + report.Agent.EngineError,
			"look at the Docker service on " + server
	}
	return "", "", ""
}

// finish puts the pieces together.
func (p *planner) finish() Plan {
	for _, it := range p.items {
		if it.reason == "" {
			p.plan.Ops = append(p.plan.Ops, it.op)
			p.count(it)
			continue
		}
		p.plan.Blocked = append(p.plan.Blocked, Blocked{Op: it.op, Reason: it.reason, Text: it.text, Hint: it.hint})
		if it.state >= 0 {
			p.plan.Stacks[it.state].Sync = fleet.SyncBlocked
			p.plan.Stacks[it.state].Text = it.text
		}
	}
	slices.SortFunc(p.plan.Blocked, func(a, b Blocked) int { return compareOps(a.Op, b.Op) })
	slices.SortStableFunc(p.plan.Notices, func(a, b Notice) int {
		return cmp.Or(compareAddress(address{a.Server, a.Stack}, address{b.Server, b.Stack}), cmp.Compare(a.Kind, b.Kind))
	})
	byAddress := func(a, b StackState) int {
		return compareAddress(address{a.Server, a.Stack}, address{b.Server, b.Stack})
	}
	if !slices.IsSortedFunc(p.plan.Stacks, byAddress) {
		slices.SortStableFunc(p.plan.Stacks, byAddress)
	}
	p.plan.Totals.Blocked = len(p.plan.Blocked)
	p.plan.ID = identify(p.plan)
	return p.plan
}

func (p *planner) count(it *item) {
	t := &p.plan.Totals
	switch it.op.Kind {
	case OpCreate:
		t.Create++
	case OpUpdate:
		t.Update++
	case OpHeal:
		t.Heal++
	case OpRestart:
		t.Restart++
	case OpRemove:
		t.Remove++
	}
	t.ContainersCreate += it.create
	t.ContainersRecreate += it.recreate
	t.ContainersRemove += it.remove
}

// identify is the digest of the plan's work.
func identify(p Plan) string {
	work := struct {
		Sync    string
		Commit  string
		Ops     []Op
		Blocked []Blocked
		Gates   []Gate
		Notices []Notice
	}{p.Sync, p.Commit.ID, p.Ops, p.Blocked, p.Gates, p.Notices}
	text, err := json.Marshal(work)
	if err != nil {
		panic("plan: a plan is always JSON: " + err.Error())
	}
	return fleet.SumDigest(text).Short()
}

func compareOps(a, b Op) int {
	return cmp.Or(
		compareAddress(address{a.Server, a.Stack}, address{b.Server, b.Stack}),
		cmp.Compare(a.ID, b.ID),
	)
}

// byName returns the reports sorted, copying only when they are not; the first of two
// with the same name counts.
func byName(reports []fleet.StackReport) []fleet.StackReport {
	less := func(a, b fleet.StackReport) int { return cmp.Compare(a.Stack, b.Stack) }
	if slices.IsSortedFunc(reports, less) {
		return reports
	}
	sorted := slices.Clone(reports)
	slices.SortStableFunc(sorted, less)
	return sorted
}

func set(names []string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}
