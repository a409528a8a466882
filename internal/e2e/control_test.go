//go:build e2e

package e2e_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// held waits until a stack is held back, and says why it is.
func (w *world) held(stack string) string {
	w.t.Helper()
	text := ""
	w.eventually(stack+" to be held back", func() bool {
		s, ok := w.stack(stack)
		text = s.Text
		return ok && s.Sync == fleet.SyncBlocked && s.Health == fleet.Healthy
	})
	return text
}

func TestARollbackHoldsUntilItIsReleased(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.SyncSpec{AutoApply: true}, "alpha")
	says := func(message string) map[string]string {
		return file("web/compose.yaml", compose(service{name: "app", flags: "--message " + message}))
	}
	first := w.push("first", with(w.declare("web@alpha"), says("one")))
	w.waitCommit("web", first)
	w.waitCommit("web", w.push("second", says("two")))

	out, code := w.varan("", "rollback", w.name("web"), "--reason", "checkout is broken", "--yes")
	if code != 0 || !strings.Contains(out, "goes back to "+first[:8]) {
		t.Fatalf("exit %d:\n%s", code, out)
	}
	runs := func(message string) bool {
		now := w.list(t.Context(), false, "web")
		return len(now) == 1 && slices.Contains(w.inspect(now[0].ID).Config.Cmd, message)
	}
	if !runs("one") {
		t.Fatalf("the earlier release does not run: %+v", w.list(t.Context(), true, "web"))
	}
	if text := w.held("web"); !strings.Contains(text, "rolled back from") || !strings.Contains(text, "checkout is broken") {
		t.Errorf("held back: %q", text)
	}
	// Neither another commit nor another core brings the bad one back.
	before := w.running("web")
	w.push("unrelated", file("README.md", "hello\n"))
	w.core.kill()
	w.restartCore()
	w.waitOnline("alpha", true)
	w.held("web")
	if !maps.Equal(before, w.running("web")) {
		t.Error("what was rolled back was deployed again")
	}
	if out, code := w.varan("", "release", w.name("web")); code != 0 {
		t.Fatalf("exit %d:\n%s", code, out)
	}
	w.eventually("the commit's release to run", func() bool { return runs("two") })
}

func TestARolloutStopsAtItsCanary(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.SyncSpec{AutoApply: true}, "alpha", "beta")
	declared := func(flags string) map[string]string {
		return with(w.declareStack("web",
			fmt.Sprintf("servers = [%q, %q]", w.name("alpha"), w.name("beta")),
			"[stack.config.rollout]", "batch = 1", fmt.Sprintf("canary = [%q]", w.name("beta")),
			"[[stack.config.overlay]]", fmt.Sprintf("servers = [%q]", w.name("beta")), fmt.Sprintf("project_name = %q", w.name("web-beta")),
		), file("web/compose.yaml", compose(service{name: "app", flags: flags})))
	}
	servers := file("servers.toml", fmt.Sprintf("[[server]]\nname = %q\n[[server]]\nname = %q\n", w.name("alpha"), w.name("beta")))
	w.waitCommit("web", w.push("first", with(declared("--message one"), servers)))
	before := w.byServer("web")

	w.push("breaks", declared("--exit-after 100ms"))
	var stopped plan.Rollout
	w.eventually("the rollout to stop", func() bool {
		all, err := w.api.Rollouts(t.Context())
		i := slices.IndexFunc(all, func(r plan.Rollout) bool { return r.Stack == w.name("web") && r.Status == plan.RolloutFailed })
		if err != nil || i < 0 {
			return false
		}
		stopped = all[i]
		return true
	})
	if !slices.Equal(stopped.Failed, []string{w.name("beta")}) || w.byServer("web")["alpha"].ID != before["alpha"].ID {
		t.Errorf("rollout %+v, containers %+v", stopped, w.byServer("web"))
	}
	w.waitCommit("web", w.push("fixed", declared("--message fixed")))
	if out, code := w.varan("", "rollout", w.name("web")); code != 0 || !strings.Contains(out, "2 of 2 servers done") {
		t.Errorf("exit %d:\n%s", code, out)
	}
}
