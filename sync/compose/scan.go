package compose

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/varanhq/varan/fleet"
)

// document is one YAML document of a Compose file that passed the pre-scan.
type document struct {
	// file is the path people know; shift moves its lines, for inline content.
	file  string
	shift int
	lines []string
	root  *yaml.Node
}

// position of a node.
func (d *document) position(n *yaml.Node) fleet.Position {
	return fleet.Position{File: d.file, Line: n.Line + d.shift, Col: n.Column}
}

// positionOf finds text in the source from node n on: for a place inside a scalar.
func (d *document) positionOf(n *yaml.Node, text string) fleet.Position {
	for i := n.Line - 1; i >= 0 && i < len(d.lines); i++ {
		line, skipped := d.lines[i], 0
		if i == n.Line-1 && n.Column-1 <= len(line) {
			skipped = max(n.Column-1, 0)
			line = line[skipped:]
		}
		if at := strings.Index(line, text); at >= 0 {
			return fleet.Position{File: d.file, Line: i + 1 + d.shift, Col: skipped + at + 1}
		}
	}
	return d.position(n)
}

// origin says how positions in a file are to be shown.
type origin struct {
	file  string
	shift int
}

// prescan parses a Compose file with the parser compose-go uses and refuses what would
// cost too much, or would be read by different readers in different ways.
func prescan(src []byte, from origin) ([]*document, fleet.Diagnostics) {
	s := &scanner{from: from}
	if !s.checkText(src) {
		return nil, s.findings
	}
	guard := &depthGuard{}
	parser, err := yaml.NewLoader(bytes.NewReader(src), yaml.WithV3Defaults(), yaml.WithPlugin(guard))
	if err != nil {
		s.fail("yaml-syntax", 1, 1, err.Error(), "")
		return nil, s.findings
	}
	lines := strings.Split(string(src), "\n")
	var docs []*document
	for {
		var node yaml.Node
		err := parser.Load(&node)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			s.syntax(err, guard)
			return nil, s.findings
		}
		if root := s.document(&node); root != nil {
			docs = append(docs, &document{file: from.file, shift: from.shift, lines: lines, root: root})
		}
	}
	if len(docs) == 0 && !s.findings.HasErrors() {
		s.fail("empty-file", 1, 1, "the Compose file is empty", "declare at least one service")
	}
	if s.findings.HasErrors() {
		return nil, s.findings
	}
	return docs, s.findings
}

// depthGuard stops the parser before it recurses too deep.
type depthGuard struct{ exceeded bool }

// CheckDepth implements yaml.LimitPlugin.
func (g *depthGuard) CheckDepth(depth int, _ *yaml.DepthContext) error {
	if depth > maxDepth {
		g.exceeded = true
		return errTooDeep
	}
	return nil
}

// CheckAlias implements yaml.LimitPlugin. Nodes are read with their aliases
// unexpanded; scanner.weigh counts them.
func (*depthGuard) CheckAlias(_, _ int) error { return nil }

var errTooDeep = fmt.Errorf("nested deeper than %d levels", maxDepth)

// scanner collects what is wrong with one file.
type scanner struct {
	from     origin
	findings fleet.Diagnostics
	nodes    int
	aliases  int
	// weight is the expanded size of a node once known; -1 while it is being weighed.
	weight map[*yaml.Node]int
}

func (s *scanner) fail(rule string, line, col int, message, hint string) {
	if len(s.findings) >= maxFindings {
		return
	}
	s.findings = append(s.findings, fleet.Diagnostic{
		Rule: rule, Severity: fleet.SeverityError, Message: message, Hint: hint,
		Position: fleet.Position{File: s.from.file, Line: line + s.from.shift, Col: col},
	})
}

func (s *scanner) failAt(rule string, n *yaml.Node, message, hint string) {
	s.fail(rule, n.Line, n.Column, message, hint)
}

// checkText refuses what is not text, and what is too much of it.
func (s *scanner) checkText(src []byte) bool {
	if len(src) > maxFileSize {
		s.fail("too-large", 1, 1, fmt.Sprintf("the file has %d bytes; at most %d are read", len(src), maxFileSize), "")
		return false
	}
	bad := bytes.IndexByte(src, 0)
	if bad < 0 && !utf8.Valid(src) {
		for bad = 0; bad < len(src); {
			r, size := utf8.DecodeRune(src[bad:])
			if r == utf8.RuneError && size == 1 {
				break
			}
			bad += size
		}
	}
	if bad < 0 {
		return true
	}
	line := bytes.Count(src[:bad], []byte("\n")) + 1
	col := bad - bytes.LastIndexByte(src[:bad], '\n')
	s.fail("invalid-encoding", line, col, "the file is not UTF-8 text", "")
	return false
}

// syntax reports a parser error at the place the parser names.
func (s *scanner) syntax(err error, guard *depthGuard) {
	line, col, message := 1, 1, strings.TrimPrefix(err.Error(), "yaml: ")
	if loadErr, ok := errors.AsType[*yaml.LoadError](err); ok {
		message = loadErr.Message
		if loadErr.Mark.Line > 0 {
			line, col = loadErr.Mark.Line, max(loadErr.Mark.Column, 1)
		}
	}
	if guard.exceeded {
		s.fail("too-deep", line, col, errTooDeep.Error(), "")
		return
	}
	s.fail("yaml-syntax", line, col, message, "")
}

// document checks one document and returns its mapping; nil when it is empty or bad.
func (s *scanner) document(node *yaml.Node) *yaml.Node {
	root := node
	if root.Kind == yaml.DocumentNode {
		if len(root.Content) == 0 {
			return nil
		}
		root = root.Content[0]
	}
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil
	}
	if root.Kind != yaml.MappingNode {
		s.failAt("not-a-mapping", root, "a Compose file is a mapping with keys such as services", "")
		return nil
	}
	s.walk(root, 1)
	if s.findings.HasErrors() {
		return nil
	}
	s.weight = map[*yaml.Node]int{}
	if s.weigh(root) > maxExpanded {
		s.failAt("alias-expansion", root,
			fmt.Sprintf("aliases expand to more than %d nodes", maxExpanded), "write the values out, or share less")
	}
	if s.findings.HasErrors() {
		return nil
	}
	if services := field(root, "services"); services != nil {
		if count := len(entries(services)); count > maxServices {
			s.failAt("too-many-services", services,
				fmt.Sprintf("%d services; at most %d are allowed in a stack", count, maxServices), "")
		}
	}
	return root
}

// walk counts nodes and checks each; aliases are not followed.
func (s *scanner) walk(n *yaml.Node, depth int) {
	s.nodes++
	switch {
	case s.nodes == maxNodes+1:
		s.failAt("too-many-nodes", n, fmt.Sprintf("more than %d values in one file", maxNodes), "")
		return
	case s.nodes > maxNodes:
		return
	case depth > maxDepth:
		s.failAt("too-deep", n, errTooDeep.Error(), "")
		return
	}
	if n.Kind == yaml.AliasNode {
		s.aliases++
		if s.aliases == maxAliases+1 {
			s.failAt("alias-expansion", n, fmt.Sprintf("more than %d aliases in one file", maxAliases), "")
		}
		return
	}
	s.checkTag(n)
	if n.Kind == yaml.MappingNode {
		s.checkKeys(n)
	}
	for _, child := range n.Content {
		s.walk(child, depth+1)
	}
}

// checkTag refuses tags: compose-go ignores those it does not know, and a reader of
// the file would not.
func (s *scanner) checkTag(n *yaml.Node) {
	if n.Style&yaml.TaggedStyle == 0 {
		return
	}
	switch n.ShortTag() {
	case "!reset", "!override", "!!str", "!!int", "!!bool", "!!float", "!!null", "!!map", "!!seq", "!!merge":
	default:
		s.failAt("unknown-tag", n, fmt.Sprintf("tag %s is not known", n.Tag), "Compose knows !reset and !override")
	}
}

// checkKeys refuses duplicate keys and keys that are not plain text.
func (s *scanner) checkKeys(n *yaml.Node) {
	seen := make(map[string]*yaml.Node, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode {
			s.failAt("invalid-key", key, "a key must be plain text", "")
			continue
		}
		if first, ok := seen[key.Value]; ok {
			s.failAt("duplicate-key", key,
				fmt.Sprintf("key %q is already set on line %d", key.Value, first.Line+s.from.shift), "keep one of the two")
			continue
		}
		seen[key.Value] = key
	}
}

// weigh is how many nodes n has once its aliases are expanded, up to just over
// maxExpanded. It finds aliases that contain themselves.
func (s *scanner) weigh(n *yaml.Node) int {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode {
		return 1
	}
	if known, ok := s.weight[n]; ok {
		if known < 0 {
			s.failAt("alias-cycle", n, "this value contains itself through an alias", "")
			return 1
		}
		return known
	}
	s.weight[n] = -1
	sum := 1
	for _, child := range n.Content {
		sum = min(sum+s.weigh(child), maxExpanded+1)
	}
	s.weight[n] = sum
	return sum
}
