package reconciler_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
)

// byHand has the sync only plan.
func byHand(b *bench) { b.source.head.AutoApply = false }

// volumed is a stack with a volume.
func volumed(version, driver string) fleet.Stack {
	s := stack("db", "alpha", version)
	s.Release.Volumes = []fleet.Volume{{Name: "data", Digest: fleet.Digest(driver)}}
	s.Release.Digest = fleet.SumDigest([]byte(version + driver))
	return s
}

func (b *bench) apply(req reconciler.ApplyRequest) reconciler.RunResult {
	b.Helper()
	req.Sync = "home"
	_, result, err := b.r.Apply(b.Context(), req)
	if err != nil {
		b.Fatal(err)
	}
	synctest.Wait()
	return result
}

func statuses(result reconciler.RunResult) map[string]reconciler.OpStatus {
	m := map[string]reconciler.OpStatus{}
	for _, op := range result.Ops {
		m[op.Op] = op.Status
	}
	return m
}

func TestApplyDoesWhatThePlanSays(t *testing.T) {
	onBench(t, byHand, func(b *bench) {
		b.commit("c1", stack("db", "alpha", "1"), stack("web", "beta", "1", "db"))
		var events []reconciler.EventKind
		run, result, err := b.r.Apply(b.Context(), reconciler.ApplyRequest{
			Sync: "home", Actor: "ada", Watch: func(e reconciler.Event) { events = append(events, e.Kind) },
		})
		if err != nil {
			b.Fatal(err)
		}
		if run.Actor != "ada" || run.Trigger != reconciler.TriggerManual || result.Status != reconciler.OpSucceeded {
			b.Errorf("run %+v, result %+v", run, result)
		}
		want := []reconciler.EventKind{
			reconciler.EventRunStarted,
			reconciler.EventOpStarted, reconciler.EventProgress, reconciler.EventOpEnded,
			reconciler.EventOpStarted, reconciler.EventProgress, reconciler.EventOpEnded,
			reconciler.EventRunEnded,
		}
		if diff := cmp.Diff(want, events); diff != "" {
			b.Errorf("events (-want +got):\n%s", diff)
		}
		if again := b.apply(reconciler.ApplyRequest{}); again.Status != reconciler.OpSucceeded || len(again.Ops) != 0 {
			b.Errorf("applied again: %+v", again)
		}
		if begun, _ := b.journal.counts(); begun != 1 {
			b.Errorf("%d runs recorded", begun)
		}
	})
}

func TestClosedGateSkipsItsOpsAndWhatComesAfter(t *testing.T) {
	web := stack("web", "beta", "1", "db")
	webNext := stack("web", "beta", "2", "db")
	for name, c := range map[string]struct {
		approved []string
		want     reconciler.OpStatus
		recreate []string
	}{
		"without consent":         {nil, reconciler.OpSkipped, nil},
		"with another's consent":  {[]string{"removals"}, reconciler.OpSkipped, nil},
		"with consent":            {[]string{"volume db/data@alpha"}, reconciler.OpSucceeded, []string{"data"}},
		"with consent to keep it": {[]string{"keep volume db/data@alpha"}, reconciler.OpSucceeded, nil},
	} {
		t.Run(name, func(t *testing.T) {
			onBench(t, byHand, func(b *bench) {
				b.commit("c1", volumed("1", "local"), web)
				b.apply(reconciler.ApplyRequest{})
				b.commit("c2", volumed("1", "nfs"), webNext)
				got := statuses(b.apply(reconciler.ApplyRequest{Approved: c.approved}))
				want := map[string]reconciler.OpStatus{"update db@alpha": c.want, "update web@beta": c.want}
				if diff := cmp.Diff(want, got); diff != "" {
					b.Errorf("results (-want +got):\n%s", diff)
				}
				for _, o := range b.fleet.orders {
					if o.Stack == "db" && o.Release.Volumes[0].Digest == "nfs" && !slices.Equal(o.RecreateVolumes, c.recreate) {
						b.Errorf("recreates %v", o.RecreateVolumes)
					}
				}
			})
		})
	}
}

func TestKeepingIsNoConsentToRemovals(t *testing.T) {
	onBench(t, byHand, func(b *bench) {
		b.commit("c1", stack("web", "alpha", "1"))
		b.apply(reconciler.ApplyRequest{})
		b.commit("c2")
		b.apply(reconciler.ApplyRequest{Approved: []string{"keep empty"}})
		if got := b.fleet.dispatched(); len(got) != 1 {
			b.Errorf("orders %v", got)
		}
		b.apply(reconciler.ApplyRequest{Approved: []string{"empty"}})
		if got := b.fleet.dispatched(); len(got) != 2 {
			b.Errorf("orders %v", got)
		}
	})
}

func TestSavedPlanAppliesWhatStillHolds(t *testing.T) {
	onBench(t, byHand, func(b *bench) {
		b.commit("c1", stack("db", "alpha", "1"), stack("web", "beta", "1", "db"), stack("log", "beta", "1"))
		b.apply(reconciler.ApplyRequest{})
		b.commit("c2", stack("db", "alpha", "2"), stack("web", "beta", "2", "db"), stack("log", "beta", "2"))
		saved, diagnostics, err := b.r.Plan(b.Context(), reconciler.PlanRequest{Sync: "home", Refresh: true})
		if err != nil || len(diagnostics) > 0 {
			b.Fatal(err, diagnostics)
		}
		b.fleet.happen("alpha", "db", func(r *fleet.StackReport) { r.Containers[0].ID = "by hand" })
		got := statuses(b.apply(reconciler.ApplyRequest{Saved: &saved}))
		want := map[string]reconciler.OpStatus{
			"update db@alpha": reconciler.OpStale, "update web@beta": reconciler.OpStale,
			"update log@beta": reconciler.OpSucceeded,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			b.Errorf("results (-want +got):\n%s", diff)
		}
	})
}

func TestSavedPlanIsCheckedAgainRightBeforeEachOp(t *testing.T) {
	onBench(t, byHand, func(b *bench) {
		b.commit("c1", stack("db", "alpha", "1"), stack("web", "beta", "1", "db"))
		b.apply(reconciler.ApplyRequest{})
		b.commit("c2", stack("db", "alpha", "2"), stack("web", "beta", "2", "db"))
		saved, _, err := b.r.Plan(b.Context(), reconciler.PlanRequest{Sync: "home"})
		if err != nil {
			b.Fatal(err)
		}
		b.fleet.takes["db"] = time.Minute
		go func() {
			_ = pause(b.Context(), time.Second)
			b.fleet.happen("beta", "web", func(r *fleet.StackReport) { r.Containers[0].ID = "by hand" })
		}()
		got := statuses(b.apply(reconciler.ApplyRequest{Saved: &saved}))
		want := map[string]reconciler.OpStatus{
			"update db@alpha": reconciler.OpSucceeded, "update web@beta": reconciler.OpStale,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			b.Errorf("results (-want +got):\n%s", diff)
		}
	})
}

func TestForcedStackIsAppliedAlthoughItFailedBefore(t *testing.T) {
	onBench(t, nothing, func(b *bench) {
		b.fleet.set(func(f *fakeFleet) {
			f.fail = func(o fleet.Order) (fleet.Outcome, error, bool) {
				return fleet.Outcome{Status: fleet.OutcomeFailed, Reason: "no"}, nil, !o.Force
			}
		})
		b.push("c1", stack("web", "alpha", "1"), stack("api", "alpha", "1"))
		b.pass(time.Minute)
		result := b.apply(reconciler.ApplyRequest{Only: []string{"web"}, Forced: []string{"web"}})
		if result.Status != reconciler.OpSucceeded || len(result.Ops) != 1 {
			b.Errorf("result %+v", result)
		}
	})
}

func TestOneOrderAtATimeNearAStack(t *testing.T) {
	onBench(t, nothing, func(b *bench) {
		b.fleet.set(func(f *fakeFleet) { f.takes["web"] = time.Minute })
		b.push("c1", stack("web", "alpha", "1"))
		b.pass(time.Second)
		for range 3 {
			go func() {
				_, _, _ = b.r.Apply(b.Context(), reconciler.ApplyRequest{Sync: "home", Forced: []string{"web"}})
			}()
		}
		b.pass(time.Hour)
		if b.fleet.most["web@alpha"] != 1 || len(b.fleet.dispatched()) != 4 {
			b.Errorf("%d at a time, %d in all", b.fleet.most["web@alpha"], len(b.fleet.dispatched()))
		}
	})
}

func TestApplyWhoseCallerLeavesStartsNothingMore(t *testing.T) {
	onBench(t, byHand, func(b *bench) {
		b.fleet.takes["db"] = time.Minute
		b.commit("c1", stack("db", "alpha", "1"), stack("web", "beta", "1", "db"))
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		defer cancel()
		_, _, err := b.r.Apply(ctx, reconciler.ApplyRequest{Sync: "home"})
		if !errors.Is(err, context.DeadlineExceeded) {
			b.Errorf("err %v", err)
		}
		b.pass(time.Hour)
		want := map[string]reconciler.OpStatus{
			"create db@alpha": reconciler.OpSucceeded, "create web@beta": reconciler.OpCanceled,
		}
		if diff := cmp.Diff(want, statuses(b.journal.results[0])); diff != "" {
			b.Errorf("results (-want +got):\n%s", diff)
		}
	})
}

func TestPlanDoesNothing(t *testing.T) {
	onBench(t, byHand, func(b *bench) {
		b.commit("c1", stack("db", "alpha", "1"), stack("web", "beta", "1", "db"))
		local := reconciler.Loaded{Desired: fleet.Desired{Sync: "home", Stacks: []fleet.Stack{stack("new", "beta", "1")}}}
		p, _, err := b.r.Plan(b.Context(), reconciler.PlanRequest{Sync: "home", Desired: &local})
		if err != nil || len(p.Ops) != 1 || p.Ops[0].ID != "create new@beta" {
			b.Errorf("err %v\n%s", err, p)
		}
		p, _, err = b.r.Plan(b.Context(), reconciler.PlanRequest{Sync: "home", Only: []string{"db"}})
		if err != nil || len(p.Ops) != 1 || p.Ops[0].ID != "create db@alpha" {
			b.Errorf("err %v\n%s", err, p)
		}
		_, _, err = b.r.Plan(b.Context(), reconciler.PlanRequest{Sync: "away"})
		if !errors.Is(err, reconciler.ErrUnknownSync) {
			b.Errorf("err %v", err)
		}
		if got := b.fleet.dispatched(); len(got) > 0 {
			b.Errorf("orders %v", got)
		}
	})
}

func TestPlanOfANewCommitIsNewsForTheStatus(t *testing.T) {
	head := func(b *bench) string {
		status, _ := b.r.Status("home")
		return status.Plan.Commit.ID
	}
	look := func(b *bench) {
		if _, _, err := b.r.Plan(b.Context(), reconciler.PlanRequest{Sync: "home"}); err != nil {
			b.Error(err)
		}
		synctest.Wait()
	}
	onBench(t, byHand, func(b *bench) {
		b.commit("c2", stack("db", "alpha", "1"))
		look(b)
		if got := head(b); got != "c2" {
			b.Errorf("the status is of %s", got)
		}
	})
	onBench(t, func(*bench) {}, func(b *bench) {
		b.commit("c2", stack("db", "alpha", "1"))
		look(b)
		if got := b.fleet.dispatched(); len(got) > 0 {
			b.Errorf("looking set %v going", got)
		}
	})
}

func TestInvalidHeadIsNotApplied(t *testing.T) {
	onBench(t, byHand, func(b *bench) {
		invalid := fleet.Diagnostics{{Rule: "cycle", Severity: fleet.SeverityError, Message: "no"}}
		b.source.set(func(s *fakeSource) { s.head.Diagnostics = invalid })
		_, _, err := b.r.Apply(b.Context(), reconciler.ApplyRequest{Sync: "home"})
		if got, ok := errors.AsType[fleet.Diagnostics](err); !ok || len(got) != 1 {
			b.Errorf("err %v", err)
		}
		_, got, err := b.r.Plan(b.Context(), reconciler.PlanRequest{Sync: "home"})
		if err != nil || !got.HasErrors() {
			b.Errorf("diagnostics %v, err %v", got, err)
		}
	})
}

func TestApplyAfterTheEndIsRefused(t *testing.T) {
	onBench(t, byHand, func(b *bench) {
		b.commit("c1", stack("web", "alpha", "1"))
		b.cancel()
		synctest.Wait()
		_, _, err := b.r.Apply(b.Context(), reconciler.ApplyRequest{Sync: "home"})
		if !errors.Is(err, reconciler.ErrStopped) {
			b.Errorf("err %v", err)
		}
	})
}

func TestSubscribersHearOfEverythingInOrder(t *testing.T) {
	onBench(t, nothing, func(b *bench) {
		var heard []string
		cancel := b.r.Subscribe(func(e reconciler.Event) { heard = append(heard, string(e.Kind)) })
		b.push("c1", stack("web", "alpha", "1"))
		b.pass(2 * time.Second)
		cancel()
		b.push("c2", stack("web", "alpha", "2"))
		b.pass(time.Second)
		want := "plan run_started op_started progress op_ended run_ended plan"
		if got := strings.Join(heard, " "); got != want {
			b.Errorf("heard %s, want %s", got, want)
		}
	})
}

func TestNewRefusesAnIncompleteConfig(t *testing.T) {
	if _, err := reconciler.New(reconciler.Config{}); err == nil || !strings.Contains(err.Error(), "Source is required") {
		t.Errorf("err %v", err)
	}
}

func TestARestartBringsItsFiles(t *testing.T) {
	onBench(t, func(b *bench) {
		b.commit("c1", stack("web", "alpha", "1"))
	}, func(b *bench) {
		b.pass(time.Second)
		s := stack("web", "alpha", "1")
		s.Release.Services[0].Restart = "sha256:conf"
		s.Release.Digest = "sha256:with-conf"
		b.push("c2", s)
		b.pass(time.Second)
		b.fleet.mu.Lock()
		defer b.fleet.mu.Unlock()
		last := b.fleet.orders[len(b.fleet.orders)-1]
		if last.Kind != fleet.OrderApply || last.Release.Digest != s.Release.Digest || len(b.fleet.orders) != 2 {
			b.Errorf("%d orders, the last is %s of release %q", len(b.fleet.orders), last.Kind, last.Release.Digest)
		}
	})
}
