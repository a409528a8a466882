package compose

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/schema"
	"go.yaml.in/yaml/v4"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/didyoumean"
)

// shape is the part of compose-go's JSON schema that says which keys exist. Whether the
// values fit is compose-go's own validation, which names no line.
type shape struct {
	Ref        string            `json:"$ref"`
	Properties map[string]*shape `json:"properties"`
	Patterns   map[string]*shape `json:"patternProperties"`
	Items      *shape            `json:"items"`
	OneOf      []*shape          `json:"oneOf"`
	AnyOf      []*shape          `json:"anyOf"`
	AllOf      []*shape          `json:"allOf"`
	// Additional is false, absent, or a shape of its own.
	Additional  json.RawMessage   `json:"additionalProperties"`
	Definitions map[string]*shape `json:"$defs"`
	patterns    []pattern
}

type pattern struct {
	expr  *regexp.Regexp
	shape *shape
}

// loadShape parses the schema once; it is never changed after.
var loadShape = sync.OnceValues(func() (*shape, error) {
	root := &shape{}
	if err := json.Unmarshal([]byte(schema.Schema), root); err != nil {
		return nil, fmt.Errorf("parse the Compose schema: %w", err)
	}
	return root, root.compile()
})

func (s *shape) compile() error {
	if s == nil {
		return nil
	}
	for _, text := range slices.Sorted(maps.Keys(s.Patterns)) {
		expr, err := regexp.Compile(text)
		if err != nil {
			return fmt.Errorf("compile pattern %q: %w", text, err)
		}
		s.patterns = append(s.patterns, pattern{expr, s.Patterns[text]})
	}
	children := slices.Concat(s.OneOf, s.AnyOf, s.AllOf, []*shape{s.Items},
		slices.Collect(maps.Values(s.Properties)), slices.Collect(maps.Values(s.Patterns)),
		slices.Collect(maps.Values(s.Definitions)))
	for _, child := range children {
		if err := child.compile(); err != nil {
			return err
		}
	}
	return nil
}

// checkKeys reports keys that Compose does not know.
func checkKeys(doc *document) fleet.Diagnostics {
	root, err := loadShape()
	if err != nil {
		return fleet.Diagnostics{{
			Rule: "compose-invalid", Severity: fleet.SeverityError, Position: doc.position(doc.root), Message: err.Error(),
		}}
	}
	c := &keyChecker{doc: doc, root: root, seen: map[visit]bool{}}
	c.check(doc.root, []*shape{root}, nil)
	return c.findings
}

// visit is a node checked as one shape: anchors are visited once for each.
type visit struct {
	node  *yaml.Node
	shape *shape
}

type keyChecker struct {
	doc      *document
	root     *shape
	seen     map[visit]bool
	findings fleet.Diagnostics
}

// check compares a node with the shapes it may have.
func (c *keyChecker) check(n *yaml.Node, shapes []*shape, path []string) {
	n = resolve(n)
	shapes = c.flatten(shapes, 0)
	if len(shapes) == 0 || c.seen[visit{n, shapes[0]}] {
		return
	}
	c.seen[visit{n, shapes[0]}] = true
	if n.Kind == yaml.MappingNode {
		c.checkMapping(n, shapes, path)
	}
	if n.Kind == yaml.SequenceNode {
		var inner []*shape
		for _, s := range shapes {
			if s.Items != nil {
				inner = append(inner, s.Items)
			}
		}
		for _, item := range n.Content {
			c.check(item, inner, path)
		}
	}
}

// flatten replaces references and alternatives by the shapes they stand for.
func (c *keyChecker) flatten(shapes []*shape, depth int) []*shape {
	var out []*shape
	for _, s := range shapes {
		if s == nil || depth > maxDepth {
			continue
		}
		if s.Ref != "" {
			out = append(out, c.flatten([]*shape{c.root.Definitions[strings.TrimPrefix(s.Ref, "#/$defs/")]}, depth+1)...)
			continue
		}
		out = append(out, s)
		out = append(out, c.flatten(slices.Concat(s.OneOf, s.AnyOf, s.AllOf), depth+1)...)
	}
	return out
}

func (c *keyChecker) checkMapping(n *yaml.Node, shapes []*shape, path []string) {
	known, open := map[string]bool{}, true
	for _, s := range shapes {
		if len(s.Properties)+len(s.patterns) == 0 {
			continue
		}
		if string(s.Additional) == "false" {
			open = false
		}
		for key := range s.Properties {
			known[key] = true
		}
	}
	for _, e := range entries(n) {
		key := e.key.Value
		if inner := shapesOf(key, shapes); inner != nil {
			c.check(e.value, inner, append(slices.Clone(path), key))
			continue
		}
		if open {
			continue
		}
		c.findings = append(c.findings, c.unknown(e.key, path, known))
	}
}

// shapesOf are the shapes the value of a key may have; nil when the key is not known.
func shapesOf(key string, shapes []*shape) []*shape {
	var inner []*shape
	for _, s := range shapes {
		if property, ok := s.Properties[key]; ok {
			inner = append(inner, property)
			continue
		}
		for _, p := range s.patterns {
			if p.expr.MatchString(key) {
				inner = append(inner, p.shape)
			}
		}
	}
	return inner
}

func (c *keyChecker) unknown(key *yaml.Node, path []string, known map[string]bool) fleet.Diagnostic {
	d := fleet.Diagnostic{
		Rule: "unknown-key", Severity: fleet.SeverityError, Position: c.doc.position(key),
		Message: fmt.Sprintf("unknown key %q", key.Value),
		Hint:    DidYouMean(key.Value, slices.Collect(maps.Keys(known))),
	}
	switch {
	case len(path) == 1 && path[0] == "services":
		d.Rule = "service-name"
		d.Message = fmt.Sprintf("%q is not a name for a service", key.Value)
		d.Hint = "use letters, digits, and . _ -"
	case len(path) > 0:
		d.Message += " in " + strings.Join(path, ".")
	case d.Hint == "":
		d.Hint = "keys of your own begin with x-"
	}
	return d
}

// DidYouMean is a hint with the known word that is nearest, or nothing.
func DidYouMean(word string, known []string) string {
	if near := didyoumean.Word(word, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return ""
}
