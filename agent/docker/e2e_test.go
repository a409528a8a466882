//go:build e2e

package docker_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/varanhq/varan/agent/docker"
	"github.com/varanhq/varan/agent/policy"
	"github.com/varanhq/varan/fleet"
)

const testImage = "varan-test-app:1"

// importImage makes the image of the tests once, without a registry.
var importImage = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp("", "varan-test-app")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	bin := filepath.Join(dir, "app")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", bin, "./testdata/app")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build app: %w: %s", err, out)
	}
	content, err := os.ReadFile(bin)
	if err != nil {
		return err
	}
	for tag, label := range map[string]string{testImage: "one", "varan-test-app:2": "two"} {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for name, body := range map[string][]byte{"app": content, "etc/" + label: []byte(label)} {
			if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(body)), Typeflag: tar.TypeReg}); err != nil {
				return err
			}
			if _, err := w.Write(body); err != nil {
				return err
			}
		}
		if err := w.Close(); err != nil {
			return err
		}
		cl, err := client.New()
		if err != nil {
			return err
		}
		res, err := cl.ImageImport(context.Background(), client.ImageImportSource{Source: &buf, SourceName: "-"}, tag,
			client.ImageImportOptions{Changes: []string{`ENTRYPOINT ["/app"]`, `CMD ["sleep"]`}})
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, res); err != nil {
			return err
		}
		if err := errors.Join(res.Close(), cl.Close()); err != nil {
			return err
		}
	}
	return nil
})

// host is an engine under test with what it needs.
type host struct {
	*docker.Engine

	t      testing.TB
	dir    string
	server string
	cl     *client.Client
	blobs  memoryBlobs
	orders int
	policy policy.Policy
	// ram is where secret files are.
	ram string
}

func newHost(tb testing.TB) *host {
	tb.Helper()
	if err := importImage(); err != nil {
		tb.Fatal(err)
	}
	cl, err := client.New()
	if err != nil {
		tb.Fatal(err)
	}
	h := &host{t: tb, dir: tb.TempDir(), server: "test-" + strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(tb.Name())), cl: cl, blobs: memoryBlobs{}}
	if h.ram, err = os.MkdirTemp("/dev/shm", "varan-test"); err != nil { //nolint:usetesting // it has to be in memory
		tb.Fatal(err)
	}
	h.Engine = h.open()
	tb.Cleanup(func() { h.clean(); _ = cl.Close(); _ = os.RemoveAll(h.ram) })
	return h
}

// open is a new engine over the same state: an agent that was started again.
func (h *host) open() *docker.Engine {
	h.t.Helper()
	level := slog.LevelWarn
	e, err := docker.New(docker.Config{
		Server: h.server, Dir: h.dir, Worker: []string{os.Args[0], "compose-worker"},
		StableFor: 300 * time.Millisecond, Policy: h.policy, SecretsDir: filepath.Join(h.ram, "agent"),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return e
}

// allow gives the host a policy.
func (h *host) allow(p policy.Policy) {
	h.t.Helper()
	h.policy = p
	h.Engine = h.open()
}

// clean removes whatever carries the server's label.
func (h *host) clean() {
	ctx := context.Background()
	mine := make(client.Filters).Add("label", fleet.LabelServer+"="+h.server)
	if list, err := h.cl.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: mine}); err == nil {
		for _, c := range list.Items {
			_, _ = h.cl.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		}
	}
	held := make(client.Filters).Add("reference", "varan-rollback/varan-test-*")
	if list, err := h.cl.ImageList(ctx, client.ImageListOptions{Filters: held}); err == nil {
		for _, img := range list.Items {
			for _, tag := range img.RepoTags {
				if strings.HasPrefix(tag, "varan-rollback/varan-test-") {
					_, _ = h.cl.ImageRemove(ctx, tag, client.ImageRemoveOptions{})
				}
			}
		}
	}
	if list, err := h.cl.NetworkList(ctx, client.NetworkListOptions{Filters: mine}); err == nil {
		for _, n := range list.Items {
			_, _ = h.cl.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{})
		}
	}
	if list, err := h.cl.VolumeList(ctx, client.VolumeListOptions{Filters: mine}); err == nil {
		for _, v := range list.Items {
			_, _ = h.cl.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{Force: true})
		}
	}
}

// svc is one service of a test's release: YAML without image, labels and digest.
type svc struct {
	name, yaml string
	image      string
	oneShot    bool
	replicas   int
	extra      string // goes into the digest: the content of mounted files
}

// release makes a release of services, as core would.
func (h *host) release(stack string, files map[string]string, tail string, services ...svc) fleet.Release {
	h.t.Helper()
	r := fleet.Release{Stack: stack, Server: h.server, Project: "varan-test-" + stack, Commit: fleet.Commit{ID: fleet.SumDigest([]byte(stack)).Short()}}
	var y strings.Builder
	fmt.Fprintf(&y, "name: %s\nservices:\n", r.Project)
	slices.SortFunc(services, func(a, b svc) int { return strings.Compare(a.name, b.name) })
	for _, s := range services {
		if s.image == "" {
			s.image = testImage
		}
		if s.replicas == 0 {
			s.replicas = 1
		}
		digest := fleet.SumDigest([]byte(s.yaml + s.image + s.extra))
		fmt.Fprintf(&y, "  %s:\n    image: %s\n    stop_grace_period: 1s\n    labels:\n      %s: %s\n", s.name, s.image, fleet.LabelDigest, digest)
		if !strings.Contains(s.yaml, "network") {
			y.WriteString("    network_mode: none\n")
		}
		for line := range strings.Lines(s.yaml) {
			y.WriteString("    " + strings.TrimRight(line, "\n") + "\n")
		}
		r.Services = append(r.Services, fleet.Service{Name: s.name, Digest: digest, Image: s.image, Replicas: s.replicas, OneShot: s.oneShot})
	}
	y.WriteString(tail)
	r.Model = h.blobs.add(y.String())
	for _, path := range slices.Sorted(func(yield func(string) bool) {
		for p := range files {
			if !yield(p) {
				return
			}
		}
	}) {
		r.Files = append(r.Files, fleet.File{Path: path, Mode: 0o644, Size: int64(len(files[path])), Digest: h.blobs.add(files[path])})
	}
	r.Digest = fleet.SumDigest([]byte(y.String() + fmt.Sprint(r.Files)))
	return r
}

// order wraps a release.
func (h *host) order(kind fleet.OrderKind, r fleet.Release) fleet.Order {
	h.orders++
	o := fleet.Order{
		ID: fmt.Sprintf("order-%d", h.orders), Kind: kind, Stack: r.Stack, Server: h.server, Project: r.Project,
		Timeout: time.Minute,
	}
	if kind == fleet.OrderApply || kind == fleet.OrderUpdate {
		o.Release = r
	}
	return o
}

func (h *host) apply(r fleet.Release) fleet.Outcome {
	h.t.Helper()
	return h.do(h.order(fleet.OrderApply, r))
}

func (h *host) do(o fleet.Order) fleet.Outcome {
	h.t.Helper()
	return h.Do(h.t.Context(), o, h.blobs, nil)
}

// mustApply fails the test unless the release runs afterwards.
func (h *host) mustApply(r fleet.Release) fleet.Outcome {
	h.t.Helper()
	out := h.apply(r)
	h.want(out, fleet.OutcomeSucceeded)
	return out
}

func (h *host) want(out fleet.Outcome, status fleet.OutcomeStatus) {
	h.t.Helper()
	if out.Status != status {
		h.t.Fatalf("outcome %s (%s; log: %s), want %s", out.Status, out.Reason, out.Log, status)
	}
}

func (h *host) observe(stack string) fleet.StackReport {
	h.t.Helper()
	r, _, err := h.ObserveStack(h.t.Context(), stack)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// container is the only container of a service.
func (h *host) container(stack, service string) fleet.Container {
	h.t.Helper()
	var found []fleet.Container
	for _, c := range h.observe(stack).Containers {
		if c.Service == service {
			found = append(found, c)
		}
	}
	if len(found) != 1 {
		h.t.Fatalf("%d containers of %s/%s, want 1", len(found), stack, service)
	}
	return found[0]
}

func TestFirstDeployRunsAndIsAnOrdinaryComposeProject(t *testing.T) {
	h := newHost(t)
	r := h.release("first", nil, "", svc{name: "web", yaml: "command: [sleep]"}, svc{name: "job", yaml: `command: [exit, "0"]`, oneShot: true})
	out := h.mustApply(r)
	if want := []string{"job", "web"}; !slices.Equal(out.Started, want) {
		t.Errorf("started %v, want %v", out.Started, want)
	}
	c := h.container("first", "web")
	res, err := h.cl.ContainerInspect(t.Context(), c.ID, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	labels := res.Container.Config.Labels
	for label, want := range map[string]string{
		"com.docker.compose.project":              r.Project,
		"com.docker.compose.service":              "web",
		"com.docker.compose.oneoff":               "False",
		"com.docker.compose.project.config_files": filepath.Join(h.dir, "models", "first", "compose.yaml"),
		"com.docker.compose.project.working_dir":  filepath.Join(h.dir, "stacks", "first"),
		fleet.LabelServer:                         h.server,
		fleet.LabelStack:                          "first",
		fleet.LabelRelease:                        string(r.Digest),
		fleet.LabelCommit:                         r.Commit.ID,
		fleet.LabelDigest:                         string(r.Services[1].Digest),
	} {
		if labels[label] != want {
			t.Errorf("label %s is %q, want %q", label, labels[label], want)
		}
	}
	report := h.observe("first")
	if report.Release.Digest != r.Digest || report.Release.Files != nil || report.Project != r.Project {
		t.Errorf("report %+v", report)
	}
	if c.State != fleet.StateRunning || len(c.Drift) > 0 {
		t.Errorf("container %+v", c)
	}
}
