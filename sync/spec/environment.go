package spec

import (
	"strconv"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// environment decodes the forms an environment may have: a string of KEY = value,
// KEY: value or - KEY=value lines with comments, a list of such entries, or a list of
// {variable, value} tables.
func (d decoder) environment(v value, f *field, name string) []EnvVar {
	labels := f.form == "labels"
	var vars []EnvVar
	switch v.kind {
	case kindString:
		if _, ok := d.text(v, name); !ok {
			return nil
		}
		for line := range entryLines(v.text) {
			if e, ok := d.envEntry(unlist(line), v, name, labels); ok {
				vars = append(vars, e)
			}
		}
	case kindArray:
		for i, item := range v.list {
			itemName := name + "[" + strconv.Itoa(i) + "]"
			e, ok := d.envItem(item, itemName, labels)
			if ok {
				vars = append(vars, e)
			}
		}
	default:
		d.wrongType(v, name, "a string or a list", `write KEY = value lines between """ and """`)
	}
	d.checkRepeats(vars, name)
	return vars
}

func (d decoder) envItem(item value, name string, labels bool) (EnvVar, bool) {
	switch {
	case item.table != nil:
		return d.envTable(item.table, name, labels)
	case item.kind == kindString:
		if _, ok := d.text(item, name); !ok {
			return EnvVar{}, false
		}
		key, text, ok := cutEntry(item.text)
		if !ok {
			d.envSyntax(item.at, name)
			return EnvVar{}, false
		}
		if item.text[len(key)] == ':' { // as YAML has it
			text = strings.TrimSpace(text)
		}
		return d.envVar(strings.TrimSpace(key), text, item.at, labels)
	}
	d.wrongType(item, name, "KEY=value or a table with variable and value", "")
	return EnvVar{}, false
}

func (d decoder) envTable(t *table, name string, labels bool) (EnvVar, bool) {
	known := []string{"variable", "value"}
	parts := map[string]string{}
	for _, e := range t.entries {
		if e.key != known[0] && e.key != known[1] {
			d.unknownKey(e, name, known)
			continue
		}
		s, ok := d.text(e.value, name+"."+e.key)
		if !ok {
			return EnvVar{}, false
		}
		parts[e.key] = s
	}
	return d.envVar(parts[known[0]], parts[known[1]], t.at, labels)
}

// envEntry decodes one line of an environment string.
func (d decoder) envEntry(line span, v value, name string, labels bool) (EnvVar, bool) {
	at := v.place(line.offset)
	key, text, ok := cutEntry(line.text)
	if !ok {
		d.envSyntax(at, name)
		return EnvVar{}, false
	}
	return d.envVar(strings.TrimSpace(key), envValue(strings.TrimSpace(text)), at, labels)
}

// envSyntax never shows the entry: it may be a secret that lost its key.
func (d decoder) envSyntax(at int, name string) {
	d.fail(at, "environment-syntax", "write KEY = value", "an entry of %s has no = or :", quoted(name))
}

func (d decoder) envVar(name, text string, at int, labels bool) (EnvVar, bool) {
	if labels && name != "" {
		return EnvVar{Name: name, Value: text, Pos: d.position(at)}, true
	}
	name = strings.TrimPrefix(name, "export ")
	if !validEnvName(name) {
		d.fail(at, "environment-name", "use letters, digits, _, . and -, with no digit in front",
			"%s cannot name an environment variable", quoted(name))
		return EnvVar{}, false
	}
	return EnvVar{Name: name, Value: text, Pos: d.position(at)}, true
}

func (d decoder) checkRepeats(vars []EnvVar, name string) {
	if len(vars) < 2 {
		return
	}
	first := make(map[string]EnvVar, len(vars))
	for _, e := range vars {
		if before, again := first[e.Name]; again {
			d.remarkAt(fleet.SeverityWarning, e.Pos, "duplicate-variable", "keep one of them; the last one counts",
				"%s sets %s twice, first on line %d", quoted(name), quoted(e.Name), before.Pos.Line)
			continue
		}
		first[e.Name] = e
	}
}

// unlist drops the dash of a YAML list item, and the quotes around all of it.
func unlist(line span) span {
	if strings.HasPrefix(line.text, "-") {
		line = line.from(1).trim()
	}
	if end := closingQuote(line.text); end > 0 {
		return span{line.text[1:end], line.offset + 1}
	}
	return line
}

// closingQuote is where the quote that opens text is closed, with nothing but a comment
// after it; 0 when there is no such place.
func closingQuote(text string) int {
	if text == "" || text[0] != '"' && text[0] != '\'' {
		return 0
	}
	for i := 1; i < len(text); i++ {
		if text[i] == text[0] && onlyComment(text[i+1:]) {
			return i
		}
	}
	return 0
}

// cutEntry cuts at the first = or :.
func cutEntry(entry string) (name, text string, ok bool) {
	i := strings.IndexAny(entry, "=:")
	if i < 0 {
		return "", "", false
	}
	return entry[:i], entry[i+1:], true
}

// envValue takes the quotes off a quoted value and the comment off any.
func envValue(text string) string {
	if end := closingQuote(text); end > 0 {
		return text[1:end]
	}
	if strings.HasPrefix(text, "#") {
		return ""
	}
	return cutComment(text)
}

// onlyComment reports whether nothing but a comment follows a value.
func onlyComment(rest string) bool {
	bare := strings.TrimLeft(rest, " \t")
	return bare == "" || len(bare) < len(rest) && bare[0] == '#'
}

func validEnvName(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '.' && c != '-') {
			return false
		}
	}
	return name != ""
}
