package reconciler_test

import (
	"testing"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
)

func TestInvalidHeadStallsAndTheLastGoodCommitHeals(t *testing.T) {
	onBench(t, func(b *bench) {
		b.commit("c1", stack("web", "alpha", "1"))
	}, func(b *bench) {
		b.pass(time.Second)
		b.commit("c2", stack("web", "alpha", "2"))
		b.source.set(func(s *fakeSource) {
			s.head.Diagnostics = fleet.Diagnostics{{Rule: "unknown-key", Severity: fleet.SeverityError, Message: "no"}}
		})
		b.r.Poke("home", reconciler.TriggerWebhook, "webhook")
		b.pass(time.Minute)
		s := b.status()
		if s.Phase != reconciler.PhaseStalled || s.Good.ID != "c1" || s.Head.ID != "c2" || len(b.fleet.dispatched()) != 1 {
			b.Errorf("phase %s, good %s, head %s, orders %v", s.Phase, s.Good.ID, s.Head.ID, b.fleet.dispatched())
		}
		b.fleet.happen("alpha", "web", func(r *fleet.StackReport) { r.Containers = nil })
		b.r.PokeServer("alpha", []string{"web"})
		b.pass(time.Second)
		if got := b.fleet.orders; len(got) != 2 || got[1].Release.Services[0].Image != "app:1" {
			b.Errorf("orders: %v", b.fleet.dispatched())
		}
	})
}

// What an agent has on its host may be what the commit lacked.
func TestAServerThatComesIsALookAtTheSourceForWhoWaitsForIt(t *testing.T) {
	onBench(t, func(b *bench) {
		b.commit("c1", stack("web", "alpha", "1"))
		b.source.set(func(s *fakeSource) {
			s.head.Diagnostics = fleet.Diagnostics{{Rule: "undefined-variable", Severity: fleet.SeverityError, Message: "no"}}
		})
	}, func(b *bench) {
		b.pass(time.Second)
		if s := b.status(); s.Phase != reconciler.PhaseStalled {
			b.Fatalf("phase %s", s.Phase)
		}
		b.source.set(func(s *fakeSource) { s.head.Diagnostics = nil })
		b.r.PokeServer("alpha", nil)
		b.pass(time.Second)
		if got := len(b.fleet.dispatched()); got != 1 {
			b.Errorf("%d orders after the server came", got)
		}
		loads := b.source.count()
		b.r.PokeServer("alpha", nil)
		b.pass(time.Second)
		if b.source.count() != loads {
			b.Error("with nothing to wait for, a report looked at the source")
		}
		lost := fleet.Stack{Name: "web", Server: "alpha", Unreadable: "away"}
		b.commit("c2", lost)
		b.r.Poke("home", reconciler.TriggerWebhook, "webhook")
		b.pass(time.Minute)
		loads = b.source.count()
		b.r.PokeServer("beta", nil)
		b.r.PokeServer("alpha", nil)
		b.pass(time.Second)
		if got := b.source.count() - loads; got != 1 || len(b.fleet.dispatched()) != 1 {
			b.Errorf("%d loads, want 1; %d orders", got, len(b.fleet.dispatched()))
		}
	})
}

func TestAServerThatComesWhileTheSourceIsReadIsNotMissed(t *testing.T) {
	onBench(t, func(b *bench) {
		b.commit("c1", stack("db", "alpha", "1"))
	}, func(b *bench) {
		b.pass(time.Second)
		loads := b.source.count()
		b.source.set(func(s *fakeSource) { s.takes = 5 * time.Second })
		b.commit("c2", stack("db", "alpha", "1"), fleet.Stack{Name: "web", Server: "alpha", Unreadable: "away"})
		b.r.Poke("home", reconciler.TriggerWebhook, "webhook")
		b.pass(time.Second)
		b.commit("c2", stack("db", "alpha", "1"), stack("web", "alpha", "1"))
		b.r.PokeServer("beta", nil)
		b.r.PokeServer("alpha", nil)
		b.pass(20 * time.Second)
		if loads, orders := b.source.count()-loads, len(b.fleet.dispatched()); loads != 2 || orders != 2 {
			b.Errorf("%d loads, want 2; %d orders, want 2", loads, orders)
		}
	})
}
