// Package dial keeps connections to the agents that core has to dial: those of servers that
// are declared with an address.
package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/hub"
	"github.com/varanhq/varan/internal/backoff"
	"github.com/varanhq/varan/internal/network"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/ws"
)

const (
	// checkEvery is how often the targets are looked at without being told: whoever changes
	// them tells.
	checkEvery = time.Minute
	// dialTimeout bounds the outer connection; the handshake has a limit of its own.
	dialTimeout = 15 * time.Second
	// renewAfter is when a new connection is made beside a good one, before the agent would
	// end that for the age of its keys.
	renewAfter = 20 * time.Hour
	// settledAge is how long a session lasts that was worth having: after one the next try
	// comes without much delay.
	settledAge = 30 * time.Second
)

// Target is where the agent of a server is.
type Target struct {
	Address string
	// VerifyTLS has its certificate checked. It need not be: inside of TLS the agent proves to
	// hold its server's key.
	VerifyTLS bool
}

// Hub serves the connections. *hub.Hub is one.
type Hub interface {
	Dialled(ctx context.Context, server string, conn wire.MessageConn, addr netip.Addr) error
	Connected(server string) (bool, <-chan struct{})
}

// Config is what a Service needs.
type Config struct {
	// Targets are the servers to dial, by name; required. It is asked when Poke was called.
	Targets func() map[string]Target
	// Hub is required.
	Hub Hub
	// Logger is required.
	Logger *slog.Logger
	// Open makes a connection. Optional, default a WebSocket.
	Open func(ctx context.Context, target Target) (wire.MessageConn, netip.Addr, error)
}

// Service dials. See New.
type Service struct {
	cfg  Config
	wake chan struct{} // capacity 1: the targets changed

	mu    sync.Mutex
	lines map[string]*line
}

// line is one server's connection, made again and again.
type line struct {
	target Target
	stop   context.CancelFunc
	done   chan struct{}
	wake   chan struct{} // capacity 1: dial now
	state  api.Dial      // under the service's lock
}

// New makes a service.
func New(cfg Config) *Service {
	if cfg.Open == nil {
		cfg.Open = open
	}
	return &Service{cfg: cfg, wake: make(chan struct{}, 1), lines: map[string]*line{}}
}

// Poke says that the targets may have changed.
func (s *Service) Poke() { poke(s.wake) }

// Now dials a server without waiting for its turn.
func (s *Service) Now(server string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lines[server]; l != nil {
		poke(l.wake)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// State is what became of dialling a server; false when it is not dialled.
func (s *Service) State(server string) (api.Dial, bool) {
	s.mu.Lock()
	l := s.lines[server]
	var state api.Dial
	if l != nil {
		state = l.state
	}
	s.mu.Unlock()
	if l == nil {
		return api.Dial{}, false
	}
	if connected, _ := s.cfg.Hub.Connected(server); connected {
		state = api.Dial{Address: l.target.Address, Text: "connected"}
	}
	return state, true
}

// Run dials until ctx ends, and has ended all connections when it returns.
func (s *Service) Run(ctx context.Context) error {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for {
		s.follow(ctx, s.cfg.Targets())
		select {
		case <-ctx.Done():
			s.follow(ctx, nil)
			return nil
		case <-s.wake:
		case <-ticker.C:
		}
	}
}

// follow ends the lines that nobody wants and begins those that are new. One whose address
// changed is both, in this order.
func (s *Service) follow(ctx context.Context, targets map[string]Target) {
	var over []*line
	s.mu.Lock()
	for name, l := range s.lines {
		if target, ok := targets[name]; !ok || target != l.target {
			over = append(over, l)
			delete(s.lines, name)
			l.stop()
		}
	}
	s.mu.Unlock()
	for _, l := range over {
		<-l.done
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, target := range targets {
		if s.lines[name] != nil {
			continue
		}
		l := &line{
			target: target, done: make(chan struct{}), wake: make(chan struct{}, 1),
			state: api.Dial{Address: target.Address, Text: "not tried yet"},
		}
		var lineCtx context.Context
		lineCtx, l.stop = context.WithCancel(ctx)
		s.lines[name] = l
		go func() {
			defer close(l.done)
			s.keep(lineCtx, name, l)
		}()
	}
}

// keep has one connection at a time, and for a moment two when the keys of one get old.
func (s *Service) keep(ctx context.Context, name string, l *line) {
	retry := backoff.Backoff{Base: time.Second, Max: time.Minute}
	var running sync.WaitGroup
	defer running.Wait()
	renewing, told := false, ""
	for ctx.Err() == nil {
		connected, changed := s.cfg.Hub.Connected(name)
		if connected && !renewing {
			// The agent dialled, or its newer session took the place of ours.
			s.note(l, func(d *api.Dial) { d.AttemptedKey, d.AttemptedFingerprint = "", "" })
			waitFor(ctx, changed)
			continue
		}
		began := time.Now()
		ended, err := s.connect(ctx, name, l.target, &running)
		if err == nil {
			renewing, err = s.await(ctx, ended, l)
			if renewing {
				continue
			}
		}
		renewing = false
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) >= settledAge {
			retry.Reset()
		}
		wait := retry.Next()
		s.failed(l, err)
		if text := err.Error(); text != told { // what lasts is said once
			told = text
			s.cfg.Logger.WarnContext(ctx, "no session with the agent at a server's address", slog.String("host", name),
				slog.String("address", l.target.Address), slog.Any("err", err), slog.Duration("retry_in", wait.Round(time.Millisecond)))
		}
		pause(ctx, wait, l.wake)
	}
}

// connect makes a connection and has it served.
func (s *Service) connect(ctx context.Context, name string, target Target, running *sync.WaitGroup) (<-chan error, error) {
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, addr, err := s.cfg.Open(dialCtx, target)
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	running.Go(func() { ended <- s.cfg.Hub.Dialled(ctx, name, conn, addr) })
	return ended, nil
}

// await waits for the end of a session, or until another should take its place.
func (s *Service) await(ctx context.Context, ended <-chan error, l *line) (renew bool, _ error) {
	s.note(l, func(d *api.Dial) { d.Text = "a connection is there" })
	timer := time.NewTimer(renewAfter)
	defer timer.Stop()
	select {
	case err := <-ended:
		if err == nil {
			err = errors.New("the session is over")
		}
		return false, err
	case <-timer.C:
		return ctx.Err() == nil, nil
	}
}

// failed notes why there is no session. The key of an agent that core does not know stays
// until there is one, for a person to accept.
func (s *Service) failed(l *line, err error) {
	s.note(l, func(d *api.Dial) {
		d.Text = err.Error()
		if refused, ok := errors.AsType[*hub.RefusedError](err); ok && !refused.Key.IsZero() {
			d.AttemptedKey, d.AttemptedFingerprint = refused.Key.String(), refused.Key.Fingerprint().String()
		}
	})
}

func (s *Service) note(l *line, f func(*api.Dial)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&l.state)
}

func waitFor(ctx context.Context, changed <-chan struct{}) {
	select {
	case <-changed:
	case <-ctx.Done():
	}
}

func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
	}
}

// open is the default of Config.Open.
func open(ctx context.Context, target Target) (wire.MessageConn, netip.Addr, error) {
	// A proxy between would connect to what core itself must not.
	if err := mayAsk(target.Address); err != nil {
		return nil, netip.Addr{}, err
	}
	dialer := &net.Dialer{Control: func(_, address string, _ syscall.RawConn) error { return mayDial(address) }}
	conn, err := ws.DialAgent(ctx, target.Address, ws.DialConfig{
		TLS: &tls.Config{
			MinVersion: tls.VersionTLS12, InsecureSkipVerify: !target.VerifyTLS, //nolint:gosec // Noise authenticates the agent inside TLS
		},
		NetDial: dialer.DialContext,
	})
	if err != nil {
		return nil, netip.Addr{}, err
	}
	addr := conn.RemoteAddr()
	return conn, addr, nil
}

// mayAsk is mayDial for an address that is written as a number.
func mayAsk(address string) error {
	text, err := ws.AgentURL(address)
	if err != nil {
		return err
	}
	u, err := url.Parse(text)
	if err != nil {
		return err
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return nil //nolint:nilerr // a name: mayDial sees what it stands for
	}
	return mayReach(ip)
}

// mayDial keeps what a commit says away from the services that clouds offer to a machine
// itself, and from what is no host.
func mayDial(address string) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	return mayReach(addr.Addr())
}

func mayReach(ip netip.Addr) error {
	ip = network.Plain(ip)
	metadata := netip.MustParseAddr("fd00:ec2::254")
	if ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() || ip == metadata {
		return errors.New("core dials no link-local, multicast or unspecified address")
	}
	return nil
}
