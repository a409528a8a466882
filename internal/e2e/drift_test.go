//go:build e2e

package e2e_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

// drifts are the ways a host changes behind Varan's back.
var drifts = map[string]func(t *testing.T, w *world, id string){
	"stopped": func(t *testing.T, w *world, id string) {
		t.Helper()
		if _, err := w.docker.ContainerStop(t.Context(), id, client.ContainerStopOptions{}); err != nil {
			t.Fatal(err)
		}
	},
	"removed": func(t *testing.T, w *world, id string) {
		t.Helper()
		if _, err := w.docker.ContainerRemove(t.Context(), id, client.ContainerRemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	},
	"updated": func(t *testing.T, w *world, id string) {
		t.Helper()
		limits := &container.Resources{Memory: 64 << 20, MemorySwap: 128 << 20}
		if _, err := w.docker.ContainerUpdate(t.Context(), id, client.ContainerUpdateOptions{Resources: limits}); err != nil {
			t.Fatal(err)
		}
	},
	"replaced by hand": replaceByHand,
}

// replaceByHand makes another container with the same name and labels, but another
// environment: what a stored hash alone does not notice.
func replaceByHand(t *testing.T, w *world, id string) {
	t.Helper()
	old, err := w.docker.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.docker.ContainerRemove(t.Context(), id, client.ContainerRemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	config := *old.Container.Config
	config.Env = append(slices.Clone(config.Env), "BY_HAND=1")
	networks := &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{}}
	for name := range old.Container.NetworkSettings.Networks {
		networks.EndpointsConfig[name] = &network.EndpointSettings{}
	}
	made, err := w.docker.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Config: &config, HostConfig: old.Container.HostConfig, NetworkingConfig: networks,
		Name: strings.TrimPrefix(old.Container.Name, "/"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.docker.ContainerStart(t.Context(), made.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestDriftIsShown(t *testing.T) {
	t.Parallel()
	for name, drift := range drifts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, ids := steadyStack(t, api.SyncSpec{AutoApply: true})
			drift(t, w, ids["app"])
			w.eventually("the drift to be shown", func() bool {
				s, ok := w.stack("web")
				return ok && s.Sync == fleet.OutOfSync && s.Text != ""
			})
			result, err := w.api.Plan(t.Context(), "fleet", api.PlanRequest{})
			if err != nil || len(result.Plan.Ops) != 0 || len(result.Plan.Notices) == 0 {
				t.Errorf("the plan should only report it: %s, %v", result.Plan.String(), err)
			}
		})
	}
}

func TestDriftIsHealed(t *testing.T) {
	t.Parallel()
	for name, drift := range drifts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, ids := steadyStack(t, api.SyncSpec{AutoApply: true, SelfHeal: true})
			drift(t, w, ids["app"])
			w.eventually("the drift to be healed", func() bool {
				s, ok := w.stack("web")
				if !ok || s.Sync != fleet.Synced || s.Health != fleet.Healthy {
					return false
				}
				ops, err := w.api.History(t.Context(), w.name("web"), api.Page{Limit: 1})
				return err == nil && len(ops) == 1 && ops[0].Kind == "heal" && ops[0].Status == api.OpSucceeded
			})
			now := w.running("web")
			if now["side"] != ids["side"] {
				t.Error("the service that had not drifted was recreated")
			}
			inspect, err := w.docker.ContainerInspect(t.Context(), now["app"], client.ContainerInspectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if inspect.Container.HostConfig.Memory != 0 || slices.Contains(inspect.Container.Config.Env, "BY_HAND=1") {
				t.Errorf("still drifted: %+v %v", inspect.Container.HostConfig.Memory, inspect.Container.Config.Env)
			}
		})
	}
}

// steadyStack is a stack of two services that is synced and healthy.
func steadyStack(t *testing.T, spec api.SyncSpec) (*world, map[string]string) {
	t.Helper()
	w := newWorld(t, spec, "alpha")
	commit := w.push("web", with(w.declare("web@alpha"),
		file("web/compose.yaml", compose(service{name: "app"}, service{name: "side"}))))
	w.waitCommit("web", commit)
	return w, maps.Clone(w.running("web"))
}
