// Package sim runs the whole of Varan, a core and its agents, in a bubble with a clock of its
// own: only the sockets, the Git host and the Docker engines are models. A month passes in
// seconds, and the same seed makes the same month.
package sim_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/core"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/settings"
	"github.com/varanhq/varan/internal/testutil/fakeengine"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/ws"
)

const (
	// keepAlive spares the bubble millions of pings.
	keepAlive = time.Hour
	// poll is how often core looks at the repository.
	poll = 30 * time.Minute
	// settle is how long a fleet without faults may take to be as it should: a poll, the
	// longest wait between two tries to connect, and the agents' own looks.
	settle = 2 * time.Hour
)

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// network carries what core and agents say to each other.
type network struct {
	mu       sync.Mutex
	listener *bufconn.Listener
	conns    map[string]map[net.Conn]bool // by server; "" is the client
	cut      map[string]bool              // servers that reach nobody
}

// open begins to accept, as a core that started.
func (n *network) open() net.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listener = bufconn.Listen(64 << 10)
	return n.listener
}

func (n *network) dial(ctx context.Context, server string) (net.Conn, error) {
	n.mu.Lock()
	listener, cut := n.listener, n.cut[server]
	n.mu.Unlock()
	if listener == nil || cut {
		return nil, errors.New("connection refused")
	}
	conn, err := listener.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conns[server] == nil {
		n.conns[server] = map[net.Conn]bool{}
	}
	n.conns[server][conn] = true
	return conn, nil
}

// hangUp breaks the connections of a server; with cut, no new ones come up.
func (n *network) hangUp(server string, cut bool) {
	n.mu.Lock()
	conns := n.conns[server]
	delete(n.conns, server)
	n.cut[server] = cut
	n.mu.Unlock()
	for conn := range conns {
		_ = conn.Close()
	}
}

// close breaks everything, as the death of core does. The listener is core's to close.
func (n *network) close() {
	n.mu.Lock()
	n.listener = nil
	servers := make([]string, 0, len(n.conns))
	for server := range n.conns {
		servers = append(servers, server)
	}
	n.mu.Unlock()
	for _, server := range servers {
		n.mu.Lock()
		cut := n.cut[server]
		n.mu.Unlock()
		n.hangUp(server, cut)
	}
}

// world is a core, a repository and hosts with an agent each.
type world struct {
	*testing.T

	dir    string
	net    *network
	repo   *repository
	client *api.Client
	hosts  map[string]*host
	log    *slog.Logger

	stopCore func()
}

// host is a Docker host. Its engine outlives its agent.
type host struct {
	name   string
	engine *fakeengine.Engine
	// token lets its agent join; one that was stopped before it did needs it again.
	token fleet.Secret
	stop  func() // nil while no agent runs
}

// newWorld starts a core and an agent for each server.
func newWorld(t *testing.T, servers []string) *world {
	t.Helper()
	w := &world{
		T: t, dir: scratch(t), net: &network{conns: map[string]map[net.Conn]bool{}, cut: map[string]bool{}},
		hosts: map[string]*host{}, log: slog.New(slog.DiscardHandler),
	}
	if os.Getenv("VARAN_SIM_LOG") != "" {
		w.log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	w.repo = newRepository(t, filepath.Join(w.dir, "repo"))
	key, err := core.Init(t.Context(), w.path("core"))
	must(t, err)
	w.client = &api.Client{Key: key, BaseURL: "http://core", HTTP: &http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return w.net.dial(ctx, "") },
		DisableKeepAlives: true,
	}}}
	w.startCore()
	for _, name := range servers {
		created, err := w.client.CreateOnboardingKey(t.Context(), api.OnboardingSpec{})
		must(t, err)
		h := &host{name: name, engine: fakeengine.New(name), token: created.Token.Secret()}
		h.engine.Script("", h.carryOut)
		w.hosts[name] = h
		w.startAgent(h)
	}
	return w
}

// scratch is a directory in memory where there is one: what is flushed to disk a hundred
// thousand times is not what is tried here.
func scratch(t *testing.T) string {
	t.Helper()
	if info, err := os.Stat("/dev/shm"); err != nil || !info.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "varan-sim-") //nolint:usetesting // t.TempDir is on disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

// close ends everything, so that nothing is left in the bubble.
func (w *world) close() {
	for _, h := range w.hosts {
		w.stopAgent(h)
	}
	w.killCore()
}

func (w *world) startCore() {
	w.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	listener := w.net.open()
	s := &core.Settings{}
	if _, err := settings.Load(s, settings.Source{Defaults: map[string]string{"dir": w.path("core")}}); err != nil {
		w.Fatal(err)
	}
	s.LocalRoots, s.Limits.AgentTimeout, s.Alerts.Every = []string{w.dir}, 3*keepAlive, 30*time.Minute
	go func() {
		done <- core.Run(ctx, core.Config{
			Settings: s, Listener: listener, Logger: w.log, Ready: func(net.Addr) { close(ready) },
		})
	}()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		w.Fatalf("core did not start: %v", err)
	}
	w.stopCore = func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("core ended with %v", err)
		}
	}
}

// killCore ends the core; nobody hears a farewell.
func (w *world) killCore() {
	if w.stopCore == nil {
		return
	}
	w.net.close()
	w.stopCore()
	w.stopCore = nil
}

func (w *world) startAgent(h *host) {
	w.Helper()
	a, err := agent.New(agent.Config{
		Dir: w.path("agents", h.name), Server: h.name, Cores: []string{"ws://core"}, OnboardingToken: h.token, Engine: h.engine,
		Logger: w.log.With(slog.String("agent", h.name)), KeepAlive: keepAlive, Reread: time.Hour, LookAtHost: time.Hour,
		Dial: func(ctx context.Context, address string) (wire.MessageConn, error) {
			return ws.Dial(ctx, address, ws.DialConfig{NetDial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return w.net.dial(ctx, h.name)
			}})
		},
	})
	must(w, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	h.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("the agent of %s ended with %v", h.name, err)
		}
	}
}

func (w *world) stopAgent(h *host) {
	if h.stop == nil {
		return
	}
	w.net.hangUp(h.name, w.net.cut[h.name])
	h.stop()
	h.stop = nil
}

// carryOut is the host's engine: a release with an image called "broken" does not come up.
func (h *host) carryOut(ctx context.Context, order fleet.Order, blobs agent.Blobs, progress func(fleet.Progress)) fleet.Outcome {
	for _, s := range order.Release.Services {
		if strings.HasPrefix(s.Image, "broken") {
			h.engine.Break(order.Release.Digest, s.Name+" exits at once")
		}
	}
	return h.engine.Apply(ctx, order, blobs, progress)
}

// stopByHand stops a container, as a person at the host would; it reports whether there
// was any.
func (h *host) stopByHand(stack string) bool {
	report, ok, err := h.engine.ObserveStack(context.Background(), stack)
	if err != nil || !ok || len(report.Containers) == 0 {
		return false
	}
	report.Containers = slices.Clone(report.Containers)
	report.Containers[0].State = fleet.StateExited
	h.engine.Set(report)
	return true
}

// running is what runs on a host, as "stack service image state".
func (h *host) running(tb testing.TB) []string {
	tb.Helper()
	_, reports, err := h.engine.Observe(context.Background())
	must(tb, err)
	var out []string
	for i := range reports {
		for _, c := range reports[i].Containers {
			out = append(out, fmt.Sprintf("%s %s %s %s", reports[i].Stack, c.Service, c.Image, c.State))
		}
	}
	slices.Sort(out)
	return out
}
