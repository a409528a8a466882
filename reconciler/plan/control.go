package plan

import (
	"cmp"
	"slices"
	"time"

	"github.com/varanhq/varan/fleet"
)

// Control is what people decided about the work of a sync, and how far rollouts are. It is
// durable: whoever computes a plan reads it from the same place.
type Control struct {
	Suspensions []Suspension
	Holds       []Hold
	Rollouts    []Rollout
	// LowDisk says that core's disk is nearly full: nothing new begins, and what makes room goes on.
	LowDisk bool
}

// Kinds of resource that a Suspension is of, beside those of stacks.
const (
	KindServer    = "server"
	KindSync      = "resource_sync"
	KindProcedure = "procedure"
)

// Suspension keeps Varan's hands off a resource: it is neither deployed nor healed nor
// removed meanwhile.
type Suspension struct {
	// Kind is "stack" for all that runs on servers, "server", "resource_sync" or "procedure".
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Server narrows that of a stack to one server; empty is all.
	Server string `json:"server,omitempty"`
	// Until is when it ends by itself; zero is when a person ends it.
	Until  time.Time `json:"until,omitzero"`
	Reason string    `json:"reason,omitempty"`
	// By is who asked for it, At when.
	By string    `json:"by"`
	At time.Time `json:"at,omitzero"`
}

// InForce reports whether the suspension holds at a time.
func (s Suspension) InForce(at time.Time) bool { return s.Until.IsZero() || at.Before(s.Until) }

// Resource is "stack/web@alpha", or "sync/home" as people write it.
func (s Suspension) Resource() string {
	kind := s.Kind
	if kind == KindSync {
		kind = "sync"
	}
	name := kind + "/" + s.Name
	if s.Server != "" {
		name += "@" + s.Server
	}
	return name
}

// Text says the suspension in a few words: "suspended by ada until 2026-11-03 12:00 UTC: disk".
func (s Suspension) Text() string {
	text := "suspended"
	switch s.Kind {
	case KindServer:
		text = "server " + s.Name + " is suspended"
	case KindSync:
		text = "sync " + s.Name + " is suspended"
	}
	return text + " " + s.Who()
}

// Who says by whom, until when and why: "by ada until 2026-11-03 12:00 UTC: disk".
func (s Suspension) Who() string {
	text := "by " + cmp.Or(s.By, "somebody")
	if !s.Until.IsZero() {
		text += " until " + clock(s.Until)
	}
	return text + prefixed(": ", s.Reason)
}

// clock is a moment as plans show it.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// suspension is the one in force of a stack on a server; nil when there is none. That of the
// stack itself comes before its server's and its sync's.
func (p *planner) suspension(at address) *Suspension {
	var found *Suspension
	rank := func(s *Suspension) int { return slices.Index([]string{KindSync, KindServer}, s.Kind) }
	for i := range p.in.Control.Suspensions {
		s := &p.in.Control.Suspensions[i]
		if !s.InForce(p.in.Now) {
			continue
		}
		concerned := false
		switch s.Kind {
		case KindServer:
			concerned = s.Name == at.server
		case KindSync:
			concerned = s.Name == p.in.Desired.Sync
		case KindProcedure:
		default:
			concerned = s.Name == at.stack && (s.Server == "" || s.Server == at.server)
		}
		// Neither index is found for a stack: it ranks first.
		if concerned && (found == nil || rank(s) < rank(found)) {
			found = s
		}
	}
	return found
}

// controls blocks the work that people keep from being done.
func (p *planner) controls() {
	for _, s := range p.in.Control.Suspensions {
		if s.InForce(p.in.Now) {
			p.recheck(s.Until)
		}
	}
	p.windowEdges()
	for _, it := range p.everything() {
		if s := p.suspension(it.address); s != nil && it.reason != BlockForeign {
			// Of all that keeps the work back this is what a person can do something about.
			it.reason, it.text, it.hint = BlockSuspended, s.Text(), "varan resume "+s.Resource()
		}
		if text, hint := p.closed(it); text != "" {
			it.block(BlockWindow, text, hint)
		}
	}
	p.fullDisks()
	i := slices.IndexFunc(p.in.Control.Suspensions, func(s Suspension) bool {
		return s.Kind == KindSync && s.Name == p.in.Desired.Sync && s.InForce(p.in.Now)
	})
	if i < 0 {
		return
	}
	for k := range p.plan.Resources {
		if c := &p.plan.Resources[k]; c.Blocked == "" {
			s := &p.in.Control.Suspensions[i]
			c.Blocked, c.Hint = s.Text(), "varan resume "+s.Resource()
		}
	}
}

// fullDisks blocks what would fill a disk that is nearly full. Removals go on, and so does
// putting back what ran, unless the agent has no room for the order.
func (p *planner) fullDisks() {
	const text, hint = "core's disk is nearly full", "make room on core's host: varan status says where; it goes on by itself then"
	for _, list := range p.work {
		for _, it := range list {
			if p.in.Control.LowDisk && it.op.Kind != OpHeal {
				it.block(BlockDisk, text, hint)
			}
			if low := p.in.Observed[it.server].Agent.LowDisk; low != "" {
				it.block(BlockDisk, "the disk of server "+it.server+" is nearly full: "+low, "make room on it; it goes on by itself then")
			}
		}
	}
	for i := range p.plan.Resources {
		if c := &p.plan.Resources[i]; c.Blocked == "" && p.in.Control.LowDisk {
			c.Blocked, c.Hint = text, hint
		}
	}
}

// everything is all work, that which the policy leaves out of the plan included: what comes
// after it must not go either.
func (p *planner) everything() []*item {
	var all []*item
	for _, list := range p.work {
		all = append(all, list...)
	}
	for _, list := range p.removals {
		all = append(all, list...)
	}
	return all
}

// recheck keeps the earliest time at which the plan may be another although nothing happened.
func (p *planner) recheck(at time.Time) {
	if at.After(p.in.Now) && (p.plan.Recheck.IsZero() || at.Before(p.plan.Recheck)) {
		p.plan.Recheck = at
	}
}

// suspend shows a suspended stack as such. What is the matter with it is told all the same.
func (p *planner) suspend(state *StackState) {
	s := p.suspension(address{state.Server, state.Stack})
	if s == nil {
		return
	}
	if state.Health == fleet.Healthy || state.Health == fleet.Suspended {
		state.Text = ""
	}
	state.Health, state.Text = fleet.Suspended, s.Text()+prefixed("; ", state.Text)
}
