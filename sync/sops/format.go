package sops

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Format is how a file is written.
type Format string

// The formats.
const (
	YAML   Format = "yaml"
	JSON   Format = "json"
	Dotenv Format = "dotenv"
	INI    Format = "ini"
	// Binary is any file, as one encrypted value in a JSON object.
	Binary Format = "binary"
)

// maxFile bounds an encrypted file.
const maxFile = 1 << 20

// binaryKey is where a binary file keeps its content.
const binaryKey = "data"

var (
	flatMetadata = regexp.MustCompile(`(?m)^sops_(mac|lastmodified|version|age__list_0|pgp__list_0|[a-z_]*kms__list_0|azure_kv__list_0|hc_vault__list_0)[a-z_]*=`)
	iniMetadata  = regexp.MustCompile(`(?m)^\[sops\]\s*$`)
)

// FormatOf is the format that a plain file of that name is encrypted in, as SOPS has it.
func FormatOf(name string) Format {
	base := path.Base(name)
	switch path.Ext(base) {
	case ".yaml", ".yml":
		return YAML
	case ".json":
		return JSON
	case ".env":
		return Dotenv
	case ".ini":
		return INI
	}
	if base == ".env" || strings.HasPrefix(base, ".env.") || strings.Contains(base, ".env.") {
		return Dotenv
	}
	return Binary
}

// parsed is a file before it is known whether it is encrypted.
type parsed struct {
	format Format
	docs   []branch
	// block is the metadata, found says that there is some.
	block branch
	at    place
	found bool
}

// inspect finds out what a file is, by its content. A nil result is an ordinary file.
func inspect(name string, data []byte) (*parsed, *fault) {
	marked := bytes.Contains(data, []byte(cipherMark))
	if !marked && !bytes.Contains(data, []byte(metadataKey)) {
		return nil, nil //nolint:nilnil // an ordinary file is an answer
	}
	if len(data) > maxFile {
		if !marked {
			return nil, nil //nolint:nilnil // an ordinary file is an answer
		}
		return nil, &fault{rule: ruleTooLarge, message: fmt.Sprintf("the file has %d bytes; at most %d are decrypted", len(data), maxFile)}
	}
	if !utf8.Valid(data) {
		return nil, nil //nolint:nilnil // what is encrypted is text
	}
	p, bad := parseAny(name, data)
	switch {
	case bad != nil && marked && meantEncrypted(data):
		return nil, bad
	case bad != nil || p == nil:
		return nil, nil //nolint:nilnil,nilerr // an ordinary file, for its own reader to judge
	case p.found:
		return p, nil
	case marked && p.holds(func(text string) bool { return strings.HasPrefix(text, cipherMark) }):
		return nil, &fault{ruleFormat, "the file holds encrypted values, but not the sops block that says how", wrongBlockHint, place{1, 1}}
	}
	return nil, nil //nolint:nilnil // an ordinary file is an answer
}

// meantEncrypted reports a file that cannot be read and yet is meant to be encrypted: one
// that was cut off, say, and not a page that tells about SOPS.
func meantEncrypted(data []byte) bool {
	if bytes.Contains(data, []byte("```")) {
		return false
	}
	for line := range bytes.Lines(data) {
		if encryptedLine.Match(bytes.TrimSpace(line)) {
			return true
		}
	}
	return false
}

// encryptedLine is a line of an encrypted file in any of the formats.
var encryptedLine = regexp.MustCompile(`^(#|\{?\s*"[^"]*":\s*"|[^\s:=]+:\s*"?|[^\s:=]+\s*=\s*)ENC\[AES256_GCM,data:`)

// parseAny reads a file in the format that its content has.
func parseAny(name string, data []byte) (*parsed, *fault) {
	switch {
	case flatMetadata.Match(data):
		return parseDotenv(data)
	case iniMetadata.Match(data):
		return parseINI(data)
	case bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")):
		p, bad := parseJSON(data)
		if bad != nil {
			if y, yamlBad := parseYAML(data); yamlBad == nil {
				return y, nil
			}
			return nil, bad
		}
		if p.found && p.isBinary() && FormatOf(name) != JSON {
			p.format = Binary
		}
		return p, nil
	}
	p, bad := parseYAML(data)
	if bad != nil {
		if env, envBad := parseDotenv(data); envBad == nil {
			return env, nil
		}
	}
	return p, bad
}

// isBinary reports a file of one value. Only its name tells whether that was a JSON
// document with this one key, or anything at all.
func (p *parsed) isBinary() bool {
	if len(p.docs) != 1 || len(p.docs[0]) != 1 || p.docs[0][0].name() != binaryKey {
		return false
	}
	_, ok := p.docs[0][0].value.(string)
	return ok
}

// takeBlock takes the metadata out of every document; that of the first one counts.
func (p *parsed) takeBlock() {
	for i, doc := range p.docs {
		at := slices.IndexFunc(doc, func(it item) bool {
			block, ok := it.value.(branch)
			return it.name() == metadataKey && ok && isBlock(block)
		})
		if at < 0 {
			if i == 0 {
				return // what follows is not encrypted either
			}
			continue
		}
		if i == 0 {
			p.block, _ = doc[at].value.(branch)
			p.at, p.found = doc[at].at, true
		}
		p.docs[i] = slices.Delete(slices.Clone(doc), at, at+1)
	}
}

// isBlock tells the metadata from a key that happens to have its name.
func isBlock(b branch) bool {
	known := backends()
	return slices.ContainsFunc(b, func(it item) bool {
		switch it.name() {
		case "mac", "lastmodified", "shamir_threshold", "key_groups":
			return true
		case "age", "pgp":
			_, ok := it.value.(list)
			return ok
		}
		return known[it.name()] != "" && !isEmpty(it.value)
	})
}

// holds reports whether some value or comment is of a kind.
func (p *parsed) holds(kind func(string) bool) bool {
	found := false
	look := walker{visit: func(l leaf) (any, error) {
		text, _ := l.value.(string)
		if c, ok := l.value.(comment); ok {
			text = c.text
		}
		found = found || kind(text)
		return l.value, nil
	}}
	for _, doc := range p.docs {
		// What cannot be walked is reported when the file is opened.
		_, _ = look.branch(doc, nil, nil)
	}
	return found
}

// parsePlain reads a file that is to be encrypted.
func parsePlain(format Format, data []byte) ([]branch, *fault) {
	var p *parsed
	var bad *fault
	switch format {
	case YAML:
		p, bad = parseYAML(data)
	case JSON:
		p, bad = parseJSON(data)
	case Dotenv:
		p, bad = parseDotenv(data)
	case INI:
		p, bad = parseINI(data)
	case Binary:
		return []branch{{{key: binaryKey, value: string(data)}}}, nil
	default:
		return nil, badFormat(place{}, "format %q is not known", format)
	}
	if bad != nil {
		return nil, bad
	}
	if p.found {
		return nil, badFormat(p.at, "the file is encrypted already")
	}
	for _, doc := range p.docs {
		for _, it := range doc {
			if it.name() == metadataKey || format == Dotenv && strings.HasPrefix(it.name(), flatPrefix) {
				return nil, badFormat(it.at, "%q is a name that SOPS keeps to itself", it.name())
			}
		}
	}
	return p.docs, nil
}

// emitPlain writes decrypted documents.
func emitPlain(format Format, docs []branch) ([]byte, error) {
	switch format {
	case YAML:
		return emitYAML(docs)
	case JSON:
		return emitJSON(docs)
	case Dotenv:
		return emitDotenv(docs)
	case INI:
		return emitINI(docs)
	case Binary:
		text, ok := docs[0][0].value.(string)
		if !ok {
			return nil, badFormat(docs[0][0].at, "the content is not text or bytes")
		}
		return []byte(text), nil
	}
	return nil, fmt.Errorf("format %q is not known", format)
}

// emitEncrypted writes encrypted documents with their metadata.
func emitEncrypted(format Format, docs []branch, m *metadata) ([]byte, error) {
	var tail branch
	switch format {
	case Dotenv:
		for _, it := range m.flat() {
			tail = append(tail, item{key: flatPrefix + it.name(), value: it.value})
		}
	case INI:
		flat := m.flat()
		for i := range flat {
			if text, ok := flat[i].value.(string); ok {
				flat[i].value = strings.ReplaceAll(text, "\n", `\n`)
			}
		}
		tail = branch{{key: metadataKey, value: flat}}
	case YAML, JSON, Binary:
		tail = branch{{key: metadataKey, value: m.block()}}
	}
	out := make([]branch, len(docs))
	for i, doc := range docs {
		out[i] = slices.Concat(doc, tail)
	}
	if format == Binary {
		format = JSON
	}
	return emitPlain(format, out)
}
