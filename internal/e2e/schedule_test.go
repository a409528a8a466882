//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
)

// nightly declares a procedure that applies the sync within seconds, and then once a minute.
const nightly = `
[[procedure]]
name = "nightly"
[procedure.config]
schedule = "*/3 * * * * *"
schedule_format = "Cron"
[[procedure.config.stage]]
name = "Deploy"
executions = [{ execution.type = "RunSync", execution.params.sync = "fleet" }]
`

// says runs a command that must succeed and say all of that.
func (w *world) says(command string, wanted ...string) string {
	w.t.Helper()
	out, code := w.varan("", strings.Fields(command)...)
	if code != 0 {
		w.t.Errorf("varan %s: exit %d:\n%s", command, code, out)
	}
	for _, want := range wanted {
		if !strings.Contains(out, want) {
			w.t.Errorf("varan %s does not say %q:\n%s", command, want, out)
		}
	}
	return out
}

// why is what varan why --json answers.
func (w *world) why(of string) (answer api.Why) {
	w.t.Helper()
	out := w.says("why --json " + of)
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		w.t.Fatal(err)
	}
	return answer
}

func TestAScheduleDeploysAndIsNamedAsTheCause(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.SyncSpec{}, "alpha")
	declared := w.declare("web@alpha")
	w.waitCommit("web", w.push("say one", with(declared, file("web/compose.yaml", compose(service{name: "app", flags: "--message one"})))))
	before := w.running("web")
	// The sync does not apply by itself, and is only told to look: just the schedule can bring
	// this to the host.
	declared["fleet.toml"] += nightly
	second := w.git.Commit(with(declared, file("web/compose.yaml", compose(service{name: "app", flags: "--message two"}))), "say two")
	if status, _ := w.webhook("refresh", "main"); status != http.StatusAccepted {
		t.Fatalf("the webhook answered %d", status)
	}
	w.waitCommit("web", second)
	if now := w.running("web"); now["app"] == "" || now["app"] == before["app"] {
		t.Errorf("ran %v, runs %v", before, now)
	}

	answer := w.why(w.name("web") + "@" + w.name("alpha"))
	var kinds []string
	for i := range answer.Because {
		kinds = append(kinds, answer.Because[i].Kind)
	}
	if diff := cmp.Diff([]string{"op", "run", "schedule"}, kinds); diff != "" {
		t.Fatalf("what led to it (-want +got):\n%s", diff)
	}
	op, run := answer.Because[0], answer.Because[1]
	if op.Commit != second || run.Actor != "procedure nightly" || op.DurationMS == 0 {
		t.Errorf("the op is %+v, the run %+v", op, run)
	}
	w.says("why "+w.name("web"), "what led to it", "update "+w.name("web")+"@"+w.name("alpha")+": succeeded; due because service app: command",
		"<- ", `commit `+second[:8]+` ("say two" by`, "asked for by procedure nightly", "procedure nightly begun by its schedule, due")
	w.says(fmt.Sprintf("history show %d", op.ID), "procedure nightly begun by its schedule", "<- this one", "because", "log")
	w.says(fmt.Sprintf("history show %d", answer.Because[2].ID), "then", "asked for by procedure nightly")
	w.says("why procedure/nightly", "procedure nightly runs next at", "its last run", "varan run nightly")

	schedules, err := w.api.Schedules(t.Context(), 1)
	i := slices.IndexFunc(schedules, func(s api.Schedule) bool { return s.Procedure == "nightly" })
	if err != nil || i < 0 || schedules[i].LastRun == nil || schedules[i].LastRun.Trigger != "schedule" || len(schedules[i].Next) != 1 {
		t.Fatalf("schedules %+v, %v", schedules, err)
	}
	w.says("schedules", "nightly", "*/3 * * * * *", "fleet")
}
