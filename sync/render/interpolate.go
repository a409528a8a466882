package render

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/didyoumean"
	"github.com/varanhq/varan/sync/compose"
)

// reference is [[NAME]], or [[[text]]], which stands for [[text]] itself. What else is
// in double brackets, such as a test of a shell, is left alone.
var reference = regexp.MustCompile(`\[\[\[([^\[\]]*)\]\]\]|\[\[([A-Za-z0-9](?:[A-Za-z0-9_. -]*[A-Za-z0-9_.-])?)\]\]`)

// maxVariableDepth bounds variables that are made of variables.
const maxVariableDepth = 8

// ruleScope is the rule of a variable that is used where it must not be.
const ruleScope = "variable-scope"

// unknown is what stands for a variable that only core knows, when core is not asked: a
// word that is harmless wherever it lands in a Compose file.
const unknown = compose.StandIn

// expander replaces the references of one text.
type expander struct {
	vars  *variables
	place place
	at    fleet.Position
	// inline texts are files: findings name their own lines.
	inline bool
	// dollars doubles the dollar signs in what a reference stands for: the text is one that
	// Compose will interpolate.
	dollars bool
	// shift is what to add to the lines of an inline text.
	shift   int
	secrets []string
	// used are the variables that were looked for by the text itself.
	used     []string
	findings fleet.Diagnostics
	// blind is set when something in the text stands for a value nobody knows here.
	blind bool
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
			at.Line = x.shift + 1 + strings.Count(before, "\n")
			at.Col = m[0] - strings.LastIndexByte(before, '\n')
		}
		name := text[m[4]:m[5]]
		if len(trail) == 0 {
			x.used = append(x.used, name)
		}
		value, ok := x.value(name, at, trail)
		switch {
		case ok && x.dollars && len(trail) == 0:
			out.WriteString(strings.ReplaceAll(value, "$", "$$"))
		case ok:
			out.WriteString(value)
		case x.blind:
			out.WriteString(standIn(name, text[:m[0]]))
		default:
			out.WriteString(text[m[0]:m[1]])
		}
	}
	out.WriteString(text[rest:])
	return out.String()
}

// standIn is a word for a value that is not known: like an absolute path where a text
// begins with it, for that is a string to YAML and no volume's name to Compose.
func standIn(name, before string) string {
	word := strings.NewReplacer(" ", "-").Replace(name)
	if before == "" || strings.ContainsAny(before[len(before)-1:], " \t\n\"'=") {
		return "/" + unknown + "/" + word
	}
	return unknown + "-" + word
}

// value is what a reference stands for.
func (x *expander) value(name string, at fleet.Position, trail []string) (string, bool) {
	found, ok := x.vars.byName[name]
	if !ok {
		return x.elsewhere(name, at)
	}
	if slices.Contains(trail, name) || len(trail) >= maxVariableDepth {
		x.report(fleet.SeverityError, "variable-cycle", at,
			fmt.Sprintf("variables are made of each other: %s", strings.Join(append(slices.Clone(trail), name), ", ")), "")
		return "", false
	}
	if message, hint := found.refuse(x.place); message != "" {
		x.report(fleet.SeverityError, ruleScope, at, message, hint)
		return "", false
	}
	value := x.expand(found.value, append(slices.Clone(trail), name))
	if found.secret && value != "" {
		x.secrets = append(x.secrets, value)
	}
	return value, true
}

// elsewhere looks for a name that neither the tree nor core has.
func (x *expander) elsewhere(name string, at fleet.Position) (string, bool) {
	for _, secret := range x.place.locals {
		if secret.Name == name {
			x.secrets = append(x.secrets, secret.Token())
			return secret.Token(), true
		}
	}
	if x.vars.offline {
		x.blind = true
		severity, hint := fleet.SeverityNote, ""
		if near := didyoumean.Slip(name, x.vars.names); near != "" {
			severity, hint = fleet.SeverityWarning, fmt.Sprintf("did you mean [[%s]]?", near)
		}
		x.report(severity, "undefined-variable", at,
			fmt.Sprintf("variable %s is not declared here; it may be in core", name), hint)
		return "", false
	}
	x.report(fleet.SeverityError, "undefined-variable", at, fmt.Sprintf("variable %s is not defined", name), x.hint(name))
	return "", false
}

func (x *expander) report(severity fleet.Severity, rule string, at fleet.Position, message, hint string) {
	x.findings = append(x.findings, fleet.Diagnostic{
		Rule: rule, Severity: severity, Position: at, Message: message, Hint: hint,
	})
}

// refusal is the first scope that was not kept to.
func (x *expander) refusal() string {
	for _, d := range x.findings {
		if d.Rule == ruleScope {
			return d.Message
		}
	}
	return ""
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

// filler fills in the fields of one resource, and gathers what that brings to light.
type filler struct {
	vars  *variables
	place place
	// skip leaves everything as it is written.
	skip     bool
	secrets  []string
	findings fleet.Diagnostics
	blind    bool
}

func (f *filler) take(x *expander) {
	f.secrets = append(f.secrets, x.secrets...)
	f.findings = append(f.findings, x.findings...)
	f.blind = f.blind || x.blind
}

// text fills in one value. secret says that it now holds one.
func (f *filler) text(written string, at fleet.Position) (value string, secret bool) {
	if f.skip {
		return written, false
	}
	return f.fill(written, expander{vars: f.vars, place: f.place, at: at})
}

// interpolated fills in a text in which Compose will replace ${NAME}.
func (f *filler) interpolated(written string, at fleet.Position) (value string, secret bool) {
	if f.skip {
		return written, false
	}
	return f.fill(written, expander{vars: f.vars, place: f.place, at: at, dollars: true})
}

func (f *filler) fill(written string, x expander) (value string, secret bool) {
	value = x.expand(written, nil)
	f.take(&x)
	return value, len(x.secrets) > 0
}

// file fills in a text of several lines that begins at a place.
func (f *filler) file(written string, at fleet.Position) string {
	if f.skip || written == "" {
		return written
	}
	x := expander{vars: f.vars, place: f.place, at: at, inline: true, shift: compose.InlineShift(at, written)}
	value := x.expand(written, nil)
	f.take(&x)
	return value
}

// list fills in each item of a list.
func (f *filler) list(written []string, at func(i int) fleet.Position) []string {
	out := make([]string, len(written))
	for i, item := range written {
		out[i], _ = f.text(item, at(i))
	}
	return out
}

// gitFile is the function that fills in files of a repository (interpolate_files).
func (f *filler) gitFile() func(file, text string) compose.Interpolated {
	vars, at := f.vars, f.place
	return func(file, text string) compose.Interpolated {
		x := expander{vars: vars, place: at, at: fleet.Position{File: file}, inline: true}
		out := compose.Interpolated{Text: x.expand(text, nil)}
		slices.Sort(x.used)
		out.Secrets, out.Variables, out.Findings = x.secrets, slices.Compact(x.used), x.findings
		return out
	}
}
