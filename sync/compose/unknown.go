package compose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/template"
	"go.yaml.in/yaml/v4"

	"github.com/varanhq/varan/fleet"
)

// Without core, a variable may have a value that nobody here knows. The files are loaded
// with a value in its place that fits in most places, and what is wrong all the same where
// such a variable is used may be right in core.

// stand is a value that fits where text has a variable.
func stand(text, name string) string {
	if strings.Contains(text, ":/") {
		return "/unknown/" + name // half of a mount
	}
	return "1"
}

// standIn gives unknown variables a value.
func (l *load) standIn(text string, lookup template.Mapping) template.Mapping {
	if len(l.unknown) == 0 {
		return lookup
	}
	return func(name string) (string, bool) {
		if value, ok := lookup(name); ok || !l.unknown[name] {
			return value, ok
		}
		return stand(text, name), true
	}
}

// forgive makes notes of the errors at places that use an unknown variable.
func (l *load) forgive() {
	if len(l.unknown) == 0 || !l.findings.HasErrors() {
		return
	}
	for i, d := range l.findings {
		if d.Severity == fleet.SeverityError && l.usesUnknown(d.Position) {
			l.findings[i].Severity = fleet.SeverityNote
			l.findings[i].Message += ", as far as is known here"
		}
	}
	if !l.findings.HasErrors() {
		l.note("not-resolved", l.req.Origin, fmt.Sprintf("the stack cannot be resolved without %s", strings.Join(sortedKeys(l.unknown), ", ")),
			"run it with --core to check what depends on core")
	}
}

// usesUnknown reports whether an unknown variable is part of what is written at a place.
func (l *load) usesUnknown(pos fleet.Position) bool {
	if len(l.unknown) == 0 {
		return false
	}
	for _, src := range l.sources {
		if src == nil {
			continue
		}
		for _, doc := range src.docs {
			if doc.file == pos.File && l.unknownAt(doc, doc.root, pos) {
				return true
			}
		}
	}
	return false
}

// unknownAt looks for the place below n: a key stands for its value.
func (l *load) unknownAt(doc *document, n *yaml.Node, pos fleet.Position) bool {
	if doc.position(n) == pos && l.mentionsUnknown(n) {
		return true
	}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && doc.position(child) == pos && l.mentionsUnknown(n.Content[i+1]) {
			return true
		}
		if l.unknownAt(doc, child, pos) {
			return true
		}
	}
	return false
}

func (l *load) mentionsUnknown(n *yaml.Node) bool {
	n = resolve(n)
	if n.Kind == yaml.ScalarNode {
		found, _ := uses(n.Value, l.env.peek)
		for _, u := range found {
			if l.unknown[u.name] {
				return true
			}
		}
		return false
	}
	return slices.ContainsFunc(n.Content, l.mentionsUnknown)
}
