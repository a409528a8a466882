package docker

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// localSecrets are the secrets of this host: core knows their names and versions.
type localSecrets struct {
	values map[string]fleet.Secret
	redact *strings.Replacer
}

// minRedacted is how short a value may be and still be looked for: taking every "1" out
// of a log would help nobody.
const minRedacted = 4

func newLocalSecrets(values map[string]fleet.Secret) localSecrets {
	var texts []string
	for _, s := range values {
		texts = append(texts, s.Reveal())
	}
	return localSecrets{values: values, redact: redactor(texts)}
}

// redactor replaces values, and each line of those that have several.
func redactor(texts []string) *strings.Replacer {
	found := map[string]bool{}
	for _, text := range texts {
		for _, part := range append(strings.Split(text, "\n"), text) {
			if part = strings.TrimSpace(part); len(part) >= minRedacted {
				found[part] = true
			}
		}
	}
	// The longest first: one value may be the beginning of another.
	sorted := slices.SortedFunc(maps.Keys(found), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
	})
	pairs := make([]string, 0, 2*len(sorted))
	for _, value := range sorted {
		pairs = append(pairs, value, fleet.NewSecret(value).String())
	}
	return strings.NewReplacer(pairs...)
}

// clean takes the values out of a text for people.
func (s localSecrets) clean(text string) string { return s.redact.Replace(text) }

// has reports whether a content holds the place of a secret.
func (localSecrets) has(content []byte) bool {
	return bytes.Contains(content, []byte(fleet.LocalMark))
}

// fill puts the values in their places; unknown names the first that is not here.
func (s localSecrets) fill(content []byte) (filled []byte, unknown string) {
	if !s.has(content) {
		return content, ""
	}
	text, unknown := fleet.ReplaceLocalSecrets(string(content), func(name string) (string, bool) {
		value, ok := s.values[name]
		return value.Reveal(), ok
	})
	return []byte(text), unknown
}

// LocalSecrets names the secrets of this host, sorted. A version is a hash that is keyed
// by the agent: it changes with the value and says nothing of it.
func (e *Engine) LocalSecrets() []fleet.LocalSecret {
	var out []fleet.LocalSecret
	for _, name := range slices.Sorted(maps.Keys(e.secrets.values)) {
		mac := hmac.New(sha256.New, e.key)
		mac.Write([]byte("local secret\x00" + name + "\x00" + e.secrets.values[name].Reveal()))
		out = append(out, fleet.LocalSecret{Name: name, Version: hex.EncodeToString(mac.Sum(nil)[:12])})
	}
	return out
}
