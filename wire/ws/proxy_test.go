package ws_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/varanhq/varan/wire/ws"
)

// by makes every connection go by a proxy.
func by(t *testing.T, address string) ws.DialConfig {
	t.Helper()
	proxy, err := ws.ParseProxy(address)
	if err != nil {
		t.Fatal(err)
	}
	return ws.DialConfig{Proxy: http.ProxyURL(proxy)}
}

// withLogin puts a login into a URL.
func withLogin(address, login string) string {
	return strings.Replace(address, "://", "://"+login+"@", 1)
}

// newProxy is a proxy that asks for a login and tells of each request that it got.
func newProxy(t *testing.T, start func(http.Handler) *httptest.Server) (proxy *httptest.Server, asked *atomic.Value) {
	t.Helper()
	asked = &atomic.Value{}
	proxy = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		login := r.Header.Get("Proxy-Authorization")
		asked.Store(r.Method + " " + r.Host + " " + login)
		if login != "Basic dXNlcjp3b3Jk" { // user:word
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		tunnel(t, w, r.Host)
	}))
	t.Cleanup(proxy.Close)
	return proxy, asked
}

func TestHTTPProxyIsAskedToConnect(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("core with TLS %v", secure), func(t *testing.T) {
			server, conns := newServer(t, secure)
			proxy, asked := newProxy(t, httptest.NewServer)
			cfg := by(t, withLogin(proxy.URL, "user:word"))
			cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}
			agent, core := connect(t, server.URL, conns, cfg)
			exchange(t, agent, core)
			if want := "CONNECT " + server.Listener.Addr().String() + " Basic dXNlcjp3b3Jk"; asked.Load() != want {
				t.Errorf("the proxy was asked %q, want %q", asked.Load(), want)
			}
		})
	}
}

func TestAProxyGetsItsLoginOnlyWhenItIsTheOneItShouldBe(t *testing.T) {
	server, conns := newServer(t, false)
	proxy, asked := newProxy(t, httptest.NewTLSServer)
	cfg := by(t, withLogin(proxy.URL, "user:word"))
	cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}
	if _, err := ws.Dial(t.Context(), server.URL, cfg); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("dialled by a proxy with any certificate: %v", err)
	}
	if got := asked.Load(); got != nil {
		t.Errorf("it got %v", got)
	}
	cfg.TLS.RootCAs = x509.NewCertPool()
	cfg.TLS.RootCAs.AddCert(proxy.Certificate())
	agent, core := connect(t, server.URL, conns, cfg)
	exchange(t, agent, core)
}

func TestAWrongLoginAtAProxyIsToldWithoutIt(t *testing.T) {
	server, _ := newServer(t, false)
	proxy, _ := newProxy(t, httptest.NewServer)
	for login, want := range map[string]string{"user:canary": "is wrong", "canary": "is wrong", "": "has none"} {
		address := proxy.URL
		if login != "" {
			address = withLogin(address, login)
		}
		_, err := ws.Dial(t.Context(), server.URL, by(t, address))
		if !errors.Is(err, ws.ErrProxyLogin) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("with the login %q: %v", login, err)
		}
	}
}

// rawProxy answers everything with the same bytes.
func rawProxy(t *testing.T, answer string) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.WriteString(conn, answer)
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

func TestNoAnswerOfAProxyIsTakenForATunnel(t *testing.T) {
	server, _ := newServer(t, false)
	for answer, want := range map[string]string{
		"HTTP/1.1 407\r\n\r\n":                                              "login",
		"HTTP/1.1 403 \x1b[31mNo\r\n\r\n":                                   "403 Forbidden",
		"HTTP/1.1 502\r\n\r\n":                                              "502 Bad Gateway",
		"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 Hi\r\n\r\n":                    "more than it was asked",
		"SSH-2.0-OpenSSH\r\n":                                               "its answer is none",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 17<<10) + "\r\n\r\n": "its answer is none",
	} {
		_, err := ws.Dial(t.Context(), server.URL, by(t, rawProxy(t, answer)))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("a proxy that answers %.40q: %v", answer, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := ws.Dial(ctx, server.URL, by(t, rawProxy(t, ""))); err == nil {
		t.Error("a proxy that says nothing is a tunnel")
	}
	if _, err := ws.Dial(t.Context(), server.URL, by(t, "http://127.0.0.1:1")); err == nil || !strings.Contains(err.Error(), "proxy 127.0.0.1:1") {
		t.Errorf("a proxy that is away: %v", err)
	}
	cfg := ws.DialConfig{Proxy: func(*http.Request) (*url.URL, error) { return nil, errors.New("invalid proxy address user:canary") }}
	if _, err := ws.Dial(t.Context(), server.URL, cfg); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("the environment holds no proxy: %v", err)
	}
}
