package commitsig

import (
	"bytes"
	"fmt"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

func (s Signers) verifyPGP(payload, armored []byte) (string, error) {
	at, err := signedAt(armored)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	// A key that has expired since still vouches for what it signed in its time.
	config := &packet.Config{Time: func() time.Time { return at }}
	entity, err := openpgp.CheckArmoredDetachedSignature(s.pgp, bytes.NewReader(payload), bytes.NewReader(armored), config)
	if err == errors.ErrUnknownIssuer { //nolint:errorlint // errors is the OpenPGP library's here, and it wraps none
		return "", ErrUnknownKey
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nameOf(entity), nil
}

// nameOf is what a key says of its owner, or its fingerprint.
func nameOf(entity *openpgp.Entity) string {
	if id := entity.PrimaryIdentity(); id != nil {
		return id.Name
	}
	return fmt.Sprintf("%X", entity.PrimaryKey.Fingerprint)
}

// signedAt is when an OpenPGP signature says that it was made.
func signedAt(armored []byte) (time.Time, error) {
	block, err := armor.Decode(bytes.NewReader(armored))
	if err != nil {
		return time.Time{}, err
	}
	p, err := packet.Read(block.Body)
	if err != nil {
		return time.Time{}, err
	}
	signature, ok := p.(*packet.Signature)
	if !ok {
		return time.Time{}, errors.StructuralError("it holds no signature")
	}
	return signature.CreationTime, nil
}
