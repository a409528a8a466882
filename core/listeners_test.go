package core_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/varanhq/varan/core"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/settings"
)

// certify writes a certificate for a name, and its key, to dir/name.pem and dir/name.key.
func certify(t *testing.T, dir, name string, until time.Time) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	put := func(file, kind string, data []byte) {
		must(t, os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600))
	}
	put(name+".pem", "CERTIFICATE", der)
	put(name+".key", "PRIVATE KEY", raw)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert
}

// free is an address of loopback that nothing listens on.
func free(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// house is a core with a configuration file.
type house struct {
	dir, file string
	key       fleet.Secret
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{dir: t.TempDir()}
	h.file = filepath.Join(h.dir, "core.toml")
	var err error
	h.key, err = core.Init(t.Context(), filepath.Join(h.dir, "data"))
	must(t, err)
	return h
}

func (h *house) load() (*core.Settings, *settings.Values, error) {
	s := &core.Settings{}
	values, err := settings.Load(s, settings.Source{File: h.file, Defaults: map[string]string{"dir": filepath.Join(h.dir, "data")}})
	return s, values, err
}

func (h *house) write(t *testing.T, text string) {
	t.Helper()
	must(t, os.WriteFile(h.file, []byte(strings.ReplaceAll(text, "DIR", h.dir)), 0o600))
}

// run serves until ctx ends, and returns what core ends with.
func (h *house) run(ctx context.Context, t *testing.T, ready func()) <-chan error {
	t.Helper()
	s, values, err := h.load()
	must(t, err)
	done := make(chan error, 1)
	go func() {
		done <- core.Run(ctx, core.Config{
			Settings: s, Origins: values, Reload: h.load, Logger: slog.New(slog.DiscardHandler), Ready: func(net.Addr) { ready() },
		})
	}()
	return done
}

// open runs it until the test ends.
func (h *house) open(t *testing.T) {
	t.Helper()
	h.opened(t)
}

// opened runs it until stop is called, or the test ends.
func (h *house) opened(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan struct{})
	done := h.run(ctx, t, func() { close(ready) })
	select {
	case <-ready:
	case err := <-done:
		cancel()
		t.Fatalf("core did not start: %v", err)
	}
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("core ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func overUnix(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
}

func overTLS(cert *x509.Certificate, name string) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: name, MinVersion: tls.VersionTLS12},
	}}
}

func status(t *testing.T, client *http.Client, url string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	must(t, err)
	answer, err := client.Do(r)
	if err != nil {
		t.Log(err)
		return 0
	}
	defer func() { _ = answer.Body.Close() }()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode
}

func TestA055SeveralListenersServeOneCore(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tcp, hooks, one, two := free(t), free(t), free(t), free(t)
	until := time.Now().Add(time.Hour)
	certOne, certTwo := certify(t, h.dir, "one.test", until), certify(t, h.dir, "two.test", until)
	h.write(t, `
[[listeners]]
name = "plain"
address = "`+tcp+`"
[[listeners]]
name = "hooks"
address = "`+hooks+`"
allow = ["webhooks"]
[[listeners]]
name = "one"
kind = "tls"
address = "`+one+`"
cert_file = "DIR/one.test.pem"
key_file = "DIR/one.test.key"
[[listeners]]
name = "two"
kind = "tls"
address = "`+two+`"
cert_file = "DIR/two.test.pem"
key_file = "DIR/two.test.key"
[[listeners]]
name = "local"
kind = "unix"
path = "DIR/core.sock"
mode = "0600"
`)
	h.open(t)
	plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for name, got := range map[string]int{
		"tcp":                          status(t, plain, "http://"+tcp+"/readyz"),
		"A-060 the first certificate":  status(t, overTLS(certOne, "one.test"), "https://"+one+"/readyz"),
		"A-060 the second certificate": status(t, overTLS(certTwo, "two.test"), "https://"+two+"/readyz"),
		"unix":                         status(t, overUnix(h.dir+"/core.sock"), "http://x/readyz"),
		"health where less is allowed": status(t, plain, "http://"+hooks+"/readyz"),
	} {
		if got != http.StatusOK {
			t.Errorf("%s: status %d", name, got)
		}
	}
	for name, tc := range map[string]struct{ got, want int }{
		"A-062 what is not allowed":   {status(t, plain, "http://"+hooks+"/api/v1/version"), http.StatusNotFound},
		"A-062 agents where webhooks": {status(t, plain, "http://"+hooks+"/ws/agent"), http.StatusNotFound},
		"A-060 the other certificate": {status(t, overTLS(certTwo, "two.test"), "https://"+one+"/readyz"), 0},
		"without a key":               {status(t, plain, "http://"+tcp+"/api/v1/version"), http.StatusUnauthorized},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: status %d, want %d", name, tc.got, tc.want)
		}
	}
	if info, err := os.Stat(h.dir + "/core.sock"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}

	// who comes by the socket as this very user needs no key, and the history names the door.
	local := &api.Client{BaseURL: "http://core.sock", HTTP: overUnix(h.dir + "/core.sock")}
	_, err := local.CreateKey(t.Context(), api.KeySpec{Name: "made-locally"})
	must(t, err)
	remote := &api.Client{BaseURL: "http://" + tcp, Key: h.key, HTTP: plain}
	_, err = remote.CreateKey(t.Context(), api.KeySpec{Name: "made-remotely"})
	must(t, err)
	wrong := &api.Client{BaseURL: "http://core.sock", HTTP: overUnix(h.dir + "/core.sock"), Key: fleet.NewSecret("vk1_nonsense")}
	if _, err := wrong.Version(t.Context()); err == nil {
		t.Error("a wrong key is as good as none")
	}
	events, err := remote.Events(t.Context(), api.EventFilter{})
	must(t, err)
	for name, want := range map[string]string{"made-locally": "local", "made-remotely": "plain"} {
		found := false
		for _, e := range events {
			found = found || strings.Contains(e.Text, name) && e.Listener == want
		}
		if !found {
			t.Errorf("no record of %s names the listener %s", name, want)
		}
	}

	// one reload is for all; certificates are read again, and only whole pairs.
	renewed := certify(t, h.dir, "one.test", until)
	if status(t, overTLS(certOne, "one.test"), "https://"+one+"/readyz") != http.StatusOK {
		t.Error("A-008: the certificate changed without a reload")
	}
	result, err := remote.Reload(t.Context(), api.ReloadSpec{})
	must(t, err)
	if len(result.Certificates) != 1 || result.Certificates[0] != "one" {
		t.Errorf("certificates read again: %v", result.Certificates)
	}
	if status(t, overTLS(renewed, "one.test"), "https://"+one+"/readyz") != http.StatusOK {
		t.Error("the new certificate is not served")
	}
	must(t, os.Rename(h.dir+"/two.test.key", h.dir+"/one.test.key"))
	_, err = remote.Reload(t.Context(), api.ReloadSpec{})
	if err == nil || !strings.Contains(err.Error(), "one.test.pem") {
		t.Errorf("a pair that does not match: %v", err)
	}
	if status(t, overTLS(renewed, "one.test"), "https://"+one+"/readyz") != http.StatusOK {
		t.Error("the old certificate is gone")
	}
}

func TestA057TheLimitOfConnectionsCountsOverListeners(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	first, second := free(t), free(t)
	h.write(t, `
limits.connections_per_address = 3
[[listeners]]
name = "first"
address = "`+first+`"
[[listeners]]
name = "second"
address = "`+second+`"
`)
	h.open(t)
	dial := func(address string) net.Conn {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		must(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		must(t, err)
		must(t, conn.SetReadDeadline(time.Now().Add(patience)))
		return conn
	}
	answers := func(conn net.Conn) bool {
		n, _ := conn.Read(make([]byte, 16))
		return n > 0
	}
	var last net.Conn
	for i, address := range []string{first, second, first} {
		if last = dial(address); !answers(last) {
			t.Errorf("connection %d is refused", i+1)
		}
	}
	if answers(dial(second)) {
		t.Error("a fourth connection is served")
	}
	must(t, last.Close())
	for !answers(dial(second)) { // core has to see the end of the third
		if t.Context().Err() != nil {
			t.Fatal("the place is never free again")
		}
	}
}

func TestL4WhatAListenerCannotUseIsSaidWithItsPlace(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	certify(t, h.dir, "good.test", time.Now().Add(time.Hour))
	certify(t, h.dir, "other.test", time.Now().Add(time.Hour))
	certify(t, h.dir, "old.test", time.Now().Add(-time.Hour))
	busy, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = busy.Close() })
	must(t, os.WriteFile(h.dir+"/file", nil, 0o600))
	tlsWith := func(cert, key string) string {
		return "[[listeners]]\nname = 'x'\nkind = 'tls'\naddress = '127.0.0.1:0'\ncert_file = 'DIR/" + cert + "'\nkey_file = 'DIR/" + key + "'\n"
	}
	for name, tc := range map[string]struct{ text, want string }{
		"another key":    {tlsWith("good.test.pem", "other.test.key"), "core.toml:5:1: error: certificate DIR/good.test.pem with private key DIR/other.test.key: tls: private key does not match"},
		"expired":        {tlsWith("old.test.pem", "old.test.key"), "certificate DIR/old.test.pem: it expired on"},
		"no certificate": {tlsWith("none.pem", "good.test.key"), "DIR/none.pem"},
		"no key":         {tlsWith("good.test.pem", "none.key"), "DIR/none.key"},
		"busy":           {"listen = '" + busy.Addr().String() + "'", "cannot serve on " + busy.Addr().String()},
		"no socket":      {"[[listeners]]\nname = 'x'\nkind = 'unix'\npath = 'DIR/file'\n", "there is a file that is no socket"},
	} {
		h.write(t, tc.text)
		err := <-h.run(t.Context(), t, func() { t.Errorf("%s: core serves", name) })
		if err == nil || !strings.Contains(err.Error(), strings.ReplaceAll(tc.want, "DIR", h.dir)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, tc := range map[string]struct{ text, want string }{
		"A-065 both forms": {"listen = '127.0.0.1:1'\n[[listeners]]\nname = 'x'\naddress = ':1'", "core.toml:1:1: error: listen: there are [[listeners]] as well"},
		"no name":          {"[[listeners]]\naddress = ':1'", "core.toml:1:3: error: listeners[0]: it needs a name"},
		"names twice":      {"[[listeners]]\nname='x'\naddress=':1'\n[[listeners]]\nname='x'\naddress=':2'", `core.toml:5:1: error: listeners[1].name: the name "x" is there twice`},
		"no address":       {"[[listeners]]\nname='x'\naddress='nonsense'", `"nonsense" is not like`},
		"no such kind":     {"[[listeners]]\nname='x'\nkind='udp'", `core.toml:3:1: error: listeners[0].kind: "udp" is none of tcp, tls, unix`},
		"no mode":          {"[[listeners]]\nname='x'\nkind='unix'\npath='/x'\nmode='rw'", `"rw" is no mode like 0660`},
		"no such service":  {"[[listeners]]\nname='x'\naddress=':1'\nallow=['everything']", `core.toml:4:8: error: listeners[0].allow: "everything" is none of agents, api, webhooks`},
	} {
		h.write(t, tc.text)
		_, _, err := h.load()
		if found, ok := errors.AsType[fleet.Diagnostics](err); !ok || !strings.Contains(found.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestA058TheSocketOfADeadCoreIsReplacedAndALiveOneKept(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	stale, err := new(net.ListenConfig).Listen(t.Context(), "unix", h.dir+"/core.sock")
	must(t, err)
	stale.(*net.UnixListener).SetUnlinkOnClose(false) //nolint:forcetypeassert // it is one
	h.write(t, "[[listeners]]\nname = 'local'\nkind = 'unix'\npath = 'DIR/core.sock'\n")
	err = <-h.run(t.Context(), t, func() {})
	if err == nil || !strings.Contains(err.Error(), "something answers there already") {
		t.Errorf("a socket that answers: %v", err)
	}
	must(t, stale.Close())
	ctx, cancel := context.WithCancel(t.Context())
	done := h.run(ctx, t, func() {
		if status(t, overUnix(h.dir+"/core.sock"), "http://x/readyz") != http.StatusOK {
			t.Error("the socket is not served")
		}
		cancel()
	})
	must(t, <-done)
	if _, err := os.Lstat(h.dir + "/core.sock"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}
