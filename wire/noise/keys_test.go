package noise_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"testing"

	"github.com/varanhq/varan/wire/noise"
)

func newKey(tb testing.TB) noise.PrivateKey {
	tb.Helper()
	key, err := noise.GenerateKey()
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func keyPEM(tb testing.TB, key noise.PrivateKey) []byte {
	tb.Helper()
	text, err := key.PEM()
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

func TestKeysSurviveTheirWrittenForms(t *testing.T) {
	key := newKey(t)
	text := keyPEM(t, key)
	block, _ := pem.Decode(text)
	for name, form := range map[string][]byte{
		"PEM":        text,
		"base64 DER": []byte(base64.StdEncoding.EncodeToString(block.Bytes) + "\n"),
	} {
		got, err := noise.ParsePrivateKey(form)
		if err != nil {
			t.Fatalf("private key as %s: %v", name, err)
		}
		if got.Public() != key.Public() {
			t.Errorf("private key as %s came back as another key", name)
		}
	}
	for name, form := range map[string]string{
		"PEM": string(key.Public().PEM()), "base64 DER": " " + key.Public().String() + "\n",
	} {
		got, err := noise.ParsePublicKey(form)
		if err != nil {
			t.Fatalf("public key as %s: %v", name, err)
		}
		if got != key.Public() {
			t.Errorf("public key as %s came back as another key", name)
		}
	}
	var fromJSON noise.PublicKey
	encoded, err := json.Marshal(key.Public())
	if err == nil {
		err = json.Unmarshal(encoded, &fromJSON)
	}
	if err != nil || fromJSON != key.Public() {
		t.Errorf("public key through JSON: %v, %v", fromJSON, err)
	}
	if !strings.HasPrefix(key.Public().String(), "MCowBQYDK2VuAyEA") {
		t.Errorf("public key %s is not written as Komodo writes keys", key.Public())
	}
}

func TestOtherKeysAreRefused(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, foreign := range map[string][2]any{
		"ECDSA": {p256, p256.Public()}, "Ed25519": {edPrivate, edPublic}, "ECDH P-384": {p384, p384.PublicKey()},
	} {
		private, err := x509.MarshalPKCS8PrivateKey(foreign[0])
		if err != nil {
			t.Fatal(err)
		}
		public, err := x509.MarshalPKIXPublicKey(foreign[1])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := noise.ParsePrivateKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})); err == nil {
			t.Errorf("%s: private key accepted", name)
		}
		if _, err := noise.ParsePublicKey(base64.StdEncoding.EncodeToString(public)); err == nil {
			t.Errorf("%s: public key accepted", name)
		}
	}
	key := newKey(t)
	for name, bad := range map[string]string{
		"empty": "", "a public key": string(key.Public().PEM()), "garbage": "O_secret_O",
		"two blocks": string(keyPEM(t, key)) + string(keyPEM(t, key)),
	} {
		if _, err := noise.ParsePrivateKey([]byte(bad)); err == nil {
			t.Errorf("private key from %s accepted", name)
		} else if len(bad) > 20 && strings.Contains(err.Error(), bad[30:40]) {
			t.Errorf("private key from %s: the error quotes it", name)
		}
	}
	if _, err := (noise.PrivateKey{}).PEM(); err == nil {
		t.Error("no key was encoded")
	}
}

func TestPrivateKeyNeverPrintsItself(t *testing.T) {
	key := newKey(t)
	block, _ := pem.Decode(keyPEM(t, key))
	raw := block.Bytes[len(block.Bytes)-32:]
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", slog.Any("key", key))
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", slog.Any("key", key))
	type holder struct {
		Key noise.PrivateKey
		own noise.PrivateKey
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		fmt.Fprintf(&out, verb, key)
		fmt.Fprintf(&out, verb, holder{key, key})
	}
	for _, form := range []string{
		string(raw), fmt.Sprintf("%x", raw), strings.Trim(fmt.Sprintf("%d", raw), "[]"),
		base64.StdEncoding.EncodeToString(raw), base64.StdEncoding.EncodeToString(block.Bytes),
	} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the key shows in %s", out.String())
		}
	}
}

func TestOpenSSLReadsOurKeys(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	key := newKey(t)
	openssl := func(in []byte, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "openssl", args...)
		cmd.Stdin = bytes.NewReader(in)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("openssl %v: %v", args, err)
		}
		return string(out)
	}
	if got := openssl(keyPEM(t, key), "pkey", "-pubout"); got != string(key.Public().PEM()) {
		t.Errorf("openssl derives\n%swant\n%s", got, key.Public().PEM())
	}
	theirs, err := noise.ParsePrivateKey([]byte(openssl(nil, "genpkey", "-algorithm", "X25519")))
	if err != nil || theirs.IsZero() {
		t.Errorf("a key from openssl: %v", err)
	}
}

func FuzzParsePublicKey(f *testing.F) {
	f.Add("MCowBQYDK2VuAyEAAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	f.Add("-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----")
	f.Fuzz(func(t *testing.T, s string) {
		key, err := noise.ParsePublicKey(s)
		if err != nil {
			return
		}
		if again, err := noise.ParsePublicKey(key.String()); err != nil || again != key {
			t.Errorf("%q: %v does not survive its own form: %v", s, key, err)
		}
	})
}
