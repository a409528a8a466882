//go:build e2e && linux

package docker_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/client"

	"github.com/varanhq/varan/fleet"
)

// oneOff is an order that runs a service of a release once.
func (h *host) oneOff(r fleet.Release, run fleet.OneOff) fleet.Order {
	o := h.order(fleet.OrderRun, r)
	o.ID = h.server + "-" + o.ID // these are on containers, and other tests share the engine
	o.Run = &run
	return o
}

// oneOffs are the ids of the containers that orders of the project ran.
func (h *host) oneOffs(r fleet.Release) (ids []string) {
	h.t.Helper()
	list, err := h.cl.ContainerList(h.t.Context(), client.ContainerListOptions{All: true, Filters: make(client.Filters).
		Add("label", "com.docker.compose.project="+r.Project, "com.docker.compose.oneoff=True")})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, c := range list.Items {
		ids = append(ids, c.ID)
	}
	return ids
}

func (h *host) noneLeft(r fleet.Release) {
	h.t.Helper()
	if left := h.oneOffs(r); len(left) > 0 {
		h.t.Errorf("%d containers are left", len(left))
		for _, id := range left {
			_, _ = h.cl.ContainerRemove(h.t.Context(), id, client.ContainerRemoveOptions{Force: true})
		}
	}
}

func TestAServiceRunsOnce(t *testing.T) {
	h := newHost(t)
	r := h.release("oneoff", nil, "",
		svc{name: "web", yaml: "command: [sleep]"},
		svc{name: "job", yaml: "command: [exit, '0']\nenvironment: {ANSWER: declared}\ndepends_on: [web]", oneShot: true})
	h.mustApply(r)
	before := h.container("oneoff", "web")
	for name, c := range map[string]struct {
		run       fleet.OneOff
		say, fail string
	}{
		"as it is":   {run: fleet.OneOff{Service: "job"}, say: "out: leaving with 0"},
		"otherwise":  {run: fleet.OneOff{Service: "job", Command: []string{"say"}, WorkDir: "/etc", User: "7", Env: map[string]string{"ANSWER": "a, b"}}, say: "answer a, b in /etc as 7"},
		"entrypoint": {run: fleet.OneOff{Service: "job", Entrypoint: []string{"/app", "say"}, NoDeps: true}, say: "answer declared in / as 0"},
		"failing":    {run: fleet.OneOff{Service: "job", Command: []string{"exit", "3"}}, say: "err: leaving with 3", fail: "service job: the container exited with code 3"},
		"no program": {run: fleet.OneOff{Service: "job", Entrypoint: []string{"/none"}}, fail: "/none"},
		"no service": {run: fleet.OneOff{Service: "jop"}, fail: `has no service "jop"`},
	} {
		o := h.oneOff(r, c.run)
		out := h.do(o)
		if (out.Status == fleet.OutcomeSucceeded) != (c.fail == "") || !strings.Contains(out.Reason, c.fail) || !strings.Contains(out.Log, c.say) {
			t.Errorf("%s: %+v, want %q said and %q", name, out, c.say, c.fail)
		}
		if diff := cmp.Diff(out, h.do(o)); diff != "" {
			t.Errorf("%s, ordered again: %s", name, diff)
		}
		h.noneLeft(r)
	}
	if after := h.container("oneoff", "web"); after.ID != before.ID || len(after.Drift) > 0 {
		t.Errorf("what runs was touched: %+v", after)
	}
	if got := h.do(h.oneOff(h.release("nothing", nil, "", svc{name: "web"}), fleet.OneOff{Service: "web"})); !strings.Contains(got.Reason, "does not run here") {
		t.Errorf("of a stack that was never deployed: %+v", got)
	}
}

func TestARunThatTakesTooLongIsStopped(t *testing.T) {
	h := newHost(t)
	r := h.release("toolong", nil, "", svc{name: "web", yaml: "command: [sleep]"})
	h.mustApply(r)
	o := h.oneOff(r, fleet.OneOff{Service: "web"})
	o.Timeout = 10 * time.Second
	out := h.do(o)
	if out.Status != fleet.OutcomeFailed || !strings.Contains(out.Reason, "did not end before") || !strings.Contains(out.Log, "sleeping") {
		t.Errorf("outcome %+v", out)
	}
	h.noneLeft(r)
}

func TestADetachedRunIsNotWaitedFor(t *testing.T) {
	h := newHost(t)
	r := h.release("detached", nil, "", svc{name: "web", yaml: "command: [sleep]"})
	h.mustApply(r)
	h.want(h.do(h.oneOff(r, fleet.OneOff{Service: "web", Detach: true})), fleet.OutcomeSucceeded)
	running := h.oneOffs(r)
	if len(running) != 1 {
		t.Fatalf("%d containers run, want one", len(running))
	}
	if len(h.observe("detached").Containers) != 1 {
		t.Error("it counts as one of the stack's")
	}
	removed := h.cl.Events(t.Context(), client.EventsListOptions{Filters: make(client.Filters).Add("event", "destroy").Add("container", running[0])})
	if _, err := h.cl.ContainerStop(t.Context(), running[0], client.ContainerStopOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-removed.Messages:
	case err := <-removed.Err:
		t.Fatal(err)
	}
	h.noneLeft(r)
}

// TestARunIsNeverBegunTwice kills the agent while the container runs, and has the next one
// go on.
func TestARunIsNeverBegunTwice(t *testing.T) {
	for name, gone := range map[string]bool{"the container is found": false, "the container was removed": true} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			r := h.release("once"+strings.ReplaceAll(name, " ", ""), nil, "", svc{name: "web", yaml: "command: [sleep]"})
			h.mustApply(r)
			o := h.oneOff(r, fleet.OneOff{Service: "web"})
			began := time.Now().Add(-time.Second)
			killedAt(t, h, o, make(client.Filters).Add("event", "start").Add("label", fleet.LabelOrder+"="+o.ID))
			id := h.oneOffs(r)[0]
			var err error
			if gone {
				_, err = h.cl.ContainerRemove(t.Context(), id, client.ContainerRemoveOptions{Force: true})
			} else {
				_, err = h.cl.ContainerStop(t.Context(), id, client.ContainerStopOptions{})
			}
			if err != nil {
				t.Fatal(err)
			}
			e := h.open()
			orders, err := e.Recover(t.Context())
			if err != nil || len(orders) != 1 || orders[0].Run == nil {
				t.Fatalf("recovered %+v, %v", orders, err)
			}
			out := e.Do(t.Context(), orders[0], nil, nil)
			switch {
			case gone && (out.Status != fleet.OutcomeFailed || !strings.Contains(out.Reason, "nobody knows")):
				t.Errorf("outcome %+v", out)
			case !gone && (out.Status != fleet.OutcomeSucceeded || !strings.Contains(out.Log, "sleeping")):
				t.Errorf("outcome %+v", out)
			}
			h.noneLeft(r)
			if n := h.created(o.ID, began); n != 1 {
				t.Errorf("%d containers were made, want one", n)
			}
		})
	}
}

// created counts the containers of an order that were made since.
func (h *host) created(order string, since time.Time) (n int) {
	h.t.Helper()
	past := h.cl.Events(h.t.Context(), client.EventsListOptions{
		Since: since.Format(time.RFC3339Nano), Until: time.Now().Format(time.RFC3339Nano),
		Filters: make(client.Filters).Add("event", "create").Add("label", fleet.LabelOrder+"="+order),
	})
	for {
		select {
		case <-past.Messages:
			n++
		case err := <-past.Err:
			if err != nil && !errors.Is(err, io.EOF) {
				h.t.Errorf("read events: %v", err)
			}
			return n
		}
	}
}
