package plan

import (
	"cmp"
	"slices"
	"time"

	"github.com/varanhq/varan/fleet"
)

// HoldKind says why a release is held back.
type HoldKind string

// The kinds of hold.
const (
	// HoldRollback: a person went back to an earlier release.
	HoldRollback HoldKind = "rollback"
	// HoldLoop: deploying the release again and again does not make it so.
	HoldLoop HoldKind = "loop"
)

// Hold keeps one release of a stack from a server until the stack has another one, or a
// person releases it.
type Hold struct {
	Kind   HoldKind `json:"kind"`
	Sync   string   `json:"sync"`
	Stack  string   `json:"stack"`
	Server string   `json:"server"`
	// Bad is the release that is held back, Commit where it was read from.
	Bad    fleet.Digest `json:"bad"`
	Commit fleet.Commit `json:"commit"`
	// Release runs in its place; zero leaves what runs as it is.
	Release fleet.Release `json:"-"`
	// To is the commit of Release.
	To fleet.Commit `json:"to,omitzero"`
	// Field is what does not converge, of a loop.
	Field  string    `json:"field,omitempty"`
	Reason string    `json:"reason,omitempty"`
	By     string    `json:"by"`
	At     time.Time `json:"at,omitzero"`
}

// Text says the hold in a few words.
func (h Hold) Text() string {
	if h.Kind == HoldLoop {
		return "stopped after two identical deploys of commit " + h.Commit.Short() + ": " +
			cmp.Or(h.Field, "it") + " does not converge"
	}
	return "held back: " + h.cause()
}

// cause says why an earlier release is deployed.
func (h Hold) cause() string {
	return "rolled back from " + h.Commit.Short() + " by " + cmp.Or(h.By, "somebody") + prefixed(": ", h.Reason)
}

// hold is the one that keeps a stack's desired release back; nil when none does.
func (p *planner) hold(s *fleet.Stack) *Hold {
	if s.Release.Digest == "" {
		return nil
	}
	for i := range p.in.Control.Holds {
		h := &p.in.Control.Holds[i]
		if h.Stack == s.Name && h.Server == s.Server && h.Bad == s.Release.Digest {
			return h
		}
	}
	return p.rolledBack(s)
}

// look compares a stack with its report, or with what runs in its place while its release is
// held back. The stack returned is the one that the work is about.
func (p *planner) look(s *fleet.Stack, report *fleet.StackReport, away outage) (*fleet.Stack, finding, *Hold) {
	h := p.hold(s)
	if h == nil {
		return s, p.examine(s, report, away), nil
	}
	if h.Release.Digest == "" {
		f := p.examine(s, report, away)
		if f.kind == "" || p.forced[s.Name] {
			h = nil
		}
		return s, f, h
	}
	back := *s
	back.Release = h.Release
	if f := p.examine(&back, report, away); f.kind != "" || f.drift != "" || f.stopped {
		if f.differs && f.kind != "" {
			f.causes = slices.Insert(f.causes, 0, Cause{Kind: CauseRollback, Text: h.cause()})
		}
		f.bad = nil
		return &back, f, h
	}
	f := p.examine(s, report, away)
	return s, f, h
}

// holdBack keeps the work from being done that a hold is against.
func (it *item) holdBack(h *Hold) {
	switch {
	case h == nil, h.Release.Digest != "" && it.op.Release == h.Release.Digest:
	case h.Kind == HoldLoop:
		it.block(BlockLoop, h.Text(), "find what changes it back, then `varan release "+h.Stack+"`; or push another release")
	default:
		it.block(BlockHeld, h.Text(), "push a fix, or deploy it all the same with `varan release "+h.Stack+"`")
	}
}

// Release is what an op of a plan for this input deploys, and whether it is another release
// than the commit's: one that a rollback went back to.
func (in *Input) Release(op Op) (release fleet.Release, back bool) {
	for i := range in.Desired.Stacks {
		s := &in.Desired.Stacks[i]
		if s.Name == op.Stack && s.Server == op.Server && (op.Release == "" || s.Release.Digest == op.Release) {
			return s.Release, false
		}
	}
	for i := range in.Control.Holds {
		h := &in.Control.Holds[i]
		if h.Stack == op.Stack && h.Server == op.Server && h.Release.Digest == op.Release {
			return h.Release, true
		}
	}
	for i := range in.Control.Rollouts {
		r := &in.Control.Rollouts[i]
		if before := r.Before[op.Server]; r.Stack == op.Stack && before.Digest == op.Release {
			return before, true
		}
	}
	return fleet.Release{}, false
}

// Over lists the holds that ended because the commit has another release of the stack now.
func (in *Input) Over() []Hold {
	var over []Hold
	for _, h := range in.Control.Holds {
		for i := range in.Desired.Stacks {
			s := &in.Desired.Stacks[i]
			if s.Name == h.Stack && s.Server == h.Server && s.Release.Digest != "" && s.Release.Digest != h.Bad {
				over = append(over, h)
			}
		}
	}
	return over
}
