package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Digest names content: "sha256:" and 64 hex digits. A digest over something that
// holds a secret is computed over a keyed hash of the secret, never over the secret.
type Digest string

// SumDigest is the digest of b.
func SumDigest(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// Short is the first twelve hex digits.
func (d Digest) Short() string {
	hexPart := strings.TrimPrefix(string(d), "sha256:")
	if len(hexPart) > 12 {
		return hexPart[:12]
	}
	return hexPart
}

// Valid reports whether d is well formed, so that it may become a file name.
func (d Digest) Valid() bool {
	hexPart, ok := strings.CutPrefix(string(d), "sha256:")
	if !ok || len(hexPart) != 64 {
		return false
	}
	return strings.Trim(hexPart, "0123456789abcdef") == ""
}
