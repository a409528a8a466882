package agent_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/fakeengine"
	"github.com/varanhq/varan/wire"
)

// healer is an engine on which stacks stop running.
type healer struct {
	*fakeengine.Engine

	mu    sync.Mutex
	count int
	down  []string
}

func (h *healer) fall(stacks ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = stacks
}

func (h *healer) Repairs(context.Context) ([]fleet.Order, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var due []fleet.Order
	for _, stack := range h.down {
		h.count++
		order := applyOrder(fmt.Sprintf("heal-%d", h.count), stack, "1")
		order.Kind = fleet.OrderHeal
		due = append(due, order)
	}
	return due, nil
}

// healing is a rig whose engine is a healer; up says whether a repair succeeds.
func healing(t *testing.T, up bool) (*rig, *healer) {
	t.Helper()
	r := newRig(t)
	h := &healer{Engine: r.engine}
	r.cfg.Engine = h
	r.engine.Script("", func(_ context.Context, o fleet.Order, _ agent.Blobs, _ func(fleet.Progress)) fleet.Outcome {
		if !up {
			return fleet.Outcome{Order: o.ID, Stack: o.Stack, Status: fleet.OutcomeFailed, Reason: "it does not stay up"}
		}
		h.fall()
		return fleet.Outcome{Order: o.ID, Stack: o.Stack, Status: fleet.OutcomeSucceeded, Started: []string{"web"}}
	})
	return r, h
}

func TestTheAgentHealsAloneOnlyWhileCoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, h := healing(t, true)
		r.start()
		s := r.session()
		h.fall("shop")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if orders := r.engine.Orders(); len(orders) > 0 {
			t.Fatalf("core was there, and the agent did %+v", orders)
		}

		r.core.away(errors.New("no route"))
		s.cut()
		left := time.Now()
		time.Sleep(50 * time.Second)
		synctest.Wait()
		if orders := r.engine.Orders(); len(orders) > 0 {
			t.Fatalf("core was away for seconds only, and the agent did %+v", orders)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		first := time.Now()
		h.fall("wiki")
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(r.engine.Orders()); n != 2 {
			t.Fatalf("%d repairs, want 2", n)
		}

		r.core.away(nil)
		s = <-r.core.sessions
		for i, stack := range []string{"shop", "wiki"} {
			outcome := <-s.results
			if outcome.Stack != stack || !outcome.Heal || outcome.Status != fleet.OutcomeSucceeded {
				t.Errorf("outcome %d: %+v", i, outcome)
			}
			if at := outcome.EndedAt; i == 0 && (at.Before(left) || at.After(first)) {
				t.Errorf("outcome %d ended at %s, want its own time", i, at)
			}
		}
	})
}

func TestWhatDoesNotStayUpIsTriedLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, h := healing(t, false)
		r.core.away(errors.New("no route"))
		h.fall("shop")
		r.start()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if n := len(r.engine.Orders()); n < 40 || n > 60 {
			t.Errorf("%d repairs in a day, want one in half an hour in the end", n)
		}
	})
}

func TestOnlySoManyRepairsAreKeptToTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, h := healing(t, false)
		r.core.away(errors.New("no route"))
		stacks := make([]string, 300)
		for i := range stacks {
			stacks[i] = fmt.Sprintf("s%03d", i)
		}
		h.fall(stacks...)
		r.start()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		h.fall()
		done := len(r.engine.Orders())
		if done <= 1000 {
			t.Fatalf("only %d repairs were tried", done)
		}
		r.core.away(nil)
		s := <-r.core.sessions
		first := <-s.results
		if first.Dropped != done-1000 {
			t.Errorf("the first says that %d were dropped, want %d", first.Dropped, done-1000)
		}
		for range 999 {
			if o := <-s.results; o.Dropped != 0 {
				t.Fatalf("another says so too: %+v", o)
			}
		}
		synctest.Wait()
		if files := ledgerFiles(t, r.dir); len(files) > 0 {
			t.Errorf("the ledger still holds %d files", len(files))
		}
	})
}

// What core wants left alone stays down, over restarts of the agent and until its time.
func TestASuspendedStackIsNotPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, h := healing(t, true)
		r.start()
		s := r.session()
		if err := s.peer.Call(t.Context(), wire.VerbRest, wire.Rests{List: []wire.Rest{
			{Stack: "shop"}, {Stack: "blog", Until: time.Now().Add(time.Hour)},
		}}, nil); err != nil {
			t.Fatal(err)
		}
		r.stopped()
		r.core.away(errors.New("no route"))
		r.start()
		h.fall("shop", "blog")
		time.Sleep(50 * time.Minute)
		synctest.Wait()
		if orders := r.engine.Orders(); len(orders) > 0 {
			t.Fatalf("both were suspended, and the agent did %+v", orders)
		}
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		orders := r.engine.Orders()
		if len(orders) == 0 || orders[0].Stack != "blog" {
			t.Fatalf("the time of blog is over, and the agent did %+v", orders)
		}
		h.fall()

		r.core.away(nil)
		time.Sleep(time.Hour)
		again := r.session()
		if !again.hello.Resting {
			t.Error("the agent does not say that it leaves stacks alone")
		}
		if err := again.peer.Call(t.Context(), wire.VerbRest, wire.Rests{}, nil); err != nil {
			t.Fatal(err)
		}
		r.core.away(errors.New("no route"))
		again.cut()
		before := len(r.engine.Orders())
		h.fall("shop")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if len(r.engine.Orders()) == before {
			t.Error("core took it back, and shop is still left alone")
		}
	})
}
