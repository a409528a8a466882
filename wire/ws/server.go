package ws

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/varanhq/varan/wire"
)

// ServerConn is the end that was dialled: core's, unless core dials agents. A core has thousands of them, nearly all idle, so it
// frames by itself: it holds no buffer and waits at the top of its stack, which keeps
// that stack as small as a goroutine's can be.
type ServerConn struct {
	conn net.Conn

	// ahead holds what was read while looking for a header and not used yet. A short
	// message fits in as a whole and takes one read.
	ahead    [80]byte
	from, to uint8
	controls uint8 // pings and pongs since the last message

	// The frame whose header was read last.
	begun bool // it belongs to a message that was not returned yet
	final bool // it is the last of its message
	left  int  // bytes of its payload not read yet
	mask  [4]byte

	writing sync.Mutex
}

// The opcodes of RFC 6455.
const (
	opContinuation = 0x0
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
	finBit         = 0x80
	maskBit        = 0x80
	maxControl     = 125
)

var (
	_ wire.MessageConn   = (*ServerConn)(nil)
	_ wire.MessageWaiter = (*ServerConn)(nil)
)

// Upgrade makes a WebSocket of an HTTP request, or answers it with an error. The
// handler must return soon after: its goroutine holds buffers the connection does not
// need.
func Upgrade(w http.ResponseWriter, r *http.Request) (*ServerConn, error) {
	upgrader := websocket.Upgrader{
		ReadBufferSize:  1, // none of the library's buffers is ever used
		WriteBufferSize: 1,
		// Agents are no browsers.
		CheckOrigin: func(r *http.Request) bool { return r.Header.Get("Origin") == "" },
	}
	socket, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return nil, fmt.Errorf("upgrade to websocket: %w", err)
	}
	// The library has answered the request and read nothing after it.
	return &ServerConn{conn: socket.NetConn()}, nil
}

// WaitMessage waits for a message to begin. It holds no buffer.
func (c *ServerConn) WaitMessage() error {
	for !c.begun {
		if c.from == c.to {
			if err := c.fill(); err != nil {
				return err
			}
		}
		if err := c.nextFrame(); err != nil {
			return err
		}
	}
	return nil
}

// ReadMessage implements wire.MessageConn.
func (c *ServerConn) ReadMessage(buf []byte) ([]byte, error) {
	if err := c.WaitMessage(); err != nil {
		return nil, err
	}
	buf = buf[:0]
	for {
		var err error
		if buf, err = c.readPayload(buf); err != nil {
			return nil, err
		}
		if c.final {
			c.begun, c.controls = false, 0
			return buf, nil
		}
		// The rest of a message that came in pieces.
		for more := true; more; more = c.left < 0 {
			if err := c.nextFrame(); err != nil {
				return nil, err
			}
		}
	}
}

// readPayload appends what is left of the frame to b.
func (c *ServerConn) readPayload(b []byte) ([]byte, error) {
	start := len(b)
	if start+c.left > wire.MaxMessage {
		return nil, errors.New("websocket message that is too large")
	}
	if cap(b) < start+c.left {
		b = append(make([]byte, 0, start+c.left), b...)
	}
	b = b[:start+c.left]
	n := copy(b[start:], c.ahead[c.from:c.to])
	c.from += uint8(n) //nolint:gosec // at most what ahead has
	if _, err := io.ReadFull(c.conn, b[start+n:]); err != nil {
		return nil, readFailed(err)
	}
	unmask(b[start:], c.mask)
	c.left = 0
	return b, nil
}

// nextFrame reads a header. It deals with control frames, after which left is -1.
func (c *ServerConn) nextFrame() error {
	head, err := c.need(2)
	if err != nil {
		return err
	}
	op, size := head[0], int(head[1]&^maskBit)
	if head[1]&maskBit == 0 {
		return errors.New("websocket frame of a client that is not masked")
	}
	long := 0 // the length's own length
	switch size {
	case 126:
		long = 2
	case 127:
		long = 8
	}
	if head, err = c.need(2 + long + 4); err != nil {
		return err
	}
	switch length := head[2:]; long {
	case 2:
		size = int(binary.BigEndian.Uint16(length))
	case 8:
		size = int(min(binary.BigEndian.Uint64(length), 1<<31))
	}
	copy(c.mask[:], head[2+long:])
	c.from += uint8(2 + long + 4)
	return c.begin(op, size)
}

// begin checks the frame in its context.
func (c *ServerConn) begin(op byte, size int) error {
	switch op {
	case opClose | finBit, opPing | finBit, opPong | finBit:
		return c.control(op&^finBit, size)
	case opBinary, opBinary | finBit:
		if c.begun {
			return errors.New("websocket message within another")
		}
	case opContinuation, opContinuation | finBit:
		if !c.begun {
			return errors.New("websocket continuation of nothing")
		}
		if size == 0 {
			return errors.New("websocket continuation without content")
		}
	default:
		return fmt.Errorf("websocket frame of type %#02x: messages are binary", op)
	}
	if size > wire.MaxMessage {
		return errors.New("websocket message that is too large")
	}
	c.begun, c.final, c.left = true, op&finBit != 0, size
	return nil
}

// control deals with a control frame.
func (c *ServerConn) control(op byte, size int) error {
	c.controls++
	if size > maxControl || c.controls > maxControls {
		return errors.New("websocket control frame that is too large, or one too many")
	}
	c.left = size
	payload, err := c.readPayload(make([]byte, 0, size))
	if err != nil {
		return err
	}
	c.left = -1
	switch op {
	case opPing:
		return c.writeFrame(opPong, payload)
	case opClose:
		return fmt.Errorf("websocket closed by the other side: %w", io.ErrUnexpectedEOF)
	}
	return nil
}

// need returns a view of at least n bytes that were read ahead.
func (c *ServerConn) need(n int) ([]byte, error) {
	for int(c.to-c.from) < n {
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
	return c.ahead[c.from:c.to], nil
}

// fill reads once, as much as there is room for.
func (c *ServerConn) fill() error {
	copy(c.ahead[:], c.ahead[c.from:c.to])
	c.from, c.to = 0, c.to-c.from
	n, err := c.conn.Read(c.ahead[c.to:])
	c.to += uint8(n) //nolint:gosec // at most what ahead has
	if n == 0 && err != nil {
		return readFailed(err)
	}
	return nil
}

func readFailed(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read websocket: %w", err)
}

// unmask is its own reverse.
func unmask(b []byte, mask [4]byte) {
	wide := uint64(binary.LittleEndian.Uint32(mask[:]))
	wide |= wide << 32
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= mask[i&3]
	}
}

// WriteMessage implements wire.MessageConn.
func (c *ServerConn) WriteMessage(p []byte) error {
	if len(p) > wire.MaxMessage {
		return fmt.Errorf("websocket message of %d bytes is too large", len(p))
	}
	return c.writeFrame(opBinary, p)
}

// frames are buffers for a frame each, while it is written.
var frames = sync.Pool{New: func() any { return new([4 + wire.MaxMessage]byte) }}

// writeFrame writes a frame in one call.
func (c *ServerConn) writeFrame(op byte, payload []byte) error {
	buf, ok := frames.Get().(*[4 + wire.MaxMessage]byte)
	if !ok {
		return errors.New("unreachable: the pool holds one type")
	}
	defer frames.Put(buf)
	size := len(payload)
	buf[0], buf[1] = op|finBit, byte(size) //nolint:gosec // replaced when it does not fit
	b := buf[:2]
	if size > maxControl {
		buf[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(size)) //nolint:gosec // at most MaxMessage
	}
	b = append(b, payload...)
	c.writing.Lock()
	defer c.writing.Unlock()
	if _, err := c.conn.Write(b); err != nil {
		return fmt.Errorf("write websocket message: %w", err)
	}
	return nil
}

// SetReadDeadline implements wire.MessageConn. It bounds writes as well, so that a write
// needs no timer of its own; one that is under way keeps the bound it began with, or an
// agent that sends but does not read could hold it up for ever.
func (c *ServerConn) SetReadDeadline(t time.Time) error {
	if c.writing.TryLock() {
		defer c.writing.Unlock()
		return c.conn.SetDeadline(t)
	}
	return c.conn.SetReadDeadline(t)
}

// Close implements wire.MessageConn. There is no closing handshake: what needs saying
// was said inside.
func (c *ServerConn) Close() error { return c.conn.Close() }
