package procedure_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/procedure"
)

// with changes an execution.
func with(e fleet.Execution, p fleet.Policy) fleet.Execution {
	e.Policy = p
	return e
}

// shape sets what stages of the procedure that was declared last say.
func (w *world) shape(policies ...fleet.Policy) {
	w.mu.Lock()
	defer w.mu.Unlock()
	stages := w.catalog.Procedures[len(w.catalog.Procedures)-1].Stages
	for i, p := range policies {
		stages[i].Policy = p
	}
}

func TestWhatFailedIsTriedAgainAndNothingElse(t *testing.T) {
	in(t, func(w *world) {
		w.declare("p", []fleet.Execution{
			with(x("BatchDestroyStack", "pattern", "db,mail"), fleet.Policy{Retries: 3, RetryDelay: fleet.Duration(time.Second)}),
		})
		w.heals["down db@alpha"] = 3
		began := time.Now()
		run := w.run("p")
		if run.Status != procedure.StatusSucceeded || time.Since(began) != 3*time.Second {
			t.Errorf("%s: %s after %s; want it after delays of 1s and 2s", run.Status, run.Reason, time.Since(began))
		}
		if diff := cmp.Diff([]int{3, 1}, []int{run.Steps[0].Attempts, run.Steps[1].Attempts}); diff != "" {
			t.Error(diff)
		}
		if n := strings.Count(w.done(), "mail"); n != 1 {
			t.Errorf("did %s", w.done())
		}
	})
}

func TestDelaysBetweenAttemptsHaveACap(t *testing.T) {
	in(t, func(w *world) {
		w.declare("p", []fleet.Execution{
			with(x("PruneImages", "server", "alpha"), fleet.Policy{Retries: 4, RetryDelay: fleet.Duration(2 * time.Minute)}),
		})
		w.fails["prune_images on alpha"] = "no"
		began := time.Now()
		if run := w.run("p"); run.Status != procedure.StatusFailed || time.Since(began) != (2+4+5+5)*time.Minute {
			t.Errorf("%s after %s", run.Status, time.Since(began))
		}
	})
}

func TestATimeIsKept(t *testing.T) {
	in(t, func(w *world) {
		w.takes["stop db@alpha"] = time.Hour
		minute := fleet.Policy{Timeout: fleet.Duration(time.Minute)}
		w.declare("execution", []fleet.Execution{with(x("StopStack", "stack", "db"), minute), x("None")})
		run := w.run("execution")
		if run.Status != procedure.StatusFailed || run.Ended.Sub(run.Started) != time.Minute ||
			!strings.Contains(run.Reason, "it took longer than 1m0s; what its server has begun goes on there") {
			t.Errorf("%s: %s", run.Status, run.Reason)
		}
		w.declare("stage", []fleet.Execution{x("StopStack", "stack", "db"), x("Sleep", "duration_ms", 1000)}, []fleet.Execution{x("None")})
		w.shape(minute, fleet.Policy{When: fleet.WhenFailure})
		run = w.run("stage")
		if diff := cmp.Diff([]procedure.Status{"failed", "succeeded", "succeeded"}, statuses(run)); diff != "" || run.Status != procedure.StatusFailed {
			t.Errorf("%s: %s\n%s", run.Status, run.Reason, diff)
		}
		w.declare("inner", []fleet.Execution{x("StopStack", "stack", "db")})
		w.declare("outer", []fleet.Execution{with(x("RunProcedure", "procedure", "inner"), minute)})
		if run = w.run("outer"); run.Status != procedure.StatusFailed || !strings.Contains(run.Reason, "it took longer than 1m0s") {
			t.Errorf("%s: %s", run.Status, run.Reason)
		}
	})
}

func statuses(run procedure.Run) (all []procedure.Status) {
	for _, s := range run.Steps {
		all = append(all, s.Status)
	}
	return all
}

func TestInputsReachParameters(t *testing.T) {
	in(t, func(w *world) {
		w.declare("p", []fleet.Execution{
			{Type: "StopStack", Enabled: true, Params: []fleet.Param{
				{Name: "stack", Text: "${{ inputs.STACK }}", As: fleet.ParamStack},
				{Name: "services", List: []string{"a-${{ inputs.N }}"}},
				{Name: "stop_time", Text: "${{inputs.N}}", As: fleet.ParamInt},
			}},
			{Type: "RunProcedure", Enabled: true, Params: []fleet.Param{
				{Name: "procedure", Text: "inner"}, {Name: "inputs", Text: `{"WORD":"say ${{ inputs.STACK }}"}`, As: fleet.ParamObject},
			}},
		})
		w.catalog.Procedures[0].Inputs = []fleet.Input{{Name: "STACK", Required: true}, {Name: "N", Default: "4", Options: []string{"4", "5"}}}
		w.declare("inner", []fleet.Execution{x("SendAlert", "message", "${{ inputs.WORD }}, ${{ env.HOME }} [[VAR]]")})
		w.catalog.Procedures[1].Inputs = []fleet.Input{{Name: "WORD"}}
		start := func(inputs map[string]string) (procedure.Run, error) {
			run, _, err := w.runner.Start(w.Context(), procedure.Request{Procedure: "p", Inputs: inputs})
			return run, err
		}
		run, err := start(map[string]string{"STACK": `D"b`, "N": "5"})
		if err != nil {
			t.Fatal(err)
		}
		if run = w.await(run); !strings.Contains(run.Reason, `there is no stack "d_b"`) {
			t.Errorf("%s: %s", run.Status, run.Reason)
		}
		if want := `send  say D"b, ${{ env.HOME }} [[VAR]]`; !strings.Contains(w.done(), want) {
			t.Errorf("did %s, want %s", w.done(), want)
		}
		w.did = nil
		if run, err = start(map[string]string{"STACK": "db"}); err != nil {
			t.Fatal(err)
		}
		if run = w.await(run); run.Status != procedure.StatusSucceeded || !strings.Contains(w.done(), "stop db@alpha a-4 within 4s") {
			t.Errorf("%s: %s, did %s", run.Status, run.Reason, w.done())
		}
		for want, inputs := range map[string]map[string]string{
			"must be given":     {},
			"none of 4, 5":      {"STACK": "db", "N": "6"},
			"has no such input": {"STACK": "db", "M": "6"},
			"longer than":       {"STACK": strings.Repeat("a", fleet.MaxInputBytes+1)},
		} {
			if _, err := start(inputs); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v: %v, want %s", inputs, err, want)
			}
		}
	})
}

// model is what a procedure of made-up stages comes to.
type model struct {
	// did is how often each execution is begun, by its server; order the stages in which some are.
	did    map[string]int
	order  []int
	failed bool
	took   time.Duration
}

// madeUp is a procedure of random stages. An execution prunes a server of its own, and fails
// as often as it is told to.
type madeUp struct {
	stages []fleet.Stage
	fails  map[string]int
	takes  map[string]time.Duration
}

func makeUp(t *rapid.T) madeUp {
	m := madeUp{fails: map[string]int{}, takes: map[string]time.Duration{}}
	policy := func() fleet.Policy {
		return fleet.Policy{
			Retries: rapid.IntRange(0, 2).Draw(t, "retries"), RetryDelay: fleet.Duration(time.Second),
			Timeout:         fleet.Duration(rapid.SampledFrom([]time.Duration{0, 0, 3500 * time.Millisecond}).Draw(t, "timeout")),
			ContinueOnError: rapid.IntRange(0, 3).Draw(t, "continue") == 0,
		}
	}
	for i := range rapid.IntRange(1, 4).Draw(t, "stages") {
		s := fleet.Stage{Name: fmt.Sprint(i), Enabled: rapid.IntRange(0, 5).Draw(t, "enabled") > 0, Policy: policy()}
		s.When = rapid.SampledFrom([]fleet.When{"", "success", "failure", "always"}).Draw(t, "when")
		for k := range rapid.IntRange(0, 3).Draw(t, "executions") {
			server := fmt.Sprintf("s%d-%d", i, k)
			e := with(x("PruneImages", "server", server), policy())
			if s.When == fleet.WhenAlways {
				e.When = rapid.SampledFrom([]fleet.When{"", "success", "failure", "always"}).Draw(t, "when")
			}
			m.fails[server] = rapid.SampledFrom([]int{0, 0, 1, 2, 9}).Draw(t, "fails")
			m.takes[server] = time.Duration(rapid.IntRange(0, 5).Draw(t, "takes")) * time.Second
			s.Executions = append(s.Executions, e)
		}
		m.stages = append(m.stages, s)
	}
	return m
}

// work says in how many attempts an execution ends from a time on, within a deadline; zero is
// none. It tells whether it succeeded, and when it was over.
func (m *madeUp) work(e *fleet.Execution, at, deadline time.Duration, did map[string]int) (ok bool, over time.Duration) {
	server := e.Text("server")
	late := func(t time.Duration) bool { return deadline > 0 && t >= deadline }
	for attempt := 0; ; attempt++ {
		did[server]++
		ends, good := at+m.takes[server], did[server] > m.fails[server]
		if limit := time.Duration(e.Timeout); limit > 0 && m.takes[server] >= limit {
			ends, good = at+limit, false
		}
		if late(ends) {
			return false, deadline
		}
		if at = ends; good || attempt == e.Retries {
			return good, at
		}
		if at += time.Second << attempt; late(at) {
			return false, deadline
		}
	}
}

func (m *madeUp) expect() model {
	out := model{did: map[string]int{}}
	for i := range m.stages {
		s := &m.stages[i]
		if !s.Enabled || !s.When.Holds(out.failed) {
			continue
		}
		deadline := time.Duration(0)
		if s.Timeout > 0 {
			deadline = out.took + time.Duration(s.Timeout)
		}
		var left []*fleet.Execution
		for k := range s.Executions {
			e := &s.Executions[k]
			if when := e.When; when == "" || when.Holds(out.failed) {
				left = append(left, e)
			}
		}
		if len(left) > 0 {
			out.order = append(out.order, i)
		}
		broken := false
		for attempt := 0; len(left) > 0; attempt++ {
			at := out.took
			var again []*fleet.Execution
			for _, e := range left {
				ok, over := m.work(e, at, deadline, out.did)
				out.took = max(out.took, over)
				if !ok && !e.ContinueOnError {
					again = append(again, e)
				}
			}
			broken = len(again) > 0
			if attempt == s.Retries || len(again) == 0 {
				break
			}
			out.took += time.Second << attempt
			if deadline > 0 && out.took >= deadline {
				out.took = deadline
				break
			}
			left = again
		}
		out.failed = out.failed || broken && !s.ContinueOnError
	}
	return out
}

func TestStagesMeanWhatTheySay(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := makeUp(rt)
		want := m.expect()
		var got model
		var run procedure.Run
		t.Run("", func(t *testing.T) {
			in(t, func(w *world) {
				w.catalog.Procedures = []fleet.Procedure{{Name: "p", Stages: m.stages}}
				for server, n := range m.fails {
					w.catalog.Servers = append(w.catalog.Servers, server)
					w.heals["prune_images on "+server] = n + 1
					w.takes["prune_images on "+server] = m.takes[server]
				}
				run = w.run("p")
				synctest.Wait()
				got.did = map[string]int{}
				for _, what := range w.did {
					got.did[strings.TrimPrefix(what, "prune_images on ")]++
				}
			})
		})
		for _, s := range run.Steps {
			if !slices.Contains(got.order, s.Stage) {
				got.order = append(got.order, s.Stage)
			}
			if s.Ended.IsZero() || s.Attempts != got.did[s.Server] {
				rt.Errorf("step %+v was begun %d times", s, got.did[s.Server])
			}
		}
		got.failed, got.took = run.Status == procedure.StatusFailed, run.Ended.Sub(run.Started)
		if !slices.IsSorted(got.order) {
			rt.Errorf("stages in the order %v", got.order)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(model{})); diff != "" {
			rt.Errorf("(-want +got):\n%s\nof %+v\nfails %v takes %v\nsteps %q", diff, m.stages, m.fails, m.takes, steps(run))
		}
	})
}
