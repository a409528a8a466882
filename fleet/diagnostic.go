package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Position is a place in a source file. Line and Col start at 1; zero means unknown.
type Position struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	Col  int    `json:"col,omitempty"`
}

// String is "file:line:col", without the parts that are unknown.
func (p Position) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Col == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	default:
		return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
	}
}

// IsZero reports whether nothing is known.
func (p Position) IsZero() bool { return p == Position{} }

// Severity of a diagnostic. Only SeverityError stops a plan.
type Severity int

// The severities, mildest first.
const (
	SeverityNote Severity = iota + 1
	SeverityWarning
	SeverityError
)

// String is "note", "warning" or "error".
func (s Severity) String() string {
	switch s {
	case SeverityNote:
		return "note"
	case SeverityWarning:
		return "warning"
	case SeverityError:
		return "error"
	}
	return fmt.Sprintf("severity(%d)", int(s))
}

// MarshalText writes the word, so that JSON output is readable.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *Severity) UnmarshalText(b []byte) error {
	for _, v := range []Severity{SeverityNote, SeverityWarning, SeverityError} {
		if v.String() == string(b) {
			*s = v
			return nil
		}
	}
	return fmt.Errorf("unknown severity %q", b)
}

// Diagnostic tells a user what is wrong with their input, where, and what to do.
type Diagnostic struct {
	// Rule is a stable kebab-case id such as "unknown-key" or "undefined-variable".
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	Position
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	// Stack and Service say whose finding it is, where that is known.
	Stack   string `json:"stack,omitempty"`
	Service string `json:"service,omitempty"`
	// Related is the other place of a finding about two.
	Related Position `json:"related,omitzero"`
	// Reason is that of the exception which silenced the finding; it is then a note.
	Reason string `json:"reason,omitempty"`
}

// String is "file:line:col: severity: message [rule]".
func (d Diagnostic) String() string {
	var b strings.Builder
	if p := d.Position.String(); p != "" {
		b.WriteString(p + ": ")
	}
	fmt.Fprintf(&b, "%s: %s [%s]", d.Severity, d.Message, d.Rule)
	return b.String()
}

// Diagnostics is a list of findings. It is an error when it holds one.
type Diagnostics []Diagnostic //nolint:errname // a list of findings first, an error second

// Error joins the diagnostics, one a line.
func (ds Diagnostics) Error() string {
	lines := make([]string, len(ds))
	for i, d := range ds {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}

// HasErrors reports whether any diagnostic is an error.
func (ds Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == SeverityError })
}

// Sort orders by file, line, column, rule and message, and drops exact repeats.
func (ds Diagnostics) Sort() Diagnostics {
	out := slices.Clone(ds)
	slices.SortFunc(out, func(a, b Diagnostic) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Col, b.Col),
			cmp.Compare(a.Rule, b.Rule),
			cmp.Compare(a.Message, b.Message),
			cmp.Compare(a.Stack, b.Stack),
			cmp.Compare(a.Service, b.Service),
		)
	})
	return slices.Compact(out)
}
