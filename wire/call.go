package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// call is a request of ours that was not answered yet. Those of one peer form a list:
// there are seldom more than a few.
type call struct {
	id     uint32
	next   *call
	stream *inStream     // nil for a plain call
	done   chan struct{} // closed when the answer is there
	body   []byte
	err    error
}

// finish delivers the answer; it is called once.
func (c *call) finish(body []byte, err error) {
	if c.stream != nil {
		c.stream.finish(err)
		return
	}
	c.body, c.err = body, err
	close(c.done)
}

// callOf returns the call with an id, or nil. The caller holds the lock.
func (p *Peer) callOf(id uint32) *call {
	c := p.calls
	for c != nil && c.id != id {
		c = c.next
	}
	return c
}

// forget takes a call off the list. The caller holds the lock.
func (p *Peer) forget(c *call) {
	at := &p.calls
	for *at != c {
		at = &(*at).next
	}
	*at, c.next = c.next, nil
	p.pending--
	if c.stream != nil {
		p.streams--
	}
}

// Call asks and waits for the answer, which it decodes into resp. A nil req sends an
// empty body; a nil resp ignores the answer's. An error of the other side is an
// *Error; ErrClosed says that the connection ended first.
func (p *Peer) Call(ctx context.Context, verb Verb, req, resp any) error {
	body, err := p.exchange(ctx, verb, req)
	if err != nil {
		return fmt.Errorf("call %s: %w", verb, err)
	}
	if resp == nil {
		return nil
	}
	if err := Decode(body, resp); err != nil {
		return fmt.Errorf("answer to %s: %w", verb, err)
	}
	return nil
}

// exchange sends a request and waits for the body of its answer.
func (p *Peer) exchange(ctx context.Context, verb Verb, req any) ([]byte, error) {
	c := &call{done: make(chan struct{})}
	id, err := p.request(ctx, frameRequest, verb, req, c)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		p.cancelRequest(ctx, id)
		return nil, ctx.Err()
	}
	return c.body, c.err
}

// Notify tells without being answered. The other side may drop old notifications when
// it is slow.
func (p *Peer) Notify(ctx context.Context, verb Verb, v any) error {
	if err := p.notify(ctx, verb, v); err != nil {
		return fmt.Errorf("notify %s: %w", verb, err)
	}
	return nil
}

func (p *Peer) notify(ctx context.Context, verb Verb, v any) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	if len(body) > maxPayload/2 { // one frame, with room for the verb
		return Errorf(CodeTooLarge, "%d bytes are too many for a notification", len(body))
	}
	head, err := appendVerb(nil, verb)
	if err != nil {
		return err
	}
	return p.send(ctx, frameNotify, 0, head, body)
}

// OpenStream asks for a byte stream. An error of the other side comes from Read, after
// the bytes that were sent before it. ctx ends the stream, as Close does.
func (p *Peer) OpenStream(ctx context.Context, verb Verb, req any) (io.ReadCloser, error) {
	s := newInStream()
	id, err := p.request(ctx, frameOpen, verb, req, &call{stream: s})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", verb, err)
	}
	s.start(ctx, p, id)
	return s, nil
}

// request sends a request and remembers c as the one who waits for its answer.
func (p *Peer) request(ctx context.Context, kind frameType, verb Verb, req any, c *call) (uint32, error) {
	body, err := encode(req)
	if err != nil {
		return 0, err
	}
	if len(body) > maxBody-2*maxVerb {
		return 0, Errorf(CodeTooLarge, "a request of %d bytes", len(body))
	}
	var room [4 + 1 + maxVerb]byte
	head := room[:0]
	if kind == frameOpen {
		head = room[:4] // the window goes here
	}
	head, err = appendVerb(head, verb)
	if err != nil {
		return 0, err
	}
	if err := p.lock(ctx); err != nil {
		return 0, err
	}
	// Ids must ascend on the wire, so one is taken only while nobody else can write.
	id, err := p.register(c)
	if err != nil {
		p.unlock()
		return 0, err
	}
	if kind == frameOpen {
		binary.BigEndian.PutUint32(head, uint32(c.stream.window)) //nolint:gosec // at most largeWindow
	}
	return id, p.sendLocked(ctx, kind, id, head, body)
}

func (p *Peer) register(c *call) (uint32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.err != nil:
		return 0, fmt.Errorf("%w: %w", ErrClosed, p.err)
	case p.pending >= maxRequests:
		return 0, &Error{Code: CodeBusy, Message: "too many requests are under way", Retryable: true}
	case p.nextOwn > math.MaxUint32-2:
		return 0, fmt.Errorf("%w: it ran out of request ids", ErrClosed)
	}
	if c.stream != nil {
		c.stream.window = smallWindow
		if p.streams < largeStreams {
			c.stream.window = largeWindow
		}
		c.stream.room = c.stream.window
		p.streams++
	}
	id := p.nextOwn
	p.nextOwn += 2
	c.id, c.next, p.calls = id, p.calls, c
	p.pending++
	return id, nil
}

// cancelRequest tells the other side that nobody waits any more. The request stays
// registered until the other side answers, as it still counts there.
func (p *Peer) cancelRequest(ctx context.Context, id uint32) {
	ctx = context.WithoutCancel(ctx)
	p.task(func() { _ = p.send(ctx, frameCancel, id, nil, nil) })
}

// answered delivers the answer to a request of ours.
func (p *Peer) answered(f frame) error {
	p.mu.Lock()
	c := p.callOf(f.id)
	if c == nil {
		p.mu.Unlock()
		return errors.New("an answer nobody asked for")
	}
	body, err := p.assemble(f)
	if err != nil {
		p.mu.Unlock()
		return err
	}
	p.buffered -= len(body) // from here it is the caller's
	p.forget(c)
	p.mu.Unlock()
	if f.kind == frameError {
		c.finish(nil, remoteError(body))
	} else {
		c.finish(body, nil)
	}
	return nil
}

func (p *Peer) streamed(f frame) error {
	p.mu.Lock()
	c := p.callOf(f.id)
	p.mu.Unlock()
	if c == nil || c.stream == nil {
		return errors.New("stream bytes nobody asked for")
	}
	return c.stream.receive(f.payload)
}

// knowsCall reports whether the first part of an answer may come.
func (p *Peer) knowsCall(id uint32) error {
	if p.callOf(id) == nil {
		return errors.New("an answer nobody asked for")
	}
	return nil
}

// send writes one message, in parts when it is large.
func (p *Peer) send(ctx context.Context, kind frameType, id uint32, head, body []byte) error {
	if err := p.lock(ctx); err != nil {
		return err
	}
	return p.sendLocked(ctx, kind, id, head, body)
}

// sendLocked is send for a caller who has the right to write, and gives it back.
// Between the parts of a message others get their turn.
func (p *Peer) sendLocked(ctx context.Context, kind frameType, id uint32, head, body []byte) error {
	for len(head)+len(body) > maxPayload {
		piece := body[:maxPayload-len(head)]
		if err := p.writeFrame(framePart, id, head, piece); err != nil {
			return err
		}
		head, body = nil, body[len(piece):]
		// Once begun, a message is sent to its end: half a message would block its id.
		if err := p.lock(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	return p.writeFrame(kind, id, head, body)
}

// writeFrame writes and gives back the right to. After a failed write the connection
// is of no use: nobody knows how much of the frame went out.
func (p *Peer) writeFrame(kind frameType, id uint32, head, body []byte) error {
	buf := buffers.get()
	b := append(append(appendHeader((*buf)[:0], kind, id), head...), body...)
	err := p.conn.WriteMessage(b)
	buffers.put(buf)
	p.unlock()
	if err != nil {
		err = fmt.Errorf("write message: %w", err)
		p.fail(err)
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return nil
}

func (p *Peer) lock(ctx context.Context) error {
	select {
	case p.writing <- struct{}{}:
		return nil
	default:
	}
	select {
	case p.writing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Peer) unlock() { <-p.writing }
