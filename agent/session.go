package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

const (
	// helloTimeout bounds the opening of a session, closeTimeout the telling of its end.
	helloTimeout = 15 * time.Second
	closeTimeout = 2 * time.Second
)

// session is one authenticated connection to core, from Hello to its end.
type session struct {
	agent  *Agent
	log    *slog.Logger
	conn   *noise.Conn
	peer   *wire.Peer
	uplink *uplink
	// progress is dropped when full: news of what runs are worth nothing later.
	progress chan fleet.Progress
	// ready is closed when welcome is set; requests of core wait for it.
	ready   chan struct{}
	welcome wire.Welcome
	// key is the one that core accepted, refused those it did not before. rotations are the
	// changes of keys that core asks for.
	key       noise.PublicKey
	refused   []noise.PublicKey
	rotations chan string
	// remembered is closed when it is on disk whom the agent believes.
	remembered chan struct{}
	// done is closed when the session has ended, err says why.
	done chan struct{}
	err  error
	stop context.CancelFunc
}

// openSession says Hello over an authenticated connection. The session serves until
// close or the connection ends it; ctx bounds only the opening, since a session that is
// shut down still has to say so.
func openSession(
	ctx context.Context, a *Agent, conn *noise.Conn, key noise.PublicKey, refused []noise.PublicKey, log *slog.Logger,
) (*session, error) {
	runCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &session{
		agent: a, log: log, conn: conn, stop: stop, key: key, refused: refused, rotations: make(chan string, 1),
		remembered: make(chan struct{}),
		progress:   make(chan fleet.Progress, 256), ready: make(chan struct{}), done: make(chan struct{}),
	}
	s.peer = wire.NewPeer(conn, wire.PeerConfig{
		Initiator: true, Handler: s, Logger: log, PingEvery: a.cfg.KeepAlive, IdleTimeout: 3 * a.cfg.KeepAlive,
	})
	s.uplink = newUplink(a, s.peer, log)
	go s.run(runCtx)
	if err := s.hello(ctx); err != nil {
		s.close(ctx, wire.Errorf(wire.CodeProtocol, "the agent does not accept the answer to hello"))
		return nil, err
	}
	return s, nil
}

func (s *session) hello(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	hello := wire.Hello{
		Version: wire.Version, Server: s.agent.cfg.Server, Agent: s.agent.info, Running: s.agent.jobs.unfinished(),
		Resting: s.agent.rests.any(),
	}
	var welcome wire.Welcome
	if err := s.peer.Call(ctx, wire.VerbHello, hello, &welcome); err != nil {
		return err
	}
	switch {
	case welcome.Version < wire.MinVersion || welcome.Version > wire.Version:
		return wire.VersionMismatch(welcome.Version)
	case welcome.Retired:
		return errReplaced
	case welcome.Server != s.agent.cfg.Server:
		return fmt.Errorf("core knows this agent's key as %q, not as %q", welcome.Server, s.agent.cfg.Server)
	}
	s.welcome = welcome
	close(s.ready)
	return nil
}

// run owns the session's goroutines and ends when all of them have.
func (s *session) run(ctx context.Context) {
	defer close(s.done)
	defer s.stop()
	var wg sync.WaitGroup
	background := func(f func(context.Context) error) {
		wg.Go(func() {
			select {
			case <-s.ready:
			case <-ctx.Done():
				return
			}
			if err := f(ctx); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "giving the session up", slog.Any("err", err))
				s.stop()
			}
		})
	}
	background(s.uplink.run)
	background(s.sendProgress)
	background(s.keepKeys)
	s.err = s.peer.Run(ctx)
	s.stop()
	wg.Wait()
}

// close tells core why, ends the session and waits for its end.
func (s *session) close(ctx context.Context, reason *wire.Error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	s.peer.Close(ctx, reason)
	s.stop()
	<-s.done
}

func (s *session) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// needsRenewal reports whether a new session should take this one's place.
func (s *session) needsRenewal() bool { return s.conn.NeedsRenewal(time.Now()) }

func (s *session) sendProgress(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-s.progress:
			if err := s.peer.Notify(ctx, wire.VerbProgress, p); err != nil {
				return err
			}
		}
	}
}

// Serve answers core; it implements wire.Handler.
func (s *session) Serve(ctx context.Context, verb wire.Verb, body []byte, stream io.Writer) (any, error) {
	select {
	case <-s.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	switch verb {
	case wire.VerbApply:
		var req wire.OrderRequest
		if err := wire.Decode(body, &req); err != nil {
			return nil, err
		}
		return s.apply(ctx, req)
	case wire.VerbCancel:
		var req wire.CancelRequest
		if err := wire.Decode(body, &req); err != nil {
			return nil, err
		}
		s.agent.jobs.cancel(req.Order)
		return nil, nil
	case wire.VerbObserve:
		return s.uplink.ask(ctx)
	case wire.VerbLogs:
		var req wire.LogsRequest
		if err := wire.Decode(body, &req); err != nil {
			return nil, err
		}
		return nil, s.logs(ctx, req, stream)
	case wire.VerbHost:
		var req wire.HostRequest
		if err := wire.Decode(body, &req); err != nil {
			return nil, err
		}
		return s.host(ctx, req)
	case wire.VerbFiles:
		return nil, s.files(ctx, body, stream)
	case wire.VerbProjects:
		list, err := s.agent.cfg.Engine.Projects(ctx)
		return list, answer(ctx, err)
	case wire.VerbRotate:
		var req wire.RotateStart
		if err := wire.Decode(body, &req); err != nil {
			return nil, err
		}
		return nil, s.rotate(ctx, req)
	case wire.VerbCoreKey:
		var req wire.CoreKeys
		if err := wire.Decode(body, &req); err != nil {
			return nil, err
		}
		return nil, s.coreKeys(ctx, req)
	case wire.VerbRest:
		var rests wire.Rests
		if err := wire.Decode(body, &rests); err != nil {
			return nil, err
		}
		return nil, answer(ctx, s.agent.rests.replace(rests))
	case wire.VerbHello, wire.VerbReport, wire.VerbBlobs, wire.VerbProgress, wire.VerbResult, wire.VerbRegistry, wire.VerbCommit,
		wire.VerbRotatePropose, wire.VerbRotateConfirm:
	}
	return nil, wire.UnknownVerb(verb)
}

// current refuses what was asked over a session that is not the newest any more.
func (s *session) current(epoch uint64) error {
	if newest := s.agent.sessions.epoch(); epoch != s.welcome.Epoch || epoch < newest {
		return &wire.Error{
			Code:      wire.CodeStale,
			Message:   fmt.Sprintf("the request is of epoch %d, this session has %d and the newest %d", epoch, s.welcome.Epoch, newest),
			Retryable: true,
		}
	}
	return nil
}

// files streams files of the host.
func (s *session) files(ctx context.Context, body []byte, stream io.Writer) error {
	var req wire.FilesRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	if stream == nil {
		return wire.Errorf(wire.CodeBadRequest, "files come as a stream")
	}
	return answer(ctx, s.agent.cfg.Engine.Files(ctx, req, stream))
}

// host works on the engine and answers when it is done.
func (s *session) host(ctx context.Context, req wire.HostRequest) (any, error) {
	if err := s.current(req.Epoch); err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "host task", slog.String("kind", string(req.Task.Kind)), slog.String("target", req.Task.Target))
	text, err := s.agent.cfg.Engine.Host(ctx, req.Task)
	if err != nil {
		if known, ok := errors.AsType[*wire.Error](err); ok {
			return nil, known
		}
		return nil, &wire.Error{Code: wire.CodeInternal, Message: err.Error()}
	}
	return wire.HostResult{Text: text}, nil
}

// apply takes an order. It is idempotent: the same order again attaches to the work
// under way or is answered with what became of it.
func (s *session) apply(ctx context.Context, req wire.OrderRequest) (any, error) {
	order := req.Order
	if err := s.current(req.Epoch); err != nil {
		return nil, err
	}
	switch {
	case order.ID == "" || order.Stack == "":
		return nil, wire.Errorf(wire.CodeBadRequest, "an order needs an id and a stack")
	case order.Server != s.agent.cfg.Server:
		return nil, wire.Errorf(wire.CodeDenied, "the order is for server %q, this is %q", order.Server, s.agent.cfg.Server)
	}
	outcome, err := s.agent.jobs.accept(order)
	switch {
	case errors.Is(err, errStopping):
		return nil, &wire.Error{Code: wire.CodeShutdown, Message: err.Error(), Retryable: true}
	case errors.Is(err, errTooMany), errors.Is(err, errLowDisk):
		return nil, &wire.Error{Code: wire.CodeBusy, Message: err.Error(), Retryable: true}
	case err != nil:
		s.log.ErrorContext(ctx, "an order could not be recorded", slog.String("order", order.ID), slog.Any("err", err))
		return nil, &wire.Error{Code: wire.CodeInternal, Message: "the agent cannot record orders: " + err.Error(), Retryable: true}
	}
	return wire.Accepted{Outcome: outcome}, nil
}

func (s *session) logs(ctx context.Context, req wire.LogsRequest, stream io.Writer) error {
	if stream == nil || req.Stack == "" {
		return wire.Errorf(wire.CodeBadRequest, "logs are a stream of one stack")
	}
	return answer(ctx, s.agent.cfg.Engine.Logs(ctx, req, stream))
}

// answer is how an error of the engine crosses the wire.
func answer(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // nobody reads any more
	}
	if err == nil {
		return nil
	}
	if known, ok := errors.AsType[*wire.Error](err); ok {
		return known
	}
	return &wire.Error{Code: wire.CodeInternal, Message: err.Error(), Retryable: true}
}

// sessions knows which session is current.
type sessions struct {
	mu      sync.Mutex
	current *session
	newest  uint64
	changed chan struct{} // closed and replaced when current changes
}

func newSessions() *sessions { return &sessions{changed: make(chan struct{})} }

// set makes s current, unless core has opened a newer one since: of two connections made at
// a time, core's numbers say which one counts.
func (c *sessions) set(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil && c.current.welcome.Epoch > s.welcome.Epoch && !c.current.ended() {
		return
	}
	c.current, c.newest = s, s.welcome.Epoch
	c.wake()
}

// drop says that s is over.
func (c *sessions) drop(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == s {
		c.current = nil
		c.wake()
	}
}

// wake tells who waits for a change. The caller holds the lock.
func (c *sessions) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// get returns the current session, or nil.
func (c *sessions) get() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// epoch is that of the newest session there was.
func (c *sessions) epoch() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newest
}

// await returns the current session, waiting for one if need be.
func (c *sessions) await(ctx context.Context) (*session, error) {
	for {
		c.mu.Lock()
		s, changed := c.current, c.changed
		c.mu.Unlock()
		if s != nil {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
