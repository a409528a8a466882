//go:build e2e

package docker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

// watch starts Watch and returns what it tells; it has told once that all is to be read.
func watch(t *testing.T, h *host) <-chan string {
	t.Helper()
	told := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Watch(ctx, func(stack string) { told <- stack }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if first := <-told; first != "" {
		t.Fatalf("first told of %q, want everything", first)
	}
	return told
}

func TestWatchTellsOnceOfEachChange(t *testing.T) {
	h := newHost(t)
	told := watch(t, h)
	h.mustApply(h.release("watch", nil, "", svc{name: "web", yaml: "command: [sleep]\nnetworks: [default]"}))
	if got := <-told; got != "watch" {
		t.Fatalf("told of %q", got)
	}
	h.observe("watch") // remembered now
	c := h.container("watch", "web")
	for name, change := range map[string]func() error{
		"update": func() error {
			_, err := h.cl.ContainerUpdate(t.Context(), c.ID, client.ContainerUpdateOptions{Resources: &container.Resources{Memory: 64 << 20, MemorySwap: 64 << 20}})
			return err
		},
		"disconnect": func() error {
			_, err := h.cl.NetworkDisconnect(t.Context(), "varan-test-watch_default", client.NetworkDisconnectOptions{Container: c.ID})
			return err
		},
	} {
		drain(told)
		before := len(h.container("watch", "web").Drift)
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if got := <-told; got != "watch" {
			t.Errorf("%s: told of %q", name, got)
		}
		if after := len(h.container("watch", "web").Drift); after <= before {
			t.Errorf("%s: drift not seen: what was remembered was not forgotten", name)
		}
	}
}

func drain(c <-chan string) {
	for {
		select {
		case <-c:
		default:
			return
		}
	}
}

func logLines(t *testing.T, b []byte) []wire.LogLine {
	t.Helper()
	var out []wire.LogLine
	for dec := json.NewDecoder(bytes.NewReader(b)); dec.More(); {
		var l wire.LogLine
		if err := dec.Decode(&l); err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}

func TestLogsAreMergedAndTellTheStream(t *testing.T) {
	h := newHost(t)
	h.mustApply(h.release("logs", nil, "",
		svc{name: "job", yaml: `command: [exit, "0"]`, oneShot: true},
		svc{name: "tty", yaml: "command: [sleep]\ntty: true"},
		svc{name: "web", yaml: "command: [sleep]\ndepends_on: {job: {condition: service_completed_successfully}}"}))
	var buf bytes.Buffer
	if err := h.Logs(t.Context(), wire.LogsRequest{Stack: "logs", Timestamps: true}, &buf); err != nil {
		t.Fatal(err)
	}
	lines := logLines(t, buf.Bytes())
	if !slices.IsSortedFunc(lines, func(a, b wire.LogLine) int { return a.Time.Compare(b.Time) }) {
		t.Errorf("lines are not in order: %+v", lines)
	}
	var got []string
	for _, l := range lines {
		got = append(got, fmt.Sprintf("%s %t %s", l.Service, l.Stderr, l.Text))
	}
	slices.Sort(got)
	want := []string{"job false out: leaving with 0", "job true err: leaving with 0", "tty false sleeping", "web false sleeping"}
	if !slices.Equal(got, want) {
		t.Errorf("lines %q, want %q", got, want)
	}
	buf.Reset()
	if err := h.Logs(t.Context(), wire.LogsRequest{Stack: "logs", Service: "web"}, &buf); err != nil {
		t.Fatal(err)
	}
	if lines := logLines(t, buf.Bytes()); len(lines) != 1 || lines[0].Service != "web" || !lines[0].Time.IsZero() {
		t.Errorf("lines of one service: %+v", lines)
	}
	if err := h.Logs(t.Context(), wire.LogsRequest{Stack: "nobody"}, io.Discard); err == nil {
		t.Error("logs of a stack that is not here gave no error")
	}
}

func TestFollowedLogsGoOnInTheNextContainer(t *testing.T) {
	h := newHost(t)
	h.mustApply(h.release("follow", nil, "", svc{name: "web", yaml: "command: [serve]\nenvironment: {ANSWER: one}"}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- h.Logs(ctx, wire.LogsRequest{Stack: "follow", Follow: true}, w) }()
	dec := json.NewDecoder(r)
	expect := func(text string) {
		t.Helper()
		var l wire.LogLine
		if err := dec.Decode(&l); err != nil || l.Text != text {
			t.Fatalf("line %+v, %v, want %q", l, err, text)
		}
	}
	expect("serving one")
	h.mustApply(h.release("follow", nil, "", svc{name: "web", yaml: "command: [serve]\nenvironment: {ANSWER: two}"}))
	expect("serving two")
	cancel()
	if err := <-done; err != nil {
		t.Errorf("following ended with %v", err)
	}
}

func TestServicesComeGoAndScale(t *testing.T) {
	h := newHost(t)
	h.mustApply(h.release("scale", nil, "", svc{name: "web", yaml: "command: [sleep]\nscale: 2", replicas: 2}, svc{name: "old", yaml: "command: [sleep]"}))
	out := h.mustApply(h.release("scale", nil, "", svc{name: "web", yaml: "command: [sleep]\nscale: 1"}, svc{name: "new", yaml: "command: [sleep]"}))
	if !slices.Equal(out.Removed, []string{"old"}) || !slices.Contains(out.Started, "new") {
		t.Errorf("outcome %+v", out)
	}
	h.container("scale", "web")
	if len(h.observe("scale").Containers) != 2 {
		t.Errorf("containers %+v", h.observe("scale").Containers)
	}
	if _, err := h.cl.ImageInspect(t.Context(), "varan-rollback/varan-test-scale-old:last-good"); err == nil {
		t.Error("the image of a service that is gone is still held")
	}
}

func TestBuildAndDestroyFirst(t *testing.T) {
	h := newHost(t)
	files := map[string]string{"Dockerfile": "FROM " + testImage + "\nCOPY Dockerfile /copied\n"}
	const yaml = "command: [sleep]\nbuild: {context: .}\nhealthcheck: {test: [CMD, /app, has, /copied], interval: 200ms, retries: 5}"
	r := h.release("build", files, "", svc{name: "web", yaml: yaml, image: "varan-test-built:1"})
	t.Cleanup(func() {
		_, _ = h.cl.ImageRemove(context.Background(), "varan-test-built:1", client.ImageRemoveOptions{Force: true})
	})
	h.mustApply(r)
	id := h.container("build", "web").ID
	r.Options.DestroyFirst, r.Options.Build = true, true
	h.mustApply(r)
	if h.container("build", "web").ID == id {
		t.Error("the stack was not taken down first")
	}
}

func TestProgressNamesThePhasesInOrder(t *testing.T) {
	h := newHost(t)
	o := h.order(fleet.OrderApply, h.release("phases", nil, "", svc{name: "web", yaml: "command: [sleep]"}))
	var phases []fleet.Phase
	out := h.Do(t.Context(), o, h.blobs, func(p fleet.Progress) {
		if p.Order != o.ID || p.Stack != "phases" || p.At.IsZero() {
			t.Errorf("progress %+v", p)
		}
		if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
			phases = append(phases, p.Phase)
		}
		if p.Phase == fleet.PhaseQueued {
			if orders, err := h.Recover(t.Context()); err != nil || len(orders) != 1 {
				t.Errorf("queued was told before the order was in the journal: %v", err)
			}
		}
	})
	h.want(out, fleet.OutcomeSucceeded)
	want := []fleet.Phase{fleet.PhaseQueued, fleet.PhaseFiles, fleet.PhaseUp, fleet.PhaseVerdict, fleet.PhaseDone}
	if !slices.Equal(phases, want) {
		t.Errorf("phases %v, want %v", phases, want)
	}
}

func TestLostStateAdoptsWhatRuns(t *testing.T) {
	h := newHost(t)
	r := h.release("lost", nil, "", svc{name: "web", yaml: "command: [sleep]"})
	h.mustApply(r)
	id := h.container("lost", "web").ID
	for _, sub := range []string{"releases", "journal"} {
		if err := os.RemoveAll(h.dir + "/" + sub); err != nil {
			t.Fatal(err)
		}
	}
	h.Engine = h.open()
	if c := h.container("lost", "web"); len(c.Drift) > 0 || c.Digest != r.Services[0].Digest {
		t.Errorf("container %+v", c)
	}
	h.mustApply(r)
	if h.container("lost", "web").ID != id {
		t.Error("what ran was recreated")
	}
}

// TestManyStacks measures; it fails only where a limit of the project is passed by far.
func TestManyStacks(t *testing.T) {
	if os.Getenv("VARAN_TEST_MANY") == "" {
		t.Skip("set VARAN_TEST_MANY=1 to measure")
	}
	h := newHost(t)
	const n = 100
	floor := time.Now()
	sem := make(chan struct{}, 4)
	for i := range n {
		sem <- struct{}{}
		go func() {
			defer func() { <-sem }()
			made, err := h.cl.ContainerCreate(t.Context(), client.ContainerCreateOptions{
				Image: testImage, Config: &container.Config{Labels: map[string]string{fleet.LabelServer: h.server, fleet.LabelStack: fmt.Sprint("floor", i)}},
				HostConfig: &container.HostConfig{NetworkMode: "none"},
			})
			if err == nil {
				_, err = h.cl.ContainerStart(t.Context(), made.ID, client.ContainerStartOptions{})
			}
			if err != nil {
				t.Error(err)
			}
		}()
	}
	for range cap(sem) {
		sem <- struct{}{}
	}
	t.Logf("floor: %d plain create+start, 4 at a time: %s", n, time.Since(floor).Round(time.Millisecond))
	h.clean()
	began, cpu := time.Now(), cpuTime()
	outs := make(chan fleet.Outcome, n)
	for i := range n {
		r := h.release(fmt.Sprint("many", i), nil, "", svc{name: "web", yaml: "command: [sleep]"})
		o := h.order(fleet.OrderApply, r)
		go func() { outs <- h.Do(t.Context(), o, h.blobs, nil) }()
	}
	for range n {
		h.want(<-outs, fleet.OutcomeSucceeded)
	}
	t.Logf("deploy of %d stacks, 4 at a time: %s, agent's CPU %s", n, time.Since(began).Round(time.Millisecond), cpuTime()-cpu)
	measure := func(name string) {
		for range 3 {
			began, cpu := time.Now(), cpuTime()
			if _, reports, err := h.Observe(t.Context()); err != nil || len(reports) != n {
				t.Fatalf("%d reports, %v", len(reports), err)
			}
			t.Logf("observe %d stacks, %s: %s, CPU %s", n, name, time.Since(began).Round(100*time.Microsecond), cpuTime()-cpu)
		}
	}
	measure("every container inspected")
	watch(t, h)
	measure("events vouching")
	began, cpu = time.Now(), cpuTime()
	h.mustApply(h.release("many7", nil, "", svc{name: "web", yaml: "command: [sleep]\nenvironment: {A: b}"}))
	t.Logf("one changed of %d: %s (of it 300ms stability), agent's CPU %s", n, time.Since(began).Round(time.Millisecond), cpuTime()-cpu)
	runtime.GC()
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "RssAnon") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// cpuTime is what this process used; workers are not in it.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Round(100 * time.Microsecond)
}

// TestWhereTheTimeGoes tells how long the phases of a small change take.
func TestWhereTheTimeGoes(t *testing.T) {
	if os.Getenv("VARAN_TEST_MANY") == "" {
		t.Skip("set VARAN_TEST_MANY=1 to measure")
	}
	h := newHost(t)
	for i := range 4 {
		env := i / 2 // every second apply changes nothing
		r := h.release("phase", nil, "", svc{name: "web", yaml: fmt.Sprintf("command: [sleep]\nenvironment: {A: b%d}", env)})
		o := h.order(fleet.OrderApply, r)
		began := time.Now()
		h.want(h.Do(t.Context(), o, h.blobs, func(p fleet.Progress) {
			t.Logf("%4d ms %s %s", time.Since(began).Milliseconds(), p.Phase, p.Text)
		}), fleet.OutcomeSucceeded)
	}
}
