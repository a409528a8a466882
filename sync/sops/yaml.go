package sops

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// yamlIndent is what SOPS writes.
	yamlIndent = 4
	// maxNodes and maxDepth bound what aliases and nesting can make of a small file.
	maxNodes = 50_000
	maxDepth = 64
	mergeKey = "<<"
)

// parseYAML reads documents as SOPS does: in order, with comments, aliases written out.
func parseYAML(data []byte) (*parsed, *fault) {
	p := &parsed{format: YAML}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	r := &yamlReader{}
	for {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			p.takeBlock()
			return p, nil
		}
		if err != nil {
			return nil, yamlFault(err)
		}
		b, bad := r.document(&doc)
		if bad != nil {
			return nil, bad
		}
		p.docs = append(p.docs, b)
	}
}

var yamlLine = regexp.MustCompile(`line (\d+)`)

// yamlFault keeps the line of a syntax error, and nothing that it may quote.
func yamlFault(err error) *fault {
	at := place{1, 1}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		at.line, _ = strconv.Atoi(m[1])
	}
	return badFormat(at, "the file is not valid YAML")
}

type yamlReader struct{ nodes, depth int }

func (r *yamlReader) document(doc *yaml.Node) (branch, *fault) {
	out := comments(nil, false, doc.HeadComment, doc.LineComment)
	for _, root := range doc.Content {
		if root.Kind == yaml.AliasNode {
			root = root.Alias
		}
		switch {
		case root.Kind == yaml.MappingNode:
		case root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null":
			out = comments(out, false, root.HeadComment, root.LineComment, root.FootComment)
			continue
		default:
			return nil, badFormat(at(root), "a YAML document that is not a mapping cannot be encrypted")
		}
		var bad *fault
		if out, bad = r.mapping(out, root, false); bad != nil {
			return nil, bad
		}
	}
	return comments(out, false, doc.FootComment), nil
}

func at(n *yaml.Node) place { return place{n.Line, n.Column} }

// comments appends the lines of comments as items.
func comments(out branch, inline bool, texts ...string) branch {
	for _, text := range texts {
		for line := range strings.SplitSeq(text, "\n") {
			if line != "" {
				out = append(out, item{key: comment{line[1:], inline}})
			}
		}
	}
	return out
}

// listComments is the same for lists.
func listComments(out list, inline bool, texts ...string) list {
	for _, it := range comments(nil, inline, texts...) {
		out = append(out, element{value: it.key})
	}
	return out
}

func (r *yamlReader) enter(n *yaml.Node) *fault {
	r.nodes++
	r.depth++
	switch {
	case r.nodes > maxNodes:
		return &fault{rule: ruleTooLarge, message: "the file holds too many values", at: at(n)}
	case r.depth > maxDepth:
		return &fault{rule: ruleTooLarge, message: "the file nests too deep", at: at(n)}
	}
	return nil
}

// mapping appends the entries of a mapping. told says that the node's own comments are
// taken care of.
func (r *yamlReader) mapping(out branch, n *yaml.Node, told bool) (branch, *fault) {
	if bad := r.enter(n); bad != nil {
		return nil, bad
	}
	defer func() { r.depth-- }()
	if out == nil {
		out = branch{}
	}
	if !told {
		out = comments(out, false, n.HeadComment, n.LineComment)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if seen[key.Value] {
			return nil, badFormat(at(key), "key %q is there twice", shown(key.Value))
		}
		seen[key.Value] = true
		out = comments(out, false, key.HeadComment, key.LineComment)
		simple := value.Kind == yaml.ScalarNode || value.Kind == yaml.AliasNode
		if simple {
			out = comments(out, false, value.HeadComment)
			out = comments(out, true, value.LineComment)
		}
		var name any
		if key.Decode(&name) != nil {
			return nil, badFormat(at(key), "a key cannot be read")
		}
		got, bad := r.value(value, simple)
		if bad != nil {
			return nil, bad
		}
		out = append(out, item{name, got, at(key)})
		if simple {
			out = comments(out, false, value.FootComment)
		}
		out = comments(out, false, key.FootComment)
	}
	if !told {
		out = comments(out, false, n.FootComment)
	}
	return out, nil
}

func (r *yamlReader) value(n *yaml.Node, told bool) (any, *fault) {
	switch n.Kind {
	case yaml.MappingNode:
		return wrap(r.mapping(nil, n, told))
	case yaml.SequenceNode:
		return wrap(r.sequence(n, told))
	case yaml.AliasNode:
		return r.value(n.Alias, false)
	case yaml.ScalarNode, yaml.DocumentNode:
	}
	r.nodes++
	if r.nodes > maxNodes {
		return nil, &fault{rule: ruleTooLarge, message: "the file holds too many values", at: at(n)}
	}
	var out any
	if n.Decode(&out) != nil {
		return nil, badFormat(at(n), "a value cannot be read")
	}
	return out, nil
}

// wrap makes an interface of a typed result without making a fault of none.
func wrap[T any](value T, bad *fault) (any, *fault) {
	if bad != nil {
		return nil, bad
	}
	return value, nil
}

func (r *yamlReader) sequence(n *yaml.Node, told bool) (list, *fault) {
	if bad := r.enter(n); bad != nil {
		return nil, bad
	}
	defer func() { r.depth-- }()
	var out list
	if !told {
		out = listComments(out, false, n.HeadComment, n.LineComment)
	}
	for _, child := range n.Content {
		out = listComments(out, false, child.HeadComment)
		out = listComments(out, true, child.LineComment)
		value, bad := r.value(child, true)
		if bad != nil {
			return nil, bad
		}
		out = append(out, element{value, at(child)})
		out = listComments(out, false, child.FootComment)
	}
	if !told {
		out = listComments(out, false, n.FootComment)
	}
	return out, nil
}

func emitYAML(docs []branch) ([]byte, error) {
	var buf bytes.Buffer
	encoder := yaml.NewEncoder(&buf)
	encoder.SetIndent(yamlIndent)
	for _, doc := range docs {
		root, err := yamlMapping(doc)
		if err != nil {
			return nil, err
		}
		if err := encoder.Encode(&yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{root}}); err != nil {
			return nil, errors.New("the file cannot be written as YAML") // the error may quote a value
		}
	}
	if err := encoder.Close(); err != nil {
		return nil, errors.New("the file cannot be written as YAML")
	}
	return buf.Bytes(), nil
}

// pending are comments that wait for the node they belong to.
type pending struct{ above, beside []string }

func (p *pending) add(c comment) {
	if c.inline {
		p.beside = append(p.beside, c.text)
		return
	}
	p.above = append(p.above, c.text)
}

// commentText is comments as yaml.v3 keeps them: one text with its marks.
func commentText(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	return "#" + strings.Join(texts, "\n#")
}

// head puts the waiting comments above a node.
func (p *pending) head(n *yaml.Node) {
	n.HeadComment = joined(commentText(p.above), n.HeadComment)
	p.above = nil
}

func (p *pending) line(n *yaml.Node) {
	n.LineComment = joined(n.LineComment, commentText(p.beside))
	p.beside = nil
}

// rest puts what nothing followed below the last node, or above an empty container.
func (p *pending) rest(container, last *yaml.Node) {
	texts := append(p.above, p.beside...) //nolint:gocritic // p is done with
	if last == nil {
		container.HeadComment = joined(commentText(texts), container.HeadComment)
		return
	}
	last.FootComment = joined(last.FootComment, commentText(texts))
}

func joined(first, second string) string {
	if first == "" || second == "" {
		return first + second
	}
	return first + "\n" + second
}

func yamlMapping(b branch) (*yaml.Node, error) {
	out := &yaml.Node{Kind: yaml.MappingNode}
	var wait pending
	var last *yaml.Node
	for _, it := range b {
		if c, ok := it.key.(comment); ok {
			wait.add(c)
			continue
		}
		if last == nil {
			wait.head(out)
		}
		key := &yaml.Node{}
		if it.name() == mergeKey {
			// What it merged was an alias and is written out; it still is to be merged.
			*key = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!merge", Value: mergeKey, Style: yaml.TaggedStyle}
		} else if key.Encode(it.key) != nil {
			return nil, errors.New("a key cannot be written as YAML")
		}
		wait.head(key)
		value, err := yamlValue(it.value)
		if err != nil {
			return nil, err
		}
		wait.line(value)
		out.Content = append(out.Content, key, value)
		last = key
	}
	wait.rest(out, last)
	return out, nil
}

func yamlSequence(l list) (*yaml.Node, error) {
	out := &yaml.Node{Kind: yaml.SequenceNode}
	var wait pending
	var last *yaml.Node
	for _, e := range l {
		if c, ok := e.value.(comment); ok {
			wait.add(c)
			continue
		}
		if last == nil {
			wait.head(out)
		}
		value, err := yamlValue(e.value)
		if err != nil {
			return nil, err
		}
		wait.head(value)
		wait.line(value)
		out.Content = append(out.Content, value)
		last = value
	}
	wait.rest(out, last)
	return out, nil
}

func yamlValue(value any) (*yaml.Node, error) {
	switch v := value.(type) {
	case branch:
		return yamlMapping(v)
	case list:
		return yamlSequence(v)
	}
	out := &yaml.Node{}
	if out.Encode(value) != nil {
		return nil, errors.New("a value cannot be written as YAML")
	}
	return out, nil
}
