package acme_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/acme"
	"github.com/varanhq/varan/core/acme/acmetest"
	"github.com/varanhq/varan/internal/backoff"
)

// patience is longer than what is waited for before a failed attempt is made again.
const patience = 3 * time.Minute

// month is how long a certificate lives that is not to be renewed: the authority asks for that at any
// time of a short life.
const month = 30 * 24 * time.Hour

// listener serves what certificates there are.
type listener struct {
	net.Listener

	roots  *x509.CertPool
	config atomic.Pointer[tls.Config] // of the last run
	told   chan string
	stop   func()
}

// listen is a listener with an authority for it.
func listen(t *testing.T, life time.Duration) (*listener, *acmetest.Authority) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	authority := acmetest.Start(t, port, life)
	out := &listener{Listener: l, roots: pool(t, authority.Root)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = tls.Server(conn, out.config.Load()).HandshakeContext(t.Context())
				_ = conn.Close()
			}()
		}
	}()
	return out, authority
}

func pool(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(text)
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run gets and serves certificates until stop.
func (l *listener) run(t *testing.T, cfg acme.Config) {
	t.Helper()
	l.told = make(chan string, 100)
	cfg.Address, cfg.Logger = l.Addr(), slog.New(slog.NewTextHandler(t.Output(), nil))
	cfg.Tell = func(failed bool, text string) {
		if failed {
			text = "failed: " + text
		}
		l.told <- text
	}
	certificates := acme.New(cfg)
	l.config.Store(certificates.TLS())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		certificates.Run(ctx)
		close(ended)
	}()
	l.stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(l.stop)
}

// shown is the certificate that a client gets and believes.
func (l *listener) shown(t *testing.T, name string, roots *x509.CertPool) (*x509.Certificate, error) {
	t.Helper()
	dialer := tls.Dialer{Config: &tls.Config{ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS12}}
	conn, err := dialer.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0], nil //nolint:forcetypeassert // the dialer's own
}

// until asks again until a certificate is fine.
func (l *listener) until(t *testing.T, name string, fine func(*x509.Certificate) bool) *x509.Certificate {
	t.Helper()
	var last error
	for start := time.Now(); time.Since(start) < patience; {
		cert, err := l.shown(t, name, l.roots)
		if err == nil && fine(cert) {
			return cert
		}
		last = err
		_ = backoff.Pause(t.Context(), 5*time.Millisecond)
	}
	t.Fatalf("no such certificate is ever shown: %v", last)
	return nil
}

// hears waits for a text. On a machine too slow for the authority there are failures before it.
func (l *listener) hears(t *testing.T, want string) {
	t.Helper()
	for late := time.After(patience); ; {
		select {
		case text := <-l.told:
			switch {
			case strings.Contains(text, want):
				return
			case !strings.HasPrefix(text, "failed: "):
				t.Fatalf("told: %s; want %s", text, want)
			}
		case <-late:
			t.Fatalf("nobody is told: %s", want)
		}
	}
}

func TestACertificateIsObtainedServedAndKept(t *testing.T) {
	t.Parallel()
	l, authority := listen(t, month)
	dir := filepath.Join(t.TempDir(), "data", "acme")
	cfg := acme.Config{
		Storage: acme.NewStorage(dir), Domains: []string{"core.example.com", "agents.example.com"}, Email: "ops@example.com",
		Directory: authority.Directory, Roots: pool(t, authority.Vouched),
	}
	l.run(t, cfg)
	whole := func(*x509.Certificate) bool { return true }
	first := l.until(t, "core.example.com", whole)
	second := l.until(t, "agents.example.com", whole)
	if err := first.VerifyHostname("core.example.com"); err != nil {
		t.Error(err)
	}
	if err := second.VerifyHostname("agents.example.com"); err != nil {
		t.Error(err)
	}
	l.hears(t, "was obtained from "+authority.Directory)
	l.hears(t, "was obtained from "+authority.Directory)
	if cert, err := l.shown(t, "", nil); err == nil {
		t.Errorf("without roots %s is believed", cert.Subject)
	}
	l.stop()
	asked := authority.Orders()

	kept(t, filepath.Dir(dir))
	cfg.Storage = acme.NewStorage(dir)
	l.run(t, cfg)
	again := l.until(t, "core.example.com", whole)
	if diff := cmp.Diff(first.SerialNumber.String(), again.SerialNumber.String()); diff != "" {
		t.Errorf("another certificate after a restart (-before +after):\n%s", diff)
	}
	l.until(t, "agents.example.com", whole)
	if n := authority.Orders(); n != asked {
		t.Errorf("the authority was asked %d times more for what is kept", n-asked)
	}
	// Whoever names none of the domains gets the first one's.
	if _, err := l.shown(t, "10.0.0.1", l.roots); err == nil || !strings.Contains(err.Error(), "certificate is valid for core.example.com") &&
		!strings.Contains(err.Error(), "doesn't contain any IP SANs") {
		t.Errorf("a client that names none: %v", err)
	}
}

// kept checks that nobody else can read what is stored.
func kept(t *testing.T, dir string) {
	t.Helper()
	keys := 0
	must(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if entry.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %04o, want %04o", path, info.Mode().Perm(), want)
		}
		if strings.HasSuffix(path, ".key") {
			keys++
		}
		return nil
	}))
	if keys != 3 {
		t.Errorf("%d keys are kept, want those of the account and of two certificates", keys)
	}
}

func TestACertificateIsRenewedBeforeItExpires(t *testing.T) {
	t.Parallel()
	l, authority := listen(t, 8*time.Second)
	cfg := acme.Config{
		Storage: acme.NewStorage(t.TempDir()), Domains: []string{"core.example.com"}, Directory: authority.Directory,
		Roots: pool(t, authority.Vouched), Every: 50 * time.Millisecond, Email: "ops@example.com",
	}
	l.run(t, cfg)
	first := l.until(t, "core.example.com", func(*x509.Certificate) bool { return true })
	l.hears(t, "the certificate of core.example.com was obtained")
	l.stop()
	// Another e-mail is another account, which may renew what the first one got.
	cfg.Email = "security@example.com"
	l.run(t, cfg)
	second := l.until(t, "core.example.com", func(c *x509.Certificate) bool { return c.SerialNumber.Cmp(first.SerialNumber) != 0 })
	if !second.NotAfter.After(first.NotAfter) {
		t.Errorf("the renewed one expires at %s, the old one at %s", second.NotAfter, first.NotAfter)
	}
	l.hears(t, "the certificate of core.example.com was renewed")
}

func TestAnAuthorityThatCannotBeHadIsNamed(t *testing.T) { //nolint:tparallel // the cases share the listener, one after the other
	t.Parallel()
	l, authority := listen(t, time.Hour)
	closed, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	must(t, closed.Close())
	for name, tc := range map[string]struct {
		cfg  acme.Config
		want string
	}{
		"nobody there":   {acme.Config{Directory: "https://" + closed.Addr().String() + "/dir"}, "connection refused"},
		"not vouched by": {acme.Config{Directory: authority.Directory}, "certificate signed by unknown authority"},
		"no directory":   {acme.Config{Directory: strings.TrimSuffix(authority.Directory, "dir") + "nothing", Roots: pool(t, authority.Vouched)}, "404"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.cfg.Storage, tc.cfg.Domains = acme.NewStorage(t.TempDir()), []string{"core.example.com"}
			l.run(t, tc.cfg)
			select {
			case text := <-l.told:
				if !strings.Contains(text, "failed: no certificate of core.example.com from "+tc.cfg.Directory) || !strings.Contains(text, tc.want) {
					t.Errorf("told: %s; want %s", text, tc.want)
				}
			case <-time.After(patience):
				t.Fatal("nobody is told")
			}
			if _, err := l.shown(t, "core.example.com", l.roots); err == nil {
				t.Error("a certificate is shown")
			}
			l.stop()
		})
	}
}

func TestLocksAreHeldOnceAndLetGo(t *testing.T) {
	t.Parallel()
	s := acme.NewStorage(t.TempDir())
	must(t, s.Lock(t.Context(), "a"))
	if ok, err := s.TryLock(t.Context(), "a"); ok || err != nil {
		t.Errorf("a lock that is held is taken: %v", err)
	}
	must(t, s.Lock(t.Context(), "b"))
	taken := make(chan error, 1)
	go func() { taken <- s.Lock(t.Context(), "a") }()
	must(t, s.Unlock(t.Context(), "a"))
	must(t, <-taken)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Lock(ended, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for a lock after the end: %v", err)
	}
	if err := s.Store(ended, "x/y", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("storing after the end: %v", err)
	}
	if err := s.Unlock(t.Context(), "c"); err == nil {
		t.Error("a lock that nobody holds is let go")
	}
}
