package noise

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flynn/noise"

	"github.com/varanhq/varan/wire"
)

const (
	tagSize = 16
	// Keys are due for renewal after a day, 2^32 messages or 1 TiB, whichever is first,
	// and useless after twice the messages or bytes.
	lifetime    = 24 * time.Hour
	maxMessages = 1 << 32
	maxBytes    = 1 << 40
)

// ErrRefused is what an agent gets when the core does not let it in. It is not
// authenticated and gives no reason: the core's log has it.
var ErrRefused = errors.New("the core refused this agent")

// ErrClosed is what a connection returns after it failed or was closed.
var ErrClosed = errors.New("noise connection is closed")

// Conn is an authenticated connection. Any error closes it for good: after a message
// that does not decrypt, or that went out in part, nothing can be trusted.
type Conn struct {
	conn    wire.MessageConn
	peer    PublicKey
	binding [32]byte
	renewAt time.Time

	dead atomic.Bool // an error happened, or Close

	writing sync.Mutex // messages must go out in the order of their nonces
	send    *noise.CipherState
	sent    uint64 // bytes

	recv     *noise.CipherState
	received uint64 // bytes
}

// transport is the suite of established connections, which use only its cipher.
var transport noise.CipherSuite = newSuite(noise.DH25519)

// newConn takes over after a handshake. The cipher states are rebuilt on a suite that
// all connections share: the handshake's own would keep its keys alive.
func newConn(conn wire.MessageConn, hs *noise.HandshakeState, send, recv *noise.CipherState) *Conn {
	spread := time.Duration((rand.Float64() - 0.5) * 0.2 * float64(lifetime)) //nolint:gosec // spreads load, guards nothing
	return &Conn{
		conn:    conn,
		peer:    PublicKey(hs.PeerStatic()),
		binding: [32]byte(hs.ChannelBinding()),
		renewAt: time.Now().Add(lifetime + spread),
		send:    noise.UnsafeNewCipherState(transport, send.UnsafeKey(), send.Nonce()),
		recv:    noise.UnsafeNewCipherState(transport, recv.UnsafeKey(), recv.Nonce()),
	}
}

// Peer is the key the other side proved to have.
func (c *Conn) Peer() PublicKey { return c.peer }

// Binding is the same on both ends of this connection and on no other: what it is
// mixed into cannot be replayed elsewhere.
func (c *Conn) Binding() [32]byte { return c.binding }

// NeedsRenewal reports whether the agent should dial a new connection and then close
// this one.
func (c *Conn) NeedsRenewal(now time.Time) bool {
	c.writing.Lock()
	worn := c.send.Nonce() >= maxMessages || c.sent >= maxBytes
	c.writing.Unlock()
	return worn || !now.Before(c.renewAt)
}

// WaitMessage waits until there is something to read, as far as the connection below
// can wait.
func (c *Conn) WaitMessage() error {
	waiter, ok := c.conn.(wire.MessageWaiter)
	if !ok {
		return nil
	}
	return c.check(waiter.WaitMessage())
}

// ReadMessage implements wire.MessageConn.
func (c *Conn) ReadMessage(buf []byte) ([]byte, error) {
	if c.dead.Load() {
		return nil, ErrClosed
	}
	message, err := c.conn.ReadMessage(buf)
	if err != nil {
		return nil, c.check(err)
	}
	switch {
	case len(message) == 1 && c.recv.Nonce() == 0:
		return nil, c.check(ErrRefused)
	case len(message) < tagSize || len(message) > wire.MaxMessage:
		return nil, c.check(fmt.Errorf("message of %d bytes", len(message)))
	case c.recv.Nonce() >= 2*maxMessages || c.received >= 2*maxBytes:
		return nil, c.check(errWorn)
	}
	c.received += uint64(len(message))
	plain, err := c.recv.Decrypt(message[:0], nil, message)
	if err != nil {
		return nil, c.check(fmt.Errorf("decrypt message: %w", err))
	}
	return plain, nil
}

var errWorn = errors.New("the connection's keys are worn out")

// WriteMessage implements wire.MessageConn.
func (c *Conn) WriteMessage(p []byte) error {
	if len(p) > wire.MaxMessage-tagSize {
		return fmt.Errorf("message of %d bytes is too large", len(p))
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.dead.Load() {
		return ErrClosed
	}
	if c.send.Nonce() >= 2*maxMessages || c.sent >= 2*maxBytes {
		return c.check(errWorn)
	}
	message, err := c.send.Encrypt(p[:0], nil, p)
	if err != nil {
		return c.check(fmt.Errorf("encrypt message: %w", err))
	}
	c.sent += uint64(len(message))
	return c.check(c.conn.WriteMessage(message))
}

// SetReadDeadline implements wire.MessageConn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// Close implements wire.MessageConn.
func (c *Conn) Close() error {
	c.dead.Store(true)
	return c.conn.Close()
}

// check closes the connection when err is an error.
func (c *Conn) check(err error) error {
	if err != nil {
		_ = c.Close()
	}
	return err
}
