package plan

import (
	"cmp"
	"slices"
	"strings"
)

// color marks how far a depth-first walk is with an item.
type color int

const (
	white color = iota
	gray
	black
)

// link draws the edges between pieces of work, in and out of the plan alike.
func (p *planner) link() {
	projects := p.removedProjects()
	for _, list := range p.work {
		for _, it := range list {
			for _, name := range it.op.StackAfter {
				it.deps = append(it.deps, it.awaited(p.work[name])...)
			}
			if it.op.Project != "" {
				it.deps = append(it.deps, projects[project{it.server, it.op.Project}]...)
			}
		}
	}
	if len(p.removals) == 0 {
		return
	}
	dependents := p.dependents()
	for stack, list := range p.removals {
		for _, it := range list {
			it.deps = append(it.deps, p.work[stack]...)
			it.deps = append(it.deps, dependents[stack]...)
		}
	}
}

// awaited are those of a stack's items that an item comes after.
func (it *item) awaited(list []*item) []*item {
	if !it.back {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(dep *item) bool { return !dep.back })
}

// project is a Compose project on a server.
type project struct{ server, name string }

// removedProjects finds the removals by project. A stack that was renamed and kept its
// project waits for the old one to go, or would be taken down with it.
func (p *planner) removedProjects() map[project][]*item {
	found := map[project][]*item{}
	for _, list := range p.removals {
		for _, r := range list {
			at := project{r.server, r.op.Project}
			found[at] = append(found[at], r)
		}
	}
	return found
}

// dependents is, by stack, the work on those that came after it when they were last
// applied: they go, or learn to do without it, before it goes.
func (p *planner) dependents() map[string][]*item {
	found := map[string][]*item{}
	for _, o := range p.in.Inventory {
		for _, name := range o.After {
			for _, it := range append(slices.Clone(p.removals[o.Stack]), p.work[o.Stack]...) {
				if it.server == o.Server && name != o.Stack {
					found[name] = append(found[name], it)
				}
			}
		}
	}
	return found
}

// settle brings the items into dependency order and blocks what can not go.
func (p *planner) settle() {
	byOp := func(a, b *item) int { return compareOps(a.op, b.op) }
	slices.SortStableFunc(p.items, byOp)
	chosen := make(map[*item]bool, len(p.items))
	for _, it := range p.items {
		chosen[it] = true
	}
	sorted := make([]*item, 0, len(p.items))
	for _, it := range p.items {
		slices.SortStableFunc(it.deps, byOp)
		it.deps = slices.Compact(it.deps)
	}
	for _, it := range p.items {
		visit(it, chosen, &sorted, nil)
	}
	p.items = sorted
	for _, it := range p.items {
		for _, dep := range it.deps {
			follow(it, dep, chosen[dep])
		}
	}
}

// visit appends what an item depends on, then the item. An item that depends on itself
// is blocked.
func visit(it *item, chosen map[*item]bool, sorted *[]*item, path []*item) {
	if !chosen[it] || it.color == black {
		return
	}
	if it.color == gray {
		cycle := path[slices.Index(path, it):]
		names := make([]string, 0, len(cycle)+1)
		for _, c := range cycle {
			names = append(names, c.String())
		}
		text := "comes after itself: " + strings.Join(append(names, it.String()), " -> ")
		for _, c := range cycle {
			c.block(BlockDependency, text, "break the circle in `after`")
		}
		return
	}
	it.color = gray
	path = append(path, it)
	for _, dep := range it.deps {
		visit(dep, chosen, sorted, path)
	}
	it.color = black
	*sorted = append(*sorted, it)
}

// follow makes an item wait for another, or blocks it with it.
func follow(it, dep *item, chosen bool) {
	switch {
	case dep == it && it.reason == "":
		it.block(BlockDependency, "comes after itself", "take it out of its own `after`")
	case !chosen:
		it.block(BlockDependency,
			"comes after "+dep.String()+", which needs work that this plan leaves out",
			"plan "+dep.stack+" as well")
	case dep.reason != "":
		it.block(BlockDependency, "comes after "+dep.String()+": "+root(dep), "")
	default:
		it.op.After = append(it.op.After, dep.op.ID)
	}
	slices.SortFunc(it.op.After, cmp.Compare[string])
	if it.reason != "" {
		it.op.After = nil
	}
}

// root is the reason at the far end of a chain of dependencies.
func root(dep *item) string {
	if dep.reason == BlockDependency {
		if _, far, found := strings.Cut(dep.text, ": "); found {
			return far
		}
	}
	return dep.text
}
