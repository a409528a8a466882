// Package core wires the core together: the store, the agents' hub, the Git sources, the
// reconciler and the HTTP handlers, on one port and in one data directory.
package core

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/varanhq/varan/core/alert"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/core/dial"
	"github.com/varanhq/varan/core/hub"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/core/web"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/buildinfo"
	"github.com/varanhq/varan/internal/diskspace"
	"github.com/varanhq/varan/internal/settings"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/procedure"
	"github.com/varanhq/varan/sync/git"
	"github.com/varanhq/varan/sync/spec"
	"github.com/varanhq/varan/wire/noise"
)

// Limits of the HTTP server (rule L01). Bodies are bounded in core/web; answers are not,
// because some are streams.
const (
	headerTimeout = 5 * time.Second
	idleTimeout   = time.Minute
	maxHeader     = 16 << 10
)

// observeTimeout bounds how long agents may take to say what runs.
const observeTimeout = 30 * time.Second

// recordTimeout bounds the writing down of an outcome that nobody asked for.
const recordTimeout = 10 * time.Second

// Config says how a core is to run.
type Config struct {
	// Settings are what the core starts with; required. Its Dir was made by Init.
	Settings *Settings
	// Origins says where they come from; optional.
	Origins *settings.Values
	// Reload reads the settings again; optional, without it they cannot change. Hangups, if
	// set, are signals that ask for it.
	Reload  func() (*Settings, *settings.Values, error)
	Hangups <-chan os.Signal
	// Logger is required. LogLevel, if set, is its level, and follows the settings.
	Logger   *slog.Logger
	LogLevel *slog.LevelVar
	// Listener is served on instead of Settings.Listen, by a test without sockets. Optional.
	Listener net.Listener
	// Statfs tells of the disk that a directory is on; optional, default the system's.
	Statfs func(dir string) (diskspace.Space, error)
	// Ready is called once the core serves, with the address it does so at; optional.
	Ready func(addr net.Addr)
}

// backlog is how many pieces of news about syncs wait to be recorded.
const backlog = 64

// core is a core in the making: what Run starts and stops.
type core struct {
	cfg        Config
	live       atomic.Pointer[configuration]
	reloading  sync.Mutex
	guard      *auth.Guard
	doors      *doors
	keys       keys
	store      *store.Store
	source     *source
	hub        *hub.Hub
	keyring    *keyService
	disk       *diskspace.Guard
	reconciler *reconciler.Reconciler
	operations *operations
	scheduler  *procedure.Scheduler
	alerts     *alert.Service
	// ownRead are the procedures of core's own; nil when they must be read again.
	ownMu   sync.Mutex
	ownRead []spec.Procedure
	dials   *dial.Service
	// outOfService are the servers that commits disable.
	outOfService *outOfService
	logs         *opLogs
	updates      *updates
	backups      *backups
	// news are the syncs that stalled, failed or recovered.
	news chan reconciler.Event
}

// Run serves until ctx ends. It then takes no more requests, waits a bounded time for
// orders under way, and lets go of the data directory. Agents finish what they were given
// either way and report it to the next core.
func Run(ctx context.Context, cfg Config) (err error) {
	start := cfg.Settings
	if start == nil || start.Dir == "" || cfg.Logger == nil {
		return errors.New("core: Settings with a Dir, and Logger are required")
	}
	d := dataDir(start.Dir)
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	c := &core{cfg: cfg, news: make(chan reconciler.Event, backlog), outOfService: newOutOfService()}
	c.live.Store(&configuration{Settings: start, origins: cfg.Origins})
	if err := d.whole(); err != nil {
		return err
	}
	if err := d.clean(); err != nil {
		cfg.Logger.WarnContext(ctx, "files that were not finished are left", slog.Any("err", err)) // the next start tries again
	}
	if c.keys, err = d.loadKeys(); err != nil {
		return err
	}
	if err := c.guardDisk(); err != nil {
		return err
	}
	if c.store, err = store.Open(ctx, store.Config{Path: d.path("varan.db"), SealKey: c.keys.seal}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.store.Close()) }()
	c.source = newSource(c.store, git.Config{Dir: d.path("mirrors"), LocalRoots: start.LocalRoots, Logger: cfg.Logger}, c.keys.digest)
	defer c.source.Close()
	c.source.own, c.source.changed = c.own, c.declarationsChanged
	if c.source.keyring, err = d.loadKeyring(start.SOPS.KeyFiles()); err != nil {
		return err
	}
	if err := c.wire(ctx); err != nil {
		return err
	}
	handler, err := c.handler()
	if err != nil {
		return err
	}
	if c.doors, err = c.openDoors(ctx); err != nil {
		return err
	}
	return c.serve(ctx, handler)
}

// wire makes the hub and the reconciler, which know each other.
func (c *core) wire(ctx context.Context) (err error) {
	// Callbacks come from the hub's own goroutines and may come last of all.
	ctx = context.WithoutCancel(ctx)
	if err := c.wireHub(ctx); err != nil {
		return err
	}
	c.source.agents, c.source.lowDisk = c.hub, c.disk.Low
	c.reconciler, err = reconciler.New(reconciler.Config{
		Source: c.source, Fleet: c.hub, Journal: &journal{Store: c.store, core: c}, Controls: controls{c.store, c}, Past: c.source,
		Logger: c.cfg.Logger, Drain: c.settings().HTTP.DrainTimeout,
	})
	if err != nil {
		return err
	}
	c.alerts, err = alert.New(alert.Config{Store: c.store, View: c.view, Logger: c.cfg.Logger, Every: c.settings().Alerts.Every})
	if err != nil {
		return err
	}
	c.keyring.agents.alerts = c.alerts
	c.backups = newBackups(c)
	if c.updates, err = c.newUpdates(); err != nil {
		return err
	}
	if err := c.procedures(); err != nil {
		return err
	}
	c.logs = newOpLogs(c.store.AddOpLog, c.cfg.Logger)
	c.reconciler.Subscribe(c.listener())
	if err := c.operations.Resume(ctx); err != nil {
		return err
	}
	syncs, err := c.store.Syncs(ctx)
	for _, s := range syncs {
		c.reconciler.Add(reconciler.SyncSettings{Name: s.Name, Interval: time.Duration(s.IntervalSeconds) * time.Second})
	}
	return err
}

// wireHub makes the hub and the keyring, which know each other.
func (c *core) wireHub(ctx context.Context) (err error) {
	c.keyring = &keyService{
		agents: &agentKeys{store: c.store, log: c.cfg.Logger, declared: c.declaredServers, waiting: map[string]chan struct{}{}},
		core: &coreKey{
			files: c.keys.coreFiles, keys: c.keys.core, store: c.store, log: c.cfg.Logger, record: c.record,
			wake: make(chan struct{}, 1), turn: make(chan struct{}, 1),
		},
	}
	registry := &registry{store: c.store, joined: c.joined, confirmed: c.keyring.agents.confirmed, refuse: c.outOfService.refuse}
	other, isNext := otherKey(c.keys.core)
	c.hub, err = hub.New(hub.Config{
		Key: c.keys.core.Current, Other: other, OtherIsNext: isNext,
		CoreID: c.keys.core.Current.Public().Fingerprint().String(), Logger: c.cfg.Logger,
		PinnedCoreKey: func(ctx context.Context, server string, key noise.PublicKey) {
			c.keyring.core.pinned(ctx, server, key.Fingerprint().String())
		},
		Registry:    registry,
		Rotations:   registry,
		Logins:      logins{c.store},
		OnChange:    func(server string, stacks []string) { c.reconciler.PokeServer(server, stacks) },
		Rests:       c.rests,
		Commit:      func(ctx context.Context, id string) ([]byte, error) { return c.source.commit(ctx, id) },
		OnOutcome:   func(server string, outcome fleet.Outcome) { c.lateOutcome(ctx, server, outcome) },
		IdleTimeout: c.settings().Limits.AgentTimeout,
		HalfOpen: func() (int, int) {
			limits := &c.settings().Limits
			return limits.Handshakes, limits.HandshakesPerNet
		},
	})
	if err != nil {
		return err
	}
	c.keyring.agents.hub, c.keyring.core.hub = c.hub, c.hub
	c.dials = dial.New(dial.Config{Targets: c.dialTargets, Hub: c.hub, Logger: c.cfg.Logger})
	return nil
}

// listener tells the log of operations, the alerts and the people who watch what the reconciler does.
func (c *core) listener() func(reconciler.Event) {
	commits := map[string]string{} // of the runs under way
	return func(e reconciler.Event) {
		c.logs.take(e)
		switch e.Kind { //nolint:exhaustive // the others are no news for people
		case reconciler.EventRunStarted:
			commits[e.Run] = e.Plan.Commit.ID
		case reconciler.EventOpEnded:
			c.alerts.OpEnded(e, commits[e.Run])
		case reconciler.EventHeld:
			c.alerts.Held(e)
		case reconciler.EventRunEnded:
			delete(commits, e.Run)
		}
		if e.Kind != reconciler.EventStatus {
			return
		}
		select {
		case c.news <- e:
		default: // the reconciler must not wait, and its log has it
		}
	}
}

// declarationsChanged is told that a commit may have changed an address, a schedule, or which
// servers take part.
func (c *core) declarationsChanged() {
	c.dials.Poke()
	c.scheduler.Changed()
	poke(c.outOfService.wake)
}

// joined wakes every sync: any may have waited for the server.
func (c *core) joined(server string) {
	for _, status := range c.reconciler.Statuses() {
		c.reconciler.Poke(status.Sync, reconciler.TriggerReport, server)
	}
}

// recordNews keeps in the history what the syncs say of themselves, until ctx ends. A
// failure that repeats at every poll is told once.
func (c *core) recordNews(ctx context.Context) {
	told := map[string]string{}
	for {
		select {
		case e := <-c.news:
			text := c.newsText(e)
			if told[e.Sync] == text {
				continue
			}
			told[e.Sync] = text
			c.record(ctx, api.Event{At: e.At, Kind: "sync", Sync: e.Sync, Text: text})
		case <-ctx.Done():
			return
		}
	}
}

// newsText says which fault of which commit stalled a sync.
func (c *core) newsText(e reconciler.Event) string {
	status, _ := c.reconciler.Status(e.Sync)
	for _, d := range status.Diagnostics {
		if d.Severity == fleet.SeverityError {
			return fmt.Sprintf("commit %s is invalid: %s", status.Head.Short(), d)
		}
	}
	return e.Text
}

func (c *core) record(ctx context.Context, event api.Event) {
	if err := c.store.AddEvent(ctx, event); err != nil && ctx.Err() == nil {
		c.cfg.Logger.LogAttrs(ctx, slog.LevelError, "event not recorded", slog.Any("err", err))
	}
}

// lateOutcome records what became of an order that an earlier core gave.
func (c *core) lateOutcome(ctx context.Context, server string, outcome fleet.Outcome) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	if err := c.store.RecordOutcome(ctx, server, outcome); err != nil {
		c.cfg.Logger.LogAttrs(ctx, slog.LevelError, "outcome not recorded", slog.String("host", server),
			slog.String("stack", outcome.Stack), slog.Any("err", err))
	}
	c.reconciler.PokeServer(server, []string{outcome.Stack})
}

// handler is everything that the one port serves.
func (c *core) handler() (_ http.Handler, err error) {
	c.guard, err = auth.New(auth.Config{Keys: c.store, Logger: c.cfg.Logger, Tell: c.attempt, Failures: func() (int, int) {
		s := &c.settings().Auth
		return s.Failures, s.FailuresTotal
	}})
	if err != nil {
		return nil, err
	}
	handler, err := web.New(web.Config{
		Store: c.store, Reconciler: c.reconciler, Agents: c.hub, Sources: c.source, Procedures: c.operations, Alerters: c.alerts, Updates: c.updates, Dials: c.dials,
		LowDisk: c.disk.Low, Warnings: c.warnings, Guard: c.guard, Logger: c.cfg.Logger, Keys: c.keyring, Ready: c.store.Ping, Core: c, Backups: c.backups,
		HookSecret: func() fleet.Secret { return c.settings().Webhook.Secret },
		HookName:   func(id string) string { return c.settings().Webhook.NameOf(id) },
		HookRates: func() web.HookRates {
			s := &c.settings().Webhook
			return web.HookRates{PerHook: s.PerMinute, Total: s.TotalMinute, Refused: s.RefusedMinute}
		},
		AgentBinaries: c.settings().AgentBinaries,
		Version: api.Version{
			Version: buildinfo.Version(), API: 1, Started: time.Now().UTC(),
		},
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/ws/agent", c.hub)
	mux.Handle("/", handler)
	return realPeer(narrowed(mux), func() []Network { return c.settings().HTTP.TrustedProxies }), nil
}

// serve runs the parts until ctx ends, and stops them in the order in which they need each
// other: requests, then the reconciler, which still hears outcomes, then the hub.
func (c *core) serve(ctx context.Context, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(c.cfg.Logger.Handler(), slog.LevelDebug),
		// Streams end when the core does.
		BaseContext: func(net.Listener) context.Context { return ctx }, ConnContext: connContext,
	}
	group, ctx := errgroup.WithContext(ctx)
	agents, dismiss := context.WithCancel(context.WithoutCancel(ctx))
	defer dismiss()
	group.Go(func() error { return c.hub.Run(agents) })
	group.Go(func() error {
		c.recordNews(agents)
		return nil
	})
	group.Go(func() error {
		c.logs.run(agents)
		return nil
	})
	group.Go(func() error {
		c.prune(ctx)
		return nil
	})
	group.Go(func() error {
		c.watchHost(ctx)
		return nil
	})
	group.Go(func() error {
		c.reloadOn(ctx, c.cfg.Hangups)
		return nil
	})
	group.Go(func() error {
		c.doors.keepCertificates(ctx)
		return nil
	})
	group.Go(func() error {
		defer dismiss()
		return c.reconciler.Run(ctx)
	})
	group.Go(func() error { return c.operations.Run(ctx) })
	group.Go(func() error { return c.keyring.core.Run(ctx) })
	group.Go(func() error { return c.backups.Run(ctx) })
	group.Go(func() error { return c.scheduler.Run(ctx) })
	group.Go(func() error { return c.dials.Run(agents) })
	group.Go(func() error { return c.alerts.Run(agents) })
	group.Go(func() error {
		c.followDisabled(agents)
		return nil
	})
	group.Go(func() error {
		return c.doors.serve(server, func(name string, err error) { c.listenerFailed(ctx, name, err) })
	})
	group.Go(func() error {
		<-ctx.Done()
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.settings().HTTP.DrainTimeout)
		defer cancel()
		if server.Shutdown(bounded) != nil {
			return server.Close()
		}
		return nil
	})
	defer c.lived(ctx, c.doors.addr().String())()
	if c.cfg.Ready != nil {
		c.cfg.Ready(c.doors.addr())
	}
	return group.Wait()
}

// poke wakes whoever reads from a channel of capacity 1.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
