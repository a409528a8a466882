package reconciler_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
)

func TestAnOrderWaitsForItsTurnAmongTheOrdersOfRuns(t *testing.T) {
	onBench(t, nothing, func(b *bench) {
		b.fleet.set(func(f *fakeFleet) { f.takes["web"] = time.Minute })
		b.push("c1", stack("web", "alpha", "1"))
		began := time.Now()
		var news int
		outcome, err := b.r.Order(b.Context(), reconciler.OrderRequest{
			Kind: fleet.OrderRestart, Sync: "home", Stack: "web", Server: "alpha", Services: []string{"app"}, StopSeconds: 3,
			Watch: func(fleet.Progress) { news++ },
		})
		if err != nil || outcome.Status != fleet.OutcomeSucceeded || news != 1 {
			b.Errorf("outcome %+v, %v, %d news", outcome, err, news)
		}
		if took := time.Since(began); took < 2*time.Minute || b.fleet.most["web@alpha"] != 1 {
			b.Errorf("it took %s with %d at a time; want it after the deploy", took, b.fleet.most["web@alpha"])
		}
		order := b.fleet.orders[len(b.fleet.orders)-1]
		if order.Kind != fleet.OrderRestart || order.Project != "web" || order.StopSeconds != 3 || order.Release.Digest != "" {
			b.Errorf("order %+v", order)
		}
	})
}

func TestAPullCarriesTheDesiredRelease(t *testing.T) {
	onBench(t, byHand, func(b *bench) {
		b.push("c1", stack("web", "alpha", "1"))
		req := reconciler.OrderRequest{Kind: fleet.OrderPull, Sync: "home", Stack: "web", Server: "alpha"}
		if _, err := b.r.Order(b.Context(), req); err != nil {
			b.Fatal(err)
		}
		if want := stack("web", "alpha", "1").Release.Digest; b.fleet.orders[0].Release.Digest != want {
			b.Errorf("order %+v", b.fleet.orders[0])
		}
	})
}

func TestOrdersThatCannotBeGiven(t *testing.T) {
	onBench(t, byHand, func(b *bench) {
		b.push("c1", stack("web", "alpha", "1"))
		for want, req := range map[string]reconciler.OrderRequest{
			"needs a plan":      {Kind: fleet.OrderApply, Sync: "home", Stack: "web", Server: "alpha"},
			"unknown sync":      {Kind: fleet.OrderStop, Sync: "none", Stack: "web", Server: "alpha"},
			"declares no stack": {Kind: fleet.OrderStop, Sync: "home", Stack: "web", Server: "beta"},
		} {
			if _, err := b.r.Order(b.Context(), req); err == nil || !strings.Contains(err.Error(), want) {
				b.Errorf("%+v: %v, want %s", req, err, want)
			}
		}
		b.fleet.set(func(f *fakeFleet) {
			f.fail = func(fleet.Order) (fleet.Outcome, error, bool) {
				return fleet.Outcome{}, errors.New("alpha is away"), true
			}
		})
		if _, err := b.r.Order(b.Context(), reconciler.OrderRequest{Kind: fleet.OrderStop, Sync: "home", Stack: "web", Server: "alpha"}); err == nil {
			b.Error("an order that did not arrive is no error")
		}
	})
}

func TestAnOrderThatNobodyWaitsForDoesNotStart(t *testing.T) {
	onBench(t, nothing, func(b *bench) {
		b.fleet.set(func(f *fakeFleet) { f.takes["web"] = time.Hour })
		b.push("c1", stack("web", "alpha", "1"))
		ctx, leave := context.WithTimeout(b.Context(), time.Minute)
		defer leave()
		if _, err := b.r.Order(ctx, reconciler.OrderRequest{Kind: fleet.OrderStop, Sync: "home", Stack: "web", Server: "alpha"}); !errors.Is(err, context.DeadlineExceeded) {
			b.Errorf("err %v", err)
		}
		b.pass(2 * time.Hour)
		synctest.Wait()
		for _, order := range b.fleet.orders {
			if order.Kind == fleet.OrderStop {
				b.Error("it was given all the same")
			}
		}
	})
}
