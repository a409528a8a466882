package compose

import (
	"iter"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/varanhq/varan/fleet"
)

// layer is a document with what its references and variables are resolved against.
type layer struct {
	*document
	// base is the directory relative references start from.
	base string
	env  scope
}

// serviceRef is a service as one document writes it.
type serviceRef struct {
	layer *layer
	name  string
}

// entry is one key of a mapping.
type entry struct{ key, value *yaml.Node }

// resolve follows an alias.
func resolve(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// entries are the keys of a mapping, those that "<<" merges in after its own.
func entries(n *yaml.Node) []entry {
	n = resolve(n)
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	out := make([]entry, 0, len(n.Content)/2)
	var merged []entry
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Value != "<<" {
			out = append(out, entry{key, value})
			continue
		}
		value = resolve(value)
		if value.Kind != yaml.SequenceNode {
			merged = append(merged, entries(value)...)
			continue
		}
		for _, item := range value.Content {
			merged = append(merged, entries(item)...)
		}
	}
	for _, e := range merged {
		if _, ok := lookup(out, e.key.Value); !ok {
			out = append(out, e)
		}
	}
	return out
}

func lookup(list []entry, key string) (entry, bool) {
	for _, e := range list {
		if e.key.Value == key {
			return e, true
		}
	}
	return entry{}, false
}

// field is the value of a key of a mapping, or nil.
func field(n *yaml.Node, key string) *yaml.Node {
	if e, ok := lookup(entries(n), key); ok {
		return resolve(e.value)
	}
	return nil
}

// items are the elements of a list; a scalar or mapping is a list of itself.
func items(n *yaml.Node) []*yaml.Node {
	n = resolve(n)
	switch {
	case n == nil || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		return nil
	case n.Kind != yaml.SequenceNode:
		return []*yaml.Node{n}
	}
	out := make([]*yaml.Node, len(n.Content))
	for i, item := range n.Content {
		out[i] = resolve(item)
	}
	return out
}

// found is where a path led: as deep as the document goes.
type found struct {
	doc *document
	// mark is what to point at: a key, or a list item. value is what it holds.
	mark, value *yaml.Node
	depth       int
}

func (f found) position() fleet.Position {
	if f.mark == nil {
		return fleet.Position{}
	}
	return f.doc.position(f.mark)
}

// descend follows path from a node. In lists of KEY=VALUE or of names, a name finds
// its item; a number is an index.
func descend(doc *document, mark, node *yaml.Node, path []string) found {
	at := found{doc: doc, mark: mark, value: resolve(node)}
	for _, step := range path {
		if at.value == nil {
			return at
		}
		var next found
		var ok bool
		if at.value.Kind == yaml.SequenceNode {
			var item *yaml.Node
			item, ok = listItem(at.value, step)
			next = found{mark: item, value: item}
		} else {
			var e entry
			e, ok = lookup(entries(at.value), step)
			next = found{mark: e.key, value: resolve(e.value)}
		}
		if !ok {
			return at
		}
		at.mark, at.value, at.depth = next.mark, next.value, at.depth+1
	}
	return at
}

func listItem(list *yaml.Node, step string) (*yaml.Node, bool) {
	for _, item := range list.Content {
		item = resolve(item)
		name, _, _ := strings.Cut(item.Value, "=")
		if item.Kind == yaml.ScalarNode && name == step {
			return item, true
		}
	}
	if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(list.Content) {
		return resolve(list.Content[i]), true
	}
	return nil, false
}

// layers are the documents of the stack, the highest precedence first.
func (l *load) layers() iter.Seq[*layer] {
	return func(yield func(*layer) bool) {
		for _, list := range [][]*layer{l.mains, l.included} {
			for _, in := range slices.Backward(list) {
				if !yield(in) {
					return
				}
			}
		}
	}
}

// find locates a path of the resolved model in the files it came from. The file with
// the highest precedence wins; services are looked for in what they extend, too.
func (l *load) find(path ...string) found {
	best := found{depth: -1}
	consider := func(f found, extra int) bool {
		f.depth += extra
		if f.depth > best.depth {
			best = f
		}
		return best.depth == len(path)
	}
	for in := range l.layers() {
		if consider(descend(in.document, in.root, in.root, path), 0) {
			return best
		}
	}
	if len(path) < 2 || path[0] != "services" {
		return best
	}
	for _, base := range l.bases[path[1]] {
		at := descend(base.layer.document, base.layer.root, base.layer.root, []string{"services", base.name})
		if at.depth < 2 {
			continue
		}
		if consider(descend(base.layer.document, at.mark, at.value, path[2:]), 2) {
			return best
		}
	}
	return best
}

// at is the position of a path, or that of the stack when no file has it.
func (l *load) at(path ...string) fleet.Position {
	f := l.find(path...)
	if f.depth <= 0 {
		if len(l.mains) > 0 {
			return fleet.Position{File: l.mains[0].file, Line: 1 + l.mains[0].shift, Col: 1}
		}
		return l.req.Origin
	}
	return f.position()
}

// atItem is the position of the list item at path that mentions text, as written or
// after interpolation; the list's own when none does.
func (l *load) atItem(text string, path ...string) fleet.Position {
	for _, n := range l.writings(path...) {
		for _, item := range items(n.value) {
			if text != "" && l.mentions(item, text) {
				return n.doc.position(item)
			}
		}
	}
	return l.at(path...)
}

func (l *load) mentions(n *yaml.Node, text string) bool {
	if n.Kind == yaml.ScalarNode {
		return strings.Contains(n.Value, text) || strings.Contains(expand(n.Value, l.env.peek), text)
	}
	for _, e := range entries(n) {
		if value := resolve(e.value); value.Kind == yaml.ScalarNode && l.mentions(value, text) {
			return true
		}
	}
	return false
}

// writings are all places that write a path: every file, and what services extend.
func (l *load) writings(path ...string) []found {
	var out []found
	keep := func(f found, want int) {
		if f.depth == want {
			out = append(out, f)
		}
	}
	for in := range l.layers() {
		keep(descend(in.document, in.root, in.root, path), len(path))
	}
	if len(path) < 2 || path[0] != "services" {
		return out
	}
	for _, base := range l.bases[path[1]] {
		at := descend(base.layer.document, base.layer.root, base.layer.root, []string{"services", base.name})
		if at.depth == 2 {
			keep(descend(base.layer.document, at.mark, at.value, path[2:]), len(path)-2)
		}
	}
	return out
}
