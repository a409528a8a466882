package hub_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/varanhq/varan/core/hub"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
	"github.com/varanhq/varan/wire/ws"
)

// registry is a hub.Registry in memory.
type registry struct {
	mu     sync.Mutex
	keys   map[noise.PublicKey]string
	epochs map[string]uint64
	tokens map[string][32]byte
	asked  []hub.OnboardRequest
}

func newRegistry() *registry {
	return &registry{keys: map[noise.PublicKey]string{}, epochs: map[string]uint64{}, tokens: map[string][32]byte{}}
}

func (r *registry) ServerByKey(_ context.Context, key noise.PublicKey) (hub.Admitted, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name, ok := r.keys[key]; ok {
		return hub.Admitted{Server: name}, nil
	}
	return hub.Admitted{}, errors.New("no server has that key")
}

func (r *registry) NextEpoch(_ context.Context, server string) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epochs[server]++
	return r.epochs[server], nil
}

func (r *registry) Onboard(_ context.Context, req hub.OnboardRequest) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, req)
	if hash, ok := r.tokens[req.Token.ID()]; !ok || hash != req.Token.SecretHash() {
		return "", errors.New("no such token")
	}
	delete(r.tokens, req.Token.ID())
	r.keys[req.Key] = req.Server
	return req.Server, nil
}

func (r *registry) Servers(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, name := range r.keys {
		names = append(names, name)
	}
	return names, nil
}

// core is a hub that serves HTTP on a loopback port.
type core struct {
	t        *testing.T
	hub      *hub.Hub
	registry *registry
	key      noise.PrivateKey
	url      string
	changes  chan change
	outcomes chan fleet.Outcome
	stop     func()
}

type change struct {
	server string
	stacks []string
}

// newCore starts a core that knows servers of these names; configure may be nil.
func newCore(t *testing.T, configure func(*hub.Config)) *core {
	t.Helper()
	c := &core{
		t: t, registry: newRegistry(), key: newKey(t),
		changes: make(chan change, 1000), outcomes: make(chan fleet.Outcome, 1000),
	}
	c.registry.keys[newKey(t).Public()] = "never-seen"
	cfg := hub.Config{
		Key: c.key, CoreID: "main", Registry: c.registry,
		OnChange:  func(server string, stacks []string) { c.changes <- change{server, stacks} },
		OnOutcome: func(_ string, o fleet.Outcome) { c.outcomes <- o },
	}
	if configure != nil {
		configure(&cfg)
	}
	h, err := hub.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.hub = h
	mux := http.NewServeMux()
	mux.Handle(ws.Path, h)
	server := httptest.NewServer(mux)
	c.url = server.URL
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	c.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		server.Close()
	})
	t.Cleanup(c.stop)
	return c
}

func newKey(tb testing.TB) noise.PrivateKey {
	tb.Helper()
	key, err := noise.GenerateKey()
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// register makes a key for a server.
func (c *core) register(name string) noise.PrivateKey {
	key := newKey(c.t)
	c.registry.mu.Lock()
	defer c.registry.mu.Unlock()
	c.registry.keys[key.Public()] = name
	return key
}

// heard waits for news of a server.
func (c *core) heard(server string) change {
	c.t.Helper()
	for {
		select {
		case got := <-c.changes:
			if got.server == server {
				return got
			}
		case <-c.t.Context().Done():
			c.t.Fatal("the test ended first")
		}
	}
}

// agent is the other end of a session, with handlers a test can set.
type agent struct {
	t       *testing.T
	name    string
	conn    *noise.Conn
	peer    *wire.Peer
	welcome wire.Welcome
	ended   chan error

	mu     sync.Mutex
	handle map[wire.Verb]wire.HandlerFunc
}

func (a *agent) Serve(ctx context.Context, verb wire.Verb, body []byte, stream io.Writer) (any, error) {
	a.mu.Lock()
	handle := a.handle[verb]
	a.mu.Unlock()
	if handle == nil {
		return nil, wire.UnknownVerb(verb)
	}
	return handle(ctx, verb, body, stream)
}

func (a *agent) on(verb wire.Verb, handle wire.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handle[verb] = handle
}

// dial connects with a key and whatever purpose, and does not say hello.
func (c *core) dial(key noise.PrivateKey, purpose noise.Purpose, payload []byte) (*agent, error) {
	conn, err := ws.Dial(c.t.Context(), c.url, ws.DialConfig{})
	if err != nil {
		return nil, err
	}
	secured, err := noise.Initiate(c.t.Context(), conn, noise.InitiatorConfig{
		Key: key, Pins: []wire.Fingerprint{c.key.Public().Fingerprint()}, Purpose: purpose, Payload: payload,
	})
	if err != nil {
		return nil, err
	}
	a := &agent{t: c.t, conn: secured, ended: make(chan error, 1), handle: map[wire.Verb]wire.HandlerFunc{}}
	a.peer = wire.NewPeer(secured, wire.PeerConfig{Initiator: true, Handler: a})
	ctx, cancel := context.WithCancel(c.t.Context())
	done := make(chan struct{})
	go func() {
		a.ended <- a.peer.Run(ctx)
		close(done)
	}()
	c.t.Cleanup(func() {
		cancel()
		<-done
	})
	return a, nil
}

// connect opens a session and says hello.
func (c *core) connect(key noise.PrivateKey, name string, running ...string) *agent {
	c.t.Helper()
	a, err := c.dial(key, noise.PurposeSession, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	a.name = name
	hello := wire.Hello{Version: wire.Version, Server: name, Agent: fleet.AgentInfo{Version: "1.0"}, Running: running}
	if err := a.peer.Call(c.t.Context(), wire.VerbHello, hello, &a.welcome); err != nil {
		c.t.Fatal(err)
	}
	return a
}

// online connects and reports, and waits until the core knows.
func (c *core) online(key noise.PrivateKey, name string, stacks ...string) *agent {
	c.t.Helper()
	a := c.connect(key, name)
	a.report(true, stacks...)
	c.heard(name)
	return a
}

func (a *agent) report(full bool, stacks ...string) {
	a.t.Helper()
	report := wire.Report{Full: full, Agent: fleet.AgentInfo{Version: "1.0", Engine: "20.10"}}
	for _, stack := range stacks {
		report.Stacks = append(report.Stacks, fleet.StackReport{Stack: stack, Project: stack})
	}
	if err := a.peer.Call(a.t.Context(), wire.VerbReport, report, nil); err != nil {
		a.t.Fatal(err)
	}
}

func stacksOf(report fleet.ServerReport) (names []string) {
	for i := range report.Stacks {
		names = append(names, report.Stacks[i].Stack)
	}
	return names
}

func wantCode(t *testing.T, err error, code wire.Code) {
	t.Helper()
	if e, ok := errors.AsType[*wire.Error](err); !ok || e.Code != code {
		t.Errorf("error %v, want one with code %s", err, code)
	}
}

// blobs is reconciler.Content.
type blobs map[fleet.Digest][]byte

func (b blobs) Blob(_ context.Context, digest fleet.Digest) ([]byte, error) {
	content, ok := b[digest]
	if !ok {
		return nil, fmt.Errorf("no blob %s", digest.Short())
	}
	return content, nil
}

func (b blobs) put(text string) fleet.Digest {
	digest := fleet.SumDigest([]byte(text))
	b[digest] = []byte(text)
	return digest
}

func sorted(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return names
}

func TestAHubThatIsStoppedBeforeItBeganHasNotFailed(t *testing.T) {
	h, err := hub.New(hub.Config{Key: newKey(t), CoreID: "main", Registry: newRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Run(ctx); err != nil {
		t.Errorf("Run returned %v", err)
	}
}
