package reconciler_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
)

func nothing(*bench) {}

func TestCommitBecomesRunningInOrder(t *testing.T) {
	onBench(t, func(b *bench) {
		b.commit("c1", stack("web", "beta", "1", "api"), stack("api", "alpha", "1", "db"), stack("db", "alpha", "1"))
	}, func(b *bench) {
		b.pass(time.Second)
		if diff := cmp.Diff([]string{"db", "api", "web"}, b.fleet.dispatched()); diff != "" {
			b.Errorf("orders (-want +got):\n%s", diff)
		}
		s := b.status()
		if !s.Plan.Empty() || s.Phase != reconciler.PhaseIdle || s.Good.ID != "c1" {
			b.Errorf("not settled: %s %s\n%s", s.Phase, s.Good.ID, s.Plan)
		}
		if s.Result == nil || s.Result.Status != reconciler.OpSucceeded || s.Run.Trigger != reconciler.TriggerStart {
			b.Errorf("last run %+v, result %+v", s.Run, s.Result)
		}
		if len(b.journal.owned) != 3 {
			b.Errorf("owned: %v", b.journal.owned)
		}
	})
}

func TestPassesThatFindNothingWriteNothing(t *testing.T) {
	onBench(t, func(b *bench) {
		b.commit("c1", stack("web", "alpha", "1"))
	}, func(b *bench) {
		b.pass(time.Hour)
		if begun, ended := b.journal.counts(); begun != 1 || ended != 1 {
			b.Errorf("%d runs begun, %d ended", begun, ended)
		}
		if s := b.status(); s.Passes < 54 || s.Passes > 68 {
			b.Errorf("%d passes in an hour of 60 s polls", s.Passes)
		}
	})
}

func TestBurstOfPokesIsTwoPasses(t *testing.T) {
	onBench(t, nothing, func(b *bench) {
		b.pass(time.Second)
		before := b.source.count()
		b.source.set(func(s *fakeSource) { s.takes = 200 * time.Millisecond })
		b.commit("c2", stack("web", "alpha", "1"))
		coalesced := 0
		for range 20 {
			if b.r.Poke("home", reconciler.TriggerWebhook, "webhook") {
				coalesced++
			}
			b.pass(5 * time.Millisecond)
		}
		b.pass(2 * time.Second)
		if passes := b.source.count() - before; passes > 2 {
			b.Errorf("%d passes", passes)
		}
		if coalesced < 18 {
			b.Errorf("%d pokes coalesced", coalesced)
		}
		if got := b.fleet.dispatched(); len(got) != 1 {
			b.Errorf("orders: %v", got)
		}
	})
}

func TestSlowServerDelaysNoOther(t *testing.T) {
	onBench(t, func(b *bench) {
		b.fleet.takes["slow"] = time.Hour
		b.commit("c1", stack("slow", "beta", "1"), stack("web", "alpha", "1"))
	}, func(b *bench) {
		b.pass(time.Second)
		b.push("c2", stack("slow", "beta", "2"), stack("web", "alpha", "2"))
		b.pass(time.Second)
		report, _ := b.fleet.Observed()["alpha"].Stack("web")
		if report.Release.Services[0].Image != "app:2" {
			b.Error("the second commit waits for the slow server")
		}
		if diff := cmp.Diff([]string{"slow", "web", "web"}, sorted(b.fleet.dispatched())); diff != "" {
			b.Errorf("orders (-want +got):\n%s", diff)
		}
		b.pass(2 * time.Hour)
		report, _ = b.fleet.Observed()["beta"].Stack("slow")
		if report.Release.Services[0].Image != "app:2" {
			b.Error("the second commit never reached the slow server")
		}
	})
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

func TestNothingRunsAfterAFailure(t *testing.T) {
	// A diamond and a tail: a <- b, c <- d <- e, and f on its own.
	all := []fleet.Stack{
		stack("a", "alpha", "1"), stack("b", "alpha", "1", "a"), stack("c", "beta", "1", "a"),
		stack("d", "beta", "1", "b", "c"), stack("e", "alpha", "1", "d"), stack("f", "beta", "1"),
	}
	below := map[string]string{"a": "bcde", "b": "de", "c": "de", "d": "e", "e": "", "f": ""}
	for failing, dependents := range below {
		t.Run(failing, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.commit("c1", all...)
				b.fleet.fail = func(o fleet.Order) (fleet.Outcome, error, bool) {
					return fleet.Outcome{Status: fleet.OutcomeFailed, Reason: "no"}, nil, o.Stack == failing
				}
			}, func(b *bench) {
				b.pass(time.Minute)
				for _, stack := range b.fleet.dispatched() {
					if strings.Contains(dependents, stack) {
						b.Errorf("%s ran although %s failed", stack, failing)
					}
				}
				if want := 6 - len(dependents); len(b.fleet.dispatched()) != want {
					b.Errorf("%v ran, want %d", b.fleet.dispatched(), want)
				}
				if s := b.status(); s.Result.Status != reconciler.OpFailed {
					b.Errorf("result %s", s.Result.Status)
				}
			})
		})
	}
}

func TestUnrecordedSuccessOpensNoEdge(t *testing.T) {
	onBench(t, func(b *bench) {
		b.commit("c1", stack("db", "alpha", "1"), stack("web", "alpha", "1", "db"))
		b.journal.failing = "OpEnded"
	}, func(b *bench) {
		b.pass(time.Second)
		first := b.journal.results[0]
		for op, want := range map[string]reconciler.OpStatus{
			"create db@alpha": reconciler.OpFailed, "create web@alpha": reconciler.OpSkipped,
		} {
			i := slices.IndexFunc(first.Ops, func(r reconciler.OpResult) bool { return r.Op == op })
			if first.Ops[i].Status != want {
				b.Errorf("%s: %+v, want %s", op, first.Ops[i], want)
			}
		}
	})
}

func TestUnrecordedRunDoesNothing(t *testing.T) {
	onBench(t, func(b *bench) {
		b.commit("c1", stack("db", "alpha", "1"))
		b.journal.failing = "Begin"
	}, func(b *bench) {
		b.pass(time.Second)
		if got := b.fleet.dispatched(); len(got) > 0 {
			b.Errorf("ran %v", got)
		}
		if b.status().Error == "" {
			b.Error("no error in the status")
		}
		begun, _ := b.journal.counts()
		b.pass(time.Hour)
		if more, _ := b.journal.counts(); more-begun > 80 {
			b.Errorf("%d tries in an hour", more-begun)
		}
		b.journal.set(func(j *fakeJournal) { j.failing = "" })
		b.pass(10 * time.Minute)
		if got := b.fleet.dispatched(); len(got) != 1 {
			b.Errorf("ran %v once the journal works", got)
		}
	})
}

func TestNewerCommitSupersedesWhatHasNotStarted(t *testing.T) {
	onBench(t, func(b *bench) {
		for _, name := range []string{"a", "b", "c"} {
			b.fleet.takes[name] = time.Minute
		}
		// Two at a time: c waits for its server.
		b.commit("c1", stack("a", "alpha", "1"), stack("b", "alpha", "1"), stack("c", "alpha", "1"))
	}, func(b *bench) {
		b.pass(time.Second)
		waiting := sole(b, []string{"a", "b", "c"}, b.fleet.dispatched())
		b.push("c2", stack("a", "alpha", "2"), stack("b", "alpha", "2"), stack("c", "alpha", "2"))
		b.pass(time.Hour)
		orders := map[string][]string{}
		for _, o := range b.fleet.orders {
			orders[o.Stack] = append(orders[o.Stack], o.Release.Services[0].Image)
		}
		if diff := cmp.Diff([]string{"app:2"}, orders[waiting]); diff != "" {
			b.Errorf("%s (-want +got):\n%s", waiting, diff)
		}
		first := b.journal.results[0]
		i := slices.IndexFunc(first.Ops, func(r reconciler.OpResult) bool { return r.Op == "create "+waiting+"@alpha" })
		if first.Ops[i].Status != reconciler.OpCanceled || !strings.Contains(first.Ops[i].Reason, "superseded") {
			b.Errorf("result of the superseded op: %+v", first.Ops[i])
		}
	})
}

// sole finds the one of all that is not in some.
func sole(b *bench, all, some []string) string {
	b.Helper()
	rest := slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(some, s) })
	if len(rest) != 1 {
		b.Fatalf("%v of %v", some, all)
	}
	return rest[0]
}

func TestRetryableFailuresBackOff(t *testing.T) {
	onBench(t, func(b *bench) {
		b.commit("c1", stack("web", "alpha", "1"))
		b.fleet.fail = func(fleet.Order) (fleet.Outcome, error, bool) {
			return fleet.Outcome{Status: fleet.OutcomeFailed, Reason: "registry timeout", Retryable: true}, nil, true
		}
	}, func(b *bench) {
		b.pass(time.Hour)
		tries := len(b.fleet.dispatched())
		if tries < 12 || tries > 80 {
			b.Errorf("%d tries in an hour", tries)
		}
		b.fleet.set(func(f *fakeFleet) { f.fail = nil })
		b.pass(6 * time.Minute)
		if got := len(b.fleet.dispatched()); got != tries+1 || !b.status().Plan.Empty() {
			b.Errorf("%d more tries once it works", got-tries)
		}
	})
}

func TestUnreachableAgentIsTriedAgain(t *testing.T) {
	onBench(t, func(b *bench) {
		b.commit("c1", stack("web", "alpha", "1"))
		b.fleet.fail = func(fleet.Order) (fleet.Outcome, error, bool) {
			return fleet.Outcome{}, errors.New("connection lost"), len(b.fleet.dispatched()) < 3
		}
	}, func(b *bench) {
		b.pass(time.Minute)
		if got := len(b.fleet.dispatched()); got != 3 || !b.status().Plan.Empty() {
			b.Errorf("%d tries\n%s", got, b.status().Plan)
		}
	})
}

func TestFailedReleaseIsNotRetriedUntilAnother(t *testing.T) {
	onBench(t, func(b *bench) {
		b.commit("c1", stack("web", "alpha", "1"))
		b.fleet.fail = func(o fleet.Order) (fleet.Outcome, error, bool) {
			return fleet.Outcome{Status: fleet.OutcomeRolledBack, Reason: "exited with code 1"}, nil,
				o.Release.Services[0].Image == "app:1"
		}
	}, func(b *bench) {
		b.pass(time.Hour)
		if got := len(b.fleet.dispatched()); got != 1 {
			b.Fatalf("%d tries", got)
		}
		b.push("c2", stack("web", "alpha", "2"))
		b.pass(time.Second)
		if got := len(b.fleet.dispatched()); got != 2 || !b.status().Plan.Empty() {
			b.Errorf("%d orders\n%s", got, b.status().Plan)
		}
	})
}

func TestManualPokeForgetsHeldWork(t *testing.T) {
	onBench(t, func(b *bench) {
		b.commit("c1", stack("web", "alpha", "1"))
		b.fleet.fail = func(fleet.Order) (fleet.Outcome, error, bool) {
			return fleet.Outcome{Status: fleet.OutcomeFailed, Reason: "no"}, nil, len(b.fleet.dispatched()) == 1
		}
	}, func(b *bench) {
		b.pass(time.Minute)
		b.r.Poke("home", reconciler.TriggerManual, "ada")
		b.pass(time.Second)
		if got := len(b.fleet.dispatched()); got != 2 {
			b.Errorf("%d orders", got)
		}
	})
}

func TestReportsHealWithoutALookAtTheSource(t *testing.T) {
	onBench(t, func(b *bench) {
		b.commit("c1", stack("web", "alpha", "1"))
	}, func(b *bench) {
		b.pass(time.Second)
		loads := b.source.count()
		b.fleet.happen("alpha", "web", func(r *fleet.StackReport) { r.Containers[0].State = fleet.StateExited })
		for range 10 {
			b.r.PokeServer("alpha", []string{"web"})
		}
		b.pass(100 * time.Millisecond)
		if got := len(b.fleet.dispatched()); got != 2 {
			b.Errorf("%d orders", got)
		}
		if b.source.count() != loads {
			b.Error("a report looked at the source")
		}
		checks := b.status().Checks
		b.r.PokeServer("gamma", nil)
		b.r.PokeServer("alpha", []string{"someone else's"})
		b.pass(time.Second)
		if b.status().Checks != checks {
			b.Error("reports that do not concern the sync woke it")
		}
	})
}

func TestSlowSourceDoesNotDelayHealing(t *testing.T) {
	onBench(t, func(b *bench) {
		b.commit("c1", stack("web", "alpha", "1"))
	}, func(b *bench) {
		b.pass(time.Second)
		b.source.set(func(s *fakeSource) { s.takes = time.Hour })
		b.r.Poke("home", reconciler.TriggerWebhook, "webhook")
		b.pass(time.Second)
		b.fleet.happen("alpha", "web", func(r *fleet.StackReport) { r.Containers = nil })
		b.r.PokeServer("alpha", nil)
		b.pass(time.Second)
		if got := len(b.fleet.dispatched()); got != 2 {
			b.Errorf("%d orders", got)
		}
		b.source.set(func(s *fakeSource) { s.takes = 0 })
	})
}

func TestStackThatDiesAgainAndAgainIsNotHealedInASpin(t *testing.T) {
	onBench(t, func(b *bench) {
		b.commit("c1", stack("web", "alpha", "1"))
	}, func(b *bench) {
		b.pass(time.Second)
		for range 1200 {
			b.fleet.happen("alpha", "web", func(r *fleet.StackReport) { r.Containers[0].State = fleet.StateExited })
			b.r.PokeServer("alpha", nil)
			b.pass(3 * time.Second)
		}
		if got := len(b.fleet.dispatched()); got < 8 || got > 100 {
			b.Errorf("%d orders in an hour", got)
		}
	})
}

func TestOfflineServerCatchesUp(t *testing.T) {
	onBench(t, func(b *bench) {
		b.fleet.connect("beta", false)
		b.commit("c1", stack("web", "beta", "1"))
	}, func(b *bench) {
		b.pass(10 * time.Minute)
		if begun, _ := b.journal.counts(); begun != 0 || len(b.status().Plan.Blocked) != 1 {
			b.Fatalf("%d runs\n%s", begun, b.status().Plan)
		}
		b.fleet.connect("beta", true)
		b.r.PokeServer("beta", nil)
		b.pass(100 * time.Millisecond)
		if got := len(b.fleet.dispatched()); got != 1 {
			b.Errorf("%d orders", got)
		}
	})
}

func TestAServerThatComesWhileAPassLooksIsNotMissed(t *testing.T) {
	onBench(t, func(b *bench) {
		b.fleet.connect("beta", false)
		b.commit("c1", stack("web", "beta", "1"))
		b.fleet.looked = sync.OnceFunc(func() {
			b.fleet.connect("beta", true)
			b.r.PokeServer("beta", nil)
		})
	}, func(b *bench) {
		b.pass(time.Second)
		if got := len(b.fleet.dispatched()); got != 1 {
			b.Errorf("%d orders\n%s", got, b.status().Plan)
		}
	})
}

func TestLateReportDoesNotRepeatAnOrder(t *testing.T) {
	onBench(t, func(b *bench) {
		b.fleet.mute = true
		b.commit("c1", stack("web", "alpha", "1"), stack("api", "alpha", "1"))
	}, func(b *bench) {
		b.pass(10 * time.Minute)
		if got := sorted(b.fleet.dispatched()); !slices.Equal(got, []string{"api", "web"}) {
			b.Errorf("orders: %v", got)
		}
	})
}

func TestSyncThatOnlyPlansAppliesNothing(t *testing.T) {
	onBench(t, func(b *bench) {
		b.source.head.AutoApply = false
		b.commit("c1", stack("web", "alpha", "1"))
	}, func(b *bench) {
		b.pass(time.Hour)
		if got := b.fleet.dispatched(); len(got) > 0 {
			b.Errorf("applied %v", got)
		}
		if s := b.status(); len(s.Plan.Ops) != 1 || s.Run != nil {
			b.Errorf("status %+v", s)
		}
	})
}

func TestStackThatRunsAsDeclaredIsAdoptedWhenTheRecordIsLost(t *testing.T) {
	onBench(t, nothing, func(b *bench) {
		b.push("c1", stack("web", "alpha", "1"))
		b.pass(time.Minute)
		b.journal.mu.Lock()
		clear(b.journal.owned)
		b.journal.mu.Unlock()
		b.r.Poke("home", reconciler.TriggerManual, "ann")
		b.pass(time.Second)
		owned, _, err := b.journal.Inventory(b.Context(), "home")
		if err != nil || len(owned) != 1 || owned[0].Stack != "web" || owned[0].Server != "alpha" {
			b.Errorf("the inventory is %+v, %v", owned, err)
		}
		if got := b.fleet.dispatched(); len(got) != 1 {
			b.Errorf("adopting sent orders: %v", got)
		}
	})
}

func TestBurstThatOutlastsPassesMakesTwo(t *testing.T) {
	onBench(t, nothing, func(b *bench) {
		b.pass(time.Minute)
		before := b.status().Passes
		for range 20 {
			b.r.Poke("home", reconciler.TriggerWebhook, "webhook")
			b.pass(20 * time.Millisecond)
		}
		if got := b.status().Passes - before; got != 1 {
			b.Errorf("%d passes during the burst, want the first webhook's alone", got)
		}
		b.pass(5 * time.Second)
		if got := b.status().Passes - before; got != 2 {
			b.Errorf("%d passes for the burst, want 2", got)
		}
	})
}

func TestRequestAppliesOnceForASyncThatOnlyPlans(t *testing.T) {
	onBench(t, func(b *bench) {
		b.source.head.AutoApply = false
		b.commit("c1", stack("web", "alpha", "1"))
	}, func(b *bench) {
		b.pass(time.Minute)
		b.r.PokeApply("home", reconciler.TriggerWebhook, "webhook")
		b.pass(time.Minute)
		if got := b.fleet.dispatched(); !slices.Equal(got, []string{"web"}) {
			b.Errorf("applied %v", got)
		}
		b.commit("c2", stack("web", "alpha", "2"))
		b.pass(time.Hour)
		if got := b.fleet.dispatched(); len(got) != 1 {
			b.Errorf("the next commit was applied too: %v", got)
		}
	})
}

func TestServerLimitHolds(t *testing.T) {
	var stacks []fleet.Stack
	for name := range strings.SplitSeq("abcdefgh", "") {
		stacks = append(stacks, stack(name, "alpha", "1"))
	}
	onBench(t, func(b *bench) {
		for _, s := range stacks {
			b.fleet.takes[s.Name] = time.Second
		}
		b.commit("c1", stacks...)
	}, func(b *bench) {
		b.pass(time.Minute)
		if b.fleet.most["alpha"] != 2 || len(b.fleet.dispatched()) != 8 {
			b.Errorf("%d at a time, %d in all", b.fleet.most["alpha"], len(b.fleet.dispatched()))
		}
	})
}

func TestFailingSourceIsTriedWithBackoff(t *testing.T) {
	onBench(t, func(b *bench) {
		b.source.err = errors.New("connection refused")
		b.commit("c1", stack("web", "alpha", "1"))
	}, func(b *bench) {
		b.pass(10 * time.Minute)
		if got := b.source.count(); got < 8 || got > 60 {
			b.Errorf("%d loads in ten minutes", got)
		}
		if s := b.status(); s.Phase != reconciler.PhaseFailing || !strings.Contains(s.Error, "connection refused") {
			b.Errorf("phase %s, error %q", s.Phase, s.Error)
		}
		b.source.set(func(s *fakeSource) { s.err = nil })
		b.pass(2 * time.Minute)
		if s := b.status(); s.Phase != reconciler.PhaseIdle || s.Error != "" || len(b.fleet.dispatched()) != 1 {
			b.Errorf("phase %s, error %q, orders %v", s.Phase, s.Error, b.fleet.dispatched())
		}
	})
}

func TestUnreadableInventoryStopsPlanningUntilItIsBack(t *testing.T) {
	onBench(t, func(b *bench) {
		b.journal.failing = "Inventory"
		b.commit("c1", stack("web", "alpha", "1"))
	}, func(b *bench) {
		b.pass(time.Minute)
		if got := b.fleet.dispatched(); len(got) > 0 || b.status().Phase != reconciler.PhaseFailing {
			b.Errorf("orders %v, phase %s", got, b.status().Phase)
		}
		b.journal.set(func(j *fakeJournal) { j.failing = "" })
		b.pass(2 * time.Minute)
		if got := b.fleet.dispatched(); len(got) != 1 {
			b.Errorf("orders %v", got)
		}
	})
}

func TestShutdownWaitsForWhatIsInFlight(t *testing.T) {
	onBench(t, func(b *bench) {
		b.fleet.takes["web"] = 5 * time.Second
		b.commit("c1", stack("web", "alpha", "1"), stack("next", "alpha", "1", "web"))
	}, func(b *bench) {
		b.pass(time.Second)
		b.cancel()
		b.pass(6 * time.Second)
		if diff := cmp.Diff([]string{"web"}, b.fleet.dispatched()); diff != "" {
			b.Errorf("orders (-want +got):\n%s", diff)
		}
		want := map[string]reconciler.OpStatus{
			"create web@alpha": reconciler.OpSucceeded, "create next@alpha": reconciler.OpCanceled,
		}
		for _, op := range b.journal.results[0].Ops {
			if op.Status != want[op.Op] {
				b.Errorf("%s: %s %s", op.Op, op.Status, op.Reason)
			}
		}
	})
}

func TestShutdownWaitsBounded(t *testing.T) {
	onBench(t, func(b *bench) {
		b.fleet.takes["web"] = time.Hour
		b.commit("c1", stack("web", "alpha", "1"))
	}, func(b *bench) {
		b.pass(time.Second)
		begun := time.Now()
		b.cancel()
		err := <-b.done
		if waited := time.Since(begun); waited != 10*time.Second {
			b.Errorf("waited %s", waited)
		}
		if got := b.journal.results[0].Ops[0]; got.Status != reconciler.OpCanceled {
			b.Errorf("result %+v", got)
		}
		b.done <- err
	})
}

func TestRemovedSyncIsNoLongerWatched(t *testing.T) {
	onBench(t, func(b *bench) {
		b.fleet.takes["web"] = time.Minute
		b.commit("c1", stack("web", "alpha", "1"))
	}, func(b *bench) {
		b.pass(time.Second)
		b.r.Remove("home")
		b.r.Remove("home")
		synctest.Wait()
		loads := b.source.count()
		b.pass(time.Hour)
		if b.source.count() != loads {
			b.Error("still watched")
		}
		if _, ended := b.journal.counts(); ended != 1 {
			b.Error("the run in flight was not seen to its end")
		}
		if _, ok := b.r.Status("home"); ok || b.r.Poke("home", reconciler.TriggerManual, "") {
			b.Error("still known")
		}
	})
}

func TestStackThatLeftGitIsRemovedAndForgotten(t *testing.T) {
	onBench(t, func(b *bench) {
		b.commit("c1", stack("web", "alpha", "1"), stack("old", "beta", "1"))
	}, func(b *bench) {
		b.pass(time.Second)
		b.push("c2", stack("web", "alpha", "1"))
		b.pass(time.Second)
		last := b.fleet.orders[len(b.fleet.orders)-1]
		if last.Kind != fleet.OrderRemove || last.Stack != "old" || last.Volumes {
			b.Errorf("last order %+v", last)
		}
		if len(b.journal.owned) != 1 || !b.status().Plan.Empty() {
			b.Errorf("owned %v\n%s", b.journal.owned, b.status().Plan)
		}
	})
}
