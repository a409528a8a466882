package plan

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/varanhq/varan/fleet"
)

// String is the whole plan as plain text, one fact a line: the same for equal plans.
// Render is the text for people.
func (p Plan) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(clean(fmt.Sprintf(format, args...)) + "\n") }
	line("plan %s at %s", p.Sync, p.Commit.Short())
	for i := range p.Resources {
		writeResource(line, &p.Resources[i])
	}
	for _, pattern := range p.Unmatched {
		line("unmatched %s", pattern)
	}
	for i := range p.Ops {
		writeOp(line, &p.Ops[i])
	}
	for i := range p.Blocked {
		blocked := &p.Blocked[i]
		line("blocked %s: %s", blocked.Reason, blocked.Text)
		if blocked.Hint != "" {
			line("  hint: %s", blocked.Hint)
		}
		writeOp(func(format string, args ...any) { line("  "+format, args...) }, &blocked.Op)
	}
	for _, g := range p.Gates {
		line("gate %s: %s", g.ID, g.Text)
		line("  ops: %s", strings.Join(g.Ops, ", "))
	}
	for i := range p.Rollouts {
		r := &p.Rollouts[i]
		line("rollout %s %s: %s%s", r.Stack, r.Status, r.Text(), prefixed(": ", r.Reason))
	}
	for _, n := range p.Notices {
		line("notice %s %s: %s", n.Kind, n.where(), n.Text)
	}
	for _, s := range p.Stacks {
		line("state %s@%s %s %s%s", s.Stack, s.Server, s.Sync, s.Health, prefixed(": ", s.Text))
	}
	line("%s", p.Totals)
	return b.String()
}

func writeResource(line func(string, ...any), c *ResourceChange) {
	line("%s%s", c.ID(), at(c.Origin))
	if c.Blocked != "" {
		line("  blocked: %s", c.Blocked)
	}
	if len(c.Gates) > 0 {
		line("  gates: %s", strings.Join(c.Gates, ", "))
	}
	for _, f := range c.Fields {
		line("  %s%s", f, at(f.Origin))
	}
}

func writeOp(line func(string, ...any), op *Op) {
	line("%s%s", op.ID, at(op.Origin))
	if len(op.After) > 0 {
		line("  after: %s", strings.Join(op.After, ", "))
	}
	if len(op.Gates) > 0 {
		line("  gates: %s", strings.Join(op.Gates, ", "))
	}
	for _, c := range op.Causes {
		line("  because %s%s", c, at(c.Origin))
	}
	for _, s := range op.Services {
		line("  %s %s", s.Action.Sign(), s.Service)
		for _, c := range s.Causes {
			line("      %s%s", c, at(c.Origin))
		}
	}
}

// where is "web@alpha", or "procedure/nightly" for what is on no server.
func (n Notice) where() string {
	if n.Server == "" {
		return n.Stack
	}
	return n.Stack + "@" + n.Server
}

func at(p fleet.Position) string {
	if p.IsZero() {
		return ""
	}
	return " (" + p.String() + ")"
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

// String is the last line of a plan.
func (t Totals) String() string {
	var b strings.Builder
	recreated := ""
	if t.ContainersRecreate > 0 {
		recreated = " (" + plural(t.ContainersRecreate, "container") + " recreated)"
	}
	fmt.Fprintf(&b, "Plan: %d to create, %d to update", t.Create, t.Update)
	if t.Update > 0 || t.Heal == 0 {
		b.WriteString(recreated)
		recreated = ""
	}
	fmt.Fprintf(&b, ", %d to heal%s", t.Heal, recreated)
	if t.Restart > 0 {
		fmt.Fprintf(&b, ", %d to restart", t.Restart)
	}
	fmt.Fprintf(&b, ", %d to remove, %d blocked, %d unchanged.", t.Remove, t.Blocked, t.Unchanged)
	if t.Resources > 0 {
		b.WriteString(" " + plural(t.Resources, "resource") + " to record.")
	}
	return b.String()
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// clean keeps text from repositories, engines and containers from acting on a terminal.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
