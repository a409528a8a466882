package plan_test

import (
	"encoding/json"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

const pair = `server alpha
stack db on alpha
  service db image=db:1
stack web on alpha after=db
  service app image=web:1
stack log on alpha
  service log image=log:1
`

const pairNext = `commit 3f9c2a1e88 "next"
server alpha
stack db on alpha
  service db image=db:2
stack web on alpha after=db
  service app image=web:2
stack log on alpha
  service log image=log:2
`

func TestSavedPlanHoldsStackByStack(t *testing.T) {
	saved := plan.Compute(mustParse(t, map[string]string{"before": pair, "git": pairNext}))
	for name, c := range map[string]struct {
		git, world, policy string
		ok                 []string
		stale              map[string]string
	}{
		"nothing moved": {
			git: pairNext, ok: []string{"update db@alpha", "update log@alpha", "update web@alpha"},
			stale: map[string]string{},
		},
		"the observation of a dependency moved": {
			git: pairNext, world: "state db/db exited 1", ok: []string{"update log@alpha"},
			stale: map[string]string{
				"update db@alpha":  "what runs on alpha changed since the plan was made",
				"update web@alpha": "comes after update db@alpha, which is stale or not in the plan",
			},
		},
		"health alone does not matter": {
			git: pairNext, world: "state db/db running unhealthy",
			ok:    []string{"update db@alpha", "update log@alpha", "update web@alpha"},
			stale: map[string]string{},
		},
		"the commit moved for one stack": {
			git: `commit 4444444444 "later"` + pairNext[len(`commit 3f9c2a1e88 "next"`):len(pairNext)-len("2\n")] + "3\n",
			ok:  []string{"update db@alpha", "update web@alpha"},
			stale: map[string]string{
				"update log@alpha": "the commit moved from 3f9c2a1e to 44444444 and changes the stack",
			},
		},
		"the commit was taken back": {
			git: `commit 4444444444 "revert"` + "\n" + pair,
			stale: map[string]string{
				"update db@alpha":  "the commit moved from 3f9c2a1e to 44444444 and no longer asks for it",
				"update log@alpha": "the commit moved from 3f9c2a1e to 44444444 and no longer asks for it",
				"update web@alpha": "the commit moved from 3f9c2a1e to 44444444 and no longer asks for it",
			},
		},
		"the server went away": {
			git: pairNext, world: "offline alpha",
			stale: map[string]string{
				"update db@alpha":  "blocked by now: server alpha is offline",
				"update log@alpha": "blocked by now: server alpha is offline",
				"update web@alpha": "blocked by now: server alpha is offline",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := mustParse(t, map[string]string{"before": pair, "git": c.git, "world": c.world})
			ok, stale := plan.Validate(saved, plan.Compute(in))
			if diff := cmp.Diff(c.ok, ok); diff != "" {
				t.Errorf("ok (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.stale, stale); diff != "" {
				t.Errorf("stale (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSavedPlanOfWorkThatIsDoneIsStale(t *testing.T) {
	in := mustParse(t, map[string]string{"before": pair, "git": pairNext})
	saved := plan.Compute(in)
	_, stale := plan.Validate(saved, plan.Compute(carryOutAll(in, saved.Ops, "2")))
	if got := stale["update db@alpha"]; got != "there is nothing to do any more" {
		t.Errorf("stale: %q", got)
	}
}

func TestFingerprintLeavesOutWhatComesAndGoes(t *testing.T) {
	in := mustParse(t, map[string]string{"before": pair, "git": pair})
	r := in.Observed["alpha"].Stacks[0]
	want := plan.Fingerprint(r)
	r.Containers[0].RestartCount = 7
	r.Containers[0].StartedAt = now
	r.Containers[0].Health = fleet.HealthUnhealthy
	r.DeployedAt, r.Busy = now.Add(time.Hour), "order"
	if got := plan.Fingerprint(r); got != want {
		t.Error("what comes and goes changes the fingerprint")
	}
	for name, change := range map[string]func(*fleet.StackReport){
		"container": func(r *fleet.StackReport) { r.Containers[0].ID = "other" },
		"digest":    func(r *fleet.StackReport) { r.Containers[0].Digest = "other" },
		"state":     func(r *fleet.StackReport) { r.Containers[0].State = fleet.StateExited },
		"drift":     func(r *fleet.StackReport) { r.Containers[0].Drift = []fleet.Drift{{Field: "memory"}} },
		"release":   func(r *fleet.StackReport) { r.Release.Digest = "other" },
		"stopped":   func(r *fleet.StackReport) { r.Stopped = true },
	} {
		other := deployed(in.Desired.Stacks[0], "1")
		change(&other)
		if plan.Fingerprint(other) == want {
			t.Errorf("a changed %s does not change the fingerprint", name)
		}
	}
}

func TestPlanIDIsThatOfTheWork(t *testing.T) {
	in := mustParse(t, map[string]string{"before": pair, "git": pairNext})
	first := plan.Compute(in)
	in.Now = in.Now.Add(time.Hour)
	if plan.Compute(in).ID != first.ID {
		t.Error("time changes the id")
	}
	in.Desired.Commit.ID = "4444"
	if plan.Compute(in).ID == first.ID {
		t.Error("another commit has the same id")
	}
}

func mustParse(t *testing.T, sections map[string]string) plan.Input {
	t.Helper()
	in, err := parseWorld(sections)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// FuzzSavedPlan: a saved plan is a file from anywhere.
func FuzzSavedPlan(f *testing.F) {
	in, err := parseWorld(map[string]string{"before": pair, "git": pairNext})
	if err != nil {
		f.Fatal(err)
	}
	fresh := plan.Compute(in)
	text, err := json.Marshal(fresh)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		var saved plan.Plan
		if json.Unmarshal(text, &saved) != nil {
			t.Skip()
		}
		plan.Validate(saved, fresh)
		plan.Validate(fresh, saved)
		_ = saved.String()
		if err := saved.Render(io.Discard, plan.RenderOptions{Verbose: true, Color: true, Width: 40}); err != nil {
			t.Fatal(err)
		}
	})
}
