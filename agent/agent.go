// Package agent runs on a Docker host. It dials core, or is dialled by it if told to listen,
// keeps one authenticated session, reports what runs, and carries out orders through an
// Engine. It holds no Git or database code, and plans nothing: core decides, the agent does
// and tells.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/internal/backoff"
	"github.com/varanhq/varan/internal/diskspace"
)

// flushTimeout bounds the wait at shutdown for core to take the last outcomes.
const flushTimeout = 5 * time.Second

// diskReserve is enough for the records of orders that make room.
const diskReserve = 256 << 10

// Agent serves one host. See New.
type Agent struct {
	cfg      Config
	log      *slog.Logger
	info     fleet.AgentInfo // what is known without the engine
	id       *identity
	jobs     *jobs
	news     *news
	sessions *sessions
	rests    *rests
	disk     *diskspace.Guard
	// settled has capacity 1: it wakes flush when core took an outcome.
	settled chan struct{}
	// renew has capacity 1: it has the link make a new session, with the next key.
	renew   chan struct{}
	inbound *inbound // nil when the agent listens nowhere
	unlock  func()
}

// New checks the configuration and loads, or makes, the agent's identity. Errors that
// a person has to repair are a *ConfigError. Close the agent if Run is never called.
func New(cfg Config) (*Agent, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, &ConfigError{Err: fmt.Errorf("create state directory: %w", err), Hint: "choose a writable one with --dir"}
	}
	unlock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	a, err := load(cfg)
	if err != nil {
		unlock()
		return nil, err
	}
	a.unlock = unlock
	return a, nil
}

// clean removes what an agent that died left of files that it was writing: in its directory and
// those right below it. What is further down belongs to stacks.
func clean(cfg *Config) {
	dirs := []string{cfg.Dir}
	entries, err := os.ReadDir(cfg.Dir)
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, filepath.Join(cfg.Dir, e.Name()))
		}
	}
	if err = errors.Join(err, atomicfile.Clean(dirs...)); err != nil {
		cfg.Logger.Warn("files that were not finished are left", slog.Any("err", err)) // the next start tries again
	}
}

func load(cfg Config) (*Agent, error) {
	clean(&cfg)
	id, err := loadIdentity(cfg)
	if err != nil {
		return nil, err
	}
	ledger, err := openLedger(filepath.Join(cfg.Dir, "orders"))
	if err != nil {
		return nil, err
	}
	rests, err := loadRests(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if cfg.Dial == nil {
		if cfg.Dial, err = webSocketDialer(cfg); err != nil {
			return nil, err
		}
	}
	hostname, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("read the host name: %w", err)
	}
	a := &Agent{
		cfg: cfg,
		log: cfg.Logger,
		info: fleet.AgentInfo{
			Version: cfg.Version, Hostname: hostname, OS: runtime.GOOS, Arch: runtime.GOARCH,
			LocalSecrets: cfg.LocalSecrets, HostCommands: cfg.HostCommands,
			Tier: cfg.Tier, AllowedRegistries: cfg.AllowedRegistries,
		},
		id:       id,
		news:     newNews(),
		sessions: newSessions(),
		rests:    rests,
		settled:  make(chan struct{}, 1),
		renew:    make(chan struct{}, 1),
	}
	a.disk = diskspace.New(diskspace.Config{
		Dir: cfg.Dir, Reserve: diskReserve, Statfs: cfg.Statfs, Limit: func() diskspace.Limit { return cfg.LowDisk },
	})
	a.jobs = &jobs{
		lowDisk: a.disk.Low,
		engine:  cfg.Engine, ledger: ledger, log: cfg.Logger,
		vet:      a.vet,
		blobs:    func(order string) Blobs { return &blobs{agent: a, order: order} },
		changed:  a.news.mark,
		settled:  func() { poke(a.settled) },
		progress: a.progress,
		wake:     make(chan struct{}, 1),
		running:  map[string]*job{},
	}
	if a.inbound, err = newInbound(a); err != nil {
		return nil, err
	}
	return a, nil
}

// Close gives the state directory back. Run does so itself.
func (a *Agent) Close() { a.unlock() }

// Run serves until ctx ends and then drains: it takes no more orders, waits for those
// that are changing containers, at most for Config.Drain, and delivers their outcomes.
// Work that is not done by then goes on in the engine's own journal, and the next start
// finishes it.
func (a *Agent) Run(ctx context.Context) error {
	defer a.unlock()
	var listener net.Listener
	if a.inbound != nil {
		var err error
		if listener, err = a.inbound.open(ctx); err != nil {
			return err
		}
		defer func() { _ = listener.Close() }()
	}
	if err := a.jobs.restore(ctx); err != nil {
		return err
	}
	linkCtx, stopLink := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLink()
	var wg sync.WaitGroup
	wg.Go(func() { a.watch(linkCtx) })
	if len(a.cfg.Cores) > 0 {
		wg.Go(func() { a.link(linkCtx) })
	}
	if listener != nil {
		wg.Go(func() { a.inbound.serve(linkCtx, listener) })
	}
	wg.Go(func() { a.heal(ctx) })
	a.jobs.run(ctx, a.cfg.Drain)
	a.flush(linkCtx)
	stopLink()
	wg.Wait()
	return nil
}

// watch follows the engine's events as long as the agent lives.
func (a *Agent) watch(ctx context.Context) {
	retry := backoff.Backoff{Base: time.Second, Max: 30 * time.Second}
	said := ""
	for {
		started := time.Now()
		err := a.cfg.Engine.Watch(ctx, a.news.mark)
		if ctx.Err() != nil {
			return
		}
		if reason := fmt.Sprint(err); reason != said { // once, not for as long as it lasts
			a.log.WarnContext(ctx, "the engine's events ended; watching again", slog.Any("err", err))
			said = reason
		}
		a.news.mark("")
		if time.Since(started) > time.Minute {
			retry.Reset()
			said = ""
		}
		if retry.Wait(ctx) != nil {
			return
		}
	}
}

// flush waits, for a short time, until core has every outcome. What it does not get is
// on disk and is delivered by the next start.
func (a *Agent) flush(ctx context.Context) {
	timer := time.NewTimer(flushTimeout)
	defer timer.Stop()
	for len(a.jobs.undelivered()) > 0 && a.sessions.get() != nil {
		select {
		case <-a.settled:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// progress passes news of an order on, or drops it when nobody listens.
func (a *Agent) progress(p fleet.Progress) {
	s := a.sessions.get()
	if s == nil {
		return
	}
	select {
	case s.progress <- p:
	default:
	}
}

// errLocked is wrapped by lockDir when another process has the directory.
var errLocked = errors.New("another agent uses the state directory")
