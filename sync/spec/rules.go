package spec

import (
	"bytes"
	"reflect"

	"github.com/varanhq/varan/fleet"
)

// RulesFile is the file at the root of a tree that says how severe rules are.
const RulesFile = ".varan.toml"

// RuleSettings are what RulesFile says. Names of rules and levels are as written: what
// they can be is for the reader to check.
type RuleSettings struct {
	Levels     []RuleLevel
	Exceptions []RuleException
}

// RuleLevel is one line of [rules], [rules.trusted] or [rules.untrusted].
type RuleLevel struct {
	// Tier is empty for [rules], which is for all servers.
	Tier fleet.Tier
	// Rule is the key: a rule, or "preset".
	Rule, Level string
	// Pos is where the key is, ValuePos where the level.
	Pos, ValuePos fleet.Position
}

// RuleException is an [[exception]] table.
type RuleException struct {
	Rule    string `key:"rule" doc:"Rule that is not to be reported."`
	Stack   string `key:"stack" doc:"Stack in which; empty means all."`
	Service string `key:"service" doc:"Service in which; empty means all of the stack."`
	Reason  string `key:"reason" doc:"Why; it is required and shown."`
	// Pos is the table, RulePos and ReasonPos the two keys.
	Pos, RulePos, ReasonPos fleet.Position
}

// The top-level keys of RulesFile.
const (
	rulesKey     = "rules"
	exceptionKey = "exception"
)

var exceptionFields = fieldsOf[RuleException]()

// ParseRules reads RulesFile. It is pure.
func ParseRules(path string, content []byte) (RuleSettings, fleet.Diagnostics) {
	p := parser{decoder: decoder{&report{file: path}}}
	var out RuleSettings
	if root := p.readTable(content); root != nil {
		for _, e := range root.entries {
			p.ruleSection(&out, e)
		}
	}
	return out, p.diags.Sort()
}

// readTable parses a small TOML file of ours. It returns nil after a syntax error.
func (p *parser) readTable(content []byte) *table {
	if len(content) > maxFileSize {
		p.fail(0, "file-too-large", "", "the file has %d bytes; the most is %d", len(content), maxFileSize)
		return nil
	}
	src, _ := bytes.CutPrefix(content, []byte("\xEF\xBB\xBF"))
	p.lines = newlines(src)
	for _, f := range []*fault{checkEncoding(content), checkLines(src)} {
		if f != nil {
			p.fault(f)
			return nil
		}
	}
	s := scanner{src: src}
	unbalanced := s.scan()
	if unbalanced != nil && unbalanced.rule == "too-deep" {
		p.fault(unbalanced)
		return nil
	}
	root, failure := buildTree(p.report, src, s.escapes)
	if failure != nil && unbalanced != nil && unbalanced.offset <= failure.offset {
		failure = unbalanced
	}
	p.fault(failure)
	if failure != nil || p.errors > 0 {
		return nil
	}
	return root
}

func (p *parser) ruleSection(out *RuleSettings, e entry) {
	switch {
	case e.key == rulesKey && e.value.table != nil:
		p.ruleLevels(out, e.value.table, "")
	case e.key == rulesKey:
		p.wrongType(e.value, rulesKey, "a table", "write [rules]")
	case e.key == exceptionKey && e.value.tables():
		for _, v := range e.value.list {
			p.exception(out, v.table)
		}
	case e.key == exceptionKey:
		p.wrongType(e.value, exceptionKey, "a list of tables", "write [[exception]]")
	default:
		p.unknownKey(e, RulesFile, []string{rulesKey, exceptionKey})
	}
}

func (p *parser) ruleLevels(out *RuleSettings, t *table, tier fleet.Tier) {
	for _, e := range t.entries {
		if e.value.table != nil {
			inner := fleet.Tier(e.key)
			if tier != "" || inner != fleet.TierTrusted && inner != fleet.TierUntrusted {
				p.unknownKey(e, "[rules]", []string{string(fleet.TierTrusted), string(fleet.TierUntrusted)})
				continue
			}
			p.ruleLevels(out, e.value.table, inner)
			continue
		}
		if level, ok := p.text(e.value, rulesKey+"."+e.key); ok {
			out.Levels = append(out.Levels, RuleLevel{
				Tier: tier, Rule: e.key, Level: level, Pos: p.position(e.at), ValuePos: p.position(e.value.at),
			})
		}
	}
}

func (p *parser) exception(out *RuleSettings, t *table) {
	x := RuleException{Pos: p.position(t.at)}
	x.RulePos, x.ReasonPos = x.Pos, x.Pos
	p.table(reflect.ValueOf(&x).Elem(), t, "[[exception]]", exceptionFields)
	if e := t.find("rule"); e != nil {
		x.RulePos = p.position(e.value.at)
	}
	if e := t.find("reason"); e != nil {
		x.ReasonPos = p.position(e.value.at)
	}
	out.Exceptions = append(out.Exceptions, x)
}
