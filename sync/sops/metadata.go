package sops

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// metadata is what a file says about its encryption.
type metadata struct {
	keys []wrappedKey
	rule Rule
	// modified is bound to the MAC; created as the file writes it otherwise.
	modified string
	mac      string
	version  string
	at       place
	macAt    place
}

// wrappedKey is the data key, encrypted for one recipient.
type wrappedKey struct {
	Recipient
	created string
	enc     string
	at      place
}

// Rule says which values of a file are encrypted. At most one field is set; none means
// all values whose key does not end in "_unencrypted".
type Rule struct {
	UnencryptedSuffix, EncryptedSuffix             string
	UnencryptedRegex, EncryptedRegex               string
	UnencryptedCommentRegex, EncryptedCommentRegex string
	// MACOnlyEncrypted leaves the other values out of the MAC: they can be changed unseen.
	MACOnlyEncrypted bool
}

const defaultUnencryptedSuffix = "_unencrypted"

// versionWritten is the SOPS release whose format this package writes.
const versionWritten = "3.13.3"

// limits of the metadata: nobody has more recipients.
const (
	maxRecipients  = 100
	maxWrappedKey  = 64 << 10
	maxRegex       = 4 << 10
	metadataKey    = "sops"
	flatPrefix     = "sops_"
	listSeparator  = "__list_"
	mapSeparator   = "__map_"
	backendHint    = "encrypt the file for age or PGP keys: varan secret rekey"
	shamirHint     = "key groups are split keys; put all recipients into one group"
	macOnlyHint    = "remove mac_only_encrypted from .sops.yaml, then: varan secret rekey"
	wrongBlockHint = "the block at the end of the file was edited, or cut off; take the file from an earlier commit"
)

// backends are the key services that a file may name. None is ever asked.
func backends() map[string]string {
	return map[string]string{
		"kms": "AWS KMS", "gcp_kms": "Google Cloud KMS", "azure_kv": "Azure Key Vault", "hc_vault": "HashiCorp Vault",
		"hckms": "Huawei Cloud KMS",
	}
}

// readMetadata understands the block. It must be as strict as a lock: what it does not
// know could name a way to get at keys.
func readMetadata(block branch, at place) (metadata, *fault) {
	m := metadata{at: at}
	names := backends()
	for _, it := range block {
		key, ok := it.key.(string)
		if !ok {
			continue // a comment
		}
		if bad := m.read(key, it, names); bad != nil {
			return m, bad
		}
	}
	bad := m.check()
	return m, bad
}

func (m *metadata) read(key string, it item, backends map[string]string) *fault {
	text := scalarText(it.value)
	switch key {
	case "age", "pgp":
		return m.readKeys(key, it)
	case "lastmodified":
		m.modified = text
	case "mac":
		m.mac, m.macAt = text, it.at
	case "version":
		m.version = text
	case "unencrypted_suffix":
		m.rule.UnencryptedSuffix = text
	case "encrypted_suffix":
		m.rule.EncryptedSuffix = text
	case "unencrypted_regex":
		m.rule.UnencryptedRegex = text
	case "encrypted_regex":
		m.rule.EncryptedRegex = text
	case "unencrypted_comment_regex":
		m.rule.UnencryptedCommentRegex = text
	case "encrypted_comment_regex":
		m.rule.EncryptedCommentRegex = text
	case "mac_only_encrypted":
		m.rule.MACOnlyEncrypted = text != "" && text != "false" && text != "0"
	case "key_groups":
		if !isEmpty(it.value) {
			return &fault{ruleBackend, "the key is split among key groups, which is not supported", shamirHint, it.at}
		}
	case "shamir_threshold":
		if n, err := strconv.Atoi(text); text != "" && (err != nil || n > 1) {
			return &fault{ruleBackend, "the key is split among key groups, which is not supported", shamirHint, it.at}
		}
	default:
		if isEmpty(it.value) {
			return nil
		}
		if name := backends[key]; name != "" {
			return &fault{ruleBackend, fmt.Sprintf("the file is encrypted with %s, which is never asked for keys", name), backendHint, it.at}
		}
		switch it.value.(type) {
		case list, branch:
			return &fault{ruleBackend, fmt.Sprintf("the file is encrypted with %q, which is not known", shown(key)), backendHint, it.at}
		}
	}
	return nil
}

func (m *metadata) readKeys(kind string, it item) *fault {
	entries, ok := it.value.(list)
	if !ok && !isEmpty(it.value) {
		return badFormat(it.at, "%s in the sops block is not a list", kind)
	}
	for _, e := range entries {
		if _, ok := e.value.(comment); ok {
			continue
		}
		fields, ok := e.value.(branch)
		if !ok {
			return badFormat(e.at, "%s in the sops block is not a list of keys", kind)
		}
		k := wrappedKey{at: cmp.Or(e.at, it.at), created: fields.text("created_at"), enc: fields.text("enc")}
		k.Kind, k.ID = KindAge, strings.TrimSpace(fields.text("recipient"))
		if kind == string(KindPGP) {
			k.Kind, k.ID = KindPGP, fields.text("fp")
		}
		if len(k.enc) > maxWrappedKey || len(m.keys) >= maxRecipients {
			return &fault{ruleTooLarge, "the sops block has too many keys, or too large ones", "", k.at}
		}
		if bad := checkRecipient(k.Recipient, k.at); bad != nil {
			return bad
		}
		m.keys = append(m.keys, k)
	}
	return nil
}

func (m *metadata) check() *fault {
	if len(m.keys) == 0 {
		return &fault{ruleFormat, "the sops block names no key", wrongBlockHint, m.at}
	}
	if m.mac == "" {
		return &fault{ruleMAC, "the file has no MAC, so that it may have been changed", wrongBlockHint, m.at}
	}
	when, err := time.Parse(time.RFC3339, m.modified)
	if err != nil {
		return &fault{ruleFormat, "lastmodified in the sops block is not a time", wrongBlockHint, m.at}
	}
	m.modified = when.Format(time.RFC3339)
	if err := m.rule.check(); err != nil {
		return badFormat(m.at, "the sops block: %v", err)
	}
	return nil
}

// check allows one rule at most and puts in the one that holds without any.
func (r *Rule) check() error {
	set := 0
	for _, text := range []string{
		r.UnencryptedSuffix, r.EncryptedSuffix, r.UnencryptedRegex, r.EncryptedRegex,
		r.UnencryptedCommentRegex, r.EncryptedCommentRegex,
	} {
		if text != "" {
			set++
		}
	}
	if set > 1 {
		return fmt.Errorf("only one of the suffixes and regular expressions that choose the values can be set")
	}
	if set == 0 {
		r.UnencryptedSuffix = defaultUnencryptedSuffix
	}
	_, err := r.compile()
	return err
}

// chooser is a Rule ready for use.
type chooser struct {
	Rule
	key, comment *regexp.Regexp
}

func (r *Rule) compile() (*chooser, error) {
	c := &chooser{Rule: *r}
	var err error
	for _, e := range []struct {
		text string
		into **regexp.Regexp
	}{
		{r.UnencryptedRegex, &c.key},
		{r.EncryptedRegex, &c.key},
		{r.UnencryptedCommentRegex, &c.comment},
		{r.EncryptedCommentRegex, &c.comment},
	} {
		if e.text == "" {
			continue
		}
		if len(e.text) > maxRegex {
			return nil, fmt.Errorf("a regular expression is too long")
		}
		if *e.into, err = regexp.Compile(e.text); err != nil {
			return nil, fmt.Errorf("%q is not a regular expression", shown(e.text))
		}
	}
	return c, nil
}

// encrypted reports whether the value at a leaf is, or is to be, encrypted.
func (c *chooser) encrypted(l leaf) bool {
	suffix := func(end string) bool {
		return slices.ContainsFunc(l.path, func(key string) bool { return strings.HasSuffix(key, end) })
	}
	switch {
	case c.UnencryptedSuffix != "":
		return !suffix(c.UnencryptedSuffix)
	case c.EncryptedSuffix != "":
		return suffix(c.EncryptedSuffix)
	case c.UnencryptedRegex != "":
		return !slices.ContainsFunc(l.path, c.key.MatchString)
	case c.EncryptedRegex != "":
		return slices.ContainsFunc(l.path, c.key.MatchString)
	case c.UnencryptedCommentRegex != "":
		return !c.commented(l.comments, false)
	case c.EncryptedCommentRegex != "":
		_, isComment := l.value.(comment)
		return c.commented(l.comments, isComment)
	}
	return true
}

// commented looks for the mark in the comments above a leaf. A comment that is the mark
// itself is not marked by it.
func (c *chooser) commented(above [][]string, butLast bool) bool {
	for i, group := range above {
		if butLast && i == len(above)-1 && len(group) > 0 {
			group = group[:len(group)-1]
		}
		if slices.ContainsFunc(group, c.comment.MatchString) {
			return true
		}
	}
	return false
}

// block is the metadata as a file holds it: sorted by key.
func (m *metadata) block() branch {
	var age, pgp list
	for _, k := range m.keys {
		if k.Kind == KindAge {
			age = append(age, element{value: branch{{key: "enc", value: k.enc}, {key: "recipient", value: k.ID}}})
			continue
		}
		pgp = append(pgp, element{value: branch{
			{key: "created_at", value: k.created}, {key: "enc", value: k.enc}, {key: "fp", value: k.ID},
		}})
	}
	out := branch{{key: "lastmodified", value: m.modified}, {key: "mac", value: m.mac}, {key: "version", value: m.version}}
	if len(age) > 0 {
		out = append(out, item{key: "age", value: age})
	}
	if len(pgp) > 0 {
		out = append(out, item{key: "pgp", value: pgp})
	}
	if m.rule.MACOnlyEncrypted {
		out = append(out, item{key: "mac_only_encrypted", value: true})
	}
	for key, text := range map[string]string{
		"unencrypted_suffix": m.rule.UnencryptedSuffix, "encrypted_suffix": m.rule.EncryptedSuffix,
		"unencrypted_regex": m.rule.UnencryptedRegex, "encrypted_regex": m.rule.EncryptedRegex,
		"unencrypted_comment_regex": m.rule.UnencryptedCommentRegex,
		"encrypted_comment_regex":   m.rule.EncryptedCommentRegex,
	} {
		if text != "" {
			out = append(out, item{key: key, value: text})
		}
	}
	slices.SortFunc(out, func(a, b item) int { return strings.Compare(a.name(), b.name()) })
	return out
}

// flat is the block as keys and texts, for formats without nesting.
func (m *metadata) flat() branch {
	var out branch
	for _, it := range m.block() {
		entries, ok := it.value.(list)
		if !ok {
			out = append(out, item{key: it.key, value: flatText(it.value)})
			continue
		}
		for i, e := range entries {
			fields, _ := e.value.(branch)
			for _, f := range fields {
				key := it.name() + listSeparator + strconv.Itoa(i) + mapSeparator + f.name()
				out = append(out, item{key: key, value: f.value})
			}
		}
	}
	return out
}

// unflatten is the opposite. Only the lists of keys are nested; what nests in another way
// stays a key with a value below it, which is all that readMetadata needs to refuse it.
func unflatten(flat branch) (branch, *fault) {
	var out branch
	lists := map[string]map[int]branch{}
	for _, it := range flat {
		name, rest, isList := strings.Cut(it.name(), listSeparator)
		if !isList {
			name, _, nested := strings.Cut(it.name(), mapSeparator)
			if nested {
				out = append(out, item{name, branch{{key: it.key, value: it.value}}, it.at})
				continue
			}
			out = append(out, it)
			continue
		}
		number, field, _ := strings.Cut(rest, mapSeparator)
		i, err := strconv.Atoi(number)
		if err != nil || i < 0 || i >= maxRecipients {
			return nil, badFormat(it.at, "%q in the sops block is not the key of a list", shown(it.name()))
		}
		if lists[name] == nil {
			lists[name] = map[int]branch{}
			out = append(out, item{name, list(nil), it.at})
		}
		lists[name][i] = append(lists[name][i], item{field, it.value, it.at})
	}
	for i := range out {
		entries, ok := lists[out[i].name()]
		if !ok {
			continue
		}
		var l list
		for n := range maxRecipients {
			if fields, ok := entries[n]; ok {
				l = append(l, element{fields, fields[0].at})
			}
		}
		out[i].value = l
	}
	return out, nil
}

// name is the key of an item; empty for a comment.
func (it item) name() string {
	name, _ := it.key.(string)
	return name
}

// text is the text below a key.
func (b branch) text(key string) string {
	for _, it := range b {
		if it.name() == key {
			return scalarText(it.value)
		}
	}
	return ""
}

// scalarText is a scalar of the metadata as text: YAML makes times and numbers of some.
func scalarText(value any) string {
	switch value.(type) {
	case nil, branch, list, comment:
		return ""
	}
	return flatText(value)
}

func isEmpty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case list:
		return len(v) == 0
	case branch:
		return len(v) == 0
	case string:
		return v == ""
	}
	return false
}

// shown keeps a text of a hostile file short in a message. A recipient of age has 62 characters.
func shown(text string) string {
	const most = 64
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}
