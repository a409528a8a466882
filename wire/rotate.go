package wire

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// RotateStart asks an agent to change its key.
type RotateStart struct {
	Epoch uint64 `json:"epoch"`
	// ID names the change; Welcome repeats it as long as it is under way.
	ID string `json:"id"`
}

// RotateProposed is the key that an agent wants to change to; its private half is on the
// agent's disk already. It may be repeated.
type RotateProposed struct {
	ID string `json:"id"`
	// Key is SubjectPublicKeyInfo in base64.
	Key string `json:"key"`
	// MAC is RotateMAC for the connection that the message goes over.
	MAC []byte `json:"mac"`
}

// RotateAccepted says that core lets the agent in with either key.
type RotateAccepted struct {
	ID string `json:"id"`
}

// RotateConfirmed says that the new key has the old one's place on the agent's disk.
type RotateConfirmed struct{}

// RotateDone says that the old key is of no use any more.
type RotateDone struct{}

// CoreKeys are the keys that core has, or will have.
type CoreKeys struct {
	// Current is the key in use, Next the one that will take its place, if there is one; both
	// SubjectPublicKeyInfo in base64. Every other key is one that core had before.
	Current string `json:"current"`
	Next    string `json:"next,omitempty"`
}

// RotateMAC binds a proposal to one connection, by its handshake hash: whoever copies it to
// another is refused (rule N13).
func RotateMAC(binding [32]byte, id, key string) []byte {
	mac := hmac.New(sha256.New, binding[:])
	for _, part := range []string{"varan-rotate", id, key} {
		var size [4]byte
		binary.BigEndian.PutUint32(size[:], uint32(len(part))) //nolint:gosec // both are short
		mac.Write(size[:])
		mac.Write([]byte(part))
	}
	return mac.Sum(nil)
}
