package wire

import (
	"io"
	"os"
	"sync"
	"time"
)

// MaxMessage is the largest message a MessageConn carries, encryption included.
const MaxMessage = 65535

// MessageConn moves whole messages, in order, to one peer. One goroutine may read
// while another writes.
type MessageConn interface {
	// ReadMessage returns the next message. It uses the room that buf has and returns
	// another slice when that is too small; what buf holds is lost.
	ReadMessage(buf []byte) ([]byte, error)
	// WriteMessage sends p, or fails within a time of its own. It may overwrite p and
	// the capacity behind it, so that encryption needs no copy.
	WriteMessage(p []byte) error
	// SetReadDeadline bounds reads, one that is under way included.
	SetReadDeadline(t time.Time) error
	// Close ends reads and writes that are under way.
	Close() error
}

// MessageWaiter is a MessageConn that can wait for a message without holding a buffer
// for it. WaitMessage returns when ReadMessage would have something to do.
type MessageWaiter interface {
	WaitMessage() error
}

// pipeDepth is how many messages one side of a Pipe may be ahead of the other.
const pipeDepth = 16

// Pipe returns the two ends of a connection in memory.
func Pipe() (a, b MessageConn) {
	ab, ba := make(chan []byte, pipeDepth), make(chan []byte, pipeDepth)
	closed, once := make(chan struct{}), new(sync.Once)
	closer := func() { once.Do(func() { close(closed) }) }
	return &pipeEnd{in: ba, out: ab, closed: closed, close: closer, rearm: make(chan struct{}, 1)},
		&pipeEnd{in: ab, out: ba, closed: closed, close: closer, rearm: make(chan struct{}, 1)}
}

type pipeEnd struct {
	in     <-chan []byte
	out    chan<- []byte
	closed <-chan struct{}
	close  func()

	mu       sync.Mutex
	deadline time.Time
	rearm    chan struct{} // wakes a reader when the deadline moves
}

func (e *pipeEnd) ReadMessage(buf []byte) ([]byte, error) {
	for {
		message, again, err := e.read()
		if !again {
			return append(buf[:0], message...), err
		}
	}
}

// read waits for one message under the deadline as it is now; again asks to be called
// again because the deadline moved.
func (e *pipeEnd) read() (message []byte, again bool, err error) {
	e.mu.Lock()
	deadline := e.deadline
	e.mu.Unlock()
	var expired <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case message = <-e.in:
		return message, false, nil
	case <-e.closed:
		select {
		case message = <-e.in: // what was sent before the close still arrives
			return message, false, nil
		default:
			return nil, false, io.EOF
		}
	case <-expired:
		return nil, false, os.ErrDeadlineExceeded
	case <-e.rearm:
		return nil, true, nil
	}
}

func (e *pipeEnd) WriteMessage(p []byte) error {
	select {
	case <-e.closed:
		return io.ErrClosedPipe
	default:
	}
	select {
	case e.out <- append([]byte(nil), p...):
		return nil
	case <-e.closed:
		return io.ErrClosedPipe
	}
}

func (e *pipeEnd) SetReadDeadline(t time.Time) error {
	e.mu.Lock()
	e.deadline = t
	e.mu.Unlock()
	select {
	case e.rearm <- struct{}{}:
	default:
	}
	return nil
}

func (e *pipeEnd) Close() error {
	e.close()
	return nil
}
