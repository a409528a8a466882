package spec

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// node is something that may wait for others, or call them.
type node struct {
	name  string
	edges []edge
}

// edge leads to another node; at is where that is written.
type edge struct {
	to int
	at fleet.Position
}

// after reports what stacks and deployments cannot wait for: themselves, what does not
// exist, and each other. The two share one set of names.
func (c *checker) after() {
	stacks, deployments := c.of("stack"), c.of("deployment")
	d := &c.decls
	nodes := make([]node, 0, len(d.Stacks)+len(d.Deployments))
	index := make(map[string]int, cap(nodes))
	names := append(append([]string(nil), stacks.list...), deployments.list...)
	for i := range d.Stacks {
		index[d.Stacks[i].Name] = len(nodes)
		nodes = append(nodes, node{name: d.Stacks[i].Name})
	}
	for i := range d.Deployments {
		name := d.Deployments[i].Name
		if stacks.names[name] {
			index[name+"-deployment"] = len(nodes)
		} else {
			index[name] = len(nodes)
		}
		nodes = append(nodes, node{name: name})
	}
	others := make(map[string]bool, len(c.opts.KnownStacks))
	for _, name := range c.opts.KnownStacks {
		others[name] = true
		names = append(names, name)
	}
	waits := func(kind, name string, self int, after []string, at func(string) fleet.Position) {
		for n, target := range after {
			place := at(fmt.Sprintf("after[%d]", n))
			to, ok := index[target]
			switch {
			case ok && to == self:
				c.fail(place, "after-self", "remove it", "%s %s comes after itself", kind, quoted(name))
			case ok:
				nodes[self].edges = append(nodes[self].edges, edge{to: to, at: place})
			case others[target]:
			case objectID(target) && c.opts.Offline:
				c.remark(fleet.SeverityNote, place, "reference-by-id", "write the name",
					"%s %s comes after something named by its id, which cannot be checked", kind, quoted(name))
			case !c.full():
				c.fail(place, "unknown-stack", referenceHint(target, names),
					"%s %s comes after %s, which is not declared", kind, quoted(name), quoted(target))
			}
		}
	}
	for i := range d.Stacks {
		s := &d.Stacks[i]
		waits("stack", s.Name, i, s.After, s.At)
	}
	for i := range d.Deployments {
		s := &d.Deployments[i]
		waits("deployment", s.Name, len(d.Stacks)+i, s.After, s.At)
	}
	c.cycles(nodes, "after-cycle", "these wait for each other: %s")
}

func referenceHint(name string, known []string) string {
	if objectID(name) {
		return "this looks like an id: write the name"
	}
	return didYouMean(name, known)
}

// procedures checks what procedures run, and reports those that run themselves.
func (c *checker) procedures() {
	d := &c.decls
	index := make(map[string]int, len(d.Procedures))
	nodes := make([]node, len(d.Procedures))
	for i := range d.Procedures {
		index[d.Procedures[i].Name] = i
		nodes[i].name = d.Procedures[i].Name
	}
	for i := range d.Procedures {
		p := &d.Procedures[i]
		for s := range p.Config.Stages {
			nodes[i].edges = c.stage(nodes[i].edges, &p.Config.Stages[s], "procedure "+quoted(p.Name), index)
		}
	}
	c.calls(index)
	c.cycles(nodes, "procedure-cycle", "procedures run each other without end: %s")
}

// stage checks what a stage runs, and adds the edges to procedures that it calls.
func (c *checker) stage(edges []edge, s *Stage, by string, index map[string]int) []edge {
	for i := range s.Executions {
		e := &s.Executions[i]
		called := c.execution(e, by)
		if !s.Enabled || !e.Enabled {
			continue
		}
		edges = slices.Grow(edges, len(called))
		at := e.At(procedureParam(e))
		for _, name := range called {
			if to, ok := index[name]; ok {
				edges = append(edges, edge{to: to, at: at})
			}
		}
	}
	return edges
}

// calls checks the inputs that procedures give each other.
func (c *checker) calls(index map[string]int) {
	for i := range c.decls.Procedures {
		for _, stage := range c.decls.Procedures[i].Config.Stages {
			for k := range stage.Executions {
				e := &stage.Executions[k]
				if to, ok := index[e.Text("procedure")]; ok && e.Type == "RunProcedure" {
					c.call(e, &c.decls.Procedures[to])
				}
			}
		}
	}
}

func (c *checker) call(e *Execution, to *Procedure) {
	given := map[string]string{}
	if text := e.Text("inputs"); text != "" && json.Unmarshal([]byte(text), &given) != nil {
		c.fail(e.At("inputs"), "type", `write inputs = { NAME = "value" }`, "the inputs for procedure %s are no table of texts", quoted(to.Name))
		return
	}
	inputs := make([]fleet.Input, 0, len(to.Config.Inputs))
	for _, in := range to.Config.Inputs {
		options := in.Options
		if fleet.UsesInputs(given[in.Name]) {
			options = nil // a run knows
		}
		inputs = append(inputs, fleet.Input{Name: in.Name, Default: in.Default, Required: in.Required, Options: options})
	}
	if _, err := fleet.FillInputs(inputs, given); err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		c.fail(e.At("inputs"), "unknown-input", "", "for procedure %s: %s", quoted(to.Name), first)
	}
}

// procedureParam is the parameter by which an execution runs procedures.
func procedureParam(e *Execution) string {
	if e.Type == "BatchRunProcedure" {
		return "pattern"
	}
	return "procedure"
}

// execution checks what an execution names, and returns the procedures that it runs.
func (c *checker) execution(e *Execution, by string) (runs []string) {
	typ, ok := FindExecution(e.Type)
	if !ok {
		return nil
	}
	by = "the execution " + typ.Name + " of " + by
	for i := range typ.Params {
		p := &typ.Params[i]
		// Stacks, deployments and servers are known as a whole where core is; the rest is
		// known to other syncs, or to people.
		loose := p.Resource != "stack" && p.Resource != "deployment" && p.Resource != "server"
		switch p.Kind {
		case ParamReference:
			name := e.Text(p.Name)
			if fleet.UsesInputs(name) {
				continue // a run knows
			}
			if loose || !slices.Contains(c.opts.KnownStacks, name) {
				c.refer(reference{kind: p.Resource, name: name, by: by, at: e.At(p.Name), loose: loose})
			}
			runs = append(runs, name)
		case ParamReferences:
			c.referAll(p.Resource, e.List(p.Name), by, func(int) fleet.Position { return e.At(p.Name) })
		case ParamPattern:
			if !fleet.UsesInputs(e.Text(p.Name)) {
				runs = append(runs, c.batch(e, p, by)...)
			}
		case ParamText, ParamList, ParamWords, ParamInt, ParamBool, ParamObject:
		}
	}
	if typ.Name != "RunProcedure" && typ.Name != "BatchRunProcedure" {
		return nil
	}
	return runs
}

// batch checks the pattern of an execution, and returns what it matches.
func (c *checker) batch(e *Execution, p *ParamType, by string) []string {
	matched, looked, err := c.pattern(e.Text(p.Name), p.Resource)
	switch {
	case err != nil:
		c.fail(e.At(p.Name), "invalid-pattern", "", "%s has a pattern that is wrong: %v", by, err)
	case looked && len(matched) == 0 && e.Text(p.Name) != "":
		c.remark(fleet.SeverityNote, e.At(p.Name), "unmatched-pattern", "", "%s matches no %s that is declared here", by, p.Resource)
	}
	return matched
}

// cycles walks depth first and reports each edge that closes a cycle.
func (c *checker) cycles(nodes []node, rule, message string) {
	const (
		unseen = iota
		onPath
		done
	)
	state := make([]int, len(nodes))
	var path []int
	var visit func(i int)
	visit = func(i int) {
		if c.full() {
			return
		}
		state[i] = onPath
		path = append(path, i)
		for _, e := range nodes[i].edges {
			switch state[e.to] {
			case unseen:
				visit(e.to)
			case onPath:
				c.fail(e.at, rule, "remove one of these", message, cycle(nodes, path, e.to))
			}
		}
		path = path[:len(path)-1]
		state[i] = done
	}
	for i := range nodes {
		if state[i] == unseen {
			visit(i)
		}
	}
}

// cycle is "a -> b -> a" for the end of path from start on; a long one is cut.
func cycle(nodes []node, path []int, start int) string {
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
		names = append(names, nodes[i].name)
	}
	return strings.Join(append(names, nodes[start].name), " -> ")
}
