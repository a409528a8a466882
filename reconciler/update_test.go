package reconciler_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

func newerImage(services ...string) map[string]plan.Cause {
	causes := map[string]plan.Cause{}
	for _, s := range services {
		causes[s] = plan.Cause{Kind: plan.CauseImage, Field: "image", From: "app:1 (aaa)", To: "app:1 (bbb)"}
	}
	return causes
}

func TestAnUpdateIsARecordedRunOfTheReleaseThatRuns(t *testing.T) {
	onBench(t, byHand, func(b *bench) {
		b.push("c1", stack("web", "alpha", "1"), stack("db", "alpha", "1"))
		req := reconciler.UpdateRequest{Sync: "home", Stack: "web", Server: "alpha", Causes: newerImage("app"), Actor: "ada"}
		if _, _, err := b.r.Update(b.Context(), req); !errors.Is(err, reconciler.ErrKeptBack) || len(b.fleet.orders) > 0 {
			b.Errorf("with nothing deployed: %v, %d orders", err, len(b.fleet.orders))
		}
		if _, _, err := b.r.Apply(b.Context(), reconciler.ApplyRequest{Sync: "home"}); err != nil {
			b.Fatal(err)
		}
		before := len(b.fleet.orders)
		run, result, err := b.r.Update(b.Context(), req)
		if err != nil || result.Status != reconciler.OpSucceeded || run.Actor != "ada" {
			b.Fatalf("run %+v, result %+v, %v", run, result, err)
		}
		orders := b.fleet.orders[before:]
		if len(orders) != 1 || orders[0].Kind != fleet.OrderUpdate || orders[0].Stack != "web" || orders[0].Force ||
			orders[0].Release.Digest != stack("web", "alpha", "1").Release.Digest || !slices.Equal(orders[0].Services, []string{"app"}) {
			b.Errorf("orders %+v", orders)
		}
		op := run.Plan.Ops[0]
		if len(run.Plan.Ops) != 1 || op.Causes[0].Kind != plan.CauseImage || op.Services[0].Action != plan.ActionRecreate || run.Plan.Totals.Update != 1 {
			b.Errorf("plan %+v", run.Plan)
		}
		if got := op.Causes[0].String(); !strings.Contains(got, "app") || !strings.Contains(got, "bbb") {
			b.Errorf("cause %q", got)
		}
		req.All = true
		if _, _, err := b.r.Update(b.Context(), req); err != nil {
			b.Fatal(err)
		}
		if order := b.fleet.orders[len(b.fleet.orders)-1]; len(order.Services) != 0 {
			b.Errorf("an update of all services is of %q", order.Services)
		}
	})
}

func TestAnUpdateIsKeptBackByWhatKeepsADeployBack(t *testing.T) {
	onBench(t, byHand, func(b *bench) {
		b.push("c1", stack("web", "alpha", "1"))
		if _, _, err := b.r.Apply(b.Context(), reconciler.ApplyRequest{Sync: "home"}); err != nil {
			b.Fatal(err)
		}
		req := reconciler.UpdateRequest{Sync: "home", Stack: "web", Server: "alpha", Causes: newerImage("app")}
		refused := func(why string) {
			b.Helper()
			before := len(b.fleet.orders)
			_, _, err := b.r.Update(b.Context(), req)
			if !errors.Is(err, reconciler.ErrKeptBack) || !strings.Contains(err.Error(), why) || len(b.fleet.orders) != before {
				b.Errorf("%v, want %q", err, why)
			}
		}
		b.fleet.connect("alpha", false)
		refused("alpha")
		b.fleet.connect("alpha", true)
		b.fleet.happen("alpha", "web", func(r *fleet.StackReport) { r.Containers = nil })
		refused("a deploy comes first")
		if _, _, err := b.r.Apply(b.Context(), reconciler.ApplyRequest{Sync: "home", Forced: []string{"web"}}); err != nil {
			b.Fatal(err)
		}
		b.push("c2", stack("web", "alpha", "2"))
		b.pass(time.Minute)
		refused("a deploy comes first")
		req.Stack = "none"
		refused("a deploy comes first")
	})
}

func TestAFailedUpdateIsNothingThatTheReleaseIsHeldBackFor(t *testing.T) {
	onBench(t, nothing, func(b *bench) {
		b.push("c1", stack("web", "alpha", "1"))
		b.pass(time.Minute)
		b.fleet.set(func(f *fakeFleet) {
			f.fail = func(o fleet.Order) (fleet.Outcome, error, bool) {
				return fleet.Outcome{Status: fleet.OutcomeRolledBack, Reason: "service app: exited with code 1"}, nil, o.Kind == fleet.OrderUpdate
			}
		})
		_, result, err := b.r.Update(b.Context(), reconciler.UpdateRequest{Sync: "home", Stack: "web", Server: "alpha", Causes: newerImage("app")})
		if err != nil || result.Status != reconciler.OpRolledBack {
			b.Fatalf("%+v, %v", result, err)
		}
		before := len(b.fleet.orders)
		b.pass(time.Hour)
		if len(b.fleet.orders) != before {
			b.Errorf("orders %+v", b.fleet.orders[before:])
		}
		b.push("c2", stack("web", "alpha", "2"))
		b.pass(time.Minute)
		if order := b.fleet.orders[len(b.fleet.orders)-1]; order.Kind != fleet.OrderApply {
			b.Errorf("the next release was not deployed: %+v", order)
		}
	})
}
