//go:build e2e

package e2e_test

import (
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

func TestPushRunsByWebhook(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.SyncSpec{AutoApply: true}, "alpha")
	commit := w.push("web", with(w.declare("web@alpha"), file("web/compose.yaml", compose(service{name: "app"}))))
	w.waitCommit("web", commit)
	if len(w.running("web")) != 1 {
		t.Fatalf("containers: %+v", w.list(t.Context(), true, "web"))
	}
	if status, answer := w.webhook("sync", "another-branch"); status != http.StatusAccepted || answer.Accepted || answer.Reason == "" {
		t.Errorf("a push to another branch was answered %d %+v", status, answer)
	}
}

func TestPushRunsByPolling(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.SyncSpec{AutoApply: true, IntervalSeconds: 5}, "alpha")
	commit := w.git.Commit(with(w.declare("web@alpha"), file("web/compose.yaml", compose(service{name: "app"}))), "web")
	w.waitCommit("web", commit)
}

func TestOnlyTheChangedServiceIsRecreated(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.SyncSpec{AutoApply: true}, "alpha")
	files := with(w.declare("web@alpha", "other@alpha"),
		file("web/compose.yaml", compose(service{name: "app", flags: "--message one"}, service{name: "side"})),
		file("other/compose.yaml", compose(service{name: "app"})))
	w.waitCommit("web", w.push("first", files))
	w.eventually("other to run", func() bool { return len(w.running("other")) == 1 })
	web, other := w.running("web"), w.running("other")

	commit := w.push("second", file("web/compose.yaml",
		compose(service{name: "app", flags: "--message two"}, service{name: "side"})))
	op := w.lastOp("web", commit)
	w.waitCommit("web", commit)

	now := w.running("web")
	if now["app"] == web["app"] || now["side"] != web["side"] {
		t.Errorf("before %v, after %v: only app should differ", web, now)
	}
	if !maps.Equal(w.running("other"), other) {
		t.Error("the other stack was touched")
	}
	if !slices.Equal(op.Outcome.Recreated, []string{"app"}) {
		t.Errorf("the outcome says %+v", op.Outcome)
	}
}

func TestChangedMountedFileRecreatesItsService(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.SyncSpec{AutoApply: true}, "alpha")
	mount := "    volumes: [\"./conf:/conf:ro\"]\n"
	files := with(w.declare("web@alpha"), file("web/conf/app.txt", "one\n"), file("web/compose.yaml",
		compose(service{name: "app", flags: "--message @/conf/app.txt", extra: mount}, service{name: "side"})))
	w.waitCommit("web", w.push("first", files))
	before := w.running("web")

	commit := w.push("second", file("web/conf/app.txt", "two\n"))
	w.lastOp("web", commit)
	w.waitCommit("web", commit)
	now := w.running("web")
	if now["app"] == before["app"] || now["side"] != before["side"] {
		t.Errorf("before %v, after %v: only app should differ", before, now)
	}
}

func TestAfterOrderHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.SyncSpec{AutoApply: true}, "alpha", "beta")
	healthy := "    healthcheck: {test: [\"CMD\", \"/varan\", \"demo-service\", \"probe\", \"http://127.0.0.1:8080/healthz\"], interval: 1s}\n"
	commit := w.push("three", with(w.declare("web@alpha after api", "api@beta after db", "db@alpha"),
		file("web/compose.yaml", compose(service{name: "app"})),
		file("api/compose.yaml", compose(service{name: "app"})),
		file("db/compose.yaml", compose(service{name: "app", extra: healthy}))))
	w.waitCommit("web", commit)
	first, second, third := w.lastOp("db", commit).Outcome, w.lastOp("api", commit).Outcome, w.lastOp("web", commit).Outcome
	if second.StartedAt.Before(first.EndedAt) || third.StartedAt.Before(second.EndedAt) {
		t.Errorf("db ended %s, api %s to %s, web started %s", first.EndedAt, second.StartedAt, second.EndedAt, third.StartedAt)
	}
}

func TestBadReleaseIsRolledBackAndNotRetried(t *testing.T) {
	t.Parallel()
	unhealthy := "    healthcheck: {test: [\"CMD\", \"/varan\", \"demo-service\", \"probe\", \"http://127.0.0.1:8080/healthz\"]," +
		" interval: 1s, retries: 2}\n"
	for name, bad := range map[string]string{
		"missing image":   "services:\n  app:\n    image: varan-e2e-absent:latest\n    pull_policy: never\n    command: [\"demo-service\"]\n",
		"bad entrypoint":  compose(service{name: "app", extra: "    entrypoint: [\"/no/such/program\"]\n"}),
		"crash loop":      compose(service{name: "app", flags: "--exit-after 100ms"}),
		"failing healthy": compose(service{name: "app", flags: "--unhealthy", extra: unhealthy}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rolledBack(t, bad)
		})
	}
}

func rolledBack(t *testing.T, bad string) {
	t.Helper()
	w := newWorld(t, api.SyncSpec{AutoApply: true, SelfHeal: true}, "alpha")
	good := compose(service{name: "app", flags: "--message good"})
	first := w.push("good", with(w.declare("web@alpha"), file("web/compose.yaml", good)))
	w.waitCommit("web", first)

	commit := w.push("bad", file("web/compose.yaml", bad))
	op := w.lastOp("web", commit)
	untouched := op.Status == api.OpFailed && op.Outcome.Untouched
	if op.Status != api.OpRolledBack && !untouched {
		t.Fatalf("the bad commit ended %s: %s", op.Status, op.Reason)
	}
	if op.Reason == "" {
		t.Error("the outcome gives no reason")
	}
	w.eventually("the good release to be healthy and the bad one blocked", func() bool {
		s, ok := w.stack("web")
		return ok && s.Health == fleet.Healthy && s.Sync == fleet.SyncBlocked && s.Commit.ID == first
	})
	ids := w.running("web")
	if len(ids) != 1 {
		t.Fatalf("running: %v", ids)
	}

	// Neither another wake nor an unrelated commit may try the same release again.
	w.push("unrelated", file("README.md", "changed\n"))
	w.eventually("the unrelated commit to be seen", func() bool { return w.head() != commit })
	if ops, err := w.api.History(t.Context(), w.name("web"), api.Page{Limit: 5}); err != nil || ops[0].Commit.ID != commit {
		t.Errorf("it was tried again: %+v, %v", ops[0], err)
	}
	why, err := w.api.Why(t.Context(), w.name("web"))
	if err != nil || why.Summary == "" || len(why.Next) == 0 {
		t.Errorf("why answers %+v, %v", why, err)
	}

	fixed := w.push("fixed", file("web/compose.yaml", compose(service{name: "app", flags: "--message fixed"})))
	w.waitCommit("web", fixed)
}

func TestStackThatLeavesGit(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]bool{"with delete": true, "without delete": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, api.SyncSpec{AutoApply: true, Delete: remove}, "alpha")
			app := compose(service{name: "app"})
			commit := w.push("two", with(w.declare("web@alpha", "old@alpha"),
				file("web/compose.yaml", app), file("old/compose.yaml", app)))
			w.waitCommit("web", commit)
			w.waitCommit("old", commit)

			w.push("one", w.declare("web@alpha"))
			if remove {
				w.eventually("old to be gone", func() bool { return len(w.list(t.Context(), true, "old")) == 0 })
				return
			}
			w.eventually("old to be reported as an orphan", func() bool {
				result, err := w.api.Plan(t.Context(), "fleet", api.PlanRequest{})
				return err == nil && len(result.Plan.Notices) > 0 && result.Plan.Notices[0].Kind == "orphan"
			})
			if len(w.running("old")) != 1 {
				t.Error("the orphan was touched")
			}
		})
	}
}

func TestBurstOfWebhooksMakesAtMostTwoPasses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.SyncSpec{AutoApply: true}, "alpha")
	commit := w.push("web", with(w.declare("web@alpha"), file("web/compose.yaml", compose(service{name: "app"}))))
	w.waitCommit("web", commit)
	w.eventually("core to be idle", func() bool {
		s, err := w.api.Sync(t.Context(), "fleet")
		return err == nil && (s.State.Phase == "idle" || s.State.Phase == "waiting")
	})
	before := w.git.Requests()["info/refs"]
	w.git.Commit(file("README.md", "burst\n"), "burst")
	for range 20 {
		if status, _ := w.webhook("sync", "main"); status != http.StatusAccepted {
			t.Fatalf("a webhook of the burst was answered %d", status)
		}
	}
	w.eventually("the burst's commit to be seen", func() bool { return w.head() != commit })
	w.eventually("core to be idle again", func() bool {
		s, err := w.api.Sync(t.Context(), "fleet")
		return err == nil && (s.State.Phase == "idle" || s.State.Phase == "waiting")
	})
	if asked := w.git.Requests()["info/refs"] - before; asked > 2 {
		t.Errorf("20 webhooks made the Git server answer %d times", asked)
	}
}
