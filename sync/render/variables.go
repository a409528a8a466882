package render

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
	"github.com/varanhq/varan/sync/spec"
)

// reference is [[NAME]], or [[[text]]], which stands for [[text]] itself. What else is
// in double brackets, such as a test of a shell, is left alone.
var reference = regexp.MustCompile(`\[\[\[([^\[\]]*)\]\]\]|\[\[([A-Za-z0-9](?:[A-Za-z0-9_. -]*[A-Za-z0-9_.-])?)\]\]`)

// maxVariableDepth bounds variables that are made of variables.
const maxVariableDepth = 8

// variable is a value that [[NAME]] stands for.
type variable struct {
	value  string
	secret bool
	// tier is the only one it may be used on; empty means any.
	tier fleet.Tier
}

// variables are all that can be referred to.
type variables struct {
	byName  map[string]variable
	names   []string
	offline bool
}

// newVariables joins the tree's variables with core's. A variable declared without a
// value has its value in core.
func newVariables(declared []spec.Variable, in Input) *variables {
	v := &variables{byName: map[string]variable{}, offline: in.Offline}
	for _, known := range in.Variables {
		v.byName[known.Name] = variable{value: known.Value, secret: known.Secret}
	}
	for i := range declared {
		d := &declared[i]
		own := variable{value: d.Value.Reveal(), secret: d.IsSecret, tier: scopeOf(d.Tags)}
		stored, inCore := v.byName[d.Name]
		switch {
		case own.value == "" && inCore:
			own.value, own.secret = stored.value, own.secret || stored.secret
		case own.value == "" && own.secret && !inCore:
			continue // its value is nowhere yet
		}
		v.byName[d.Name] = own
	}
	for name := range v.byName {
		v.names = append(v.names, name)
	}
	slices.Sort(v.names)
	return v
}

func scopeOf(tags []string) fleet.Tier {
	for _, tier := range []fleet.Tier{fleet.TierTrusted, fleet.TierUntrusted} {
		if slices.Contains(tags, "scope:"+string(tier)) {
			return tier
		}
	}
	return ""
}

// environment is what a stack's variables came to.
type environment struct {
	list []compose.Variable
	// secrets are those that went into file_contents.
	secrets  []string
	findings fleet.Diagnostics
}

// interpolate fills in the environment and the inline Compose file of a stack.
func (v *variables) interpolate(s *spec.Stack, tier fleet.Tier) (env environment, contents string) {
	c := &s.Config
	for _, e := range c.Environment {
		x := expander{vars: v, tier: tier, at: e.Pos}
		value := e.Value
		if !c.SkipSecretInterp {
			value = x.expand(value, nil)
		}
		env.list = append(env.list, compose.Variable{Name: e.Name, Value: value, Secret: len(x.secrets) > 0, Origin: e.Pos})
		env.findings = append(env.findings, x.findings...)
	}
	contents = c.FileContents
	if contents == "" || c.SkipSecretInterp {
		return env, contents
	}
	x := expander{vars: v, tier: tier, at: s.At("config.file_contents"), inline: true}
	contents = x.expand(contents, nil)
	env.secrets = x.secrets
	env.findings = append(env.findings, x.findings...)
	return env, contents
}

// expander replaces the references of one text.
type expander struct {
	vars *variables
	tier fleet.Tier
	at   fleet.Position
	// inline texts are files: findings name their own lines.
	inline   bool
	secrets  []string
	findings fleet.Diagnostics
}

// expand replaces references; trail are the variables being expanded.
func (x *expander) expand(text string, trail []string) string {
	if !strings.Contains(text, "[[") {
		return text
	}
	var out strings.Builder
	rest := 0
	for _, m := range reference.FindAllStringSubmatchIndex(text, -1) {
		out.WriteString(text[rest:m[0]])
		rest = m[1]
		if m[4] < 0 {
			out.WriteString("[[" + text[m[2]:m[3]] + "]]")
			continue
		}
		at := x.at
		if x.inline && len(trail) == 0 {
			before := text[:m[0]]
			at.Line = compose.InlineShift(at, text) + 1 + strings.Count(before, "\n")
			at.Col = m[0] - strings.LastIndexByte(before, '\n')
		}
		out.WriteString(x.value(text[m[0]:m[1]], text[m[4]:m[5]], at, trail))
	}
	out.WriteString(text[rest:])
	return out.String()
}

// value is what a reference stands for; itself when there is nothing.
func (x *expander) value(written, name string, at fleet.Position, trail []string) string {
	found, ok := x.vars.byName[name]
	switch {
	case !ok && x.vars.offline:
		x.report(fleet.SeverityNote, "undefined-variable", at,
			fmt.Sprintf("variable %s is not declared here; it may be in core", name), "")
		return written
	case !ok:
		x.report(fleet.SeverityError, "undefined-variable", at, fmt.Sprintf("variable %s is not defined", name), x.hint(name))
		return written
	case slices.Contains(trail, name) || len(trail) >= maxVariableDepth:
		x.report(fleet.SeverityError, "variable-cycle", at,
			fmt.Sprintf("variables are made of each other: %s", strings.Join(append(trail, name), ", ")), "")
		return written
	case found.tier != "" && found.tier != x.tier:
		x.report(fleet.SeverityError, "variable-scope", at,
			fmt.Sprintf("variable %s is for %s servers, and this server is %s", name, found.tier, x.tier),
			"use another variable, or change its scope tag")
		return written
	}
	value := x.expand(found.value, append(slices.Clone(trail), name))
	if found.secret && value != "" {
		x.secrets = append(x.secrets, value)
	}
	return value
}

func (x *expander) report(severity fleet.Severity, rule string, at fleet.Position, message, hint string) {
	x.findings = append(x.findings, fleet.Diagnostic{
		Rule: rule, Severity: severity, Position: at, Message: message, Hint: hint,
	})
}

func (x *expander) hint(name string) string {
	for _, known := range x.vars.names {
		if strings.EqualFold(known, name) {
			return fmt.Sprintf("did you mean [[%s]]?", known)
		}
	}
	return cmp.Or(compose.DidYouMean(name, x.vars.names),
		fmt.Sprintf("declare a [[variable]], store it in core with `varan secret set %[1]s`, or write [[[%[1]s]]] for the plain text", name))
}
