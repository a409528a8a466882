package noise

import (
	"time"

	"github.com/flynn/noise"
)

// StockKey and StockCipher are the library's own types, for the tests that play a
// foreign implementation.
type (
	StockKey    = noise.DHKey
	StockCipher = noise.CipherState
)

// StockHandshake is the library as it comes, with its own Diffie-Hellman function.
func StockHandshake(initiator bool, prologue []byte, key StockKey) (*noise.HandshakeState, error) {
	return noise.NewHandshakeState(noise.Config{
		CipherSuite: noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashSHA256),
		Pattern:     noise.HandshakeXX, Initiator: initiator, Prologue: prologue, StaticKeypair: key,
	})
}

// SetNonces moves both directions to a nonce, as if so many messages had passed.
func (c *Conn) SetNonces(n uint64) {
	c.send.SetNonce(n)
	c.recv.SetNonce(n)
}

// RenewAt is when the connection is due for renewal by age.
func (c *Conn) RenewAt() time.Time { return c.renewAt }
