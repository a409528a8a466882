//go:build e2e && linux

package docker_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/moby/client"

	"github.com/varanhq/varan/fleet"
)

// killedAt starts an agent in a process of its own with an order, and kills it at an event of
// the engine.
func killedAt(t *testing.T, h *host, o fleet.Order, at client.Filters) {
	t.Helper()
	b, err := json.Marshal(errand{Server: h.server, Dir: h.dir, Order: o, Blobs: h.blobs})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "errand.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	events := h.cl.Events(t.Context(), client.EventsListOptions{Filters: at})
	cmd := exec.Command(os.Args[0], "agent", path)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-events.Messages:
	case err := <-events.Err:
		t.Fatal(err)
	case <-t.Context().Done():
		t.Fatal("the event did not come")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

// cutOff has an agent recreate a container and kills it when the engine was told to stop the old
// one. It returns the worker's process id.
func cutOff(t *testing.T, h *host, o fleet.Order) int {
	t.Helper()
	killedAt(t, h, o, make(client.Filters).Add("event", "kill").Add("label", fleet.LabelServer+"="+h.server))
	raw, err := os.ReadFile(filepath.Join(h.dir, "journal", o.ID+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var rec struct {
		Worker struct {
			PID int `json:"pid"`
		} `json:"worker"`
	}
	if err := json.Unmarshal(raw, &rec); err != nil || rec.Worker.PID == 0 {
		t.Fatalf("journal names no worker: %v", err)
	}
	return rec.Worker.PID
}

func TestKilledAgentIsFinishedByTheNext(t *testing.T) {
	for name, killWorker := range map[string]bool{"worker lives on": false, "worker killed too": true} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			stack := "cut" + strings.ReplaceAll(name, " ", "")
			h.mustApply(h.release(stack, nil, "", svc{name: "web", yaml: "command: [stubborn]"}))
			old := h.container(stack, "web").ID
			next := h.release(stack, nil, "", svc{name: "web", yaml: "command: [stubborn]\nenvironment: {A: b}"})
			pid := cutOff(t, h, h.order(fleet.OrderApply, next))
			if killWorker {
				if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			} else if err := syscall.Kill(pid, 0); err != nil {
				t.Fatalf("the worker died with its agent: %v", err)
			}
			e := h.open()
			orders, err := e.Recover(t.Context())
			if err != nil || len(orders) != 1 || orders[0].Release.Digest != next.Digest {
				t.Fatalf("recovered %d orders, %v", len(orders), err)
			}
			h.want(e.Do(t.Context(), orders[0], nil, nil), fleet.OutcomeSucceeded)
			h.Engine = e
			if c := h.container(stack, "web"); c.ID == old || c.State != fleet.StateRunning || len(c.Drift) > 0 || c.Digest != next.Services[0].Digest {
				t.Errorf("after recovery: %+v", c)
			}
			if orders, _ := e.Recover(t.Context()); len(orders) > 0 {
				t.Errorf("%d orders are still open", len(orders))
			}
		})
	}
}

func TestKilledWorkerLeadsToRollback(t *testing.T) {
	h := newHost(t)
	good := h.release("kill", nil, "", svc{name: "web", yaml: "command: [stubborn]"})
	h.mustApply(good)
	events := h.cl.Events(t.Context(), client.EventsListOptions{
		Filters: make(client.Filters).Add("event", "kill").Add("label", fleet.LabelServer+"="+h.server),
	})
	o := h.order(fleet.OrderApply, h.release("kill", nil, "", svc{name: "web", yaml: "command: [stubborn]\nenvironment: {A: b}"}))
	done := make(chan fleet.Outcome)
	go func() { done <- h.Do(t.Context(), o, h.blobs, nil) }()
	<-events.Messages
	raw, err := os.ReadFile(filepath.Join(h.dir, "journal", o.ID+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var rec struct {
		Worker struct {
			PID int `json:"pid"`
		} `json:"worker"`
	}
	if err := json.Unmarshal(raw, &rec); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(-rec.Worker.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	out := <-done
	h.want(out, fleet.OutcomeRolledBack)
	if c := h.container("kill", "web"); c.State != fleet.StateRunning || c.Digest != good.Services[0].Digest {
		t.Errorf("after the rollback: %+v", c)
	}
}

func TestWorkerSeesAnExplicitEnvironmentOnly(t *testing.T) {
	config := t.TempDir()
	// A context that does not exist ends docker/cli's process when it is looked for.
	if err := os.WriteFile(filepath.Join(config, "config.json"), []byte(`{"currentContext":"nonexistent"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", config)
	t.Setenv("DOCKER_CONTEXT", "nonexistent")
	t.Setenv("COMPOSE_COMPATIBILITY", "1")
	t.Setenv("COMPOSE_PROJECT_NAME", "hijacked")
	t.Setenv("DOCKER_DEFAULT_PLATFORM", "linux/s390x")
	h := newHost(t)
	h.mustApply(h.release("env", map[string]string{".env": "COMPOSE_COMPATIBILITY=1\nCOMPOSE_PROJECT_NAME=hijacked\n"}, "", svc{name: "web", yaml: "command: [sleep]"}))
	if c := h.container("env", "web"); c.Name != "varan-test-env-web-1" {
		t.Errorf("container is called %s", c.Name)
	}
}
