package plan

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

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
	p.desired()
	p.leftovers()
	p.undeclared()
	p.resources()
	p.controls()
	p.rollouts()
	p.link()
	p.awaits()
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
	// back is set when an earlier release is put back: that waits for no work of the commit's.
	back bool
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
	// place maps a desired stack's name to a server it is desired on, more to all of them
	// where there are several.
	place map[string]string
	more  map[string][]string
	// left maps a stack's name to what the sync owns where the stack is not desired, and
	// health holds how the desired ones of these names are.
	left   map[string][]Owned
	health map[address]fleet.HealthState
	forced map[string]bool
	// kinds holds what stacks were declared as, where it is not a stack; afters what the
	// desired ones come after.
	kinds  map[string]fleet.Kind
	afters map[string][]string
	items  []*item
	// work maps a stack's name to the items that bring it up; removals to those that
	// take it down.
	work, removals map[string][]*item
	// members are the stacks with a rollout, by name; targets what their servers are to run.
	members map[string][]*member
	targets map[string]string
	// scratch is used for every comparison, to spare unchanged stacks the allocation.
	scratch comparison
}

func newPlanner(in Input) *planner {
	p := &planner{
		in:       in,
		plan:     Plan{Sync: in.Desired.Sync, Commit: in.Desired.Commit, Time: in.Now, Ops: []Op{}},
		servers:  make(map[string]fleet.Server, len(in.Desired.Servers)),
		observed: make(map[string][]fleet.StackReport, len(in.Observed)),
		place:    make(map[string]string, len(in.Desired.Stacks)),
		more:     map[string][]string{},
		left:     map[string][]Owned{},
		forced:   set(in.Policy.Forced),
		kinds:    map[string]fleet.Kind{},
		afters:   map[string][]string{},
		work:     map[string][]*item{},
		removals: map[string][]*item{},
		health:   map[address]fleet.HealthState{},
		members:  map[string][]*member{},
		targets:  map[string]string{},
	}
	for _, s := range in.Desired.Servers {
		p.servers[s.Name] = s
	}
	for name, report := range in.Observed {
		p.observed[name] = byName(report.Stacks)
	}
	p.sortDesired()
	p.sortInventory()
	p.plan.Unmatched = p.unmatched()
	p.plan.Stacks = make([]StackState, 0, len(p.order))
	return p
}

// sortDesired fills order, place and more.
func (p *planner) sortDesired() {
	stacks := p.in.Desired.Stacks
	byServer := make(map[string][]int, len(p.in.Observed))
	for i := range stacks {
		byServer[stacks[i].Server] = append(byServer[stacks[i].Server], i)
	}
	p.order = make([]int, 0, len(stacks))
	for _, server := range slices.Sorted(maps.Keys(byServer)) {
		list := byServer[server]
		byStack := func(a, b int) int { return cmp.Or(cmp.Compare(stacks[a].Name, stacks[b].Name), a-b) }
		if !slices.IsSortedFunc(list, byStack) {
			slices.SortFunc(list, byStack)
		}
		list = slices.CompactFunc(list, func(a, b int) bool { return stacks[a].Name == stacks[b].Name })
		p.order = append(p.order, list...)
	}
	for _, i := range p.order {
		s := &stacks[i]
		if s.Kind != "" && s.Kind != fleet.KindStack {
			p.kinds[s.Name] = s.Kind
		}
		if len(p.in.Elsewhere) > 0 && len(s.After) > 0 {
			p.afters[s.Name] = append(p.afters[s.Name], s.After...)
		}
		first, several := p.place[s.Name]
		switch {
		case !several:
			p.place[s.Name] = s.Server
		case p.more[s.Name] == nil:
			p.more[s.Name] = []string{first, s.Server}
		default:
			p.more[s.Name] = append(p.more[s.Name], s.Server)
		}
	}
}

// places lists the servers a stack is desired on.
func (p *planner) places(stack string) []string {
	if more := p.more[stack]; more != nil {
		return more
	}
	if server, ok := p.place[stack]; ok {
		return []string{server}
	}
	return nil
}

// placed reports whether a stack is desired on a server.
func (p *planner) placed(at address) bool {
	if server, ok := p.place[at.stack]; !ok || server == at.server {
		return ok
	}
	return slices.Contains(p.more[at.stack], at.server)
}

// sortInventory fills left.
func (p *planner) sortInventory() {
	for _, o := range p.in.Inventory {
		if _, known := p.kinds[o.Stack]; !known && o.Kind != "" && p.place[o.Stack] == "" {
			p.kinds[o.Stack] = o.Kind
		}
		if !p.placed(address{o.Server, o.Stack}) {
			p.left[o.Stack] = append(p.left[o.Stack], o)
		}
	}
	for stack, list := range p.left {
		slices.SortFunc(list, func(a, b Owned) int {
			return cmp.Or(cmp.Compare(a.Server, b.Server), cmp.Compare(a.Project, b.Project))
		})
		p.left[stack] = slices.CompactFunc(list, func(a, b Owned) bool { return a.Server == b.Server })
	}
}

// report finds what is known of a stack; an empty report when nothing is.
func (p *planner) report(at address) *fleet.StackReport {
	list := p.observed[at.server]
	i, found := slices.BinarySearchFunc(list, at.stack, func(r fleet.StackReport, name string) int {
		return cmp.Compare(r.Stack, name)
	})
	if !found {
		return &fleet.StackReport{}
	}
	return &list[i]
}

// desired plans the desired stacks, server by server.
func (p *planner) desired() {
	var nothing fleet.StackReport
	var reports []fleet.StackReport
	var away outage
	server := ""
	for n, i := range p.order {
		s := &p.in.Desired.Stacks[i]
		if n == 0 || s.Server != server {
			server = s.Server
			reports, away = p.observed[server], p.unreachable(server)
		}
		// Stacks and reports are both in order of their names.
		for len(reports) > 0 && reports[0].Stack < s.Name {
			reports = reports[1:]
		}
		report := &nothing
		if len(reports) > 0 && reports[0].Stack == s.Name {
			report = &reports[0]
		}
		p.declared(s, report, away)
	}
}

// declared plans one desired stack.
func (p *planner) declared(s *fleet.Stack, report *fleet.StackReport, away outage) {
	at := address{s.Server, s.Name}
	wanted := s
	s, found, hold := p.look(s, report, away)
	state := StackState{Stack: s.Name, Server: s.Server, Sync: fleet.Synced}
	state.Health, state.Text = health(s, report)
	if found.kind == OpCreate && p.runsAlready(s) != nil {
		state.Health, state.Text = fleet.HealthUnknown, "its Compose project runs there, and is not Varan's yet"
	}
	if away.reason != "" {
		state.Sync, state.Health, state.Text = fleet.SyncUnknown, fleet.HealthUnknown, away.text
	}
	switch {
	case found.stopped && found.differs:
		state.Sync = fleet.OutOfSync
	case found.drift != "":
		state.Sync, state.Text = fleet.OutOfSync, cmp.Or(state.Text, found.drift)
	}
	p.note(s, found)
	if len(p.left[s.Name]) > 0 {
		p.health[at] = state.Health
	}

	foreign := cmp.Or(p.in.Foreign[s.Name], p.foreignRecord(s))
	if found.kind == "" && foreign == "" {
		p.join(wanted, report, &state, nil, hold)
		p.suspend(&state)
		p.addState(state)
		return
	}
	it := p.newItem(at, found)
	it.op.Project, it.op.Release, it.op.Origin = s.Release.Project, s.Release.Digest, s.Origin
	it.op.StackAfter = slices.Clone(s.After)
	it.op.Expect = Fingerprint(*report)
	it.volumes = found.volumes
	it.hinder(s, report, away, foreign)
	if text, hint := p.commandsRefused(s); text != "" && found.kind != OpRestart {
		it.block(BlockPolicy, text, hint)
	}
	if text := p.imagesRefused(s); text != "" {
		it.block(BlockPolicy, text, "take the image from elsewhere, or add its registry to allowed_registries in the policy file of its host")
	}
	it.back = hold != nil && it.op.Release == hold.Release.Digest
	it.holdBack(hold)
	if found.bad != nil {
		it.block(BlockBad, badText(found.bad), "push a fix, or try this release again with `varan deploy "+s.Name+"`")
	}
	state.Sync = fleet.OutOfSync
	p.join(wanted, report, &state, it, hold)
	p.suspend(&state)
	it.state = p.addState(state)
	p.work[s.Name] = append(p.work[s.Name], it)
}

// hinder blocks work that cannot be done, whatever it is.
func (it *item) hinder(s *fleet.Stack, report *fleet.StackReport, away outage, foreign string) {
	if foreign != "" {
		it.block(BlockForeign, ownedBy(foreign, s.Name),
			"declare the stack in one sync only, or rename one of the two")
	}
	it.block(away.reason, away.text, away.hint)
	if s.Unreadable != "" {
		it.block(BlockSource, s.Unreadable, "what runs is left as it is; it goes on as soon as the files can be read")
	}
	if report.Busy != "" {
		it.block(BlockBusy, "the agent on "+s.Server+" is at work on "+s.Name, "")
	}
}

// imagesRefused says which image the host of a stack does not let in; empty when it takes all.
func (p *planner) imagesRefused(s *fleet.Stack) string {
	allowed := p.in.Observed[s.Server].Agent.AllowedRegistries
	for i := range s.Release.Services {
		if service := &s.Release.Services[i]; !fleet.ImageAllowed(allowed, service.Image) {
			return "the policy of the host of " + s.Server + " lets no image in from where service " + service.Name + " has " + service.Image
		}
	}
	return ""
}

// commandsRefused says why a stack's commands may not run on its server; empty when they
// may, or when there are none. The agent holds its own policy against them as well.
func (p *planner) commandsRefused(s *fleet.Stack) (text, hint string) {
	options := &s.Release.Options
	switch {
	case options.PreDeploy.Script == "" && options.FirstDeploy.Script == "" && options.PostDeploy.Script == "":
		return "", ""
	case p.servers[s.Server].Tier == fleet.TierUntrusted:
		return "commands of a stack never run on an untrusted server",
			"take pre_deploy and post_deploy out, or place the stack on a trusted server"
	case !p.in.Observed[s.Server].Agent.HostCommands:
		return "the agent on " + s.Server + " does not let stacks run commands on its host",
			"set host_commands = true in its policy file, or take pre_deploy and post_deploy out"
	}
	return "", ""
}

// foreignRecord is the other sync that declares a stack.
func (p *planner) foreignRecord(s *fleet.Stack) string {
	if len(p.in.ForeignRecords) == 0 {
		return ""
	}
	kind := cmp.Or(s.Kind, fleet.KindStack)
	return cmp.Or(p.in.ForeignRecords[string(kind)+"/"+s.Name],
		p.in.ForeignRecords[string(kind)+"/"+strings.TrimSuffix(s.Name, "-"+string(kind))])
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
	it := &item{address: at, state: -1}
	it.op = Op{
		ID: string(kind) + " " + at.String(), Kind: kind, Stack: at.stack, Server: at.server, StackKind: p.kinds[at.stack],
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

// outage is why nothing can be done on a server; its reason is empty when it can.
type outage struct {
	reason     BlockReason
	text, hint string
}

func (p *planner) unreachable(server string) outage {
	if declared, ok := p.servers[server]; ok && !declared.Enabled {
		return outage{
			BlockDisabled, "server " + server + " is disabled",
			"set enabled = true for it when it is back in service",
		}
	}
	report, ok := p.in.Observed[server]
	switch {
	case !ok:
		return outage{
			BlockUnknown, "no agent has joined as " + server,
			"varan onboarding-key create --server " + server + " prints the line that starts one there",
		}
	case !report.Online:
		return outage{
			BlockOffline, "server " + server + " is offline",
			"it catches up as soon as its agent connects",
		}
	case report.Received.IsZero():
		return outage{BlockOffline, "server " + server + " has connected but not reported yet", ""}
	case report.Agent.EngineError != "":
		return outage{
			BlockEngine, "Docker on " + server + " does not answer: " + report.Agent.EngineError,
			"look at the Docker service on " + server,
		}
	}
	return outage{}
}

// finish puts the pieces together.
func (p *planner) finish() Plan {
	for _, it := range p.items {
		if it.reason == "" {
			p.plan.Ops = append(p.plan.Ops, it.op)
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
	slices.SortFunc(p.plan.Rollouts, func(a, b Rollout) int { return cmp.Compare(a.Stack, b.Stack) })
	p.plan.Totals = Count(p.plan)
	p.plan.ID = identify(p.plan)
	return p.plan
}

// Count makes the totals of a plan from its content.
func Count(p Plan) Totals {
	t := Totals{Blocked: len(p.Blocked), Resources: len(p.Resources)}
	changed := make(map[address]bool, len(p.Ops)+len(p.Blocked))
	for i := range p.Ops {
		countOp(&t, &p.Ops[i])
		changed[address{p.Ops[i].Server, p.Ops[i].Stack}] = true
	}
	for i := range p.Blocked {
		changed[address{p.Blocked[i].Op.Server, p.Blocked[i].Op.Stack}] = true
	}
	for _, n := range p.Notices {
		if n.Kind == NoticeOrphan {
			changed[address{n.Server, n.Stack}] = true
		}
	}
	for i := range p.Stacks {
		if !changed[address{p.Stacks[i].Server, p.Stacks[i].Stack}] {
			t.Unchanged++
		}
	}
	return t
}

func countOp(t *Totals, op *Op) {
	switch op.Kind {
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
	for _, s := range op.Services {
		t.ContainersCreate += s.Create
		t.ContainersRecreate += s.Recreate
		t.ContainersRemove += s.Remove
	}
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
		// Left out where there are none: plans of old keep their id.
		Resources []ResourceChange `json:",omitempty"`
	}{p.Sync, p.Commit.ID, p.Ops, p.Blocked, p.Gates, p.Notices, p.Resources}
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
