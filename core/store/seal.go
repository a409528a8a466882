package store

import (
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// SealKeySize is the length of Config.SealKey.
const SealKeySize = chacha20poly1305.KeySize

// errSealed says that a sealed value does not open: another key, or a value that was
// moved or changed.
var errSealed = errors.New("the value does not open with this seal key")

// sealer encrypts values with XChaCha20-Poly1305 and a random nonce. Where a value stands
// is authenticated with it, so that nobody who can write the file can move a secret to
// a place where it is shown.
type sealer struct{ aead cipher.AEAD }

func newSealer(key []byte) (sealer, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return sealer{}, fmt.Errorf("use the seal key: %w", err)
	}
	return sealer{aead}, nil
}

// place names a cell of the database.
type place struct{ table, column, row string }

func (p place) bytes() []byte { return []byte(p.table + "\x00" + p.column + "\x00" + p.row) }

func (s sealer) seal(at place, plain []byte) []byte {
	nonce := make([]byte, s.aead.NonceSize(), s.aead.NonceSize()+len(plain)+s.aead.Overhead())
	_, _ = rand.Read(nonce) // never fails: it crashes the program instead
	return s.aead.Seal(nonce, nonce, plain, at.bytes())
}

func (s sealer) open(at place, sealed []byte) ([]byte, error) {
	if len(sealed) < s.aead.NonceSize() {
		return nil, fmt.Errorf("open %s.%s of %q: %w", at.table, at.column, at.row, errSealed)
	}
	nonce, box := sealed[:s.aead.NonceSize()], sealed[s.aead.NonceSize():]
	plain, err := s.aead.Open(nil, nonce, box, at.bytes())
	if err != nil {
		return nil, fmt.Errorf("open %s.%s of %q: %w", at.table, at.column, at.row, errSealed)
	}
	return plain, nil
}
