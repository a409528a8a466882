package ws_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/ws"
)

// newServer serves ws.Path and hands out what connects.
func newServer(t *testing.T, secure bool) (server *httptest.Server, conns <-chan *ws.ServerConn) {
	t.Helper()
	accepted := make(chan *ws.ServerConn, 1)
	mux := http.NewServeMux()
	mux.HandleFunc(ws.Path, func(w http.ResponseWriter, r *http.Request) {
		if conn, err := ws.Upgrade(w, r); err == nil {
			accepted <- conn
		}
	})
	start := httptest.NewServer
	if secure {
		start = httptest.NewTLSServer
	}
	server = start(mux)
	t.Cleanup(server.Close)
	return server, accepted
}

func connect(t *testing.T, address string, conns <-chan *ws.ServerConn, cfg ws.DialConfig) (agent *ws.Conn, core *ws.ServerConn) {
	t.Helper()
	agent, err := ws.Dial(t.Context(), address, cfg)
	if err != nil {
		t.Fatal(err)
	}
	core = <-conns
	t.Cleanup(func() {
		_ = agent.Close()
		_ = core.Close()
	})
	return agent, core
}

func exchange(t *testing.T, agent, core wire.MessageConn) {
	t.Helper()
	for _, size := range []int{0, 1, 125, 126, 511, 512, 513, 8 << 10, 65535} {
		want := bytes.Repeat([]byte{byte(size)}, size)
		for _, dir := range [][2]wire.MessageConn{{agent, core}, {core, agent}} {
			sent := make(chan error, 1)
			go func() { sent <- dir[0].WriteMessage(bytes.Clone(want)) }()
			got, err := dir[1].ReadMessage(make([]byte, 0, size%2*70000))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes: got %d, %v", size, len(got), err)
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestMessagesOfAnySizeArrive(t *testing.T) {
	server, conns := newServer(t, false)
	agent, core := connect(t, server.URL, conns, ws.DialConfig{})
	exchange(t, agent, core)
}

func TestTLSWithAPrivateAuthority(t *testing.T) {
	server, conns := newServer(t, true)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	agent, core := connect(t, server.URL, conns, ws.DialConfig{TLS: &tls.Config{RootCAs: roots}})
	exchange(t, agent, core)
	if _, err := ws.Dial(t.Context(), server.URL, ws.DialConfig{}); err == nil {
		t.Error("a certificate of an unknown authority was accepted")
	}
}

// tunnel does what a proxy does after CONNECT.
func tunnel(t *testing.T, w http.ResponseWriter, host string) {
	t.Helper()
	upstream, err := net.Dial("tcp", host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		_, _ = io.Copy(upstream, buffered)
		_ = upstream.Close()
	}()
	_, _ = io.Copy(client, upstream)
	_ = client.Close()
}

func TestRefusedDialsSayWhy(t *testing.T) {
	server, _ := newServer(t, false)
	for address, want := range map[string]string{
		server.URL + "/elsewhere": "404 Not Found",
		"http://127.0.0.1:1":      "connection refused",
		"ftp://x":                 "unknown scheme",
	} {
		if _, err := ws.Dial(t.Context(), address, ws.DialConfig{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Dial(%s) = %v, want %q", address, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ws.Dial(ctx, server.URL, ws.DialConfig{}); err == nil {
		t.Error("Dial went on after its context had ended")
	}
}

func TestBrowsersAndPlainRequestsAreRefused(t *testing.T) {
	server, _ := newServer(t, false)
	_, err := ws.Dial(t.Context(), server.URL, ws.DialConfig{Header: http.Header{"Origin": {server.URL}}})
	if err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("with an origin: %v", err)
	}
	response, err := http.Get(server.URL + ws.Path)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("a plain request: %s", response.Status)
	}
}

// TestFramesThatAreNoMessagesEndTheConnection plays a client that does as it likes.
func TestFramesThatAreNoMessagesEndTheConnection(t *testing.T) {
	for name, misbehave := range map[string]func(c *websocket.Conn) error{
		"text":             func(c *websocket.Conn) error { return c.WriteMessage(websocket.TextMessage, []byte("hi")) },
		"65,536 bytes":     func(c *websocket.Conn) error { return c.WriteMessage(websocket.BinaryMessage, make([]byte, 65536)) },
		"a close":          func(c *websocket.Conn) error { return c.WriteMessage(websocket.CloseMessage, nil) },
		"a cut":            func(c *websocket.Conn) error { return c.Close() },
		"a flood of pings": pings(65),
		"garbage": func(c *websocket.Conn) error {
			_, err := c.NetConn().Write([]byte("GET / HTTP/1.1\r\n\r\n"))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, conns := newServer(t, false)
			client, response, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(server.URL, "http")+ws.Path, nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			t.Cleanup(func() { _ = client.Close() })
			core := <-conns
			go func() { _ = misbehave(client) }()
			if got, err := core.ReadMessage(nil); err == nil {
				t.Errorf("got %d bytes", len(got))
			}
			_ = core.Close()
		})
	}
}

func pings(n int) func(c *websocket.Conn) error {
	return func(c *websocket.Conn) error {
		for range n {
			if err := c.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second)); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestPingsAndFragmentsAreFine(t *testing.T) {
	server, conns := newServer(t, false)
	dialer := websocket.Dialer{WriteBufferSize: 10} // so that messages are sent in pieces
	client, response, err := dialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(server.URL, "http")+ws.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	t.Cleanup(func() { _ = client.Close() })
	core := <-conns
	t.Cleanup(func() { _ = core.Close() })
	want := strings.Repeat("fragment ", 100)
	for range 3 {
		if err := pings(60)(client); err != nil {
			t.Fatal(err)
		}
		if err := client.WriteMessage(websocket.BinaryMessage, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if err := core.WaitMessage(); err != nil {
			t.Fatal(err)
		}
		if got, err := core.ReadMessage(nil); err != nil || string(got) != want {
			t.Fatalf("got %d bytes, %v", len(got), err)
		}
	}
}

func TestReadDeadline(t *testing.T) {
	server, conns := newServer(t, false)
	agent, core := connect(t, server.URL, conns, ws.DialConfig{})
	if err := core.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := core.ReadMessage(nil); err == nil {
		t.Error("a read outlived its deadline")
	}
	_ = agent.Close()
}

func TestAnAgentThatDoesNotReadHoldsAWriteUpForAWhileOnly(t *testing.T) {
	server, conns := newServer(t, false)
	_, core := connect(t, server.URL, conns, ws.DialConfig{})
	if err := core.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	stuck := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			err = core.WriteMessage(make([]byte, wire.MaxMessage))
		}
		stuck <- err
	}()
	if err := <-stuck; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("WriteMessage = %v", err)
	}
}

func TestURL(t *testing.T) {
	for address, want := range map[string]string{
		"http://core:9120":          "ws://core:9120/ws/agent",
		"https://varan.example.com": "wss://varan.example.com/ws/agent",
		"varan.example.com":         "wss://varan.example.com/ws/agent",
		"varan.example.com:9120/":   "wss://varan.example.com:9120/ws/agent",
		"192.168.1.7":               "ws://192.168.1.7/ws/agent",
		"192.168.1.7:9120":          "ws://192.168.1.7:9120/ws/agent",
		"[fe80::1]:9120":            "ws://[fe80::1]:9120/ws/agent",
		"[fd00::1]":                 "ws://[fd00::1]/ws/agent",
		"fd00::1":                   "ws://[fd00::1]/ws/agent",
		"fe80::1%eth0":              "ws://[fe80::1%25eth0]/ws/agent",
		"ws://[fe80::1%25eth0]:1":   "ws://[fe80::1%25eth0]:1/ws/agent",
		"https://[fd00::1]:9120":    "wss://[fd00::1]:9120/ws/agent",
		"ws://core/prefix/\n":       "ws://core/prefix/ws/agent",
		"wss://core/ws/agent":       "wss://core/ws/agent",
		"localhost:9120":            "wss://localhost:9120/ws/agent",
		"192.168.1.7:9120/a":        "ws://192.168.1.7:9120/a/ws/agent",
	} {
		if got, err := ws.URL(address); err != nil || got != want {
			t.Errorf("URL(%q) = %q, %v; want %q", address, got, err, want)
		}
	}
	for _, bad := range []string{
		"", "http://", "ftp://core", "https://user:secret@core", "https://core/?a=b", "https://core/#x", "ws://%zz", "https://us er:secret@core:x",
	} {
		got, err := ws.URL(bad)
		if err == nil {
			t.Errorf("URL(%q) = %q", bad, got)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("URL(%q): the error shows a password: %v", bad, err)
		}
	}
}

func FuzzURL(f *testing.F) {
	for _, seed := range []string{"core", "http://core:1/x", "[::1]", "1.2.3.4:5"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		got, err := ws.URL(address)
		if err != nil {
			return
		}
		if again, err := ws.URL(got); err != nil || again != got {
			t.Errorf("URL(%q) = %q, and of that %q, %v", address, got, again, err)
		}
	})
}

// script is a connection from which a test's bytes come, a few at a time.
type script struct {
	net.Conn
	in   []byte
	step int
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.step)], s.in)
	s.in = s.in[n:]
	return n, nil
}

func (*script) Write(p []byte) (int, error)      { return len(p), nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }

// FuzzServerConn compares what the core reads from a client's bytes with what the
// library, which is stricter on a few points, makes of them.
func FuzzServerConn(f *testing.F) {
	frame := func(op byte, payload string) string {
		return string([]byte{op, 0x80 | byte(len(payload)), 0, 0, 0, 0}) + payload
	}
	f.Add([]byte(frame(0x82, "hello")+frame(0x82, "")), uint8(1))
	f.Add([]byte(frame(0x02, "hel")+frame(0x89, "ping")+frame(0x80, "lo")+frame(0x88, "")), uint8(3))
	f.Add([]byte("\x82\xfe\x00\x80\x01\x02\x03\x04"+strings.Repeat("x", 128)), uint8(200))
	f.Add([]byte("\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00\x01\x02\x03\x04"), uint8(14))
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		ours := ws.NewServerConn(&script{in: in, step: int(step) + 1})
		client, server := net.Pipe()
		go func() {
			_, _ = client.Write(in)
			_ = client.Close()
		}()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		theirs := libraryConn(t, server)
		for {
			got, err := ours.ReadMessage(nil)
			if err != nil {
				break
			}
			kind, want, err := theirs.ReadMessage()
			if err != nil || kind != websocket.BinaryMessage || !bytes.Equal(got, want) {
				t.Fatalf("read %q; the library reads %q, type %d, %v", got, want, kind, err)
			}
		}
		_ = server.Close()
	})
}

// libraryConn upgrades without a network.
func libraryConn(t *testing.T, conn net.Conn) *websocket.Conn {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	for key, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13", "Sec-Websocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
	} {
		request.Header.Set(key, value)
	}
	upgrader := websocket.Upgrader{}
	socket, err := upgrader.Upgrade(hijackable{httptest.NewRecorder(), conn}, request, nil)
	if err != nil {
		t.Fatal(err)
	}
	socket.SetReadLimit(wire.MaxMessage)
	return socket
}

type hijackable struct {
	http.ResponseWriter
	conn net.Conn
}

func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}
