package procedure

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// MaxDepth is how deep procedures may run procedures.
const MaxDepth = 8

// verb is what an execution does to stacks.
type verb struct {
	// order is the order to give; empty for those that apply.
	order fleet.OrderKind
	// forced applies even what looks right.
	forced bool
	kind   fleet.Kind
	// stopTime names the parameter with the seconds that stopping may take.
	stopTime string
}

// The parameters that name a stack, deployment or repo, by kind.
var subjects = map[fleet.Kind]string{
	fleet.KindStack: "stack", fleet.KindDeployment: "deployment", fleet.KindRepo: "repo",
}

// verbs are the executions on stacks; a "Batch" in front makes one of a pattern.
var verbs = map[string]verb{
	"DeployStack":          {forced: true, kind: fleet.KindStack, stopTime: "stop_time"},
	"DeployStackIfChanged": {kind: fleet.KindStack, stopTime: "stop_time"},
	"PullStack":            {order: fleet.OrderPull, kind: fleet.KindStack},
	"StartStack":           {order: fleet.OrderStart, kind: fleet.KindStack},
	"RestartStack":         {order: fleet.OrderRestart, kind: fleet.KindStack},
	"PauseStack":           {order: fleet.OrderPause, kind: fleet.KindStack},
	"UnpauseStack":         {order: fleet.OrderUnpause, kind: fleet.KindStack},
	"StopStack":            {order: fleet.OrderStop, kind: fleet.KindStack, stopTime: "stop_time"},
	"DestroyStack":         {order: fleet.OrderDown, kind: fleet.KindStack, stopTime: "stop_time"},

	"RunStackService": {order: fleet.OrderRun, kind: fleet.KindStack},

	"Deploy":            {forced: true, kind: fleet.KindDeployment, stopTime: "stop_time"},
	"PullDeployment":    {order: fleet.OrderPull, kind: fleet.KindDeployment},
	"StartDeployment":   {order: fleet.OrderStart, kind: fleet.KindDeployment},
	"RestartDeployment": {order: fleet.OrderRestart, kind: fleet.KindDeployment},
	"PauseDeployment":   {order: fleet.OrderPause, kind: fleet.KindDeployment},
	"UnpauseDeployment": {order: fleet.OrderUnpause, kind: fleet.KindDeployment},
	"StopDeployment":    {order: fleet.OrderStop, kind: fleet.KindDeployment, stopTime: "time"},
	"DestroyDeployment": {order: fleet.OrderDown, kind: fleet.KindDeployment, stopTime: "time"},

	"CloneRepo": {forced: true, kind: fleet.KindRepo},
	"PullRepo":  {forced: true, kind: fleet.KindRepo},
}

// hostTasks are the executions on a server's engine.
var hostTasks = map[string]fleet.HostKind{
	"StartContainer":       fleet.HostStartContainer,
	"RestartContainer":     fleet.HostRestartContainer,
	"PauseContainer":       fleet.HostPauseContainer,
	"UnpauseContainer":     fleet.HostUnpauseContainer,
	"StopContainer":        fleet.HostStopContainer,
	"DestroyContainer":     fleet.HostDestroyContainer,
	"StartAllContainers":   fleet.HostStartAll,
	"RestartAllContainers": fleet.HostRestartAll,
	"PauseAllContainers":   fleet.HostPauseAll,
	"UnpauseAllContainers": fleet.HostUnpauseAll,
	"StopAllContainers":    fleet.HostStopAll,
	"PruneContainers":      fleet.HostPruneContainers,
	"PruneNetworks":        fleet.HostPruneNetworks,
	"PruneImages":          fleet.HostPruneImages,
	"PruneVolumes":         fleet.HostPruneVolumes,
	"PruneDockerBuilders":  fleet.HostPruneBuildCache,
	"PruneBuildx":          fleet.HostPruneBuildCache,
	"PruneSystem":          fleet.HostPruneSystem,
	"DeleteNetwork":        fleet.HostDeleteNetwork,
	"DeleteImage":          fleet.HostDeleteImage,
	"DeleteVolume":         fleet.HostDeleteVolume,
}

// Runs reports whether executions of a type are carried out; the others are known and fail.
func Runs(typ string) bool {
	switch typ {
	case "None", "Sleep", "RunSync", "RunProcedure", "BatchRunProcedure", "CancelProcedure", "TestAlerter", "SendAlert":
		return true
	}
	_, onStack := verbs[strings.TrimPrefix(typ, "Batch")]
	_, onHost := hostTasks[typ]
	return onStack || onHost || isMaintenance(typ)
}

// unit is a piece of work with a step for each target it has.
type unit struct {
	execution *fleet.Execution
	steps     []Step
	// targets go with the steps of a unit on stacks.
	targets []Target
	verb    verb
	// procedure is the name of what a step runs or cancels.
	procedure string
	// child is the run that it goes on with.
	child *run
	// fault is why it cannot be done; text what there is to say of one with nothing to do.
	fault, text string
}

// expand makes the units of an execution from what there is at this moment, and what core can
// do about itself.
func expand(x *fleet.Execution, c *Catalog, able Maintenance) []unit {
	single, batch := strings.CutPrefix(x.Type, "Batch")
	if v, ok := verbs[single]; ok {
		return expandStacks(x, v, batch, c)
	}
	switch {
	case hostTasks[x.Type] != "":
		return []unit{expandHost(x, c)}
	case single == "RunProcedure" || x.Type == "CancelProcedure":
		return expandProcedures(x, batch, c)
	}
	u := unit{execution: x, steps: []Step{{Type: x.Type}}}
	switch x.Type {
	case "RunSync":
		u.steps[0].Target = x.Text("sync")
		if !slices.Contains(c.Syncs, x.Text("sync")) {
			u.fault = fmt.Sprintf("there is no sync %q", x.Text("sync"))
		}
	case "TestAlerter":
		u.steps[0].Target = x.Text("alerter")
	case "SendAlert":
		u.steps[0].Target = strings.Join(x.List("alerters"), ", ")
	case "None", "Sleep":
	default:
		if why := fleet.RefusedExecution(x.Type); why != "" {
			u.fault = x.Type + " is not run: " + why
		} else if u.steps[0].Target = x.Text("server"); able[x.Type] == nil {
			u.fault = x.Type + " is not run by Varan yet"
		}
	}
	return []unit{u}
}

// expandStacks makes one unit for each order, and one for all stacks of a sync that are
// applied: applied together they keep the order that they declare.
func expandStacks(x *fleet.Execution, v verb, batch bool, c *Catalog) []unit {
	what := subjects[v.kind]
	name := x.Text(what)
	chosen := func(t Target) bool { return t.Name == name || v.kind != fleet.KindStack && t.Name == name+"-"+what }
	if batch {
		p, err := parsePattern(x.Text("pattern"))
		if err != nil {
			return []unit{{execution: x, steps: []Step{{Type: x.Type}}, fault: err.Error()}}
		}
		chosen = func(t Target) bool { return p.matches(t.Name) && carries(t.Tags, x.List("tags")) }
	}
	var targets []Target
	for _, t := range c.Stacks {
		if cmp.Or(t.Kind, fleet.KindStack) == v.kind && chosen(t) {
			targets = append(targets, t)
		}
	}
	if len(targets) == 0 {
		u := unit{execution: x, steps: []Step{{Type: x.Type, Target: name}}}
		if batch {
			u.text = fmt.Sprintf("no %s matches %q", what, x.Text("pattern"))
		} else {
			u.fault = fmt.Sprintf("there is no %s %q", what, name)
		}
		return []unit{u}
	}
	slices.SortStableFunc(targets, func(a, b Target) int {
		return cmp.Or(cmp.Compare(a.Sync, b.Sync), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Server, b.Server))
	})
	var units []unit
	for i, t := range targets {
		if i == 0 || v.order != "" || targets[i-1].Sync != t.Sync {
			units = append(units, unit{execution: x, verb: v})
		}
		u := &units[len(units)-1]
		u.targets = append(u.targets, t)
		u.steps = append(u.steps, Step{Type: x.Type, Target: shown(targets, t), Stack: t.Name, Server: t.Server})
	}
	return units
}

// shown names a target, with its server where the name alone would not do.
func shown(all []Target, t Target) string {
	n := 0
	for _, other := range all {
		if other.Name == t.Name {
			n++
		}
	}
	if n > 1 {
		return t.Name + "@" + t.Server
	}
	return t.Name
}

func carries(tags, wanted []string) bool {
	return !slices.ContainsFunc(wanted, func(tag string) bool { return !slices.Contains(tags, tag) })
}

func expandHost(x *fleet.Execution, c *Catalog) unit {
	server := x.Text("server")
	u := unit{execution: x, steps: []Step{{Type: x.Type, Target: server, Server: server}}}
	if subject := cmp.Or(x.Text("container"), x.Text("name")); subject != "" {
		u.steps[0].Target = subject + "@" + server
	}
	if !slices.Contains(c.Servers, server) {
		u.fault = fmt.Sprintf("there is no server %q", server)
	}
	return u
}

func expandProcedures(x *fleet.Execution, batch bool, c *Catalog) []unit {
	names, err := called(x, batch, c)
	if err != nil {
		return []unit{{execution: x, steps: []Step{{Type: x.Type}}, fault: err.Error()}}
	}
	if len(names) == 0 {
		return []unit{{
			execution: x, steps: []Step{{Type: x.Type}}, text: fmt.Sprintf("no procedure matches %q", x.Text("pattern")),
		}}
	}
	var units []unit
	for _, name := range names {
		u := unit{execution: x, procedure: name, steps: []Step{{Type: x.Type, Target: name}}}
		if _, ok := find(c.Procedures, name); !ok {
			u.fault = fmt.Sprintf("there is no procedure %q", name)
		}
		units = append(units, u)
	}
	return units
}

// called are the procedures that an execution names.
func called(x *fleet.Execution, batch bool, c *Catalog) ([]string, error) {
	if !batch {
		return []string{x.Text("procedure")}, nil
	}
	p, err := parsePattern(x.Text("pattern"))
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range c.Procedures {
		if p.matches(c.Procedures[i].Name) && carries(c.Procedures[i].Tags, x.List("tags")) {
			names = append(names, c.Procedures[i].Name)
		}
	}
	return names, nil
}

func find(procedures []fleet.Procedure, name string) (fleet.Procedure, bool) {
	i := slices.IndexFunc(procedures, func(p fleet.Procedure) bool { return p.Name == name })
	if i < 0 {
		return fleet.Procedure{}, false
	}
	return procedures[i], true
}

// Loop is a way by which a procedure runs itself, from its name to its name; nil when there
// is none. What is switched off counts: switching it on must not be what breaks it.
func Loop(procedures []fleet.Procedure, name string) []string {
	c := &Catalog{Procedures: procedures}
	done := map[string]bool{}
	var walk func(path []string) []string
	walk = func(path []string) []string {
		for _, next := range runsFrom(c, path[len(path)-1]) {
			if next == name {
				return append(path, next)
			}
			if done[next] {
				continue
			}
			done[next] = true
			if found := walk(append(slices.Clone(path), next)); found != nil {
				return found
			}
		}
		return nil
	}
	return walk([]string{name})
}

// runsFrom are the procedures that the executions of one run.
func runsFrom(c *Catalog, name string) (all []string) {
	p, _ := find(c.Procedures, name)
	for _, stage := range p.Stages {
		for i := range stage.Executions {
			x := &stage.Executions[i]
			single, batch := strings.CutPrefix(x.Type, "Batch")
			if single != "RunProcedure" {
				continue
			}
			names, _ := called(x, batch, c) // a pattern that is none runs nothing
			all = append(all, names...)
		}
	}
	return all
}
