package sops

import (
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/fleet"
)

// File is an encrypted file that was read, but not opened.
type File struct {
	// Format is found by content.
	Format Format
	path   string
	docs   []branch
	meta   metadata
}

// Read understands an encrypted file. A nil File without a diagnostic is an ordinary file.
// Files for key services, with split keys, without any encrypted value, or too large ones,
// are refused here, before anything of them is used.
func Read(path string, data []byte) (*File, *fleet.Diagnostic) {
	p, bad := inspect(path, data)
	if bad != nil {
		return nil, bad.diagnostic(path)
	}
	if p == nil {
		return nil, nil //nolint:nilnil // an ordinary file is an answer
	}
	f := &File{Format: p.format, path: path, docs: p.docs}
	if f.meta, bad = readMetadata(p.block, p.at); bad != nil {
		return nil, bad.diagnostic(path)
	}
	if !p.holds(cipherText.MatchString) {
		bad = &fault{ruleNotEncrypted, "the file has a sops block, but not one encrypted value", "varan secret encrypt " + path, p.at}
		return nil, bad.diagnostic(path)
	}
	return f, nil
}

// Recipients are those that the file says it is encrypted for.
func (f *File) Recipients() []Recipient { return f.meta.recipients() }

// Rule is which values are encrypted.
func (f *File) Rule() Rule { return f.meta.rule }

// Names are the variables that a dotenv file sets. They are not encrypted.
func (f *File) Names() []string {
	if f.Format != Dotenv {
		return nil
	}
	var out []string
	for _, it := range f.docs[0] {
		if it.name() != "" {
			out = append(out, it.name())
		}
	}
	return out
}

// Options say what is accepted beyond the usual.
type Options struct {
	// MACOnlyEncrypted accepts files whose other values can be changed unseen.
	MACOnlyEncrypted bool
}

// Opened is a decrypted file. It holds secrets.
type Opened struct {
	// Data is what `sops decrypt` writes for the file, byte for byte.
	Data []byte
	// Values are the values that were encrypted.
	Values []string
	// Names are the variables of a dotenv file that were encrypted.
	Names []string

	file *File
	docs []branch
	key  *sealKey
}

// Open decrypts a file and verifies that nothing of it was changed.
func (f *File) Open(ids *Identities, opts Options) (*Opened, *fleet.Diagnostic) {
	o, bad := f.open(ids, opts)
	if bad != nil {
		return nil, bad.diagnostic(f.path)
	}
	return o, nil
}

func (f *File) open(ids *Identities, opts Options) (*Opened, *fault) {
	if f.meta.rule.MACOnlyEncrypted && !opts.MACOnlyEncrypted {
		return nil, &fault{ruleMAC, "the MAC covers the encrypted values only (mac_only_encrypted), so that the others may have been changed", macOnlyHint, f.meta.at}
	}
	raw, bad := f.meta.unwrap(ids)
	if bad != nil {
		return nil, bad
	}
	return f.openWith(raw)
}

// openWith decrypts with the data key.
func (f *File) openWith(raw []byte) (*Opened, *fault) {
	choose, err := f.meta.rule.compile()
	if err != nil {
		return nil, badFormat(f.meta.at, "the sops block: %v", err)
	}
	o := &Opened{file: f, key: newSealKey(raw)}
	d := &decryption{choose: choose, key: o.key, sum: newSum(f.meta.rule), dotenv: f.Format == Dotenv}
	for _, doc := range f.docs {
		plain, err := walker{visit: d.visit}.branch(doc, nil, nil)
		if err != nil {
			return nil, asFault(err)
		}
		o.docs = append(o.docs, plain)
	}
	want, err := o.key.open(f.meta.mac, f.meta.modified)
	text, _ := want.(string)
	if err != nil || subtle.ConstantTimeCompare([]byte(text), []byte(sumText(d.sum))) != 1 {
		return nil, &fault{
			ruleMAC, "the MAC is not that of the file: something in it was changed after it was encrypted",
			"take the file from an earlier commit, or edit it with varan secret edit", f.meta.macAt,
		}
	}
	o.Values, o.Names = d.values, d.names
	if o.Data, err = emitPlain(f.Format, o.docs); err != nil {
		return nil, asFault(err)
	}
	return o, nil
}

func asFault(err error) *fault {
	if bad, ok := errors.AsType[*fault](err); ok {
		return bad
	}
	return badFormat(place{1, 1}, "%v", err)
}

// macPrefix begins the sum of values that are encrypted only, so that one can never be
// taken for the other: the SHA-256 of "sops".
const macPrefix = "\x8a\x3f\xd2\xad\x54\xce\x66\x52\x7b\x10\x34\xf3\xd1\x47\xbe\x0b\x0b\x97\x5b\x3b\xf4\x4f\x72\xc6\xfd\xad\xec\x81\x76\xf2\x7d\x69"

func newSum(r Rule) hash.Hash {
	sum := sha512.New()
	if r.MACOnlyEncrypted {
		_, _ = sum.Write([]byte(macPrefix))
	}
	return sum
}

func sumText(sum hash.Hash) string { return fmt.Sprintf("%X", sum.Sum(nil)) }

// decryption is a walk over an encrypted tree.
type decryption struct {
	choose *chooser
	key    *sealKey
	sum    hash.Hash
	dotenv bool
	values []string
	names  []string
}

func (d *decryption) visit(l leaf) (any, error) {
	hidden := d.choose.encrypted(l)
	value := l.value
	if hidden {
		var err error
		if value, err = d.reveal(l); err != nil {
			return nil, err
		}
	}
	if _, ok := value.(comment); ok || d.choose.MACOnlyEncrypted && !hidden {
		return value, nil
	}
	text, ok := macText(value)
	if !ok {
		return nil, badFormat(l.at, "a value is of a kind that SOPS does not know")
	}
	_, _ = d.sum.Write([]byte(text))
	return value, nil
}

func (d *decryption) reveal(l leaf) (any, error) {
	where := "the value of " + shown(strings.Join(l.path, "."))
	switch v := l.value.(type) {
	case comment:
		plain, err := d.key.open(v.text, bound(l.path))
		if err != nil {
			return v, nil //nolint:nilerr // written by a SOPS that left comments alone
		}
		c, ok := plain.(comment)
		if !ok {
			return nil, badFormat(l.at, "a comment was encrypted as something else")
		}
		d.keep(strings.TrimSpace(c.text))
		return c, nil
	case string:
		if v == "" {
			return v, nil
		}
		plain, err := d.key.open(v, bound(l.path))
		switch {
		case errors.Is(err, errNotCipherText) && !strings.HasPrefix(v, cipherMark):
			return nil, &fault{ruleNotEncrypted, where + " is in plain text in an encrypted file", "add values with varan secret edit", l.at}
		case errors.Is(err, errValueTooLarge):
			return nil, &fault{rule: ruleTooLarge, message: fmt.Sprintf("%s has more than %d bytes", where, maxValue), at: l.at}
		case err != nil:
			return nil, &fault{ruleMAC, where + " " + err.Error(), "take the file from an earlier commit", l.at}
		}
		d.keep(flatText(plain))
		if d.dotenv && len(l.path) == 1 {
			d.names = append(d.names, l.path[0])
		}
		return plain, nil
	}
	return nil, &fault{ruleNotEncrypted, where + " is in plain text in an encrypted file", "add values with varan secret edit", l.at}
}

func (d *decryption) keep(value string) {
	if value != "" && !slices.Contains(d.values, value) {
		d.values = append(d.values, value)
	}
}

// Update encrypts an edited text in place of the opened one: for the same recipients,
// with the same data key. Values that did not change keep their ciphertext.
func (o *Opened) Update(data []byte, now time.Time) ([]byte, error) {
	docs, bad := parsePlain(o.file.Format, data)
	if bad != nil {
		return nil, bad.in(o.file.path)
	}
	return seal(o.file.Format, docs, o.file.meta, o.key, now)
}

// Rekey encrypts the file with a new data key for other recipients.
func (o *Opened) Rekey(to []Recipient, rule Rule, known *PublicKeys, now time.Time) ([]byte, error) {
	return encrypt(o.file.Format, o.docs, to, rule, known, now)
}

// Encrypt encrypts a plain file.
func Encrypt(path string, format Format, data []byte, to []Recipient, rule Rule, known *PublicKeys, now time.Time) ([]byte, error) {
	if file, bad := Read(path, data); file != nil || bad != nil && bad.Rule != ruleNotEncrypted {
		return nil, badFormat(place{1, 1}, "the file is encrypted already").in(path)
	}
	docs, bad := parsePlain(format, data)
	if bad != nil {
		return nil, bad.in(path)
	}
	return encrypt(format, docs, to, rule, known, now)
}

func encrypt(format Format, docs []branch, to []Recipient, rule Rule, known *PublicKeys, now time.Time) ([]byte, error) {
	if len(to) == 0 {
		return nil, errors.New("there is no recipient to encrypt for")
	}
	if err := rule.check(); err != nil {
		return nil, err
	}
	raw := make([]byte, dataKeySize)
	_, _ = rand.Read(raw) // never fails: it crashes the program instead
	m := metadata{rule: rule, version: versionWritten}
	for _, r := range to {
		wrapped, err := known.wrap(r, raw, now)
		if err != nil {
			return nil, err
		}
		m.keys = append(m.keys, wrapped)
	}
	return seal(format, docs, m, newSealKey(raw), now)
}

// seal encrypts documents under metadata that has its keys.
func seal(format Format, docs []branch, m metadata, key *sealKey, now time.Time) ([]byte, error) {
	choose, err := m.rule.compile()
	if err != nil {
		return nil, err
	}
	e := &encryption{choose: choose, key: key, sum: newSum(m.rule)}
	out := make([]branch, len(docs))
	for i, doc := range docs {
		if out[i], err = (walker{visit: e.visit}).branch(doc, nil, nil); err != nil {
			return nil, err
		}
	}
	if e.count == 0 {
		return nil, errors.New("there is no value to encrypt in the file: see the rule in .sops.yaml")
	}
	m.modified, m.version = now.UTC().Format(time.RFC3339), versionWritten
	if m.mac, err = key.seal(sumText(e.sum), m.modified); err != nil {
		return nil, err
	}
	data, err := emitEncrypted(format, out, &m)
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxFile:
		return nil, fmt.Errorf("the encrypted file would have %d bytes; at most %d are decrypted", len(data), maxFile)
	case !opens(data, key.key):
		return nil, fmt.Errorf("something in the file cannot be kept as it is in the format %s: use binary, or another format", format)
	}
	return data, nil
}

// opens checks what was written before it takes the place of the plain text: INI, above
// all, does not hold every value.
func opens(data, key []byte) bool {
	f, bad := Read("", data)
	if f == nil || bad != nil {
		return false
	}
	_, unopened := f.openWith(key)
	return unopened == nil
}

// encryption is a walk over a plain tree.
type encryption struct {
	choose *chooser
	key    *sealKey
	sum    hash.Hash
	count  int
}

func (e *encryption) visit(l leaf) (any, error) {
	hide := e.choose.encrypted(l)
	_, isComment := l.value.(comment)
	if !isComment && (hide || !e.choose.MACOnlyEncrypted) {
		text, ok := macText(l.value)
		if !ok {
			return nil, badFormat(l.at, "a value is of a kind that SOPS does not know")
		}
		_, _ = e.sum.Write([]byte(text))
	}
	if !hide {
		return l.value, nil
	}
	text, err := e.key.seal(l.value, bound(l.path))
	if err != nil {
		return nil, fmt.Errorf("the value of %s %w", shown(strings.Join(l.path, ".")), err)
	}
	if isComment && e.choose.UnencryptedCommentRegex != "" && e.choose.comment.MatchString(text) {
		return nil, errors.New("unencrypted_comment_regex matches a comment once it is encrypted: make it match less")
	}
	if text != "" {
		e.count++
	}
	return text, nil
}
