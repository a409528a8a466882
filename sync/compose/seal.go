package compose

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
)

// sealer knows the secrets of a stack and keeps them out of everything that is shown,
// stored in the clear or hashed without a key.
type sealer struct {
	key []byte
	// secrets are longest first, so that redaction prefers the whole to its part.
	secrets []string
	// names are the variables whose value holds a secret.
	names map[string]bool
	// weak are secrets that are no more than a word: only a text that is one is hidden.
	weak map[string]bool
}

func newSealer(key []byte) *sealer {
	return &sealer{key: key, names: map[string]bool{}, weak: map[string]bool{}}
}

func (s *sealer) addSecret(value string) {
	if value == "" || slices.Contains(s.secrets, value) {
		return
	}
	s.secrets = append(s.secrets, value)
	slices.SortFunc(s.secrets, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
	})
}

// nameSecrets remembers the variables that carry a secret.
func (s *sealer) nameSecrets(env map[string]string) {
	for name, value := range env {
		if s.holds(value) {
			s.names[name] = true
		}
	}
}

// holds reports whether a secret is part of text, or a weak one all of it.
func (s *sealer) holds(text string) bool {
	return s.weak[text] || slices.ContainsFunc(s.secrets, func(secret string) bool { return strings.Contains(text, secret) })
}

// redact takes the secrets out of a text for people. One or two characters are in every
// sentence: taking them out would tell more than leaving them in.
func (s *sealer) redact(text string) string {
	if !s.holds(text) {
		return text
	}
	pairs := make([]string, 0, 2*len(s.secrets))
	for _, secret := range s.secrets {
		if len(secret) > 2 {
			pairs = append(pairs, secret, "[secret]")
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// keyed is a hash that only holders of the key can compute or guess at. context keeps
// equal values in different places apart.
func (s *sealer) keyed(context, text string) string {
	mac := hmac.New(sha256.New, s.key)
	_, _ = mac.Write([]byte(context))
	_, _ = mac.Write([]byte{0})
	_, _ = mac.Write([]byte(text))
	return "hmac:" + hex.EncodeToString(mac.Sum(nil)[:20])
}

// prefix puts a comment with a keyed hash of data before data, so that a plain digest
// of the whole cannot be used to guess at data.
func (s *sealer) prefix(data []byte) []byte {
	return slices.Concat([]byte("# "+s.keyed("content", string(data))+"\n"), data)
}

// sealTree replaces what holds a secret in a JSON value, keys included. everything is
// set where a secret went in and may have been taken apart, as a command line is.
func (s *sealer) sealTree(value any, context string, everything bool) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, inner := range v {
			name := key
			if s.holds(key) {
				name = s.keyed(context, key)
			}
			out[name] = s.sealTree(inner, context+"."+name, everything)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, inner := range v {
			out[i] = s.sealTree(inner, context, everything)
		}
		return out
	case nil:
		return nil
	default:
		if text := textOf(value); everything || s.holds(text) {
			return s.keyed(context, text)
		}
		return value
	}
}

// textOf is a JSON scalar as people write it.
func textOf(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		if v {
			return "true"
		}
		return "false"
	case nil:
		return "null"
	}
	return ""
}
