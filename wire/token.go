package wire

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// tokenPrefix starts every onboarding token; the digit is its format's version.
const tokenPrefix = "vo1"

// Fingerprint is the start of the SHA-256 of a public key's SPKI DER, as in
// `openssl pkey -pubin -outform DER | sha256sum`. It is long enough to pin a key.
type Fingerprint [16]byte

// String is lower-case base32 without padding, as in an onboarding token.
func (f Fingerprint) String() string { return tokenEncoding().EncodeToString(f[:]) }

// OnboardingToken lets one new agent join: an id to look it up by, a secret that
// proves the right to join, and the fingerprint of the one core it may be shown to.
// It is written vo1_<id>_<secret>_<core>, each part in lower-case base32, and shown to
// a person once. Printing or encoding it redacts the secret; only Reveal does not.
type OnboardingToken struct {
	id     string
	secret fleet.Secret
	core   Fingerprint
}

// NewOnboardingToken makes a token with a random id and secret.
func NewOnboardingToken(core Fingerprint) OnboardingToken {
	var random [8 + 32]byte
	_, _ = rand.Read(random[:]) // never fails
	return OnboardingToken{
		id:     tokenEncoding().EncodeToString(random[:8]),
		secret: fleet.NewSecret(string(random[8:])),
		core:   core,
	}
}

// ParseOnboardingToken reads the one canonical form of a token: no spaces, no upper
// case, no stray bits. Its errors never quote the input.
func ParseOnboardingToken(s string) (OnboardingToken, error) {
	parts := strings.Split(s, "_")
	if len(parts) != 4 || parts[0] != tokenPrefix {
		return OnboardingToken{}, errors.New("parse onboarding token: want vo1_<id>_<secret>_<core>")
	}
	if _, err := decodeTokenPart(parts[1], 8); err != nil {
		return OnboardingToken{}, fmt.Errorf("parse onboarding token: id: %w", err)
	}
	secret, err := decodeTokenPart(parts[2], 32)
	if err != nil {
		return OnboardingToken{}, fmt.Errorf("parse onboarding token: secret: %w", err)
	}
	core, err := decodeTokenPart(parts[3], 16)
	if err != nil {
		return OnboardingToken{}, fmt.Errorf("parse onboarding token: core fingerprint: %w", err)
	}
	return OnboardingToken{
		id:     parts[1],
		secret: fleet.NewSecret(string(secret)),
		core:   Fingerprint(core),
	}, nil
}

// ID names the token in lists and logs; it is not secret.
func (t OnboardingToken) ID() string { return t.id }

// Core is the fingerprint of the core that issued the token.
func (t OnboardingToken) Core() Fingerprint { return t.core }

// SecretHash is the SHA-256 of the secret: what a core stores and compares.
func (t OnboardingToken) SecretHash() [32]byte { return sha256.Sum256([]byte(t.secret.Reveal())) }

// Reveal is the whole token. Call it only to show it once or to send it to its core.
func (t OnboardingToken) Reveal() string {
	secret := tokenEncoding().EncodeToString([]byte(t.secret.Reveal()))
	return strings.Join([]string{tokenPrefix, t.id, secret, t.core.String()}, "_")
}

// String redacts the secret.
func (t OnboardingToken) String() string {
	return strings.Join([]string{tokenPrefix, t.id, t.secret.String(), t.core.String()}, "_")
}

// Format redacts the secret under every verb.
func (t OnboardingToken) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// MarshalText redacts the secret in JSON and structured logs.
func (t OnboardingToken) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

func decodeTokenPart(s string, size int) ([]byte, error) {
	b, err := tokenEncoding().DecodeString(s)
	// The decoder tolerates line breaks and stray bits; one value must have one form.
	if err != nil || tokenEncoding().EncodeToString(b) != s {
		return nil, errors.New("not canonical lower-case base32")
	}
	if len(b) != size {
		return nil, fmt.Errorf("%d bytes, want %d", len(b), size)
	}
	return b, nil
}

func tokenEncoding() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}
