//go:build e2e

package e2e_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/varanhq/varan/core/api"
)

// records are what varan history says of a stack.
func (w *world) records(stack string, flags ...string) []api.Event {
	w.t.Helper()
	out, code := w.varan("", append([]string{"history", w.name(stack), "--json"}, flags...)...)
	var found []api.Event
	if err := json.Unmarshal([]byte(out), &found); code != 0 || err != nil {
		w.t.Fatalf("varan history: exit %d, %v: %s", code, err, out)
	}
	return found
}

func TestTheAgentRepairsAloneAndTellsLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.SyncSpec{AutoApply: true, SelfHeal: true})
	w.startAgent("alpha", "--heal-after", "1s")
	w.waitOnline("alpha", true)
	w.waitCommit("web", w.push("web", with(w.declare("web@alpha"),
		file("web/compose.yaml", compose(service{name: "app"}, service{name: "side"})))))
	before := w.running("web")
	w.core.kill()
	removed := time.Now()
	if _, err := w.docker.ContainerRemove(t.Context(), before["app"], client.ContainerRemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	w.eventually("the agent to have put it back", func() bool {
		log, err := os.ReadFile(w.agents["alpha"].log)
		return err == nil && bytes.Contains(log, []byte(`msg="order ended" order=heal-`))
	})
	back := time.Now()
	after := w.running("web")
	if after["app"] == "" || after["app"] == before["app"] || after["side"] != before["side"] {
		t.Fatalf("before %v, now %v", before, after)
	}

	w.restartCore()
	var told []api.Event
	w.eventually("the history to tell of it", func() bool {
		told = w.records("web", "--kind", "heal")
		return len(told) > 0
	})
	e := told[0]
	if len(told) != 1 || e.Status != string(api.OpSucceeded) || !strings.Contains(e.Text, "while core was away, the agent of "+w.name("alpha")) {
		t.Errorf("told is %+v", told)
	}
	if e.At.Before(removed) || e.At.After(back) || e.Recorded.Before(back) {
		t.Errorf("removed at %s, back by %s, but it is told of %s, and recorded %s", removed, back, e.At, e.Recorded)
	}
	w.waitOnline("alpha", true)
	plan, err := w.api.Plan(t.Context(), "fleet", api.PlanRequest{})
	if err != nil || !plan.Plan.Empty() || w.running("web")["app"] != after["app"] {
		t.Errorf("core does it again: %+v, %v", plan.Plan, err)
	}
}
