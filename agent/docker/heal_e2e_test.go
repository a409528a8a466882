//go:build e2e

package docker_test

import (
	"testing"

	"github.com/moby/moby/client"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/fleet"
)

// repairs are what an agent would do now if core were away.
func (h *host) repairs() []fleet.Order {
	h.t.Helper()
	due, err := h.Repairs(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return due
}

func TestWhatWasRemovedByHandIsPutBackWithoutCore(t *testing.T) {
	h := newHost(t)
	var _ agent.Healer = h.Engine
	r := h.release("heal", map[string]string{"conf/app.toml": "a"}, "", svc{
		name: "web", yaml: "command: [sleep]\nvolumes: [{type: bind, source: ./conf/app.toml, target: /app.toml}]",
	}, svc{name: "db", yaml: "command: [sleep]"})
	order := h.order(fleet.OrderApply, r)
	h.want(h.do(order), fleet.OutcomeSucceeded)
	remove := func(service string) {
		t.Helper()
		if _, err := h.cl.ContainerRemove(t.Context(), h.container("heal", service).ID, client.ContainerRemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	remove("web")
	if due := h.repairs(); len(due) > 0 {
		t.Fatalf("a stack of a sync that does not heal is put back: %+v", due)
	}
	order = h.order(fleet.OrderApply, r)
	order.SelfHeal = true
	h.want(h.do(order), fleet.OutcomeSucceeded)
	if due := h.repairs(); len(due) > 0 {
		t.Fatalf("all runs, and yet %+v is due", due)
	}

	db := h.container("heal", "db").ID
	remove("web")
	due := h.repairs()
	if len(due) != 1 || due[0].Stack != "heal" {
		t.Fatalf("due is %+v", due)
	}
	h.want(h.Do(t.Context(), due[0], nil, nil), fleet.OutcomeSucceeded) // no blobs: core is away
	if c := h.container("heal", "web"); c.State != fleet.StateRunning {
		t.Errorf("web is %s", c.State)
	}
	if h.container("heal", "db").ID != db {
		t.Error("the service that ran was recreated")
	}

	// What core ordered stays so, also when the repair was begun before.
	remove("web")
	stale := h.repairs()
	stop := h.order(fleet.OrderStop, r)
	stop.Services = []string{"db"}
	h.want(h.do(stop), fleet.OutcomeSucceeded)
	if due := h.repairs(); len(due) > 0 {
		t.Errorf("a service was stopped by order, and yet %+v is due", due)
	}
	h.want(h.Do(t.Context(), stale[0], nil, nil), fleet.OutcomeCanceled)
	if c := h.container("heal", "db"); c.State == fleet.StateRunning {
		t.Error("db was started again")
	}
}
