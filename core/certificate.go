package core

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/varanhq/varan/core/acme"
	"github.com/varanhq/varan/core/api"
)

// certificate is that of a listener. It is read from its files when core starts and when it
// reloads, never in between.
type certificate struct {
	certFile, keyFile string
	now               atomic.Pointer[tls.Certificate]
}

func newCertificate(certFile, keyFile string) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	read, err := c.read(time.Now())
	c.now.Store(read)
	return c, err
}

// read checks the files, so that no broken pair is ever served.
func (c *certificate) read(now time.Time) (*tls.Certificate, error) {
	info, err := os.Stat(c.keyFile)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	if info.Mode().Perm()&0o007 != 0 && os.PathSeparator == '/' {
		return nil, fmt.Errorf("private key %s: everybody can read it (mode %04o): chmod 600 it", c.keyFile, info.Mode().Perm())
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with private key %s: %w", c.certFile, c.keyFile, err)
	}
	leaf := pair.Leaf
	if leaf == nil {
		if leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return nil, fmt.Errorf("certificate %s: %w", c.certFile, err)
		}
		pair.Leaf = leaf
	}
	switch {
	case now.After(leaf.NotAfter):
		return nil, fmt.Errorf("certificate %s: it expired on %s", c.certFile, leaf.NotAfter.Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return nil, fmt.Errorf("certificate %s: it is not valid before %s", c.certFile, leaf.NotBefore.Format(time.RFC3339))
	}
	return &pair, nil
}

// tls is the listener with its own TLS, if it has any.
func (d *door) tls() net.Listener {
	if d.acme != nil {
		return tls.NewListener(d, d.acme.TLS())
	}
	if d.cert == nil {
		return d
	}
	return tls.NewListener(d, &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, // agents upgrade to WebSocket
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return d.cert.now.Load(), nil },
	})
}

// readCertificates reads those of all listeners again. commit puts them in force.
func (d *doors) readCertificates(now time.Time) (names []string, commit func(), err error) {
	var commits []func()
	for _, door := range d.list {
		if door.cert == nil {
			continue
		}
		read, err := door.cert.read(now)
		if err != nil {
			return nil, nil, fmt.Errorf("listener %s: %w", door.settings.Name, err)
		}
		if !read.Leaf.Equal(door.cert.now.Load().Leaf) {
			names = append(names, door.settings.Name)
		}
		commits = append(commits, func() { door.cert.now.Store(read) })
	}
	return names, func() {
		for _, f := range commits {
			f()
		}
	}, nil
}

// newACME is how a listener gets its certificates by itself. What becomes of them is in the
// history.
func (c *core) newACME(
	ctx context.Context, s ListenerSettings, storage *acme.Storage, addr net.Addr, roots *x509.CertPool,
) *acme.Certificates {
	ctx = context.WithoutCancel(ctx) // what comes last of all is told too
	return acme.New(acme.Config{
		Storage: storage, Domains: s.ACME.Domains, Email: s.ACME.Email, Directory: s.ACME.CA, Roots: roots,
		Address: addr, Logger: c.cfg.Logger,
		Tell: func(failed bool, text string) {
			level := slog.LevelInfo
			if failed {
				level = slog.LevelError
			}
			c.cfg.Logger.LogAttrs(ctx, level, "certificate", slog.String("listener", s.Name), slog.String("text", text))
			c.record(ctx, api.Event{Kind: "config", Listener: s.Name, Text: text})
		},
	})
}

// readRoots reads the certificates of authorities.
func readRoots(name string) (*x509.CertPool, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", name)
	}
	return pool, nil
}

// keepCertificates gets and renews those that come from an authority, until ctx ends.
func (d *doors) keepCertificates(ctx context.Context) {
	var wg sync.WaitGroup
	for _, door := range d.list {
		if door.acme != nil {
			wg.Go(func() { door.acme.Run(ctx) })
		}
	}
	wg.Wait()
}
