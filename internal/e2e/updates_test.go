//go:build e2e

package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/imageregistry"
)

// updated is a stack of two services, app and side, with images of a registry.
type updated struct {
	*world
	registry *imageregistry.Store
	app      []byte
}

func (u *updated) push(ref, mark string, cmd ...string) {
	u.registry.Push(ref, imageregistry.Image{Binary: u.app, Cmd: cmd, Mark: mark, Index: true})
}

func (u *updated) files(settings, sideNote string) map[string]string {
	compose := "services:\n"
	for _, name := range []string{"app", "side"} {
		compose += fmt.Sprintf("  %s:\n    image: %s/%s:1.0\n    stop_grace_period: 1s\n    restart: unless-stopped\n", name, u.registry.Host, name)
	}
	compose += "    environment: {NOTE: \"" + sideNote + "\"}\n"
	return with(u.declareStack("web", fmt.Sprintf("server = %q", u.name("alpha")), settings),
		file("servers.toml", fmt.Sprintf("[[server]]\nname = %q\n", u.name("alpha"))), file("web/compose.yaml", compose))
}

// image is the id of the image that a service runs.
func (u *updated) image(service string) string {
	u.t.Helper()
	return u.inspect(u.running("web")[service]).Image
}

// global runs GlobalAutoUpdate and returns what it said.
func (u *updated) global(want int, params ...string) string {
	u.t.Helper()
	out, code := u.varan("", append([]string{"run", "--execution", "GlobalAutoUpdate"}, params...)...)
	if code != want {
		u.t.Fatalf("GlobalAutoUpdate exited with %d, want %d: %s", code, want, out)
	}
	return out
}

// forget has core ask the registry again: what it heard stands for ten minutes otherwise.
func (u *updated) forget() {
	u.t.Helper()
	u.core.kill()
	u.restartCore()
	u.waitOnline("alpha", true)
}

func (u *updated) states() map[string]api.UpdateState {
	u.t.Helper()
	updates, err := u.api.Updates(u.t.Context(), u.name("web"), false)
	if err != nil {
		u.t.Fatal(err)
	}
	states := map[string]api.UpdateState{}
	for _, update := range updates {
		states[update.Service] = update.State
	}
	return states
}

func (u *updated) waitAlert(typ fleet.AlertType, over bool) {
	u.t.Helper()
	u.eventually(fmt.Sprintf("an alert of the type %s (over: %t)", typ, over), func() bool {
		alerts, err := u.api.Alerts(u.t.Context(), false, 50)
		return err == nil && slices.ContainsFunc(alerts, func(a api.Alert) bool {
			return a.Type == typ && (!over || !a.Resolved.IsZero())
		})
	})
}

func TestNewerImagesAreDeployedAndBadOnesUndone(t *testing.T) {
	t.Parallel()
	u := &updated{newWorld(t, api.SyncSpec{AutoApply: true}, "alpha"), imageregistry.Open(t), imageregistry.App(t)}
	t.Cleanup(func() {
		for _, ref := range []string{"app:1.0", "side:1.0"} {
			_, _ = u.docker.ImageRemove(t.Context(), u.registry.Host+"/"+ref, client.ImageRemoveOptions{Force: true})
		}
	})
	u.push("app:1.0", "one", "sleep")
	u.push("side:1.0", "one", "sleep")
	u.push("app:1.1", "next", "sleep")
	u.waitCommit("web", u.world.push("web", u.files("auto_update = true\nupdate_policy = \"app = ^1\"", "first")))
	before, first := u.running("web"), u.image("app")
	u.global(0)
	if got := u.states(); got["app"] != api.UpdateCurrent || got["side"] != api.UpdateCurrent {
		t.Fatalf("right after the deploy: %v", got)
	}
	if out, _ := u.varan("", "updates"); !strings.Contains(out, ":1.1") || !strings.Contains(out, "^1") {
		t.Errorf("the newer tag is not told:\n%s", out)
	}

	// A newer image under the same tag.
	u.push("app:1.0", "two", "sleep")
	u.forget()
	if out := u.global(0, "skip_auto_update=true"); u.states()["app"] != api.UpdateAvailable || u.running("web")["app"] != before["app"] {
		t.Fatalf("told only: %v: %s", u.states(), out)
	}
	if out := u.global(0); !strings.Contains(out, "updated: app runs") {
		t.Errorf("it said %s", out)
	}
	good := u.running("web")
	second := u.image("app")
	if second == first || good["app"] == before["app"] || good["side"] != before["side"] {
		t.Fatalf("before %v, after %v", before, good)
	}
	u.waitAlert(fleet.AlertStackAutoUpdated, true)
	if plan, err := u.api.Plan(t.Context(), "fleet", api.PlanRequest{}); err != nil || !plan.Plan.Empty() {
		t.Errorf("what was updated is drift: %+v, %v", plan.Plan, err)
	}
	ops, err := u.api.History(t.Context(), u.name("web"), api.Page{Limit: 1})
	if err != nil || len(ops) != 1 || ops[0].Causes[0].Kind != "image" || !slices.Equal(ops[0].Outcome.Recreated, []string{"app"}) {
		t.Errorf("the history has %+v, %v", ops, err)
	}

	// One that does not run: undone, remembered, told.
	u.push("app:1.0", "three", "exit", "3")
	u.forget()
	if out := u.global(1); !strings.Contains(out, "was undone") || !strings.Contains(out, "exited with code 3") {
		t.Errorf("it said %s", out)
	}
	if u.states()["app"] != api.UpdateHeld || u.image("app") != second {
		t.Fatalf("after the bad image: %v, %s runs, want %s", u.states(), u.image("app"), second)
	}
	u.waitAlert(fleet.AlertStackRolledBack, false)
	back := u.running("web")
	u.global(0)
	if now := u.running("web"); now["app"] != back["app"] {
		t.Error("the bad image was tried again")
	}
	if out, code := u.varan("", "updates", u.name("web"), "--newer"); code != 0 || !strings.Contains(out, "held") {
		t.Errorf("varan updates: %d: %s", code, out)
	}

	// A later deploy neither goes back nor takes the bad image.
	u.waitCommit("web", u.world.push("another note", u.files("poll_for_updates = true", "second")))
	if now := u.running("web"); u.image("app") != second || now["side"] == back["side"] {
		t.Errorf("after the next commit %s runs, want %s", u.image("app"), second)
	}

	// Polling tells of the next one, and a person has it deployed.
	u.push("app:1.0", "four", "sleep")
	u.forget()
	u.global(0)
	if u.states()["app"] != api.UpdateAvailable || u.image("app") != second {
		t.Errorf("polling: %v", u.states())
	}
	u.waitAlert(fleet.AlertStackUpdateAvailable, false)
	if out, code := u.varan("", "updates", u.name("web"), "--apply"); code != 0 || !strings.Contains(out, "updated: app runs") || u.image("app") == second {
		t.Errorf("varan updates --apply: %d: %s", code, out)
	}
	u.waitAlert(fleet.AlertStackUpdateAvailable, true)
}
