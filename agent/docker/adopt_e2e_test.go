//go:build e2e

package docker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/varanhq/varan/agent/docker/job"
	"github.com/varanhq/varan/agent/policy"
	"github.com/varanhq/varan/fleet"
)

// compose runs a project as a person would with `docker compose`: nothing of Varan is on it.
func (h *host) compose(dir, project, model string, op job.Op) {
	h.t.Helper()
	path := filepath.Join(dir, "compose.yaml")
	if err := os.WriteFile(path, []byte(model), 0o600); err != nil {
		h.t.Fatal(err)
	}
	req, err := json.Marshal(job.Request{
		Op: op, Host: "unix:///var/run/docker.sock", Project: project, Dir: dir, Model: path, Deadline: time.Now().Add(time.Minute),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "compose-worker")
	cmd.Stdin = bytes.NewReader(req)
	if out, err := cmd.Output(); err != nil || strings.Contains(string(out), `"error"`) {
		h.t.Fatalf("%v: %s", err, out)
	}
	h.t.Cleanup(func() {
		list, err := h.cl.ContainerList(context.Background(), client.ContainerListOptions{
			All: true, Filters: make(client.Filters).Add("label", "com.docker.compose.project="+project),
		})
		if err != nil {
			return
		}
		for _, c := range list.Items {
			_, _ = h.cl.ContainerRemove(context.Background(), c.ID, client.ContainerRemoveOptions{Force: true})
		}
	})
}

// byHand is the model of a release as a person has it: without our labels.
func (h *host) byHand(r fleet.Release) string {
	var out []string
	lines := strings.Split(string(h.blobs[r.Model]), "\n")
	for i, line := range lines {
		ours := strings.Contains(line, fleet.LabelDigest)
		head := strings.TrimSpace(line) == "labels:" && strings.Contains(lines[i+1], fleet.LabelDigest)
		if !ours && !head {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

func TestAProjectThatRunsIsAdoptedAsItIs(t *testing.T) {
	h := newHost(t)
	srv := t.TempDir()
	h.allow(policy.Policy{HostDirectories: []string{srv}})
	put(t, filepath.Join(srv, "conf"), "theirs")
	release := func(web string) fleet.Release {
		r := h.release("adopted", nil, "",
			svc{name: "db", yaml: "command: [sleep]\nvolumes: [{type: bind, source: ./conf, target: /conf}]"},
			svc{name: "web", yaml: "command: [sleep]\nenvironment: {V: '" + web + "'}"})
		r.Options.Dir = srv
		return seal(r)
	}
	first := release("1")
	h.compose(srv, first.Project, h.byHand(first), job.Up)
	list, err := h.Projects(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	running := map[string]string{}
	for _, p := range list.Projects {
		if p.Name == first.Project {
			if p.Server != "" || p.WorkingDir != srv || !slices.Equal(p.ConfigFiles, []string{filepath.Join(srv, "compose.yaml")}) {
				t.Errorf("project %+v", p)
			}
			for _, c := range p.Containers {
				running[c.Service] = c.ID
			}
		}
	}
	if len(running) != 2 {
		t.Fatalf("the project by hand: %+v", list)
	}

	out := h.do(h.adoption(release("2")))
	h.want(out, fleet.OutcomeFailed)
	if !out.Untouched || !strings.Contains(out.Reason, "another definition of service web") || strings.Contains(out.Reason, "service db") {
		t.Errorf("one that differs: %+v", out)
	}
	out = h.do(h.adoption(first))
	h.want(out, fleet.OutcomeSucceeded)
	if len(out.Recreated)+len(out.Started)+len(out.Removed) > 0 {
		t.Errorf("outcome %+v", out)
	}
	r := h.observe("adopted")
	if r.Release.Digest != first.Digest || len(r.Containers) != 2 {
		t.Fatalf("report %+v", r)
	}
	for _, c := range r.Containers {
		s, _ := first.Service(c.Service)
		if c.ID != running[c.Service] || c.Digest != s.Digest || len(c.Drift) > 0 || c.State != fleet.StateRunning {
			t.Errorf("container %+v", c)
		}
	}
	// The agent starts again: what it adopted is still its own.
	h.Engine = h.open()
	if _, reports, err := h.Observe(t.Context()); err != nil || len(reports) != 1 || len(reports[0].Containers) != 2 {
		t.Fatalf("reports %+v, %v", reports, err)
	}
	if out := h.mustApply(first); len(out.Recreated)+len(out.Started) > 0 {
		t.Errorf("applying what was adopted: %+v", out)
	}
	out = h.mustApply(release("2"))
	if !slices.Equal(out.Recreated, []string{"web"}) || h.container("adopted", "db").ID != running["db"] {
		t.Errorf("a change of one service: %+v", out)
	}
	if _, err := h.cl.ContainerStop(t.Context(), running["db"], client.ContainerStopOptions{}); err != nil {
		t.Fatal(err)
	}
	h.mustApply(release("2"))
	if c := h.container("adopted", "db"); c.State != fleet.StateRunning || c.ID == "" {
		t.Errorf("an adopted container that was stopped: %+v", c)
	}
	h.want(h.do(h.order(fleet.OrderRemove, first)), fleet.OutcomeSucceeded)
	if _, known, _ := h.ObserveStack(t.Context(), "adopted"); known {
		t.Error("something is left")
	}
}

func (h *host) adoption(r fleet.Release) fleet.Order {
	o := h.order(fleet.OrderAdopt, r)
	o.Release = r
	return o
}

func TestAForcedDeployTakesADifferentProjectOver(t *testing.T) {
	h := newHost(t)
	r := h.release("taken", nil, "", svc{name: "web", yaml: "command: [sleep]\nenvironment: {A: b}"})
	h.compose(t.TempDir(), r.Project, "name: "+r.Project+"\nservices:\n  web: {image: "+testImage+", network_mode: none, stop_grace_period: 1s}\n  gone: {image: "+testImage+", network_mode: none, stop_grace_period: 1s}\n", job.Up)
	out := h.apply(r)
	h.want(out, fleet.OutcomeFailed)
	if !out.Untouched || !strings.Contains(out.Reason, "did not create") || !strings.Contains(out.Hint, "varan deploy taken") {
		t.Fatalf("outcome %+v", out)
	}
	o := h.order(fleet.OrderApply, r)
	o.Force = true
	out = h.do(o)
	h.want(out, fleet.OutcomeSucceeded)
	if !slices.Equal(out.Recreated, []string{"web"}) || !slices.Equal(out.Removed, []string{"gone"}) {
		t.Errorf("outcome %+v", out)
	}
	if c := h.container("taken", "web"); c.Digest != r.Services[0].Digest || len(c.Drift) > 0 {
		t.Errorf("container %+v", c)
	}
}
