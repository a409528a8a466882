// Package acmetest is an authority on loopback for tests. It is Pebble, the one that ACME's
// own authors test against: it wants real accounts, orders, signatures and proofs.
package acmetest

import (
	"encoding/pem"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// Authority issues certificates for every name whose listener, which it believes on
// loopback, shows the proof.
type Authority struct {
	// Directory is its URL, and Vouched the file with the certificate that vouches for it.
	Directory, Vouched string
	// Root is the file with the root of what it issues.
	Root string

	mu     sync.Mutex
	orders int
}

// nosleep makes Pebble hurry. It reads the environment when it is made.
var nosleep = sync.OnceFunc(func() {
	_ = os.Setenv("PEBBLE_VA_NOSLEEP", "1")
	_ = os.Setenv("PEBBLE_AUTHZREUSE", "0") // every renewal is proven again
})

// Start runs an authority until the test ends. The listener that shows the proof has the port;
// what it issues lives that long.
func Start(t *testing.T, port string, life time.Duration) *Authority {
	t.Helper()
	nosleep()
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	memory := db.NewMemoryStore()
	issuer := ca.New(logger, memory, "", "ecdsa", 0, 1, map[string]ca.Profile{
		"default": {Description: "the only one", ValidityPeriod: uint64(life / time.Second)}, //nolint:gosec // it is positive
	})
	validator := va.New(logger, number, number, false, names(t), memory)
	front := wfe.New(logger, memory, validator, issuer, []string{"authority.test"}, false, false, 1, 1)
	handler := front.Handler()
	a := &Authority{}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/order-plz" {
			w = &counter{w, a}
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	a.Directory = server.URL + wfe.DirectoryPath
	dir := t.TempDir()
	a.Vouched = write(t, filepath.Join(dir, "vouched.pem"), server.Certificate().Raw)
	a.Root = write(t, filepath.Join(dir, "root.pem"), issuer.GetRootCert(0).DER)
	return a
}

// Orders is how many certificates it was asked for.
func (a *Authority) Orders() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.orders
}

// counter counts the orders that are accepted.
type counter struct {
	http.ResponseWriter

	a *Authority
}

// WriteHeader implements http.ResponseWriter.
func (c *counter) WriteHeader(status int) {
	if status == http.StatusCreated {
		c.a.mu.Lock()
		c.a.orders++
		c.a.mu.Unlock()
	}
	c.ResponseWriter.WriteHeader(status)
}

func write(t *testing.T, name string, der []byte) string {
	t.Helper()
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// names answers for every name that it is on loopback.
func names(t *testing.T) (address string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) {
		answer := new(dns.Msg).SetReply(question)
		for _, q := range question.Question {
			if q.Qtype == dns.TypeA {
				answer.Answer = append(answer.Answer, &dns.A{
					Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(127, 0, 0, 1),
				})
			}
		}
		_ = w.WriteMsg(answer)
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	return l.Addr().String()
}
