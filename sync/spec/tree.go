package spec

import (
	"errors"
	"sort"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// kind is what a TOML value is, in words a user knows.
type kind = string

const (
	kindString   kind = "a string"
	kindBool     kind = "a boolean"
	kindInteger  kind = "an integer"
	kindFloat    kind = "a number with a fraction"
	kindDateTime kind = "a date or time"
	kindArray    kind = "a list"
	kindTable    kind = "a table"
)

// value is a TOML value with its place in the source.
type value struct {
	kind kind
	// at is the offset of the value in the source.
	at int
	// text is a string decoded, or a scalar as written.
	text string
	// body is the offset of text's first byte, or -1 when escapes make the two differ.
	body int
	// list are the values of an array, the tables of an array of tables included.
	list []value
	// extendable arrays grow by [[header]]; others are complete where they are written.
	extendable bool
	table      *table
}

// definition says how a table came to be, and so how it may still grow.
type definition uint8

const (
	definedByPath   definition = iota + 1 // only a part of a longer header
	definedByHeader                       // [header] or [[header]]
	definedByKey                          // a.b = value
	definedInline                         // { ... }: complete
)

// table holds keys in the order they were written.
type table struct {
	at      int
	defined definition
	entries []entry
	// index finds entries by key once there are many; nil before.
	index map[string]int
}

type entry struct {
	key   string
	at    int
	value value
}

// manyEntries is where a map becomes faster than looking.
const manyEntries = 16

func (t *table) find(key string) *entry {
	if t.index != nil {
		if i, ok := t.index[key]; ok {
			return &t.entries[i]
		}
		return nil
	}
	for i := range t.entries {
		if t.entries[i].key == key {
			return &t.entries[i]
		}
	}
	return nil
}

func (t *table) insert(e entry) {
	t.entries = append(t.entries, e)
	last := len(t.entries) - 1
	switch {
	case t.index != nil:
		t.index[e.key] = last
	case len(t.entries) > manyEntries:
		t.index = make(map[string]int, 2*len(t.entries))
		for i := range t.entries {
			t.index[t.entries[i].key] = i
		}
	}
}

// treeBuilder makes one tree of tables out of go-toml's expressions. It checks the
// rules about what may be defined twice, which the expressions alone do not know.
type treeBuilder struct {
	rep     *report
	parser  unstable.Parser
	src     string
	escapes []int
	root    *table
	current *table
}

// buildTree parses src. With a syntax error the tree is incomplete.
func buildTree(rep *report, src []byte, escapes []int) (root *table, failure *fault) {
	b := &treeBuilder{rep: rep, src: string(src), escapes: escapes, root: &table{defined: definedByHeader}}
	b.current = b.root
	b.parser.Reset(doubled(src, escapes))
	for b.parser.NextExpression() {
		if rep.full() {
			return b.root, nil
		}
		node := b.parser.Expression()
		if node.Kind == unstable.KeyValue {
			b.keyValue(b.current, node)
		} else {
			b.current = b.header(node)
		}
	}
	return b.root, b.syntaxFault(b.parser.Error())
}

func (b *treeBuilder) syntaxFault(err error) *fault {
	perr, ok := errors.AsType[*unstable.ParserError](err)
	if !ok {
		return nil
	}
	at := b.source(int(b.parser.Range(perr.Highlight).Offset))
	return &fault{offset: min(at, max(0, len(b.src)-1)), rule: "toml-syntax", message: perr.Message}
}

// source maps an offset in what go-toml saw to one in the file.
func (b *treeBuilder) source(offset int) int {
	return offset - sort.Search(len(b.escapes), func(i int) bool { return b.escapes[i]+i >= offset })
}

// header returns the table that the keys after a [header] or [[header]] belong to.
// After a faulty header that is a table nobody looks at.
func (b *treeBuilder) header(node *unstable.Node) *table {
	keys, ok := b.keyPath(node.Key())
	if !ok {
		return &table{}
	}
	last := keys[len(keys)-1]
	at := b.headerStart(keys[0].at)
	parent := b.descend(b.root, keys[:len(keys)-1], at)
	if parent == nil {
		return &table{}
	}
	if node.Kind == unstable.ArrayTable {
		return b.appendTable(parent, last, at)
	}
	found := parent.find(last.key)
	if found == nil {
		t := &table{at: at, defined: definedByHeader}
		parent.insert(entry{key: last.key, at: last.at, value: value{kind: kindTable, at: at, table: t}})
		return t
	}
	switch {
	case found.value.table != nil && found.value.table.defined == definedByPath:
		found.value.table.defined = definedByHeader
		found.value.table.at = at
		return found.value.table
	case found.value.extendable:
		b.rep.fail(at, "table-conflict", "write [["+last.key+"]] here too",
			"%s is a table here, but a list of tables on line %d", quoted(last.key), b.line(found.at))
	default:
		b.rep.fail(at, "duplicate-key", "write all of its keys in one place",
			"table %s is defined twice, first on line %d", quoted(last.key), b.line(found.at))
	}
	return &table{}
}

func (b *treeBuilder) appendTable(parent *table, last entry, at int) *table {
	t := &table{at: at, defined: definedByHeader}
	item := value{kind: kindTable, at: at, table: t}
	found := parent.find(last.key)
	switch {
	case found == nil:
		parent.insert(entry{key: last.key, at: last.at, value: value{
			kind: kindArray, at: at, list: []value{item}, extendable: true,
		}})
	case found.value.extendable:
		found.value.list = append(found.value.list, item)
	default:
		b.rep.fail(at, "table-conflict", "use the same form in both places",
			"%s is a list of tables here, but %s on line %d", quoted(last.key), found.value.kind, b.line(found.at))
	}
	return t
}

// descend walks down the leading keys of a header and makes the tables that are
// missing. It returns nil after it has reported why it cannot.
func (b *treeBuilder) descend(t *table, keys []entry, at int) *table {
	for _, k := range keys {
		found := t.find(k.key)
		switch {
		case found == nil:
			next := &table{at: at, defined: definedByPath}
			t.insert(entry{key: k.key, at: k.at, value: value{kind: kindTable, at: at, table: next}})
			t = next
		case found.value.extendable:
			t = found.value.list[len(found.value.list)-1].table
		case found.value.table != nil && found.value.table.defined != definedInline:
			t = found.value.table
		default:
			b.rep.fail(k.at, "table-conflict", "", "%s cannot hold tables: it is %s on line %d",
				quoted(k.key), found.value.kind, b.line(found.at))
			return nil
		}
	}
	return t
}

func (b *treeBuilder) keyValue(t *table, node *unstable.Node) {
	keys, ok := b.keyPath(node.Key())
	if !ok {
		return
	}
	last := keys[len(keys)-1]
	for _, k := range keys[:len(keys)-1] {
		found := t.find(k.key)
		if found == nil {
			next := &table{at: k.at, defined: definedByKey}
			t.insert(entry{key: k.key, at: k.at, value: value{kind: kindTable, at: k.at, table: next}})
			t = next
			continue
		}
		if found.value.table == nil || found.value.table.defined != definedByKey {
			b.rep.fail(k.at, "table-conflict", "write the keys of one table in one place",
				"%s is %s already, from line %d", quoted(k.key), found.value.kind, b.line(found.at))
			return
		}
		t = found.value.table
	}
	if found := t.find(last.key); found != nil {
		b.rep.fail(last.at, "duplicate-key", "keep one of them",
			"key %s is set twice, first on line %d", quoted(last.key), b.line(found.at))
		return
	}
	last.value = b.value(node.Value(), b.valueStart(node))
	t.insert(last)
}

// value converts a value. Arrays and inline tables have no range of their own, so
// their place is handed down.
func (b *treeBuilder) value(node *unstable.Node, at int) value {
	if node.Raw.Length > 0 {
		at = b.source(int(node.Raw.Offset))
	}
	switch node.Kind { //nolint:exhaustive // the rest are dates and times
	case unstable.String:
		text, body := b.text(node)
		return value{kind: kindString, at: at, text: text, body: body}
	case unstable.Bool:
		return value{kind: kindBool, at: at, text: string(node.Data)}
	case unstable.Integer:
		return value{kind: kindInteger, at: at, text: string(node.Data)}
	case unstable.Float:
		return value{kind: kindFloat, at: at, text: string(node.Data)}
	case unstable.Array:
		v := value{kind: kindArray, at: at, list: make([]value, 0, count(node.Children()))}
		for it := node.Children(); it.Next(); {
			v.list = append(v.list, b.value(it.Node(), at))
		}
		return v
	case unstable.InlineTable:
		return value{kind: kindTable, at: at, table: b.inlineTable(node, at)}
	}
	return value{kind: kindDateTime, at: at}
}

// count is how many nodes an iterator has left. Lists are made in their size, because one
// that grows costs several times as much, and a file may hold little else.
func count(it unstable.Iterator) (n int) {
	for it.Next() {
		n++
	}
	return n
}

func (b *treeBuilder) inlineTable(node *unstable.Node, at int) *table {
	t := &table{at: at, defined: definedByKey}
	for it := node.Children(); it.Next(); {
		b.keyValue(t, it.Node())
	}
	t.defined = definedInline
	if len(t.entries) > 0 {
		t.at = t.entries[0].at
	}
	return t
}

// text is the content of a string. Strings without escapes are cut from the source,
// so that the place of every byte in them is known.
func (b *treeBuilder) text(node *unstable.Node) (text string, body int) {
	start := b.source(int(node.Raw.Offset))
	end := b.source(int(node.Raw.Offset + node.Raw.Length))
	raw := b.src[start:end]
	switch {
	case len(raw) >= 6 && (strings.HasPrefix(raw, `"""`) || strings.HasPrefix(raw, "'''")):
		text, body = raw[3:len(raw)-3], start+3
		for _, newline := range []string{"\n", "\r\n"} {
			if rest, ok := strings.CutPrefix(text, newline); ok {
				return rest, body + len(newline)
			}
		}
		return text, body
	case raw[0] == '"' && strings.Contains(raw, `\`):
		return string(node.Data), -1
	default:
		return raw[1 : len(raw)-1], start + 1
	}
}

func (b *treeBuilder) keyPath(it unstable.Iterator) (keys []entry, ok bool) {
	for it.Next() {
		node := it.Node()
		at := b.source(int(node.Raw.Offset))
		if len(keys) == maxDepth {
			b.rep.fail(at, "too-deep", "flatten the file", "a key has more than %d parts", maxDepth)
			return nil, false
		}
		keys = append(keys, entry{key: string(node.Data), at: at})
	}
	return keys, true
}

// valueStart finds where the value after the key starts.
func (b *treeBuilder) valueStart(node *unstable.Node) int {
	end := 0
	for it := node.Key(); it.Next(); {
		end = b.source(int(it.Node().Raw.Offset + it.Node().Raw.Length))
	}
	rest := strings.TrimLeft(b.src[end:], " \t")
	rest = strings.TrimLeft(strings.TrimPrefix(rest, "="), " \t")
	return len(b.src) - len(rest)
}

// headerStart finds the bracket in front of a header's first key.
func (b *treeBuilder) headerStart(key int) int {
	before := strings.TrimRight(b.src[:key], " \t")
	return len(strings.TrimRight(before, "["))
}

func (b *treeBuilder) line(offset int) int { return b.rep.position(offset).Line }
