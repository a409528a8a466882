package sops

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// dataKeySize is that of AES-256.
	dataKeySize = 32
	// nonceSize is what SOPS writes; what it reads may be of another size.
	nonceSize = 32
	tagSize   = 16
	// maxValue bounds one decrypted value.
	maxValue = 64 << 10
)

// cipherText is an encrypted value. Base64 holds no comma and no bracket.
var cipherText = regexp.MustCompile(`^ENC\[AES256_GCM,data:([^,\]]+),iv:([^,\]]+),tag:([^,\]]+),type:([a-z]+)\]$`)

// cipherMark is how every encrypted value begins.
const cipherMark = "ENC[AES256_GCM,data:"

var (
	errNotCipherText = errors.New("is not in the form of an encrypted value")
	errForged        = errors.New("does not open: it was changed, moved, or encrypted with another key")
	errValueTooLarge = errors.New("is too large")
)

// sealKey encrypts the values of one file.
type sealKey struct {
	key []byte
	// nonces are those the values were encrypted with: a value that did not change keeps
	// its ciphertext, so that a diff shows what did.
	nonces map[nonceKey][]byte
}

type nonceKey struct{ kind, text, place string }

func newSealKey(key []byte) *sealKey {
	return &sealKey{key: key, nonces: map[nonceKey][]byte{}}
}

// open decrypts a value. bound is the place it belongs to.
func (k *sealKey) open(text, bound string) (any, error) {
	m := cipherText.FindStringSubmatch(text)
	if m == nil {
		return nil, errNotCipherText
	}
	if base64.StdEncoding.DecodedLen(len(m[1])) > maxValue+3 {
		return nil, errValueTooLarge
	}
	var parts [3][]byte
	for i := range parts {
		part, err := base64.StdEncoding.DecodeString(m[i+1])
		if err != nil {
			return nil, errNotCipherText
		}
		parts[i] = part
	}
	data, nonce, tag := parts[0], parts[1], parts[2]
	if len(nonce) == 0 || len(nonce) > 2*nonceSize || len(tag) != tagSize {
		return nil, errNotCipherText
	}
	if len(data) > maxValue {
		return nil, errValueTooLarge
	}
	gcm, err := newGCM(k.key, len(nonce))
	if err != nil {
		return nil, err
	}
	plain, err := gcm.Open(nil, nonce, append(data, tag...), []byte(bound))
	if err != nil {
		return nil, errForged
	}
	k.nonces[nonceKey{m[4], string(plain), bound}] = nonce
	return typed(m[4], string(plain))
}

// typed makes a value of a decrypted text.
func typed(kind, text string) (value any, err error) {
	switch kind {
	case "str", "bytes":
		return text, nil
	case "int":
		value, err = strconv.Atoi(text)
	case "float":
		value, err = strconv.ParseFloat(text, 64)
	case "bool":
		value, err = strconv.ParseBool(text)
	case "time":
		var t time.Time
		err = t.UnmarshalText([]byte(text))
		value = t
	case "comment":
		return comment{text: text}, nil
	default:
		return nil, errNotCipherText
	}
	if err != nil {
		return nil, errNotCipherText // the error would quote the value
	}
	return value, nil
}

// seal encrypts a value for a place. Nothing is left of an empty one.
func (k *sealKey) seal(value any, bound string) (string, error) {
	text, ok := macText(value)
	if !ok {
		return "", errors.New("is of a kind that cannot be encrypted")
	}
	if text == "" {
		return "", nil
	}
	if len(text) > maxValue {
		return "", errValueTooLarge
	}
	kind := kindOf(value)
	nonce := k.nonces[nonceKey{kind, text, bound}]
	if len(nonce) != nonceSize {
		nonce = make([]byte, nonceSize)
		_, _ = rand.Read(nonce) // never fails: it crashes the program instead
	}
	gcm, err := newGCM(k.key, nonceSize)
	if err != nil {
		return "", err
	}
	out := gcm.Seal(nil, nonce, []byte(text), []byte(bound))
	encode, split := base64.StdEncoding.EncodeToString, len(out)-tagSize
	return cipherMark + encode(out[:split]) + ",iv:" + encode(nonce) + ",tag:" + encode(out[split:]) + ",type:" + kind + "]", nil
}

func kindOf(value any) string {
	switch value.(type) {
	case int:
		return "int"
	case float64:
		return "float"
	case bool:
		return "bool"
	case time.Time:
		return "time"
	case comment:
		return "comment"
	}
	return "str"
}

func newGCM(key []byte, nonce int) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, errors.New("the data key has a wrong length")
	}
	return cipher.NewGCMWithNonceSize(block, nonce) //nolint:wrapcheck // cannot fail with a size above zero
}

// bound is the place a value is tied to.
func bound(path []string) string { return strings.Join(path, ":") + ":" }
