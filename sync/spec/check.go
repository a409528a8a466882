package spec

import (
	"fmt"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// maxCrossErrors is how many errors between resources are worth listing, and
// maxCrossRemarks how many warnings and notes.
const (
	maxCrossErrors  = 50
	maxCrossRemarks = 1_000
	// maxHints is how many unknown names are compared with all that are known.
	maxHints = 100
	// maxPatternWork bounds matching, counted in names times the length of patterns.
	maxPatternWork = 1 << 20
)

// checker finds what is wrong between resources rather than inside one.
type checker struct {
	decls Declarations
	opts  Options
	// known are the names of each type; kind is the type as tables are named.
	known map[string]*nameSet
	diags fleet.Diagnostics
	// errors and remarks count what was found, listed or not.
	errors, remarks int
	// hints are those looked for already, by kind and name: looking is slow.
	hints map[[2]string]string
	// carried remembers which lists of tags some server carries.
	carried map[string]bool
	// patternWork is what reading and matching patterns has cost so far.
	patternWork int
}

// nameSet is the names of one type.
type nameSet struct {
	names map[string]bool
	list  []string
}

func (n *nameSet) add(name string) {
	if name != "" && !n.names[name] {
		n.names[name] = true
		n.list = append(n.list, name)
	}
}

// crossCheck checks names and references. Where a file is faulty, references are left
// alone: what they name may be in the part that could not be read.
func crossCheck(decls Declarations, opts Options, faulty bool) fleet.Diagnostics {
	c := checker{decls: decls, opts: opts, known: map[string]*nameSet{}, hints: map[[2]string]string{}, carried: map[string]bool{}}
	c.count()
	c.names()
	if !faulty {
		for i := range opts.KnownServers {
			c.of("server").add(opts.KnownServers[i].Name)
		}
		c.placements()
		c.after()
		c.references()
		c.procedures()
	}
	return c.diags
}

// of is the names of a type.
func (c *checker) of(kind string) *nameSet {
	set := c.known[kind]
	if set == nil {
		set = &nameSet{names: map[string]bool{}}
		c.known[kind] = set
	}
	return set
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
	c.add(fleet.SeverityError, at, rule, hint, format, args...)
}

// remark adds a warning or a note.
func (c *checker) remark(severity fleet.Severity, at fleet.Position, rule, hint, format string, args ...any) {
	c.remarks++
	switch {
	case c.remarks == maxCrossRemarks+1:
		severity, rule, hint = fleet.SeverityNote, "too-many-remarks", ""
		format, args = "more than %d warnings and notes between resources; the rest is left out", []any{maxCrossRemarks}
	case c.remarks > maxCrossRemarks:
		return
	}
	c.add(severity, at, rule, hint, format, args...)
}

func (c *checker) add(severity fleet.Severity, at fleet.Position, rule, hint, format string, args ...any) {
	c.diags = append(c.diags, fleet.Diagnostic{
		Rule: rule, Severity: severity, Position: at, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// hint is the known name that an unknown one may be a slip of, while there are few.
func (c *checker) hint(kind, name string) string {
	key := [2]string{kind, name}
	hint, done := c.hints[key]
	if !done && len(c.hints) < maxHints {
		hint = didYouMean(name, c.of(kind).list)
		c.hints[key] = hint
	}
	return hint
}

// pattern reads a pattern and returns the names of a kind that it matches. When patterns
// have cost too much in all, what is left is not looked at.
func (c *checker) pattern(text, kind string) (matched []string, looked bool, err error) {
	names := c.of(kind).list
	cost := len(text) * 16
	if isPattern(text) {
		cost += len(names) * (1 + len(text)/32)
	}
	if c.patternWork += cost; c.patternWork > maxPatternWork {
		return nil, false, nil
	}
	pattern, err := ParsePattern(text)
	if err != nil {
		return nil, true, err
	}
	return pattern.Select(names), true, nil
}

// full reports whether nothing more will be listed, so that looking for hints can end.
func (c *checker) full() bool { return c.errors > maxCrossErrors }

func (c *checker) count() {
	n := c.decls.Len()
	if n <= c.opts.MaxResources {
		return
	}
	at := fleet.Position{Line: 1, Col: 1}
	if len(c.decls.Files) > 0 {
		at.File = c.decls.Files[0]
	}
	c.fail(at, "too-many-resources", "raise max_resources, or name fewer resource paths",
		"%d resources are declared; the most is %d", n, c.opts.MaxResources)
}

// names collects the names of all types, and reports those that are taken, exactly or
// but for case. Types do not share names.
func (c *checker) names() {
	d := &c.decls
	unique(c, "server", d.Servers, func(r *Server) string { return r.Name })
	unique(c, "stack", d.Stacks, func(r *Stack) string { return r.Name })
	unique(c, "deployment", d.Deployments, func(r *Deployment) string { return r.Name })
	unique(c, "repo", d.Repos, func(r *Repo) string { return r.Name })
	unique(c, "build", d.Builds, func(r *Build) string { return r.Name })
	unique(c, "builder", d.Builders, func(r *Builder) string { return r.Name })
	unique(c, "procedure", d.Procedures, func(r *Procedure) string { return r.Name })
	unique(c, "action", d.Actions, func(r *Action) string { return r.Name })
	unique(c, "alerter", d.Alerters, func(r *Alerter) string { return r.Name })
	unique(c, "swarm", d.Swarms, func(r *Swarm) string { return r.Name })
	unique(c, "resource_sync", d.Syncs, func(r *ResourceSync) string { return r.Name })
	unique(c, "variable", d.Variables, func(r *Variable) string { return r.Name })
	unique(c, "user_group", d.UserGroups, func(r *UserGroup) string { return r.Name })
}

// located is a resource that knows where its fields were written.
type located[T any] interface {
	*T
	At(field string) fleet.Position
}

func unique[T any, P located[T]](c *checker, kind string, list []T, nameOf func(P) string) {
	type holder struct {
		name string
		at   fleet.Position
	}
	taken := make(map[string]holder, len(list))
	known := c.of(kind)
	for i := range list {
		name, at := nameOf(&list[i]), P(&list[i]).At("name")
		if name == "" {
			continue
		}
		known.add(name)
		folded := strings.ToLower(name)
		first, again := taken[folded]
		switch {
		case !again:
			taken[folded] = holder{name, at}
		case first.name == name:
			c.fail(at, "duplicate-name", "rename one of them", "%s %s is declared twice, first at %s", kind, quoted(name), first.at)
		default:
			c.fail(at, "name-collision", "rename one of them", "%s %s differs only by case from %s at %s",
				kind, quoted(name), quoted(first.name), first.at)
		}
	}
}
