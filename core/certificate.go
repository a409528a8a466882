package core

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"
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
