package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

// inStream is the reading end of a byte stream that this side asked for.
type inStream struct {
	window int // what the other side may send before we read
	grant  func(n int) error
	cancel func()

	mu     sync.Mutex
	buf    []byte // received
	off    int    // of that, read
	room   int    // what the other side may still send
	unpaid int    // read since the last credit
	err    error  // what Read returns once buf is empty
	ended  bool   // the other side sent its last
	wake   chan struct{}
	detach func() bool // stops following the context
}

func newInStream() *inStream { return &inStream{wake: make(chan struct{}, 1)} }

// start gives the stream what it needs to steer the other side. Bytes may have arrived
// before.
func (s *inStream) start(ctx context.Context, p *Peer, id uint32) {
	s.grant = func(n int) error {
		return p.send(ctx, frameCredit, id, nil, binary.BigEndian.AppendUint32(nil, uint32(n))) //nolint:gosec // at most the window
	}
	s.cancel = func() { p.cancelRequest(ctx, id) }
	detach := context.AfterFunc(ctx, func() { s.abandon(ctx.Err()) })
	s.mu.Lock()
	s.detach = detach
	ended := s.ended
	s.mu.Unlock()
	if ended {
		detach()
	}
}

// Read returns what the other side sent, and its error, or io.EOF, after all of it.
func (s *inStream) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, credit, err := s.take(b)
		if credit > 0 {
			// When the connection fails here, the next Read says so.
			_ = s.grant(credit)
		}
		if n > 0 || err != nil {
			return n, err
		}
		<-s.wake
	}
}

func (s *inStream) take(b []byte) (n, credit int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off == len(s.buf) {
		return 0, 0, s.err
	}
	n = copy(b, s.buf[s.off:])
	s.off += n
	s.unpaid += n
	if s.off == len(s.buf) {
		s.buf, s.off = s.buf[:0], 0
	}
	if s.unpaid >= s.window/2 && s.err == nil {
		credit, s.unpaid = s.unpaid, 0
		s.room += credit
	}
	return n, credit, nil
}

// Close ends the stream; the other side is told when it was not through.
func (s *inStream) Close() error {
	s.abandon(io.ErrClosedPipe)
	return nil
}

// abandon stops reading: what still comes is dropped.
func (s *inStream) abandon(err error) {
	s.mu.Lock()
	first := s.err == nil
	if first {
		s.err = err
	}
	s.buf, s.off = nil, 0
	s.mu.Unlock()
	if first {
		s.signal()
		s.cancel()
	}
}

// receive stores bytes from the other side.
func (s *inStream) receive(data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(data) > s.room {
		return errors.New("more bytes than the stream's window has room for")
	}
	s.room -= len(data)
	if s.err != nil {
		return nil
	}
	if s.off > len(s.buf)/2 { // what was read makes room for what comes
		s.buf, s.off = s.buf[:copy(s.buf, s.buf[s.off:])], 0
	}
	s.buf = append(s.buf, data...)
	s.signal()
	return nil
}

// finish is called once, when the other side ended the stream or the connection did.
func (s *inStream) finish(err error) {
	if err == nil {
		err = io.EOF
	}
	s.mu.Lock()
	s.ended = true
	if s.err == nil {
		s.err = err
	}
	detach := s.detach
	s.mu.Unlock()
	if detach != nil {
		detach()
	}
	s.signal()
}

func (s *inStream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// outStream is the writing end of a byte stream that the other side asked for. Each
// Write is at least one frame: put a bufio.Writer before it for small ones.
type outStream struct {
	send func(p []byte) error
	done <-chan struct{} // nobody reads any more

	mu    sync.Mutex
	room  int // what we may send
	ended bool
	wake  chan struct{}
}

func newOutStream(ctx context.Context, p *Peer, id uint32, window int) *outStream {
	return &outStream{
		send: func(b []byte) error { return p.send(ctx, frameData, id, nil, b) },
		done: ctx.Done(),
		room: window,
		wake: make(chan struct{}, 1),
	}
}

// Write sends all of b, as fast as the other side reads.
func (s *outStream) Write(b []byte) (n int, err error) {
	for n < len(b) {
		piece, err := s.reserve(min(len(b)-n, maxPayload))
		if err != nil {
			return n, err
		}
		if piece == 0 {
			select {
			case <-s.wake:
			case <-s.done:
			}
			continue
		}
		if err := s.send(b[n : n+piece]); err != nil {
			return n, err
		}
		n += piece
	}
	return n, nil
}

// reserve takes up to n bytes of the room there is.
func (s *outStream) reserve(n int) (int, error) {
	select {
	case <-s.done:
		return 0, context.Canceled
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return 0, io.ErrClosedPipe
	}
	n = min(n, s.room)
	s.room -= n
	return n, nil
}

// end makes writes fail: nothing may follow the answer, not even from a handler that
// left a goroutine behind.
func (s *outStream) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
}

func (s *outStream) credit(n uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room+int(n) > maxCredit {
		return errors.New("credit overflow")
	}
	s.room += int(n)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}
