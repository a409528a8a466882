package takeover

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// composeFile replaces the passwords in the environments of a Compose file by variables.
// The rest stays as it is written. It makes sure that the file still says the same.
func (c *conversion) composeFile(f File) (content []byte, reason string) {
	before, ok := documents(f.Content)
	if !ok {
		return nil, f.Path + " is not YAML that can be read"
	}
	e := &edit{c: c, values: map[string]string{}, seen: map[*yaml.Node]bool{}}
	for _, doc := range before {
		for _, root := range doc.Content {
			services := child(root, "services")
			if services == nil || services.Kind != yaml.MappingNode {
				continue
			}
			for i := 1; i < len(services.Content); i += 2 {
				e.environment(child(services.Content[i], "environment"))
			}
		}
	}
	if len(e.values) == 0 {
		return f.Content, ""
	}
	out, ok := e.apply(f.Content)
	if !ok || !e.same(f.Content, out) {
		return nil, f.Path + " holds secrets in a form that cannot be told from the rest"
	}
	return out, ""
}

// edit changes scalars of a YAML text where they are.
type edit struct {
	c      *conversion
	values map[string]string // by "${NAME}", as they are written in the file
	seen   map[*yaml.Node]bool
	// changes are the scalars with what they become.
	changes []change
}

type change struct {
	node *yaml.Node
	text string
}

// environment edits one environment, a map or a list, and what is merged into it.
func (e *edit) environment(n *yaml.Node) {
	if n == nil || e.seen[n] {
		return
	}
	e.seen[n] = true
	switch n.Kind {
	case yaml.AliasNode:
		e.environment(n.Alias)
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			switch {
			case key.Value == "<<":
				e.environment(value)
			case value.Kind == yaml.ScalarNode:
				e.replace(value, key.Value, "", value.Value)
			}
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			name, value, ok := strings.Cut(item.Value, "=")
			switch {
			case item.Kind != yaml.ScalarNode:
				e.environment(item) // of a list of maps to merge
			case ok:
				e.replace(item, name, name+"=", value)
			}
		}
	case yaml.DocumentNode, yaml.ScalarNode, yaml.StreamNode:
	}
}

// replace puts a variable in the place of a secret value. Values that are variables
// already are left alone; "$$" is a dollar sign.
func (e *edit) replace(n *yaml.Node, name, prefix, written string) {
	value := strings.ReplaceAll(written, "$$", "\x00")
	if strings.Contains(value, "$") {
		return
	}
	value = strings.ReplaceAll(value, "\x00", "$")
	if !isSecret(name, value) {
		return
	}
	variable := "${" + e.c.secret(name, value) + "}"
	e.values[variable] = written
	e.changes = append(e.changes, change{n, `"` + prefix + variable + `"`})
}

// apply makes the changes, from the end so that places stay right.
func (e *edit) apply(text []byte) (out []byte, ok bool) {
	lines := strings.SplitAfter(string(text), "\n")
	slices.SortFunc(e.changes, func(a, b change) int {
		return cmp.Or(cmp.Compare(b.node.Line, a.node.Line), cmp.Compare(b.node.Column, a.node.Column))
	})
	for _, ch := range e.changes {
		at, column := ch.node.Line-1, ch.node.Column-1
		if at < 0 || at >= len(lines) {
			return nil, false
		}
		runes := []rune(lines[at])
		if column < 0 || column > len(runes) {
			return nil, false
		}
		rest := string(runes[column:])
		length := scalarLength(ch.node, rest)
		if length < 0 {
			return nil, false
		}
		lines[at] = string(runes[:column]) + ch.text + rest[length:]
	}
	return []byte(strings.Join(lines, "")), true
}

// scalarLength is how much of a line a scalar takes; negative when that is not to be told.
func scalarLength(n *yaml.Node, rest string) int {
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 || n.Anchor != "" || n.Tag != "!!str" && n.Style&yaml.TaggedStyle != 0:
		return -1
	case n.Style&yaml.DoubleQuotedStyle != 0:
		for i := 1; i < len(rest); i++ {
			switch rest[i] {
			case '\\':
				i++
			case '"':
				return i + 1
			}
		}
		return -1
	case n.Style&yaml.SingleQuotedStyle != 0:
		for i := 1; i < len(rest); i++ {
			if rest[i] != '\'' {
				continue
			}
			if i+1 < len(rest) && rest[i+1] == '\'' {
				i++
				continue
			}
			return i + 1
		}
		return -1
	case strings.HasPrefix(rest, n.Value):
		return len(n.Value)
	}
	return -1
}

// same reports whether two texts are the same YAML but for the values that were replaced.
func (e *edit) same(before, after []byte) bool {
	want, ok := values(before)
	got, again := values(after)
	return ok && again && reflect.DeepEqual(want, e.restore(got))
}

// restore puts the values back.
func (e *edit) restore(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key := range v {
			v[key] = e.restore(v[key])
		}
	case []any:
		for i := range v {
			v[i] = e.restore(v[i])
		}
	case string:
		for variable, value := range e.values {
			v = strings.ReplaceAll(v, variable, value)
		}
		return v
	}
	return v
}

// documents parses every document of a YAML text.
func documents(text []byte) (list []*yaml.Node, ok bool) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var n yaml.Node
		switch err := decoder.Decode(&n); {
		case errors.Is(err, io.EOF):
			return list, true
		case err != nil:
			return nil, false
		}
		list = append(list, &n)
	}
}

// values decodes every document; scalars of environments count as text.
func values(text []byte) ([]any, bool) {
	list, ok := documents(text)
	if !ok {
		return nil, false
	}
	out := make([]any, len(list))
	for i, n := range list {
		asText(n)
		if n.Decode(&out[i]) != nil {
			return nil, false
		}
	}
	return out, true
}

// asText makes strings of all plain values: 1234 and "1234" are one in an environment.
func asText(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Tag != "!!merge" {
		n.Tag = "!!str"
	}
	for _, c := range n.Content {
		asText(c)
	}
}

// child is the value of a key.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
