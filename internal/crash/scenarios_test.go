//go:build linux

package crash_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/audit"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/githook"
	"github.com/varanhq/varan/internal/testutil/fakeengine"
	"github.com/varanhq/varan/internal/testutil/gitserver"
)

// repo is the repository that core follows, with one stack, and a procedure with a schedule.
type repo struct {
	*gitserver.Server
	version int
	head    string
}

func (r *repo) commit() string {
	r.version++
	r.head = r.Commit(map[string]string{
		"fleet.toml": `[[server]]
name = "alpha"

[[stack]]
name = "web"
[stack.config]
server = "alpha"
file_contents = """
services:
  app:
    image: app:` + fmt.Sprint(r.version) + `
"""

[[procedure]]
name = "again"
config.schedule = "every sunday at noon"
config.schedule_timezone = "UTC"
config.stage = [
  { name = "one", executions = [{ execution.type = "DeployStack", execution.params.stack = "web" }] },
  { name = "two", executions = [{ execution.type = "RestartStack", execution.params.stack = "web" }] },
]
`,
	}, fmt.Sprintf("version %d", r.version))
	return r.head
}

// newLab makes the directory that every try starts with: a core that has applied the
// repository to alpha, whose agent has joined.
func newLab(t *testing.T, bin string, s scenario) *lab {
	t.Helper()
	l := &lab{
		t: t, scenario: s, bin: bin, template: filepath.Join(t.TempDir(), "template"), addr: freeAddr(t),
		repo: &repo{Server: gitserver.New(t)},
	}
	l.repo.commit()
	out, err := exec.CommandContext(t.Context(), bin, "core", "init", "--dir", filepath.Join(l.template, "core")).Output()
	if err != nil {
		t.Fatal(err)
	}
	l.key = strings.TrimSpace(string(out))
	first := &try{lab: l, dir: l.template, names: map[string]func(){}}
	first.core = l.start(untraced, first.coreArgs(), nil)
	defer first.close()
	if !first.ready(t.Context()) {
		t.Fatalf("core does not serve: %s", first.core.log.String())
	}
	key, err := first.client().CreateOnboardingKey(t.Context(), api.OnboardingSpec{ServerGlob: "alpha"})
	must(t, err)
	first.join("alpha", string(key.Token))
	created, err := first.client().AddSync(t.Context(), api.SyncSpec{
		Name: "main", URL: l.repo.URL(), IntervalSeconds: 86400, AutoApply: true, SelfHeal: true,
	})
	must(t, err)
	l.secret = string(created.WebhookSecret)
	first.await("the first deployment", first.deployed)
	l.schedules = first.scheduled(t.Context())
	if !slices.Contains(l.schedules, "again") {
		t.Fatalf("the schedules are %q", l.schedules)
	}
	first.close()
	if s.prepare != nil {
		s.prepare(l)
	}
	return l
}

// try is one run of a scenario, in a directory of its own.
type try struct {
	*lab
	at          int    // the call before which the process dies
	last        string // which one that was
	dir         string
	core, agent *traced
	env         []string          // of the agent
	names       map[string]func() // the agents in this process, by their server; ends one
	token       api.OnboardingCreated
	started     string // the run that was said to have begun
	// promised are looked for after the restart: what core said was done.
	promised []func(ctx context.Context) error
}

func (y *try) violated(format string, args ...any) {
	y.t.Helper()
	y.violations++
	y.t.Errorf("killed before call %d, %q: %s", y.at, strings.ReplaceAll(y.last, y.dir, ""), fmt.Sprintf(format, args...))
}

func (y *try) coreArgs() []string {
	return []string{"core", "--dir", filepath.Join(y.dir, "core"), "--listen", y.addr, "--log-level", "warn"}
}

func (y *try) agentArgs() []string {
	y.env = append(y.env, "DOCKER_HOST=unix://"+filepath.Join(y.dir, "none.sock"))
	return []string{"agent", "--core", "ws://" + y.addr, "--connect-as", "alpha", "--dir", filepath.Join(y.dir, "agent-alpha"), "--log-level", "warn"}
}

func (y *try) client() *api.Client {
	return &api.Client{BaseURL: "http://" + y.addr, Key: fleet.NewSecret(y.key), HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
}

// poll asks until ok, or until ctx ends.
func poll(ctx context.Context, ok func(context.Context) bool) bool {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ok(ctx) {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (y *try) ready(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, back)
	defer cancel()
	return poll(ctx, func(ctx context.Context) bool { return y.client().Ready(ctx) == nil })
}

// await is for what must come true after a restart.
func (y *try) await(what string, ok func(context.Context) bool) {
	y.t.Helper()
	ctx, cancel := context.WithTimeout(y.t.Context(), back)
	defer cancel()
	if !poll(ctx, ok) {
		status, err := y.client().Status(y.t.Context())
		y.violated("not within %v: %s\n%+v %v\n%s", back, what, status, err, y.core.log.String())
	}
}

// join runs an agent in this process. It lives on when core dies.
func (y *try) join(server, token string) {
	a, err := agent.New(agent.Config{
		Dir: filepath.Join(y.dir, "agent-"+server), Server: server, Cores: []string{"ws://" + y.addr}, OnboardingToken: fleet.NewSecret(token),
		Engine: fakeengine.New(server), Logger: slog.New(slog.DiscardHandler), Drain: time.Second,
	})
	if err != nil {
		y.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		_ = a.Run(ctx)
		close(done)
	}()
	y.names[server] = func() { cancel(); <-done }
}

func (y *try) close() {
	for _, end := range y.names {
		end()
	}
	y.names = map[string]func(){}
	for _, p := range []*traced{y.agent, y.core} {
		if p != nil {
			p.stop()
		}
	}
}

// deployed reports whether the head of the repository runs.
func (y *try) deployed(ctx context.Context) bool {
	status, err := y.client().Status(ctx)
	if err != nil || len(status.Syncs) != 1 || len(status.Stacks) != 1 {
		return false
	}
	return status.Syncs[0].State.Good.ID == y.repo.head && status.Stacks[0].Sync == fleet.Synced && status.Stacks[0].Health == fleet.Healthy
}

// scheduled names what has a schedule.
func (y *try) scheduled(ctx context.Context) (names []string) {
	schedules, err := y.client().Schedules(ctx, 1)
	if err != nil {
		return []string{err.Error()}
	}
	for _, s := range schedules {
		names = append(names, s.Procedure)
	}
	slices.Sort(names)
	return names
}

func (y *try) online(server string) func(context.Context) bool {
	return func(ctx context.Context) bool {
		s, err := y.client().Server(ctx, server)
		return err == nil && s.Online
	}
}

// push commits, and tells core of it.
func (y *try) push(ctx context.Context) {
	push := githook.Push{
		Core: "http://" + y.addr, Kind: "sync", Name: "main", Action: "sync", Secret: fleet.NewSecret(y.secret), Branch: "main", ID: y.repo.commit(),
	}
	if req, err := push.Request(ctx); err == nil {
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}
}

// setVariable writes something, and notes it if core said that it is written.
func (y *try) setVariable(ctx context.Context, name string) {
	if _, err := y.client().SetVariable(ctx, name, api.VariableSpec{Value: api.WriteOnly("value of " + name)}); err != nil {
		return
	}
	y.promised = append(y.promised, func(ctx context.Context) error {
		variables, err := y.client().Variables(ctx)
		for _, v := range variables {
			if v.Name == name {
				return nil
			}
		}
		return fmt.Errorf("variable %s was written and is gone (%w)", name, err)
	})
}

// setUp makes what the agent's scenarios need from core.
func (y *try) setUp() {
	if y.scenario.name != "agent joins" {
		return
	}
	_ = os.RemoveAll(filepath.Join(y.dir, "agent-alpha"))
	created, err := y.client().CreateOnboardingKey(y.t.Context(), api.OnboardingSpec{Rekey: "alpha"})
	must(y.t, err)
	y.token = created
	y.env = append(y.env, "VARAN_ONBOARDING_KEY="+string(created.Token))
}

// checkAll looks at what must hold whatever was cut off.
func (y *try) checkAll() {
	ctx, cancel := context.WithTimeout(y.t.Context(), 3*back)
	defer cancel()
	if !y.ready(ctx) {
		y.violated("core does not serve: %s", y.core.log.String())
		return
	}
	if y.scenario.victim != ofAgent && y.names["alpha"] == nil {
		y.join("alpha", "") // it died before the agent was started
	}
	y.await("alpha is connected", y.online("alpha"))
	for _, kept := range y.promised {
		if err := kept(ctx); err != nil {
			y.violated("%v", err)
		}
	}
	y.scenario.check(y)
	var schedules []string
	y.await("the schedules are there", func(ctx context.Context) bool { // once the repository was read
		schedules = y.scheduled(ctx)
		return slices.Equal(schedules, y.schedules)
	})
	if !slices.Equal(schedules, y.schedules) {
		y.t.Logf("the schedules are %q, not %q", schedules, y.schedules)
	}
	y.checkKeys(ctx)
	y.checkAudit(ctx)
	y.close()
	y.checkDatabase()
	y.checkFiles()
}

func (y *try) checkKeys(ctx context.Context) {
	keys, err := y.client().FleetKeys(ctx)
	accepted := 0
	for _, key := range keys.Servers {
		if key.Server == "alpha" && (key.State == "current" || key.State == "next") {
			accepted++
		}
	}
	if err != nil || accepted == 0 {
		y.violated("alpha has no key that core accepts: %v", err)
	}
	tokens, err := y.client().OnboardingKeys(ctx)
	if err != nil {
		y.violated("onboarding keys: %v", err)
	}
	for _, token := range tokens {
		if token.Uses > token.MaxUses {
			y.violated("onboarding key %s was used %d times of %d", token.ID, token.Uses, token.MaxUses)
		}
	}
}

func (y *try) checkAudit(ctx context.Context) {
	source, err := y.client().AuditExport(ctx, time.Time{}, time.Time{})
	if err != nil {
		y.violated("export the history: %v", err)
		return
	}
	defer func() { _ = source.Close() }()
	v := audit.NewVerifier(nil)
	lines := bufio.NewScanner(source)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() && v.Read(lines.Bytes()) {
	}
	if report := v.End(); lines.Err() != nil || report.Break != nil || !report.Whole {
		y.violated("the history does not verify: %+v %v", report, lines.Err())
	}
}

// open opens the database of a core that does not run.
func (y *try) open() *sql.DB {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(y.dir, "core", "varan.db"))
	must(y.t, err)
	db.SetMaxOpenConns(1)
	return db
}

func (y *try) checkDatabase() {
	db := y.open()
	defer func() { _ = db.Close() }()
	for query, want := range map[string]string{
		"PRAGMA integrity_check":                                                               "ok",
		"SELECT count(*) FROM pragma_foreign_key_check":                                        "0",
		"SELECT count(*) FROM runs WHERE status = 'running'":                                   "0",
		"SELECT count(*) FROM ops WHERE status = 'running'":                                    "0",
		"SELECT count(*) FROM procedure_runs WHERE ended_at = 0":                               "0",
		"SELECT count(*) FROM (SELECT 1 FROM webhooks_seen GROUP BY hash HAVING count(*) > 1)": "0",
	} {
		var got string
		if err := db.QueryRow(query).Scan(&got); err != nil || got != want {
			y.violated("%s is %q, not %q: %v", query, got, want, err)
		}
	}
}

// checkFiles wants nothing left of files that were being written: it would be more with every crash.
func (y *try) checkFiles() {
	_ = filepath.WalkDir(y.dir, func(path string, _ fs.DirEntry, err error) error {
		for _, pattern := range []string{"*.tmp", "tmp_*", "*.partial", ".backup", ".restoring"} {
			if is, _ := filepath.Match(pattern, filepath.Base(path)); is && err == nil {
				y.violated("%s is left", strings.TrimPrefix(path, y.dir))
			}
		}
		return nil
	})
}
