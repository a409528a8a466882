//go:build e2e

package docker_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/varanhq/varan/fleet"
)

func TestOnlyTheChangedServiceIsRecreated(t *testing.T) {
	h := newHost(t)
	h.mustApply(h.release("one", nil, "", svc{name: "api", yaml: "command: [sleep]"}, svc{name: "web", yaml: "command: [sleep]"}))
	api, web := h.container("one", "api"), h.container("one", "web")
	out := h.mustApply(h.release("one", nil, "", svc{name: "api", yaml: "command: [sleep]"}, svc{name: "web", yaml: "command: [sleep]\nenvironment: {A: b}"}))
	if want := []string{"web"}; !slices.Equal(out.Recreated, want) || len(out.Started) > 0 {
		t.Errorf("recreated %v and started %v, want only %v recreated", out.Recreated, out.Started, want)
	}
	if h.container("one", "api").ID != api.ID {
		t.Error("the unchanged service was recreated")
	}
	if h.container("one", "web").ID == web.ID {
		t.Error("the changed service was not recreated")
	}
}

func TestApplyIsIdempotent(t *testing.T) {
	h := newHost(t)
	r := h.release("idem", nil, "", svc{name: "web", yaml: "command: [sleep]"})
	o := h.order(fleet.OrderApply, r)
	first := h.do(o)
	h.want(first, fleet.OutcomeSucceeded)
	id := h.container("idem", "web").ID
	if again := h.do(o); !again.EndedAt.Equal(first.EndedAt) {
		t.Error("the same order was done again")
	}
	out := h.mustApply(r)
	if len(out.Recreated)+len(out.Started)+len(out.Removed) > 0 {
		t.Errorf("applying what runs changed something: %+v", out)
	}
	if h.container("idem", "web").ID != id {
		t.Error("container was recreated")
	}
}

func TestMountedFileChangesRecreateAndArePlaced(t *testing.T) {
	h := newHost(t)
	const yaml = "command: [sleep]\nvolumes: [{type: bind, source: ./conf/app.toml, target: /app.toml}]"
	h.mustApply(h.release("files", map[string]string{"conf/app.toml": "a", "old/gone.txt": "x"}, "", svc{name: "web", yaml: yaml, extra: "a"}))
	id := h.container("files", "web").ID
	run := filepath.Join(h.dir, "stacks", "files")
	if err := os.WriteFile(filepath.Join(run, "data.db"), []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := h.mustApply(h.release("files", map[string]string{"conf/app.toml": "b"}, "", svc{name: "web", yaml: yaml, extra: "b"}))
	if h.container("files", "web").ID == id || !slices.Equal(out.Recreated, []string{"web"}) {
		t.Error("the service was not recreated")
	}
	if b, err := os.ReadFile(filepath.Join(run, "conf", "app.toml")); string(b) != "b" {
		t.Errorf("file holds %q, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(run, "old")); !os.IsNotExist(err) {
		t.Errorf("the file of the earlier release is still there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(run, "data.db")); err != nil {
		t.Errorf("a file that is not ours is gone: %v", err)
	}
}

// badReleases are releases that deploy and do not stay up.
func badReleases() map[string]string {
	return map[string]string{
		"exits":             `command: [exit, "3"]`,
		"crash loop":        "command: [exit, \"1\"]\nrestart: always",
		"bad entrypoint":    "entrypoint: [/nonexistent]",
		"unhealthy":         "command: [sleep]\nhealthcheck: {test: [CMD, /app, has, /nope], interval: 100ms, retries: 2, timeout: 2s}",
		"exits with code 0": `command: [exit, "0"]`,
	}
}

func TestBadReleaseIsRolledBack(t *testing.T) {
	for name, yaml := range badReleases() {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			stack := "bad" + strings.ReplaceAll(name, " ", "")
			good := h.release(stack, map[string]string{"v": "1"}, "", svc{name: "api", yaml: "command: [sleep]"}, svc{name: "web", yaml: "command: [serve]\nenvironment: {ANSWER: old}"})
			h.mustApply(good)
			api := h.container(stack, "api")
			bad := h.release(stack, map[string]string{"v": "2", "new": "x"}, "", svc{name: "api", yaml: "command: [sleep]"}, svc{name: "web", yaml: yaml}, svc{name: "extra", yaml: "command: [sleep]"})
			out := h.apply(bad)
			h.want(out, fleet.OutcomeRolledBack)
			if !strings.Contains(out.Reason, "web") {
				t.Errorf("reason does not name the service: %q", out.Reason)
			}
			if strings.Contains(yaml, "exit") && !strings.Contains(out.Log, "err: leaving with") {
				t.Errorf("log lacks the container's last words: %q", out.Log)
			}
			report := h.observe(stack)
			if report.Release.Digest != good.Digest || len(report.Bad) != 1 || report.Bad[0].Release != bad.Digest || !report.Bad[0].RolledBack {
				t.Errorf("report: release %s, bad %+v", report.Release.Digest.Short(), report.Bad)
			}
			for _, c := range report.Containers {
				if c.State != fleet.StateRunning || len(c.Drift) > 0 || c.Service == "extra" {
					t.Errorf("after the rollback: %+v", c)
				}
			}
			if h.container(stack, "api").ID != api.ID {
				t.Error("a service that had nothing to do with it was recreated")
			}
			if b, _ := os.ReadFile(filepath.Join(h.dir, "stacks", stack, "v")); string(b) != "1" {
				t.Errorf("file holds %q after the rollback", b)
			}
			if _, err := os.Stat(filepath.Join(h.dir, "stacks", stack, "new")); !os.IsNotExist(err) {
				t.Error("a file of the bad release is still there")
			}
			again := h.apply(bad)
			h.want(again, fleet.OutcomeFailed)
			if !again.Untouched || again.Retryable {
				t.Errorf("a release known to be bad was tried again: %+v", again)
			}
		})
	}
}

func TestForceTriesABadReleaseAgain(t *testing.T) {
	h := newHost(t)
	h.mustApply(h.release("force", nil, "", svc{name: "web", yaml: "command: [sleep]"}))
	bad := h.release("force", nil, "", svc{name: "web", yaml: `command: [exit, "3"]`})
	h.want(h.apply(bad), fleet.OutcomeRolledBack)
	o := h.order(fleet.OrderApply, bad)
	o.Force = true
	h.want(h.do(o), fleet.OutcomeRolledBack)
}

func TestFailedFirstDeployIsRepairedByTheNext(t *testing.T) {
	h := newHost(t)
	out := h.apply(h.release("stranded", nil, "", svc{name: "web", yaml: `command: [exit, "3"]`}))
	h.want(out, fleet.OutcomeFailed)
	if out.Untouched || out.Retryable || !strings.Contains(out.Reason, "code 3") {
		t.Errorf("outcome %+v", out)
	}
	h.mustApply(h.release("stranded", nil, "", svc{name: "web", yaml: "command: [sleep]"}))
}

func TestRollbackBringsTheOldImageBackUnderItsName(t *testing.T) {
	h := newHost(t)
	ctx := t.Context()
	const ref = "varan-test-moving:latest"
	tag := func(source string) {
		t.Helper()
		if _, err := h.cl.ImageTag(ctx, client.ImageTagOptions{Source: source, Target: ref}); err != nil {
			t.Fatal(err)
		}
	}
	tag(testImage)
	h.mustApply(h.release("moving", nil, "", svc{name: "web", yaml: "command: [sleep]", image: ref}))
	old := h.container("moving", "web")
	tag("varan-test-app:2")
	out := h.apply(h.release("moving", nil, "", svc{name: "web", yaml: `command: [exit, "1"]`, image: ref}))
	h.want(out, fleet.OutcomeRolledBack)
	if now := h.container("moving", "web"); now.ImageID != old.ImageID || now.State != fleet.StateRunning {
		t.Errorf("after the rollback %+v, want image %s", now, old.ImageID)
	}
	res, err := h.cl.ImageInspect(ctx, "varan-rollback/varan-test-moving-web:last-good")
	if err != nil || res.ID != old.ImageID {
		t.Errorf("the last good image is not held: %v", err)
	}
}

// registry is a registry that knows no image.
func registry(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		if r.URL.Path == "/v2/" {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`)
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func TestMissingImageTouchesNothing(t *testing.T) {
	h := newHost(t)
	good := h.release("noimage", map[string]string{"v": "1"}, "", svc{name: "web", yaml: "command: [sleep]"})
	h.mustApply(good)
	id := h.container("noimage", "web").ID
	for name, c := range map[string]struct {
		ref       string
		retryable bool
	}{
		"unknown to the registry": {registry(t) + "/app:nope", false},
		"registry away":           {"127.0.0.1:1/app:nope", true},
	} {
		bad := h.release("noimage", map[string]string{"v": "2"}, "", svc{name: "web", yaml: "command: [sleep]", image: c.ref})
		out := h.apply(bad)
		h.want(out, fleet.OutcomeFailed)
		if !out.Untouched || out.Retryable != c.retryable || !strings.Contains(out.Reason, c.ref) {
			t.Errorf("%s: outcome %+v", name, out)
		}
		known := slices.ContainsFunc(h.observe("noimage").Bad, func(b fleet.BadRelease) bool { return b.Release == bad.Digest })
		if known == c.retryable {
			t.Errorf("%s: remembered as bad: %t", name, known)
		}
	}
	if h.container("noimage", "web").ID != id {
		t.Error("the container was touched")
	}
	if b, _ := os.ReadFile(filepath.Join(h.dir, "stacks", "noimage", "v")); string(b) != "1" {
		t.Errorf("a file was touched: %q", b)
	}
}

func TestPresentImageThatCannotBeRefreshedIsUsed(t *testing.T) {
	h := newHost(t)
	ref := registry(t) + "/app:1"
	if _, err := h.cl.ImageTag(t.Context(), client.ImageTagOptions{Source: testImage, Target: ref}); err != nil {
		t.Fatal(err)
	}
	r := h.release("refresh", nil, "", svc{name: "web", yaml: "command: [sleep]\npull_policy: always", image: ref})
	r.Options.Pull = true
	h.mustApply(r)
}

func TestDriftIsSeenAndRepaired(t *testing.T) {
	mutations := map[string]struct {
		field string
		do    func(h *host, c fleet.Container) error
	}{
		"docker update": {"memory", func(h *host, c fleet.Container) error {
			_, err := h.cl.ContainerUpdate(h.t.Context(), c.ID, client.ContainerUpdateOptions{Resources: &container.Resources{Memory: 64 << 20, MemorySwap: 64 << 20}})
			return err
		}},
		"network taken away": {"networks.varan-test-drift_default", func(h *host, c fleet.Container) error {
			_, err := h.cl.NetworkDisconnect(h.t.Context(), "varan-test-drift_default", client.NetworkDisconnectOptions{Container: c.ID, Force: true})
			return err
		}},
		"replaced by hand": {"environment.ANSWER", func(h *host, c fleet.Container) error {
			ctx := h.t.Context()
			res, err := h.cl.ContainerInspect(ctx, c.ID, client.ContainerInspectOptions{})
			if err != nil {
				return err
			}
			if _, err := h.cl.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true}); err != nil {
				return err
			}
			cfg := res.Container.Config
			cfg.Env = []string{"ANSWER=hacked"}
			made, err := h.cl.ContainerCreate(ctx, client.ContainerCreateOptions{
				Name: c.Name, Config: cfg, HostConfig: res.Container.HostConfig,
				NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{"varan-test-drift_default": {}}},
			})
			if err != nil {
				return err
			}
			_, err = h.cl.ContainerStart(ctx, made.ID, client.ContainerStartOptions{})
			return err
		}},
		"paused": {"", func(h *host, c fleet.Container) error {
			_, err := h.cl.ContainerPause(h.t.Context(), c.ID, client.ContainerPauseOptions{})
			return err
		}},
		"stopped": {"", func(h *host, c fleet.Container) error {
			_, err := h.cl.ContainerStop(h.t.Context(), c.ID, client.ContainerStopOptions{})
			return err
		}},
		"removed": {"", func(h *host, c fleet.Container) error {
			_, err := h.cl.ContainerRemove(h.t.Context(), c.ID, client.ContainerRemoveOptions{Force: true})
			return err
		}},
	}
	for name, m := range mutations {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			r := h.release("drift", nil, "", svc{name: "web", yaml: "command: [serve]\nenvironment: {ANSWER: hunter2}\nnetworks: [default]"})
			h.mustApply(r)
			if err := m.do(h, h.container("drift", "web")); err != nil {
				t.Fatal(err)
			}
			if m.field != "" {
				c := h.container("drift", "web")
				at := slices.IndexFunc(c.Drift, func(d fleet.Drift) bool { return d.Field == m.field })
				if at < 0 {
					t.Fatalf("drift %+v lacks %s", c.Drift, m.field)
				}
				if d := c.Drift[at]; strings.HasPrefix(d.Field, "environment") && d.Want+d.Have != "" {
					t.Errorf("drift tells values: %+v", d)
				}
			}
			h.mustApply(r)
			c := h.container("drift", "web")
			if c.State != fleet.StateRunning || len(c.Drift) > 0 {
				t.Errorf("not repaired: %+v", c)
			}
			// A second apply finds nothing more to do.
			if out := h.mustApply(r); len(out.Recreated)+len(out.Started) > 0 {
				t.Errorf("the repair did not hold: %+v", out)
			}
		})
	}
}

func TestRestartIsNoDrift(t *testing.T) {
	h := newHost(t)
	r := h.release("calm", nil, "volumes: {d: {}}\n", svc{name: "web", yaml: "command: [serve]\nports: ['127.0.0.1::8080']\nnetworks: [default]\nvolumes: [{type: volume, source: d, target: /d}]\nmem_limit: 64m\ncap_drop: [ALL]"})
	h.mustApply(r)
	out := h.do(h.order(fleet.OrderRestart, r))
	h.want(out, fleet.OutcomeSucceeded)
	if !slices.Equal(out.Started, []string{"web"}) {
		t.Errorf("started %v", out.Started)
	}
	if c := h.container("calm", "web"); len(c.Drift) > 0 || len(c.Ports) != 1 || c.Ports[0].Target != 8080 {
		t.Errorf("container %+v", c)
	}
}

func TestStopHoldsUntilStart(t *testing.T) {
	h := newHost(t)
	r := h.release("stop", nil, "", svc{name: "web", yaml: "command: [sleep]\nrestart: always"})
	h.mustApply(r)
	h.want(h.do(h.order(fleet.OrderStop, r)), fleet.OutcomeSucceeded)
	if report := h.observe("stop"); !report.Stopped || report.Containers[0].State != fleet.StateExited {
		t.Errorf("after stop: %+v", report)
	}
	h.want(h.do(h.order(fleet.OrderStart, r)), fleet.OutcomeSucceeded)
	if report := h.observe("stop"); report.Stopped || report.Containers[0].State != fleet.StateRunning {
		t.Errorf("after start: %+v", report)
	}
}

func TestRemoveTakesDownWhatIsOursAndKeepsData(t *testing.T) {
	h := newHost(t)
	r := h.release("remove", map[string]string{"conf/a": "a"}, "volumes: {d: {}}\n", svc{name: "web", yaml: "command: [sleep]\nnetworks: [default]\nvolumes: [{type: volume, source: d, target: /d}]"})
	h.mustApply(r)
	run := filepath.Join(h.dir, "stacks", "remove")
	if err := os.WriteFile(filepath.Join(run, "theirs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out := h.do(h.order(fleet.OrderRemove, r))
	h.want(out, fleet.OutcomeSucceeded)
	if !slices.Equal(out.Removed, []string{"web"}) {
		t.Errorf("removed %v", out.Removed)
	}
	if _, ok, err := h.ObserveStack(t.Context(), "remove"); ok || err != nil {
		t.Errorf("still observed: %t, %v", ok, err)
	}
	for path, want := range map[string]bool{"theirs": true, "conf": false} {
		if _, err := os.Stat(filepath.Join(run, path)); (err == nil) != want {
			t.Errorf("%s exists: %t, want %t", path, err == nil, want)
		}
	}
	for _, left := range []string{"blobs", "models", "releases"} {
		if entries, _ := os.ReadDir(filepath.Join(h.dir, left)); len(entries) > 0 {
			t.Errorf("%s still holds %v", left, entries)
		}
	}
	if _, err := h.cl.VolumeInspect(t.Context(), "varan-test-remove_d", client.VolumeInspectOptions{}); err != nil {
		t.Errorf("the volume is gone: %v", err)
	}
	h.want(h.do(h.order(fleet.OrderRemove, r)), fleet.OutcomeSucceeded)
	h.mustApply(r)
	o := h.order(fleet.OrderRemove, r)
	o.Volumes = true
	h.want(h.do(o), fleet.OutcomeSucceeded)
	if _, err := h.cl.VolumeInspect(t.Context(), "varan-test-remove_d", client.VolumeInspectOptions{}); err == nil {
		t.Error("the volume is still there although it was given up")
	}
}

func TestChangedVolumeKeepsItsDataUnlessGivenUp(t *testing.T) {
	h := newHost(t)
	const web = "command: [sleep]\nvolumes: [{type: volume, source: d, target: /d}]"
	h.mustApply(h.release("volume", nil, "volumes: {d: {}}\n", svc{name: "web", yaml: web}))
	created := func() string {
		t.Helper()
		res, err := h.cl.VolumeInspect(t.Context(), "varan-test-volume_d", client.VolumeInspectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return res.Volume.Labels["tier"]
	}
	changed := h.release("volume", nil, "volumes: {d: {labels: {tier: gold}}}\n", svc{name: "web", yaml: web})
	out := h.mustApply(changed)
	if created() != "" || out.Hint == "" {
		t.Errorf("the volume was recreated without consent, or nobody was told: %+v", out)
	}
	o := h.order(fleet.OrderApply, changed)
	o.RecreateVolumes = []string{"d"}
	h.want(h.do(o), fleet.OutcomeSucceeded)
	if created() != "gold" {
		t.Error("the volume was not recreated although it was given up")
	}
}

func TestForeignProjectIsRefused(t *testing.T) {
	h := newHost(t)
	r := h.release("clash", nil, "", svc{name: "web", yaml: "command: [sleep]"})
	made, err := h.cl.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Image:  testImage,
		Config: &container.Config{Labels: map[string]string{"com.docker.compose.project": r.Project, "com.docker.compose.service": "web"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = h.cl.ContainerRemove(context.Background(), made.ID, client.ContainerRemoveOptions{Force: true})
	})
	for _, kind := range []fleet.OrderKind{fleet.OrderApply, fleet.OrderRemove} {
		out := h.do(h.order(kind, r))
		h.want(out, fleet.OutcomeFailed)
		if !out.Untouched || !strings.Contains(out.Reason, "clash") {
			t.Errorf("%s: %+v", kind, out)
		}
	}
}

func TestTwoServersShareAnEngine(t *testing.T) {
	a, b := newHost(t), newHost(t)
	b.server = a.server + "-b"
	b.Engine = b.open()
	ra := a.release("shared-a", nil, "", svc{name: "web", yaml: "command: [sleep]"})
	rb := b.release("shared-b", nil, "", svc{name: "web", yaml: "command: [sleep]"})
	a.mustApply(ra)
	b.mustApply(rb)
	for _, h := range []*host{a, b} {
		_, reports, err := h.Observe(t.Context())
		if err != nil || len(reports) != 1 {
			t.Errorf("%s sees %d stacks, %v", h.server, len(reports), err)
		}
	}
	// The same project from the other server.
	steal := b.release("shared-a", nil, "", svc{name: "web", yaml: "command: [sleep]"})
	b.want(b.apply(steal), fleet.OutcomeFailed)
	b.want(b.do(b.order(fleet.OrderRemove, steal)), fleet.OutcomeFailed)
	if a.container("shared-a", "web").State != fleet.StateRunning {
		t.Error("the other server's container was touched")
	}
}

func TestUnhealthyDependencyEndsInTime(t *testing.T) {
	h := newHost(t)
	r := h.release("dep", nil, "",
		svc{name: "db", yaml: "command: [sleep]\nhealthcheck: {test: [CMD, /app, has, /nope], interval: 10s, retries: 99, start_period: 1h}"},
		svc{name: "web", yaml: "command: [sleep]\ndepends_on: {db: {condition: service_healthy}}"})
	o := h.order(fleet.OrderApply, r)
	o.Timeout = 3 * time.Second
	began := time.Now()
	out := h.do(o)
	h.want(out, fleet.OutcomeFailed)
	if took := time.Since(began); took > 12*time.Second {
		t.Errorf("took %s", took)
	}
}
