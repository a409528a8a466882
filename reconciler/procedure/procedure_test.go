package procedure_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/procedure"
)

// steps sums the steps of a run up.
func steps(r procedure.Run) (lines []string) {
	for _, s := range r.Steps {
		line := strings.TrimSpace(fmt.Sprintf("%s %s", s.Type, s.Target)) + ": " + string(s.Status)
		if s.Reason != "" {
			line += ": " + s.Reason
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

func TestStagesRunInOrderAndExecutionsOfAStageAtOnce(t *testing.T) {
	in(t, func(w *world) {
		w.declare("nightly",
			[]fleet.Execution{x("StopStack", "stack", "db", "stop_time", 5), x("StopStack", "stack", "mail", "services", []string{"smtp"})},
			[]fleet.Execution{x("DeployStack", "stack", "db")})
		w.takes["stop db@alpha within 5s"], w.takes["stop mail@beta smtp"] = time.Minute, time.Second
		began := time.Now()
		run := w.run("nightly")
		if run.Status != procedure.StatusSucceeded || run.Reason != "" || time.Since(began) != time.Minute || w.most != 2 {
			t.Errorf("%s (%s) after %s with %d at once", run.Status, run.Reason, time.Since(began), w.most)
		}
		if got := w.done(); !strings.HasSuffix(got, "apply fleet only db forced") {
			t.Errorf("did %s", got)
		}
		if s := run.Steps[2]; s.Stage != 1 || s.Run != "run" || s.Text != "commit c0ffee" || s.Ended.IsZero() {
			t.Errorf("step %+v", s)
		}
	})
}

func TestAFailureLetsItsStageEndAndSkipsTheRest(t *testing.T) {
	in(t, func(w *world) {
		w.declare("nightly",
			[]fleet.Execution{x("StopStack", "stack", "db"), x("RestartStack", "stack", "mail")},
			[]fleet.Execution{x("DeployStack", "stack", "db")})
		w.fails["stop db@alpha"] = "it will not"
		w.takes["restart mail@beta"] = time.Minute
		run := w.run("nightly")
		if run.Status != procedure.StatusFailed || run.Reason != "stage s1: StopStack db: it will not" {
			t.Errorf("%s: %s", run.Status, run.Reason)
		}
		if diff := cmp.Diff([]string{"RestartStack mail: succeeded", "StopStack db: failed: it will not"}, steps(run)); diff != "" {
			t.Error(diff)
		}
		if run.Steps[0].Log != "evidence" {
			t.Errorf("the log is %q", run.Steps[0].Log)
		}
	})
}

func TestWhatIsSwitchedOffIsLeftOut(t *testing.T) {
	in(t, func(w *world) {
		off := x("StopStack", "stack", "db")
		off.Enabled = false
		w.declare("p", []fleet.Execution{off, x("None")}, []fleet.Execution{x("StopStack", "stack", "mail")})
		w.catalog.Procedures[0].Stages[1].Enabled = false
		if run := w.run("p"); run.Status != procedure.StatusSucceeded || w.done() != "" {
			t.Errorf("%s, did %s", run.Status, w.done())
		}
	})
}

func TestWhatEachExecutionDoes(t *testing.T) {
	in(t, func(w *world) {
		for _, tc := range []struct {
			x    fleet.Execution
			does string
		}{
			{x("DeployStack", "stack", "web"), "apply fleet only web forced"},
			{x("DeployStackIfChanged", "stack", "web"), "apply fleet only web"},
			{x("BatchDeployStackIfChanged", "pattern", "*"), "apply fleet only cache,db,web; apply other only mail"},
			{x("BatchDeployStack", "pattern", "web, mail"), "apply fleet only web forced; apply other only mail forced"},
			{x("BatchDeployStack", "pattern", "*", "tags", []string{"front"}), "apply fleet only web forced; apply other only mail forced"},
			{x("BatchDestroyStack", "pattern", `\^(db|mail)$\`), "down db@alpha; down mail@beta"},
			{x("BatchPullStack", "pattern", "nothing*"), ""},
			{x("PullStack", "stack", "db", "services", []string{"a"}), "pull db@alpha a"},
			{x("StartStack", "stack", "web"), "start web@alpha; start web@beta"},
			{x("PauseStack", "stack", "db"), "pause db@alpha"},
			{x("UnpauseStack", "stack", "db"), "unpause db@alpha"},
			{x("DestroyStack", "stack", "db", "stop_time", 3), "down db@alpha within 3s"},
			{x("Deploy", "deployment", "cache"), "apply fleet only cache-deployment forced"},
			{x("StopDeployment", "deployment", "cache", "time", 4), "stop cache-deployment@alpha within 4s"},
			{x("StopDeployment", "deployment", "cache", "signal", "SIGINT"), "stop cache-deployment@alpha by SIGINT"},
			{x("RunStackService", "stack", "db", "service", "job", "command", []string{"to", "a b"}, "env", `{"A": 1, "B": true}`,
				"entrypoint", "sh -c"), `run db@alpha job ["sh" "-c" "to" "a b"] map[A:1 B:true]`},
			{x("RestartDeployment", "deployment", "cache-deployment"), "restart cache-deployment@alpha"},
			{x("PullRepo", "repo", "site"), "apply fleet only site forced"},
			{x("BatchCloneRepo", "pattern", "s*"), "apply fleet only site forced"},
			{x("RunSync", "sync", "other"), "apply other"},
			{x("RunSync", "sync", "fleet", "resource_type", "Stack", "resources", []string{"db"}), "apply fleet only db"},
			{x("RunSync", "sync", "fleet", "resource_type", "Deployment"), "apply fleet only cache-deployment"},
			{x("RunSync", "sync", "fleet", "resource_type", "Procedure"), ""},
			{x("RestartContainer", "server", "beta", "container", "c"), "restart_container on beta c"},
			{x("PruneSystem", "server", "beta"), "prune_system on beta"},
			{x("DeleteImage", "server", "beta", "name", "i"), "delete_image on beta i"},
			{x("TestAlerter", "alerter", "ops"), "test ops"},
			{x("SendAlert", "level", "WARNING", "message", "m", "alerters", []string{"ops"}), "send WARNING m  [ops]"},
			{x("ClearRepoCache"), "maintain ClearRepoCache"},
		} {
			w.did = nil
			run := w.once(tc.x)
			did := slices.Sorted(strings.SplitSeq(w.done(), "; "))
			if run.Status != procedure.StatusSucceeded || strings.Join(did, "; ") != tc.does {
				t.Errorf("%s %v: %s %s, did %q, want %q", tc.x.Type, tc.x.Params, run.Status, run.Reason, did, tc.does)
			}
			if !procedure.Runs(tc.x.Type) {
				t.Errorf("%s is not said to be run", tc.x.Type)
			}
		}
	})
}

func TestWhatCannotBeDoneSaysWhy(t *testing.T) {
	in(t, func(w *world) {
		for _, tc := range []struct {
			x      fleet.Execution
			reason string
		}{
			{x("DeployStack", "stack", "wbe"), `there is no stack "wbe"`},
			{x("PullRepo", "repo", "web"), `there is no repo "web"`},
			{x("PruneSystem", "server", "gamma"), `there is no server "gamma"`},
			{x("RunSync", "sync", "none"), `there is no sync "none"`},
			{x("RunSync", "sync", "fleet", "resources", []string{"mail"}), `sync fleet declares no stack "mail"`},
			{x("RunProcedure", "procedure", "none"), `there is no procedure "none"`},
			{x("BatchDeployStack", "pattern", `\(\`), "the regular expression"},
			{x("BatchDeployStack", "pattern", `\abc`), "has no backslash at its end"},
			{x("CommitSync", "sync", "fleet"), "Git is never written to"},
			{x("RunBuild", "build", "b"), "RunBuild is not run: images are built in CI"},
			{x("GlobalAutoUpdate"), "GlobalAutoUpdate is not run by Varan yet"},
		} {
			run := w.once(tc.x)
			if run.Status != procedure.StatusFailed || !strings.Contains(run.Reason, tc.reason) {
				t.Errorf("%s %v: %s: %s; want %s", tc.x.Type, tc.x.Params, run.Status, run.Reason, tc.reason)
			}
		}
		if w.done() != "" {
			t.Errorf("did %s", w.done())
		}
		if procedure.Runs("RunBuild") || procedure.Runs("CommitSync") {
			t.Error("what is not run is said to be")
		}
	})
}

func TestOfAMaintenanceTaskOneIsUnderWay(t *testing.T) {
	in(t, func(w *world) {
		w.takes["maintain ClearRepoCache"] = time.Minute
		began := time.Now()
		clearing := x("ClearRepoCache")
		var runs []procedure.Run
		for range 3 {
			run, _, err := w.runner.Start(w.Context(), procedure.Request{Execution: &clearing, Actor: "ann"})
			if err != nil {
				t.Fatal(err)
			}
			runs = append(runs, run)
		}
		for _, run := range runs {
			if run = w.await(run); run.Status != procedure.StatusSucceeded || run.Steps[0].Text != "done ClearRepoCache in "+run.ID {
				t.Errorf("%s: %s, says %q", run.Status, run.Reason, run.Steps[0].Text)
			}
		}
		if w.most != 1 || time.Since(began) != 3*time.Minute {
			t.Errorf("%d were under way at once, all took %s", w.most, time.Since(began))
		}
	})
}

func TestEveryStackOfABatchHasItsOwnResult(t *testing.T) {
	in(t, func(w *world) {
		w.fails["web@beta"], w.fails["db@alpha"], w.fails["cache@alpha"] = "exited with 1", "offline", "same"
		run := w.once(x("BatchDeployStackIfChanged", "pattern", "*"))
		want := []string{
			"BatchDeployStackIfChanged cache: succeeded",
			"BatchDeployStackIfChanged db: failed: alpha is offline",
			"BatchDeployStackIfChanged mail: succeeded",
			"BatchDeployStackIfChanged web@alpha: succeeded",
			"BatchDeployStackIfChanged web@beta: failed: exited with 1; the last good release runs again",
		}
		if diff := cmp.Diff(want, steps(run)); diff != "" {
			t.Error(diff)
		}
		if !strings.HasSuffix(run.Reason, "(and 1 more)") || run.Steps[0].Text != "nothing to do at commit c0ffee" {
			t.Errorf("reason %q, text %q", run.Reason, run.Steps[0].Text)
		}
		run = w.once(x("RunSync", "sync", "other"))
		if run.Status != procedure.StatusSucceeded {
			t.Errorf("%s: %s", run.Status, run.Reason)
		}
	})
}

func TestABusyStackIsWaitedFor(t *testing.T) {
	in(t, func(w *world) {
		w.busy["db"] = 3
		began := time.Now()
		run := w.once(x("BatchDeployStack", "pattern", "db,cache"))
		if run.Status != procedure.StatusSucceeded || time.Since(began) != 3*time.Second {
			t.Errorf("%s (%s) after %s", run.Status, run.Reason, time.Since(began))
		}
		again := "apply fleet only db forced"
		if want := "apply fleet only cache,db forced; " + strings.Join([]string{again, again, again}, "; "); w.done() != want {
			t.Errorf("did %s, want %s", w.done(), want)
		}
		w.busy["mail"] = 2
		if run := w.once(x("RunSync", "sync", "other")); run.Status != procedure.StatusSucceeded {
			t.Errorf("%s: %s", run.Status, run.Reason)
		}
	})
}

func TestABusyProcedureQueues(t *testing.T) {
	in(t, func(w *world) {
		w.declare("p", []fleet.Execution{x("Sleep", "duration_ms", 60_000)})
		began := time.Now()
		first, second := w.start("p"), w.start("p")
		synctest.Wait()
		if active := w.runner.Active(); len(active) != 2 || active[0].Status != procedure.StatusRunning || active[1].Status != procedure.StatusQueued {
			t.Errorf("active %+v", active)
		}
		third, coalesced, err := w.runner.Start(w.Context(), procedure.Request{Procedure: "p", Coalesce: true})
		if err != nil || !coalesced || third.ID != second.ID {
			t.Errorf("a third became %s, %v, %v; want it to be the second", third.ID, coalesced, err)
		}
		w.await(first)
		if run := w.await(second); run.Status != procedure.StatusSucceeded || time.Since(began) != 2*time.Minute {
			t.Errorf("%s after %s", run.Status, time.Since(began))
		}
	})
}

func TestRunsOfAProcedureKeepTheirOrder(t *testing.T) {
	in(t, func(w *world) {
		w.declare("p", []fleet.Execution{x("Sleep", "duration_ms", 1_000)})
		var asked, ran []string
		for range 6 {
			asked = append(asked, w.start("p").ID)
		}
		synctest.Wait()
		if n := w.runner.Cancel(asked[2], "bob"); n != 1 {
			t.Errorf("%d runs were canceled", n)
		}
		asked = slices.Delete(asked, 2, 3)
		for _, id := range asked {
			w.runner.Await(w.Context(), id)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, run := range w.ended {
			if run.Status == procedure.StatusSucceeded {
				ran = append(ran, run.ID)
			}
		}
		if diff := cmp.Diff(asked, ran); diff != "" {
			t.Errorf("the runs in the order of their end (-want +got):\n%s", diff)
		}
	})
}

func TestCancelEndsARunAfterItsStage(t *testing.T) {
	in(t, func(w *world) {
		w.declare("p", []fleet.Execution{x("StopStack", "stack", "db")}, []fleet.Execution{x("StartStack", "stack", "db")})
		w.declare("outer", []fleet.Execution{x("RunProcedure", "procedure", "p")})
		w.takes["stop db@alpha"] = time.Minute
		outer := w.start("outer")
		synctest.Wait()
		waiting := w.start("p")
		synctest.Wait()
		if n := w.runner.Cancel("outer", "bob"); n != 1 {
			t.Errorf("%d runs canceled", n)
		}
		w.runner.Cancel(waiting.ID, "bob")
		for _, run := range []procedure.Run{w.await(outer), w.await(waiting)} {
			if run.Status != procedure.StatusCanceled || !strings.Contains(run.Reason, "canceled by bob") {
				t.Errorf("%s: %s: %s", run.Procedure, run.Status, run.Reason)
			}
		}
		if w.done() != "stop db@alpha" {
			t.Errorf("did %s", w.done())
		}
		w.declare("long", []fleet.Execution{x("Sleep", "duration_ms", 3_600_000)})
		w.declare("end", []fleet.Execution{x("CancelProcedure", "procedure", "long")})
		long := w.start("long")
		synctest.Wait()
		w.run("end")
		if run := w.await(long); run.Status != procedure.StatusCanceled || run.Ended.Sub(run.Started) > time.Second {
			t.Errorf("a sleep: %s after %s", run.Status, run.Ended.Sub(run.Started))
		}
	})
}

func TestProceduresThatRunThemselvesAreRefused(t *testing.T) {
	in(t, func(w *world) {
		w.declare("a", []fleet.Execution{x("RunProcedure", "procedure", "b")})
		w.declare("b", []fleet.Execution{x("None")}, []fleet.Execution{x("BatchRunProcedure", "pattern", "?")})
		for _, name := range []string{"a", "b"} {
			_, _, err := w.runner.Start(w.Context(), procedure.Request{Procedure: name})
			if err == nil || !strings.Contains(err.Error(), "runs itself: "+name+" → ") {
				t.Errorf("%s: %v", name, err)
			}
		}
		for i := range procedure.MaxDepth + 1 {
			w.declare(fmt.Sprint("deep", i), []fleet.Execution{x("RunProcedure", "procedure", fmt.Sprint("deep", i+1))})
		}
		w.declare(fmt.Sprint("deep", procedure.MaxDepth+1), []fleet.Execution{x("None")})
		if run := w.run("deep0"); run.Status != procedure.StatusFailed || !strings.Contains(run.Reason, "more than 8 deep") {
			t.Errorf("%s: %s", run.Status, run.Reason)
		}
		if run := w.run("deep3"); run.Status != procedure.StatusSucceeded {
			t.Errorf("%s: %s", run.Status, run.Reason)
		}
		if _, _, err := w.runner.Start(w.Context(), procedure.Request{Procedure: "none"}); !errors.Is(err, procedure.ErrUnknown) {
			t.Errorf("unknown: %v", err)
		}
	})
}

func TestAProcedureThatComesToRunItselfWhileItRunsIsStopped(t *testing.T) {
	in(t, func(w *world) {
		w.declare("a", []fleet.Execution{x("Sleep", "duration_ms", 1000)}, []fleet.Execution{x("RunProcedure", "procedure", "b")})
		w.declare("b", []fleet.Execution{x("None")})
		run := w.start("a")
		synctest.Wait()
		w.declare("b", []fleet.Execution{x("RunProcedure", "procedure", "a")})
		if run := w.await(run); run.Status != procedure.StatusFailed || !strings.Contains(run.Reason, "runs itself") {
			t.Errorf("%s: %s", run.Status, run.Reason)
		}
	})
}

func TestEverythingIsOnRecordBeforeItIsDone(t *testing.T) {
	in(t, func(w *world) {
		w.declare("p", []fleet.Execution{x("StopStack", "stack", "db")})
		w.run("p")
		want := []string{"begin p", "started", "stage of 1", "step StopStack db", "ended StopStack db: succeeded", "end p: succeeded"}
		if diff := cmp.Diff(want, w.journal); diff != "" {
			t.Error(diff)
		}
		for _, refused := range []string{"begin", "started", "stage", "step"} {
			w.did, w.refuse = nil, refused
			run, _, err := w.runner.Start(w.Context(), procedure.Request{Procedure: "p"})
			if err == nil {
				if run := w.await(run); run.Status != procedure.StatusFailed {
					t.Errorf("%s refused: %s", refused, run.Status)
				}
			}
			if w.done() != "" {
				t.Errorf("%s refused: did %s", refused, w.done())
			}
		}
		w.refuse = "ended"
		if run := w.run("p"); run.Status != procedure.StatusFailed || !strings.Contains(run.Reason, "could not be recorded") {
			t.Errorf("%s: %s", run.Status, run.Reason)
		}
	})
}

func TestARunIsWatchedAndOutlivesWhoAskedForIt(t *testing.T) {
	in(t, func(w *world) {
		w.declare("p", []fleet.Execution{x("StopStack", "stack", "db")}, []fleet.Execution{x("RunProcedure", "procedure", "q")})
		w.declare("q", []fleet.Execution{x("None")})
		ctx, leave := context.WithCancel(w.Context())
		var heard []string
		run, _, err := w.runner.Start(ctx, procedure.Request{Procedure: "p", Watch: func(e procedure.Event) {
			heard = append(heard, strings.TrimSpace(string(e.Kind)+" "+e.Text))
		}})
		leave()
		if err != nil {
			t.Fatal(err)
		}
		if run := w.await(run); run.Status != procedure.StatusSucceeded {
			t.Errorf("%s: %s", run.Status, run.Reason)
		}
		want := []string{
			"queued", "started", "stage s1", "step_started", "progress up working", "step_ended", "stage s2", "step_started",
			"progress None : running", "progress None : succeeded", "step_ended", "ended",
		}
		if diff := cmp.Diff(want, heard); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAnEndingCoreStartsNothingMore(t *testing.T) {
	in(t, func(w *world) {
		w.declare("p", []fleet.Execution{x("StopStack", "stack", "db")}, []fleet.Execution{x("StartStack", "stack", "db")})
		w.takes["stop db@alpha"] = time.Hour
		run := w.start("p")
		synctest.Wait()
		w.stop()
		<-w.stopped
		if run := w.await(run); run.Status != procedure.StatusCanceled {
			t.Errorf("%s: %s", run.Status, run.Reason)
		}
		_, _, err := w.runner.Start(w.Context(), procedure.Request{Procedure: "p", Trigger: reconciler.TriggerManual})
		if !errors.Is(err, procedure.ErrStopped) {
			t.Errorf("a start after the end: %v", err)
		}
	})
}

func TestNewRefusesAnIncompleteConfig(t *testing.T) {
	if _, err := procedure.New(procedure.Config{}); err == nil {
		t.Error("a runner without anything was made")
	}
}
