package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/fleet"
)

// RolloutStatus is how far a rollout is.
type RolloutStatus string

// The states of a rollout.
const (
	RolloutRunning    RolloutStatus = "running"
	RolloutPaused     RolloutStatus = "paused"      // by a person
	RolloutAborted    RolloutStatus = "aborted"     // by a person
	RolloutFailed     RolloutStatus = "failed"      // too many servers failed
	RolloutRolledBack RolloutStatus = "rolled_back" // as failed, and what was done is put back
	RolloutDone       RolloutStatus = "done"
)

// Rollout is a stack on its way, batch by batch, to what its servers are to run.
type Rollout struct {
	Sync  string `json:"sync"`
	Stack string `json:"stack"`
	// Target names what all servers are to run: with another one a new rollout begins.
	Target string        `json:"target"`
	Commit fleet.Commit  `json:"commit"`
	Status RolloutStatus `json:"status"`
	// Batches are the servers of each batch, in order; Batch is the index of the one at work.
	Batches [][]string `json:"batches"`
	Batch   int        `json:"batch"`
	// Done and Failed are servers; Excused are those that had failed when a person let it go
	// on. Reason says what stopped it, or why a person did.
	Done    []string `json:"done,omitempty"`
	Failed  []string `json:"failed,omitempty"`
	Excused []string `json:"excused,omitempty"`
	Reason  string   `json:"reason,omitempty"`
	// By is who stopped it or let it go on last; empty is core itself.
	By string `json:"by,omitempty"`
	// Next is when the batch may begin.
	Next    time.Time `json:"next,omitzero"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	// Before is what ran on each server when it began.
	Before map[string]fleet.Release `json:"-"`
}

// Servers is how many servers the rollout is for.
func (r *Rollout) Servers() (count int) {
	for _, batch := range r.Batches {
		count += len(batch)
	}
	return count
}

// Text is like "batch 2 of 4, 3 of 10 servers done".
func (r *Rollout) Text() string {
	text := fmt.Sprintf("batch %d of %d, %d of %s done",
		min(r.Batch+1, len(r.Batches)), len(r.Batches), len(r.Done), plural(r.Servers(), "server"))
	if len(r.Failed) > 0 {
		text += fmt.Sprintf(", %d failed (%s)", len(r.Failed), strings.Join(r.Failed, ", "))
	}
	return text
}

// Resume lets a rollout go on that was stopped: what failed until now is excused.
func (r *Rollout) Resume(by string) {
	r.Status, r.By, r.Reason, r.Excused, r.Next, r.Ended = RolloutRunning, by, "", slices.Clone(r.Failed), time.Time{}, time.Time{}
}

// Stop pauses or aborts a rollout.
func (r *Rollout) Stop(status RolloutStatus, by, reason string) {
	r.Status, r.By, r.Reason = status, by, reason
}

// Open reports whether the rollout still has its end before it.
func (r *Rollout) Open() bool { return r.Status != RolloutDone && r.Status != RolloutAborted }

// member is a stack with a rollout on one of its servers.
type member struct {
	server string
	stack  *fleet.Stack
	report *fleet.StackReport
	health fleet.HealthState
	text   string
	// work is nil when nothing is due.
	work *item
	// back is set when an earlier release runs there in place of the stack's.
	back bool
}

// condition is how a member is, seen from its rollout.
type condition int

const (
	memberDone condition = iota
	memberPending
	memberFailed
	// memberAway can not be reached, or people keep it back: it catches up later, and the
	// others do not wait for it.
	memberAway
)

// join keeps what a rollout has to know of one of its servers.
func (p *planner) join(s *fleet.Stack, report *fleet.StackReport, state *StackState, work *item, h *Hold) {
	if s.Rollout == nil {
		return
	}
	p.members[s.Name] = append(p.members[s.Name], &member{
		server: s.Server, stack: s, report: report, health: state.Health, text: state.Text, work: work, back: h != nil,
	})
}

// rollouts keep back the servers whose turn it is not.
func (p *planner) rollouts() {
	for _, stack := range slices.Sorted(maps.Keys(p.members)) {
		members := p.members[stack]
		if len(members) > 1 && p.wanted(stack) && !p.forced[stack] {
			p.rollout(stack, members)
		}
	}
}

func (p *planner) rollout(stack string, members []*member) {
	r, known := p.rolloutOf(stack)
	target := p.target(stack)
	if !known || r.Target != target {
		if !slices.ContainsFunc(members, (*member).due) {
			return
		}
		r = p.newRollout(stack, target, members)
	}
	p.advance(&r, members)
	p.plan.Rollouts = append(p.plan.Rollouts, r)
	if r.Status == RolloutDone {
		return
	}
	for _, m := range members {
		if m.due() && !m.back {
			if text, hint := p.turn(&r, m.server); text != "" {
				m.work.block(BlockRollout, text, hint)
			}
		}
	}
}

// due reports whether the rollout is about the work: healing what runs is not.
func (m *member) due() bool { return m.work != nil && m.work.op.Kind != OpHeal }

// condition tells how a member is.
func (m *member) condition() (c condition, text string) {
	if bad := remembered(m.report.Bad, m.stack.Release.Digest); bad != nil && m.due() {
		return memberFailed, bad.Reason
	}
	switch {
	case m.back:
		return memberDone, ""
	case m.due() && (m.work.reason == "" || m.work.reason == BlockBusy):
		return memberPending, ""
	case m.due():
		return memberAway, ""
	}
	switch m.health {
	case fleet.Degraded, fleet.Missing:
		return memberFailed, cmp.Or(m.text, string(m.health))
	case fleet.Progressing:
		return memberPending, ""
	case fleet.HealthUnknown:
		return memberAway, ""
	case fleet.Healthy, fleet.Suspended:
	}
	return memberDone, ""
}

// rolloutOf is what is on record of a stack's rollout.
func (p *planner) rolloutOf(stack string) (Rollout, bool) {
	for _, r := range p.in.Control.Rollouts {
		if r.Stack == stack {
			return r, true
		}
	}
	return Rollout{}, false
}

// target sums up what a stack's servers are to run.
func (p *planner) target(stack string) string {
	if target, ok := p.targets[stack]; ok {
		return target
	}
	var text strings.Builder
	for _, i := range p.order {
		if s := &p.in.Desired.Stacks[i]; s.Name == stack {
			fmt.Fprintf(&text, "%q %s\n", s.Server, s.Release.Digest)
		}
	}
	target := fleet.SumDigest([]byte(text.String())).Short()
	p.targets[stack] = target
	return target
}

// newRollout begins a rollout to what is due now.
func (p *planner) newRollout(stack, target string, members []*member) Rollout {
	r := Rollout{
		Sync: p.in.Desired.Sync, Stack: stack, Target: target, Commit: p.in.Desired.Commit, Status: RolloutRunning,
		Started: p.in.Now, Before: map[string]fleet.Release{},
	}
	var servers []string
	for _, m := range members {
		if !m.due() {
			continue
		}
		servers = append(servers, m.server)
		if m.report.Release.Digest != "" {
			r.Before[m.server] = m.report.Release
		}
	}
	r.Batches = batches(*members[0].stack.Rollout, servers)
	return r
}

// batches parts servers, those of the canary first.
func batches(spec fleet.Rollout, servers []string) [][]string {
	place := func(list []string, server string) int {
		if i := slices.Index(list, server); i >= 0 {
			return i
		}
		return len(list)
	}
	servers = slices.Clone(servers)
	slices.SortFunc(servers, func(a, b string) int {
		return cmp.Or(place(spec.Canary, a)-place(spec.Canary, b), place(spec.Order, a)-place(spec.Order, b), cmp.Compare(a, b))
	})
	size := max(spec.Batch, 1)
	if spec.Percent {
		size = max((len(servers)*spec.Batch+99)/100, 1)
	}
	var list [][]string
	canaries := 0
	for canaries < len(servers) && slices.Contains(spec.Canary, servers[canaries]) {
		canaries++
	}
	if canaries > 0 {
		list = append(list, servers[:canaries])
	}
	return slices.AppendSeq(list, slices.Chunk(servers[canaries:], size))
}

// advance brings a rollout up to date with what is observed.
func (p *planner) advance(r *Rollout, members []*member) {
	current, why := r.observe(members)
	if r.Status != RolloutRunning {
		return
	}
	spec := members[0].stack.Rollout
	failures := slices.DeleteFunc(slices.Clone(r.Failed), func(server string) bool { return slices.Contains(r.Excused, server) })
	switch {
	case len(failures) > spec.MaxFailures:
		r.Status, r.Reason, r.By, r.Ended = RolloutFailed, why, "", p.in.Now
		if spec.OnFailure == fleet.RolloutRollback {
			r.Status = RolloutRolledBack
		}
	case current < 0:
		r.Status, r.Reason, r.Ended, r.Batch = RolloutDone, "", p.in.Now, max(len(r.Batches)-1, 0)
	case current > r.Batch:
		r.Batch, r.Next = current, time.Time{}
		if spec.Pause > 0 {
			r.Next = p.in.Now.Add(spec.Pause)
		}
	}
	p.recheck(r.Next)
}

// observe tells which servers are done and which failed, the first batch with work left, -1
// when there is none, and the first failure that nobody excused.
func (r *Rollout) observe(members []*member) (current int, why string) {
	byServer := map[string]*member{}
	for _, m := range members {
		byServer[m.server] = m
	}
	r.Done, r.Failed, current = nil, nil, -1
	for i, batch := range r.Batches {
		for _, server := range batch {
			m := byServer[server]
			if m == nil {
				continue
			}
			switch c, text := m.condition(); c {
			case memberDone:
				r.Done = append(r.Done, server)
			case memberFailed:
				r.Failed = append(r.Failed, server)
				if why == "" && !slices.Contains(r.Excused, server) {
					why = server + ": " + text
				}
			case memberPending:
				if current < 0 {
					current = i
				}
			case memberAway:
			}
		}
	}
	return current, why
}

// turn says why it is not a server's turn; empty when it is.
func (p *planner) turn(r *Rollout, server string) (text, hint string) {
	by := ""
	if r.By != "" {
		by = " by " + r.By
	}
	switch r.Status {
	case RolloutPaused, RolloutAborted:
		return fmt.Sprintf("its rollout was %s%s%s (%s)", r.Status, by, prefixed(": ", r.Reason), r.Text()),
			"varan rollout " + r.Stack + " resume"
	case RolloutFailed, RolloutRolledBack:
		text = "its rollout stopped: " + r.Reason
		if r.Status == RolloutRolledBack {
			text += "; what was done is put back"
		}
		return text + " (" + r.Text() + ")", "push a fix, or go on all the same with `varan rollout " + r.Stack + " resume`"
	case RolloutRunning, RolloutDone:
	}
	mine := slices.IndexFunc(r.Batches, func(batch []string) bool { return slices.Contains(batch, server) })
	switch {
	case mine > r.Batch:
		return fmt.Sprintf("its turn in the rollout is batch %d of %d, after %s",
			mine+1, len(r.Batches), strings.Join(r.Batches[mine-1], ", ")), "varan rollout " + r.Stack
	case mine == r.Batch && p.in.Now.Before(r.Next):
		return fmt.Sprintf("batch %d of %d of its rollout begins at %s", mine+1, len(r.Batches), clock(r.Next)),
			"varan rollout " + r.Stack
	}
	return "", ""
}

// rolledBack is the hold of a stack whose rollout failed and that runs what it ran before.
func (p *planner) rolledBack(s *fleet.Stack) *Hold {
	if s.Rollout == nil {
		return nil
	}
	r, known := p.rolloutOf(s.Name)
	before, had := r.Before[s.Server]
	if !known || !had || r.Status != RolloutRolledBack || r.Target != p.target(s.Name) || before.Digest == s.Release.Digest {
		return nil
	}
	return &Hold{
		Kind: HoldRollback, Sync: r.Sync, Stack: s.Name, Server: s.Server, Bad: s.Release.Digest, Commit: r.Commit,
		Release: before, To: before.Commit, By: cmp.Or(r.By, "core"), Reason: "its rollout stopped: " + r.Reason, At: r.Ended,
	}
}

// rollouts tells how far the rollouts are that are not done.
func (r *renderer) rollouts() {
	head := "\nRollouts\n"
	for i := range r.plan.Rollouts {
		one := &r.plan.Rollouts[i]
		if one.Status == RolloutDone && !r.opts.Verbose {
			continue
		}
		r.put(bold, head)
		head = ""
		text := "  " + clean(one.Stack) + "  " + strings.ReplaceAll(string(one.Status), "_", " ") + ": " + clean(one.Text()+prefixed(": ", one.Reason))
		r.put(plain, text+"\n")
	}
}

// News says what happened to a rollout since it was as before; empty when that is nothing
// that people need to be told.
func (r *Rollout) News(before *Rollout) string {
	of := "rollout of " + r.Stack + " to commit " + r.Commit.Short()
	switch {
	case before == nil || before.Target != r.Target:
		return fmt.Sprintf("%s began: %s in %d batches", of, plural(r.Servers(), "server"), len(r.Batches))
	case before.Status != r.Status:
		text := fmt.Sprintf("%s is %s: %s", of, strings.ReplaceAll(string(r.Status), "_", " "), r.Text())
		return text + prefixed(": ", r.Reason)
	case before.Batch != r.Batch:
		text := of + ": " + r.Text()
		if !r.Next.IsZero() {
			text += "; the next batch begins at " + clock(r.Next)
		}
		return text
	}
	return ""
}
