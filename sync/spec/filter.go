package spec

import (
	"fmt"
	"slices"

	"github.com/varanhq/varan/fleet"
)

// matchTags keeps the resources that carry all tags asked for. An `after` that names what
// is left out is dropped: that belongs to another sync.
func (l *loader) matchTags() {
	want := l.opts.MatchTags
	if len(want) == 0 {
		return
	}
	lacks := func(tags []string) bool {
		return slices.ContainsFunc(want, func(tag string) bool { return !slices.Contains(tags, tag) })
	}
	r := &l.decls.Resources
	left := map[string]bool{}
	for i := range r.Stacks {
		left[r.Stacks[i].Name] = lacks(r.Stacks[i].Tags)
	}
	for i := range r.Deployments {
		if name := r.Deployments[i].Name; !left[name] {
			left[name] = lacks(r.Deployments[i].Tags)
		}
	}
	r.Servers = slices.DeleteFunc(r.Servers, func(x Server) bool { return lacks(x.Tags) })
	r.Stacks = slices.DeleteFunc(r.Stacks, func(x Stack) bool { return lacks(x.Tags) })
	r.Deployments = slices.DeleteFunc(r.Deployments, func(x Deployment) bool { return lacks(x.Tags) })
	r.Repos = slices.DeleteFunc(r.Repos, func(x Repo) bool { return lacks(x.Tags) })
	r.Builds = slices.DeleteFunc(r.Builds, func(x Build) bool { return lacks(x.Tags) })
	r.Builders = slices.DeleteFunc(r.Builders, func(x Builder) bool { return lacks(x.Tags) })
	r.Procedures = slices.DeleteFunc(r.Procedures, func(x Procedure) bool { return lacks(x.Tags) })
	r.Actions = slices.DeleteFunc(r.Actions, func(x Action) bool { return lacks(x.Tags) })
	r.Alerters = slices.DeleteFunc(r.Alerters, func(x Alerter) bool { return lacks(x.Tags) })
	r.Swarms = slices.DeleteFunc(r.Swarms, func(x Swarm) bool { return lacks(x.Tags) })
	r.Syncs = slices.DeleteFunc(r.Syncs, func(x ResourceSync) bool { return lacks(x.Tags) })
	for i := range r.Stacks {
		l.dropAfter(&r.Stacks[i].Ordered, left, r.Stacks[i].At)
	}
	for i := range r.Deployments {
		l.dropAfter(&r.Deployments[i].Ordered, left, r.Deployments[i].At)
	}
}

func (l *loader) dropAfter(o *Ordered, left map[string]bool, at func(string) fleet.Position) {
	for n, name := range o.After {
		if left[name] {
			l.diags = append(l.diags, fleet.Diagnostic{
				Rule: "after-filtered", Severity: fleet.SeverityNote, Position: at(fmt.Sprintf("after[%d]", n)),
				Message: fmt.Sprintf("%s is left out by its tags, so nothing waits for it", quoted(name)),
			})
		}
	}
	if slices.ContainsFunc(o.After, func(name string) bool { return left[name] }) {
		o.After = slices.DeleteFunc(slices.Clone(o.After), func(name string) bool { return left[name] })
	}
}
