package web_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/core/web"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
	"github.com/varanhq/varan/wire"
)

// loop stands in for the reconciler.
type loop struct {
	mu sync.Mutex
	// rollback is the last one asked for, back what is answered.
	rollback            reconciler.RollbackRequest
	back                reconciler.Rollback
	rechecked, forgiven []string

	added   []reconciler.SyncSettings
	pokes   []string
	applied []string
	waiting map[string]bool
	status  map[string]reconciler.SyncStatus

	plan        plan.Plan
	diagnostics fleet.Diagnostics
	planned     reconciler.PlanRequest
	err         error
	apply       func(ctx context.Context, req reconciler.ApplyRequest) (reconciler.Run, reconciler.RunResult, error)
}

func (l *loop) Plan(_ context.Context, req reconciler.PlanRequest) (plan.Plan, fleet.Diagnostics, error) {
	l.planned = req
	return l.plan, l.diagnostics, l.err
}

func (l *loop) Apply(ctx context.Context, req reconciler.ApplyRequest) (reconciler.Run, reconciler.RunResult, error) {
	return l.apply(ctx, req)
}

func (l *loop) Add(settings reconciler.SyncSettings) { l.added = append(l.added, settings) }

func (*loop) Remove(string) {}

func (l *loop) Poke(name string, _ reconciler.Trigger, _ string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	coalesced := l.waiting[name]
	l.waiting[name] = true
	l.pokes = append(l.pokes, name)
	return coalesced
}

func (l *loop) PokeApply(name string, trigger reconciler.Trigger, actor string) bool {
	l.mu.Lock()
	l.applied = append(l.applied, name)
	l.mu.Unlock()
	return l.Poke(name, trigger, actor)
}

func (l *loop) PokeOnly(name string, trigger reconciler.Trigger, actor string, only ...string) bool {
	l.mu.Lock()
	l.applied = append(l.applied, name+": "+strings.Join(only, " "))
	l.mu.Unlock()
	return l.Poke(name, trigger, actor)
}

func (l *loop) Rollback(_ context.Context, req reconciler.RollbackRequest) (reconciler.Rollback, error) {
	l.rollback = req
	return l.back, l.err
}

func (l *loop) Recheck(_ string, syncs ...string) { l.rechecked = append(l.rechecked, syncs...) }

func (l *loop) Forgive(of, stack string) { l.forgiven = append(l.forgiven, of+"/"+stack) }

func (l *loop) Status(name string) (reconciler.SyncStatus, bool) {
	status, ok := l.status[name]
	return status, ok
}

// agents stands in for the hub.
type agents struct {
	observed fleet.Observed
	dials    map[string]api.Dial
	dialled  []string
	logs     func(server string, req wire.LogsRequest) (io.ReadCloser, error)
	dropped  []string
	projects map[string]wire.Projects
}

func (a *agents) Projects(_ context.Context, server string) (wire.Projects, error) {
	if !a.observed[server].Online {
		return wire.Projects{}, errors.New("server " + server + " is not connected")
	}
	return a.projects[server], nil
}

func (a *agents) State(server string) (api.Dial, bool) {
	d, ok := a.dials[server]
	return d, ok
}

func (a *agents) Now(server string) { a.dialled = append(a.dialled, server) }

func (a *agents) Observed() fleet.Observed { return a.observed }

func (a *agents) Logs(_ context.Context, server string, req wire.LogsRequest) (io.ReadCloser, error) {
	return a.logs(server, req)
}

func (a *agents) Drop(_ context.Context, server string) { a.dropped = append(a.dropped, server) }

func (*agents) TellRests(context.Context) {}

func (a *agents) Disconnect(_ context.Context, server, _ string) {
	a.dropped = append(a.dropped, server)
}

// keyring has one key and changes none.
type keyring struct{}

func (keyring) Rotate(context.Context, api.KeyRotation, string, func(api.KeyResult)) (api.KeyReport, error) {
	return api.KeyReport{Results: []api.KeyResult{}}, nil
}

func (keyring) List(context.Context) (api.FleetKeys, error) { return api.FleetKeys{}, nil }

func (keyring) Core() (string, wire.Fingerprint) { return "", wire.Fingerprint{} }

// sources stands in for the repositories.
type sources struct {
	desired map[string]fleet.Desired
	upload  map[string]api.UploadFile
}

func (*sources) Check(spec api.SyncSpec) error {
	if strings.HasPrefix(spec.URL, "ext::") {
		return &api.Error{Status: http.StatusBadRequest, Code: api.CodeBadRequest, Message: "that is no repository"}
	}
	return nil
}

func (s *sources) Desired(name string) (fleet.Desired, bool) {
	d, ok := s.desired[name]
	return d, ok
}

func (*sources) At(_ context.Context, syncName, commit string, _ []fleet.Source) (reconciler.Loaded, error) {
	return reconciler.Loaded{Desired: fleet.Desired{Sync: syncName, Commit: fleet.Commit{ID: commit}}}, nil
}

func (s *sources) Upload(_ context.Context, _ string, files map[string]api.UploadFile) (reconciler.Loaded, error) {
	s.upload = files
	return reconciler.Loaded{Desired: fleet.Desired{Sync: "uploaded"}}, nil
}

func (*sources) ServerTemplate(_ context.Context, name string) (toml string, tier fleet.Tier, names []string, err error) {
	if name == "template" {
		return "[[server]]\nname = \"template\"\n", fleet.TierUntrusted, nil, nil
	}
	return "", "", []string{"template"}, nil
}

func (*sources) Export(context.Context) ([]byte, error) { return []byte("# nothing\n"), nil }

func (*sources) ProjectFiles(_ context.Context, server string, project wire.Project) (api.ProjectFiles, error) {
	return api.ProjectFiles{
		Project: project.Name, Dir: project.WorkingDir, ComposeFiles: []string{"compose.yaml"},
		Files:   []api.HostFile{{Path: "compose.yaml", Mode: 0o644, Content: []byte("services: {}")}},
		Refused: []api.RefusedFile{{Path: "/etc/x", Reason: "the policy of " + server + " does not let core read it"}},
	}, nil
}

func (*sources) Forget(string) {}

// fixture is a core without agents and repositories, and a client with a key.
type fixture struct {
	*api.Client
	store   *store.Store
	loop    *loop
	agents  *agents
	sources *sources
	ops     *operations
	server  *httptest.Server
	log     *syncBuffer
	ready   error
	now     time.Time
	// hookNames are those of ids of Komodo.
	hookNames map[string]string
}

// syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func newFixture(tb testing.TB) *fixture {
	tb.Helper()
	return newFixtureWith(tb, "")
}

// newFixtureWith has agents' programs to give.
func newFixtureWith(tb testing.TB, binaries string) *fixture {
	tb.Helper()
	f := &fixture{
		loop:    &loop{waiting: map[string]bool{}, status: map[string]reconciler.SyncStatus{}},
		agents:  &agents{observed: fleet.Observed{}},
		sources: &sources{desired: map[string]fleet.Desired{}},
		ops:     &operations{},
		log:     &syncBuffer{},
		now:     time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC),
	}
	clock := func() time.Time { return f.now }
	var err error
	f.store, err = store.Open(context.Background(), store.Config{
		Path: filepath.Join(tb.TempDir(), "varan.db"), SealKey: make([]byte, store.SealKeySize), Now: clock,
	})
	must(tb, err)
	tb.Cleanup(func() { _ = f.store.Close() })
	logger := slog.New(slog.NewTextHandler(f.log, nil))
	guard, err := auth.New(auth.Config{Keys: f.store, Logger: logger, Now: clock})
	must(tb, err)
	handler, err := web.New(web.Config{
		AgentBinaries: binaries,
		Store:         f.store, Reconciler: f.loop, Agents: f.agents, Sources: f.sources, Procedures: f.ops, Alerters: f.ops, Updates: f.ops, Dials: f.agents, Keys: keyring{}, Guard: guard, Logger: logger,
		HookSecret: func() fleet.Secret { return fleet.NewSecret("default-secret") },
		HookName:   func(id string) string { return f.hookNames[id] },
		Version:    api.Version{Version: "1.2.3", API: 1}, Now: clock, Ready: func(context.Context) error { return f.ready },
	})
	must(tb, err)
	f.server = httptest.NewServer(handler)
	tb.Cleanup(f.server.Close)
	id, key, hash := auth.NewKey()
	_, err = f.store.AddKey(context.Background(), id, "ada", hash)
	must(tb, err)
	f.Client = &api.Client{BaseURL: f.server.URL, Key: key, HTTP: f.server.Client()}
	return f
}

// addSync adds a sync "main" and returns its webhook secret.
func (f *fixture) addSync(t *testing.T, autoApply bool) string {
	t.Helper()
	created, err := f.AddSync(t.Context(), api.SyncSpec{Name: "main", URL: "https://example.org/fleet", AutoApply: autoApply})
	must(t, err)
	return string(created.WebhookSecret)
}

func wantError(t *testing.T, err error, status int, code api.ErrorCode) api.Error {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Status != status || e.Code != code {
		t.Fatalf("got %#v, want %d %s", err, status, code)
	}
	return *e
}

func TestEverythingButHealthNeedsAKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for path, want := range map[string]int{
		"/healthz": http.StatusOK, "/readyz": http.StatusOK,
		"/openapi.json": http.StatusUnauthorized, "/openapi.yaml": http.StatusUnauthorized, "/api/v1/version": http.StatusUnauthorized,
		"/api/v1/nothing": http.StatusUnauthorized, "/docs": http.StatusNotFound,
	} {
		resp, err := http.Get(f.server.URL + path)
		must(t, err)
		_ = resp.Body.Close()
		f.now = f.now.Add(time.Minute) // out of the reach of the limiter
		if resp.StatusCode != want {
			t.Errorf("GET %s: %d, want %d", path, resp.StatusCode, want)
		}
	}
	f.ready = errors.New("the disk is full of secrets")
	e := wantError(t, f.Ready(t.Context()), http.StatusServiceUnavailable, api.CodeUnavailable)
	if strings.Contains(e.Message+e.Hint, "disk") {
		t.Errorf("readiness tells strangers why: %v", e)
	}
}

func TestTheOpenAPIDocumentListsTheRoutes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	req, err := http.NewRequest(http.MethodGet, f.server.URL+"/openapi.json", http.NoBody)
	must(t, err)
	req.Header.Set("X-API-Key", f.Key.Reveal())
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	must(t, err)
	for _, want := range []string{`"openapi":"3.1.0"`, `/api/v1/why`, `/api/v1/syncs/{name}/apply`, `"X-API-Key"`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("the document lacks %s", want)
		}
	}
}

func TestUnknownPathsAndBadBodiesHaveTheOneErrorShape(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const canary = "canary-51"
	cases := map[string]struct {
		method, path, contentType, body string
		status                          int
		code                            api.ErrorCode
	}{
		"nothing there":  {http.MethodGet, "/api/v1/nothing", "", "", 404, api.CodeNotFound},
		"unknown field":  {http.MethodPost, "/api/v1/keys", "application/json", `{"name":"a","` + canary + `":1}`, 422, api.CodeBadRequest},
		"wrong type":     {http.MethodPut, "/api/v1/variables/A", "application/json", `{"value":{"x":"` + canary + `"}}`, 422, api.CodeBadRequest},
		"trailing data":  {http.MethodPost, "/api/v1/keys", "application/json", `{"name":"a"} {}`, 400, api.CodeBadRequest},
		"text":           {http.MethodPost, "/api/v1/keys", "text/plain", `{"name":"a"}`, 415, api.CodeBadRequest},
		"A07 page size":  {http.MethodGet, "/api/v1/events?limit=1000000000", "", "", 422, api.CodeBadRequest},
		"A07 bad cursor": {http.MethodGet, "/api/v1/events?before=x", "", "", 422, api.CodeBadRequest},
		"L03 body":       {http.MethodPost, "/api/v1/keys", "application/json", `{"name":"` + strings.Repeat("a", 1<<20) + `"}`, 413, api.CodeTooLarge},
		"A04 name":       {http.MethodPut, "/api/v1/variables/a%00b", "application/json", `{"value":"x"}`, 400, api.CodeBadRequest},
		"A04 long name":  {http.MethodGet, "/api/v1/servers/" + strings.Repeat("a", 10_000), "", "", 422, api.CodeBadRequest},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequestWithContext(t.Context(), tc.method, f.server.URL+tc.path, strings.NewReader(tc.body))
			must(t, err)
			req.Header.Set("Authorization", "Bearer "+f.Key.Reveal())
			if tc.contentType != "" {
				req.Header.Set("Content-Type", tc.contentType)
			}
			resp, err := http.DefaultClient.Do(req)
			must(t, err)
			defer func() { _ = resp.Body.Close() }()
			raw, err := io.ReadAll(resp.Body)
			must(t, err)
			if resp.StatusCode != tc.status || !strings.Contains(string(raw), `"code":"`+string(tc.code)+`"`) ||
				!strings.Contains(string(raw), `"message":`) || resp.Header.Get("Content-Type") != "application/json" {
				t.Errorf("got %d %s: %s", resp.StatusCode, resp.Header.Get("Content-Type"), raw)
			}
			if strings.Contains(string(raw), canary) && name == "wrong type" {
				t.Errorf("the offending value is repeated: %s", raw)
			}
		})
	}
}

func TestSyncsAreAddedListedRunAndRemoved(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	created, err := f.AddSync(t.Context(), api.SyncSpec{Name: "main", URL: "https://example.org/fleet"})
	must(t, err)
	if created.Sync.Branch != "main" || created.Sync.IntervalSeconds != 60 || created.Sync.MaxRemovals != 3 ||
		len(created.WebhookSecret) < 20 || created.WebhookPaths["github"] != "/listener/github/sync/main/sync" {
		t.Errorf("created %+v", created)
	}
	if len(f.loop.added) != 1 || f.loop.added[0].Interval != time.Minute {
		t.Errorf("the loop got %+v", f.loop.added)
	}
	_, err = f.AddSync(t.Context(), api.SyncSpec{Name: "main", URL: "https://example.org/fleet"})
	wantError(t, err, http.StatusConflict, api.CodeConflict)
	_, err = f.AddSync(t.Context(), api.SyncSpec{Name: "../x", URL: "https://example.org/fleet"})
	wantError(t, err, http.StatusBadRequest, api.CodeBadRequest)
	_, err = f.AddSync(t.Context(), api.SyncSpec{Name: "x", URL: "ext::sh"})
	wantError(t, err, http.StatusBadRequest, api.CodeBadRequest)
	_, err = f.AddSync(t.Context(), api.SyncSpec{Name: "x", URL: "https://example.org", WebhookSecret: "short"})
	wantError(t, err, http.StatusBadRequest, api.CodeBadRequest)

	_, err = f.Sync(t.Context(), "mian")
	if e := wantError(t, err, http.StatusNotFound, api.CodeNotFound); !strings.Contains(e.Hint, "main") {
		t.Errorf("hint %q", e.Hint)
	}
	for _, want := range []bool{false, true} {
		run, err := f.RunSync(t.Context(), "main")
		must(t, err)
		if run.Coalesced != want {
			t.Errorf("coalesced %v, want %v", run.Coalesced, want)
		}
	}
	must(t, f.RemoveSync(t.Context(), "main"))
	syncs, err := f.Syncs(t.Context())
	must(t, err)
	if len(syncs) != 0 {
		t.Errorf("left are %+v", syncs)
	}
}

func TestKeysAndVariables(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSync(t, false)
	created, err := f.CreateKey(t.Context(), api.KeySpec{Name: "ci"})
	must(t, err)
	second := &api.Client{BaseURL: f.BaseURL, Key: created.Secret.Secret()}
	_, err = second.Version(t.Context())
	must(t, err)
	must(t, f.DeleteKey(t.Context(), created.Key.ID))
	_, err = second.Version(t.Context())
	wantError(t, err, http.StatusUnauthorized, api.CodeUnauthorized)
	keys, err := f.Keys(t.Context())
	must(t, err)
	wantError(t, f.DeleteKey(t.Context(), keys[0].ID), http.StatusConflict, api.CodeConflict)

	_, err = f.SetVariable(t.Context(), "TOKEN", api.VariableSpec{Value: "canary-7", Secret: true})
	must(t, err)
	variables, err := f.Variables(t.Context())
	must(t, err)
	if len(variables) != 1 || variables[0].Value != "" || !variables[0].Secret {
		t.Errorf("variables %+v", variables)
	}
	if len(f.loop.pokes) != 1 {
		t.Errorf("a new value woke the syncs %d times", len(f.loop.pokes))
	}
	_, err = f.SetVariable(t.Context(), "BIG", api.VariableSpec{Value: api.WriteOnly(strings.Repeat("x", 64<<10+1))})
	if err == nil {
		t.Error("64 KiB and a byte are taken")
	}
	must(t, f.DeleteVariable(t.Context(), "TOKEN"))
	wantError(t, f.DeleteVariable(t.Context(), "TOKEN"), http.StatusNotFound, api.CodeNotFound)
	events, err := f.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 100}})
	must(t, err)
	if len(events) != 5 || events[0].Actor != "ada" {
		t.Errorf("%d events: %+v", len(events), events)
	}
	if strings.Contains(f.log.String(), "canary") {
		t.Error("the log holds a secret")
	}
}

func TestO03AndO09TheLimitsOfOnboardingKeysHoldOnEveryWay(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	created, err := f.CreateOnboardingKey(t.Context(), api.OnboardingSpec{})
	must(t, err)
	token, err := wire.ParseOnboardingToken(string(created.Token))
	must(t, err)
	key := created.Key
	if key.MaxUses != 1 || key.Tier != fleet.TierTrusted || key.Expires.Sub(key.Created) != time.Hour ||
		key.ID != token.ID() || key.ServerGlob != "*" {
		t.Errorf("defaults: %+v", key)
	}
	if parts := strings.Split(string(created.Token), "_"); !strings.HasSuffix(parts[2], key.Last4) {
		t.Errorf("last4 is %q", key.Last4)
	}
	reusable, err := f.CreateOnboardingKey(t.Context(), api.OnboardingSpec{MaxUses: 100, TTLSeconds: 7 * 24 * 3600})
	must(t, err)
	if reusable.Key.Tier != fleet.TierUntrusted {
		t.Errorf("a reusable key gives tier %s", reusable.Key.Tier)
	}
	for name, spec := range map[string]api.OnboardingSpec{
		"O03 uses":       {MaxUses: 101},
		"O03 never":      {TTLSeconds: -1},
		"O03 ttl":        {TTLSeconds: 7*24*3600 + 1},
		"O06 rekey ttl":  {Rekey: "a", TTLSeconds: 901},
		"O06 rekey uses": {Rekey: "a", MaxUses: 2},
		"glob":           {ServerGlob: "["},
		"tier":           {Tier: "root"},
		"name":           {Name: "../"},
	} {
		var e *api.Error
		if _, err := f.CreateOnboardingKey(t.Context(), spec); !errors.As(err, &e) || e.Code != api.CodeBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, f.RevokeOnboardingKey(t.Context(), key.ID))
	keys, err := f.OnboardingKeys(t.Context())
	must(t, err)
	if len(keys) != 2 {
		t.Errorf("%d keys", len(keys))
	}
}

func TestServersAreApprovedAndRemoved(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSync(t, false)
	key := api.OnboardingKey{ID: "tok", ServerGlob: "*", MaxUses: 2, Created: f.now, Expires: f.now.Add(time.Hour)}
	must(t, f.store.AddOnboardingKey(t.Context(), key, [32]byte{1}))
	join := store.Joining{Token: "tok", Hash: [32]byte{1}, Server: "edge", PublicKey: "k", RemoteAddr: netip.MustParseAddr("10.1.2.3")}
	if err := f.store.Onboard(t.Context(), join); !errors.Is(err, store.ErrPending) {
		t.Fatalf("joined with %v", err)
	}
	server, err := f.Server(t.Context(), "edge")
	must(t, err)
	if !server.Pending || server.Text != "waits for approval: it came from 10.1.2.3 with onboarding key tok" {
		t.Errorf("server %+v", server)
	}
	must(t, f.ApproveServer(t.Context(), "edge"))
	must(t, f.store.Onboard(t.Context(), join))
	must(t, f.RemoveServer(t.Context(), "edge"))
	if len(f.agents.dropped) != 1 || len(f.loop.pokes) != 2 {
		t.Errorf("dropped %v, pokes %v", f.agents.dropped, f.loop.pokes)
	}
	wantError(t, f.RemoveServer(t.Context(), "edge"), http.StatusNotFound, api.CodeNotFound)
	wantError(t, f.RejectServer(t.Context(), "edge"), http.StatusNotFound, api.CodeNotFound)
}

func TestO04TheLimitsOfAKeyAreFixedWhenItIsMade(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	created, err := f.CreateOnboardingKey(t.Context(), api.OnboardingSpec{
		ServerGlob: "edge-*", Tags: []string{"edge"}, CIDRs: []string{"10.1.2.3/8", "2001:db8::1"}, CopyServer: "template", Approval: true,
	})
	must(t, err)
	key := created.Key
	if diff := cmp.Diff([]string{"10.0.0.0/8", "2001:db8::1/128"}, key.CIDRs); diff != "" {
		t.Errorf("networks (-want +got):\n%s", diff)
	}
	if key.Tier != fleet.TierUntrusted || key.CopyServer != "template" || !key.Approval || key.CreatedBy == "" {
		t.Errorf("the template is untrusted, and the key is %+v", key)
	}
	tagged, err := f.CreateOnboardingKey(t.Context(), api.OnboardingSpec{Tags: []string{"tier:untrusted"}})
	must(t, err)
	if tagged.Key.Tier != fleet.TierUntrusted {
		t.Errorf("a key for servers that are tagged untrusted gives tier %s", tagged.Key.Tier)
	}
	for name, bad := range map[string]api.OnboardingSpec{
		"a network that is none":     {CIDRs: []string{"10.0.0.0/33"}},
		"a name instead":             {CIDRs: []string{"example.org"}},
		"tags against the tier":      {Tags: []string{"untrusted"}, Tier: fleet.TierTrusted},
		"a re-key with a template":   {Rekey: "edge", CopyServer: "template"},
		"a re-key with another tier": {Rekey: "edge", Tier: fleet.TierUntrusted},
	} {
		var e *api.Error
		if _, err := f.CreateOnboardingKey(t.Context(), bad); !errors.As(err, &e) || e.Code != api.CodeBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = f.CreateOnboardingKey(t.Context(), api.OnboardingSpec{CopyServer: "tempalte"}) //nolint:misspell // the hint is for who mistypes
	if e := wantError(t, err, http.StatusNotFound, api.CodeNotFound); !strings.Contains(e.Hint, "template") {
		t.Errorf("hint %q", e.Hint)
	}
	_, err = f.CreateOnboardingKey(t.Context(), api.OnboardingSpec{Rekey: "nobody"})
	wantError(t, err, http.StatusNotFound, api.CodeNotFound)
}
