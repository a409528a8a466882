package plan_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// drawControl adds decisions of people to a world.
func drawControl(t *rapid.T, in plan.Input) plan.Input {
	for range rapid.IntRange(0, 2).Draw(t, "suspensions") {
		s := plan.Suspension{By: "ada", Kind: rapid.SampledFrom([]string{"stack", plan.KindServer, plan.KindSync}).Draw(t, "kind")}
		switch s.Kind {
		case plan.KindServer:
			s.Name = rapid.SampledFrom(serverNames).Draw(t, "suspended server")
		case plan.KindSync:
			s.Name = rapid.SampledFrom([]string{"home", "other"}).Draw(t, "suspended sync")
		default:
			s.Name = rapid.SampledFrom(stackNames).Draw(t, "suspended stack")
		}
		if rapid.Bool().Draw(t, "ends") {
			s.Until = now.Add(time.Duration(rapid.IntRange(-2, 2).Draw(t, "until")) * time.Hour)
		}
		in.Control.Suspensions = append(in.Control.Suspensions, s)
	}
	in.Control.LowDisk = rapid.IntRange(0, 5).Draw(t, "core's disk is full") == 0
	in.Observed = maps.Clone(in.Observed)
	for _, name := range slices.Sorted(maps.Keys(in.Observed)) {
		if report := in.Observed[name]; rapid.IntRange(0, 5).Draw(t, "disk is full") == 0 {
			report.Agent.LowDisk = "1.0 MiB of 1.0 GiB are free"
			in.Observed[name] = report
		}
	}
	for _, s := range in.Desired.Stacks {
		if rapid.IntRange(0, 3).Draw(t, "held") > 0 {
			continue
		}
		h := plan.Hold{Kind: plan.HoldLoop, Stack: s.Name, Server: s.Server, Bad: s.Release.Digest, By: "core"}
		if other := drawStack(t, s.Name); rapid.Bool().Draw(t, "rolled back") && other.Release.Digest != s.Release.Digest {
			h.Kind, h.Release = plan.HoldRollback, other.Release
		}
		in.Control.Holds = append(in.Control.Holds, h)
	}
	for range rapid.IntRange(0, 2).Draw(t, "windows") {
		w := plan.Window{SyncWindow: fleet.SyncWindow{
			Kind:   rapid.SampledFrom([]fleet.WindowKind{fleet.WindowAllow, fleet.WindowDeny}).Draw(t, "window kind"),
			Manual: rapid.Bool().Draw(t, "manual"),
		}}
		w.Times = fixedTimes{open: rapid.Bool().Draw(t, "open"), until: now.Add(time.Hour)}
		if rapid.Bool().Draw(t, "narrow") {
			w.Servers = []string{rapid.SampledFrom(serverNames).Draw(t, "window server")}
		}
		in.Policy.Windows = append(in.Policy.Windows, w)
	}
	if rapid.IntRange(0, 3).Draw(t, "override") == 0 {
		in.Policy.Override = &plan.Override{By: "ada", Reason: "now"}
	}
	in.Policy.Limits = fleet.Limits{Stacks: rapid.IntRange(0, 3).Draw(t, "most stacks")}
	return in
}

// drawnWindow reports whether windows keep work from a server, by the rules in words.
func drawnWindow(in plan.Input, server string) bool {
	var about, denies, allows []plan.Window
	for _, w := range in.Policy.Windows {
		if len(w.Servers) > 0 && w.Servers[0] != server {
			continue
		}
		about = append(about, w)
		open, _ := w.Times.Open(in.Now)
		switch {
		case w.Kind == fleet.WindowDeny && open:
			denies = append(denies, w)
		case w.Kind == fleet.WindowAllow && open:
			allows = append(allows, w)
		}
	}
	closed := slices.DeleteFunc(about, func(w plan.Window) bool { return w.Kind == fleet.WindowDeny })
	if len(denies) > 0 {
		closed = denies
	} else if len(allows) > 0 {
		closed = nil
	}
	if in.Policy.Override != nil && !slices.ContainsFunc(closed, func(w plan.Window) bool { return !w.Manual }) {
		return false
	}
	return len(closed) > 0
}

func TestNoPlanGoesAgainstWhatPeopleDecided(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawControl(t, drawInput(t))
		in.Policy.Forced = rapid.SliceOfN(rapid.SampledFrom(stackNames), 0, 1).Draw(t, "forced")
		p := plan.Compute(in)
		checkInvariants(t, in, p)
		stacks := map[string]bool{}
		for _, op := range p.Ops {
			for _, s := range in.Control.Suspensions {
				names := map[string]string{"stack": op.Stack, plan.KindServer: op.Server, plan.KindSync: "home"}
				if s.InForce(now) && names[s.Kind] == s.Name {
					t.Fatalf("%s although %s", op.ID, s.Text())
				}
			}
			for _, h := range in.Control.Holds {
				loopForced := h.Kind == plan.HoldLoop && slices.Contains(in.Policy.Forced, op.Stack)
				if h.Stack == op.Stack && h.Server == op.Server && h.Bad == op.Release && op.Release != "" && !loopForced {
					t.Fatalf("%s although %s", op.ID, h.Text())
				}
			}
			fills := op.Kind != plan.OpRemove && (in.Control.LowDisk && op.Kind != plan.OpHeal || in.Observed[op.Server].Agent.LowDisk != "")
			if fills {
				t.Fatalf("%s although a disk is nearly full", op.ID)
			}
			if drawnWindow(in, op.Server) {
				t.Fatalf("%s outside of its windows", op.ID)
			}
			if release, _ := in.Release(op); op.Kind != plan.OpRemove && release.Digest != op.Release {
				t.Fatalf("%s is of a release that nobody has", op.ID)
			}
			if op.Kind != plan.OpHeal {
				stacks[op.Stack] = true
			}
		}
		if most := in.Policy.Limits.Stacks; most > 0 && len(stacks) > most {
			for _, op := range p.Ops {
				if op.Kind != plan.OpHeal && !slices.Contains(op.Gates, plan.LimitsGate) {
					t.Fatalf("%s goes without consent, one of %d stacks", op.ID, len(stacks))
				}
			}
		}
		if !p.Recheck.IsZero() && !p.Recheck.After(now) {
			t.Fatalf("to be looked at again at %s, which is not in the future", p.Recheck)
		}
	})
}

func TestDecisionsDoNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawControl(t, drawInput(t))
		want := plan.Compute(in)
		mixed := in
		mixed.Desired.Stacks = slices.Clone(in.Desired.Stacks)
		slices.Reverse(mixed.Desired.Stacks)
		mixed.Control.Holds = slices.Clone(in.Control.Holds)
		slices.Reverse(mixed.Control.Holds)
		if diff := cmp.Diff(want, plan.Compute(mixed)); diff != "" {
			t.Fatalf("another order, another plan:\n%s", diff)
		}
	})
}

// TestRolloutsGoBatchByBatch drives a rollout to its end in a world where some servers
// fail, and holds it to its batches all the way.
func TestRolloutsGoBatchByBatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := fleet.Rollout{
			Batch: rapid.IntRange(1, 60).Draw(t, "batch"), Percent: rapid.Bool().Draw(t, "percent"),
			MaxFailures: rapid.IntRange(0, 2).Draw(t, "max failures"),
			OnFailure:   rapid.SampledFrom([]fleet.RolloutFailure{fleet.RolloutStop, fleet.RolloutRollback}).Draw(t, "on failure"),
			Pause:       time.Duration(rapid.IntRange(0, 1).Draw(t, "pause")) * time.Minute,
		}
		servers := rapid.SliceOfNDistinct(rapid.StringMatching("[a-z]{3}"), 2, 12, rapid.ID).Draw(t, "servers")
		spec.Canary = rapid.SliceOfNDistinct(rapid.SampledFrom(servers), 0, 2, rapid.ID).Draw(t, "canary")
		fails := map[string]bool{}
		for _, s := range rapid.SliceOfNDistinct(rapid.SampledFrom(servers), 0, 3, rapid.ID).Draw(t, "fails") {
			fails[s] = true
		}
		in := spread(servers, spec)
		size := spec.Batch
		if spec.Percent {
			size = (len(servers)*spec.Batch + 99) / 100
		}
		size = max(size, len(spec.Canary))
		failed := 0
		for rounds := 0; rounds < 10*len(servers); rounds++ {
			p := plan.Compute(in)
			moved := len(in.Control.Rollouts) == 0 || in.Control.Rollouts[0].Status != p.Rollouts[0].Status
			in.Control.Rollouts = p.Rollouts
			switch {
			case len(p.Ops) > 0:
			case !p.Recheck.IsZero():
				in.Now = p.Recheck
			case !moved:
				rounds = 10 * len(servers)
			}
			if r := p.Rollouts[0]; r.Status == plan.RolloutRunning && len(p.Ops) > size {
				t.Fatalf("%d servers at once, at most %d may:\n%s", len(p.Ops), size, p)
			}
			for _, op := range p.Ops {
				in = deployTo(in, op, fails[op.Server])
				if fails[op.Server] {
					failed++
				}
			}
		}
		p := plan.Compute(in)
		r := p.Rollouts[0]
		wanted := plan.RolloutDone
		switch {
		case failed > spec.MaxFailures && spec.OnFailure == fleet.RolloutRollback:
			wanted = plan.RolloutRolledBack
		case failed > spec.MaxFailures:
			wanted = plan.RolloutFailed
		}
		if r.Status != wanted || len(p.Ops) > 0 {
			t.Fatalf("%s after %d failures, want %s:\n%s", r.Status, failed, wanted, p)
		}
		old := spreadRelease(servers[0], "1")
		for _, server := range servers {
			report := in.Observed[server].Stacks[0]
			image, _ := report.Release.Service("app")
			oldImage, _ := old.Service("app")
			isOld := image.Digest == oldImage.Digest
			if wanted == plan.RolloutRolledBack && !isOld || wanted == plan.RolloutDone && isOld != fails[server] {
				t.Fatalf("%s runs the wrong release:\n%s", server, p)
			}
		}
	})
}

func spreadRelease(server, version string) fleet.Release {
	return seal(fleet.Release{
		Stack: "web", Server: server, Project: "web",
		Services: []fleet.Service{{Name: "app", Replicas: 1, Fields: []fleet.Field{{Path: "image", Value: "app:" + version}}}},
	})
}

// spread is a stack on many servers that runs version 1, and is to run version 2.
func spread(servers []string, spec fleet.Rollout) plan.Input {
	in := plan.Input{Desired: fleet.Desired{Sync: "home", Commit: fleet.Commit{ID: "3f9c2a1e88"}}, Observed: fleet.Observed{}, Now: now}
	for _, server := range servers {
		s := fleet.Stack{Name: "web", Server: server, Rollout: &spec, Release: spreadRelease(server, "1")}
		in.Observed[server] = fleet.ServerReport{
			Server: server, Online: true, Received: now, Stacks: []fleet.StackReport{deployed(s, "1")},
		}
		in.Inventory = append(in.Inventory, plan.Owned{Stack: "web", Server: server, Project: "web"})
		s.Release = spreadRelease(server, "2")
		in.Desired.Stacks = append(in.Desired.Stacks, s)
		in.Desired.Servers = append(in.Desired.Servers, fleet.Server{Name: server, Enabled: true})
	}
	return in
}

// deployTo does an op to the world; one that fails is rolled back and remembered.
func deployTo(in plan.Input, op plan.Op, fails bool) plan.Input {
	in.Observed = maps.Clone(in.Observed)
	server := in.Observed[op.Server]
	report := server.Stacks[0]
	if fails {
		report.Bad = append(slices.Clone(report.Bad), fleet.BadRelease{Release: op.Release, Reason: "it fails", RolledBack: true})
	} else {
		release, _ := in.Release(op)
		report = deployed(fleet.Stack{Name: op.Stack, Server: op.Server, Release: release}, "2")
	}
	server.Stacks = []fleet.StackReport{report}
	in.Observed[op.Server] = server
	return in
}

func TestTwoIdenticalDeploysAreALoop(t *testing.T) {
	op := plan.Op{
		ID: "heal web@alpha", Kind: plan.OpHeal, Stack: "web", Server: "alpha", Release: "sha256:a",
		Services: []plan.ServiceChange{{Service: "app", Causes: []plan.Cause{{Kind: plan.CauseDrift, Field: "memory", From: "64m", To: "128m"}}}},
	}
	cause := plan.CauseOf(op)
	deploy := func(ago time.Duration, release fleet.Digest, cause string) plan.Deploy {
		return plan.Deploy{Release: release, Cause: cause, At: now.Add(-ago)}
	}
	for name, c := range map[string]struct {
		deploys []plan.Deploy
		loop    bool
	}{
		"nothing before":  {nil, false},
		"once":            {[]plan.Deploy{deploy(time.Minute, "sha256:a", cause)}, false},
		"twice":           {[]plan.Deploy{deploy(2*time.Minute, "sha256:a", cause), deploy(time.Minute, "sha256:a", cause)}, true},
		"another release": {[]plan.Deploy{deploy(2*time.Minute, "sha256:b", cause), deploy(time.Minute, "sha256:a", cause)}, false},
		"another cause":   {[]plan.Deploy{deploy(2*time.Minute, "sha256:a", "x"), deploy(time.Minute, "sha256:a", cause)}, false},
		"long ago":        {[]plan.Deploy{deploy(50*time.Minute, "sha256:a", cause), deploy(40*time.Minute, "sha256:a", cause)}, false},
		"slowly":          {[]plan.Deploy{deploy(50*time.Minute, "sha256:a", cause), deploy(time.Minute, "sha256:a", cause)}, false},
	} {
		field, loop := plan.Repeats(c.deploys, op, now)
		if loop != c.loop || loop && field != "service app: memory: 64m -> 128m (live)" {
			t.Errorf("%s: %v %q", name, loop, field)
		}
	}
	op.Services[0].Causes[0].Kind = plan.CauseMissing
	if cause := plan.CauseOf(op); cause != "" {
		t.Errorf("a container that is gone again and again counts as %q", cause)
	}
}
