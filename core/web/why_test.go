package web_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

// declared sets up a sync "main" that declares the stack "web" on alpha, where it runs.
func declared(t *testing.T, f *fixture, change func(*reconciler.SyncStatus, *fleet.StackReport)) {
	t.Helper()
	f.addSync(t, true)
	release := fleet.Release{Digest: fleet.SumDigest([]byte("new")), Commit: fleet.Commit{ID: "0123456789abcdef"}}
	commit := fleet.Commit{ID: "89abcdef01234567", Subject: "Bump the image", Author: "Ada <ada@example.org>"}
	f.sources.desired["main"] = fleet.Desired{
		Sync: "main", Commit: commit,
		Servers: []fleet.Server{{Name: "alpha", Enabled: true, Tier: fleet.TierTrusted, Origin: fleet.Position{File: "servers.toml", Line: 1}}},
		Stacks: []fleet.Stack{{
			Name: "web", Server: "alpha", Release: release, Origin: fleet.Position{File: "stacks.toml", Line: 3, Col: 1},
		}},
	}
	report := fleet.StackReport{Stack: "web", Release: fleet.Release{Commit: fleet.Commit{ID: "fedcba9876543210"}}}
	status := reconciler.SyncStatus{
		Sync: "main", Head: commit, Good: commit, AutoApply: true,
		Plan: plan.Plan{Sync: "main", Commit: commit, Stacks: []plan.StackState{
			{Stack: "web", Server: "alpha", Sync: fleet.Synced, Health: fleet.Healthy},
		}},
	}
	if change != nil {
		change(&status, &report)
	}
	f.loop.status["main"] = status
	f.agents.observed["alpha"] = fleet.ServerReport{Server: "alpha", Online: true, Stacks: []fleet.StackReport{report}}
}

func TestWhyHasAnAnswerForEveryStateOfAStack(t *testing.T) {
	t.Parallel()
	state := func(s *reconciler.SyncStatus, sync fleet.SyncState, health fleet.HealthState, text string) {
		s.Plan.Stacks[0].Sync, s.Plan.Stacks[0].Health, s.Plan.Stacks[0].Text = sync, health, text
	}
	cases := map[string]struct {
		change  func(*reconciler.SyncStatus, *fleet.StackReport)
		summary []string
		next    string
	}{
		"synced and healthy": {
			summary: []string{"web runs on alpha as stacks.toml:3:1 says", "89abcdef", `"Bump the image"`, "by Ada"},
		},
		"an update is due": {
			change: func(s *reconciler.SyncStatus, _ *fleet.StackReport) {
				state(s, fleet.OutOfSync, fleet.Healthy, "")
				s.Plan.Ops = []plan.Op{webOp()}
			},
			summary: []string{"update on alpha is due", "89abcdef", "service app: image: a:1 -> a:2", "web/compose.yaml:4:12"},
			next:    "under way",
		},
		"an update waits for a person": {
			change: func(s *reconciler.SyncStatus, _ *fleet.StackReport) {
				state(s, fleet.OutOfSync, fleet.Healthy, "")
				s.Plan.Ops, s.AutoApply = []plan.Op{webOp()}, false
			},
			summary: []string{"update on alpha is due"}, next: "varan apply main",
		},
		"a gate is closed": {
			change: func(s *reconciler.SyncStatus, _ *fleet.StackReport) {
				op := webOp()
				op.Gates = []string{"volume web/data@alpha"}
				s.Plan.Ops = []plan.Op{op}
				s.Plan.Gates = []plan.Gate{{ID: "volume web/data@alpha", Text: "the data of volume data would be lost"}}
			},
			summary: []string{"needs consent", "would be lost", "stacks.toml:3:1"}, next: `varan apply main --approve "volume web/data@alpha"`,
		},
		"blocked": {
			change: func(s *reconciler.SyncStatus, _ *fleet.StackReport) {
				state(s, fleet.SyncBlocked, fleet.HealthUnknown, "")
				s.Plan.Blocked = []plan.Blocked{{
					Op: webOp(), Reason: plan.BlockOffline, Text: "alpha is not connected", Hint: "start the agent",
				}}
			},
			summary: []string{"update on alpha is blocked: alpha is not connected"}, next: "start the agent",
		},
		"the release is bad": {
			change: func(_ *reconciler.SyncStatus, r *fleet.StackReport) {
				r.Bad = []fleet.BadRelease{{Release: fleet.SumDigest([]byte("new")), Reason: "service app: exited with code 1", RolledBack: true}}
			},
			summary: []string{"commit 89abcdef failed on alpha", "exited with code 1", "commit fedcba98, runs again"}, next: "varan deploy web",
		},
		"the head is invalid": {
			change: func(s *reconciler.SyncStatus, _ *fleet.StackReport) {
				s.Head = fleet.Commit{ID: "aaaaaaaaaaaa", Subject: "Oops"}
				s.Diagnostics = fleet.Diagnostics{{
					Severity: fleet.SeverityError, Message: "unknown key naem", Hint: "did you mean name?",
					Position: fleet.Position{File: "stacks.toml", Line: 9, Col: 2},
				}}
			},
			summary: []string{"commit aaaaaaaa", "is invalid", "unknown key naem", "stacks.toml:9:2"}, next: "did you mean name?",
		},
		"the repository is away": {
			change:  func(s *reconciler.SyncStatus, _ *fleet.StackReport) { s.Error = "connection refused" },
			summary: []string{"sync main cannot be read", "89abcdef stays in force", "connection refused"}, next: "varan sync show main",
		},
		"a container crashed": {
			change: func(s *reconciler.SyncStatus, r *fleet.StackReport) {
				state(s, fleet.Synced, fleet.Degraded, "1 of 1 containers down")
				r.Containers = []fleet.Container{{Service: "app", State: fleet.StateExited, ExitCode: 137}}
			},
			summary: []string{"service app on alpha: its container exited with code 137"}, next: "varan logs web app",
		},
		"unhealthy": {
			change: func(s *reconciler.SyncStatus, r *fleet.StackReport) {
				state(s, fleet.Synced, fleet.Degraded, "")
				r.Containers = []fleet.Container{{Service: "app", State: fleet.StateRunning, Health: fleet.HealthUnhealthy}}
			},
			summary: []string{"health check fails"},
		},
		"drift": {
			change: func(s *reconciler.SyncStatus, _ *fleet.StackReport) {
				state(s, fleet.OutOfSync, fleet.Healthy, "drift")
				s.Plan.Notices = []plan.Notice{{Stack: "web", Server: "alpha", Kind: "drift", Text: "memory: 0 -> 64m (live)"}}
			},
			summary: []string{"drift on alpha: memory: 0 -> 64m (live)"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			declared(t, f, tc.change)
			why, err := f.Why(t.Context(), "web")
			must(t, err)
			for _, want := range tc.summary {
				if !strings.Contains(why.Summary, want) {
					t.Errorf("the summary lacks %q: %s", want, why.Summary)
				}
			}
			if next := strings.Join(why.Next, "\n"); !strings.Contains(next, tc.next) {
				t.Errorf("next lacks %q: %s", tc.next, next)
			}
			if !why.Known || why.Server != "alpha" || why.Source != "main" || why.Origin.Line != 3 {
				t.Errorf("located as %+v", why)
			}
		})
	}
}

func TestWhyTellsOfAFailureThatTheAgentDoesNotKnow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	declared(t, f, func(s *reconciler.SyncStatus, _ *fleet.StackReport) { s.Plan.Stacks[0].Sync = fleet.OutOfSync })
	op := webOp()
	must(t, f.store.Begin(t.Context(), reconciler.Run{
		ID: "r1", Sync: "main", Trigger: reconciler.TriggerWebhook, Plan: plan.Plan{Commit: f.sources.desired["main"].Commit},
	}))
	must(t, f.store.OpStarted(t.Context(), "r1", "o1", op))
	must(t, f.store.OpEnded(t.Context(), "r1", op, reconciler.OpResult{
		Status: reconciler.OpFailed, Outcome: fleet.Outcome{Reason: "image a:2 does not exist", Hint: "push the image"},
	}))
	why, err := f.Why(t.Context(), "web")
	must(t, err)
	if !strings.Contains(why.Summary, "image a:2 does not exist") || why.LastOp == nil || why.Next[0] != "push the image" {
		t.Errorf("why: %+v", why)
	}
	var kinds []string
	for _, e := range why.Because {
		kinds = append(kinds, e.Kind)
	}
	if diff := cmp.Diff([]string{"op", "run"}, kinds); diff != "" || why.Good != nil {
		t.Errorf("what led to it (-want +got):\n%s", diff)
	}
	history, err := f.History(t.Context(), "web", api.Page{})
	must(t, err)
	if len(history) != 1 || history[0].Trigger != "webhook" {
		t.Errorf("history: %+v", history)
	}
}

func TestWhyKnowsSimilarNames(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	declared(t, f, nil)
	why, err := f.Why(t.Context(), "wbe")
	must(t, err)
	if why.Known || why.Summary == "" {
		t.Errorf("why: %+v", why)
	}
	if diff := cmp.Diff([]string{"web"}, why.Closest); diff != "" {
		t.Errorf("closest (-want +got):\n%s", diff)
	}
	why, err = newFixture(t).Why(t.Context(), "anything at all")
	must(t, err)
	if why.Known || why.Summary == "" {
		t.Errorf("in an empty fleet: %+v", why)
	}
}

func TestStatusJoinsWhatIsDeclaredPlannedJoinedAndObserved(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	declared(t, f, nil)
	f.agents.observed["beta"] = fleet.ServerReport{
		Server: "beta", Online: true, Agent: fleet.AgentInfo{EngineError: "permission denied"},
		Stacks: []fleet.StackReport{{Stack: "stray"}},
	}
	f.agents.observed["gamma"] = fleet.ServerReport{Server: "gamma"}
	status, err := f.Status(t.Context())
	must(t, err)
	type row struct {
		Name, Server string
		Sync         fleet.SyncState
		Health       fleet.HealthState
	}
	var got []row
	for _, s := range status.Servers {
		got = append(got, row{Name: s.Name, Sync: s.Sync, Health: s.Health})
	}
	for _, s := range status.Stacks {
		got = append(got, row{s.Name, s.Server, s.Sync, s.Health})
	}
	want := []row{
		{"alpha", "", fleet.Synced, fleet.Healthy},
		{"beta", "", fleet.SyncBlocked, fleet.HealthUnknown},
		{"gamma", "", fleet.SyncBlocked, fleet.HealthUnknown},
		{"web", "alpha", fleet.Synced, fleet.Healthy},
		{"stray", "beta", fleet.SyncUnknown, fleet.HealthUnknown},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if len(status.Syncs) != 1 || status.Syncs[0].State.Commit.Short() != "89abcdef" {
		t.Errorf("syncs %+v", status.Syncs)
	}
	server, err := f.Server(t.Context(), "alpha")
	must(t, err)
	if !server.Declared || server.Stacks != 1 {
		t.Errorf("server %+v", server)
	}
}
