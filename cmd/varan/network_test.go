package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// proxyMain is an HTTP proxy for scripts. It knows where names below .test are: on this host.
// On its output it writes a line for each request, with the status that it answered.
func proxyMain() {
	login := flag.String("login", "", "USER:PASSWORD that it asks for")
	file := flag.String("addr-file", "", "where to write its address")
	flag.Parse()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fatal(err)
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(*login))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		switch {
		case r.Method != http.MethodConnect:
			status = http.StatusMethodNotAllowed
		case *login != "" && r.Header.Get("Proxy-Authorization") != want:
			status = http.StatusProxyAuthRequired
		default:
			err = passOn(w, r.Host)
		}
		fmt.Println(r.Method, r.Host, status, err)
		if status != http.StatusOK {
			w.WriteHeader(status)
		}
	})
	if err := os.WriteFile(*file, []byte(listener.Addr().String()), 0o600); err != nil {
		fatal(err)
	}
	fatal(http.Serve(listener, handler))
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// passOn makes a tunnel of a request.
func passOn(w http.ResponseWriter, host string) error {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return err
	}
	if strings.HasSuffix(name, ".test") {
		name = "127.0.0.1"
	}
	upstream, err := net.Dial("tcp", net.JoinHostPort(name, port))
	if err != nil {
		return err
	}
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	for _, way := range [][2]net.Conn{{client, upstream}, {upstream, client}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			_ = way[0].Close()
		}()
	}
	return nil
}

// certify writes an authority and what it certified for a name: certify NAME makes ca.pem,
// cert.pem and key.pem.
func certify(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: certify NAME")
	}
	ts.Check(writeCertificates(ts.MkAbs("."), args[0]))
}

func writeCertificates(dir, name string) error {
	authority, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key, keyErr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err, keyErr); err != nil {
		return err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "scripts"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	files := map[string]*pem.Block{}
	for file, cert := range map[string]*x509.Certificate{"ca.pem": ca, "cert.pem": leaf} {
		public := &key.PublicKey
		if cert.IsCA {
			public = &authority.PublicKey
		}
		der, err := x509.CreateCertificate(rand.Reader, cert, ca, public, authority)
		if err != nil {
			return err
		}
		files[file] = &pem.Block{Type: "CERTIFICATE", Bytes: der}
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	files["key.pem"] = &pem.Block{Type: "PRIVATE KEY", Bytes: der}
	for file, block := range files {
		if err := os.WriteFile(dir+"/"+file, pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// hasIPv6 reports whether this host has the loopback address of IPv6.
func hasIPv6(t *testing.T) bool {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "[::1]:0")
	if err != nil {
		return false
	}
	_ = listener.Close()
	return true
}
