// Package docker is agent.Engine over Docker. The Compose SDK changes things, in a worker
// process of its own; this package decides, keeps the journal, gives the verdict, rolls
// back, and reads what runs. It never reads Git and never plans.
package docker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/agent/policy"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
)

// Config is what an Engine needs.
type Config struct {
	// Server is the name this agent serves. Required: only what carries it as a label is
	// ever touched.
	Server string
	// Dir is an absolute directory that nobody else uses. Required. It must have the
	// same path on the host, since containers mount files from it.
	Dir string
	// Worker is the argument vector of the worker process. Required.
	Worker []string
	// Host is the engine's address. Optional, default DOCKER_HOST or the local socket.
	Host string
	// Version is the agent's own version, for reports. Optional.
	Version string
	// Parallel is how many stacks are changed at a time. Optional, default 4. Waiting for
	// health checks does not count.
	Parallel int
	// StableFor is how long a new container must run without a restart before it counts
	// as running. Optional, default 1 s.
	StableFor time.Duration
	// Policy is what the host lets core do. Optional: the zero value allows what needs none.
	Policy policy.Policy
	// SecretsDir is where secret files are kept, a directory in memory. Optional, default
	// one of the agent's own below /run or /dev/shm.
	SecretsDir string
	// Logger is optional, default none.
	Logger *slog.Logger
}

func (c *Config) validate() error {
	switch {
	case c.Server == "":
		return errors.New("server is required")
	case !filepath.IsAbs(c.Dir):
		return fmt.Errorf("dir must be an absolute path, not %q", c.Dir)
	case len(c.Worker) == 0:
		return errors.New("worker is required")
	}
	if c.Parallel <= 0 {
		c.Parallel = 4
	}
	if c.StableFor <= 0 {
		c.StableFor = time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Engine implements agent.Engine.
type Engine struct {
	cfg     Config
	log     *slog.Logger
	key     []byte
	conn    *conn
	journal *journal
	states  *states
	blobs   blobs
	memory  *memory
	secrets localSecrets
	slots   chan struct{}
	// pruning lets one task at a time take all slots.
	pruning chan struct{}

	mu sync.Mutex
	// stacks serialises orders per stack.
	stacks map[string]chan struct{}
	// busy maps a stack to the order that is carried out.
	busy map[string]string
	// wanted holds the releases of orders under way: their blobs must stay.
	wanted map[string]fleet.Release
}

var _ agent.Engine = (*Engine)(nil)

// New opens the state in cfg.Dir. It does not need the engine to answer.
func New(cfg Config) (*Engine, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("docker engine: %w", err)
	}
	for _, sub := range []string{"", "journal", "releases", "blobs", "stacks", "models"} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("make state directory: %w", err)
		}
	}
	e := &Engine{
		cfg:     cfg,
		log:     cfg.Logger,
		conn:    &conn{host: engineHost(cfg.Host)},
		blobs:   blobs{dir: filepath.Join(cfg.Dir, "blobs"), ram: chooseRAM(&cfg)},
		memory:  &memory{},
		slots:   make(chan struct{}, cfg.Parallel),
		pruning: make(chan struct{}, 1),
		secrets: newLocalSecrets(cfg.Policy.Secrets),
		stacks:  map[string]chan struct{}{},
		busy:    map[string]string{},
		wanted:  map[string]fleet.Release{},
	}
	var err error
	if e.key, err = openKey(filepath.Join(cfg.Dir, "baseline.key")); err != nil {
		return nil, err
	}
	if e.journal, err = openJournal(filepath.Join(cfg.Dir, "journal")); err != nil {
		return nil, err
	}
	if e.states, err = openStates(filepath.Join(cfg.Dir, "releases")); err != nil {
		return nil, err
	}
	if err := e.sweep(); err != nil {
		return nil, err
	}
	return e, nil
}

// openKey reads the key that values in baselines are hashed with, or makes it.
func openKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = []byte(rand.Text() + rand.Text())
		err = atomicfile.Create(path, key, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("open baseline key: %w", err)
	}
	return key, nil
}

// sweep removes the blobs that a crash left behind.
func (e *Engine) sweep() error {
	pending, err := e.journal.pending("")
	if err != nil {
		return err
	}
	keep := e.needed()
	for _, r := range pending {
		for _, d := range r.Order.Release.Blobs() {
			keep[d] = true
		}
	}
	return e.blobs.sweep(keep)
}

// needed are the digests of the blobs that a rollback or an order under way needs.
func (e *Engine) needed() map[fleet.Digest]bool {
	keep := map[fleet.Digest]bool{}
	mark := func(r *fleet.Release) {
		for _, d := range r.Blobs() {
			keep[d] = true
		}
	}
	for _, st := range e.states.known() {
		if st.Good != nil {
			mark(st.Good)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.wanted {
		mark(&r)
	}
	return keep
}

// Recover implements agent.Engine.
func (e *Engine) Recover(context.Context) ([]fleet.Order, error) {
	pending, err := e.journal.pending("")
	if err != nil {
		return nil, err
	}
	orders := make([]fleet.Order, len(pending))
	for i, r := range pending {
		orders[i] = r.Order
	}
	return orders, nil
}

// enter waits for a stack's turn. leave must be called with what it returns.
func (e *Engine) enter(ctx context.Context, order *fleet.Order) (leave func(), err error) {
	e.mu.Lock()
	turn, ok := e.stacks[order.Stack]
	if !ok {
		turn = make(chan struct{}, 1)
		e.stacks[order.Stack] = turn
	}
	e.wanted[order.ID] = order.Release
	e.mu.Unlock()
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.wanted, order.ID)
		return nil, ctx.Err()
	}
	e.mu.Lock()
	e.busy[order.Stack] = order.ID
	e.mu.Unlock()
	return func() {
		e.mu.Lock()
		delete(e.busy, order.Stack)
		delete(e.wanted, order.ID)
		idle := len(e.busy) == 0
		e.mu.Unlock()
		<-turn
		if idle {
			// A burst is over. An agent is idle nearly always and must be small then.
			debug.FreeOSMemory()
		}
	}, nil
}

// slot is the right to load the engine. It may be given back early, and more than once.
type slot struct {
	once sync.Once
	from chan struct{}
}

// acquire waits for a slot.
func (e *Engine) acquire(ctx context.Context) (*slot, error) {
	select {
	case e.slots <- struct{}{}:
		return &slot{from: e.slots}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *slot) release() { s.once.Do(func() { <-s.from }) }

// runDir is where a stack's files are; modelPath is its resolved model. The model holds
// secrets and is kept out of the run directory, which containers may mount as a whole.
func (e *Engine) runDir(stack string) string {
	return filepath.Join(e.cfg.Dir, "stacks", fileName(stack))
}

func (e *Engine) modelPath(stack string) string {
	return filepath.Join(e.cfg.Dir, "models", fileName(stack), "compose.yaml")
}
