//go:build e2e

package docker_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/imageregistry"
)

func TestAnUpdateTakesTheNewImagesAndGoesBackToTheOldOnes(t *testing.T) {
	h := newHost(t)
	app := imageregistry.App(t)
	reg := imageregistry.Open(t)
	push := func(ref, mark string, cmd ...string) string {
		return reg.Push(ref, imageregistry.Image{Binary: app, Cmd: cmd, Mark: mark, Index: true})
	}
	web, api := reg.Host+"/web:1", reg.Host+"/api:1"
	t.Cleanup(func() {
		for _, ref := range []string{web, api} {
			_, _ = h.cl.ImageRemove(context.Background(), ref, client.ImageRemoveOptions{Force: true})
		}
	})
	first := push("web:1", "one", "sleep")
	push("api:1", "one", "sleep")
	release := h.release("updated", nil, "", svc{name: "web", yaml: "init: true", image: web}, svc{name: "api", yaml: "init: true", image: api})
	release.Options.Pull = true
	release = seal(release)
	h.mustApply(release)
	digests := func(service string) []string {
		t.Helper()
		_, reports, err := h.Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range reports {
			for _, c := range reports[i].Containers {
				if reports[i].Stack == "updated" && c.Service == service {
					return c.ImageDigests
				}
			}
		}
		return nil
	}
	if got := digests("web"); !slices.Contains(got, first) {
		t.Fatalf("the image is reported as %v, the registry calls it %s", got, first)
	}
	update := func(services ...string) fleet.Outcome {
		order := h.order(fleet.OrderUpdate, release)
		order.Services = services
		return h.do(order)
	}
	oldWeb, oldAPI := h.container("updated", "web"), h.container("updated", "api")

	second := push("web:1", "two", "sleep")
	push("api:1", "two", "sleep")
	out := update("web")
	h.want(out, fleet.OutcomeSucceeded)
	newWeb := h.container("updated", "web")
	if newWeb.ID == oldWeb.ID || h.container("updated", "api").ID != oldAPI.ID || !slices.Contains(digests("web"), second) {
		t.Errorf("outcome %+v; web is %v, want %s", out, digests("web"), second)
	}
	// The release is what it was: a deploy of it has nothing to do, and does not go back.
	h.mustApply(release)
	if h.container("updated", "web").ID != newWeb.ID || h.container("updated", "api").ID != oldAPI.ID {
		t.Error("deploying the same release again recreated something")
	}

	push("web:1", "three", "exit", "3")
	out = update("web")
	h.want(out, fleet.OutcomeRolledBack)
	if now := h.container("updated", "web"); now.ImageID != newWeb.ImageID || now.State != fleet.StateRunning {
		t.Errorf("after the rollback %s runs, want %s", now.ImageID, newWeb.ImageID)
	}
	if !strings.Contains(out.Reason, "service web") {
		t.Errorf("reason %q", out.Reason)
	}
	// The bad image is still what the tag means, and the release is not to blame for it.
	h.mustApply(release)
	if now := h.container("updated", "web"); now.ImageID != newWeb.ImageID {
		t.Errorf("bringing the same release up again took the bad image")
	}

	// Nothing is updated but what runs.
	other := release
	other.Commit.ID, other.Digest = "another", fleet.SumDigest([]byte("another"))
	if out := h.do(h.order(fleet.OrderUpdate, other)); out.Status != fleet.OutcomeFailed || !out.Untouched || !out.Retryable {
		t.Errorf("an update of a release that does not run: %+v", out)
	}
}
