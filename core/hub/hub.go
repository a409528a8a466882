package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
	"github.com/varanhq/varan/wire/ws"
)

// farewell is how long agents get to hear that the core goes, or that a newer session
// took over.
const farewell = time.Second

// Config is what a hub needs.
type Config struct {
	// Key is the core's key; required. Other is the one that will take its place or had it
	// before, while the key changes; optional. SetKeys changes them.
	Key, Other noise.PrivateKey
	// OtherIsNext says which of the two Other is.
	OtherIsNext bool
	// CoreID names the core to agents; required.
	CoreID string
	// Registry knows the agents; required.
	Registry Registry
	// Rotations knows of changes of their keys. Optional: without it there are none.
	Rotations Rotations
	// PinnedCoreKey is called when an agent is known to pin a key of core durably, while core
	// has more than one. Optional.
	PinnedCoreKey func(ctx context.Context, server string, key noise.PublicKey)
	// Logger is optional, default discards.
	Logger *slog.Logger
	// OnChange is called after something was heard of a server: of the stacks named, or
	// of everything when stacks is nil. It must return soon. Optional.
	OnChange func(server string, stacks []string)
	// OnOutcome is called with the outcome of an order that nobody waits for, such as one
	// that a core gave before it was restarted. It may get the same outcome again.
	// Optional.
	OnOutcome func(server string, outcome fleet.Outcome)
	// Logins gives the passwords of registry accounts. Optional: without it there are none.
	Logins LoginSource
	// Commit gives the object of a Git commit, for hosts that want it signed. Optional:
	// without it they refuse everything.
	Commit func(ctx context.Context, id string) ([]byte, error)
	// Rests says which stacks of a server its agent must leave alone. Optional: without it
	// there are none.
	Rests func(ctx context.Context, server string) ([]wire.Rest, error)
	// Clock is optional, default time.Now.
	Clock func() time.Time
	// ClientAddr tells where a request comes from; a core behind a proxy that it trusts
	// asks the proxy's header. Optional, default the connection's address.
	ClientAddr func(r *http.Request) netip.Addr
	// HalfOpen bounds the handshakes under way: all, and those from one /24 or /56. It is
	// asked at every one. Optional, default 256 and 16.
	HalfOpen func() (total, perNet int)
	// IdleTimeout is how long an agent may be silent. Optional, default 75 s: three of its
	// pings.
	IdleTimeout time.Duration
}

func (c *Config) validate() error {
	switch {
	case c.Key.IsZero():
		return errors.New("hub: no private key")
	case c.CoreID == "" || len(c.CoreID) > 64:
		return errors.New("hub: the core's id must have 1 to 64 bytes")
	case c.Registry == nil:
		return errors.New("hub: no registry")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.OnChange == nil {
		c.OnChange = func(string, []string) {}
	}
	if c.OnOutcome == nil {
		c.OnOutcome = func(string, fleet.Outcome) {}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.ClientAddr == nil {
		c.ClientAddr = connectionAddr
	}
	if c.HalfOpen == nil {
		c.HalfOpen = func() (int, int) { return 256, 16 }
	}
	return nil
}

func connectionAddr(r *http.Request) netip.Addr {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Addr().Unmap()
}

// Hub holds the sessions with all agents. Run must be running for agents to get in.
type Hub struct {
	cfg      Config
	log      *slog.Logger
	budget   *budget
	failures *failures
	started  chan struct{} // closed when Run has begun
	slots    chan struct{} // bounds the handshakes that compute, so that the rest of the core can

	mu       sync.Mutex
	keys     coreKeys
	drops    int // how often sessions of a server were ended because it must not connect
	servers  map[string]*server
	works    map[string]*work // orders that somebody waits for, by id
	observed fleet.Observed   // nil when it must be built anew
	sessions map[*session]struct{}
	admit    func(arrival) // nil while Run does not run
	tasks    sync.WaitGroup
}

var (
	_ http.Handler     = (*Hub)(nil)
	_ reconciler.Fleet = (*Hub)(nil)
)

// server is what is known of one server.
type server struct {
	report  fleet.ServerReport
	session *session      // the newest one; nil when there is none
	changed chan struct{} // closed when session changes; nil when nobody waits for that
	swaps   []time.Time   // when a session took the place of a living one
}

func newServer(name string) *server {
	return &server{report: fleet.ServerReport{Server: name}}
}

// arrival is a connection that was accepted and said nothing yet.
type arrival struct {
	conn wire.MessageConn
	addr netip.Addr
	// dialled is set when core made the connection; it is no stranger's then, and not counted
	// in the budget.
	dialled *dialled
}

// New makes a hub.
func New(cfg Config) (*Hub, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Hub{
		cfg:      cfg,
		keys:     coreKeys{key: cfg.Key, other: cfg.Other, otherIsNext: cfg.OtherIsNext},
		log:      cfg.Logger,
		budget:   newBudget(cfg.HalfOpen),
		failures: newFailures(),
		started:  make(chan struct{}),
		slots:    make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		servers:  make(map[string]*server),
		works:    make(map[string]*work),
		sessions: make(map[*session]struct{}),
	}, nil
}

// Run lets agents in until ctx ends, tells those connected, and waits until all of them
// are gone. It runs once.
func (h *Hub) Run(ctx context.Context) error {
	names, err := h.cfg.Registry.Servers(ctx)
	switch {
	case ctx.Err() != nil:
		return nil //nolint:nilerr // it was stopped before it began, which is no failure
	case err != nil:
		return fmt.Errorf("hub: list servers: %w", err)
	}
	// Sessions end by being told so, not by a context: watching one costs each of them
	// more memory than all it holds otherwise.
	sessions := context.WithoutCancel(ctx)
	h.mu.Lock()
	for _, name := range names {
		if h.servers[name] == nil {
			h.servers[name] = newServer(name)
		}
	}
	h.observed = nil
	h.admit = func(a arrival) { h.tasks.Go(func() { h.accept(sessions, a) }) }
	h.mu.Unlock()
	close(h.started)
	<-ctx.Done()
	h.bye(sessions)
	h.tasks.Wait()
	return nil
}

// bye tells all agents at once that the core goes.
func (h *Hub) bye(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	h.mu.Lock()
	h.admit = nil // what is still in its handshake finds out when that is done
	peers := make([]*wire.Peer, 0, len(h.sessions))
	for s := range h.sessions {
		peers = append(peers, s.peer)
	}
	h.mu.Unlock()
	var wg sync.WaitGroup
	for _, peer := range peers {
		wg.Go(func() {
			peer.Close(ctx, &wire.Error{Code: wire.CodeShutdown, Message: "the core is shutting down", Retryable: true})
		})
	}
	wg.Wait()
}

// ServeHTTP accepts an agent's connection. It returns as soon as it is handed on: the
// goroutine of an HTTP request holds far more memory than a session needs.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case <-h.started:
	case <-r.Context().Done():
		return
	}
	addr := h.cfg.ClientAddr(r)
	if !h.budget.enter(addr) {
		h.log.LogAttrs(r.Context(), slog.LevelDebug, "too many handshakes under way", slog.String("remote", addr.String()))
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many agents connect at this moment", http.StatusServiceUnavailable)
		return
	}
	conn, err := ws.Upgrade(w, r)
	if err != nil {
		h.budget.leave(addr)
		h.log.LogAttrs(r.Context(), slog.LevelDebug, "not an agent", slog.String("remote", addr.String()), slog.Any("err", err))
		return
	}
	h.take(arrival{conn: conn, addr: addr})
}

// Accept is ServeHTTP for a connection that is there already, whoever opened it. It takes it
// over, and closes it when too many handshakes are under way or Run does not run.
func (h *Hub) Accept(conn wire.MessageConn, addr netip.Addr) {
	if !h.budget.enter(addr) {
		_ = conn.Close()
		return
	}
	h.take(arrival{conn: conn, addr: addr})
}

// take hands on a connection that is counted in the budget.
func (h *Hub) take(a arrival) {
	h.mu.Lock()
	admit := h.admit
	if admit != nil {
		admit(a)
	}
	h.mu.Unlock()
	if admit == nil {
		h.done(a)
		_ = a.conn.Close()
		a.dialled.over(errNotRunning)
	}
}

// Logs opens the log stream of a stack. It is the agent's, as it is: JSON lines of
// wire.LogLine.
func (h *Hub) Logs(ctx context.Context, server string, req wire.LogsRequest) (io.ReadCloser, error) {
	s := h.session(server)
	if s == nil {
		return nil, fmt.Errorf("logs of %s: %w", req.Stack, &OfflineError{Server: server})
	}
	return s.peer.OpenStream(ctx, wire.VerbLogs, req)
}

// Host has the engine of a server worked on and returns what was done in words. When the
// link breaks before the answer, whether it was done is unknown.
func (h *Hub) Host(ctx context.Context, server string, task fleet.HostTask) (string, error) {
	s := h.session(server)
	if s == nil {
		return "", fmt.Errorf("%s: %w", task.Kind, &OfflineError{Server: server})
	}
	var result wire.HostResult
	if err := s.peer.Call(ctx, wire.VerbHost, wire.HostRequest{Epoch: s.epoch, Task: task}, &result); err != nil {
		return "", err
	}
	return clean(result.Text), nil
}

// Drop ends the sessions of a server and forgets the server: it was removed from the
// registry.
func (h *Hub) Drop(ctx context.Context, name string) {
	h.mu.Lock()
	delete(h.servers, name)
	h.observed = nil
	h.mu.Unlock()
	h.Disconnect(ctx, name, "the server was removed")
}

// Disconnect ends the sessions of a server that the registry does not let in any more.
func (h *Hub) Disconnect(ctx context.Context, name, reason string) {
	h.endWhere(ctx, reason, func(s *session) bool { return s.server == name })
}

// endWhere ends sessions whose key is not accepted any more.
func (h *Hub) endWhere(ctx context.Context, reason string, which func(*session) bool) {
	var sessions []*session
	h.mu.Lock()
	h.drops++ // what is between handshake and Hello must look again
	for s := range h.sessions {
		if which(s) {
			sessions = append(sessions, s)
		}
	}
	h.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range sessions {
		wg.Go(func() { s.end(ctx, wire.Errorf(wire.CodeDenied, "%s", reason)) })
	}
	wg.Wait()
}

// LoginSource knows the accounts at image registries.
type LoginSource interface {
	// Logins returns what to log in with for the account that a release names.
	Logins(ctx context.Context, account fleet.RegistryAccount) ([]wire.Login, error)
}

// OfflineError says that the agent of a server is not connected.
type OfflineError struct{ Server string }

// Error names the server.
func (e *OfflineError) Error() string {
	return fmt.Sprintf("the agent of server %s is not connected", e.Server)
}

// session returns the newest session of a server, or nil.
func (h *Hub) session(name string) *session {
	s, _ := h.watch(name)
	return s
}

// watch is session with a channel that is closed when the session changes.
func (h *Hub) watch(name string) (*session, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	srv := h.servers[name]
	if srv == nil {
		return nil, nil
	}
	if srv.changed == nil {
		srv.changed = make(chan struct{})
	}
	return srv.session, srv.changed
}
