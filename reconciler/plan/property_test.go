package plan_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// canary is in every value that must not be shown.
const canary = "CANARY"

var (
	stackNames   = []string{"a", "b", "c", "d", "e", "f"}
	serverNames  = []string{"alpha", "beta", "gamma"}
	serviceNames = []string{"api", "db", "job", "web"}
)

func drawService(t *rapid.T, name string) fleet.Service {
	secret := rapid.SampledFrom([]string{"1", "2"}).Draw(t, "secret")
	return fleet.Service{
		Name: name, Replicas: rapid.IntRange(0, 2).Draw(t, "replicas"), OneShot: name == "job",
		Restart: fleet.Digest(rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "restart")),
		Fields: []fleet.Field{
			{Path: "image", Value: rapid.SampledFrom([]string{"img:1", "img:2"}).Draw(t, "image")},
			{Path: "environment.KEY", Keyed: canary + secret},
		},
	}
}

func drawStack(t *rapid.T, name string) fleet.Stack {
	s := fleet.Stack{
		Name: name, Server: rapid.SampledFrom(serverNames).Draw(t, "server"),
		After:          rapid.SliceOfNDistinct(rapid.SampledFrom(stackNames), 0, 2, rapid.ID).Draw(t, "after"),
		Deploy:         rapid.Bool().Draw(t, "deploy"),
		IgnoreServices: rapid.SliceOfN(rapid.SampledFrom(serviceNames), 0, 1).Draw(t, "ignored"),
	}
	s.After = slices.DeleteFunc(s.After, func(dep string) bool { return dep >= name })
	if rapid.IntRange(0, 9).Draw(t, "circle") == 0 {
		s.After = append(s.After, rapid.SampledFrom(stackNames).Draw(t, "any"))
	}
	s.Release = fleet.Release{Stack: name, Server: s.Server, Project: name}
	if rapid.IntRange(0, 9).Draw(t, "project") == 0 {
		s.Release.Project = rapid.SampledFrom(stackNames).Draw(t, "other project")
	}
	for _, svc := range rapid.SliceOfNDistinct(rapid.SampledFrom(serviceNames), 0, 3, rapid.ID).Draw(t, "services") {
		s.Release.Services = append(s.Release.Services, drawService(t, svc))
	}
	s.Release.Options.DestroyFirst = rapid.IntRange(0, 5).Draw(t, "destroy") == 0
	if rapid.Bool().Draw(t, "volume") {
		d := fleet.Digest(rapid.SampledFrom([]string{"local", "nfs"}).Draw(t, "driver"))
		s.Release.Volumes = []fleet.Volume{{Name: "data", Digest: d}}
	}
	s.Release = seal(s.Release)
	return s
}

func drawDesired(t *rapid.T) fleet.Desired {
	d := fleet.Desired{Sync: "home", Commit: fleet.Commit{ID: "3f9c2a1e88"}}
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(stackNames), 0, 6, rapid.ID).Draw(t, "stacks") {
		d.Stacks = append(d.Stacks, drawStack(t, name))
	}
	for _, name := range serverNames {
		d.Servers = append(d.Servers, fleet.Server{Name: name, Enabled: rapid.IntRange(0, 9).Draw(t, "enabled") > 0})
	}
	slices.SortFunc(d.Stacks, func(a, b fleet.Stack) int { return strings.Compare(a.Name, b.Name) })
	return d
}

// drawReport makes what an agent might say of a stack.
func drawReport(t *rapid.T, d fleet.Desired, name string) fleet.StackReport {
	s := drawStack(t, name)
	if same, ok := d.Stack(name); ok && rapid.Bool().Draw(t, "as desired") {
		s = same
	}
	r := deployed(s, "0")
	for i := range r.Containers {
		c := &r.Containers[i]
		switch rapid.IntRange(0, 12).Draw(t, "mishap") {
		case 0:
			c.State, c.ExitCode = fleet.StateExited, rapid.IntRange(0, 1).Draw(t, "code")
		case 1:
			c.Digest = "sha256:other"
		case 2:
			c.Drift = []fleet.Drift{{Field: "memory", Want: "0", Have: "64m"}, {Field: "environment.KEY"}}
		case 3:
			c.Service = "stranger"
		case 4:
			c.State = rapid.SampledFrom([]fleet.ContainerState{
				fleet.StateCreated, fleet.StateDead, fleet.StatePaused, fleet.StateRemoving, fleet.StateRestarting,
			}).Draw(t, "state")
		}
	}
	if len(r.Containers) > 0 && rapid.IntRange(0, 5).Draw(t, "lose") == 0 {
		r.Containers = r.Containers[1:]
	}
	switch rapid.IntRange(0, 14).Draw(t, "condition") {
	case 13:
		r.SecretsGone = true
	case 14:
		r.Drift = []fleet.Drift{{Field: "file a", Want: "x"}}
	case 0:
		r.Stopped = true
	case 1:
		r.Release = fleet.Release{}
	case 2:
		r.Busy = "order"
	case 3:
		if want, ok := d.Stack(name); ok {
			r.Bad = []fleet.BadRelease{{Release: want.Release.Digest, Reason: "no"}}
		}
	}
	return r
}

func drawInput(t *rapid.T) plan.Input {
	in := plan.Input{Desired: drawDesired(t), Observed: fleet.Observed{}, Foreign: map[string]string{}, Now: now}
	for _, server := range serverNames {
		report := fleet.ServerReport{Server: server, Online: true, Received: now}
		switch rapid.IntRange(0, 12).Draw(t, "server condition") {
		case 0:
			continue
		case 1:
			report.Online = false
		case 2:
			report.Agent.EngineError = "away"
		}
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(stackNames), 0, 4, rapid.ID).Draw(t, "reported") {
			report.Stacks = append(report.Stacks, drawReport(t, in.Desired, name))
			if rapid.IntRange(0, 3).Draw(t, "owned") > 0 {
				in.Inventory = append(in.Inventory, plan.Owned{
					Stack: name, Server: server, Project: name,
					After: rapid.SliceOfN(rapid.SampledFrom(stackNames), 0, 2).Draw(t, "was after"),
				})
			}
		}
		in.Observed[server] = report
	}
	if rapid.IntRange(0, 3).Draw(t, "foreign") == 0 {
		in.Foreign[rapid.SampledFrom(stackNames).Draw(t, "foreign stack")] = "other"
	}
	in.Policy = plan.Policy{
		Delete:      rapid.Bool().Draw(t, "delete"),
		SelfHeal:    rapid.Bool().Draw(t, "self-heal"),
		MaxRemovals: rapid.IntRange(-1, 4).Draw(t, "max"),
	}
	return in
}

// carryOut is a model of agents and journal: it does an op to the world.
func carryOut(in plan.Input, op plan.Op, generation string) plan.Input {
	out := in
	out.Observed = maps.Clone(in.Observed)
	server := out.Observed[op.Server]
	server.Stacks = slices.DeleteFunc(slices.Clone(server.Stacks), func(r fleet.StackReport) bool { return r.Stack == op.Stack })
	out.Inventory = slices.DeleteFunc(slices.Clone(in.Inventory), func(o plan.Owned) bool {
		return o.Stack == op.Stack && o.Server == op.Server
	})
	if op.Kind != plan.OpRemove {
		for _, s := range in.Desired.Stacks {
			if s.Name == op.Stack && s.Server == op.Server {
				server.Stacks = append(server.Stacks, deployed(s, generation))
			}
		}
		out.Inventory = append(out.Inventory, plan.Owned{
			Stack: op.Stack, Server: op.Server, Project: op.Project, After: op.StackAfter,
		})
	}
	out.Observed[op.Server] = server
	return out
}

func carryOutAll(in plan.Input, ops []plan.Op, generation string) plan.Input {
	for _, op := range ops {
		in = carryOut(in, op, generation)
	}
	return in
}

func TestEveryPlanKeepsTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		in.Policy.Only = rapid.SliceOfN(rapid.SampledFrom(stackNames), 0, 2).Draw(t, "only")
		in.Policy.Forced = rapid.SliceOfN(rapid.SampledFrom(stackNames), 0, 1).Draw(t, "forced")
		p := plan.Compute(in)
		checkInvariants(t, in, p)
		for _, op := range p.Ops {
			if len(in.Policy.Only) > 0 && !slices.Contains(in.Policy.Only, op.Stack) {
				t.Fatalf("%s is not among %v", op.ID, in.Policy.Only)
			}
		}
	})
}

func TestPlanConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		first := plan.Compute(in)
		if again := plan.Compute(carryOutAll(in, first.Ops, "1")); len(again.Ops) > 0 {
			t.Fatalf("work is left after all of it was done:\n%s\nafter\n%s", again, first)
		}
	})
}

func TestAnyClosedPrefixConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		done := map[string]bool{}
		var prefix []plan.Op
		for _, op := range plan.Compute(in).Ops {
			ready := !slices.ContainsFunc(op.After, func(dep string) bool { return !done[dep] })
			if ready && rapid.Bool().Draw(t, "done") {
				done[op.ID] = true
				prefix = append(prefix, op)
			}
		}
		in = carryOutAll(in, prefix, "1")
		second := plan.Compute(in)
		if third := plan.Compute(carryOutAll(in, second.Ops, "2")); len(third.Ops) > 0 {
			t.Fatalf("work is left:\n%s\nafter\n%s", third, second)
		}
	})
}

func TestPlanDoesNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		want := plan.Compute(in)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		mixed := in
		mixed.Desired.Stacks, mixed.Desired.Servers = shuffled(r, in.Desired.Stacks), shuffled(r, in.Desired.Servers)
		mixed.Inventory = shuffled(r, in.Inventory)
		mixed.Observed = fleet.Observed{}
		for _, name := range serverNames {
			report, ok := in.Observed[name]
			if !ok {
				continue
			}
			report.Stacks = shuffled(r, report.Stacks)
			for i := range report.Stacks {
				report.Stacks[i].Containers = shuffled(r, report.Stacks[i].Containers)
				report.Stacks[i].Release.Services = shuffled(r, report.Stacks[i].Release.Services)
			}
			mixed.Observed[name] = report
		}
		for i := range mixed.Desired.Stacks {
			mixed.Desired.Stacks[i].Release.Services = shuffled(r, mixed.Desired.Stacks[i].Release.Services)
		}
		if diff := cmp.Diff(want, plan.Compute(mixed)); diff != "" {
			t.Fatalf("another order, another plan:\n%s", diff)
		}
	})
}

func shuffled[T any](r *rand.Rand, list []T) []T {
	out := slices.Clone(list)
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func TestNothingToDoWhenAllIsDone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := plan.Input{Desired: drawDesired(t), Observed: fleet.Observed{}, Now: now}
		for i := range in.Desired.Servers {
			in.Desired.Servers[i].Enabled = true
			name := in.Desired.Servers[i].Name
			in.Observed[name] = fleet.ServerReport{Server: name, Online: true, Received: now}
		}
		for _, s := range in.Desired.Stacks {
			in = carryOut(in, plan.Op{Kind: plan.OpCreate, Stack: s.Name, Server: s.Server}, "1")
		}
		in.Policy = plan.Policy{Delete: true, SelfHeal: true}
		if p := plan.Compute(in); !p.Empty() || len(p.Gates)+len(p.Notices) > 0 {
			t.Fatalf("something to do:\n%s", p)
		}
	})
}

func TestSecretsAreNeverShown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := plan.Compute(drawInput(t))
		var out bytes.Buffer
		if err := p.Render(&out, plan.RenderOptions{Verbose: true, Color: true}); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if all := out.String() + p.String() + string(text); strings.Contains(all, canary) {
			t.Fatalf("a secret is shown:\n%s", all)
		}
	})
}

func TestTheWholeOfAFreshPlanIsValid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		saved := plan.Compute(in)
		in.Now = in.Now.Add(time.Hour)
		ok, stale := plan.Validate(saved, plan.Compute(in))
		if len(ok) != len(saved.Ops) || len(stale) > 0 {
			t.Fatalf("ok %v, stale %v of\n%s", ok, stale, saved)
		}
	})
}

func BenchmarkComputeUnchanged(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			in := unchanged(n)
			b.ReportAllocs()
			for b.Loop() {
				if p := plan.Compute(in); !p.Empty() {
					b.Fatal("something to do")
				}
			}
		})
	}
}

func BenchmarkComputeAllNew(b *testing.B) {
	in := unchanged(10_000)
	for name, r := range in.Observed {
		r.Stacks = nil
		in.Observed[name] = r
	}
	for b.Loop() {
		plan.Compute(in)
	}
}

func BenchmarkComputeAllGone(b *testing.B) {
	in := unchanged(10_000)
	in.Desired.Stacks = nil
	in.Policy.Delete = true
	for b.Loop() {
		plan.Compute(in)
	}
}

// unchanged is a fleet of 100 servers with n stacks that run as they should.
func unchanged(n int) plan.Input {
	in := plan.Input{Desired: fleet.Desired{Sync: "home"}, Observed: fleet.Observed{}, Now: now}
	for i := range n {
		s := fleet.Stack{Name: fmt.Sprintf("stack-%05d", i), Server: fmt.Sprintf("server-%02d", i%100)}
		if i > 0 {
			s.After = []string{fmt.Sprintf("stack-%05d", i-1)}
		}
		s.Release = seal(fleet.Release{
			Stack: s.Name, Server: s.Server, Project: s.Name,
			Services: []fleet.Service{{Name: "app", Replicas: 1, Fields: []fleet.Field{{Path: "image", Value: "app:1"}}}},
		})
		in.Desired.Stacks = append(in.Desired.Stacks, s)
		server := in.Observed[s.Server]
		server.Server, server.Online, server.Received = s.Server, true, now
		server.Stacks = append(server.Stacks, deployed(s, "1"))
		in.Observed[s.Server] = server
		in.Inventory = append(in.Inventory, plan.Owned{Stack: s.Name, Server: s.Server, Project: s.Name, After: s.After})
	}
	return in
}
