package noise

import (
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"io"

	"github.com/flynn/noise"
)

// The library passes private keys around as bytes and would parse them for each use,
// which costs as much as the use itself. It gets handles instead: it never sees a
// private key, and each key is parsed once.
const (
	staticHandle    = "static"
	ephemeralHandle = "ephemeral"
)

// handshakeDH is X25519 for one side of one handshake.
type handshakeDH struct{ static, ephemeral *ecdh.PrivateKey }

// GenerateKeypair makes the ephemeral key. The randomness is always the system's.
func (d *handshakeDH) GenerateKeypair(io.Reader) (noise.DHKey, error) {
	if d.ephemeral != nil {
		return noise.DHKey{}, errors.New("second ephemeral key in one handshake")
	}
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return noise.DHKey{}, err
	}
	d.ephemeral = key
	return noise.DHKey{Private: []byte(ephemeralHandle), Public: key.PublicKey().Bytes()}, nil
}

// DH fails for a handle that is not ours and for points of low order.
func (d *handshakeDH) DH(handle, public []byte) ([]byte, error) {
	var key *ecdh.PrivateKey
	switch string(handle) {
	case staticHandle:
		key = d.static
	case ephemeralHandle:
		key = d.ephemeral
	}
	if key == nil {
		return nil, errors.New("no such private key")
	}
	point, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	return key.ECDH(point)
}

func (*handshakeDH) DHLen() int     { return 32 }
func (*handshakeDH) DHName() string { return "25519" }

// suite is the protocol's primitives. The library's own way to put them together makes
// a new name for each handshake.
type suite struct {
	noise.DHFunc
	noise.CipherFunc
	noise.HashFunc
}

// Name implements noise.CipherSuite.
func (suite) Name() []byte { return []byte("25519_ChaChaPoly_SHA256") }

func newSuite(dh noise.DHFunc) suite {
	return suite{dh, noise.CipherChaChaPoly, noise.HashSHA256}
}
