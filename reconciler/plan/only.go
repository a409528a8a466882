package plan

import (
	"path"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// Selects reports whether a selection, as Policy.Only holds it, takes in a resource: by its
// name alone, which means what runs on servers, or as "kind/name". Both may be patterns.
func Selects(only []string, kind, name string) bool {
	if len(only) == 0 {
		return true
	}
	return slices.ContainsFunc(only, func(pattern string) bool { return matches(pattern, kind, name) })
}

func matches(pattern, kind, name string) bool {
	wanted, names, explicit := strings.Cut(pattern, "/")
	if !explicit {
		return workload(kind) && glob(pattern, name)
	}
	if kindNamed(wanted) != kind && wanted != "*" {
		return false
	}
	return glob(names, name) || workload(kind) && kind != string(fleet.KindStack) && glob(names, strings.TrimSuffix(name, "-"+kind))
}

// kindNamed takes the spellings that people use: "sync", "user-group", "stacks".
func kindNamed(word string) string {
	word = strings.ReplaceAll(strings.TrimSuffix(strings.ToLower(word), "s"), "-", "_")
	if word == "sync" {
		return "resource_sync"
	}
	return word
}

func glob(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return pattern == name || ok && err == nil
}

// selects applies the policy's selection.
func (p *planner) selects(kind, name string) bool { return Selects(p.in.Policy.Only, kind, name) }

// wanted reports whether the policy lets the plan speak of a stack.
func (p *planner) wanted(stack string) bool {
	return len(p.in.Policy.Only) == 0 || p.selects(string(p.kindOf(stack)), stack)
}

// kindOf is what a stack was declared as.
func (p *planner) kindOf(stack string) fleet.Kind {
	if kind, ok := p.kinds[stack]; ok {
		return kind
	}
	return fleet.KindStack
}

// unmatched lists the parts of the selection that nothing answers to: mistyped, most likely.
func (p *planner) unmatched() []string {
	var none []string
	for _, pattern := range p.in.Policy.Only {
		stacks := func(s fleet.Stack) bool { return matches(pattern, string(p.kindOf(s.Name)), s.Name) }
		records := func(r fleet.Resource) bool { return matches(pattern, r.Kind, r.Name) }
		owned := func(o Owned) bool { return matches(pattern, string(p.kindOf(o.Stack)), o.Stack) }
		if !slices.ContainsFunc(p.in.Desired.Stacks, stacks) && !slices.ContainsFunc(p.in.Inventory, owned) &&
			!slices.ContainsFunc(p.in.Desired.Resources, records) && !slices.ContainsFunc(p.in.Records, records) {
			none = append(none, pattern)
		}
	}
	return none
}
