package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

const (
	// helloWithin is how long an authenticated agent may take to say Hello.
	helloWithin = 10 * time.Second
	// A server whose sessions push each other off so often within so long probably has
	// two agents with the same key: a cloned machine.
	flapSwaps, flapWithin = 3, 10 * time.Minute
)

// session is one connection of an agent whose key is known.
type session struct {
	hub    *Hub
	peer   *wire.Peer
	server string
	remote netip.Addr
	// telling is held while the agent is told what to leave alone.
	telling sync.Mutex
	// key is the agent's, shown the core's that it accepted; binding is of this connection
	// alone.
	key, shown noise.PublicKey
	binding    [32]byte
	// retired: the agent's key was replaced; it may say that it has the new one.
	retired bool

	// Under the hub's lock. The epoch is 0 until Hello; late ends a session that never
	// says it.
	late     *time.Timer
	drops    int // the hub's when the agent was authenticated
	epoch    uint64
	reported bool
	running  []string // orders the agent had in its journal when it connected
}

// accept performs the handshake and starts the session.
func (h *Hub) accept(ctx context.Context, a arrival) {
	s := &session{hub: h, remote: a.addr}
	keys := h.coreKeys()
	h.mu.Lock()
	drops := h.drops
	h.mu.Unlock()
	var admitted Admitted
	conn, info, err := noise.Respond(ctx, a.conn, noise.ResponderConfig{
		Key: keys.key, Other: keys.other, CoreID: h.cfg.CoreID, Slots: h.slots,
		Authenticate: func(ctx context.Context, info noise.PeerInfo) (err error) {
			admitted, err = h.authenticate(ctx, info, a)
			return err
		},
	})
	h.done(a)
	if err != nil {
		h.refused(ctx, info, a.addr, err)
		a.dialled.over(&RefusedError{Key: info.Key, Err: err})
		return
	}
	s.server, s.retired = admitted.Server, admitted.Retired
	s.key, s.shown, s.binding = info.Key, info.Shown, conn.Binding()
	if !admitted.Refuse.IsZero() {
		h.endWhere(ctx, "the agent's key was replaced in an emergency", func(old *session) bool { return old.key == admitted.Refuse })
	}
	s.peer = wire.NewPeer(conn, wire.PeerConfig{Handler: s, Logger: h.log, IdleTimeout: h.cfg.IdleTimeout})
	h.mu.Lock()
	s.drops = drops
	begun := h.admit != nil
	if begun {
		h.sessions[s] = struct{}{}
		a.dialled.has(s)
		s.late = time.AfterFunc(helloWithin, func() {
			s.end(ctx, wire.Errorf(wire.CodeProtocol, "no hello within %v", helloWithin))
		})
	}
	h.mu.Unlock()
	if !begun {
		_ = conn.Close()
		a.dialled.over(errNotRunning)
		return
	}
	// The session keeps no goroutine but the one that reads.
	h.tasks.Add(1)
	s.peer.Start(ctx, func(err error) {
		defer h.tasks.Done()
		h.leave(ctx, s, err)
		a.dialled.over(err)
	})
}

// authenticate finds the server of an agent by its key, and registers it when it
// brings a token.
func (h *Hub) authenticate(ctx context.Context, info noise.PeerInfo, a arrival) (Admitted, error) {
	addr := a.addr
	if info.Purpose == noise.PurposeSession {
		if len(info.Payload) > 0 {
			return Admitted{}, errors.New("payload in a session handshake")
		}
		admitted, err := h.cfg.Registry.ServerByKey(ctx, info.Key)
		if err == nil {
			err = a.dialled.expects(admitted.Server)
		}
		return admitted, err
	}
	if h.failures.tooMany(addr, h.cfg.Clock()) {
		return Admitted{}, errors.New("too many failed onboardings within a minute")
	}
	name, err := h.onboard(ctx, info, a)
	if err != nil {
		if !errors.Is(err, ErrPending) {
			h.failures.add(addr, h.cfg.Clock())
		}
		return Admitted{}, err
	}
	h.log.LogAttrs(ctx, slog.LevelInfo, "server onboarded", slog.String("host", name),
		slog.String("remote", addr.String()), slog.String("fingerprint", info.Key.Fingerprint().String()))
	return Admitted{Server: name}, nil
}

func (h *Hub) onboard(ctx context.Context, info noise.PeerInfo, a arrival) (string, error) {
	var join wire.Join
	if err := json.Unmarshal(info.Payload, &join); err != nil {
		return "", errors.New("onboarding payload is not the JSON it should be")
	}
	if err := a.dialled.expects(join.Server); err != nil {
		return "", err
	}
	token, err := wire.ParseOnboardingToken(join.Token)
	if err != nil {
		return "", err
	}
	name, err := h.cfg.Registry.Onboard(ctx, OnboardRequest{
		Token: token, Server: join.Server, Key: info.Key, RemoteAddr: a.addr,
	})
	if err != nil {
		return "", fmt.Errorf("onboard with token %s: %w", token.ID(), err)
	}
	return name, nil
}

// refused writes down why. The agent is told nothing, whatever the reason.
func (h *Hub) refused(ctx context.Context, info noise.PeerInfo, addr netip.Addr, err error) {
	if info.Key.IsZero() { // anybody can get that far; it must not fill the log
		h.log.LogAttrs(ctx, slog.LevelDebug, "handshake failed", slog.String("remote", addr.String()), slog.Any("err", err))
		return
	}
	level := slog.LevelWarn
	if errors.Is(err, ErrPending) { // it asks every minute or so
		level = slog.LevelDebug
	}
	h.log.LogAttrs(ctx, level, "agent refused", slog.String("remote", addr.String()),
		slog.String("purpose", info.Purpose.String()), slog.String("fingerprint", info.Key.Fingerprint().String()), slog.Any("err", err))
}

// end ends a session and tells the agent why.
func (s *session) end(ctx context.Context, reason *wire.Error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	s.peer.Close(ctx, reason)
}

// endSoon is end for a handler, which must not wait for an agent that does not read.
func (s *session) endSoon(ctx context.Context, reason *wire.Error) {
	s.hub.tasks.Go(func() { s.end(ctx, reason) })
}

// Serve implements wire.Handler: what an agent may ask.
func (s *session) Serve(ctx context.Context, verb wire.Verb, body []byte, stream io.Writer) (any, error) {
	if verb == wire.VerbHello {
		return s.hello(ctx, body)
	}
	if s.retired {
		if verb == wire.VerbRotateConfirm {
			return s.rotateConfirm(ctx)
		}
		return nil, wire.Errorf(wire.CodeDenied, "this agent's key was replaced")
	}
	if err := s.hub.mayServe(s); err != nil {
		return nil, err
	}
	switch verb {
	case wire.VerbReport:
		return nil, s.report(ctx, body)
	case wire.VerbResult:
		return nil, s.result(ctx, body)
	case wire.VerbProgress:
		return nil, s.progress(body)
	case wire.VerbBlobs:
		return nil, s.blobs(ctx, body, stream)
	case wire.VerbRegistry:
		return s.logins(ctx, body)
	case wire.VerbCommit:
		return s.commit(ctx, body)
	case wire.VerbRotatePropose:
		return s.rotatePropose(ctx, body)
	case wire.VerbRotateConfirm:
		return s.rotateConfirm(ctx)
	case wire.VerbHello, wire.VerbApply, wire.VerbCancel, wire.VerbObserve, wire.VerbLogs, wire.VerbHost, wire.VerbFiles, wire.VerbProjects,
		wire.VerbRotate, wire.VerbCoreKey, wire.VerbRest:
	}
	return nil, wire.UnknownVerb(verb)
}

// mayServe refuses what comes before Hello, and what comes over a session that a newer
// one has replaced.
func (h *Hub) mayServe(s *session) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	srv := h.servers[s.server]
	switch {
	case s.epoch == 0:
		return wire.Errorf(wire.CodeProtocol, "say hello first")
	case srv == nil || srv.session != s:
		return &wire.Error{Code: wire.CodeStale, Message: "a newer session took this one's place", Retryable: true}
	}
	return nil
}

func (s *session) hello(ctx context.Context, body []byte) (any, error) {
	var hello wire.Hello
	if err := wire.Decode(body, &hello); err != nil {
		return nil, err
	}
	welcome, refusal := s.hub.welcome(ctx, s, hello)
	if refusal != nil {
		s.hub.log.LogAttrs(ctx, slog.LevelWarn, "hello refused", slog.String("host", s.server),
			slog.String("remote", s.remote.String()), slog.Any("err", refusal))
		// The answer goes out first; what then closes the session says the same.
		s.endSoon(ctx, refusal)
		return nil, refusal
	}
	s.hub.catchUp(ctx, s)
	if !s.retired {
		s.hub.tellRests(ctx, s, hello.Resting)
	}
	return welcome, nil
}

// welcome makes s the server's session. Which server that is was decided by the
// agent's key; the name it claims may only agree.
func (h *Hub) welcome(ctx context.Context, s *session, hello wire.Hello) (*wire.Welcome, *wire.Error) {
	switch {
	case hello.Version < wire.MinVersion || hello.Version > wire.Version:
		return nil, wire.VersionMismatch(hello.Version)
	case hello.Server != s.server:
		return nil, wire.Errorf(wire.CodeDenied, "this agent's key is that of another server")
	case len(hello.Running) > maxRunning:
		return nil, wire.Errorf(wire.CodeTooLarge, "%d orders are running", len(hello.Running))
	}
	welcome := &wire.Welcome{
		Version: wire.Version, Core: h.cfg.CoreID, Server: s.server, Time: h.cfg.Clock(), Retired: s.retired,
	}
	if s.retired {
		return welcome, nil
	}
	var err error
	if welcome.Rotation, err = h.rotation(ctx, s.server); err != nil {
		return nil, &wire.Error{Code: wire.CodeInternal, Message: "internal error", Retryable: true}
	}
	if !h.stillAdmitted(ctx, s) {
		return nil, wire.Errorf(wire.CodeDenied, "this agent's key is not accepted any more")
	}
	epoch, err := h.cfg.Registry.NextEpoch(ctx, s.server)
	if err != nil {
		h.log.LogAttrs(ctx, slog.LevelError, "no epoch for a new session", slog.String("host", s.server), slog.Any("err", err))
		return nil, &wire.Error{Code: wire.CodeInternal, Message: "internal error", Retryable: true}
	}
	if refusal := h.join(ctx, s, epoch, hello); refusal != nil {
		return nil, refusal
	}
	welcome.Epoch = epoch
	return welcome, nil
}

// maxRunning bounds the orders that an agent says it has; far above what it does.
const maxRunning = 10_000

// join puts s in the place of whatever session the server had: of two, the newer one is
// the one that works.
func (h *Hub) join(ctx context.Context, s *session, epoch uint64, hello wire.Hello) *wire.Error {
	now := h.cfg.Clock()
	h.mu.Lock()
	srv := h.servers[s.server]
	if srv == nil {
		srv = newServer(s.server)
		h.servers[s.server] = srv
	}
	old := srv.session
	switch {
	case s.epoch != 0:
		h.mu.Unlock()
		return wire.Errorf(wire.CodeProtocol, "hello was said already")
	case old != nil && old.epoch > epoch:
		h.mu.Unlock()
		return wire.Errorf(wire.CodeReplaced, "a newer session is there already")
	}
	s.epoch, s.running = epoch, hello.Running
	s.notLate()
	h.setSession(srv, s)
	srv.report.Agent = cleanAgent(hello.Agent)
	flapping := false
	if old != nil {
		srv.swaps = append(slices.DeleteFunc(srv.swaps, func(t time.Time) bool { return now.Sub(t) > flapWithin }), now)
		flapping = srv.flaps(now)
	}
	h.mu.Unlock()

	attrs := []slog.Attr{
		slog.String("host", s.server), slog.Uint64("epoch", epoch), slog.String("remote", s.remote.String()),
	}
	if old != nil {
		old.endSoon(ctx, wire.Errorf(wire.CodeReplaced, "session %d took this one's place", epoch))
		attrs = append(attrs, slog.String("replaced_remote", old.remote.String()))
	}
	h.log.LogAttrs(ctx, slog.LevelInfo, "agent connected", attrs...)
	if flapping {
		h.log.LogAttrs(ctx, slog.LevelWarn, "duplicate identity: sessions of one server push each other off; was its key copied to another host?", attrs...)
	}
	return nil
}

// Flapping are the servers whose sessions push each other off, in either direction: two
// agents seem to have the same key.
func (h *Hub) Flapping() []string {
	now := h.cfg.Clock()
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	for name, srv := range h.servers {
		if srv.flaps(now) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// flaps reports whether there were too many swaps of late.
func (srv *server) flaps(now time.Time) bool {
	return len(srv.swaps) >= flapSwaps && now.Sub(srv.swaps[len(srv.swaps)-flapSwaps]) <= flapWithin
}

// leave takes the session out; its server is offline unless a newer session is there.
func (h *Hub) leave(ctx context.Context, s *session, err error) {
	h.mu.Lock()
	delete(h.sessions, s)
	s.notLate()
	srv := h.servers[s.server]
	current := srv != nil && srv.session == s
	if current {
		h.setSession(srv, nil)
		srv.report.Online, srv.report.Received = false, h.cfg.Clock()
	}
	h.mu.Unlock()
	if current {
		h.log.LogAttrs(ctx, slog.LevelInfo, "agent disconnected", slog.String("host", s.server), slog.Any("err", err))
		h.cfg.OnChange(s.server, nil)
	}
}

// notLate stops the timer. The caller holds the hub's lock.
func (s *session) notLate() {
	if s.late != nil {
		s.late.Stop()
		s.late = nil
	}
}

// setSession changes the session of a server and wakes who waits for that. The caller
// holds the lock.
func (h *Hub) setSession(srv *server, s *session) {
	srv.session = s
	if srv.changed != nil {
		close(srv.changed)
		srv.changed = nil
	}
	h.observed = nil
}
