package sops

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// parseDotenv reads KEY=VALUE lines as SOPS does: nothing is quoted, and \n in a value is
// the end of a line in it.
func parseDotenv(data []byte) (*parsed, *fault) {
	var doc, flat branch
	first := place{}
	for i, line := range strings.Split(string(data), "\n") {
		at := place{i + 1, 1}
		if line == "" {
			continue
		}
		if line[0] == '#' {
			doc = append(doc, item{key: comment{text: line[1:]}, at: at})
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, badFormat(at, "a line is not KEY=VALUE")
		}
		it := item{key, strings.ReplaceAll(value, `\n`, "\n"), at}
		if name, ok := strings.CutPrefix(key, flatPrefix); ok {
			it.key = name
			flat = append(flat, it)
			if first.line == 0 {
				first = at
			}
			continue
		}
		doc = append(doc, it)
	}
	p := &parsed{format: Dotenv, docs: []branch{doc}}
	if len(flat) == 0 {
		return p, nil
	}
	block, bad := unflatten(flat)
	if bad != nil {
		return nil, bad
	}
	if isBlock(block) {
		p.block, p.at, p.found = block, first, true
	}
	return p, nil
}

func emitDotenv(docs []branch) ([]byte, error) {
	if len(docs) == 0 {
		return nil, errors.New("there is no document")
	}
	var out bytes.Buffer
	for _, it := range docs[0] {
		if c, ok := it.key.(comment); ok {
			fmt.Fprintf(&out, "#%s\n", oneLine(c.text))
			continue
		}
		switch it.value.(type) {
		case branch, list:
			return nil, badFormat(it.at, "the value of %s cannot be written on a line", shown(it.name()))
		}
		fmt.Fprintf(&out, "%s=%s\n", it.name(), oneLine(flatText(it.value)))
	}
	return out.Bytes(), nil
}

// oneLine keeps a value from becoming two variables.
func oneLine(text string) string { return strings.ReplaceAll(text, "\n", `\n`) }
