package agent_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

// step is one thing that happens to an agent.
type step struct {
	What  string
	Stack string
	State string // few, so that a stack often returns to what it was
	Wait  time.Duration
}

// view is what core makes of the reports it gets.
type view struct {
	mu     sync.Mutex
	stacks map[string]fleet.StackReport
	engine string // its error
}

func (v *view) apply(report wire.Report) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if report.Full {
		clear(v.stacks)
	}
	for _, stack := range report.Stacks {
		v.stacks[stack.Stack] = stack
	}
	for _, stack := range report.Gone {
		delete(v.stacks, stack)
	}
	v.engine = report.Agent.EngineError
}

// Whatever happens to host, engine and link, in the end core knows what runs.
func TestCoreConvergesToWhatRuns(t *testing.T) {
	steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{
			What:  rapid.SampledFrom([]string{"change", "change", "change", "remove", "apply", "cut", "away", "back", "observe", "core away", "core back"}).Draw(t, "what"),
			Stack: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "stack"),
			State: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "state"),
			Wait:  time.Duration(rapid.SampledFrom([]int{0, 0, 0, 1, 50, 150, 20_000}).Draw(t, "wait_ms")) * time.Millisecond,
		}
	}), 1, 30)
	rapid.Check(t, func(rt *rapid.T) {
		happens := steps.Draw(rt, "steps")
		var diff string
		synctest.Test(t, func(t *testing.T) { diff = converge(t, happens) })
		if diff != "" {
			rt.Fatalf("core does not know what runs (-runs +known):\n%s", diff)
		}
	})
}

// converge lets everything happen and returns how core's view differs from the truth.
func converge(t *testing.T, happens []step) string {
	t.Helper()
	r := newRig(t)
	known := &view{stacks: map[string]fleet.StackReport{}}
	r.core.onReport = known.apply
	r.start()
	s := <-r.core.sessions
	for i, step := range happens {
		for len(r.core.sessions) > 0 {
			s = <-r.core.sessions
		}
		id := fmt.Sprintf("%d", i)
		switch step.What {
		case "change":
			r.engine.Set(fleet.StackReport{Stack: step.Stack, Project: step.Stack, Busy: step.State})
		case "remove":
			_, _ = s.order(fleet.Order{ID: id, Kind: fleet.OrderRemove, Stack: step.Stack, Server: "alpha"})
		case "apply":
			_, _ = s.order(applyOrder(id, step.Stack, id))
		case "cut":
			s.cut()
		case "away":
			r.engine.Away(errors.New("gone"))
		case "back":
			r.engine.Away(nil)
		case "observe":
			var report wire.Report
			if err := s.peer.Call(t.Context(), wire.VerbObserve, nil, &report); err == nil {
				known.apply(report)
			}
		case "core away":
			r.core.away(errors.New("connection refused"))
		case "core back":
			r.core.away(nil)
		}
		time.Sleep(step.Wait)
	}
	r.engine.Away(nil)
	r.core.away(nil)
	time.Sleep(2 * time.Minute) // less than the safety net's five
	synctest.Wait()
	_, runs, err := r.engine.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	known.mu.Lock()
	defer known.mu.Unlock()
	var heard []fleet.StackReport
	for _, name := range slices.Sorted(maps.Keys(known.stacks)) {
		heard = append(heard, known.stacks[name])
	}
	return cmp.Diff(runs, heard) + cmp.Diff("", known.engine)
}
