package main

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/internal/selfimage"
	"github.com/varanhq/varan/reconciler/plan"
	"github.com/varanhq/varan/sync/git"
)

//go:embed demo
var demoFiles embed.FS

// demoStacks are the stacks, and so the Compose projects, of the demo.
var demoStacks = []string{"demo-db", "demo-api", "demo-site"}

// The names that the demo takes on the host; all of it is removed at the end.
const (
	demoImage = "varan-demo:latest"
	demoSync  = "demo"
	demoDirs  = "varan-demo-"
)

// demoServers are the two servers; both agents use this machine's engine.
var demoServers = []string{"demo-alpha", "demo-beta"}

func (a *app) demoCommand() *cobra.Command {
	var keep, stop bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch a Git commit become running containers, on this machine's Docker",
		Long: `Watch a Git commit become running containers: a real core, two real agents, real Noise
connections and this machine's Docker. Nothing is pulled and nothing has to be configured.
Everything is cleaned up at the end, unless --keep is given; --stop ends a demo that was kept.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if keep && stop {
				return exit.Usagef("--keep and --stop exclude each other")
			}
			d, err := newDemo(cmd.Context(), a)
			if err != nil {
				return err
			}
			if stop {
				return d.stopKept(cmd.Context())
			}
			// Also after a signal or a failed chapter, nothing of the demo stays.
			defer func() { d.close(context.WithoutCancel(cmd.Context()), keep && err == nil) }()
			if err = d.run(cmd.Context()); err == nil && keep {
				err = d.keep()
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave it running and print commands to play with")
	cmd.Flags().BoolVar(&stop, "stop", false, "end a demo that was kept, and remove all of it")
	return cmd
}

// demo is one run: its files, its processes and the way to both.
type demo struct {
	app    *app
	out    io.Writer
	style  style
	docker *client.Client
	engine client.ServerVersionResult
	dir    string
	exe    string
	port   int
	step   int
	procs  demoProcesses
	api    *api.Client
	secret api.WriteOnly
	began  time.Time
}

func newDemo(ctx context.Context, a *app) (*demo, error) {
	docker, err := client.New(client.FromEnv)
	if err != nil {
		return nil, &exit.Error{
			Code: exit.Unreachable, Err: fmt.Errorf("the demo needs Docker: %w", err), Hint: "see what DOCKER_HOST holds",
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	version, err := docker.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return nil, &exit.Error{
			Code: exit.Unreachable,
			Err:  fmt.Errorf("the demo needs Docker, which does not answer at %s: %w", docker.DaemonHost(), err),
			Hint: "start Docker, or set DOCKER_HOST, and see that this user may use it",
		}
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return &demo{
		app: a, out: a.stdout, style: styleFor(a.stdout), docker: docker, engine: version, exe: exe, began: time.Now(),
	}, nil
}

// run is the story, one chapter a line.
func (d *demo) run(ctx context.Context) error {
	fmt.Fprintf(d.out, "%s\n\n", d.style.bold("Varan: a Git commit becomes running containers"))
	d.say("Docker %s answers (API %s)", d.engine.Version, d.engine.APIVersion)
	if _, err := d.sweep(ctx, false); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", demoDirs)
	if err != nil {
		return fmt.Errorf("make a directory for the demo: %w", err)
	}
	d.dir, d.procs = dir, demoProcesses{dir: dir, exe: d.exe}
	if err := d.procs.remember(); err != nil {
		return err
	}
	chapters := []func(context.Context) error{
		d.makeImage, d.startCore, d.startAgents, d.firstCommit, d.changeOneService, d.breakOneService,
	}
	for _, chapter := range chapters {
		if err := chapter(ctx); err != nil {
			return d.explain(ctx, err)
		}
	}
	fmt.Fprintf(d.out, "\n%s in %s.\n", d.style.green("That is all of it"), time.Since(d.began).Round(100*time.Millisecond))
	return nil
}

// explain adds what the processes logged last to an error that is not a person's Ctrl-C.
func (d *demo) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	tail := d.procs.logTail()
	if tail != "" {
		fmt.Fprintf(d.app.stderr, "\nlast lines of core and agents:\n%s\n", tail)
	}
	return err
}

// say opens a chapter.
func (d *demo) say(format string, args ...any) {
	d.step++
	fmt.Fprintf(d.out, "%s %s\n", d.style.cyan(fmt.Sprintf("[%d]", d.step)), fmt.Sprintf(format, args...))
}

// shell shows the command a person would type for what follows.
func (d *demo) shell(command string) {
	fmt.Fprintf(d.out, "\n%s %s\n", d.style.dim("$"), d.style.bold(command))
}

func (d *demo) makeImage(ctx context.Context) error {
	err := selfimage.Import(ctx, d.docker, d.exe, demoImage)
	if errors.Is(err, selfimage.ErrNotStatic) {
		return &exit.Error{Code: exit.Config, Err: err, Hint: "build with CGO_ENABLED=0 on Linux (make build)"}
	}
	if err != nil {
		return err
	}
	info, err := os.Stat(d.exe)
	if err != nil {
		return fmt.Errorf("read the program's size: %w", err)
	}
	d.say("image %s made from this very program (%d MB, nothing pulled)", demoImage, info.Size()>>20)
	return nil
}

func (d *demo) startCore(ctx context.Context) error {
	address, key, err := d.procs.core(ctx, d.dir)
	if err != nil {
		return err
	}
	d.api = &api.Client{BaseURL: "http://" + address, Key: key}
	d.say("core serves on %s, its data in %s", address, filepath.Join(d.dir, "core"))
	return nil
}

func (d *demo) startAgents(ctx context.Context) error {
	for _, server := range demoServers {
		created, err := d.api.CreateOnboardingKey(ctx, api.OnboardingSpec{ServerGlob: server})
		if err != nil {
			return fmt.Errorf("create an onboarding key: %w", err)
		}
		if err := d.procs.agent(ctx, server, d.api.BaseURL, created.Token.Secret()); err != nil {
			return err
		}
	}
	err := d.wait(ctx, "the agents to join", func(ctx context.Context) (bool, error) {
		servers, err := d.api.Servers(ctx)
		online := 0
		for i := range servers {
			if servers[i].Online {
				online++
			}
		}
		return online == len(demoServers), err
	})
	if err != nil {
		return err
	}
	d.say("agents %s dialled core and joined over Noise", strings.Join(demoServers, " and "))
	return nil
}

func (d *demo) firstCommit(ctx context.Context) error {
	password := make([]byte, 12)
	_, _ = rand.Read(password) // never fails, as its documentation says
	spec := api.VariableSpec{Value: api.WriteOnly(hex.EncodeToString(password)), Secret: true}
	if _, err := d.api.SetVariable(ctx, "DEMO_DB_PASSWORD", spec); err != nil {
		return fmt.Errorf("set the demo's secret: %w", err)
	}
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	d.port = port
	files, err := d.files()
	if err != nil {
		return err
	}
	commit, err := git.Init(d.repo(), files, "first version", d.began)
	if err != nil {
		return fmt.Errorf("create the demo's repository: %w", err)
	}
	created, err := d.api.AddSync(ctx, api.SyncSpec{
		Name: demoSync, URL: d.repo(), Branch: commit.Branch, IntervalSeconds: 3600, Delete: true,
	})
	if err != nil {
		return fmt.Errorf("add the sync: %w", err)
	}
	d.secret = created.WebhookSecret
	d.say("commit %s %q in %s: 2 servers, 3 stacks, 4 services", commit.Short(), commit.Subject, d.repo())
	if err := d.planAndApply(ctx); err != nil {
		return err
	}
	if err := d.showContainers(ctx); err != nil {
		return err
	}
	return d.showAnswer(ctx, "Hello from commit one")
}

// planAndApply does what a person would: look at the plan, then apply exactly that.
func (d *demo) planAndApply(ctx context.Context) error {
	p, err := d.showPlan(ctx)
	if err != nil {
		return err
	}
	d.shell("varan apply")
	view := newProgressView(d.app)
	view.out, view.style = d.out, d.style
	view.live = view.live && columns(d.out) > 0
	result, err := d.api.Apply(ctx, demoSync, api.ApplyRequest{Saved: &p}, view.event)
	view.close()
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	if err := view.summary(result); err != nil {
		return err
	}
	return resultError(result)
}

func (d *demo) showPlan(ctx context.Context) (plan.Plan, error) {
	d.shell("varan plan")
	result, err := d.api.Plan(ctx, demoSync, api.PlanRequest{})
	if err != nil {
		return plan.Plan{}, fmt.Errorf("plan: %w", d.app.withDiagnostics(err))
	}
	if err := result.Plan.Render(d.out, d.app.renderOptions(false)); err != nil {
		return plan.Plan{}, fmt.Errorf("write the plan: %w", err)
	}
	return result.Plan, nil
}

func (d *demo) repo() string { return filepath.Join(d.dir, "repository") }

// files is the first commit's content.
func (d *demo) files() (map[string]string, error) {
	content := func(name string) (string, error) {
		raw, err := demoFiles.ReadFile("demo/" + name)
		if err != nil {
			return "", fmt.Errorf("read the demo's files: %w", err)
		}
		return strings.NewReplacer("{{IMAGE}}", demoImage, "{{PORT}}", strconv.Itoa(d.port)).Replace(string(raw)), nil
	}
	files := map[string]string{"site/public/index.txt": "Hello from commit one\n"}
	for path, name := range map[string]string{
		"fleet/servers.toml": "servers.toml", "fleet/stacks.toml": "stacks.toml",
		"db/compose.yaml": "db.yaml", "api/compose.yaml": "api.yaml", "site/compose.yaml": "site.yaml",
	} {
		text, err := content(name)
		if err != nil {
			return nil, err
		}
		files[path] = text
	}
	return files, nil
}

// freePort asks the system for a port that is free now.
func freePort(ctx context.Context) (int, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// showAnswer asks the site what it says.
func (d *demo) showAnswer(ctx context.Context, want string) error {
	url := fmt.Sprintf("http://127.0.0.1:%d/", d.port)
	d.shell("curl " + url)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return fmt.Errorf("ask the site: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask the site: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return fmt.Errorf("read the site's answer: %w", err)
	}
	answer := strings.TrimSpace(string(body))
	fmt.Fprintln(d.out, d.style.green(answer))
	if answer != want {
		return fmt.Errorf("the site answers %q, not %q", answer, want)
	}
	return nil
}

// wait polls until a condition holds, for at most thirty seconds. On a terminal a line
// says what for, and how long already.
func (d *demo) wait(ctx context.Context, what string, holds func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	began := time.Now()
	for {
		ok, err := holds(ctx)
		if d.style.on {
			fmt.Fprint(d.out, "\r\x1b[K")
		}
		if ok {
			return nil
		}
		if d.style.on {
			fmt.Fprint(d.out, d.style.cyan(fmt.Sprintf("  waiting for %s  %.1fs", what, time.Since(began).Seconds())))
		}
		select {
		case <-ctx.Done():
			if d.style.on {
				fmt.Fprintln(d.out)
			}
			return errors.Join(fmt.Errorf("waited for %s: %w", what, ctx.Err()), err)
		case <-ticker.C:
		}
	}
}
