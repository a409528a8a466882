package sops

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	sopsage "github.com/getsops/sops/v3/age" //nolint:importas // there is another age
	"golang.org/x/crypto/ssh"
)

// Kind is a kind of key.
type Kind string

// The kinds that are supported.
const (
	KindAge Kind = "age"
	KindPGP Kind = "pgp"
)

// Recipient is who a file is encrypted for.
type Recipient struct {
	Kind Kind `json:"kind"`
	// ID is an age recipient, the public key of an SSH key, or the fingerprint of a PGP key.
	ID string `json:"id"`
}

// String is what people see: enough to tell keys apart.
func (r Recipient) String() string { return string(r.Kind) + " " + shown(r.ID) }

// checkRecipient refuses keys that a program would have to be run for.
func checkRecipient(r Recipient, at place) *fault {
	if r.Kind == KindPGP {
		raw, err := hex.DecodeString(strings.TrimSuffix(r.ID, "!"))
		if err != nil || len(raw) < 4 || len(raw) > 32 {
			return badFormat(at, "%q is not the fingerprint of a PGP key", shown(r.ID))
		}
		return nil
	}
	_, err := ageRecipient(r.ID)
	if err != nil {
		return &fault{ruleBackend, fmt.Sprintf("age recipient %q: %v", shown(r.ID), err), backendHint, at}
	}
	return nil
}

// errPlugin is for age recipients and identities that stand for a program.
var errPlugin = errors.New("age plugins are programs, and none is ever run")

func ageRecipient(text string) (age.Recipient, error) {
	switch {
	case strings.HasPrefix(text, "age1pq1"):
		r, err := age.ParseHybridRecipient(text)
		return r, quiet(err, "is not a recipient")
	case strings.HasPrefix(text, "age1") && strings.Count(text, "1") > 1:
		// Bech32 data holds no 1, so that the part before the last one is the name.
		return nil, errPlugin
	case strings.HasPrefix(text, "age1"):
		r, err := age.ParseX25519Recipient(text)
		return r, quiet(err, "is not a recipient")
	case strings.HasPrefix(text, "ssh-"):
		r, err := agessh.ParseRecipient(text)
		return r, quiet(err, "is not an SSH key that age can use")
	}
	return nil, errors.New("is not a kind that is known")
}

// quiet replaces an error that may quote what it was given.
func quiet(err error, text string) error {
	if err == nil {
		return nil
	}
	return errors.New(text)
}

// Identities are the private keys of one tier. The zero value has none. They are not
// changed once they are in use.
type Identities struct {
	ages []age.Identity
	// recipients are the public halves, in the order they were added.
	recipients []Recipient
	ring       openpgp.EntityList
}

// Recipients are the public halves of the identities.
func (ids *Identities) Recipients() []Recipient {
	if ids == nil {
		return nil
	}
	return slices.Clone(ids.recipients)
}

// newest is the identity of a kind that was added last, and whether there are older ones:
// a key file grows at its end.
func (ids *Identities) newest(kind Kind) (last Recipient, older bool) {
	for _, r := range ids.Recipients() {
		if r.Kind == kind {
			last, older = r, last.ID != ""
		}
	}
	return last, older
}

// fingerprint names the set without telling the keys.
func (ids *Identities) fingerprint() string {
	hash := sha256.New()
	for _, r := range ids.Recipients() {
		fmt.Fprintf(hash, "%s %s\n", r.Kind, r.ID)
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// AddAge adds the age identities of a file as age-keygen writes it, or an SSH private key.
func (ids *Identities) AddAge(data []byte) error {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN ")) {
		return ids.addSSH(data)
	}
	if bytes.HasPrefix(data, []byte("age-encryption.org/")) {
		return errors.New("the file is protected by a passphrase, and there is nobody to ask: decrypt it first")
	}
	found := false
	for number, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, recipient, err := ageIdentity(line)
		if err != nil {
			return fmt.Errorf("line %d %w", number+1, err)
		}
		ids.add(id, recipient)
		found = true
	}
	if !found {
		return errors.New("the file holds no age identity")
	}
	return nil
}

func (ids *Identities) add(id age.Identity, recipient string) {
	ids.ages = append(ids.ages, id)
	ids.recipients = append(ids.recipients, Recipient{KindAge, recipient})
}

func ageIdentity(line string) (age.Identity, string, error) {
	switch {
	case strings.HasPrefix(line, "AGE-PLUGIN-"):
		return nil, "", errPlugin
	case strings.HasPrefix(line, "AGE-SECRET-KEY-PQ-1"):
		id, err := age.ParseHybridIdentity(line)
		if err != nil {
			return nil, "", errors.New("is not a valid age identity")
		}
		return id, id.Recipient().String(), nil
	case strings.HasPrefix(line, "AGE-SECRET-KEY-1"):
		id, err := age.ParseX25519Identity(line)
		if err != nil {
			return nil, "", errors.New("is not a valid age identity")
		}
		return id, id.Recipient().String(), nil
	}
	return nil, "", errors.New("is not an age identity")
}

func (ids *Identities) addSSH(data []byte) error {
	if bytes.Contains(data, []byte("AGE ENCRYPTED FILE")) {
		return errors.New("the file is protected by a passphrase, and there is nobody to ask: decrypt it first")
	}
	id, err := agessh.ParseIdentity(data)
	if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
		return errors.New("the SSH key is protected by a passphrase, and there is nobody to ask")
	}
	if err != nil {
		return errors.New("is not an SSH private key that age can use (ed25519 or RSA)")
	}
	signer, err := ssh.ParsePrivateKey(data)
	if err != nil {
		return errors.New("is not an SSH private key")
	}
	ids.add(id, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))))
	return nil
}

// AddPGP adds the private keys of an armoured file, as gpg --export-secret-keys --armor
// writes it.
func (ids *Identities) AddPGP(data []byte) error {
	ring, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(data))
	if err != nil {
		return errors.New("is not an armoured PGP key")
	}
	for _, e := range ring {
		if e.PrivateKey == nil {
			return fmt.Errorf("holds no private key for %s", fingerprint(e))
		}
		if e.PrivateKey.Encrypted || slices.ContainsFunc(e.Subkeys, func(s openpgp.Subkey) bool {
			return s.PrivateKey != nil && s.PrivateKey.Encrypted
		}) {
			return fmt.Errorf("the private key %s is protected by a passphrase, and there is nobody to ask", fingerprint(e))
		}
		ids.ring = append(ids.ring, e)
		ids.recipients = append(ids.recipients, Recipient{KindPGP, fingerprint(e)})
	}
	return nil
}

func fingerprint(e *openpgp.Entity) string {
	return strings.ToUpper(hex.EncodeToString(e.PrimaryKey.Fingerprint))
}

// unwrap gets the data key of a file.
func (m *metadata) unwrap(ids *Identities) ([]byte, *fault) {
	mine := ids.Recipients()
	keys := slices.Clone(m.keys)
	// A file may name any recipient, so that those which match only come first.
	slices.SortStableFunc(keys, func(a, b wrappedKey) int {
		return boolOrder(matchesAny(b.Recipient, mine)) - boolOrder(matchesAny(a.Recipient, mine))
	})
	for _, k := range keys {
		var key []byte
		var err error
		switch k.Kind {
		case KindAge:
			key, err = ids.unwrapAge(k.enc)
		case KindPGP:
			key, err = ids.unwrapPGP(k.enc)
		}
		if err == nil && len(key) == dataKeySize {
			return key, nil
		}
	}
	have := "there is no identity here"
	if len(mine) > 0 {
		have = "the identities here are " + names(mine)
	}
	return nil, &fault{
		ruleKey, fmt.Sprintf("no identity opens the file: it is encrypted for %s, and %s", names(m.recipients()), have),
		"add one of these recipients to .sops.yaml and re-encrypt: varan secret rekey", m.keys[0].at,
	}
}

func boolOrder(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (m *metadata) recipients() []Recipient {
	out := make([]Recipient, len(m.keys))
	for i, k := range m.keys {
		out[i] = k.Recipient
	}
	return out
}

func names(list []Recipient) string {
	const most = 8
	var out []string
	for i, r := range list {
		if i == most {
			out = append(out, fmt.Sprintf("%d more", len(list)-most))
			break
		}
		out = append(out, r.String())
	}
	return strings.Join(out, ", ")
}

// matchesAny compares as people write keys: SSH keys with or without a remark, long or
// short fingerprints.
func matchesAny(r Recipient, list []Recipient) bool {
	return slices.ContainsFunc(list, func(o Recipient) bool { return same(r, o) })
}

func same(a, b Recipient) bool {
	if a.Kind != b.Kind {
		return false
	}
	x, y := canonical(a), canonical(b)
	if a.Kind == KindPGP {
		return strings.HasSuffix(x, y) || strings.HasSuffix(y, x)
	}
	return x == y
}

func canonical(r Recipient) string {
	if r.Kind == KindPGP {
		return strings.ToUpper(strings.TrimSuffix(r.ID, "!"))
	}
	if fields := strings.Fields(r.ID); len(fields) > 2 {
		return fields[0] + " " + fields[1]
	}
	return r.ID
}

// unwrapAge uses the key source of SOPS. It looks for keys in the environment, and runs
// what that names, when it is given none: so it is not called then.
func (ids *Identities) unwrapAge(enc string) ([]byte, error) {
	if ids == nil || len(ids.ages) == 0 || enc == "" {
		return nil, errors.New("no age identity")
	}
	key := sopsage.MasterKey{EncryptedKey: enc}
	sopsage.ParsedIdentities(ids.ages).ApplyToMasterKey(&key)
	return key.Decrypt() //nolint:wrapcheck // only looked at for nil
}

// unwrapPGP does not use the key source of SOPS, which falls back to running gpg and to
// asking its agent.
func (ids *Identities) unwrapPGP(enc string) ([]byte, error) {
	if ids == nil || len(ids.ring) == 0 {
		return nil, errors.New("no PGP key")
	}
	block, err := armor.Decode(strings.NewReader(enc))
	if err != nil {
		return nil, fmt.Errorf("read the wrapped key: %w", err)
	}
	message, err := openpgp.ReadMessage(block.Body, ids.ring, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("open the wrapped key: %w", err)
	}
	// Its integrity is known at the end only.
	key, err := io.ReadAll(io.LimitReader(message.UnverifiedBody, maxWrappedKey))
	if err != nil {
		return nil, fmt.Errorf("open the wrapped key: %w", err)
	}
	return key, nil
}

// PublicKeys are PGP keys to encrypt for, by fingerprint; age recipients are keys themselves.
type PublicKeys struct{ ring openpgp.EntityList }

// Add adds the keys of a file, armoured or not, public or private.
func (p *PublicKeys) Add(data []byte) error {
	read := openpgp.ReadKeyRing
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN ")) {
		read = openpgp.ReadArmoredKeyRing
	}
	ring, err := read(bytes.NewReader(data))
	if err != nil {
		return errors.New("is not a PGP key")
	}
	p.ring = append(p.ring, ring...)
	return nil
}

// wrap encrypts a data key for a recipient.
func (p *PublicKeys) wrap(r Recipient, key []byte, now time.Time) (wrappedKey, error) {
	out := wrappedKey{Recipient: r}
	if bad := checkRecipient(r, place{}); bad != nil {
		return out, errors.New(bad.message)
	}
	if r.Kind == KindAge {
		master, err := sopsage.MasterKeyFromRecipient(r.ID)
		if err == nil {
			err = master.Encrypt(key)
		}
		if err != nil {
			return out, fmt.Errorf("encrypt for %s: %w", r, err)
		}
		out.enc = master.EncryptedKey
		return out, nil
	}
	out.created = now.UTC().Format(time.RFC3339)
	enc, err := p.wrapPGP(r, key, now)
	if err != nil {
		return out, fmt.Errorf("encrypt for %s: %w", r, err)
	}
	out.enc = enc
	return out, nil
}

func (p *PublicKeys) wrapPGP(r Recipient, key []byte, now time.Time) (string, error) {
	var to *openpgp.Entity
	if p != nil {
		for _, e := range p.ring {
			if same(r, Recipient{KindPGP, fingerprint(e)}) {
				to = e
			}
		}
	}
	if to == nil {
		return "", errors.New("its public key is not known: name the file of it with --pgp-key-file")
	}
	var buf bytes.Buffer
	armoured, err := armor.Encode(&buf, "PGP MESSAGE", nil)
	if err != nil {
		return "", fmt.Errorf("write: %w", err)
	}
	config := &packet.Config{Time: func() time.Time { return now }}
	w, err := openpgp.Encrypt(armoured, []*openpgp.Entity{to}, nil, &openpgp.FileHints{IsBinary: true}, config)
	if err != nil {
		return "", fmt.Errorf("use its public key: %w", err)
	}
	if _, err = w.Write(key); err == nil {
		err = w.Close()
	}
	if err == nil {
		err = armoured.Close()
	}
	if err != nil {
		return "", fmt.Errorf("write: %w", err)
	}
	return buf.String(), nil
}

// GenerateAge makes an age identity: a file as age-keygen writes it, and its recipient.
func GenerateAge(now time.Time) (file []byte, recipient string, err error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, "", fmt.Errorf("generate an age identity: %w", err)
	}
	recipient = id.Recipient().String()
	text := fmt.Sprintf("# created: %s\n# public key: %s\n%s\n", now.UTC().Format(time.RFC3339), recipient, id)
	return []byte(text), recipient, nil
}
