package fleet

import (
	"crypto/subtle"
	"fmt"
	"io"
)

// redacted is all that a Secret ever prints.
const redacted = "[secret]"

// Secret is a value that must not be shown. Every way Go has of printing or
// encoding it gives "[secret]"; only Reveal returns the value.
type Secret struct {
	// Two secrets are never compared by ==: it would compare addresses.
	_ [0]func()
	// value is behind a pointer because fmt calls no methods on unexported fields of the
	// structs it prints: there it shows an address, not the value.
	value *string
}

// NewSecret wraps a value.
func NewSecret(value string) Secret { return Secret{value: &value} }

// Reveal returns the value. Call it only where the value is used.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Equal reports whether two secrets hold the same value, in a time that tells nothing else.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// IsEmpty reports whether there is no value.
func (s Secret) IsEmpty() bool { return s.Reveal() == "" }

// String redacts.
func (Secret) String() string { return redacted }

// GoString redacts.
func (Secret) GoString() string { return redacted }

// Format redacts under every verb, %x and %q included.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText redacts in JSON, TOML and structured logs.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
