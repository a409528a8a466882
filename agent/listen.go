package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/varanhq/varan/internal/network"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
	"github.com/varanhq/varan/wire/ws"
)

// Limits of the agent's listener, which anybody may try who reaches it.
const (
	maxStrangers    = 64 // connections, with that of core
	maxHandshakes   = 8
	strangerTimeout = 5 * time.Second
	strangerHeader  = 8 << 10
	complainEvery   = time.Minute
)

// ListenConfig says how core reaches an agent that it dials.
type ListenConfig struct {
	// Address is a TCP address such as "[::]:8120". Without one the agent listens nowhere.
	Address string
	// Allowed are the addresses and networks that connections may come from; others are closed
	// before a byte is read. Optional, default all.
	Allowed []string
	// Plain leaves TLS out. Everything is encrypted from end to end inside it anyway.
	Plain bool
	// CertFile and KeyFile are the certificate to show. Optional, default one that the agent
	// makes for itself.
	CertFile, KeyFile string
	// Listener is used instead of Address, by a test. Optional.
	Listener net.Listener
}

func (c *ListenConfig) on() bool { return c.Address != "" || c.Listener != nil }

// inbound takes the connections that core makes. Who dials is all that differs: the agent
// stays the one that shows nothing before it has seen core's key.
type inbound struct {
	agent   *Agent
	allowed []netip.Prefix
	tls     *tls.Config
	turns   chan struct{} // bounds handshakes

	mu       sync.Mutex
	current  *session
	refused  []noise.PublicKey // keys of the agent that core did not accept since it last did
	silentTo time.Time
}

// newInbound checks the configuration; nil when the agent does not listen.
func newInbound(a *Agent) (*inbound, error) {
	cfg := &a.cfg.Listen
	if !cfg.on() {
		return nil, nil //nolint:nilnil // there is nothing to do and nothing wrong
	}
	in := &inbound{agent: a, turns: make(chan struct{}, maxHandshakes)}
	for _, text := range cfg.Allowed {
		prefix, err := network.Parse(text)
		if err != nil {
			return nil, &ConfigError{Err: err, Hint: "allowed_ips takes addresses and networks: 10.0.0.5, 10.0.0.0/8, fd00::/8"}
		}
		in.allowed = append(in.allowed, prefix)
	}
	if cfg.Plain {
		return in, nil
	}
	cert, err := listenCertificate(a.cfg)
	if err != nil {
		return nil, err
	}
	in.tls = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{cert}}
	return in, nil
}

// open starts to listen.
func (in *inbound) open(ctx context.Context) (net.Listener, error) {
	cfg := &in.agent.cfg.Listen
	listener := cfg.Listener
	if listener == nil {
		var err error
		if listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Address); err != nil {
			return nil, &ConfigError{Err: fmt.Errorf("listen for core: %w", err), Hint: "choose another address with --listen, such as [::]:8120"}
		}
	}
	in.agent.log.InfoContext(ctx, "listening for core", slog.String("address", listener.Addr().String()),
		slog.String("public_key", in.agent.id.have().Current.Public().String()))
	if len(in.allowed) == 0 {
		in.agent.log.WarnContext(ctx, "any address may try to connect: allowed_ips narrows it to core's")
	}
	listener = &strangers{Listener: listener, in: in, room: make(chan struct{}, maxStrangers)}
	if in.tls != nil {
		listener = tls.NewListener(listener, in.tls)
	}
	return listener, nil
}

// serve takes connections until ctx ends, and then ends their sessions.
func (in *inbound) serve(ctx context.Context, listener net.Listener) {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+ws.AgentPath, func(w http.ResponseWriter, r *http.Request) {
		select {
		case in.turns <- struct{}{}:
		default:
			http.Error(w, "too many connections at once", http.StatusServiceUnavailable)
			return
		}
		conn, err := ws.Upgrade(w, r)
		if err != nil {
			<-in.turns
			return
		}
		sessions.Go(func() { in.take(ctx, conn, r.RemoteAddr) })
	})
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: strangerTimeout, ReadTimeout: strangerTimeout, WriteTimeout: strangerTimeout,
		IdleTimeout: strangerTimeout, MaxHeaderBytes: strangerHeader,
		ErrorLog: slog.NewLogLogger(in.agent.log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case <-ctx.Done():
	case err := <-served:
		in.agent.log.ErrorContext(ctx, "the listener for core failed", slog.Any("err", err))
		<-ctx.Done()
	}
	// Requests first: one that is answered yet may still become a session.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if server.Shutdown(bounded) != nil {
		_ = server.Close()
	}
}

// take serves one connection.
func (in *inbound) take(ctx context.Context, conn wire.MessageConn, remote string) {
	a := in.agent
	key, refused := in.offer()
	s, err := a.secure(ctx, conn, "dialled from "+remote, key, refused)
	<-in.turns
	if err != nil {
		in.failed(ctx, key.Public(), remote, err)
		return
	}
	in.mu.Lock()
	old := in.current
	if old != nil && old.welcome.Epoch > s.welcome.Epoch && !old.ended() {
		old = nil // core opened that one after this one, and ends this one
	} else {
		in.current = s
	}
	in.refused = nil
	in.mu.Unlock()
	a.sessions.set(s)
	if old != nil {
		old.close(ctx, wire.Errorf(wire.CodeReplaced, "the agent has a new session"))
	}
	alive := a.serve(ctx, s, renewalCheck, func() bool { return s.needsRenewal() || in.replaced(s) })
	in.mu.Lock()
	if in.current == s {
		in.current = nil
	}
	in.mu.Unlock()
	if alive == nil {
		return
	}
	a.sessions.drop(s)
	reason := wire.Errorf(wire.CodeReplaced, "the agent wants a new handshake")
	if ctx.Err() != nil {
		reason = wire.Errorf(wire.CodeShutdown, "the agent is shutting down")
	}
	s.close(ctx, reason)
}

func (in *inbound) replaced(s *session) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.current != s
}

// offer is the key to show next: those that core refused come last, so that each gets its
// turn, one at a connection.
func (in *inbound) offer() (key noise.PrivateKey, refused []noise.PublicKey) {
	offers := in.agent.id.offers()
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, key := range offers {
		if !slices.Contains(in.refused, key.Public()) {
			return key, slices.Clone(in.refused)
		}
	}
	in.refused = nil
	return offers[0], nil
}

// failed says why there is no session: not more often than once a minute, since anybody who
// reaches the port can cause it.
func (in *inbound) failed(ctx context.Context, key noise.PublicKey, remote string, err error) {
	in.mu.Lock()
	if errors.Is(err, noise.ErrRefused) || errors.Is(err, errReplaced) {
		in.refused = append(in.refused, key)
	}
	level := slog.LevelDebug
	if now := time.Now(); !now.Before(in.silentTo) {
		level, in.silentTo = slog.LevelWarn, now.Add(complainEvery)
	}
	in.mu.Unlock()
	in.agent.log.LogAttrs(ctx, level, "no session over a connection from outside", slog.String("remote", remote), slog.Any("err", err))
}

// strangers lets in who may try, as long as there is room.
type strangers struct {
	net.Listener

	in   *inbound
	room chan struct{}
}

// Accept implements net.Listener.
func (l *strangers) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if !l.in.allows(conn.RemoteAddr()) {
			l.in.agent.log.Debug("closed a connection from an address that is not allowed", slog.String("remote", conn.RemoteAddr().String()))
			_ = conn.Close()
			continue
		}
		select {
		case l.room <- struct{}{}:
			return &stranger{Conn: conn, leave: sync.OnceFunc(func() { <-l.room })}, nil
		default:
			_ = conn.Close()
		}
	}
}

// stranger gives its room back when it is closed.
type stranger struct {
	net.Conn

	leave func()
}

// Close implements net.Conn.
func (c *stranger) Close() error {
	c.leave()
	return c.Conn.Close()
}

func (in *inbound) allows(remote net.Addr) bool {
	if len(in.allowed) == 0 {
		return true
	}
	addr, err := netip.ParseAddrPort(remote.String())
	if err != nil {
		return false
	}
	return network.Contain(in.allowed, addr.Addr())
}
