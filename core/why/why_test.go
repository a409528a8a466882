package why_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/why"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// fleetOf is a sync "home" that declares web on alpha and beta, where all is well, and a procedure.
func fleetOf() *why.State {
	commit := fleet.Commit{ID: "89abcdef01234567", Subject: "Bump the image", Author: "Ada <ada@example.org>"}
	older := fleet.Commit{ID: "fedcba9876543210", Subject: "Begin", Author: "Bob <bob@example.org>"}
	s := &why.State{Now: now, Observed: fleet.Observed{}}
	source := why.Source{
		Sync: api.Sync{Name: "home", Branch: "main"},
		Status: reconciler.SyncStatus{
			Sync: "home", Head: commit, Good: commit, AutoApply: true, LastPass: now.Add(-12 * time.Second), NextPoll: now.Add(48 * time.Second),
			Plan: plan.Plan{Sync: "home", Commit: commit},
		},
		Desired: fleet.Desired{Sync: "home", Commit: commit},
	}
	for i, server := range []string{"alpha", "beta"} {
		at := fleet.Position{File: "fleet.toml", Line: i + 1, Col: 1}
		source.Desired.Servers = append(source.Desired.Servers, fleet.Server{Name: server, Enabled: true, Origin: at})
		source.Desired.Stacks = append(source.Desired.Stacks, fleet.Stack{Name: "web", Server: server, Origin: at})
		source.Status.Plan.Stacks = append(source.Status.Plan.Stacks, plan.StackState{
			Stack: "web", Server: server, Sync: fleet.Synced, Health: fleet.Healthy,
		})
		s.Observed[server] = fleet.ServerReport{
			Server: server, Online: true, Received: now.Add(-2 * time.Hour),
			Stacks: []fleet.StackReport{{Stack: "web", Release: fleet.Release{Commit: older}}},
		}
		s.Stacks = append(s.Stacks, api.Stack{Name: "web", Server: server, Source: "home", Sync: fleet.Synced, Health: fleet.Healthy})
		s.Servers = append(s.Servers, api.Server{
			Name: server, Online: true, Enabled: true, PublicKey: "k", LastSeen: now.Add(-2 * time.Hour), Stacks: 1,
			Sync: fleet.Synced, Health: fleet.Healthy,
		})
	}
	s.Sources = []why.Source{source}
	s.Procedures = []api.Procedure{{Name: "nightly", Source: "home", Origin: fleet.Position{File: "ops.toml", Line: 4}}}
	return s
}

func update() plan.Op {
	return plan.Op{
		ID: "update web@alpha", Kind: plan.OpUpdate, Stack: "web", Server: "alpha", StackAfter: []string{"db"},
		Services: []plan.ServiceChange{{Service: "app", Action: plan.ActionRecreate, Causes: []plan.Cause{
			{Kind: plan.CauseField, Field: "image", From: "a:1", To: "a:2"},
		}}},
	}
}

// blocked keeps the update of web on alpha from being done.
func blocked(reason plan.BlockReason, text, hint string) func(*why.State) {
	return func(s *why.State) {
		p := &s.Sources[0].Status.Plan
		p.Blocked = []plan.Blocked{{Op: update(), Reason: reason, Text: text, Hint: hint}}
		p.Stacks[0].Sync, s.Stacks[0].Sync = fleet.SyncBlocked, fleet.SyncBlocked
	}
}

func TestEveryAnswerSaysWhyAndWhatToTypeNext(t *testing.T) {
	t.Parallel()
	ran := func(status api.ProcedureStatus, reason string) func(*why.State) {
		return func(s *why.State) {
			s.Procedures[0].LastRun = &api.ProcedureRun{
				ID: "run-7", Actor: "schedule", Status: status, Reason: reason, Created: now.Add(-time.Hour), Ended: now.Add(-59 * time.Minute),
			}
		}
	}
	scheduled := func(change func(*api.Schedule)) func(*why.State) {
		return func(s *why.State) {
			one := api.Schedule{Procedure: "nightly", Source: "home", Expression: "every day at 03:00", Timezone: "UTC", Enabled: true}
			one.Next = []api.NextRun{{At: now.Add(15 * time.Hour)}}
			change(&one)
			s.Schedules = []api.Schedule{one}
		}
	}
	for name, tc := range map[string]struct {
		of     string
		change func(*why.State)
		says   []string
		next   []string
	}{
		"a stack that a commit did not change": {
			of: "web@alpha", says: []string{`89abcdef ("Bump the image" by Ada)`, `nothing of it changed since commit fedcba98 ("Begin" by Bob)`, "on beta it is Synced"},
		},
		"a suspended stack": {
			of: "web@alpha", next: []string{"varan resume stack/web@alpha"},
			change: func(s *why.State) {
				s.Suspensions = []plan.Suspension{{Kind: "stack", Name: "web", Server: "alpha", Until: now.Add(90 * time.Minute), By: "ada", Reason: "disk", At: now.Add(-time.Minute)}}
				blocked(plan.BlockSuspended, "suspended by ada", "varan resume stack/web@alpha")(s)
			},
			says: []string{"stack/web@alpha is suspended by ada until 2026-11-25 13:30:00 UTC: disk; since", "(1m ago)", "waits for the end of that", "image: a:1 -> a:2"},
		},
		"a suspended sync": {
			of: "web@alpha", next: []string{"varan resume sync/home"}, says: []string{"sync/home is suspended by bob"},
			change: func(s *why.State) {
				s.Suspensions = []plan.Suspension{{Kind: plan.KindSync, Name: "home", By: "bob"}, {Kind: plan.KindServer, Name: "beta", By: "ada"}}
			},
		},
		"an offline server": {
			of: "web", change: blocked(plan.BlockOffline, "server alpha is offline", "it catches up as soon as its agent connects"),
			says: []string{"server alpha is offline, last heard of at 2026-11-25 10:00:00 UTC (2h ago)"},
			next: []string{"it catches up", "varan why server/alpha"},
		},
		"a dependency": {
			of: "web", change: blocked(plan.BlockDependency, "comes after db@alpha: it failed", ""), says: []string{"comes after db@alpha"},
			next: []string{"varan why db"},
		},
		"a loop": {
			of: "web", change: blocked(plan.BlockLoop, "stopped after two identical deploys: service app: image does not converge", "varan release web"),
			says: []string{"service app: image does not converge"}, next: []string{"varan release web"},
		},
		"a plan over its limits": {
			of: "web@alpha", says: []string{"needs consent: more would change"}, next: []string{`varan apply home --approve "limits"`},
			change: func(s *why.State) {
				op := update()
				op.Gates = []string{plan.LimitsGate}
				p := &s.Sources[0].Status.Plan
				p.Ops, p.Gates = []plan.Op{op}, []plan.Gate{{ID: plan.LimitsGate, Kind: plan.GateLimits, Text: "more would change at once", Ops: []string{op.ID}}}
			},
		},
		"a newer image that is too young": {
			of: "web@alpha", says: []string{"runs on alpha", "a:1 stands for a newer image than the one that runs: it is 1h old, 24h are asked for"},
			next: []string{"varan updates web --apply"},
			change: func(s *why.State) {
				s.Updates = []api.Update{{Stack: "web", Server: "alpha", Service: "app", Image: "a:1", State: api.UpdateTooYoung, Reason: "it is 1h old, 24h are asked for"}}
			},
		},
		"a newer image that nobody deploys": {
			of: "web@alpha", says: []string{"auto_update is off"}, next: []string{"varan updates web --apply"},
			change: func(s *why.State) {
				s.Updates = []api.Update{{Stack: "web", Server: "alpha", Service: "app", Image: "a:1", State: api.UpdateAvailable}}
			},
		},
		"a server that is away": {
			of: "alpha", says: []string{"its agent is not connected, since 2026-11-25 10:00:00 UTC (2h ago)"}, next: []string{"systemctl status varan-agent"},
			change: func(s *why.State) { s.Servers[0].Online, s.Servers[0].Text = false, "its agent is not connected" },
		},
		"a server that waits": {
			of: "server/beta", says: []string{"waits for approval"}, next: []string{"varan server approve beta"},
			change: func(s *why.State) { s.Servers[1].Pending, s.Servers[1].Text = true, "waits for approval" },
		},
		"a server with a stack that is unwell": {
			of: "server/beta", says: []string{"stack web is Synced / Degraded: 1 of 1 containers down"}, next: []string{"varan why web@beta"},
			change: func(s *why.State) { s.Stacks[1].Health, s.Stacks[1].Text = fleet.Degraded, "1 of 1 containers down" },
		},
		"a sync at rest": {
			of: "sync/home", says: []string{"the fleet is as commit 89abcdef", "(12s ago)", "(in 48s)"}, next: []string{"varan sync run home"},
		},
		"a sync that does not apply by itself": {
			of: "home", says: []string{"1 change is of commit 89abcdef"}, next: []string{"varan apply home"},
			change: func(s *why.State) {
				s.Sources[0].Status.AutoApply, s.Sources[0].Status.Plan.Ops = false, []plan.Op{update()}
			},
		},
		"a procedure that waits": {
			of: "nightly", change: ran(api.ProcedureWaiting, ""), says: []string{"waits for an approval"}, next: []string{"varan procedure approve nightly"},
		},
		"a procedure that failed": {
			of: "procedure/nightly", change: ran(api.ProcedureFailed, "stage one: it will not"), says: []string{"failed after 1m: stage one: it will not"},
			next: []string{"varan procedure show run-7", "varan run nightly"},
		},
		"a procedure with a schedule": {
			of: "schedule/nightly", change: scheduled(func(*api.Schedule) {}), says: []string{"runs next at 2026-11-26 03:00:00 UTC (in 15h)"},
			next: []string{"varan run nightly"},
		},
		"a name with spaces": {
			of: "procedure/Clean up", next: []string{"varan run 'Clean up'"}, says: []string{"procedure Clean up never ran, and has no schedule"},
			change: func(s *why.State) { s.Procedures[0].Name = "Clean up" },
		},
		"a schedule that is switched off": {
			of: "nightly", change: scheduled(func(s *api.Schedule) { s.Enabled, s.Next = false, nil }), says: []string{"is switched off"},
			next: []string{"set schedule_enabled = true at ops.toml:4"},
		},
		"what there is not": {of: "server/gamma", says: []string{`no sync declares a server "gamma"`}, next: []string{"varan get servers"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fleetOf()
			if tc.change != nil {
				tc.change(s)
			}
			of, _ := s.Find(tc.of)
			answer := why.Explain(of, s, why.Records{})
			text := answer.Summary
			for _, d := range answer.Details {
				text += "\n" + d.Text
			}
			for _, want := range tc.says {
				if !strings.Contains(text, want) {
					t.Errorf("it does not say %q:\n%s", want, text)
				}
			}
			next := strings.Join(answer.Next, "\n")
			for _, want := range tc.next {
				if !strings.Contains(next, want) {
					t.Errorf("next lacks %q:\n%s", want, next)
				}
			}
		})
	}
}

func TestAPlainNameIsAStackIfThereIsOne(t *testing.T) {
	t.Parallel()
	s := fleetOf()
	s.Stacks = append(s.Stacks, api.Stack{Name: "alpha", Server: "beta"})
	s.Stacks[1].Health = fleet.Degraded
	for text, want := range map[string]why.Subject{
		"web":               {Kind: why.KindStack, Name: "web", Server: "beta"}, // where it is worst
		"web@alpha":         {Kind: why.KindStack, Name: "web", Server: "alpha"},
		"deployment/web":    {Kind: why.KindStack, Name: "web", Server: "beta"},
		"alpha":             {Kind: why.KindStack, Name: "alpha", Server: "beta"},
		"server/alpha":      {Kind: why.KindServer, Name: "alpha"},
		"beta":              {Kind: why.KindServer, Name: "beta"},
		"home":              {Kind: why.KindSync, Name: "home"},
		"schedule/nightly":  {Kind: why.KindProcedure, Name: "nightly"},
		"resource_sync/foo": {Kind: why.KindSync, Name: "foo"},
		"web@gamma":         {Kind: why.KindStack, Name: "web", Server: "gamma"},
	} {
		got, known := s.Find(text)
		if diff := cmp.Diff(want, got); diff != "" || known == (text == "resource_sync/foo" || text == "web@gamma") {
			t.Errorf("%s (-want +got), known %t:\n%s", text, known, diff)
		}
	}
}

// The error of a repository says whose it is; so does the answer, and once is enough.
func TestThatASyncCannotBeReadIsSaidOnce(t *testing.T) {
	s := fleetOf()
	s.Sources[0].Status.Error = "sync home cannot be read: connection refused"
	for of, want := range map[why.Subject]string{
		{Kind: why.KindStack, Name: "nothing"}:              "sync home cannot be read: connection refused",
		{Kind: why.KindStack, Name: "web", Server: "alpha"}: "sync home cannot be read, so commit 89abcdef stays in force: connection refused",
	} {
		var told []string
		for _, d := range why.Explain(of, s, why.Records{}).Details {
			if d.Kind == "error" {
				told = append(told, d.Text)
			}
		}
		if len(told) != 1 || !strings.HasPrefix(told[0], want) {
			t.Errorf("%s: %q, want %q", of.Name, told, want)
		}
	}
}
