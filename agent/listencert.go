package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/varanhq/varan/internal/atomicfile"
)

// certificateAge is how long the agent's own certificate is good for. Nobody trusts it: it
// carries TLS, and core authenticates the agent inside of that.
const certificateAge = 10 * 365 * 24 * time.Hour

// listenCertificate is the one that the agent shows to who connects.
func listenCertificate(cfg Config) (tls.Certificate, error) {
	certFile, keyFile := cfg.Listen.CertFile, cfg.Listen.KeyFile
	if (certFile == "") != (keyFile == "") {
		return tls.Certificate{}, &ConfigError{
			Err: errors.New("a certificate without its key, or a key without its certificate"), Hint: "set listen_cert_file and listen_key_file, or neither",
		}
	}
	own := certFile == ""
	if own {
		certFile, keyFile = filepath.Join(cfg.Dir, "keys", "listen.crt"), filepath.Join(cfg.Dir, "keys", "listen.key")
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	expired := err == nil && time.Now().After(pair.Leaf.NotAfter)
	switch {
	case !own && expired:
		err = fmt.Errorf("it expired on %s", pair.Leaf.NotAfter.Format(time.DateOnly))
	case own && (expired || errors.Is(err, fs.ErrNotExist)):
		if err = makeCertificate(cfg.Server, certFile, keyFile); err == nil {
			pair, err = tls.LoadX509KeyPair(certFile, keyFile)
		}
	}
	if err != nil {
		return tls.Certificate{}, &ConfigError{
			Err: fmt.Errorf("certificate %s: %w", certFile, err), Hint: "leave listen_cert_file and listen_key_file out, and the agent makes its own",
		}
	}
	return pair, nil
}

// makeCertificate writes a certificate that signs itself.
func makeCertificate(server, certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: server},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateAge),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if host, err := os.Hostname(); err == nil {
		template.DNSNames = append(template.DNSNames, host)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(keyFile), 0o700); err != nil {
		return err
	}
	err = atomicfile.Write(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)
	if err != nil {
		return err
	}
	return atomicfile.Write(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}
