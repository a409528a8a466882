package main

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/gitserver"
	"github.com/varanhq/varan/sync/git"
	"github.com/varanhq/varan/sync/render"
)

// cost is what one process took.
type cost struct {
	wall, cpu time.Duration
	// peak resident memory in bytes.
	peak int64
}

// process runs a program to its end.
func process(ctx context.Context, dir, name string, args ...string) (cost, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0")
	start := time.Now()
	out, err := cmd.CombinedOutput()
	wall := time.Since(start)
	if err != nil {
		return cost{}, fmt.Errorf("%s %v: %w\n%s", filepath.Base(name), args, err, tail(out))
	}
	c := cost{wall: wall, cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.peak = usage.Maxrss << 10
	}
	return c, nil
}

func tail(out []byte) []byte { return out[max(0, len(out)-2000):] }

func rounds(n int, once func() (cost, error)) (cost, error) {
	var wall, cpu []time.Duration
	var peak []int64
	for range n {
		c, err := once()
		if err != nil {
			return cost{}, err
		}
		wall, cpu, peak = append(wall, c.wall), append(cpu, c.cpu), append(peak, c.peak)
	}
	return cost{median(wall), median(cpu), median(peak)}, nil
}

// measureValidate takes `varan validate` as people run it.
func measureValidate(ctx context.Context, t *table, o options, tree string) error {
	if o.bin == "" {
		return errors.New("-bin or VARAN_BIN is required")
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	floor, err := rounds(o.rounds, func() (cost, error) { return process(ctx, tree, self, "-floor", tree) })
	if err != nil {
		return err
	}
	ours, err := rounds(o.rounds, func() (cost, error) { return process(ctx, tree, o.bin, "validate", "--json", tree) })
	if err != nil {
		return err
	}
	t.limited("validate, all of it: wall", show(ours.wall), "<= 2 s", ours.wall > 2*time.Second)
	t.limited("validate, all of it: peak memory", fmt.Sprintf("%d MiB", ours.peak>>20), "<= 300 MiB", ours.peak > 300<<20)
	t.timed("validate, all of it: CPU", ours.cpu, "compose-go loads the stacks", floor.cpu, 0)
	return nil
}

// world is a repository behind HTTP and core's way to it.
type world struct {
	url, bare, work, tree string
	mirror                *git.Mirror
	renderer              *render.Renderer
}

// measurePass takes core's pass: fetch, render, compare by content.
func measurePass(ctx context.Context, t *table, o options, dir, tree string) error {
	backend, err := gitserver.Backend(ctx, dir)
	if err != nil {
		return fmt.Errorf("find git http-backend: %w", err)
	}
	server := httptest.NewServer(backend)
	defer server.Close()
	w := &world{url: server.URL + "/repo.git", bare: filepath.Join(dir, "repo.git"), work: filepath.Join(dir, "work"), tree: tree}
	if err := w.publish(ctx); err != nil {
		return err
	}
	w.mirror, err = git.Open(git.Config{Dir: filepath.Join(dir, "mirrors")}, git.Source{Name: "bench", URL: w.url, Branch: "main"})
	if err != nil {
		return fmt.Errorf("open the mirror: %w", err)
	}
	defer func() { _ = w.mirror.Close() }()
	w.renderer = render.New(render.Config{Key: []byte("0123456789abcdef0123456789abcdef")})
	if _, err := w.pass(ctx); err != nil {
		return err
	}
	if err := w.measureNothing(ctx, t, o); err != nil {
		return err
	}
	return w.measureOne(ctx, t, o)
}

// publish makes the tree a repository with one commit, and a clone for the floors.
func (w *world) publish(ctx context.Context) error {
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main", "."},
		{"config", "user.name", "bench"},
		{"config", "user.email", "bench@example.org"},
		{"add", "--all"},
		{"commit", "--quiet", "-m", "all"},
		{"clone", "--quiet", "--bare", ".", w.bare},
		{"--git-dir", w.bare, "config", "http.receivepack", "false"},
		{"clone", "--quiet", "--bare", "--depth=1", "--branch=main", w.url, w.work},
		{"remote", "add", "bare", w.bare},
	} {
		if _, err := process(ctx, w.tree, "git", args...); err != nil {
			return err
		}
	}
	return nil
}

// pass is one look at the repository, as core's source does it.
func (w *world) pass(ctx context.Context) (render.Output, error) {
	tree, _, err := w.mirror.Fetch(ctx)
	if err != nil {
		return render.Output{}, fmt.Errorf("fetch: %w", err)
	}
	out, err := w.renderer.Render(ctx, render.Input{Sync: "bench", Commit: tree.Commit(), Tree: tree})
	switch {
	case err != nil:
		return out, fmt.Errorf("render: %w", err)
	case out.Diagnostics.HasErrors():
		for _, d := range out.Diagnostics {
			if d.Severity == fleet.SeverityError {
				return out, fmt.Errorf("the generated repository is at fault: %s", d)
			}
		}
	}
	return out, nil
}

func (w *world) timedPass(ctx context.Context, loads int) (cost, error) {
	runtime.GC() // what the setup left behind is nobody's cost
	before, start := cpuTime(), time.Now()
	out, err := w.pass(ctx)
	if err == nil && out.Loads != loads {
		err = fmt.Errorf("%d stacks were loaded, want %d", out.Loads, loads)
	}
	return cost{wall: time.Since(start), cpu: cpuTime() - before}, err
}

func (w *world) measureNothing(ctx context.Context, t *table, o options) error {
	floor, err := rounds(o.rounds, func() (cost, error) { return process(ctx, w.work, "git", "ls-remote", w.url, "refs/heads/main") })
	if err != nil {
		return err
	}
	ours, err := rounds(o.rounds, func() (cost, error) { return w.timedPass(ctx, 0) })
	if err != nil {
		return err
	}
	t.timed("pass over an unchanged repository: wall", ours.wall, "git ls-remote", floor.wall, 2)
	t.timed("pass over an unchanged repository: CPU", ours.cpu, "git ls-remote", floor.cpu, 2)
	return nil
}

// measureOne changes one stack of them all, round after round.
func (w *world) measureOne(ctx context.Context, t *table, o options) error {
	file := filepath.Join(w.tree, "stacks", "app-0", "compose.yaml")
	var fetches, loads, ours []time.Duration
	var fetchCPU, loadCPU, oursCPU []time.Duration
	for i := range o.rounds {
		if err := os.WriteFile(file, fmt.Appendf(nil, composeFile, 100000+i), 0o644); err != nil { //nolint:gosec // a scratch repository
			return fmt.Errorf("change a stack: %w", err)
		}
		for _, args := range [][]string{{"commit", "--quiet", "--all", "-m", "one"}, {"push", "--quiet", "bare", "main"}} {
			if _, err := process(ctx, w.tree, "git", args...); err != nil {
				return err
			}
		}
		fetch, err := process(ctx, w.work, "git", "fetch", "--quiet", "--depth=1", "origin", "+main:main")
		if err != nil {
			return err
		}
		runtime.GC()
		before, start := cpuTime(), time.Now()
		if err := loadOne(ctx, file); err != nil {
			return err
		}
		loads, loadCPU = append(loads, time.Since(start)), append(loadCPU, cpuTime()-before)
		c, err := w.timedPass(ctx, 1)
		if err != nil {
			return err
		}
		fetches, fetchCPU = append(fetches, fetch.wall), append(fetchCPU, fetch.cpu)
		ours, oursCPU = append(ours, c.wall), append(oursCPU, c.cpu)
	}
	t.timed("pass after one stack changed: wall", median(ours), "git fetch and compose-go's load", median(fetches)+median(loads), 1.3)
	t.timed("pass after one stack changed: CPU", median(oursCPU), "git fetch and compose-go's load", median(fetchCPU)+median(loadCPU), 1.3)
	return nil
}

// cpuTime is what this process has used so far. The HTTP server runs in it too, on both
// sides alike but for its own work, which is small: git's backend is a process.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
