package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

// fakeControls remembers what was decided.
type fakeControls struct {
	mu       sync.Mutex
	control  plan.Control
	releases map[string]fleet.Release
	deployed map[string][]fleet.Release
	told     []string
	failing  bool
}

func newFakeControls() *fakeControls {
	return &fakeControls{releases: map[string]fleet.Release{}, deployed: map[string][]fleet.Release{}}
}

func (c *fakeControls) Control(context.Context, string) (plan.Control, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.control
	out.Suspensions = slices.DeleteFunc(slices.Clone(out.Suspensions), func(s plan.Suspension) bool { return !s.InForce(time.Now()) })
	out.Holds, out.Rollouts = slices.Clone(out.Holds), slices.Clone(out.Rollouts)
	return out, nil
}

func (c *fakeControls) Hold(_ context.Context, holds []plan.Hold) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.control.Holds = append(c.control.Holds, holds...)
	for _, h := range holds {
		c.told = append(c.told, h.Text())
	}
	return nil
}

func (c *fakeControls) Unhold(_ context.Context, holds []plan.Hold, actor, why string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.control.Holds = slices.DeleteFunc(c.control.Holds, func(h plan.Hold) bool {
		return slices.ContainsFunc(holds, func(o plan.Hold) bool { return o.Stack == h.Stack && o.Server == h.Server })
	})
	c.told = append(c.told, "over: "+actor+": "+why)
	return nil
}

func (c *fakeControls) SaveRollouts(_ context.Context, list []plan.Rollout, _ string, text func(plan.Rollout) string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failing {
		return errors.New("disk full")
	}
	for _, r := range list {
		if told := text(r); told != "" {
			c.told = append(c.told, told)
		}
		c.control.Rollouts = slices.DeleteFunc(c.control.Rollouts, func(o plan.Rollout) bool { return o.Stack == r.Stack })
		c.control.Rollouts = append(c.control.Rollouts, r)
	}
	return nil
}

func (c *fakeControls) Deployed(_ context.Context, r fleet.Release) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.releases[r.Stack+r.Server+string(r.Digest)] = r
	at := r.Stack + "@" + r.Server
	c.deployed[at] = append([]fleet.Release{r}, c.deployed[at]...)
	return nil
}

func (c *fakeControls) ReleaseOf(_ context.Context, stack, server string, digest fleet.Digest) (fleet.Release, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.releases[stack+server+string(digest)]
	return r, ok, nil
}

func (c *fakeControls) set(change func(*plan.Control)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.control)
}

func (c *fakeControls) rollout() plan.Rollout {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.control.Rollouts) == 0 {
		return plan.Rollout{}
	}
	return c.control.Rollouts[0]
}

func (c *fakeControls) Releases(_ context.Context, stack, server string) ([]fleet.Release, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.deployed[stack+"@"+server]), nil
}

// fakePast reads earlier commits from a map.
type fakePast map[string]reconciler.Loaded

func (p fakePast) At(_ context.Context, _, commit string, _ []fleet.Source) (reconciler.Loaded, error) {
	loaded, ok := p[commit]
	if !ok {
		return loaded, errors.New("no such commit")
	}
	return loaded, nil
}

// onServers are the orders so far, as "web@alpha".
func (b *bench) onServers() []string {
	b.fleet.mu.Lock()
	defer b.fleet.mu.Unlock()
	list := []string{}
	for _, o := range b.fleet.orders {
		list = append(list, o.Stack+"@"+o.Server)
	}
	return list
}

func TestASuspendedStackIsLeftAloneUntilItsTime(t *testing.T) {
	onBench(t, func(b *bench) {
		b.controls.control.Suspensions = []plan.Suspension{{Kind: "stack", Name: "web", By: "ada", Until: time.Now().Add(10 * time.Minute)}}
	}, func(b *bench) {
		b.push("c1", stack("web", "alpha", "1"), stack("db", "alpha", "1"))
		b.pass(9 * time.Minute)
		if diff := cmp.Diff([]string{"db"}, b.fleet.dispatched()); diff != "" {
			b.Fatal(diff)
		}
		b.source.set(func(s *fakeSource) { s.err = errors.New("Git is away") }) // it wakes by itself
		b.pass(2 * time.Minute)
		if diff := cmp.Diff([]string{"db", "web"}, b.fleet.dispatched()); diff != "" {
			b.Error(diff)
		}
	})
}

// window is one that opens at a time, for good.
type window struct{ at time.Time }

func (w window) Open(at time.Time) (open bool, until time.Time) {
	if at.Before(w.at) {
		return false, w.at
	}
	return true, w.at.Add(1000 * time.Hour)
}

func TestAPassWakesWhenAWindowOpens(t *testing.T) {
	var opens time.Time
	onBench(t, func(b *bench) {
		opens = time.Now().Add(3 * time.Hour)
		b.source.head.Policy.Windows = []plan.Window{{
			SyncWindow: fleet.SyncWindow{Kind: fleet.WindowAllow, Manual: true}, Times: window{opens},
		}}
	}, func(b *bench) {
		b.push("c1", stack("web", "alpha", "1"))
		b.pass(time.Hour)
		if list := b.fleet.dispatched(); len(list) > 0 {
			b.Fatalf("%v outside of the window", list)
		}
		_, _, err := b.r.Apply(b.Context(), reconciler.ApplyRequest{Sync: "home", Actor: "ada"})
		if list := b.fleet.dispatched(); err != nil || len(list) > 0 {
			b.Fatalf("%v outside of the window, by a person: %v", list, err)
		}
		_, _, err = b.r.Apply(b.Context(), reconciler.ApplyRequest{
			Sync: "home", Actor: "ada", Override: &plan.Override{By: "ada", Reason: "the shop is down"},
		})
		if diff := cmp.Diff([]string{"web"}, b.fleet.dispatched()); err != nil || diff != "" {
			b.Fatalf("%v %s", err, diff)
		}
		b.push("c2", stack("web", "alpha", "2"))
		b.pass(time.Until(opens) - time.Second)
		if n := len(b.fleet.dispatched()); n != 1 {
			b.Fatalf("%d orders before it opens", n)
		}
		loads := b.source.count()
		b.pass(2 * time.Second)
		if n := len(b.fleet.dispatched()); n != 2 || b.source.count() > loads+1 {
			b.Errorf("%d orders after it opened", n)
		}
	})
}

func TestARollbackIsRespectedUntilTheStackChanges(t *testing.T) {
	onBench(t, func(*bench) {}, func(b *bench) {
		one, two := stack("web", "alpha", "1"), stack("web", "alpha", "2")
		b.push("c1", one)
		b.pass(5 * time.Second)
		b.push("c2", two)
		b.pass(5 * time.Second)
		_ = b.controls.Hold(b.Context(), []plan.Hold{{
			Kind: plan.HoldRollback, Sync: "home", Stack: "web", Server: "alpha", Bad: two.Release.Digest,
			Commit: fleet.Commit{ID: "c2"}, Release: one.Release, By: "ada",
		}})
		run, result, err := b.r.Apply(b.Context(), reconciler.ApplyRequest{Sync: "home", Only: []string{"web"}, Actor: "ada"})
		if err != nil || result.Status != reconciler.OpSucceeded || len(run.Plan.Ops) != 1 {
			b.Fatalf("%v %+v", err, result)
		}
		last := b.fleet.orders[len(b.fleet.orders)-1]
		if last.Release.Digest != one.Release.Digest || !last.KeepImages {
			b.Fatalf("order of %s, images kept: %v", last.Release.Digest, last.KeepImages)
		}
		// Neither time nor a commit to another stack brings the bad one back.
		b.push("c3", two, stack("db", "beta", "1"))
		b.pass(time.Hour)
		if diff := cmp.Diff([]string{"web", "web", "web", "db"}, b.fleet.dispatched()); diff != "" {
			b.Fatal(diff)
		}
		// It is healed meanwhile.
		b.fleet.happen("alpha", "web", func(r *fleet.StackReport) { r.Containers = nil })
		b.r.PokeServer("alpha", []string{"web"})
		b.pass(5 * time.Second)
		if last := b.fleet.orders[len(b.fleet.orders)-1]; last.Release.Digest != one.Release.Digest {
			b.Fatalf("healed to %s", last.Release.Digest)
		}
		b.push("c4", stack("web", "alpha", "3"), stack("db", "beta", "1"))
		b.pass(5 * time.Second)
		if last := b.fleet.orders[len(b.fleet.orders)-1]; last.Release.Digest != stack("web", "alpha", "3").Release.Digest {
			b.Errorf("the fix is not deployed: %s", last.Release.Digest)
		}
		if len(b.controls.control.Holds) > 0 || !slices.Contains(b.controls.told, "over: core: commit c4 changes the stack") {
			b.Errorf("the hold is not over: %v", b.controls.told)
		}
	})
}

func TestContentOfAnEarlierReleaseComesFromItsCommit(t *testing.T) {
	onBench(t, func(b *bench) {
		b.source.head.Content = contents{}
	}, func(b *bench) {
		one, two := stack("web", "alpha", "1"), stack("web", "alpha", "2")
		one.Release.Model, one.Release.Commit.ID = "sha256:model", "c1"
		b.past["c1"] = reconciler.Loaded{Content: contents{"sha256:model": "services: {}"}}
		b.push("c2", two)
		b.pass(5 * time.Second)
		_ = b.controls.Hold(b.Context(), []plan.Hold{{
			Kind: plan.HoldRollback, Stack: "web", Server: "alpha", Bad: two.Release.Digest, Release: one.Release, By: "ada",
		}})
		var read string
		b.fleet.set(func(f *fakeFleet) {
			f.content = func(c reconciler.Content) {
				blob, err := c.Blob(context.Background(), "sha256:model")
				read = fmt.Sprint(string(blob), err)
			}
		})
		if _, _, err := b.r.Apply(b.Context(), reconciler.ApplyRequest{Sync: "home"}); err != nil || read != "services: {}<nil>" {
			b.Errorf("%v, read %q", err, read)
		}
	})
}

// contents is a Content of a few blobs.
type contents map[fleet.Digest]string

func (c contents) Blob(_ context.Context, d fleet.Digest) ([]byte, error) {
	if blob, ok := c[d]; ok {
		return []byte(blob), nil
	}
	return nil, errors.New("no such blob")
}

func TestWhatDoesNotConvergeIsStopped(t *testing.T) {
	onBench(t, func(*bench) {}, func(b *bench) {
		var held []string
		defer b.r.Subscribe(func(e reconciler.Event) {
			if e.Kind == reconciler.EventHeld {
				held = append(held, e.Text)
			}
		})()
		b.push("c1", stack("web", "alpha", "1"))
		b.pass(5 * time.Second)
		for range 6 {
			b.fleet.happen("alpha", "web", func(r *fleet.StackReport) {
				r.Containers[0].Drift = []fleet.Drift{{Field: "memory", Want: "64m", Have: "128m"}}
			})
			b.r.PokeServer("alpha", []string{"web"})
			b.pass(5 * time.Second)
		}
		if diff := cmp.Diff([]string{"web", "web", "web"}, b.fleet.dispatched()); diff != "" {
			b.Fatalf("one deploy and two heals are all:\n%s", diff)
		}
		if len(held) != 1 || !strings.Contains(held[0], "service app: memory: 64m -> 128m (live) does not converge") {
			b.Errorf("told %q", held)
		}
		b.r.Forgive("home", "web")
		b.controls.set(func(c *plan.Control) { c.Holds = nil })
		b.r.Recheck("ada", "home")
		b.pass(5 * time.Second)
		if n := len(b.fleet.dispatched()); n != 4 {
			b.Errorf("%d orders after it was released", n)
		}
	})
}

// everywhere is a stack on both servers, one after the other.
func everywhere(version string, spec fleet.Rollout) []fleet.Stack {
	list := []fleet.Stack{stack("web", "alpha", version), stack("web", "beta", version)}
	for i := range list {
		list[i].Rollout = &spec
	}
	return list
}

func TestARolloutGoesOnAfterARestart(t *testing.T) {
	spec := fleet.Rollout{Batch: 1, Pause: time.Hour, Canary: []string{"beta"}}
	onBench(t, func(*bench) {}, func(b *bench) {
		b.push("c1", everywhere("1", spec)...)
		b.pass(2 * time.Hour)
		b.push("c2", everywhere("2", spec)...)
		b.pass(30 * time.Minute)
		if diff := cmp.Diff([]string{"web@beta", "web@alpha", "web@beta"}, b.onServers()); diff != "" {
			b.Fatal(diff)
		}
		// Another core takes over, with the same memory.
		b.cancel()
		synctest.Wait()
		if err := <-b.done; err != nil {
			b.Fatal(err)
		}
		r, err := reconciler.New(reconciler.Config{
			Source: b.source, Fleet: b.fleet, Journal: b.journal, Logger: slog.New(slog.DiscardHandler), Controls: b.controls, Past: b.past,
		})
		if err != nil {
			b.Fatal(err)
		}
		b.r = r
		r.Add(reconciler.SyncSettings{Name: "home"})
		var ctx context.Context
		ctx, b.cancel = context.WithCancel(b.Context())
		go func() { b.done <- r.Run(ctx) }()
		b.pass(29 * time.Minute)
		if n := len(b.onServers()); n != 3 {
			b.Fatalf("%d orders before the pause is over", n)
		}
		b.pass(2 * time.Minute)
		if diff := cmp.Diff([]string{"web@beta", "web@alpha", "web@beta", "web@alpha"}, b.onServers()); diff != "" {
			b.Error(diff)
		}
		if r := b.controls.rollout(); r.Status != plan.RolloutDone || r.Commit.ID != "c2" {
			b.Errorf("%+v", r)
		}
	})
}

func TestAFailedRolloutPutsBackWhatWasDone(t *testing.T) {
	spec := fleet.Rollout{Batch: 1, OnFailure: fleet.RolloutRollback}
	onBench(t, func(*bench) {}, func(b *bench) {
		b.push("c1", everywhere("1", spec)...)
		b.pass(time.Minute)
		b.fleet.set(func(f *fakeFleet) {
			f.fail = func(o fleet.Order) (fleet.Outcome, error, bool) {
				if o.Server != "beta" || o.Release.Digest != stack("web", "beta", "2").Release.Digest {
					return fleet.Outcome{}, nil, false
				}
				b.fleet.happen("beta", "web", func(r *fleet.StackReport) {
					r.Bad = []fleet.BadRelease{{Release: o.Release.Digest, Reason: "exited", RolledBack: true}}
				})
				return fleet.Outcome{Status: fleet.OutcomeRolledBack, Reason: "exited"}, nil, true
			}
		})
		b.push("c2", everywhere("2", spec)...)
		b.pass(5 * time.Minute)
		if diff := cmp.Diff([]string{"web@alpha", "web@beta", "web@alpha", "web@beta", "web@alpha"}, b.onServers()); diff != "" {
			b.Fatal(diff)
		}
		for server, report := range b.fleet.Observed() {
			r, _ := report.Stack("web")
			if r.Release.Digest != stack("web", server, "1").Release.Digest {
				b.Errorf("%s runs %s", server, r.Release.Digest)
			}
		}
		if r := b.controls.rollout(); r.Status != plan.RolloutRolledBack || r.Reason != "beta: exited" {
			b.Errorf("%+v", r)
		}
		b.push("c3", everywhere("3", spec)...)
		b.pass(5 * time.Minute)
		if r := b.controls.rollout(); r.Status != plan.RolloutDone || r.Commit.ID != "c3" {
			b.Errorf("the fix: %+v", r)
		}
	})
}

func TestARolloutThatAPersonBeganGoesOnByItself(t *testing.T) {
	onBench(t, byHand, func(b *bench) {
		b.push("c1", everywhere("1", fleet.Rollout{Batch: 1})...)
		b.pass(time.Minute)
		if n := len(b.onServers()); n != 0 {
			b.Fatalf("%d orders that nobody asked for", n)
		}
		if _, _, err := b.r.Apply(b.Context(), reconciler.ApplyRequest{Sync: "home", Actor: "ada"}); err != nil {
			b.Fatal(err)
		}
		b.pass(time.Minute)
		if diff := cmp.Diff([]string{"web@alpha", "web@beta"}, b.onServers()); diff != "" {
			b.Error(diff)
		}
	})
}

func TestNothingIsDeployedWhenTheRolloutCannotBeRecorded(t *testing.T) {
	onBench(t, func(b *bench) { b.controls.failing = true }, func(b *bench) {
		b.push("c1", everywhere("1", fleet.Rollout{Batch: 1})...)
		b.pass(time.Minute)
		status, _ := b.r.Status("home")
		if n := len(b.onServers()); n != 0 || !strings.Contains(status.Error, "disk full") {
			b.Errorf("%d orders, error %q", n, status.Error)
		}
	})
}
