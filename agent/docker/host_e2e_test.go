//go:build e2e

package docker_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

func TestHostTasksOnAStacksContainer(t *testing.T) {
	h := newHost(t)
	r := h.release("hosttask", nil, "", svc{name: "web", yaml: "command: [sleep]"})
	h.mustApply(r)
	before := h.container("hosttask", "web")
	for _, step := range []struct {
		kind  fleet.HostKind
		state fleet.ContainerState
	}{
		{fleet.HostPauseContainer, fleet.StatePaused},
		{fleet.HostUnpauseContainer, fleet.StateRunning},
		{fleet.HostStopContainer, fleet.StateExited},
		{fleet.HostStartContainer, fleet.StateRunning},
		{fleet.HostRestartContainer, fleet.StateRunning},
	} {
		said, err := h.Host(t.Context(), fleet.HostTask{Kind: step.kind, Target: before.Name, StopSeconds: 1})
		if err != nil || !strings.HasSuffix(said, before.Name) {
			t.Fatalf("%s: said %q, %v", step.kind, said, err)
		}
		if c := h.container("hosttask", "web"); c.State != step.state || c.ID != before.ID {
			t.Errorf("after %s it is %s", step.kind, c.State)
		}
	}
	if _, err := h.Host(t.Context(), fleet.HostTask{Kind: fleet.HostDestroyContainer, Target: before.ID}); err != nil {
		t.Fatal(err)
	}
	if left := h.observe("hosttask").Containers; len(left) > 0 {
		t.Errorf("%d containers are left", len(left))
	}
	held := "varan-rollback/varan-test-hosttask-web:last-good"
	if _, err := h.Host(t.Context(), fleet.HostTask{Kind: fleet.HostDeleteImage, Target: held}); err == nil {
		t.Error("the image of the last good release was deleted")
	}
}

func TestPullTouchesNothing(t *testing.T) {
	h := newHost(t)
	r := h.release("pulled", nil, "", svc{name: "web", yaml: "command: [sleep]"})
	h.mustApply(r)
	before := h.container("pulled", "web")
	next := h.release("pulled", nil, "",
		svc{name: "web", yaml: "command: [sleep]", image: "127.0.0.1:1/varan-test/none:1"},
		svc{name: "db", yaml: "command: [sleep]\npull_policy: never"})
	pull := h.order(fleet.OrderPull, next)
	pull.Release = next
	out := h.do(pull)
	if out.Status != fleet.OutcomeFailed || !out.Untouched || !strings.Contains(out.Reason, "127.0.0.1:1/varan-test/none:1 cannot be pulled") {
		t.Errorf("outcome %+v", out)
	}
	if len(h.observe("pulled").Bad) > 0 {
		t.Error("a pull that fails made the release bad")
	}
	only := h.order(fleet.OrderPull, next)
	only.Release, only.Services = next, []string{"db"}
	h.want(h.do(only), fleet.OutcomeSucceeded)
	if after := h.container("pulled", "web"); after.ID != before.ID || !after.StartedAt.Equal(before.StartedAt) {
		t.Error("the container was touched")
	}
}

func TestStopTimeIsKept(t *testing.T) {
	h := newHost(t)
	r := h.release("stoptime", nil, "", svc{name: "web", yaml: "command: [stubborn]"}) // with a second of grace
	h.mustApply(r)
	stop := h.order(fleet.OrderStop, r)
	stop.StopSeconds = 3
	began := time.Now()
	h.want(h.do(stop), fleet.OutcomeSucceeded)
	if took := time.Since(began); took < 2900*time.Millisecond {
		t.Errorf("it was killed after %s", took)
	}
}

func TestContainersAreStoppedByTheSignalAskedFor(t *testing.T) {
	h := newHost(t)
	r := h.release("signalled", nil, "", svc{name: "web", yaml: "command: [signals]"})
	h.mustApply(r)
	stop := h.order(fleet.OrderStop, r)
	stop.StopSignal = "SIGUSR2"
	h.want(h.do(stop), fleet.OutcomeSucceeded)
	var said bytes.Buffer
	if err := h.Logs(t.Context(), wire.LogsRequest{Stack: "signalled"}, &said); err != nil {
		t.Fatal(err)
	}
	if c := h.container("signalled", "web"); c.State != fleet.StateExited || !strings.Contains(said.String(), "stopped by user defined signal 2") {
		t.Errorf("it is %s and said %q", c.State, said.String())
	}
	wrong := h.order(fleet.OrderDown, r)
	wrong.StopSignal = "SIGNONE"
	h.want(h.do(h.order(fleet.OrderStart, r)), fleet.OutcomeSucceeded)
	if out := h.do(wrong); out.Status != fleet.OutcomeFailed || !strings.Contains(out.Reason, "SIGNONE") {
		t.Errorf("a signal that there is not: %+v", out)
	}
}

func TestASignalThatIsNotHeardIsFollowedByTheEndOfPatience(t *testing.T) {
	h := newHost(t)
	r := h.release("unheard", nil, "", svc{name: "web", yaml: "command: [stubborn]\nrestart: always"})
	h.mustApply(r)
	id := h.container("unheard", "web").ID
	began := time.Now()
	if _, err := h.Host(t.Context(), fleet.HostTask{
		Kind: fleet.HostStopContainer, Target: id, Signal: "SIGTERM", StopSeconds: 2,
	}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 1900*time.Millisecond {
		t.Errorf("it was killed after %s", took)
	}
	if c := h.container("unheard", "web"); c.State != fleet.StateExited {
		t.Errorf("it is %s", c.State)
	}
}
