package agent_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

func TestSessionBeginsWithHelloAndAFullReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.cfg.Version = "1.2.3"
		r.engine.Set(fleet.StackReport{Stack: "shop", Project: "shop"})
		r.start()
		s := <-r.core.sessions
		if s.hello.Version != wire.Version || s.hello.Server != "alpha" || s.hello.Agent.Version != "1.2.3" || s.hello.Agent.Hostname == "" {
			t.Errorf("hello %+v", s.hello)
		}
		report := <-s.reports
		if !report.Full || len(report.Stacks) != 1 || report.Stacks[0].Stack != "shop" || report.Agent.Engine != "fake" {
			t.Errorf("first report %+v, want a full one of shop", report)
		}
	})
}

func TestEveryReportSaysWhatTimeItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := <-r.core.sessions
		if report := <-s.reports; !report.Time.Equal(time.Now()) {
			t.Errorf("the report is of %s, it is %s", report.Time, time.Now())
		}
	})
}

func TestChangesAreReportedOnceAndAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.engine.Set(fleet.StackReport{Stack: "blog", Project: "blog"})
		r.start()
		s := r.session()
		changed := fleet.StackReport{Stack: "shop", Project: "shop", Containers: []fleet.Container{{ID: "1", Service: "web"}}}
		r.engine.Set(changed)
		report := <-s.reports
		if report.Full || len(report.Gone) > 0 {
			t.Errorf("report %+v, want only the change", report)
		}
		if diff := cmp.Diff([]fleet.StackReport{changed}, report.Stacks); diff != "" {
			t.Errorf("reported stacks (-want +got):\n%s", diff)
		}
		r.engine.Set(changed) // an event without a change
		synctest.Wait()
		if len(s.reports) > 0 {
			t.Errorf("reported again: %+v", <-s.reports)
		}
	})
}

func TestManyChangesAreReadTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := r.session()
		synctest.Wait()
		before := r.engine.Observations()
		for i := range 100 {
			r.engine.Set(fleet.StackReport{Stack: "s" + string(rune('a'+i%26)) + string(rune('a'+i/26)), Project: "p"})
		}
		synctest.Wait()
		told := map[string]bool{}
		for len(s.reports) > 0 {
			for _, stack := range (<-s.reports).Stacks {
				told[stack.Stack] = true
			}
		}
		if len(told) != 100 {
			t.Errorf("%d stacks reported, want 100", len(told))
		}
		if reads := r.engine.Observations() - before; reads > 100 {
			t.Errorf("the engine was read %d times for 100 changes", reads)
		}
	})
}

func TestARemovedStackIsReportedGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.engine.Set(fleet.StackReport{Stack: "shop", Project: "shop"})
		r.start()
		s := r.session()
		s.mustOrder(fleet.Order{ID: "1", Kind: fleet.OrderRemove, Stack: "shop", Server: "alpha", Project: "shop"})
		report := <-s.reports
		if diff := cmp.Diff([]string{"shop"}, report.Gone); diff != "" || report.Full {
			t.Errorf("gone stacks (-want +got):\n%s", diff)
		}
	})
}

// A lost event must not hide a change for ever.
func TestEverythingIsReadAgainEveryFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := r.session()
		synctest.Wait()
		before := r.engine.Observations()
		time.Sleep(5*time.Minute + time.Second)
		synctest.Wait()
		if reads := r.engine.Observations() - before; reads != 1 {
			t.Errorf("%d readings in five minutes, want 1", reads)
		}
		if len(s.reports) > 0 {
			t.Errorf("an unchanged host was reported: %+v", <-s.reports)
		}
	})
}

func TestAnEngineThatIsAwayIsReportedAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.engine.Set(fleet.StackReport{Stack: "shop", Project: "shop"})
		r.engine.Away(errors.New("cannot connect to the Docker daemon"))
		r.start()
		s := <-r.core.sessions
		report := <-s.reports
		if report.Full || report.Agent.EngineError != "cannot connect to the Docker daemon" {
			t.Errorf("report %+v, want the engine's error and nothing of the stacks", report)
		}
		r.engine.Away(nil)
		report = <-s.reports
		if !report.Full || report.Agent.EngineError != "" || len(report.Stacks) != 1 {
			t.Errorf("report %+v, want a full one of an engine that is back", report)
		}
	})
}

func TestAnObservationThatFailedIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := r.session()
		r.engine.Blind(errors.New("timeout"))
		r.engine.Set(fleet.StackReport{Stack: "shop", Project: "shop"})
		if report := <-s.reports; report.Agent.EngineError != "timeout" || len(report.Stacks) > 0 {
			t.Errorf("report %+v, want the engine's error", report)
		}
		r.engine.Blind(nil) // and no event says so
		before := time.Now()
		report := <-s.reports
		if len(report.Stacks) != 1 || report.Agent.EngineError != "" {
			t.Errorf("report %+v, want the stack", report)
		}
		if took := time.Since(before); took > 15*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAStackInWorkIsReportedSparingly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := r.session()
		started, release := r.engine.Hold("shop")
		s.mustOrder(applyOrder("1", "shop", "1"))
		<-started
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			r.engine.Set(fleet.StackReport{Stack: "shop", Project: "shop", Busy: time.Now().String()})
		}
		synctest.Wait()
		if n := len(s.reports); n < 1 || n > 4 {
			t.Errorf("%d reports in ten seconds of work, want a few", n)
		}
		for len(s.reports) > 0 {
			<-s.reports
		}
		release()
		if report := <-s.reports; len(report.Stacks) != 1 || report.Stacks[0].Busy != "" {
			t.Errorf("report %+v, want the stack at rest", report)
		}
	})
}

func TestObserveReadsAfresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := r.session()
		r.engine.Set(fleet.StackReport{Stack: "shop", Project: "shop"})
		var report wire.Report
		if err := s.peer.Call(t.Context(), wire.VerbObserve, nil, &report); err != nil {
			t.Fatal(err)
		}
		if !report.Full || len(report.Stacks) != 1 || report.Agent.Engine != "fake" {
			t.Errorf("observed %+v, want all of it", report)
		}
		r.engine.Away(errors.New("gone"))
		err := s.peer.Call(t.Context(), wire.VerbObserve, nil, &report)
		if refused, ok := errors.AsType[*wire.Error](err); !ok || !refused.Retryable || !strings.Contains(refused.Message, "gone") {
			t.Errorf("observing an engine that is away: %v", err)
		}
	})
}

// A stack that was gone for one observation, and came back as it was, is news to core.
func TestAnObservationReplacesWhatCoreWasTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		shop := fleet.StackReport{Stack: "shop", Project: "shop"}
		r.engine.Set(shop)
		r.start()
		s := r.session()
		for want := range 2 {
			var report wire.Report
			if err := s.peer.Call(t.Context(), wire.VerbObserve, nil, &report); err != nil || len(report.Stacks) != 1-want {
				t.Fatalf("observed %+v, %v", report, err)
			}
			if want == 0 {
				s.mustOrder(fleet.Order{ID: "1", Kind: fleet.OrderRemove, Stack: "shop", Server: "alpha", Project: "shop"})
				synctest.Wait()
			}
		}
		r.engine.Set(shop)
		if report := <-s.reports; len(report.Stacks) != 1 {
			t.Errorf("report %+v, want the stack that is back", report)
		}
	})
}

func TestLogsAreStreamedUntilNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.engine.Set(fleet.StackReport{Stack: "shop", Containers: []fleet.Container{{Name: "shop-web-1", Service: "web"}}})
		r.start()
		s := r.session()
		logs, err := s.peer.OpenStream(t.Context(), wire.VerbLogs, wire.LogsRequest{Stack: "shop", Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 1024)
		n, err := logs.Read(line)
		if err != nil || !strings.Contains(string(line[:n]), "hello from shop-web-1") {
			t.Errorf("read %q, %v", line[:n], err)
		}
		_ = logs.Close()

		logs, err = s.peer.OpenStream(t.Context(), wire.VerbLogs, wire.LogsRequest{Stack: "nothing"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = io.ReadAll(logs); err == nil || !strings.Contains(err.Error(), "not on this host") {
			t.Errorf("logs of a stack that is not there: %v", err)
		}
	})
}

func TestCoreIsToldOfAShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := r.session()
		r.stopped()
		<-s.ended
		if reason, ok := errors.AsType[*wire.Error](s.err); !ok || reason.Code != wire.CodeShutdown {
			t.Errorf("core's end of the session: %v, want %s", s.err, wire.CodeShutdown)
		}
	})
}

func TestUnknownVerbsAreRefusedWithBothVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		s := r.session()
		for _, verb := range []wire.Verb{"terminal", wire.VerbHello, wire.VerbResult} {
			err := s.peer.Call(t.Context(), verb, nil, nil)
			if refused, ok := errors.AsType[*wire.Error](err); !ok || refused.Code != wire.CodeUnknownVerb || !strings.Contains(refused.Message, "version") {
				t.Errorf("%s: %v", verb, err)
			}
		}
	})
}
