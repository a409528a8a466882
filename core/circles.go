package core

import (
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// ordered is a stack of any sync, and what it comes after.
type ordered struct {
	sync  string
	after []string
}

// circles reports stacks that come after each other across syncs: each would wait for the
// other for good. Inside one sync they are found where its files are read.
func (s *source) circles(sync string, desired fleet.Desired) fleet.Diagnostics {
	all := map[string]ordered{}
	s.mu.Lock()
	for other, state := range s.states {
		if other != sync && state.good {
			order(all, other, state.desired)
		}
	}
	s.mu.Unlock()
	if len(all) == 0 {
		return nil
	}
	order(all, sync, desired)
	var found fleet.Diagnostics
	for i := range desired.Stacks {
		stack := &desired.Stacks[i]
		leaves := func(name string) bool { return all[name].sync != "" && all[name].sync != sync }
		if !slices.ContainsFunc(stack.After, leaves) {
			continue // a circle across syncs leaves this one somewhere
		}
		c := circle{all: all, from: stack.Name, seen: map[string]bool{}}
		if !c.walk(stack.Name) {
			continue
		}
		found = append(found, fleet.Diagnostic{
			Rule: "after-cycle", Severity: fleet.SeverityError, Position: stack.Origin, Hint: "remove one of these",
			Message: "stacks of several syncs wait for each other: " + c.String(),
		})
	}
	return found
}

func order(all map[string]ordered, sync string, desired fleet.Desired) {
	for i := range desired.Stacks {
		stack := &desired.Stacks[i]
		all[stack.Name] = ordered{sync, append(all[stack.Name].after, stack.After...)}
	}
}

// circle looks for the way from a stack back to itself.
type circle struct {
	all  map[string]ordered
	from string
	seen map[string]bool
	// back is the way found, its end first.
	back []string
}

func (c *circle) walk(name string) bool {
	for _, next := range c.all[name].after {
		if next == c.from {
			c.back = append(c.back, next)
			return true
		}
		if c.seen[next] {
			continue
		}
		c.seen[next] = true
		if c.walk(next) {
			c.back = append(c.back, next)
			return true
		}
	}
	return false
}

// String is "web (apps) -> db (infra) -> web (apps)".
func (c *circle) String() string {
	names := []string{c.from}
	for _, name := range slices.Backward(c.back) {
		names = append(names, name)
	}
	for i, name := range names {
		names[i] = name + " (" + c.all[name].sync + ")"
	}
	return strings.Join(names, " -> ")
}
