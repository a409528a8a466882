package rules

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/didyoumean"
	"github.com/varanhq/varan/sync/spec"
)

// Preset is a set of levels to begin with.
type Preset string

// The presets.
const (
	// PresetNone leaves out hardening and portability.
	PresetNone Preset = "none"
	// PresetRecommended has the severities of the registry. It is the default.
	PresetRecommended Preset = "recommended"
	// PresetStrict makes errors of what hardening, portability, secrets and fleet rules warn about.
	PresetStrict Preset = "strict"
)

// presetKey is the key of a preset among the rules.
const presetKey = "preset"

// off is the level at which a rule is not reported.
const off fleet.Severity = 0

// levelWords are the levels as they are written.
var levelWords = []string{"off", "note", "warn", "error"}

func levelOf(word string) (fleet.Severity, bool) {
	switch word {
	case "off":
		return off, true
	case "note":
		return note, true
	case "warn":
		return warning, true
	case "error":
		return fault, true
	}
	return 0, false
}

// Settings are the severities that a tree asks for. The zero value is the default.
type Settings struct {
	presets map[fleet.Tier]Preset
	levels  map[fleet.Tier]map[string]fleet.Severity
	// exceptions are in the order of the file.
	exceptions []spec.RuleException
}

// Read reads the rules file of a tree. A tree without one has the default settings.
func Read(tree fs.ReadFileFS) (Settings, fleet.Diagnostics) {
	content, err := tree.ReadFile(spec.RulesFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Settings{}, nil
	case err != nil:
		return Settings{}, fleet.Diagnostics{{
			Rule: "unreadable", Severity: fault, Position: fleet.Position{File: spec.RulesFile}, Message: "the rules file cannot be read",
		}}
	}
	return Parse(spec.RulesFile, content)
}

// Parse reads the content of a rules file. After an error the settings are the default.
func Parse(file string, content []byte) (Settings, fleet.Diagnostics) {
	written, findings := spec.ParseRules(file, content)
	p := parsing{findings: findings}
	for _, l := range written.Levels {
		p.level(l)
	}
	for _, x := range written.Exceptions {
		p.exception(x)
	}
	if p.findings.HasErrors() {
		return Settings{}, p.findings.Sort()
	}
	return p.out, p.findings.Sort()
}

type parsing struct {
	out      Settings
	findings fleet.Diagnostics
}

func (p *parsing) fail(rule string, at fleet.Position, message, hint string) {
	p.findings = append(p.findings, fleet.Diagnostic{Rule: rule, Severity: fault, Position: at, Message: message, Hint: hint})
}

func (p *parsing) level(l spec.RuleLevel) {
	if l.Rule == presetKey {
		p.preset(l)
		return
	}
	entry, ok := p.known(l.Rule, l.Pos)
	if !ok {
		return
	}
	severity, ok := levelOf(l.Level)
	switch {
	case !ok:
		p.fail("rule-level", l.ValuePos, fmt.Sprintf("%q is not a level", l.Level),
			suggest(l.Level, append([]string{"warning"}, levelWords...), "use "+strings.Join(levelWords, ", ")))
		return
	case !entry.Configurable() && severity != fault:
		p.fail("rule-level", l.ValuePos, fmt.Sprintf("the rule %s is always an error", l.Rule), "remove the line")
		return
	case entry.Group == GroupHost && l.Tier == fleet.TierUntrusted && severity != fault:
		p.fail("rule-level", l.ValuePos, fmt.Sprintf("the rule %s is always an error on untrusted servers", l.Rule),
			"remove the line, or move the stack to a trusted server")
		return
	}
	if p.out.levels == nil {
		p.out.levels = map[fleet.Tier]map[string]fleet.Severity{}
	}
	if p.out.levels[l.Tier] == nil {
		p.out.levels[l.Tier] = map[string]fleet.Severity{}
	}
	p.out.levels[l.Tier][l.Rule] = severity
}

func (p *parsing) preset(l spec.RuleLevel) {
	presets := []string{string(PresetNone), string(PresetRecommended), string(PresetStrict)}
	switch preset := Preset(l.Level); preset {
	case PresetNone, PresetRecommended, PresetStrict:
		if p.out.presets == nil {
			p.out.presets = map[fleet.Tier]Preset{}
		}
		p.out.presets[l.Tier] = preset
	default:
		p.fail("rule-level", l.ValuePos, fmt.Sprintf("there is no preset %q", l.Level),
			suggest(l.Level, presets, "use "+strings.Join(presets, ", ")))
	}
}

func (p *parsing) known(rule string, at fleet.Position) (Entry, bool) {
	entry, ok := Lookup(rule)
	if !ok {
		hint := "varan explain lists all rules"
		if near := Closest(rule); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
		}
		p.fail("unknown-rule", at, fmt.Sprintf("there is no rule %q", rule), hint)
	}
	return entry, ok
}

func suggest(word string, known []string, otherwise string) string {
	if near := didyoumean.Word(word, known); near != "" && near != "warning" {
		return fmt.Sprintf("did you mean %s?", near)
	}
	return otherwise
}

func (p *parsing) exception(x spec.RuleException) {
	if strings.TrimSpace(x.Reason) == "" {
		p.fail("exception-reason", x.ReasonPos, "the exception has no reason", `write reason = "..."; it is shown with the finding`)
	}
	if x.Rule == "" {
		p.fail("unknown-rule", x.RulePos, "the exception names no rule", `write rule = "..."`)
		return
	}
	entry, ok := p.known(x.Rule, x.RulePos)
	switch {
	case !ok:
	case !entry.Configurable():
		p.fail("rule-level", x.RulePos, fmt.Sprintf("the rule %s is always an error", x.Rule), "an exception cannot make it work")
	default:
		p.out.exceptions = append(p.out.exceptions, x)
	}
}

// level is what the settings make of a finding that was reported with a severity.
func (s Settings) level(entry Entry, tier fleet.Tier, reported fleet.Severity) fleet.Severity {
	if tier == "" {
		tier = fleet.TierTrusted
	}
	for _, t := range []fleet.Tier{tier, ""} {
		if severity, ok := s.levels[t][entry.ID]; ok {
			return severity
		}
		if preset, ok := s.presets[t]; ok {
			if _, general := s.levels[""][entry.ID]; !general || t == "" {
				return preset.level(entry, reported)
			}
		}
	}
	return reported
}

// level is the severity of a rule in a preset.
func (p Preset) level(entry Entry, reported fleet.Severity) fleet.Severity {
	switch p {
	case PresetNone:
		if entry.Advisory() {
			return off
		}
	case PresetStrict:
		strict := []Group{GroupHardening, GroupPortability, GroupSecrets, GroupFleet}
		if reported == warning && slices.Contains(strict, entry.Group) {
			return fault
		}
	case PresetRecommended:
	}
	return reported
}
