package core_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/varanhq/varan/core/acme/acmetest"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

// authorityRoot is what clients of the listener trust.
func authorityRoot(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	return cert
}

// eventually asks until the answer is 200.
func eventually(t *testing.T, client *http.Client, url string) {
	t.Helper()
	for start := time.Now(); time.Since(start) < patience; {
		if status(t, client, url) == http.StatusOK {
			return
		}
	}
	t.Fatalf("%s is never served", url)
}

// configEvents are those of the configuration at a core, over its socket.
func configEvents(t *testing.T, socket string) []string {
	t.Helper()
	client := &api.Client{BaseURL: "http://core.sock", HTTP: overUnix(socket)}
	events, err := client.Events(t.Context(), api.EventFilter{})
	must(t, err)
	var out []string
	for _, e := range events {
		if e.Kind == "config" && e.Listener == "public" {
			out = append(out, e.Text)
		}
	}
	return out
}

func TestAListenerGetsItsCertificateByItself(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	address := free(t)
	_, port, err := net.SplitHostPort(address)
	must(t, err)
	authority := acmetest.Start(t, port, time.Hour)
	write := func(directory string) {
		h.write(t, `
[[listeners]]
name = "public"
kind = "tls"
address = "`+address+`"
[listeners.acme]
domains = ["core.example.com"]
email = "ops@example.com"
ca = "`+directory+`"
ca_root = "`+authority.Vouched+`"
agree = true
[[listeners]]
name = "local"
kind = "unix"
path = "DIR/core.sock"
`)
	}
	client := overTLS(authorityRoot(t, authority.Root), "core.example.com")

	// Nobody answers for the authority: core serves, and says what is missing.
	write("https://" + free(t) + "/dir")
	stop := h.opened(t)
	var told []string
	for start := time.Now(); len(told) == 0 && time.Since(start) < patience; {
		told = configEvents(t, h.dir+"/core.sock")
	}
	if len(told) != 1 || !strings.Contains(told[0], "no certificate of core.example.com from https://") || !strings.Contains(told[0], "connection refused") {
		t.Errorf("the history says %q", told)
	}
	stop()

	write(authority.Directory)
	stop = h.opened(t)
	eventually(t, client, "https://"+address+"/readyz")
	if told := configEvents(t, h.dir+"/core.sock"); !slices.Contains(told, "the certificate of core.example.com was obtained from "+authority.Directory) {
		t.Errorf("the history says %q", told)
	}
	stop()

	// The next core has it already.
	stop = h.opened(t)
	eventually(t, client, "https://"+address+"/readyz")
	if n := authority.Orders(); n != 1 {
		t.Errorf("the authority was asked %d times", n)
	}
	stop()
}

func TestFaultsInACMEAreSaidWithTheirPlace(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const head = "[[listeners]]\nname = 'x'\nkind = 'tls'\naddress = ':443'\n"
	const full = "domains = ['a.example.com']\nagree = true\n"
	for name, tc := range map[string]struct{ text, want string }{
		"no agreement": {head + "[listeners.acme]\ndomains = ['a.example.com']\n", "core.toml:6:1: error: listeners[0].acme.domains: the terms of service are not agreed to"},
		"no domains":   {head + "[listeners.acme]\nagree = true\n", "core.toml:5:12: error: listeners[0].acme: it needs domains"},
		"a wildcard":   {head + "[listeners.acme]\nagree = true\ndomains = ['*.example.com']\n", `core.toml:7:1: error: listeners[0].acme.domains: "*.example.com" is no name`},
		"an address":   {head + "[listeners.acme]\nagree = true\ndomains = ['https://a.example.com']\n", `"https://a.example.com" is no name`},
		"no URL":       {head + "[listeners.acme]\n" + full + "ca = 'http://ca.lan'\n", `core.toml:8:1: error: listeners[0].acme.ca: "http://ca.lan" is no URL that begins with https://`},
		"files too":    {head + "cert_file = 'a'\nkey_file = 'b'\n[listeners.acme]\n" + full, "listeners[0]: it has a certificate in files and acme as well"},
		"without tls":  {"[[listeners]]\nname = 'x'\naddress = ':80'\n[listeners.acme]\n" + full, "a certificate belongs to kind tls"},
		"on a socket":  {"[[listeners]]\nname = 'x'\nkind = 'unix'\npath = '/x'\n[listeners.acme]\n" + full, "has neither an address nor a certificate"},
		"twice":        {head + "[listeners.acme]\n" + full + strings.ReplaceAll(head, "'x'", "'y'") + "[listeners.acme]\n" + full, "core.toml:13:1: error: listeners[1].acme.domains: a.example.com is there twice"},
		"misspelt":     {head + "[listeners.acme]\ndomain = []\n", `core.toml:6:1: error: unknown key "listeners[0].acme.domain"`},
	} {
		h.write(t, tc.text)
		_, _, err := h.load()
		if found, ok := errors.AsType[fleet.Diagnostics](err); !ok || !strings.Contains(found.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.write(t, head+"[listeners.acme]\n"+full+"ca_root = 'DIR/none.pem'\n")
	err := <-h.run(t.Context(), t, func() { t.Error("core serves") })
	if err == nil || !strings.Contains(err.Error(), "core.toml:8:1: error: open "+h.dir+"/none.pem") {
		t.Errorf("a root that is not there: %v", err)
	}
}
