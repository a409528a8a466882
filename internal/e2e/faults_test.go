//go:build e2e

package e2e_test

import (
	"testing"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

// slow keeps a deploy in its verdict long enough to be interrupted.
const slow = "    healthcheck: {test: [\"CMD\", \"/varan\", \"demo-service\", \"probe\", \"http://127.0.0.1:8080/healthz\"]," +
	" interval: 3s, start_period: 1s}\n"

func TestOfflineAgentIsCaughtUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.SyncSpec{AutoApply: true}, "alpha", "beta")
	app := compose(service{name: "app"})
	first := w.push("both", with(w.declare("one@alpha", "two@beta"),
		file("one/compose.yaml", app), file("two/compose.yaml", app)))
	w.waitCommit("one", first)
	w.waitCommit("two", first)
	w.agents["beta"].kill()
	w.waitOnline("beta", false)

	changed := compose(service{name: "app", flags: "--message changed"})
	second := w.push("changed", with(file("one/compose.yaml", changed), file("two/compose.yaml", changed)))
	w.waitCommit("one", second)
	w.eventually("two to be blocked", func() bool {
		s, ok := w.stack("two")
		return ok && s.Sync == fleet.SyncBlocked
	})

	w.startAgent("beta")
	w.waitCommit("two", second)
}

func TestCoreKilledInTheMiddleOfADeploy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.SyncSpec{AutoApply: true}, "alpha")
	commit := w.push("slow", with(w.declare("web@alpha"),
		file("web/compose.yaml", compose(service{name: "app", extra: slow}))))
	w.eventually("the container to start", func() bool { return len(w.running("web")) == 1 })
	ids := w.running("web")
	w.core.kill()
	w.restartCore()
	w.waitOnline("alpha", true)
	w.waitCommit("web", commit)
	if now := w.running("web"); now["app"] != ids["app"] {
		t.Errorf("the container was recreated: %v, then %v", ids, now)
	}
}

func TestAgentKilledInTheMiddleOfARecreate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.SyncSpec{AutoApply: true}, "alpha")
	stubborn := "    init: false\n    stop_signal: SIGUSR1\n"
	app := func(message string) string {
		return compose(service{name: "app", flags: "--message " + message, extra: stubborn})
	}
	w.waitCommit("web", w.push("first", with(w.declare("web@alpha"), file("web/compose.yaml", app("one")))))
	old := w.running("web")["app"]

	commit := w.push("second", file("web/compose.yaml", app("two")))
	w.eventually("the recreate to begin", func() bool {
		for _, c := range w.list(t.Context(), true, "web") {
			if c.ID != old {
				return true
			}
		}
		return false
	})
	w.agents["alpha"].kill()
	w.startAgent("alpha")
	w.waitCommit("web", commit)
	if now := w.running("web"); now["app"] == old || len(w.list(t.Context(), true, "web")) != 1 {
		t.Errorf("containers: %+v", w.list(t.Context(), true, "web"))
	}
}

func TestSlowAgentDoesNotHoldUpAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.SyncSpec{AutoApply: true}, "alpha", "beta")
	stuck := "    healthcheck: {test: [\"CMD\", \"/varan\", \"demo-service\", \"probe\", \"http://127.0.0.1:8080/healthz\"]," +
		" interval: 30s, start_period: 60s, retries: 10}\n"
	w.push("both", with(w.declare("slow@alpha", "quick@beta"),
		file("slow/compose.yaml", compose(service{name: "app", flags: "--unhealthy", extra: stuck})),
		file("quick/compose.yaml", compose(service{name: "app"}))))
	w.eventually("quick to be healthy while slow is still waited for", func() bool {
		quick, ok := w.stack("quick")
		if !ok || quick.Sync != fleet.Synced || quick.Health != fleet.Healthy {
			return false
		}
		slow, ok := w.stack("slow")
		return ok && slow.Sync != fleet.Synced
	})
	changed := w.push("quick again", file("quick/compose.yaml", compose(service{name: "app", flags: "--message again"})))
	w.eventually("quick to follow a newer commit meanwhile", func() bool {
		quick, ok := w.stack("quick")
		return ok && quick.Sync == fleet.Synced && quick.Commit.ID == changed
	})
}

func TestStacksStayOrdinaryComposeProjects(t *testing.T) {
	t.Parallel()
	w, _ := steadyStack(t, api.SyncSpec{AutoApply: true})
	for _, c := range w.list(t.Context(), true, "web") {
		for _, label := range []string{
			"com.docker.compose.project", "com.docker.compose.service", "com.docker.compose.project.config_files",
			"com.docker.compose.project.working_dir", "com.docker.compose.config-hash", "com.docker.compose.version",
		} {
			if c.Labels[label] == "" {
				t.Errorf("%s has no label %s", c.Name, label)
			}
		}
		if got, want := c.Labels["com.docker.compose.project"], w.name("web"); got != want {
			t.Errorf("project %q, want %q", got, want)
		}
	}
}
