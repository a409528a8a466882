package noise

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/varanhq/varan/wire"
)

const (
	privateKeyPEM = "PRIVATE KEY"
	publicKeyPEM  = "PUBLIC KEY"
	redacted      = "[private key]"
)

// PrivateKey is the long-term identity of a core or an agent: an X25519 key. Every way
// of printing or encoding it redacts it; only PEM writes it out. The zero value is no key.
type PrivateKey struct {
	// reveal is a function because fmt prints what a pointer in an unexported field of
	// an unexported field points to, whatever methods this type has.
	reveal func() *ecdh.PrivateKey
}

func newPrivateKey(key *ecdh.PrivateKey) PrivateKey {
	return PrivateKey{func() *ecdh.PrivateKey { return key }}
}

// GenerateKey makes a new private key.
func GenerateKey() (PrivateKey, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("generate key: %w", err)
	}
	return newPrivateKey(key), nil
}

// ParsePrivateKey reads PKCS#8 in PEM, or the same DER in one line of base64. Its
// errors never quote the input.
func ParsePrivateKey(text []byte) (PrivateKey, error) {
	der, err := decodeDER(text, privateKeyPEM)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("parse private key: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return PrivateKey{}, errors.New("parse private key: not PKCS#8")
	}
	key, ok := parsed.(*ecdh.PrivateKey)
	if !ok || key.Curve() != ecdh.X25519() {
		return PrivateKey{}, errors.New("parse private key: not an X25519 key")
	}
	return newPrivateKey(key), nil
}

// IsZero reports whether there is no key.
func (k PrivateKey) IsZero() bool { return k.reveal == nil }

// Public is the public half; no key has none.
func (k PrivateKey) Public() PublicKey {
	if k.IsZero() {
		return PublicKey{}
	}
	return PublicKey(k.reveal().PublicKey().Bytes())
}

// PEM is the key in PKCS#8, as openssl reads it. Write it only to a key file.
func (k PrivateKey) PEM() ([]byte, error) {
	if k.IsZero() {
		return nil, errors.New("encode private key: no key")
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.reveal())
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: privateKeyPEM, Bytes: der}), nil
}

// String redacts.
func (PrivateKey) String() string { return redacted }

// Format redacts under every verb.
func (PrivateKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText redacts in JSON and structured logs.
func (PrivateKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// PublicKey is the public half of a PrivateKey. It is comparable; the zero value is no key.
type PublicKey [32]byte

// ParsePublicKey reads what String wrote, or SubjectPublicKeyInfo in PEM.
func ParsePublicKey(text string) (PublicKey, error) {
	der, err := decodeDER([]byte(text), publicKeyPEM)
	if err != nil {
		return PublicKey{}, fmt.Errorf("parse public key: %w", err)
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return PublicKey{}, fmt.Errorf("parse public key: %w", err)
	}
	key, ok := parsed.(*ecdh.PublicKey)
	if !ok || key.Curve() != ecdh.X25519() {
		return PublicKey{}, errors.New("parse public key: not an X25519 key")
	}
	return PublicKey(key.Bytes()), nil
}

// IsZero reports whether there is no key.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// Fingerprint is short enough to compare by eye and long enough to pin.
func (k PublicKey) Fingerprint() wire.Fingerprint {
	sum := sha256.Sum256(k.der())
	return wire.Fingerprint(sum[:16])
}

// String is SubjectPublicKeyInfo DER in base64, as Komodo writes keys: MCowBQYDK2VuAyEA...
func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k.der()) }

// PEM is the key as openssl reads it.
func (k PublicKey) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: publicKeyPEM, Bytes: k.der()})
}

// MarshalText writes String.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText is ParsePublicKey.
func (k *PublicKey) UnmarshalText(text []byte) (err error) {
	*k, err = ParsePublicKey(string(text))
	return err
}

// der is SubjectPublicKeyInfo: for X25519 a constant head and the 32 bytes of the key.
func (k PublicKey) der() []byte {
	return append([]byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00}, k[:]...)
}

// decodeDER accepts a single PEM block of that type, or base64 DER on one line.
func decodeDER(text []byte, blockType string) ([]byte, error) {
	text = bytes.TrimSpace(text)
	if !bytes.HasPrefix(text, []byte("-----")) {
		der, err := base64.StdEncoding.Strict().DecodeString(string(text))
		if err != nil {
			return nil, errors.New("neither PEM nor base64")
		}
		return der, nil
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != blockType || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("want exactly one PEM block of type %s", blockType)
	}
	return block.Bytes, nil
}
