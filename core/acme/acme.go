// Package acme gets the certificates of a listener from an authority that speaks ACME (RFC
// 8555), proves on the listener itself that the names are its own, and renews them. Only
// importer of certmagic.
package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
)

// LetsEncrypt is the directory of the authority that is asked when no other is named.
const LetsEncrypt = certmagic.LetsEncryptProductionCA

// protocol is what an authority speaks that wants to see the proof.
const protocol = "acme-tls/1"

// Config says what for, and whom to ask.
type Config struct {
	// Storage keeps the account and the certificates. Listeners share it.
	Storage *Storage
	// Domains get a certificate each. The first one's is shown to clients that ask for none
	// of them.
	Domains []string
	// Email is told to the authority; optional.
	Email string
	// Directory is the authority's URL; LetsEncrypt if empty. Roots are the authorities that
	// vouch for that URL; nil are the system's.
	Directory string
	Roots     *x509.CertPool
	// Address is where the listener listens.
	Address net.Addr
	// Every is how often it is looked for what has to be renewed; ten minutes if zero.
	Every  time.Duration
	Logger *slog.Logger
	// Tell hears what a person may want to know. A failure that repeats is told once.
	Tell func(failed bool, text string)
}

// Certificates are those of one listener.
type Certificates struct {
	cfg   Config
	magic atomic.Pointer[certmagic.Config]

	mu     sync.Mutex
	failed map[string]string // by domain, what was told of it
}

// New takes the configuration. Nothing happens before Run.
func New(cfg Config) *Certificates {
	if cfg.Directory == "" {
		cfg.Directory = LetsEncrypt
	}
	return &Certificates{cfg: cfg, failed: map[string]string{}}
}

// TLS serves the certificates, and the proofs that the authority asks for.
func (c *Certificates) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1", protocol}, // agents upgrade to WebSocket
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			magic := c.magic.Load()
			if magic == nil {
				return nil, errors.New("no certificate yet")
			}
			return magic.GetCertificate(hello)
		},
	}
}

// Run loads what is kept, gets what is missing and renews what expires, until ctx ends. That
// the authority refuses, or cannot be reached, is told and tried again; what is there
// is served meanwhile.
func (c *Certificates) Run(ctx context.Context) {
	log := logger(c.cfg.Logger)
	cache := certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return c.magic.Load(), nil },
		RenewCheckInterval: c.cfg.Every, Logger: log,
	})
	defer cache.Stop()
	magic := certmagic.New(cache, certmagic.Config{
		Storage: c.cfg.Storage, Logger: log, DefaultServerName: c.cfg.Domains[0], FallbackServerName: c.cfg.Domains[0],
		OnEvent: func(_ context.Context, event string, data map[string]any) error {
			if ctx.Err() == nil {
				c.event(event, data)
			}
			return nil
		},
	})
	host, port := split(c.cfg.Address)
	magic.Issuers = []certmagic.Issuer{anyAccount{certmagic.NewACMEIssuer(magic, certmagic.ACMEIssuer{
		CA: c.cfg.Directory, TrustedRoots: c.cfg.Roots, Email: c.cfg.Email, Agreed: true, Logger: log,
		// The listener shows the proof; no other port is opened, and no other core shares the work.
		DisableHTTPChallenge: true, DisableDistributedSolvers: true, ListenHost: host, AltTLSALPNPort: port,
	})}}
	c.magic.Store(magic)
	for _, domain := range c.cfg.Domains {
		if err := magic.ManageAsync(ctx, []string{domain}); err != nil {
			c.failure(domain, err)
		}
	}
	<-ctx.Done()
}

// anyAccount is an issuer that may renew what another account got. The e-mail decides the account,
// and an e-mail changes: of the same configuration, or because certmagic gives that of one listener
// to those that have none. An authority refuses an order that is said to replace a certificate of
// another account, so none is said to; certmagic says it only for an issuer of its own type.
type anyAccount struct{ *certmagic.ACMEIssuer }

// split is the address as the issuer wants it.
func split(addr net.Addr) (host string, port int) {
	host, text, _ := net.SplitHostPort(addr.String())
	port, _ = strconv.Atoi(text)
	return host, port
}

// event makes news of what certmagic says.
func (c *Certificates) event(event string, data map[string]any) {
	domain, _ := data["identifier"].(string)
	switch event {
	case "cert_obtained":
		c.mu.Lock()
		delete(c.failed, domain)
		c.mu.Unlock()
		how := "obtained"
		if renewal, _ := data["renewal"].(bool); renewal {
			how = "renewed"
		}
		c.cfg.Tell(false, fmt.Sprintf("the certificate of %s was %s from %s", domain, how, c.cfg.Directory))
	case "cert_failed":
		err, _ := data["error"].(error)
		c.failure(domain, err)
	}
}

// failure is told when it is not what was told last.
func (c *Certificates) failure(domain string, err error) {
	text := fmt.Sprintf("no certificate of %s from %s: %v", domain, c.cfg.Directory, err)
	c.mu.Lock()
	known := c.failed[domain] == text
	c.failed[domain] = text
	c.mu.Unlock()
	if !known {
		c.cfg.Tell(true, text)
	}
}
