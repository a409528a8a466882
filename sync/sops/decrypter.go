package sops

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
)

// Keyring holds the identities of a fleet. It is safe for concurrent use.
type Keyring struct {
	// Trusted are for the files of trusted servers, Untrusted for those of all. What is
	// encrypted for the trusted ones alone never reaches an untrusted server.
	Trusted, Untrusted *Identities
	// Offline says that files which cannot be opened here can be opened elsewhere: that is
	// a note then, and what is known of such a file without opening it is used.
	Offline bool
	// Options are what is accepted beyond the usual.
	Options Options
}

var _ compose.Decrypter = (*decrypter)(nil)

// For returns the decrypter of a tier.
func (k *Keyring) For(tier fleet.Tier) compose.Decrypter {
	d := &decrypter{ring: k, tier: cmp.Or(tier, fleet.TierTrusted), ids: k.Untrusted}
	if d.tier != fleet.TierUntrusted {
		d.ids = join(k.Trusted, k.Untrusted)
	}
	return d
}

func join(sets ...*Identities) *Identities {
	out := &Identities{}
	for _, ids := range sets {
		if ids != nil {
			out.ages = append(out.ages, ids.ages...)
			out.ring = append(out.ring, ids.ring...)
			out.recipients = append(out.recipients, ids.recipients...)
		}
	}
	return out
}

// decrypter opens files with the identities of one tier.
type decrypter struct {
	ring *Keyring
	tier fleet.Tier
	ids  *Identities
}

// Identities names what the keyring opens, without telling keys: when it changes, files
// are to be opened again.
func (k *Keyring) Identities() string {
	return fmt.Sprintf("%s %s %t %t", k.Trusted.fingerprint(), k.Untrusted.fingerprint(), k.Offline, k.Options.MACOnlyEncrypted)
}

// Decrypt implements compose.Decrypter.
func (d *decrypter) Decrypt(name string, data []byte) (compose.Plaintext, bool, *fleet.Diagnostic) {
	file, bad := Read(name, data)
	if bad != nil {
		return compose.Plaintext{}, true, bad
	}
	if file == nil {
		return compose.Plaintext{}, false, pretends(name, data)
	}
	opened, fault := file.open(d.ids, d.ring.Options)
	if fault == nil {
		return compose.Plaintext{Data: opened.Data, Values: opened.Values, Names: opened.Names}, true, d.outdated(file)
	}
	if fault.rule == ruleKey {
		return d.locked(file, fault)
	}
	return compose.Plaintext{}, true, fault.diagnostic(name)
}

// outdated warns of a file that an old identity opens, but not the newest one: it is to be
// encrypted again before the old one is taken away.
func (d *decrypter) outdated(file *File) *fleet.Diagnostic {
	sets := []*Identities{d.ring.Untrusted}
	if d.tier != fleet.TierUntrusted {
		sets = append(sets, d.ring.Trusted)
	}
	rotated := false
	for _, ids := range sets {
		for _, kind := range []Kind{KindAge, KindPGP} {
			newest, older := ids.newest(kind)
			if newest.ID != "" && matchesAny(newest, file.Recipients()) {
				return nil
			}
			rotated = rotated || older
		}
	}
	if !rotated || d.ring.Offline {
		return nil
	}
	out := (&fault{
		rule: ruleOldKey, message: "the file is encrypted for an old identity of core only",
		hint: "add the new one to .sops.yaml (varan key age show), then: varan secret rekey", at: file.meta.keys[0].at,
	}).diagnostic(file.path)
	out.Severity = fleet.SeverityWarning
	return out
}

// locked is for a file that no identity of the tier opens.
func (d *decrypter) locked(file *File, bad *fault) (compose.Plaintext, bool, *fleet.Diagnostic) {
	if d.tier == fleet.TierUntrusted && slices.ContainsFunc(file.Recipients(), func(r Recipient) bool {
		return matchesAny(r, d.ring.Trusted.Recipients())
	}) {
		bad.rule = ruleTier
		bad.message = "the file is encrypted for trusted servers only, and is used on an untrusted one"
		bad.hint = "encrypt it for an untrusted identity of core, too, if it may be known there: varan secret rekey"
		return compose.Plaintext{}, true, bad.diagnostic(file.path)
	}
	out := bad.diagnostic(file.path)
	if !d.ring.Offline {
		return compose.Plaintext{}, true, out
	}
	out.Severity = fleet.SeverityNote
	out.Message = fmt.Sprintf("the file is encrypted for %s and cannot be opened here; core can open it if it has the identity",
		names(file.Recipients()))
	out.Hint = "SOPS_AGE_KEY_FILE names a file of age identities to check it with"
	data, err := file.standIn()
	if err != nil {
		return compose.Plaintext{}, true, badFormat(place{}, "%v", err).diagnostic(file.path)
	}
	return compose.Plaintext{Data: data, Names: file.Names(), Locked: true}, true, out
}

// standIn is the file with something of the right kind in place of every encrypted value.
// A zero is a number, a port, a size, a time and a name.
func (f *File) standIn() ([]byte, error) {
	fill := walker{visit: func(l leaf) (any, error) {
		text, _ := l.value.(string)
		m := cipherText.FindStringSubmatch(text)
		if m == nil {
			return l.value, nil
		}
		switch m[4] {
		case "int", "float":
			return 0, nil
		case "bool":
			return false, nil
		case "comment":
			return comment{}, nil
		}
		return "0", nil
	}}
	docs := make([]branch, len(f.docs))
	for i, doc := range f.docs {
		var err error
		if docs[i], err = fill.branch(doc, nil, nil); err != nil {
			return nil, err
		}
	}
	return emitPlain(f.Format, docs)
}

// pretends warns of a file in plain text whose name says that it is encrypted.
func pretends(name string, data []byte) *fleet.Diagnostic {
	base := path.Base(name)
	if !strings.Contains(base, ".enc.") && !strings.Contains(base, ".sops.") || strings.HasPrefix(base, ConfigName) {
		return nil
	}
	if len(bytes.TrimSpace(data)) == 0 || !utf8.Valid(data) {
		return nil // empty, or encrypted by something else
	}
	return &fleet.Diagnostic{
		Rule: ruleNotEncrypted, Severity: fleet.SeverityWarning, Position: fleet.Position{File: name, Line: 1, Col: 1},
		Message: "the file is named as an encrypted one, but is in plain text", Hint: "varan secret encrypt " + name,
	}
}
