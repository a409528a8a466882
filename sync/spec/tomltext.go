package spec

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// tomlText is a string as it is written. Text of several lines becomes a multi-line
// string where tall allows it. In those a backslash is a plain character, as Komodo has
// it, and nothing else can be escaped either: what would need it is written in one line.
func tomlText(s string, tall bool) string {
	plain := strings.IndexFunc(s, func(r rune) bool { return control(r) || r == '\r' }) < 0
	if tall && plain && strings.Contains(s, "\n") {
		for _, quotes := range []string{`"""`, "'''"} {
			if !strings.Contains(s, quotes) && !strings.HasSuffix(s, quotes[:1]) {
				return quotes + "\n" + s + quotes
			}
		}
	}
	if plain && strings.ContainsAny(s, `"\`) && !strings.ContainsAny(s, "'\n") {
		return "'" + s + "'"
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case control(r):
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// maxLine is the length that lists of strings have in one line.
const maxLine = 90

// tomlTexts is a list of strings, in one line when it is short.
func tomlTexts(list []string, tall bool) string {
	items := make([]string, len(list))
	for i, s := range list {
		items[i] = tomlText(s, false)
	}
	line := "[" + strings.Join(items, ", ") + "]"
	if tall && len(line) > maxLine {
		return "[\n  " + strings.Join(items, ",\n  ") + ",\n]"
	}
	return line
}

// tomlJSON is a value of encoding/json, with its numbers as written.
func tomlJSON(value any) string {
	switch v := value.(type) {
	case map[string]any:
		var parts []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, tomlKey(key)+" = "+tomlJSON(v[key]))
		}
		if len(parts) == 0 {
			return "{}"
		}
		return "{ " + strings.Join(parts, ", ") + " }"
	case []any:
		items := make([]string, len(v))
		for i := range v {
			items[i] = tomlJSON(v[i])
		}
		return "[" + strings.Join(items, ", ") + "]"
	case json.Number:
		return v.String()
	case bool:
		return fmt.Sprint(v)
	case string:
		return tomlText(v, false)
	}
	return `""`
}

// tomlKey is a key, in quotes where it needs them.
func tomlKey(key string) string {
	bare := key != "" && strings.Trim(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == ""
	if bare {
		return key
	}
	return tomlText(key, false)
}
