package spec

import (
	"fmt"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// maxCrossErrors is how many errors between resources are worth listing.
const maxCrossErrors = 50

// checker finds what is wrong between resources rather than inside one.
type checker struct {
	decls Declarations
	opts  Options
	diags fleet.Diagnostics
	// errors counts what was found, listed or not.
	errors int
}

// crossCheck checks names and references. Where a file is faulty, references are left
// alone: what they name may be in the part that could not be read.
func crossCheck(decls Declarations, opts Options, faulty bool) fleet.Diagnostics {
	c := checker{decls: decls, opts: opts}
	c.count()
	c.names()
	if !faulty {
		c.servers()
		c.after()
	}
	return c.diags
}

func (c *checker) fail(at fleet.Position, rule, hint, format string, args ...any) {
	c.errors++
	switch {
	case c.errors == maxCrossErrors+1:
		rule, hint = "too-many-errors", "fix the others, then look again"
		format, args = "more than %d errors between resources; the rest is left out", []any{maxCrossErrors}
	case c.errors > maxCrossErrors:
		return
	}
	c.diags = append(c.diags, fleet.Diagnostic{
		Rule: rule, Severity: fleet.SeverityError, Position: at, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// full reports whether nothing more will be listed, so that looking for hints can end.
func (c *checker) full() bool { return c.errors > maxCrossErrors }

func (c *checker) count() {
	d := c.decls
	n := d.Len()
	if n <= c.opts.MaxResources {
		return
	}
	at := fleet.Position{Line: 1, Col: 1}
	if len(d.Files) > 0 {
		at.File = d.Files[0]
	}
	c.fail(at, "too-many-resources", "raise max_resources, or name fewer resource paths",
		"%d resources are declared; the most is %d", n, c.opts.MaxResources)
}

// names reports names that are taken, exactly or but for case. Types do not share
// names.
func (c *checker) names() {
	unique(c, "server", c.decls.Servers, func(s *Server) (string, fleet.Position) { return s.Name, s.At("name") })
	unique(c, "stack", c.decls.Stacks, func(s *Stack) (string, fleet.Position) { return s.Name, s.At("name") })
	unique(c, "variable", c.decls.Variables, func(v *Variable) (string, fleet.Position) { return v.Name, v.At("name") })
	unique(c, "resource_sync", c.decls.Syncs, func(s *ResourceSync) (string, fleet.Position) { return s.Name, s.At("name") })
}

func unique[T any](c *checker, typ string, list []T, of func(*T) (string, fleet.Position)) {
	type holder struct {
		name string
		at   fleet.Position
	}
	taken := make(map[string]holder, len(list))
	for i := range list {
		name, at := of(&list[i])
		if name == "" {
			continue
		}
		folded := strings.ToLower(name)
		first, again := taken[folded]
		switch {
		case !again:
			taken[folded] = holder{name, at}
		case first.name == name:
			c.fail(at, "duplicate-name", "rename one of them", "%s %s is declared twice, first at %s", typ, quoted(name), first.at)
		default:
			c.fail(at, "name-collision", "rename one of them", "%s %s differs only by case from %s at %s",
				typ, quoted(name), quoted(first.name), first.at)
		}
	}
}

// servers reports stacks without a server, and those whose server does not exist.
func (c *checker) servers() {
	known := make(map[string]bool, len(c.decls.Servers)+len(c.opts.KnownServers))
	names := make([]string, 0, cap(c.opts.KnownServers)+len(c.decls.Servers))
	for i := range c.decls.Servers {
		names = append(names, c.decls.Servers[i].Name)
	}
	for _, name := range append(names, c.opts.KnownServers...) {
		known[name] = true
		names = append(names, name)
	}
	for i := range c.decls.Stacks {
		s := &c.decls.Stacks[i]
		name := s.Config.Server
		switch {
		case s.Template || known[name]:
		case name == "" && s.Config.Swarm != "":
			c.fail(s.At("config.swarm"), "missing-server", "add server = \"...\"",
				"stack %s names a swarm, which is not supported, and no server", quoted(s.Name))
		case name == "":
			c.fail(s.At(""), "missing-server", "add server = \"...\"", "stack %s has no server", quoted(s.Name))
		case c.opts.Offline:
			c.diags = append(c.diags, fleet.Diagnostic{
				Rule: "unknown-server", Severity: fleet.SeverityNote, Position: s.At("config.server"),
				Message: fmt.Sprintf("server %s of stack %s is not declared; it may have onboarded", quoted(name), quoted(s.Name)),
			})
		case c.full():
		default:
			c.fail(s.At("config.server"), "unknown-server", referenceHint(name, names),
				"stack %s names the server %s, which does not exist", quoted(s.Name), quoted(name))
		}
	}
}

func referenceHint(name string, known []string) string {
	if objectID(name) {
		return "this looks like an id: write the name"
	}
	return didYouMean(name, known)
}

// after reports what stacks cannot wait for: themselves, unknown stacks, and each other.
func (c *checker) after() {
	index := make(map[string]int, len(c.decls.Stacks))
	names := make([]string, len(c.decls.Stacks))
	for i := range c.decls.Stacks {
		names[i] = c.decls.Stacks[i].Name
		index[names[i]] = i
	}
	deployments := map[string]bool{}
	for i := range c.decls.Deployments {
		deployments[c.decls.Deployments[i].Name] = true
	}
	edges := make([][]edge, len(names))
	for i := range c.decls.Stacks {
		s := &c.decls.Stacks[i]
		for n, name := range s.After {
			to, ok := index[name]
			switch {
			case name == s.Name:
				c.fail(s.afterAt(n), "after-self", "remove it", "stack %s comes after itself", quoted(name))
			case ok:
				edges[i] = append(edges[i], edge{to: to, item: n})
			case deployments[name]:
				c.diags = append(c.diags, fleet.Diagnostic{
					Rule: "not-acted-on", Severity: fleet.SeverityNote, Position: s.afterAt(n),
					Message: fmt.Sprintf("%s is a deployment: waiting for it is not acted on yet", quoted(name)),
				})
			case !c.full():
				c.fail(s.afterAt(n), "unknown-stack", referenceHint(name, names),
					"stack %s comes after %s, which is not declared", quoted(s.Name), quoted(name))
			}
		}
	}
	c.cycles(edges)
}

func (s *Stack) afterAt(item int) fleet.Position { return s.At(fmt.Sprintf("after[%d]", item)) }

// edge leads from a stack to one it comes after; item is its place in the list.
type edge struct{ to, item int }

// cycles walks depth first and reports each edge that closes a cycle.
func (c *checker) cycles(edges [][]edge) {
	const (
		unseen = iota
		onPath
		done
	)
	state := make([]int, len(edges))
	var path []int
	var visit func(i int)
	visit = func(i int) {
		state[i] = onPath
		path = append(path, i)
		for _, e := range edges[i] {
			switch state[e.to] {
			case unseen:
				visit(e.to)
			case onPath:
				s := &c.decls.Stacks[i]
				c.fail(s.afterAt(e.item), "after-cycle", "remove one of these", "stacks wait for each other: %s", c.cycle(path, e.to))
			}
		}
		path = path[:len(path)-1]
		state[i] = done
	}
	for i := range edges {
		if state[i] == unseen {
			visit(i)
		}
	}
}

// cycle is "a -> b -> a" for the end of path from start on; a long one is cut.
func (c *checker) cycle(path []int, start int) string {
	const most = 12
	at := len(path) - 1
	for path[at] != start {
		at--
	}
	var names []string
	for _, i := range path[at:] {
		if len(names) == most {
			names = append(names, "...")
			break
		}
		names = append(names, c.decls.Stacks[i].Name)
	}
	return strings.Join(append(names, c.decls.Stacks[start].Name), " -> ")
}
