package sops

import (
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// ErrNotForUs says that none of the identities opens a file.
var ErrNotForUs = errors.New("none of the identities opens it")

// CheckAgeRecipient reports why a text is no age recipient that can be encrypted for.
func CheckAgeRecipient(text string) error {
	_, err := ageRecipient(text)
	return err
}

// EncryptTo encrypts what is written for age recipients, as the program age does. What was
// written is not whole before it is closed.
func EncryptTo(w io.Writer, recipients []string) (io.WriteCloser, error) {
	to := make([]age.Recipient, len(recipients))
	for i, text := range recipients {
		r, err := ageRecipient(text)
		if err != nil {
			return nil, fmt.Errorf("age recipient %q: %w", shown(text), err)
		}
		to[i] = r
	}
	out, err := age.Encrypt(w, to...)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return out, nil
}

// DecryptFrom opens what EncryptTo or the program age wrote. A part of it that was changed,
// and an end that is missing, are errors of the reader.
func (ids *Identities) DecryptFrom(r io.Reader) (io.Reader, error) {
	plain, err := age.Decrypt(r, ids.ages...)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, ErrNotForUs
	}
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	return plain, nil
}
