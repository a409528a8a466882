package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/reconciler/plan"
)

func TestBlockedWorkIsNoSuccess(t *testing.T) {
	t.Parallel()
	blocked := func(reasons ...plan.BlockReason) []plan.Blocked {
		var list []plan.Blocked
		for _, reason := range reasons {
			list = append(list, plan.Blocked{Op: plan.Op{Stack: "web", Server: "alpha"}, Reason: reason, Text: "why"})
		}
		return list
	}
	for name, c := range map[string]struct {
		blocked []plan.Blocked
		want    int
	}{
		"nothing":                  {nil, exit.OK},
		"a disabled server":        {blocked(plan.BlockDisabled), exit.OK},
		"a host that is away":      {blocked(plan.BlockOffline, plan.BlockDependency), exit.Unreachable},
		"its Docker is away":       {blocked(plan.BlockEngine), exit.Unreachable},
		"a bad release":            {blocked(plan.BlockBad), exit.Failed},
		"a bad release and a host": {blocked(plan.BlockOffline, plan.BlockBad), exit.Failed},
		"work under way":           {blocked(plan.BlockBusy), exit.Failed},
		"what the host forbids":    {blocked(plan.BlockPolicy), exit.Failed},
	} {
		err := blockedError(c.blocked)
		got := exit.OK
		if e, ok := errors.AsType[*exit.Error](err); ok {
			got = e.Code
		}
		if got != c.want {
			t.Errorf("%s: exits with %d, not %d (%v)", name, got, c.want, err)
		}
	}
}

func TestSummaryTellsWhatTheEventsLeftOut(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	view := progressView{liveBlock: liveBlock{out: &out}, result: &out, told: map[string]bool{}}
	done := api.Op{ID: "update db@alpha", Status: api.OpSucceeded}
	for _, e := range []api.ApplyEvent{
		{Kind: api.EventPlan, Plan: &plan.Plan{Blocked: []plan.Blocked{{Op: plan.Op{ID: "create web@beta"}, Text: "beta is away"}}}},
		{Kind: api.EventStarted, Op: done.ID},
		{Kind: api.EventEnded, Op: done.ID, Result: &done},
	} {
		if err := view.event(e); err != nil {
			t.Fatal(err)
		}
	}
	gated := api.Op{ID: "update vol@alpha", Status: api.OpSkipped, Reason: "waits for approval: volume vol/data@alpha"}
	if err := view.summary(api.RunResult{Status: api.OpSkipped, Ops: []api.Op{done, gated}}); err != nil {
		t.Fatal(err)
	}
	want := `✓ update db@alpha
– update vol@alpha  skipped
    waits for approval: volume vol/data@alpha
! create web@beta  blocked
    beta is away
Applied: 1 succeeded, 1 skipped, 1 blocked.
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestWhyTellsEachFactOnce(t *testing.T) {
	t.Parallel()
	why := api.Why{
		Summary: "update on alpha is blocked: it failed (fleet.toml:1:1)",
		LastOp:  &api.Op{},
		Details: []api.WhyDetail{
			{Kind: "blocked", Text: "update on alpha is blocked: it failed"},
			{Kind: "field", Field: "services.web.image", Text: "services.web.image: a -> b"},
			{Kind: "field", Service: "web", Field: "image", Text: "service web: image: a -> b"},
			{Kind: "drift", Service: "web", Field: "memory", Text: "service web: memory: 1 -> 2 (live)"},
			{Kind: "drift", Service: "web", Field: "memory", Text: "service web: memory is 2, deployed was 1"},
			{Kind: "bad", Text: "it failed"},
			{Kind: "last", Text: "last done: update"},
		},
	}
	var got []string
	for _, d := range worthSaying(why) {
		got = append(got, d.Text)
	}
	want := []string{"service web: image: a -> b", "service web: memory: 1 -> 2 (live)"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
