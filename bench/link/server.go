package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/varanhq/varan/core/hub"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
	"github.com/varanhq/varan/wire/ws"
)

// The kinds of server. The first two are what is compared with.
const (
	kindTCP     = "tcp"     // a goroutine in io.ReadFull per connection, nothing else
	kindUpgrade = "upgrade" // the HTTP upgrade alone
	kindPeer    = "peer"    // noise and peer, as the hub uses them, with nothing on top
	kindHub     = "hub"     // the hub
)

// link is a connection the server can send over.
type link interface {
	// call sends a message and waits for the answer to it.
	call(ctx context.Context, m message) error
}

// message is the same for every kind of link.
type message struct {
	body   []byte
	framed []byte // for a bare connection
	answer int    // the size of the answer's body
}

func newMessage(op byte, size int) message {
	m := message{body: make([]byte, size)}
	m.body[0] = op
	m.framed = framed(m.body)
	if op == opEcho {
		m.answer = size
	}
	return m
}

// server is the core's side of a measurement.
type server struct {
	key     noise.PrivateKey
	hub     *hub.Hub
	arrived atomic.Int64

	mu    sync.Mutex
	links []link
	names []string // of the servers, for the hub
}

func newServer() *server { return &server{} }

func (s *server) command(ctx context.Context, r request) (a answer, err error) {
	switch r.Do {
	case "listen":
		a.Addr, err = s.listen(ctx, r)
		a.Pin = fingerprint(s.key)
	case "await":
		s.await(ctx, int64(r.N))
		a.Use, err = usageNow()
	case "usage":
		a.Use, err = usageNow()
	case "settle":
		a.Use, err = settledUsage()
	case "calls":
		a.All, err = s.calls(ctx, r.Calls)
		if err == nil {
			a.Use, err = usageNow()
		}
	case "fanout":
		a.Took, err = s.fanout(ctx)
		if err == nil {
			a.Use, err = usageNow()
		}
	case "dispatch":
		a.Took, err = s.dispatch(ctx, r.N)
		if err == nil {
			a.Use, err = usageNow()
		}
	case "refresh":
		start := time.Now()
		s.hub.Refresh(ctx, nil)
		a.Took = time.Since(start)
		a.Use, err = usageNow()
	default:
		err = fmt.Errorf("unknown command %q", r.Do)
	}
	return a, err
}

// listen starts a service on an address of its own: connections that are closed block
// their pair of addresses for a minute.
func (s *server) listen(ctx context.Context, r request) (string, error) {
	var err error
	if s.key, err = noise.GenerateKey(); err != nil {
		return "", err
	}
	s.arrived.Store(0)
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", r.Addr)
	if err != nil {
		return "", err
	}
	var handler http.Handler
	switch r.Kind {
	case kindTCP:
		go s.acceptTCP(listener)
		return listener.Addr().String(), nil
	case kindUpgrade:
		handler = http.HandlerFunc(s.upgrade)
	case kindPeer:
		handler = s.peers(ctx)
	case kindHub:
		if handler, err = s.hubHandler(ctx, r); err != nil {
			return "", err
		}
	}
	httpServer := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = httpServer.Serve(listener) }()
	return listener.Addr().String(), nil
}

// await waits until so many connections have arrived.
func (s *server) await(ctx context.Context, n int64) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for s.arrived.Load() < n {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *server) add(l link) {
	s.mu.Lock()
	s.links = append(s.links, l)
	s.mu.Unlock()
	s.arrived.Add(1)
}

// acceptTCP is the floor.
func (s *server) acceptTCP(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		l := &tcpLink{conn: conn}
		s.add(l)
		go l.read()
	}
}

// upgrade is a WebSocket that nothing happens on.
func (s *server) upgrade(w http.ResponseWriter, r *http.Request) {
	conn, err := ws.Upgrade(w, r)
	if err != nil {
		return
	}
	s.arrived.Add(1)
	go func() {
		_, _ = conn.ReadMessage(nil)
		_ = conn.Close()
	}()
}

// peers serves what the hub has inside, without the hub.
func (s *server) peers(ctx context.Context) http.Handler {
	anybody := func(context.Context, noise.PeerInfo) error { return nil }
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := ws.Upgrade(w, r)
		if err != nil {
			return
		}
		go func() {
			secured, _, err := noise.Respond(ctx, conn, noise.ResponderConfig{Key: s.key, CoreID: "bench", Authenticate: anybody})
			if err != nil {
				return
			}
			peer := wire.NewPeer(secured, wire.PeerConfig{})
			s.add(peerLink{peer})
			go func() { _ = peer.Run(ctx) }()
		}()
	})
}

// hubHandler is the hub, with limits that let all agents come at once.
func (s *server) hubHandler(ctx context.Context, r request) (http.Handler, error) {
	registry := &registry{server: s, keys: make(map[noise.PublicKey]string, len(r.Keys))}
	s.names = nil
	for i, key := range r.Keys {
		name := "server-" + strconv.Itoa(i)
		registry.keys[noise.PublicKey(key)] = name
		s.names = append(s.names, name)
	}
	h, err := hub.New(hub.Config{
		Key: s.key, CoreID: "bench", Registry: registry, HalfOpen: func() (int, int) { return len(r.Keys), len(r.Keys) },
	})
	if err != nil {
		return nil, err
	}
	s.hub = h
	go func() { _ = h.Run(ctx) }()
	return h, nil
}

// calls measures one call after the other, each to another agent.
func (s *server) calls(ctx context.Context, n int) ([]time.Duration, error) {
	m := newMessage(opEcho, 1024)
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a fixed order, the same for all kinds
	took := make([]time.Duration, n)
	for i := range took {
		l := s.links[rng.IntN(len(s.links))]
		start := time.Now()
		if err := l.call(ctx, m); err != nil {
			return nil, err
		}
		took[i] = time.Since(start)
	}
	return took, nil
}

// fanoutWorkers is how many agents are spoken to at the same time.
const fanoutWorkers = 256

// fanout sends 4 KB to every agent and waits until all have confirmed it.
func (s *server) fanout(ctx context.Context) (time.Duration, error) {
	m := newMessage(opAck, 4096)
	return everywhere(len(s.links), func(i int) error { return s.links[i].call(ctx, m) })
}

// dispatch sends every server of the hub an order of about 4 KB, whose outcome is in
// the answer. It is what a fan-out costs with the orders around it.
func (s *server) dispatch(ctx context.Context, round int) (time.Duration, error) {
	var release fleet.Release
	for i := range 25 {
		release.Files = append(release.Files, fleet.File{
			Path: fmt.Sprintf("conf/file-%d.toml", i), Mode: 0o644, Digest: fleet.SumDigest([]byte{byte(i)}),
		})
	}
	return everywhere(len(s.names), func(i int) error {
		_, err := s.hub.Dispatch(ctx, fleet.Order{
			ID: fmt.Sprintf("%d-%d", round, i), Kind: fleet.OrderApply, Stack: "web", Server: s.names[i], Release: release,
		}, nil, nil)
		return err
	})
}

// everywhere calls f for 0 to n-1 from many goroutines.
func everywhere(n int, f func(i int) error) (time.Duration, error) {
	start := time.Now()
	var next atomic.Int64
	errs := make([]error, fanoutWorkers)
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				errs[w] = f(i)
			}
		})
	}
	wg.Wait()
	return time.Since(start), errors.Join(errs...)
}

// peerLink calls over the real protocol. The body is sent as it is: JSON would be the
// same on every kind of link.
type peerLink struct{ peer *wire.Peer }

func (l peerLink) call(ctx context.Context, m message) error {
	if m.answer == 0 {
		return l.peer.Call(ctx, wire.VerbApply, json.RawMessage(m.body), nil)
	}
	var echo json.RawMessage
	if err := l.peer.Call(ctx, wire.VerbObserve, json.RawMessage(m.body), &echo); err != nil {
		return err
	}
	if len(echo) != m.answer {
		return errors.New("the echo differs")
	}
	return nil
}

// What the first byte of a message asks for.
const (
	opEcho = 0
	opAck  = 1
)

// tcpLink is the cheapest link there is: a length, the bytes, and a reader that hands
// each answer to whoever waits.
type tcpLink struct {
	conn net.Conn

	mu      sync.Mutex
	waiting chan int
}

func (l *tcpLink) call(_ context.Context, m message) error {
	done := make(chan int, 1)
	l.mu.Lock()
	l.waiting = done
	l.mu.Unlock()
	if _, err := l.conn.Write(m.framed); err != nil {
		return err
	}
	if got, ok := <-done; !ok || got != m.answer {
		return errors.New("the echo differs, or the connection ended")
	}
	return nil
}

func (l *tcpLink) read() {
	var buf []byte
	for {
		got, err := readTCP(l.conn, buf)
		l.mu.Lock()
		done := l.waiting
		l.waiting = nil
		l.mu.Unlock()
		if err != nil {
			if done != nil {
				close(done)
			}
			return
		}
		buf = got
		if done != nil {
			done <- len(got) - frameHead
		}
	}
}

// registry knows the benchmark's agents.
type registry struct {
	server *server
	keys   map[noise.PublicKey]string
	epoch  atomic.Uint64
}

func (r *registry) ServerByKey(_ context.Context, key noise.PublicKey) (hub.Admitted, error) {
	name, ok := r.keys[key]
	if !ok {
		return hub.Admitted{}, errors.New("unknown key")
	}
	r.server.arrived.Add(1)
	return hub.Admitted{Server: name}, nil
}

func (r *registry) NextEpoch(context.Context, string) (uint64, error) { return r.epoch.Add(1), nil }

func (*registry) Onboard(context.Context, hub.OnboardRequest) (string, error) {
	return "", errors.New("not here")
}

func (r *registry) Servers(context.Context) ([]string, error) { return r.server.names, nil }

func fingerprint(key noise.PrivateKey) []byte {
	pin := key.Public().Fingerprint()
	return pin[:]
}
