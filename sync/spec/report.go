package spec

import (
	"fmt"
	"sort"

	"github.com/varanhq/varan/fleet"
)

// maxFileErrors is how many errors one file may have before the rest is left out.
// Unknown keys are counted apart, as they may be no more than warnings in the end.
const maxFileErrors = 20

// maxFileRemarks is how many warnings and notes one file may have.
const maxFileRemarks = 500

// report collects the diagnostics of one file and turns offsets into positions.
type report struct {
	file   string
	lines  []int // offset at which each line starts
	diags  fleet.Diagnostics
	errors int
	// unknown counts unknown keys.
	unknown int
	// remarks counts warnings and notes.
	remarks int
}

// position is the line and the column, both from 1, the column counted in bytes.
func (r *report) position(offset int) fleet.Position {
	line := sort.Search(len(r.lines), func(i int) bool { return r.lines[i] > offset })
	if line == 0 {
		return fleet.Position{File: r.file, Line: 1, Col: 1}
	}
	return fleet.Position{File: r.file, Line: line, Col: offset - r.lines[line-1] + 1}
}

func (r *report) mark(field string, item, offset int) mark {
	p := r.position(offset)
	return mark{field: field, item: int32(item), line: int32(p.Line), col: int32(p.Col)} //nolint:gosec // a file is at most 1 MiB
}

func (r *report) fail(offset int, rule, hint, format string, args ...any) {
	r.failAt(r.position(offset), rule, hint, format, args...)
}

func (r *report) failAt(at fleet.Position, rule, hint, format string, args ...any) {
	if r.full() {
		return
	}
	r.errors++
	if r.full() {
		r.addAt(fleet.SeverityError, at, "too-many-errors", "fix the ones above, then look again",
			"more than %d errors in this file; the rest is left out", maxFileErrors)
		return
	}
	r.addAt(fleet.SeverityError, at, rule, hint, format, args...)
}

// failUnknown reports an unknown key; hint is only computed when it is shown.
func (r *report) failUnknown(offset int, rule string, hint func() string, format string, args ...any) {
	r.unknown++
	switch {
	case r.unknown <= maxFileErrors:
		r.add(fleet.SeverityError, offset, rule, hint(), format, args...)
	case r.unknown == maxFileErrors+1:
		r.add(fleet.SeverityError, offset, "too-many-unknown-keys", "fix the ones above, then look again",
			"more than %d unknown keys in this file; the rest is left out", maxFileErrors)
	}
}

// found counts the errors and unknown keys so far.
func (r *report) found() int { return r.errors + r.unknown }

// full reports whether there were so many errors that no more are wanted.
func (r *report) full() bool { return r.errors > maxFileErrors }

func (r *report) warn(offset int, rule, hint, format string, args ...any) {
	r.remarkAt(fleet.SeverityWarning, r.position(offset), rule, hint, format, args...)
}

func (r *report) note(offset int, rule, hint, format string, args ...any) {
	r.remarkAt(fleet.SeverityNote, r.position(offset), rule, hint, format, args...)
}

// remarkAt adds a warning or a note.
func (r *report) remarkAt(severity fleet.Severity, at fleet.Position, rule, hint, format string, args ...any) {
	r.remarks++
	switch {
	case r.remarks <= maxFileRemarks:
		r.addAt(severity, at, rule, hint, format, args...)
	case r.remarks == maxFileRemarks+1:
		r.addAt(fleet.SeverityNote, at, "too-many-remarks", "split the file",
			"more than %d warnings and notes in this file; the rest is left out", maxFileRemarks)
	}
}

func (r *report) add(severity fleet.Severity, offset int, rule, hint, format string, args ...any) {
	r.addAt(severity, r.position(offset), rule, hint, format, args...)
}

func (r *report) addAt(severity fleet.Severity, at fleet.Position, rule, hint, format string, args ...any) {
	r.diags = append(r.diags, fleet.Diagnostic{
		Rule: rule, Severity: severity, Position: at, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}
