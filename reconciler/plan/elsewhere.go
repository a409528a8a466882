package plan

import (
	"slices"
	"strings"
)

// Elsewhere is a stack of another sync that stacks of this one come after.
type Elsewhere struct {
	Sync string
	// Settled is set when the stack is synced and healthy and nothing of it is pending.
	Settled bool
	// Text says why it is not.
	Text string
	// After is what the stack comes after itself, so that circles are found.
	After []string
}

// awaits blocks work that comes after stacks of other syncs until those are settled. Unlike
// inside one sync there is no op to wait for, so the state is what counts.
func (p *planner) awaits() {
	if len(p.in.Elsewhere) == 0 {
		return
	}
	for _, list := range p.work {
		for _, it := range list {
			if it.back {
				continue
			}
			if circle := p.circle(it.stack); circle != "" {
				it.block(BlockDependency, "comes after itself across syncs: "+circle, "break the circle in `after`")
				continue
			}
			for _, name := range it.op.StackAfter {
				p.await(it, name)
			}
		}
	}
}

func (p *planner) await(it *item, name string) {
	if _, own := p.place[name]; own {
		return
	}
	for _, other := range p.in.Elsewhere[name] {
		if other.Settled {
			continue
		}
		text := "comes after " + name + " of sync " + other.Sync
		if other.Text != "" {
			text += ", which is " + other.Text
		}
		it.block(BlockDependency, text, "varan why "+name)
		return
	}
}

// circle follows after from a stack through all syncs, and tells how it leads back.
func (p *planner) circle(from string) string {
	seen := map[string]bool{}
	var walk func(name string, path []string, abroad bool) string
	walk = func(name string, path []string, abroad bool) string {
		for _, next := range p.after(name) {
			_, own := p.place[next]
			label := next
			if !own && len(p.in.Elsewhere[next]) > 0 {
				label += " (" + p.in.Elsewhere[next][0].Sync + ")"
			}
			crossed := abroad || !own
			if next == from {
				if crossed {
					return strings.Join(append(path, label), " -> ")
				}
				continue // a circle of this sync's own is told by its ops
			}
			if seen[next] {
				continue
			}
			seen[next] = true
			if found := walk(next, append(slices.Clone(path), label), crossed); found != "" {
				return found
			}
		}
		return ""
	}
	return walk(from, []string{from}, false)
}

// after is what a stack of any sync comes after.
func (p *planner) after(name string) []string {
	if _, own := p.place[name]; own {
		return p.afters[name]
	}
	var all []string
	for _, other := range p.in.Elsewhere[name] {
		all = append(all, other.After...)
	}
	return all
}
