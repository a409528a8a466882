package core_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/core"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/settings"
	"github.com/varanhq/varan/internal/testutil/fakeengine"
	"github.com/varanhq/varan/internal/testutil/gitserver"
)

// patience is how long a test waits for what other goroutines and sockets do.
const patience = 30 * time.Second

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// logBuffer collects what a core logs.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// rig is a core that can be stopped and started again, and a client for it.
type rig struct {
	*api.Client
	t    *testing.T
	dir  string
	addr string
	log  *logBuffer
	stop func()
	// tune changes what the core is started with; optional.
	tune func(*core.Config)
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigIn(t, filepath.Join(t.TempDir(), "data"), func(*core.Config) {})
}

// newRigIn is one in a directory, and with a configuration, of the test's own.
func newRigIn(t *testing.T, dir string, tune func(*core.Config)) *rig {
	t.Helper()
	r := &rig{t: t, dir: dir, addr: "127.0.0.1:0", log: &logBuffer{}, stop: func() {}, tune: tune}
	key, err := core.Init(t.Context(), r.dir)
	must(t, err)
	r.Client = &api.Client{Key: key, HTTP: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(func() { r.stop() })
	r.start()
	return r
}

// settingsFor are the defaults for a core in a directory.
func settingsFor(t *testing.T, dir, listen string) *core.Settings {
	t.Helper()
	s := &core.Settings{}
	_, err := settings.Load(s, settings.Source{Defaults: map[string]string{"dir": dir, "listen": listen}})
	must(t, err)
	return s
}

// start runs the core at the address that it had before, if any.
func (r *rig) start() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan net.Addr, 1), make(chan error, 1)
	cfg := core.Config{
		Settings: settingsFor(r.t, r.dir, r.addr),
		Logger:   slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Ready:    func(addr net.Addr) { ready <- addr },
	}
	r.tune(&cfg)
	go func() { done <- core.Run(ctx, cfg) }()
	select {
	case addr := <-ready:
		r.addr, r.BaseURL = addr.String(), "http://"+addr.String()
	case err := <-done:
		cancel()
		r.t.Fatalf("core did not start: %v", err)
	}
	r.stop = sync.OnceFunc(func() {
		r.HTTP.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("core ended with %v", err)
		}
		if r.t.Failed() {
			r.t.Log(r.log.String())
		}
	})
}

// join starts an agent over a host in memory, which lives as long as the test.
func (r *rig) join(server string) *fakeengine.Engine {
	r.t.Helper()
	created, err := r.CreateOnboardingKey(r.t.Context(), api.OnboardingSpec{})
	must(r.t, err)
	return r.joinWith(server, created.Token)
}

// serve runs an agent as long as the test.
func (r *rig) serve(cfg agent.Config) {
	r.t.Helper()
	a, err := agent.New(cfg)
	must(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("agent of %s ended with %v", cfg.Server, err)
		}
	})
}

// eventually waits for what comes over sockets, where there is nothing to wait on.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-again.C:
		case <-deadline.C:
			r.t.Fatalf("waited in vain: %s", what)
		}
	}
}

func (r *rig) stack(name string) api.Stack {
	r.t.Helper()
	stacks, err := r.Stacks(r.t.Context())
	must(r.t, err)
	for _, stack := range stacks {
		if stack.Name == name {
			return stack
		}
	}
	return api.Stack{}
}

func (r *rig) settled(name string, state fleet.SyncState, commit string) {
	r.t.Helper()
	r.eventually(name+" becomes "+string(state), func() bool {
		stack := r.stack(name)
		return stack.Sync == state && stack.Commit.ID == commit
	})
}

// repository declares a stack "web" on alpha that runs an image and is given a variable.
func repository(image string) map[string]string {
	return map[string]string{
		"fleet.toml": `
[[server]]
name = "alpha"

[[stack]]
name = "web"
[stack.config]
server = "alpha"
run_directory = "web"
environment = "TOKEN=[[WEB_TOKEN]]"
`,
		"web/compose.yaml": "services:\n  app:\n    image: " + image + "\n    environment:\n      TOKEN: ${TOKEN}\n",
	}
}

func (r *rig) push(secret, commit string) int {
	r.t.Helper()
	return r.signed("/listener/github/sync/main/sync", secret, `{"ref":"refs/heads/main","after":"`+commit+`"}`)
}

// hook is a push to the branch main at another path.
func (r *rig) hook(path, secret string) int {
	r.t.Helper()
	return r.signed(path, secret, `{"ref":"refs/heads/main"}`)
}

func (r *rig) signed(path, secret, body string) int {
	r.t.Helper()
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.BaseURL+path, strings.NewReader(body))
	must(r.t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	resp, err := r.HTTP.Do(req)
	must(r.t, err)
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestACommitReachesItsServerAndIsExplained(t *testing.T) {
	t.Parallel()
	const canary = "canary-8c1f"
	r := newRig(t)
	repo := gitserver.New(t)
	repo.RequireBasic("ada", canary)
	first := repo.Commit(repository("registry.example/app:1"), "First")
	engine := r.join("alpha")
	_, err := r.SetVariable(t.Context(), "WEB_TOKEN", api.VariableSpec{Value: canary, Secret: true})
	must(t, err)
	created, err := r.AddSync(t.Context(), api.SyncSpec{
		Name: "main", URL: repo.URL(), AutoApply: true, IntervalSeconds: 3600,
		Credentials: api.GitCredentials{Username: "ada", Password: canary},
	})
	must(t, err)
	r.settled("web", fleet.Synced, first)

	second := repo.Commit(repository("registry.example/app:2"), "Second")
	if status := r.push(string(created.WebhookSecret), second); status != http.StatusAccepted {
		t.Fatalf("the webhook got %d", status)
	}
	r.settled("web", fleet.Synced, second)
	orders := engine.Orders()
	if len(orders) != 2 || orders[1].Release.Commit.ID != second {
		t.Errorf("the agent got %d orders", len(orders))
	}
	why, err := r.Why(t.Context(), "web")
	must(t, err)
	if !strings.Contains(why.Summary, second[:8]) || !strings.Contains(why.Summary, "image") || why.Server != "alpha" {
		t.Errorf("why: %s", why.Summary)
	}
	history, err := r.History(t.Context(), "web", api.Page{})
	must(t, err)
	if len(history) != 2 || history[0].Trigger != "webhook" || history[0].Status != api.OpSucceeded {
		t.Errorf("history: %+v", history)
	}
	var lines []string
	broken := repository("registry.example/app:2")
	broken["web/compose.yaml"] = "services: ["
	third := repo.Commit(broken, "Third")
	for range 2 {
		_, err = r.RunSync(t.Context(), "main")
		must(t, err)
		r.eventually("the sync stalls", func() bool {
			main, err := r.Sync(t.Context(), "main")
			return err == nil && main.State.Commit.ID == third && main.State.Good.ID == second && main.State.Phase == "stalled"
		})
	}
	must(t, r.Logs(t.Context(), "web", api.LogsRequest{}, func(line api.LogLine) error {
		lines = append(lines, line.Text)
		return nil
	}))
	if len(lines) != 1 {
		t.Errorf("logs: %q", lines)
	}
	var told string
	r.eventually("the history tells why", func() bool {
		events, err := r.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 500}})
		must(t, err)
		told = ""
		for _, event := range events {
			told += event.Text + "\n"
		}
		return strings.Contains(told, "commit "+third[:8]+" is invalid: web/compose.yaml:")
	})
	if n := strings.Count(told, "is invalid"); n != 1 {
		t.Errorf("the history tells %d times that a commit is invalid:\n%s", n, told)
	}
	if strings.Contains(told+r.log.String(), canary) {
		t.Error("a secret is in the log or the history")
	}
}

func TestApplyAndUploadOfASyncThatOnlyPlans(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	repo := gitserver.New(t)
	repo.Commit(repository("registry.example/app:1"), "First")
	engine := r.join("alpha")
	_, err := r.SetVariable(t.Context(), "WEB_TOKEN", api.VariableSpec{Value: "x"})
	must(t, err)
	_, err = r.AddSync(t.Context(), api.SyncSpec{Name: "main", URL: repo.URL(), IntervalSeconds: 3600})
	must(t, err)
	r.eventually("alpha connects", func() bool {
		server, err := r.Server(t.Context(), "alpha")
		return err == nil && server.Online
	})
	planned, err := r.Plan(t.Context(), "main", api.PlanRequest{Refresh: true})
	must(t, err)
	if planned.Plan.Totals.Create != 1 || len(engine.Orders()) != 0 {
		t.Fatalf("plan: %+v", planned.Plan)
	}
	var kinds []api.ApplyEventKind
	result, err := r.Apply(t.Context(), "main", api.ApplyRequest{Saved: &planned.Plan}, func(e api.ApplyEvent) error {
		kinds = append(kinds, e.Kind)
		return nil
	})
	must(t, err)
	if result.Status != api.OpSucceeded || len(kinds) < 4 || kinds[0] != api.EventPlan {
		t.Errorf("apply: %+v, events %v", result, kinds)
	}
	files := map[string]api.UploadFile{}
	for name, text := range repository("registry.example/app:3") {
		files[name] = api.UploadFile{Data: []byte(text)}
	}
	upload, err := r.PlanUpload(t.Context(), api.UploadRequest{Files: files})
	must(t, err)
	if upload.Plan.Totals.Update != 1 {
		t.Errorf("plan of the directory: %s", upload.Plan.String())
	}
	files["web/compose.yaml"] = api.UploadFile{Data: []byte("services: [")}
	_, err = r.PlanUpload(t.Context(), api.UploadRequest{Files: files})
	var e *api.Error
	if !errors.As(err, &e) || e.Code != api.CodeInvalid || len(e.Diagnostics) == 0 {
		t.Errorf("plan of a broken directory: %v", err)
	}
	result, err = r.Apply(t.Context(), "main", api.ApplyRequest{}, nil)
	must(t, err)
	if result.Status != api.OpSucceeded || len(result.Ops) != 0 {
		t.Errorf("apply again: %+v", result)
	}
}

func TestADeployOutlivesItsCore(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	repo := gitserver.New(t)
	files := repository("registry.example/app:1")
	commit := repo.Commit(files, "First")
	engine := r.join("alpha")
	started, release := engine.Hold("web")
	_, err := r.SetVariable(t.Context(), "WEB_TOKEN", api.VariableSpec{Value: "x"})
	must(t, err)
	_, err = r.AddSync(t.Context(), api.SyncSpec{Name: "main", URL: repo.URL(), AutoApply: true, Delete: true, IntervalSeconds: 3600})
	must(t, err)
	<-started
	// The core stops waiting at some point; here at once, so that the test need not.
	go release()
	r.stop()
	r.start()
	r.settled("web", fleet.Synced, commit)
	r.eventually("the outcome is recorded", func() bool {
		history, err := r.History(t.Context(), "web", api.Page{})
		return err == nil && len(history) > 0 && history[0].Status == api.OpSucceeded
	})
	if n := len(engine.Orders()); n == 0 || n > 2 {
		t.Errorf("the agent got %d orders", n)
	}
}

func TestTheLastCommitStandsInForARepositoryThatIsAway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	repo := gitserver.New(t)
	commit := repo.Commit(repository("registry.example/app:1"), "First")
	r.join("alpha")
	_, err := r.SetVariable(t.Context(), "WEB_TOKEN", api.VariableSpec{Value: "x"})
	must(t, err)
	for _, name := range []string{"main", "second"} {
		// Both follow the same branch: one mirror serves them.
		_, err = r.AddSync(t.Context(), api.SyncSpec{
			Name: name, URL: repo.URL(), MatchTags: map[string][]string{"second": {"none"}}[name], AutoApply: true, IntervalSeconds: 3600,
		})
		must(t, err)
	}
	r.settled("web", fleet.Synced, commit)
	mirrors, err := filepath.Glob(filepath.Join(r.dir, "mirrors", "*"))
	must(t, err)
	if len(mirrors) != 1 {
		t.Errorf("%d mirrors of one repository", len(mirrors))
	}
	r.stop()
	repo.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	r.start()
	r.settled("web", fleet.Synced, commit)
	r.eventually("the status says so", func() bool {
		main, err := r.Sync(t.Context(), "main")
		return err == nil && len(main.State.Diagnostics) > 0 && main.State.Diagnostics[0].Rule == "source-stale"
	})
}

func TestADirectoryIsInitialisedOnceAndServedByOne(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	conflict := func(err error, words string) {
		t.Helper()
		var e *api.Error
		if !errors.As(err, &e) || e.Code != api.CodeConflict || e.Hint == "" || !strings.Contains(e.Message, words) {
			t.Errorf("got %v, want a conflict that says %q", err, words)
		}
	}
	cfg := core.Config{Settings: settingsFor(t, dir, "127.0.0.1:0"), Logger: slog.New(slog.DiscardHandler)}
	conflict(core.Run(t.Context(), cfg), "is not a core's data directory")
	_, err := core.Init(t.Context(), dir)
	must(t, err)
	_, err = core.Init(t.Context(), dir)
	conflict(err, "already initialised")
	for _, name := range []string{"core.key", "seal.key", "digest.key"} {
		info, err := os.Stat(filepath.Join(dir, "keys", name))
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	info, err := os.Stat(dir)
	must(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the data directory has mode %v", info.Mode())
	}

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	cfg.Ready = func(addr net.Addr) {
		second := cfg
		second.Ready = nil
		conflict(core.Run(t.Context(), second), "another core runs")
		third := cfg
		third.Settings, third.Ready = settingsFor(t, filepath.Join(t.TempDir(), "other"), addr.String()), nil
		_, err := core.Init(t.Context(), third.Settings.Dir)
		must(t, err)
		conflict(core.Run(t.Context(), third), "cannot serve on")
		cancel()
	}
	go func() { done <- core.Run(ctx, cfg) }()
	if err := <-done; err != nil {
		t.Errorf("core ended with %v", err)
	}
	must(t, os.Chmod(filepath.Join(dir, "keys", "seal.key"), 0o644))
	if err := core.Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
}
