package sops

import (
	"bytes"
	"errors"
	"strings"

	"gopkg.in/ini.v1"
)

func iniOptions() ini.LoadOptions { return ini.LoadOptions{AllowNonUniqueSections: true} }

// parseINI reads sections of keys. Places are not known to the library.
func parseINI(data []byte) (*parsed, *fault) {
	file, err := ini.LoadSources(iniOptions(), data)
	if err != nil {
		return nil, badFormat(place{1, 1}, "the file is not valid INI")
	}
	p := &parsed{format: INI}
	var doc branch
	for _, section := range file.Sections() {
		body := branch{}
		if section.Comment != "" {
			body = append(body, item{key: comment{text: bareComment(section.Comment)}})
		}
		for _, key := range section.Keys() {
			body = append(body, item{key: key.Name(), value: key.Value()})
			if key.Comment != "" {
				body = append(body, item{key: comment{text: bareComment(key.Comment)}})
			}
		}
		doc = append(doc, item{key: section.Name(), value: body, at: iniPlace(data, section.Name())})
	}
	p.docs = []branch{doc}
	bad := p.takeFlatBlock()
	return p, bad
}

// iniPlace is where a section begins.
func iniPlace(data []byte, section string) place {
	line := 0
	for text := range bytes.Lines(data) {
		line++
		if string(bytes.TrimSpace(text)) == "["+section+"]" {
			return place{line, 1}
		}
	}
	return place{1, 1}
}

// takeFlatBlock takes the section with the metadata out.
func (p *parsed) takeFlatBlock() *fault {
	var rest branch
	for _, it := range p.docs[0] {
		body, ok := it.value.(branch)
		if it.name() != metadataKey || !ok {
			rest = append(rest, it)
			continue
		}
		var flat branch
		for _, entry := range body {
			if entry.name() == "" {
				continue
			}
			entry.value = strings.ReplaceAll(flatText(entry.value), `\n`, "\n")
			entry.at = it.at
			flat = append(flat, entry)
		}
		block, bad := unflatten(flat)
		if bad != nil {
			return bad
		}
		if !isBlock(block) || p.found {
			return badFormat(it.at, "the sops section is not one of SOPS, or there are two")
		}
		p.block, p.at, p.found = block, it.at, true
	}
	p.docs[0] = rest
	return nil
}

// bareComment is a comment without its marks.
func bareComment(text string) string {
	switch {
	case strings.HasPrefix(text, ";"):
		return strings.TrimLeft(text, "; ")
	case strings.HasPrefix(text, "#"):
		return strings.TrimLeft(text, "# ")
	}
	return text
}

func emitINI(docs []branch) ([]byte, error) {
	file := ini.Empty(iniOptions())
	file.DeleteSection(ini.DefaultSection)
	for _, doc := range docs {
		for _, it := range doc {
			if _, ok := it.key.(comment); ok {
				continue
			}
			body, ok := it.value.(branch)
			if !ok {
				return nil, badFormat(it.at, "%q is not a section", shown(it.name()))
			}
			section, err := file.NewSection(it.name())
			if err != nil {
				return nil, errors.New("a section cannot be written as INI")
			}
			if err := fillSection(section, body); err != nil {
				return nil, err
			}
		}
	}
	var out bytes.Buffer
	if _, err := file.WriteTo(&out); err != nil {
		return nil, errors.New("the file cannot be written as INI")
	}
	return out.Bytes(), nil
}

// fillSection writes keys; a comment belongs to the key before it, or to the section.
func fillSection(section *ini.Section, body branch) error {
	var last *ini.Key
	for i, it := range body {
		c, isComment := it.key.(comment)
		switch {
		case isComment && i == 0:
			section.Comment = c.text
		case isComment && last != nil:
			last.Comment = c.text
		case isComment:
		default:
			key, err := section.NewKey(it.name(), flatText(it.value))
			if err != nil {
				return errors.New("a key cannot be written as INI")
			}
			last = key
		}
	}
	return nil
}
