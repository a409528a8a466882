package compose

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/memdir"
)

// reveal opens a file of the run directory that is encrypted. ok is false for one that is
// not. One that cannot be opened is reported at its own place, and is empty.
func (l *load) reveal(rel string, data []byte) (plain Plaintext, ok bool) {
	if known, seen := l.plain[rel]; seen {
		return known, true
	}
	if l.req.Decrypter == nil {
		return Plaintext{}, false
	}
	plain, ok, fault := l.req.Decrypter.Decrypt(l.show(rel), data)
	if fault != nil && !l.faulted[rel] {
		l.faulted[rel] = true
		l.add(fault.Severity, fault.Rule, fault.Position, fault.Message, fault.Hint)
	}
	if !ok {
		return Plaintext{}, false
	}
	l.plain[rel] = plain
	if plain.Public {
		return plain, true
	}
	for _, value := range plain.Values {
		l.seal.addDecrypted(value)
	}
	return plain, true
}

// sealNames hides the variables that an encrypted environment file sets, as they came out
// of it: quotes are no part of a value, and it may be made of others.
func (l *load) sealNames(rel string, vars map[string]string) {
	plain, ok := l.plain[rel]
	if !ok || plain.Public {
		return
	}
	var weak []string
	for _, name := range plain.Names {
		l.seal.names[name] = true
		if plain.Locked {
			l.unknown[name] = true
		}
		if plain.Locked || vars[name] == "" {
			continue
		}
		l.seal.addDecrypted(vars[name])
		if l.seal.weak[vars[name]] {
			weak = append(weak, name)
		}
	}
	if len(weak) > 0 && !l.faulted[rel] {
		l.faulted[rel] = true
		l.note("weak-secret", fleet.Position{File: l.show(rel), Line: 1, Col: 1},
			fmt.Sprintf("the values of %s are short or plain words: they are hidden where the variable is used, not wherever the word appears",
				strings.Join(weak, ", ")), "")
	}
}

// addDecrypted is addSecret for a value out of an encrypted file, in which passwords stand
// beside ports and log levels. A word such as "info" is hidden where it is all there is,
// and not taken out of every text.
func (s *sealer) addDecrypted(value string) {
	if !isWeak(value) {
		s.addSecret(value)
		return
	}
	if value != "" {
		s.weak[value] = true
	}
}

const (
	// shortSecret is how long a mixed value must be to stand out in a text, plainSecret one
	// of letters or digits only.
	shortSecret = 8
	plainSecret = 16
)

func isWeak(value string) bool {
	if len(value) < shortSecret {
		return true
	}
	kinds := map[string]bool{}
	for _, r := range value {
		switch {
		case unicode.IsLower(r):
			kinds["lower"] = true
		case unicode.IsUpper(r):
			kinds["upper"] = true
		case unicode.IsDigit(r):
			kinds["digit"] = true
		default:
			kinds["other"] = true
		}
	}
	return len(kinds) < 2 && len(value) < plainSecret
}

// doubt turns the errors since mark into notes when part of the stack is a stand-in: they
// may be about it.
func (l *load) doubt(mark int) {
	var locked []string
	for _, rel := range slices.Sorted(maps.Keys(l.plain)) {
		if l.plain[rel].Locked {
			locked = append(locked, l.show(rel))
		}
	}
	for i := mark; i < len(l.findings); i++ {
		if d := &l.findings[i]; d.Severity == fleet.SeverityError {
			d.Severity = fleet.SeverityNote
			d.Message += "; this may be for want of what is encrypted in " + strings.Join(locked, ", ")
		}
	}
}

// privateDir makes a directory for what compose-go reads by itself. It is in memory where
// the system has such a place, and must be when something decrypted goes there.
func (l *load) privateDir() (string, error) {
	const pattern = "varan-compose-"
	dir, err := memdir.New(pattern)
	switch {
	case err == nil:
		return dir, nil
	case len(l.plain) > 0:
		return "", fmt.Errorf("encrypted files cannot be used together with include, or extends from a file: %w", err)
	}
	if dir, err = os.MkdirTemp("", pattern); err != nil {
		return "", fmt.Errorf("make a private directory: %w", err)
	}
	return dir, nil
}
