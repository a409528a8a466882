package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/varanhq/varan/bench/internal/process"
	"github.com/varanhq/varan/core"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/githook"
	"github.com/varanhq/varan/internal/selfimage"
	"github.com/varanhq/varan/internal/testutil/gitserver"
	"github.com/varanhq/varan/sync/git"
)

const (
	benchImage  = "varan-bench:latest"
	benchServer = "varan-bench"
	patience    = 5 * time.Minute
)

type bench struct {
	docker             *client.Client
	dir, bin, agentBin string
	parallel           int
}

func newBench(ctx context.Context, bin, agentBin string, parallel int) (*bench, error) {
	if bin == "" || agentBin == "" {
		return nil, errors.New("name the binaries with -bin and -agent-bin, or VARAN_BIN and VARAN_AGENT_BIN")
	}
	docker, err := client.New(client.FromEnv)
	if err != nil {
		return nil, fmt.Errorf("reach Docker: %w", err)
	}
	dir, err := os.MkdirTemp("", "varan-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	sleeper := filepath.Join(dir, "sleeper")
	build := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", sleeper, "./bench/sleeper")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the sleeper: %w: %s", err, out)
	}
	if err := selfimage.Import(ctx, docker, sleeper, benchImage); err != nil {
		return nil, err
	}
	return &bench{docker: docker, dir: dir, bin: bin, agentBin: agentBin, parallel: parallel}, nil
}

func (b *bench) close(ctx context.Context) {
	_, _ = b.docker.ImageRemove(ctx, benchImage, client.ImageRemoveOptions{Force: true})
	_ = os.RemoveAll(b.dir)
}

// measure runs every scenario for n stacks of one container each.
func (b *bench) measure(ctx context.Context, n int) (column, error) {
	c := column{stacks: n}
	if err := b.measureFloor(ctx, n, &c); err != nil {
		return c, err
	}
	run, err := b.newRun(ctx, n)
	if err != nil {
		return c, err
	}
	defer run.close(context.WithoutCancel(ctx))
	for _, scenario := range []func(context.Context, *column) error{
		run.firstDeploy, run.noop, run.oneChanged, run.burst, run.heal, run.allChanged,
	} {
		if err := scenario(ctx, &c); err != nil {
			return c, err
		}
	}
	c.coreRSS, c.corePeak = run.core.Memory()
	c.agentRSS, c.agentPeak = run.agent.Memory()
	return c, nil
}

func (b *bench) measureFloor(ctx context.Context, n int, c *column) error {
	f := &floor{docker: b.docker, parallel: b.parallel}
	var err error
	if c.floorFirst, err = f.create(ctx, n); err != nil {
		return err
	}
	var ones []time.Duration
	for range 5 {
		one, err := f.recreateOne(ctx)
		if err != nil {
			return err
		}
		ones = append(ones, one)
	}
	c.floorOne = median(ones)
	if c.floorRecreate, err = f.recreate(ctx); err != nil {
		return err
	}
	return f.remove(ctx)
}

// run is one core, one agent and one repository of n stacks.
type run struct {
	*bench
	n           int
	dir         string
	core, agent *process.Process
	git         *httptest.Server
	polls       atomic.Int64
	api         *api.Client
	secret      string
	version     int
}

func (b *bench) newRun(ctx context.Context, n int) (*run, error) {
	r := &run{bench: b, n: n, dir: filepath.Join(b.dir, fmt.Sprintf("n%d", n))}
	repo := filepath.Join(r.dir, "git", "fleet")
	if err := os.MkdirAll(repo, 0o750); err != nil {
		return nil, fmt.Errorf("make the repository's directory: %w", err)
	}
	if _, err := git.Init(repo, map[string]string{"README.md": "bench\n"}, "empty", time.Now()); err != nil {
		return nil, err
	}
	backend, err := gitserver.Backend(ctx, filepath.Join(r.dir, "git"))
	if err != nil {
		return nil, err
	}
	r.git = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/info/refs") {
			r.polls.Add(1)
		}
		backend.ServeHTTP(w, req)
	}))
	if err := r.startCore(ctx); err != nil {
		return nil, err
	}
	if err := r.startAgent(ctx); err != nil {
		return nil, err
	}
	created, err := r.api.AddSync(ctx, api.SyncSpec{
		Name: "bench", URL: r.git.URL + "/fleet", IntervalSeconds: 86400, AutoApply: true, SelfHeal: true, Delete: true, MaxRemovals: n,
	})
	if err != nil {
		return nil, fmt.Errorf("add the sync: %w", err)
	}
	r.secret = string(created.WebhookSecret)
	if err := r.idle(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *run) startCore(ctx context.Context) error {
	data := filepath.Join(r.dir, "core")
	key, err := core.Init(ctx, data)
	if err != nil {
		return fmt.Errorf("initialise core: %w", err)
	}
	addrFile := filepath.Join(r.dir, "addr")
	r.core, err = process.Start(ctx, r.dir, "core", r.bin, nil, "core", "--dir", data, "--listen", "127.0.0.1:0", "--addr-file", addrFile)
	if err != nil {
		return err
	}
	var address string
	err = until(ctx, "core to serve", func() bool {
		raw, err := os.ReadFile(addrFile)
		address = strings.TrimSpace(string(raw))
		return err == nil && address != ""
	})
	r.api = &api.Client{BaseURL: "http://" + address, Key: key}
	return err
}

func (r *run) startAgent(ctx context.Context) error {
	token, err := r.api.CreateOnboardingKey(ctx, api.OnboardingSpec{ServerGlob: benchServer})
	if err != nil {
		return fmt.Errorf("create an onboarding key: %w", err)
	}
	r.agent, err = process.Start(ctx, r.dir, "agent", r.agentBin, []string{"VARAN_ONBOARDING_KEY=" + string(token.Token)},
		"--core", r.api.BaseURL, "--connect-as", benchServer, "--dir", filepath.Join(r.dir, "agent"),
		"--parallel", fmt.Sprint(r.parallel))
	if err != nil {
		return err
	}
	return until(ctx, "the agent to join", func() bool {
		s, err := r.api.Server(ctx, benchServer)
		return err == nil && s.Online
	})
}

// files are the repository's content with every stack at the version given for it.
func (r *run) files(version func(i int) int) map[string]string {
	var spec strings.Builder
	fmt.Fprintf(&spec, "[[server]]\nname = %q\n", benchServer)
	files := map[string]string{}
	for i := range r.n {
		name := stackName(i)
		fmt.Fprintf(&spec, "\n[[stack]]\nname = %q\n[stack.config]\nserver = %q\nrun_directory = %q\nauto_pull = false\n",
			name, benchServer, name)
		files[name+"/compose.yaml"] = fmt.Sprintf(`services:
  app:
    image: %s
    pull_policy: never
    network_mode: none
    restart: unless-stopped
    stop_grace_period: 1s
    environment:
      VERSION: "%d"
`, benchImage, version(i))
	}
	files["fleet.toml"] = spec.String()
	return files
}

func stackName(i int) string { return fmt.Sprintf("varan-bench-%03d", i) }

// push commits, calls the webhook and returns when the webhook was sent.
func (r *run) push(ctx context.Context, files map[string]string) (time.Time, error) {
	r.version++
	if _, err := git.CommitFiles(filepath.Join(r.dir, "git", "fleet"), files, fmt.Sprintf("version %d", r.version), time.Now()); err != nil {
		return time.Time{}, err
	}
	sent := time.Now()
	_, err := r.webhook(ctx)
	return sent, err
}

// webhook sends a signed push and returns how long the answer took.
func (r *run) webhook(ctx context.Context) (time.Duration, error) {
	push := githook.Push{
		Core: r.api.BaseURL, Kind: "sync", Name: "bench", Action: "sync", Secret: fleet.NewSecret(r.secret), Branch: "main",
		ID: time.Now().String(),
	}
	req, err := push.Request(ctx)
	if err != nil {
		return 0, err
	}
	sent := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("send a push: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusAccepted {
		return 0, fmt.Errorf("the webhook answered %s", resp.Status)
	}
	return time.Since(sent), nil
}

// deploy pushes files and measures until as many containers started as changed, and
// until core says that all is well.
func (r *run) deploy(ctx context.Context, files map[string]string, changed int) (running, done, cpu time.Duration, err error) {
	before := r.core.CPU() + r.agent.CPU()
	started, stop := r.watchStarts(ctx)
	defer stop()
	sent, err := r.push(ctx, files)
	if err != nil {
		return 0, 0, 0, err
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for range changed {
		select {
		case at := <-started:
			running = at.Sub(sent)
		case <-timeout.C:
			return 0, 0, 0, errors.New("containers did not start in time")
		}
	}
	if err := r.idle(ctx); err != nil {
		return 0, 0, 0, err
	}
	return running, time.Since(sent), r.core.CPU() + r.agent.CPU() - before, nil
}

// watchStarts sends the time of every container start of the benchmark's stacks.
func (r *run) watchStarts(ctx context.Context) (<-chan time.Time, func()) {
	ctx, cancel := context.WithCancel(ctx)
	started := make(chan time.Time, 4*r.n)
	result := r.docker.Events(ctx, client.EventsListOptions{
		Filters: client.Filters{}.Add("event", "start").Add("label", fleet.LabelServer+"="+benchServer),
	})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case e := <-result.Messages:
				if e.Type == events.ContainerEventType {
					started <- time.Unix(0, e.TimeNano)
				}
			case <-result.Err: //nolint:errcheck // the end of the stream is all that matters
				return
			}
		}
	})
	return started, func() { cancel(); group.Wait() }
}

// idle waits until every stack is synced and healthy and core waits for the next wake.
func (r *run) idle(ctx context.Context) error {
	return until(ctx, "the fleet to settle", func() bool {
		status, err := r.api.Status(ctx)
		if err != nil || len(status.Syncs) != 1 || status.Syncs[0].State.Checked.IsZero() {
			return false
		}
		for i := range status.Stacks {
			if status.Stacks[i].Sync != fleet.Synced || status.Stacks[i].Health != fleet.Healthy {
				return false
			}
		}
		state := status.Syncs[0].State
		return (state.Phase == "idle" || state.Phase == "waiting") && (r.version == 0 || len(status.Stacks) == r.n)
	})
}

func (r *run) close(ctx context.Context) {
	r.agent.Stop()
	r.core.Stop()
	r.git.Close()
	list, err := r.docker.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: client.Filters{}.Add("label", fleet.LabelServer+"="+benchServer),
	})
	if err != nil {
		return
	}
	for i := range list.Items {
		_, _ = r.docker.ContainerRemove(ctx, list.Items[i].ID, client.ContainerRemoveOptions{Force: true})
	}
}

func until(ctx context.Context, what string, holds func() bool) error {
	return process.Until(ctx, patience, what, holds)
}

func median(durations []time.Duration) time.Duration {
	slices.Sort(durations)
	return durations[len(durations)/2]
}
