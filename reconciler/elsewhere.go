package reconciler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// elsewhere finds the stacks of other syncs that a sync's stacks come after, and those that
// these come after in turn, with how they are by the last plan of their own sync.
func (r *Reconciler) elsewhere(name string, desired fleet.Desired) map[string][]plan.Elsewhere {
	wanted := awaited(desired)
	if l, ok := r.find(name); ok {
		l.mu.Lock()
		l.awaits = wanted
		l.mu.Unlock()
	}
	if len(wanted) == 0 {
		return nil
	}
	r.mu.Lock()
	others := make([]*loop, 0, len(r.loops))
	for other, l := range r.loops {
		if other != name {
			others = append(others, l)
		}
	}
	r.mu.Unlock()
	slices.SortFunc(others, func(a, b *loop) int { return cmp.Compare(a.name, b.name) })
	found := map[string][]plan.Elsewhere{}
	seen := map[string]bool{}
	queue := make([]string, 0, len(wanted))
	for stack := range wanted {
		queue = append(queue, stack)
	}
	for len(queue) > 0 {
		stack := queue[0]
		queue = queue[1:]
		if seen[stack] {
			continue
		}
		seen[stack] = true
		for _, l := range others {
			found[stack] = append(found[stack], l.stacks(stack)...)
		}
		if len(found[stack]) == 0 && wanted[stack] {
			found[stack] = unread(others)
		}
		for _, other := range found[stack] {
			queue = append(queue, other.After...)
		}
	}
	return found
}

// awaited are the stacks that a desired state's own come after and that are not in it.
func awaited(desired fleet.Desired) map[string]bool {
	var own, names map[string]bool
	for i := range desired.Stacks {
		for _, after := range desired.Stacks[i].After {
			if own == nil {
				own = make(map[string]bool, len(desired.Stacks))
				for k := range desired.Stacks {
					own[desired.Stacks[k].Name] = true
				}
			}
			if !own[after] {
				if names == nil {
					names = map[string]bool{}
				}
				names[after] = true
			}
		}
	}
	return names
}

// unread stands for a stack that no sync which was read has: it may be in one that was not.
func unread(others []*loop) []plan.Elsewhere {
	for _, l := range others {
		if !l.wasRead() {
			return []plan.Elsewhere{{Sync: l.name, Text: "not known yet: that sync was not read"}}
		}
	}
	return nil
}

// wasRead reports whether the sync was read at least once.
func (l *loop) wasRead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.good != nil
}

func (l *loop) awaitsAny() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.awaits) > 0
}

// stacks tells how the stacks of that name are by the sync's last plan.
func (l *loop) stacks(name string) []plan.Elsewhere {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.good == nil {
		return nil
	}
	stacks := l.good.Desired.Stacks
	first, _ := slices.BinarySearchFunc(stacks, name, func(s fleet.Stack, name string) int { return cmp.Compare(s.Name, name) })
	var found []plan.Elsewhere
	for i := first; i < len(stacks) && stacks[i].Name == name; i++ {
		s := &stacks[i]
		other := plan.Elsewhere{Sync: l.name, After: s.After, Text: "not planned yet"}
		if l.status.Planned && l.status.Plan.Commit.ID == l.good.Desired.Commit.ID {
			other.Settled, other.Text = settled(l.status.Plan, s)
		}
		found = append(found, other)
	}
	return found
}

// settled reports whether a stack is as its sync says, and well, with nothing left to do.
func settled(p plan.Plan, s *fleet.Stack) (ok bool, text string) {
	at := func(op plan.Op) bool { return op.Stack == s.Name && op.Server == s.Server }
	for i := range p.Stacks {
		state := &p.Stacks[i]
		if state.Stack != s.Name || state.Server != s.Server {
			continue
		}
		pending := slices.ContainsFunc(p.Ops, at)
		ok = state.Sync == fleet.Synced && state.Health == fleet.Healthy && !pending
		text = fmt.Sprintf("%s and %s", state.Sync, state.Health)
		if state.Text != "" {
			text += " (" + state.Text + ")"
		}
		return ok, text
	}
	return false, "not planned yet"
}

// moved wakes the syncs that come after a stack of this one whose state changed.
func (r *Reconciler) moved(name string, before, after plan.Plan) {
	r.mu.Lock()
	loops := make([]*loop, 0, len(r.loops))
	for other, l := range r.loops {
		if other != name {
			loops = append(loops, l)
		}
	}
	r.mu.Unlock()
	for _, l := range loops {
		l.mu.Lock()
		awaits := l.awaits
		l.mu.Unlock()
		for stack := range awaits {
			if stateOf(before, stack) != stateOf(after, stack) {
				l.check(TriggerResult, name)
				break
			}
		}
	}
}

// stateOf sums up what a plan says of a stack.
func stateOf(p plan.Plan, stack string) string {
	var b strings.Builder
	b.WriteString(p.Commit.ID)
	for i := range p.Stacks {
		if s := &p.Stacks[i]; s.Stack == stack {
			fmt.Fprintf(&b, "%s %s %s %s\n", s.Server, s.Sync, s.Health, s.Text)
		}
	}
	for i := range p.Ops {
		if p.Ops[i].Stack == stack {
			b.WriteString(p.Ops[i].ID + "\n")
		}
	}
	return b.String()
}
