package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

// Handler answers what the other side asks.
type Handler interface {
	// Serve answers one request. The result is sent as JSON; nil is an empty answer. An
	// error that is an *Error reaches the other side as it is. ctx ends when the other
	// side does not wait any more or the connection ends.
	//
	// When the other side opened a byte stream, stream takes its bytes and the result is
	// ignored; otherwise stream is nil. Requests are served concurrently, at most 256
	// of one peer; notifications one after the other.
	Serve(ctx context.Context, verb Verb, body []byte, stream io.Writer) (any, error)
}

// HandlerFunc is a Handler that is a function.
type HandlerFunc func(ctx context.Context, verb Verb, body []byte, stream io.Writer) (any, error)

// Serve calls f.
func (f HandlerFunc) Serve(ctx context.Context, verb Verb, body []byte, stream io.Writer) (any, error) {
	return f(ctx, verb, body, stream)
}

// PeerConfig says how a Peer behaves.
type PeerConfig struct {
	// Initiator is set on the side that dialed. It pings; the other side only listens.
	Initiator bool
	// Handler answers requests. Optional: without one every request is refused.
	Handler Handler
	// Logger gets what neither side asked for. Optional, default discards.
	Logger *slog.Logger
	// IdleTimeout closes a connection on which nothing arrives for so long, or for two
	// thirds of it. Optional, default 75 s.
	IdleTimeout time.Duration
	// PingEvery is how often the initiator pings. Optional, default 25 s.
	PingEvery time.Duration
}

// Peer is one end of a connection: it asks and answers requests and byte streams, any
// number at once. Run must be running for anything to be received. All methods are
// safe for concurrent use.
type Peer struct {
	conn MessageConn
	cfg  PeerConfig

	// writing holds a value while someone writes; a channel, so that waiting for it can
	// be given up.
	writing chan struct{}

	mu       sync.Mutex
	err      error               // why the connection ended; nil while it lives
	closing  bool                // Close was called: whatever ends the connection, we chose it
	nextOwn  uint32              // the id of our next request
	lastPeer uint32              // the id of the other side's last
	calls    *call               // ours, until answered
	pending  int                 // how many calls there are
	streams  int                 // how many of them are streams
	serving  map[uint32]*serving // theirs, until answered
	parts    map[uint32][]byte   // messages of which the last part is missing
	buffered int                 // bytes in parts and in requests being served
	notes    []note              // notifications not handled yet
	noting   func()              // stops whoever handles notes; nil when nobody does
	ponging  bool                // someone sends a pong
	tasks    sync.WaitGroup
}

// buffers is shared by all peers: what matters is how many messages are under way at
// an instant, not how many connections there are.
var buffers bufferPool

// NewPeer makes a peer of a connection. From here on the peer owns it.
func NewPeer(conn MessageConn, cfg PeerConfig) *Peer {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.IdleTimeout <= 0 {
		cfg.IdleTimeout = 75 * time.Second
	}
	if cfg.PingEvery <= 0 {
		cfg.PingEvery = 25 * time.Second
	}
	p := &Peer{conn: conn, cfg: cfg, writing: make(chan struct{}, 1), nextOwn: 2}
	if cfg.Initiator {
		p.nextOwn = 1
	}
	return p
}

// Run receives until the connection ends, and returns why. It returns nil when ctx or
// Close ended it. It waits for the handlers it started.
func (p *Peer) Run(ctx context.Context) error {
	ended := make(chan error, 1)
	p.Start(ctx, func(err error) { ended <- err })
	return <-ended
}

// Start is Run for those who cannot keep a goroutine waiting for each peer: it returns
// at once and calls ended with what Run would return.
func (p *Peer) Start(ctx context.Context, ended func(error)) {
	// A core has thousands of idle peers: what is not needed is not made.
	stops := make([]func() bool, 0, 2)
	if ctx.Done() != nil {
		stops = append(stops, context.AfterFunc(ctx, func() { p.fail(errStopped) }))
	}
	if p.cfg.Initiator {
		ctx, stop := context.WithCancel(ctx)
		stops = append(stops, func() bool { stop(); return true })
		p.task(func() { p.ping(ctx) })
	}
	p.tasks.Go(func() {
		armed, err := p.arm(time.Time{})
		if err != nil {
			p.fail(err) // the first read says so
		}
		p.receive(ctx, armed, func(err error) {
			p.fail(err)
			for _, stop := range stops {
				stop()
			}
			p.tasks.Wait()
			ended(p.reason())
		})
	})
}

// reason is why the connection ended, nil when we chose to end it.
func (p *Peer) reason() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing || errors.Is(p.err, errStopped) {
		return nil
	}
	return p.err
}

// errStopped is why a connection ended that we chose to end.
var errStopped = errors.New("stopped")

// Close tells the other side why and ends the connection, at the latest when ctx ends.
func (p *Peer) Close(ctx context.Context, reason *Error) {
	p.mu.Lock()
	p.closing = p.closing || p.err == nil
	p.mu.Unlock()
	defer context.AfterFunc(ctx, func() { p.fail(errStopped) })()
	if payload, err := encode(reason); err == nil {
		_ = p.send(ctx, frameBye, 0, nil, payload)
	}
	p.fail(errStopped)
}

// fail ends the connection, once: nothing of it can be used after an error.
func (p *Peer) fail(err error) {
	p.mu.Lock()
	if p.err != nil {
		p.mu.Unlock()
		return
	}
	p.err = err
	calls, serving, noting := p.calls, p.serving, p.noting
	p.calls, p.serving, p.parts, p.notes = nil, nil, nil, nil
	p.mu.Unlock()
	_ = p.conn.Close()
	closed := fmt.Errorf("%w: %w", ErrClosed, err)
	for calls != nil {
		c := calls
		calls = c.next
		c.finish(nil, closed)
	}
	for _, s := range serving {
		s.cancel()
	}
	if noting != nil {
		noting()
	}
}

// task runs f unless the connection has ended. Run waits for it.
func (p *Peer) task(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.tasks.Go(f)
	}
}

// receive reads until something fails, and then has finish called. It never writes: two
// peers that both wait to write while nobody reads would wait for each other.
//
// When a frame makes work, this goroutine does the work and a new one goes on reading.
// The other way round would do as well, but so the answer does not wait for the next
// read to find nothing, and an idle peer waits on a fresh stack: that of a goroutine
// that has decrypted a message is twice as large, and never shrinks.
func (p *Peer) receive(ctx context.Context, armed time.Time, finish func(error)) {
	waiter, canWait := p.conn.(MessageWaiter)
	for {
		var err error
		if canWait {
			err = waiter.WaitMessage()
		}
		var work func()
		if err == nil {
			work, err = p.receiveOne(ctx)
		}
		if err == nil {
			armed, err = p.arm(armed)
		}
		switch {
		case err != nil:
			go finish(fmt.Errorf("receive: %w", err)) // it waits for this goroutine too
			return
		case work != nil:
			p.tasks.Go(func() { p.receive(ctx, armed, finish) })
			work()
			return
		}
	}
}

// arm moves the read deadline, unless it was moved not long ago: a timer costs as much
// as the rest of a call. So a connection is given up after two thirds of the timeout at
// the earliest, and a ping moves the deadline while calls between pings do not.
func (p *Peer) arm(armed time.Time) (time.Time, error) {
	now := time.Now()
	if now.Sub(armed) < p.cfg.IdleTimeout/3 {
		return armed, nil
	}
	return now, p.conn.SetReadDeadline(now.Add(p.cfg.IdleTimeout))
}

func (p *Peer) receiveOne(ctx context.Context) (work func(), err error) {
	buf := buffers.get()
	defer buffers.put(buf)
	message, err := p.conn.ReadMessage(*buf)
	if err != nil {
		return nil, err
	}
	f, err := parseFrame(message)
	if err != nil {
		return nil, err
	}
	return p.handle(ctx, f)
}

// handle acts on a frame, whose payload lives only until it returns. What takes time
// is returned as work.
func (p *Peer) handle(ctx context.Context, f frame) (work func(), err error) {
	switch f.kind {
	case framePing:
		return p.pong(ctx), nil
	case framePong:
		return nil, nil
	case frameBye:
		return nil, remoteError(f.payload)
	case frameNotify:
		return p.notified(ctx, f.payload)
	case framePart, frameRequest, frameOpen, frameResponse, frameError, frameData, frameCredit, frameCancel:
	}
	ours := (f.id%2 == 1) == p.cfg.Initiator
	switch {
	case ours && (f.kind == frameResponse || f.kind == frameError):
		err = p.answered(f)
	case ours && f.kind == frameData:
		err = p.streamed(f)
	case ours && f.kind == framePart:
		err = p.keepPart(f, p.knowsCall)
	case !ours && f.kind == framePart:
		err = p.keepPart(f, p.newRequest)
	case !ours && (f.kind == frameRequest || f.kind == frameOpen):
		work, err = p.requested(ctx, f)
	case !ours && (f.kind == frameCredit || f.kind == frameCancel):
		err = p.steered(f)
	default:
		err = errors.New("frame for the other side's request")
	}
	if err != nil {
		return nil, fmt.Errorf("frame of type %d for request %d: %w", f.kind, f.id, err)
	}
	return work, nil
}

// keepPart stores a piece of a message. known is asked, under the lock, whether the
// first piece may come at all.
func (p *Peer) keepPart(f frame, known func(id uint32) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	part, started := p.parts[f.id]
	if !started {
		if err := known(f.id); err != nil {
			return err
		}
	}
	if err := p.reserve(len(part), len(f.payload)); err != nil {
		return err
	}
	if p.parts == nil {
		p.parts = make(map[uint32][]byte)
	}
	p.parts[f.id] = append(part, f.payload...)
	return nil
}

// assemble returns the whole message that f ends; it still counts as buffered. The
// caller holds the lock. The result does not share memory with f.
func (p *Peer) assemble(f frame) (message []byte, err error) {
	part := p.parts[f.id]
	if err := p.reserve(len(part), len(f.payload)); err != nil {
		return nil, err
	}
	delete(p.parts, f.id)
	if len(p.parts) == 0 {
		p.parts = nil // an empty map keeps its memory
	}
	if len(part) == 0 && len(f.payload) == 0 {
		return nil, nil
	}
	return append(part, f.payload...), nil
}

// reserve counts more bytes as buffered, on top of what a message already has.
func (p *Peer) reserve(has, more int) error {
	if has+more > maxBody || p.buffered+more > maxBuffered {
		return Errorf(CodeTooLarge, "too many bytes are waiting to be handled")
	}
	p.buffered += more
	return nil
}

// ping keeps proxies from closing the connection and makes both sides notice when it
// is gone.
func (p *Peer) ping(ctx context.Context) {
	ticker := time.NewTicker(p.cfg.PingEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := p.send(ctx, framePing, 0, nil, nil); err != nil {
			return
		}
	}
}

// pong answers pings; several that arrive while one answer is on its way get one.
func (p *Peer) pong(ctx context.Context) (work func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ponging {
		return nil
	}
	p.ponging = true
	return func() {
		_ = p.send(ctx, framePong, 0, nil, nil) // a failed write has ended the connection
		p.mu.Lock()
		p.ponging = false
		p.mu.Unlock()
	}
}
