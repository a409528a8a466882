// Package web is core's HTTP surface: the API under /api/v1 with its OpenAPI document, the
// webhooks of Git hosts under /listener, and the health checks. Handlers translate between
// HTTP and the rest of core, and decide nothing about the fleet themselves.
package web

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/audit"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
	"github.com/varanhq/varan/wire"
)

// Limits of one request, besides those of the server that the handler runs in.
const (
	maxBody        = 1 << 20
	maxPlanBody    = 32 << 20         // a plan of a large fleet, or an upload in base64
	lineTimeout    = 30 * time.Second // for a client to take one line of a stream
	defaultPage    = 50
	maxPage        = 500
	defaultLogTail = 100
)

// Planner computes and carries out plans.
type Planner interface {
	// Plan says what would be done. With errors among the diagnostics there is no plan.
	Plan(ctx context.Context, req reconciler.PlanRequest) (plan.Plan, fleet.Diagnostics, error)
	// Apply returns when the run has ended. Canceling ctx ends the waiting.
	Apply(ctx context.Context, req reconciler.ApplyRequest) (reconciler.Run, reconciler.RunResult, error)
}

// Loops are the syncs that are being watched.
type Loops interface {
	Add(settings reconciler.SyncSettings)
	Remove(name string)
	Poke(name string, trigger reconciler.Trigger, actor string) (coalesced bool)
	PokeApply(name string, trigger reconciler.Trigger, actor string) (coalesced bool)
	PokeOnly(name string, trigger reconciler.Trigger, actor string, only ...string) (coalesced bool)
	Status(name string) (reconciler.SyncStatus, bool)
}

// Agents are the connected servers.
type Agents interface {
	Observed() fleet.Observed
	// Logs streams wire.LogLine values as JSON lines.
	Logs(ctx context.Context, server string, req wire.LogsRequest) (io.ReadCloser, error)
	// Projects lists the Compose projects on the host of a connected server.
	Projects(ctx context.Context, server string) (wire.Projects, error)
	// Drop ends the session of a server that was removed, and forgets the server.
	Drop(ctx context.Context, server string)
	// TellRests tells the agents anew what they must leave alone.
	TellRests(ctx context.Context)
	// Disconnect ends the sessions of a server that must not connect any more.
	Disconnect(ctx context.Context, server, reason string)
}

// Dials are the connections that core makes to agents.
type Dials interface {
	// State is what became of dialling a server; false when core does not dial it.
	State(server string) (api.Dial, bool)
	// Now dials without waiting for the server's turn.
	Now(server string)
}

// Sources are the repositories behind the syncs.
type Sources interface {
	// Check reports whether a sync can have that source, as an *api.Error.
	Check(spec api.SyncSpec) error
	// Desired is what the sync's last good commit says.
	Desired(sync string) (fleet.Desired, bool)
	// At is what one commit of a sync says, by its full id; sources pin the commits of other
	// repositories.
	At(ctx context.Context, sync, commit string, sources []fleet.Source) (reconciler.Loaded, error)
	// Upload renders a directory in place of the sync's repository.
	Upload(ctx context.Context, sync string, files map[string]api.UploadFile) (reconciler.Loaded, error)
	// ServerTemplate is the declaration of a server as a resource file that another server
	// can start from; empty when there is none, and names are those there are.
	ServerTemplate(ctx context.Context, name string) (toml string, tier fleet.Tier, names []string, err error)
	// Export is what core holds as one resource file, without secrets.
	Export(ctx context.Context) ([]byte, error)
	// ProjectFiles reads the files that a Compose project on a host is made of.
	ProjectFiles(ctx context.Context, server string, project wire.Project) (api.ProjectFiles, error)
	// Forget drops what is kept of a removed sync.
	Forget(sync string)
}

// SyncStore keeps the syncs.
type SyncStore interface {
	AddSync(ctx context.Context, spec api.SyncSpec) error
	RemoveSync(ctx context.Context, name string) error
	Sync(ctx context.Context, name string) (api.Sync, error)
	Syncs(ctx context.Context) ([]api.Sync, error)
}

// HookStore keeps what webhooks are checked against.
type HookStore interface {
	WebhookSecret(ctx context.Context, sync string) (fleet.Secret, error)
	// Hook is that of a stack or repo, with the sync that declares it.
	Hook(ctx context.Context, kind, name string) (sync string, hook fleet.Hook, err error)
	// WebhookSeen remembers a delivery and its event, of which it returns the number, and reports a
	// replay.
	WebhookSeen(ctx context.Context, hash string, event func(replay bool) api.Event) (record int64, replay bool, err error)
}

// ServerStore keeps the servers that joined.
type ServerStore interface {
	Servers(ctx context.Context) ([]store.Server, error)
	ApproveServer(ctx context.Context, name string) error
	RejectServer(ctx context.Context, name string) error
	RemoveServer(ctx context.Context, name string) error
	SetServerDisabled(ctx context.Context, name string, disabled bool) error
	AcceptServerKey(ctx context.Context, name, publicKey string) error
}

// KeyStore keeps the API keys.
type KeyStore interface {
	AddKey(ctx context.Context, id, name string, hash [32]byte) (api.Key, error)
	Keys(ctx context.Context) ([]api.Key, error)
	DeleteKey(ctx context.Context, id string) error
}

// OnboardingStore keeps the onboarding keys.
type OnboardingStore interface {
	// Clock has the time by which they expire.
	Clock() store.Clock
	AddOnboardingKey(ctx context.Context, key api.OnboardingKey, hash [32]byte) error
	OnboardingKeys(ctx context.Context) ([]api.OnboardingKey, error)
	RevokeOnboardingKey(ctx context.Context, id string) error
}

// VariableStore keeps the variables.
type VariableStore interface {
	SetVariable(ctx context.Context, name string, spec api.VariableSpec) (api.Variable, error)
	Variables(ctx context.Context) ([]api.Variable, error)
	DeleteVariable(ctx context.Context, name string) error
}

// AccountStore keeps the accounts at Git hosts and registries.
type AccountStore interface {
	SetAccount(ctx context.Context, id api.AccountID, spec api.AccountSpec) (api.Account, error)
	Accounts(ctx context.Context) ([]api.Account, error)
	DeleteAccount(ctx context.Context, id api.AccountID) error
}

// ResourceStore keeps the records of what is declared.
type ResourceStore interface {
	// Resources lists those of one kind, or all when kind is empty.
	Resources(ctx context.Context, kind string) ([]api.Resource, error)
}

// HistoryStore keeps what happened.
type HistoryStore interface {
	AddEvent(ctx context.Context, event api.Event) error
	// Events lists what a filter chooses, newest first; Event is one of them.
	Events(ctx context.Context, filter api.EventFilter) ([]api.Event, error)
	Event(ctx context.Context, id int64) (api.Event, error)
	// Effects lists what a record led to, oldest first.
	Effects(ctx context.Context, e api.Event, limit int) ([]api.Event, error)
	// Op is one op of a run.
	Op(ctx context.Context, run, op string) (api.Op, error)
	// OpLog is the next part of an op's log after that number; ok is false when there is none.
	OpLog(ctx context.Context, run, op string, after int64) (lines []api.OpLogLine, seq int64, ok bool, err error)
	// StatesAt is how the stacks were at a time, FirstState the oldest time that is known.
	StatesAt(ctx context.Context, at time.Time) ([]api.PastStack, error)
	FirstState(ctx context.Context) (time.Time, error)
	AuditHead(ctx context.Context) (audit.Mark, error)
	// ExportAudit calls each with the lines of an export, as of one moment.
	ExportAudit(ctx context.Context, since, until time.Time, each func(audit.Line) error) error
	History(ctx context.Context, stack string, before int64, limit int) ([]api.Op, error)
}

// Store is everything durable that handlers need.
type Store interface {
	SyncStore
	HookStore
	ServerStore
	KeyStore
	OnboardingStore
	VariableStore
	AccountStore
	ResourceStore
	HistoryStore
	ControlStore
	ProcedureStore
	ScheduleStore
	AlertStore
}

// Reconciler is the loop as handlers need it.
type Reconciler interface {
	Planner
	Loops
	Controller
}

// CoreControl is the core that the handlers are part of.
type CoreControl interface {
	// Reload reads the settings again and applies those that may change, all or none; only
	// those named, if any are.
	Reload(ctx context.Context, only []string) (api.Reloaded, error)
	// Settings are those in force, with where they come from.
	Settings() []api.Setting
}

// Config wires the handlers. All of it is required but what says that it is optional.
type Config struct {
	// AgentBinaries is a directory of release binaries that new hosts may fetch; optional.
	AgentBinaries string
	// HookSecret is for webhooks of declared resources that have no secret of their own; empty
	// refuses these.
	HookSecret func() fleet.Secret
	// HookRates limit webhooks; default 60 of one, 600 of all, and 30 that are refused.
	HookRates func() HookRates
	// HookName is the name of the resource that has that id in Komodo; empty for one that is
	// not known. Optional.
	HookName func(id string) string
	Core     CoreControl
	// LowDisk says how full core's disk is, when nothing new may begin; optional.
	LowDisk func() (text string, low bool)
	// Warnings are sentences about core itself; optional.
	Warnings func() []string
	// Backups are core's own; optional.
	Backups    Backups
	Store      Store
	Reconciler Reconciler
	Agents     Agents
	Sources    Sources
	Procedures Procedures
	Alerters   Alerters
	Updates    Updates
	Dials      Dials
	Guard      *auth.Guard
	Logger     *slog.Logger
	// Keys are core's and the agents'.
	Keys Keys
	// Version is answered with core's key as it then is.
	Version api.Version
	// Ready reports why core cannot serve.
	Ready func(ctx context.Context) error
	// Now is optional.
	Now func() time.Time
}

type server struct {
	Config
	programs *programs
	hooks    *hookLimits
}

// New returns the handler of everything but the agents' endpoint.
func New(cfg Config) (http.Handler, error) {
	if cfg.Store == nil || cfg.Reconciler == nil || cfg.Agents == nil || cfg.Sources == nil ||
		cfg.Procedures == nil || cfg.Alerters == nil || cfg.Updates == nil || cfg.Dials == nil || cfg.Guard == nil || cfg.Keys == nil || cfg.Logger == nil || cfg.Ready == nil {
		return nil, errors.New("web: Store, Reconciler, Agents, Sources, Procedures, Alerters, Updates, Guard, Keys, Logger and Ready are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.HookSecret == nil {
		cfg.HookSecret = func() fleet.Secret { return fleet.Secret{} }
	}
	if cfg.HookName == nil {
		cfg.HookName = func(string) string { return "" }
	}
	if cfg.HookRates == nil {
		cfg.HookRates = func() HookRates { return HookRates{PerHook: 60, Total: 600, Refused: 30} }
	}
	if cfg.LowDisk == nil {
		cfg.LowDisk = func() (string, bool) { return "", false }
	}
	if cfg.Warnings == nil {
		cfg.Warnings = func() []string { return nil }
	}
	s := &server{Config: cfg, programs: newPrograms(cfg.AgentBinaries), hooks: newHookLimits(cfg.HookRates)}
	guarded := http.NewServeMux()
	a := humago.New(guarded, openAPI(cfg.Version.Version))
	a.UseMiddleware(s.refuseOnFullDisk)
	s.register(a)
	guarded.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { nothingHere(w) })

	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("GET /install.sh", s.installScript)
	mux.HandleFunc("GET /download/varan-agent/{os}/{arch}", s.download)
	mux.HandleFunc("/listener/{provider}/{kind}/{name}/{action}", s.webhook)
	mux.HandleFunc("/listener/{provider}/procedure/{name}/{branch}", s.procedureHook)
	// Branches have slashes in their names.
	mux.HandleFunc("/listener/{provider}/procedure/{name}/{branch}/{rest...}", s.procedureHook)
	mux.HandleFunc("GET /{$}", s.home)
	mux.Handle("/", elsewhere(cfg.Guard.Wrap(guarded, refuse)))
	return secureHeaders(boundBodies(mux)), nil
}

// openAPI describes the API without huma's own extras: no $schema links in answers, and no
// documentation page that would load scripts from elsewhere.
func openAPI(version string) huma.Config {
	config := huma.DefaultConfig("Varan", version)
	config.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	config.CreateHooks = nil
	config.DocsPath, config.SchemasPath = "", ""
	config.Info.Description = "GitOps for fleets of Docker Compose hosts."
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"key":    {Type: "http", Scheme: "bearer"},
		"header": {Type: "apiKey", In: "header", Name: "X-API-Key"},
	}
	config.Security = []map[string][]string{{"key": {}}, {"header": {}}}
	config.Transformers = append(config.Transformers, frameworkError)
	return config
}

// schemaName tells the API's own Op, Stack and Server from the domain's and the planner's.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch path.Base(t.PkgPath()) {
	case "fleet":
		return "Fleet" + name
	case "plan":
		return "Plan" + name
	}
	return name
}

func (s *server) register(a huma.API) {
	s.registerFleet(a)
	s.registerWhy(a)
	s.registerKeys(a)
	s.registerProjects(a)
	s.registerSyncs(a)
	s.registerPlans(a)
	s.registerControl(a)
	s.registerAdmin(a)
	s.registerCore(a)
	s.registerBackups(a)
	s.registerHistory(a)
	s.registerCompare(a)
	s.registerValues(a)
	s.registerResources(a)
	s.registerProcedures(a)
	s.registerSchedules(a)
	s.registerAlerts(a)
	s.registerUpdates(a)
}

func (s *server) ready(w http.ResponseWriter, r *http.Request) {
	if err := s.Ready(r.Context()); err != nil {
		s.Logger.LogAttrs(r.Context(), slog.LevelWarn, "not ready", slog.String("err", err.Error()))
		writeError(w, &api.Error{
			Status: http.StatusServiceUnavailable, Code: api.CodeUnavailable, Message: "core is not ready",
			Hint: "core's log says why",
		})
		return
	}
	_, _ = io.WriteString(w, "ready\n")
}

// secureHeaders keeps answers out of caches and frames.
func secureHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		next.ServeHTTP(w, r)
	})
}
