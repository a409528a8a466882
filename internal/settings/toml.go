package settings

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/varanhq/varan/fleet"
)

// node is a value of the file with its place.
type node struct {
	// pos is that of the value's key, or of its header.
	pos  fleet.Position
	kind unstable.Kind
	text string
	list []*node
	// A table has its keys in the order of the file.
	keys  []string
	table map[string]*node
	// open tables were only named by longer headers, and may still get a header.
	open bool
}

func newTable(pos fleet.Position, open bool) *node {
	return &node{pos: pos, kind: unstable.Table, table: map[string]*node{}, open: open}
}

func (n *node) put(key string, child *node) {
	n.keys = append(n.keys, key)
	n.table[key] = child
}

// words names the kind of a value for people.
func (n *node) words() string {
	switch n.kind { //nolint:exhaustive // the rest are dates and times
	case unstable.String:
		return "text"
	case unstable.Bool:
		return "true or false"
	case unstable.Integer:
		return "a number"
	case unstable.Float:
		return "a number with a fraction"
	case unstable.Array, unstable.ArrayTable:
		return "a list"
	case unstable.Table, unstable.InlineTable:
		return "a table"
	}
	return "a date or time"
}

// reader makes a tree of the file. It ends at the first fault.
type reader struct {
	file    string
	src     []byte
	parser  unstable.Parser
	root    *node
	current *node
}

// fault is the one finding of a place.
func fault(pos fleet.Position, rule, hint, format string, args ...any) fleet.Diagnostics {
	return fleet.Diagnostics{{
		Rule: rule, Severity: fleet.SeverityError, Position: pos, Message: fmt.Sprintf(format, args...), Hint: hint,
	}}
}

// parse reads TOML. What the tree cannot tell, the library's own decoder does.
func parse(file string, src []byte) (*node, error) {
	r := &reader{file: file, src: src}
	if at := unreadable(src); at >= 0 {
		return nil, fault(r.position(at), "toml-syntax", "a TOML file is text in UTF-8", "this is not text")
	}
	r.root = newTable(fleet.Position{File: file}, false)
	r.current = r.root
	r.parser.Reset(src)
	for r.parser.NextExpression() {
		if err := r.expression(r.parser.Expression()); err != nil {
			return nil, err
		}
	}
	if err, ok := errors.AsType[*unstable.ParserError](r.parser.Error()); ok {
		return nil, fault(r.position(int(r.parser.Range(err.Highlight).Offset)), "toml-syntax", "", "%s", err.Message)
	}
	var whole map[string]any
	if err, ok := errors.AsType[*toml.DecodeError](toml.Unmarshal(src, &whole)); ok {
		line, col := err.Position()
		pos := fleet.Position{File: file, Line: line, Col: col}
		return nil, fault(pos, "toml-syntax", "", "%s", strings.TrimPrefix(err.Error(), "toml: "))
	}
	return r.root, nil
}

// unreadable is where the text ends to be text, or -1.
func unreadable(src []byte) int {
	if at := bytes.IndexByte(src, 0); at >= 0 {
		return at
	}
	for at := 0; at < len(src); {
		r, size := utf8.DecodeRune(src[at:])
		if r == utf8.RuneError && size <= 1 {
			return at
		}
		at += size
	}
	return -1
}

func (r *reader) position(offset int) fleet.Position {
	before := r.src[:min(offset, len(r.src))]
	line := bytes.LastIndexByte(before, '\n') + 1
	return fleet.Position{File: r.file, Line: bytes.Count(before, []byte("\n")) + 1, Col: utf8.RuneCount(before[line:]) + 1}
}

// part is one part of a key.
type part struct {
	name string
	pos  fleet.Position
}

func (r *reader) path(it unstable.Iterator) []part {
	var parts []part
	for it.Next() {
		n := it.Node()
		parts = append(parts, part{string(n.Data), r.position(int(n.Raw.Offset))})
	}
	return parts
}

func (r *reader) expression(n *unstable.Node) error {
	if n.Kind == unstable.KeyValue {
		return r.keyValue(r.current, n)
	}
	path := r.path(n.Key())
	parent, last := r.root, path[len(path)-1]
	for _, p := range path[:len(path)-1] {
		next := parent.table[p.name]
		if next == nil {
			next = newTable(p.pos, true)
			parent.put(p.name, next)
		}
		if next.kind == unstable.ArrayTable {
			next = next.list[len(next.list)-1]
		}
		if next.table == nil {
			return fault(p.pos, "table-conflict", "", "%q cannot hold tables: it is %s on line %d", p.name, next.words(), next.pos.Line)
		}
		parent = next
	}
	have := parent.table[last.name]
	if n.Kind == unstable.ArrayTable {
		if have == nil {
			have = &node{pos: last.pos, kind: unstable.ArrayTable}
			parent.put(last.name, have)
		}
		if have.kind != unstable.ArrayTable {
			return fault(last.pos, "table-conflict", "", "%q is a list of tables here, but %s on line %d", last.name, have.words(), have.pos.Line)
		}
		r.current = newTable(last.pos, false)
		have.list = append(have.list, r.current)
		return nil
	}
	switch {
	case have == nil:
		have = newTable(last.pos, false)
		parent.put(last.name, have)
	case !have.open:
		return fault(last.pos, "duplicate-key", "write all of its keys in one place",
			"%q is there twice, first on line %d", last.name, have.pos.Line)
	}
	have.open = false
	r.current = have
	return nil
}

func (r *reader) keyValue(t *node, n *unstable.Node) error {
	path := r.path(n.Key())
	for _, p := range path[:len(path)-1] {
		next := t.table[p.name]
		if next == nil {
			next = newTable(p.pos, false)
			t.put(p.name, next)
		}
		if next.table == nil {
			return fault(p.pos, "table-conflict", "", "%q cannot hold keys: it is %s on line %d", p.name, next.words(), next.pos.Line)
		}
		t = next
	}
	last := path[len(path)-1]
	if have := t.table[last.name]; have != nil {
		return fault(last.pos, "duplicate-key", "keep one of them", "%q is set twice, first on line %d", last.name, have.pos.Line)
	}
	value, err := r.value(n.Value(), last.pos)
	if err != nil {
		return err
	}
	t.put(last.name, value)
	return nil
}

func (r *reader) value(n *unstable.Node, pos fleet.Position) (*node, error) {
	out := &node{pos: pos, kind: n.Kind, text: string(n.Data)}
	switch n.Kind { //nolint:exhaustive // the others have no parts
	case unstable.Array:
		for it := n.Children(); it.Next(); {
			at := pos
			if raw := it.Node().Raw; raw.Length > 0 {
				at = r.position(int(raw.Offset))
			}
			item, err := r.value(it.Node(), at)
			if err != nil {
				return nil, err
			}
			out.list = append(out.list, item)
		}
	case unstable.InlineTable:
		out.table = map[string]*node{}
		for it := n.Children(); it.Next(); {
			if err := r.keyValue(out, it.Node()); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}
