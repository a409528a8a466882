package agent_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/fakeengine"
	"github.com/varanhq/varan/wire"
)

func TestCoreHasTheObservationBeforeTheOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := r.session()
		r.core.onResult = func(s *coreSession, _ fleet.Outcome) error {
			if len(s.reports) == 0 {
				t.Error("the outcome came before the observation it led to")
			}
			return nil
		}
		order := applyOrder("1", "shop", "1")
		s.mustOrder(order)
		outcome := <-s.results
		if outcome.Order != "1" || outcome.Status != fleet.OutcomeSucceeded || outcome.StartedAt.IsZero() {
			t.Errorf("outcome %+v", outcome)
		}
		if report := <-s.reports; len(report.Stacks) != 1 || report.Stacks[0].Release.Digest != order.Release.Digest {
			t.Errorf("report %+v, want the stack with its new release", report)
		}
		synctest.Wait()
		if files := ledgerFiles(t, r.dir); len(files) > 0 {
			t.Errorf("the ledger still holds %v", files)
		}
	})
}

func TestTheSameOrderIsDoneOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := r.session()
		started, release := r.engine.Hold("shop")
		order := applyOrder("1", "shop", "1")
		s.mustOrder(order)
		<-started
		s.mustOrder(order) // attaches to the work under way
		release()
		<-s.results
		synctest.Wait()
		accepted, err := s.order(order)
		if err != nil || accepted.Outcome == nil || accepted.Outcome.Status != fleet.OutcomeSucceeded {
			t.Errorf("a third time: %+v, %v; want the recorded outcome", accepted, err)
		}
		if n := len(r.engine.Orders()); n != 1 {
			t.Errorf("the engine was asked %d times, want once", n)
		}
		if len(s.results) > 0 {
			t.Errorf("reported twice: %+v", <-s.results)
		}
	})
}

func TestN12StaleOrdersAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := r.session()
		for name, req := range map[string]wire.OrderRequest{
			"an older epoch": {Epoch: s.epoch - 1, Order: applyOrder("1", "shop", "1")},
			"a newer epoch":  {Epoch: s.epoch + 1, Order: applyOrder("1", "shop", "1")},
		} {
			err := s.peer.Call(t.Context(), wire.VerbApply, req, nil)
			if refused, ok := errors.AsType[*wire.Error](err); !ok || refused.Code != wire.CodeStale {
				t.Errorf("%s: %v", name, err)
			}
		}
		synctest.Wait()
		if orders := r.engine.Orders(); len(orders) > 0 {
			t.Errorf("stale orders were carried out: %+v", orders)
		}
	})
}

func TestOrdersThatAreNotForUsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := r.session()
		foreign, nameless, stackless := applyOrder("1", "shop", "1"), applyOrder("", "shop", "1"), applyOrder("1", "", "1")
		foreign.Server = "beta"
		for want, order := range map[wire.Code]fleet.Order{wire.CodeDenied: foreign, wire.CodeBadRequest: nameless} {
			_, err := s.order(order)
			if refused, ok := errors.AsType[*wire.Error](err); !ok || refused.Code != want {
				t.Errorf("order %+v: %v, want %s", order.ID, err, want)
			}
		}
		if _, err := s.order(stackless); err == nil {
			t.Error("an order without a stack was accepted")
		}
		if orders := r.engine.Orders(); len(orders) > 0 {
			t.Errorf("they were carried out: %+v", orders)
		}
	})
}

func TestWorkGoesOnWhenCoreGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := r.session()
		started, release := r.engine.Hold("shop")
		s.mustOrder(applyOrder("1", "shop", "1"))
		<-started
		s.cut()
		s = r.session()
		if diff := cmp.Diff([]string{"1"}, s.hello.Running); diff != "" {
			t.Errorf("running orders in hello (-want +got):\n%s", diff)
		}
		s.mustOrder(applyOrder("1", "shop", "1")) // core asks again; the work is attached to
		release()
		if outcome := <-s.results; outcome.Order != "1" || outcome.Status != fleet.OutcomeSucceeded {
			t.Errorf("outcome %+v", outcome)
		}
		if n := len(r.engine.Orders()); n != 1 {
			t.Errorf("the engine was asked %d times, want once", n)
		}
	})
}

func TestAnOutcomeIsRepeatedUntilCoreHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		tries := 0
		r.core.onResult = func(s *coreSession, _ fleet.Outcome) error {
			tries++
			switch tries {
			case 1: // the link breaks before the answer
				s.cut()
				return errors.New("cut")
			case 2: // core has a problem of its own
				return &wire.Error{Code: wire.CodeInternal, Message: "database is locked", Retryable: true}
			}
			return nil
		}
		r.start()
		r.session().mustOrder(applyOrder("1", "shop", "1"))
		s := r.session()
		if outcome := <-s.results; outcome.Order != "1" || tries != 3 {
			t.Errorf("outcome %+v at try %d", outcome, tries)
		}
	})
}

func TestAnOutcomeThatCoreRefusesIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		tries := 0
		r.core.onResult = func(*coreSession, fleet.Outcome) error {
			tries++
			return wire.Errorf(wire.CodeDenied, "never heard of that order")
		}
		r.start()
		r.session().mustOrder(applyOrder("1", "shop", "1"))
		time.Sleep(time.Hour)
		synctest.Wait()
		if files := ledgerFiles(t, r.dir); tries != 1 || len(files) > 0 {
			t.Errorf("%d tries, ledger %v; want one and nothing", tries, files)
		}
	})
}

func TestAnOutcomeIsDeliveredAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := r.session()
		started, release := r.engine.Hold("shop")
		s.mustOrder(applyOrder("1", "shop", "1"))
		<-started
		r.core.away(errors.New("connection refused"))
		s.cut()
		release()
		r.stopped()
		if files := ledgerFiles(t, r.dir); len(files) != 1 {
			t.Fatalf("ledger %v, want the outcome", files)
		}
		r.core.away(nil)
		r.engine = fakeengine.New("alpha")
		r.engine.Crash(applyOrder("1", "shop", "1")) // died before it could note the end
		r.cfg.Engine = r.engine
		r.start()
		s = r.session()
		if outcome := <-s.results; outcome.Order != "1" || outcome.Status != fleet.OutcomeSucceeded {
			t.Errorf("outcome %+v", outcome)
		}
		if orders := r.engine.Orders(); len(orders) > 0 {
			t.Errorf("a finished order was done again: %+v", orders)
		}
	})
}

func TestAnInterruptedOrderIsFinishedByTheNextStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.cfg.Drain = time.Second
		r.start()
		s := r.session()
		started, release := r.engine.Hold("shop")
		defer synctest.Wait() // for the abandoned order, which still writes to the directory
		defer release()
		s.mustOrder(applyOrder("1", "shop", "1"))
		<-started
		r.stopped() // gives up waiting after a second

		engine := fakeengine.New("alpha")
		engine.Crash(applyOrder("0", "blog", "1"), applyOrder("1", "shop", "1"))
		r.cfg.Engine = engine
		r.start()
		s = r.session()
		got := []string{(<-s.results).Order, (<-s.results).Order}
		slices.Sort(got)
		if diff := cmp.Diff([]string{"0", "1"}, got); diff != "" {
			t.Errorf("finished orders (-want +got):\n%s", diff)
		}
		if n := len(engine.Orders()); n != 2 {
			t.Errorf("the engine was asked %d times, want twice", n)
		}
	})
}

func TestContentComesOverTheNextSessionWhenTheLinkBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		order := applyOrder("1", "shop", "1")
		order.Release.Model = r.core.put(strings.Repeat("model ", 1000))
		for _, text := range []string{"first file", strings.Repeat("second file ", 100_000), "", "last"} {
			order.Release.Files = append(order.Release.Files, fleet.File{Path: "f", Digest: r.core.put(text)})
		}
		r.core.cutBlobs = 20_000 // in the middle of the second file
		r.start()
		_, _ = r.session().order(order) // the link may break before the answer
		s := r.session()
		if outcome := <-s.results; outcome.Status != fleet.OutcomeSucceeded {
			t.Errorf("outcome %+v", outcome)
		}
	})
}

func TestContentThatCoreDoesNotHaveFailsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		order := applyOrder("1", "shop", "1")
		order.Release.Model = fleet.SumDigest([]byte("nobody has this"))
		r.start()
		s := r.session()
		s.mustOrder(order)
		if outcome := <-s.results; outcome.Status != fleet.OutcomeFailed || !strings.Contains(outcome.Reason, "no blob") {
			t.Errorf("outcome %+v", outcome)
		}
	})
}

func TestContentIsAwaitedOnlyUntilTheOrdersDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		order := applyOrder("1", "shop", "1")
		order.Release.Model = r.core.put("model")
		order.Timeout = time.Minute
		r.core.cutBlobs = 3
		r.start()
		s := r.session()
		_, _ = s.order(order) // the link may break before the answer
		<-s.ended
		r.core.away(errors.New("connection refused"))
		time.Sleep(2 * time.Minute)
		r.core.away(nil)
		s = r.session()
		outcome := <-s.results
		if took := outcome.EndedAt.Sub(outcome.StartedAt); outcome.Status == fleet.OutcomeSucceeded || took != time.Minute {
			t.Errorf("outcome %+v after %v, want it to fail after a minute", outcome, took)
		}
	})
}

func TestProgressIsPassedOnAndDroppedOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := r.session()
		s.mustOrder(applyOrder("1", "shop", "1"))
		<-s.results
		if p := <-s.progress; p.Order != "1" || p.Stack != "shop" {
			t.Errorf("progress %+v", p)
		}
		offline := make(chan struct{})
		r.engine.Script("shop", func(_ context.Context, order fleet.Order, _ agent.Blobs, progress func(fleet.Progress)) fleet.Outcome {
			<-offline
			for range 10_000 { // must not block
				progress(fleet.Progress{Order: order.ID, Stack: order.Stack, Phase: fleet.PhasePull})
			}
			return fleet.Outcome{Status: fleet.OutcomeSucceeded}
		})
		s.mustOrder(applyOrder("2", "shop", "2"))
		s.cut()
		<-s.ended
		close(offline)
		s = r.session()
		if outcome := <-s.results; outcome.Order != "2" {
			t.Errorf("outcome %+v", outcome)
		}
	})
}

func TestCancelReachesTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.engine.Script("shop", func(ctx context.Context, _ fleet.Order, _ agent.Blobs, _ func(fleet.Progress)) fleet.Outcome {
			<-ctx.Done()
			return fleet.Outcome{Status: fleet.OutcomeCanceled, Untouched: true}
		})
		r.start()
		s := r.session()
		s.mustOrder(applyOrder("1", "shop", "1"))
		for _, id := range []string{"unknown", "1", "1"} {
			if err := s.peer.Call(t.Context(), wire.VerbCancel, wire.CancelRequest{Order: id}, nil); err != nil {
				t.Errorf("cancel %s: %v", id, err)
			}
		}
		if outcome := <-s.results; outcome.Status != fleet.OutcomeCanceled {
			t.Errorf("outcome %+v", outcome)
		}
	})
}

func TestAFaultInTheEngineFailsOneOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.engine.Script("shop", func(context.Context, fleet.Order, agent.Blobs, func(fleet.Progress)) fleet.Outcome {
			panic("nil map")
		})
		r.start()
		s := r.session()
		s.mustOrder(applyOrder("1", "shop", "1"))
		if outcome := <-s.results; outcome.Status != fleet.OutcomeFailed || !strings.Contains(outcome.Reason, "nil map") {
			t.Errorf("outcome %+v", outcome)
		}
		s.mustOrder(applyOrder("2", "blog", "1"))
		if outcome := <-s.results; outcome.Status != fleet.OutcomeSucceeded {
			t.Errorf("another stack's outcome %+v", outcome)
		}
	})
}

func TestShutdownDeliversWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.engine.Script("blog", func(ctx context.Context, _ fleet.Order, _ agent.Blobs, _ func(fleet.Progress)) fleet.Outcome {
			<-ctx.Done() // nothing touched yet
			return fleet.Outcome{Status: fleet.OutcomeCanceled, Untouched: true}
		})
		r.start()
		s := r.session()
		started, release := r.engine.Hold("shop")
		s.mustOrder(applyOrder("touching", "shop", "1"))
		s.mustOrder(applyOrder("waiting", "blog", "1"))
		<-started
		r.stop()
		if outcome := <-s.results; outcome.Order != "waiting" || outcome.Status != fleet.OutcomeCanceled {
			t.Errorf("outcome %+v, want the waiting order canceled", outcome)
		}
		_, err := s.order(applyOrder("late", "shop", "2"))
		if refused, ok := errors.AsType[*wire.Error](err); !ok || refused.Code != wire.CodeShutdown || !refused.Retryable {
			t.Errorf("an order during shutdown: %v", err)
		}
		release()
		if outcome := <-s.results; outcome.Order != "touching" || outcome.Status != fleet.OutcomeSucceeded {
			t.Errorf("outcome %+v, want the touching order done", outcome)
		}
		<-r.done
	})
}

func TestShutdownIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := r.session()
		started, release := r.engine.Hold("shop")
		defer synctest.Wait() // for the abandoned order, which still writes to the directory
		defer release()
		s.mustOrder(applyOrder("1", "shop", "1"))
		<-started
		before := time.Now()
		r.stopped()
		if took := time.Since(before); took != 30*time.Second {
			t.Errorf("shutdown took %v, want the 30 s of the default", took)
		}
		if files := ledgerFiles(t, r.dir); len(files) != 1 {
			t.Errorf("ledger %v, want the order for the next start", files)
		}
	})
}

func TestABrokenLedgerFileIsPutAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		dir := filepath.Join(r.dir, "orders")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "x.json"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		r.start()
		r.session()
		if _, err := os.Stat(filepath.Join(dir, "x.json.bad")); err != nil {
			t.Error(err)
		}
	})
}

// ledgerFiles lists what the agent owes core.
func ledgerFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "orders", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", file, info.Mode(), err)
		}
	}
	return files
}
