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
	// A finding is large and a list has thousands: their places are sorted, not they.
	order := make([]int32, len(ds))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return compareDiagnostics(&ds[a], &ds[b]) })
	for to, from := range order {
		out[to] = ds[from]
	}
	return slices.Compact(out)
}

// compareDiagnostics looks at one part after the other: mostly the first two decide.
func compareDiagnostics(d, o *Diagnostic) int {
	if c := strings.Compare(d.File, o.File); c != 0 {
		return c
	}
	if c := cmp.Or(cmp.Compare(d.Line, o.Line), cmp.Compare(d.Col, o.Col)); c != 0 {
		return c
	}
	return cmp.Or(
		strings.Compare(d.Rule, o.Rule), strings.Compare(d.Message, o.Message),
		strings.Compare(d.Stack, o.Stack), strings.Compare(d.Service, o.Service),
	)
}
