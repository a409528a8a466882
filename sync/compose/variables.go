package compose

import (
	"fmt"
	"strings"

	"github.com/compose-spec/compose-go/v2/template"
	"go.yaml.in/yaml/v4"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/didyoumean"
)

// use is one reference to a variable in a text.
type use struct {
	name string
	// text is how it begins in the source: "$NAME" or "${NAME".
	text string
	// blank is set when the variable would expand to nothing for want of a value, and
	// missing when the text itself calls that an error.
	blank, missing bool
	// required is set when there is no default to fall back to.
	required bool
}

// uses finds the variables of a text that take part in its value. Defaults count only
// where they are used. deep is set when the text nests too deep.
func uses(text string, lookup template.Mapping) (found []use, deep bool) {
	f := &useFinder{lookup: lookup}
	f.scan(text, 0)
	return f.found, f.deep
}

type useFinder struct {
	lookup template.Mapping
	found  []use
	deep   bool
}

func (f *useFinder) scan(text string, depth int) {
	if depth > maxNesting {
		f.deep = true
		return
	}
	for i := 0; i < len(text); i++ {
		if text[i] != '$' || i+1 == len(text) {
			continue
		}
		rest := text[i+1:]
		switch rest[0] {
		case '$':
			i++
		case '{':
			end := closing(rest)
			f.braced(rest[1:end], depth)
			i += end
		default:
			if name := leadingName(rest); name != "" {
				_, set := f.lookup(name)
				f.found = append(f.found, use{name: name, text: "$" + name, blank: !set, required: true})
				i += len(name)
			}
		}
	}
}

// braced handles what is between braces: NAME, or NAME with an operator and a text.
func (f *useFinder) braced(body string, depth int) {
	name := leadingName(body)
	if name == "" {
		return
	}
	operator, text := body[len(name):], ""
	for _, op := range []string{":-", ":?", ":+", "-", "?", "+"} {
		if after, ok := strings.CutPrefix(operator, op); ok {
			operator, text = op, after
			break
		}
	}
	value, set := f.lookup(name)
	filled := set && (value != "" || !strings.HasPrefix(operator, ":"))
	f.found = append(f.found, use{
		name: name, text: "${" + name, blank: operator == "" && !set,
		missing:  strings.HasSuffix(operator, "?") && !filled,
		required: operator == "" || strings.HasSuffix(operator, "?"),
	})
	switch {
	case strings.HasSuffix(operator, "+"):
		if filled {
			f.scan(text, depth+1)
		}
	case operator != "" && !filled:
		f.scan(text, depth+1)
	}
}

// closing is the index of the brace that closes the one text begins with.
func closing(text string) int {
	open := 0
	for i := range len(text) {
		switch text[i] {
		case '{':
			open++
		case '}':
			open--
			if open == 0 {
				return i
			}
		}
	}
	return len(text)
}

func leadingName(text string) string {
	for i := range len(text) {
		c := text[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return text[:i]
		}
	}
	return text
}

// expand interpolates a text. It is for finding places only: errors leave it as it is.
func expand(text string, lookup template.Mapping) string {
	if !strings.Contains(text, "$") || len(text) > maxVariable {
		return text
	}
	out, err := substitute(text, lookup)
	if err != nil {
		return text
	}
	return out
}

// substitute is Compose's interpolation without its warnings on standard error.
func substitute(text string, lookup template.Mapping) (string, error) {
	return template.SubstituteWithOptions(text, lookup, template.WithoutLogging)
}

// checkVariables reports variables without a value in everything under n.
func (l *load) checkVariables(in *layer, n *yaml.Node) {
	seen := map[*yaml.Node]bool{}
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		n = resolve(n)
		if seen[n] {
			return
		}
		seen[n] = true
		if n.Kind == yaml.ScalarNode {
			l.checkScalar(in, n)
		}
		for i, child := range n.Content {
			// Compose does not interpolate keys.
			if n.Kind == yaml.SequenceNode || i%2 == 1 {
				walk(child)
			}
		}
	}
	walk(n)
}

func (l *load) checkScalar(in *layer, n *yaml.Node) {
	if !strings.Contains(n.Value, "$") || n.ShortTag() != "!!str" {
		return
	}
	found, deep := uses(n.Value, in.env.lookup)
	if deep {
		l.fail("too-deep", in.position(n), fmt.Sprintf("defaults nest deeper than %d levels", maxNesting), "")
		return
	}
	for _, u := range found {
		if u.blank || u.missing && l.req.Offline || in.env.refused(u.name) != "" {
			l.undefined(in.env, u.name, in.positionOf(n, u.text))
		}
	}
}

// undefined reports a variable without a value.
func (l *load) undefined(env scope, name string, pos fleet.Position) {
	const rule = "undefined-variable"
	if refused := env.refused(name); refused != "" {
		l.fail("variable-scope", pos, refused, "use another variable, or change where it may be used")
		return
	}
	message := fmt.Sprintf("variable %s is not defined", name)
	switch {
	case l.req.Offline:
		l.unknown[name] = true
		if near := didyoumean.Slip(name, env.known()); near != "" {
			l.warn(rule, pos, message+" here; it may be in core", fmt.Sprintf("did you mean %s?", near))
			return
		}
		l.note(rule, pos, message+" here; it may be in core", "")
	case l.req.Lenient:
		l.warn(rule, pos, message, suggestVariable(name, env.known()))
	default:
		l.fail(rule, pos, message, suggestVariable(name, env.known()))
	}
}

func suggestVariable(name string, known []string) string {
	if near := didyoumean.Word(name, known); near != "" {
		return fmt.Sprintf("did you mean %s?", near)
	}
	return fmt.Sprintf("set it in the stack's environment, or give a default: ${%s:-value}; $$ is a plain dollar sign", name)
}
