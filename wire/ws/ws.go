// Package ws carries messages over WebSocket, which passes proxies and shares a port
// with everything else a core serves. It authenticates nobody and hides nothing: that
// is done inside, by package noise.
package ws

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/varanhq/varan/wire"
)

const (
	// writeTimeout is how long one message of an agent may take to leave.
	writeTimeout = 10 * time.Second
	// readBuffer lets most messages of a core come in one read; an agent has but one
	// connection.
	readBuffer = 4 << 10
	// maxControls bounds the pings and pongs between two messages.
	maxControls = 64
)

// writeBuffers hold a message while it is masked and sent.
var writeBuffers sync.Pool

// Conn is the end that dialled: an agent's, unless core dials agents.
type Conn struct {
	socket   *websocket.Conn
	next     io.Reader // a message that began to arrive
	controls int       // pings and pongs since the last message
}

var (
	_ wire.MessageConn   = (*Conn)(nil)
	_ wire.MessageWaiter = (*Conn)(nil)
)

func newConn(socket *websocket.Conn) *Conn {
	socket.SetReadLimit(wire.MaxMessage)
	c := &Conn{socket: socket}
	socket.SetPingHandler(func(data string) error {
		if err := c.control(); err != nil {
			return err
		}
		// When the pong cannot leave in time, neither can anything else.
		_ = socket.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(time.Second))
		return nil
	})
	socket.SetPongHandler(func(string) error { return c.control() })
	return c
}

func (c *Conn) control() error {
	c.controls++
	if c.controls > maxControls {
		return errors.New("too many pings")
	}
	return nil
}

// DialConfig says how to reach a core. The zero value is good.
type DialConfig struct {
	// TLS is for wss addresses. Optional, default the system's roots.
	TLS *tls.Config
	// Proxy returns the proxy to use, or nil for none. Optional, default what HTTP_PROXY,
	// HTTPS_PROXY and NO_PROXY say.
	Proxy func(*http.Request) (*url.URL, error)
	// Header is sent with the request, for proxies that want to see something.
	Header http.Header
	// NetDial opens the connection below. Optional, default TCP.
	NetDial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Dial connects to a core at an address that URL understands.
func Dial(ctx context.Context, address string, cfg DialConfig) (*Conn, error) {
	target, err := URL(address)
	if err != nil {
		return nil, err
	}
	return dial(ctx, target, cfg)
}

// DialAgent connects to an agent that listens, at an address that AgentURL understands.
func DialAgent(ctx context.Context, address string, cfg DialConfig) (*Conn, error) {
	target, err := AgentURL(address)
	if err != nil {
		return nil, err
	}
	return dial(ctx, target, cfg)
}

func dial(ctx context.Context, target string, cfg DialConfig) (*Conn, error) {
	if cfg.Proxy == nil {
		cfg.Proxy = http.ProxyFromEnvironment
	}
	at, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", target, err)
	}
	proxy, err := proxyOf(cfg.Proxy, at)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", target, err)
	}
	dialer := websocket.Dialer{
		NetDialContext:  cfg.NetDial,
		TLSClientConfig: cfg.TLS,
		ReadBufferSize:  readBuffer,
		WriteBufferSize: wire.MaxMessage,
		WriteBufferPool: &writeBuffers,
	}
	switch {
	case proxy == nil:
	case proxy.Scheme == "http" || proxy.Scheme == "https":
		dialer.NetDialContext = through(proxy, cfg.TLS, cfg.NetDial)
	default: // SOCKS
		dialer.Proxy = http.ProxyURL(proxy)
	}
	socket, response, err := dialer.DialContext(ctx, target, cfg.Header)
	if response != nil {
		_ = response.Body.Close()
	}
	switch {
	case err == nil:
		return newConn(socket), nil
	case response != nil:
		return nil, fmt.Errorf("dial %s: answered %s", target, response.Status)
	default:
		return nil, fmt.Errorf("dial %s: %w", target, err)
	}
}

// WaitMessage waits for a message to begin. It holds no buffer.
func (c *Conn) WaitMessage() error {
	if c.next != nil {
		return nil
	}
	kind, next, err := c.socket.NextReader()
	switch {
	case err != nil:
		return readError(err)
	case kind != websocket.BinaryMessage:
		return errors.New("websocket message that is not binary")
	}
	c.next, c.controls = next, 0
	return nil
}

// ReadMessage implements wire.MessageConn.
func (c *Conn) ReadMessage(buf []byte) ([]byte, error) {
	if err := c.WaitMessage(); err != nil {
		return nil, err
	}
	next := c.next
	c.next = nil
	buf = buf[:0]
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := next.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, readError(err)
		}
	}
}

// WriteMessage implements wire.MessageConn.
func (c *Conn) WriteMessage(p []byte) error {
	if err := c.socket.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("set write deadline: %w", err)
	}
	if err := c.socket.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return fmt.Errorf("write websocket message: %w", err)
	}
	return nil
}

// RemoteAddr is the address of the other side, or of the proxy before it.
func (c *Conn) RemoteAddr() netip.Addr {
	addr, err := netip.ParseAddrPort(c.socket.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return addr.Addr().Unmap()
}

// SetReadDeadline implements wire.MessageConn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.socket.SetReadDeadline(t) }

// Close implements wire.MessageConn. There is no closing handshake: what needs saying
// was said inside.
func (c *Conn) Close() error { return c.socket.Close() }

// readError makes a connection that was cut look like one: in the middle of a message
// or between two makes no difference to us.
func readError(err error) error {
	if websocket.IsCloseError(err, websocket.CloseAbnormalClosure, websocket.CloseNormalClosure, websocket.CloseGoingAway) {
		return fmt.Errorf("websocket: %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("read websocket: %w", err)
}
