package sops

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/varanhq/varan/fleet"
)

// place is where something is written; zero when that is unknown.
type place struct{ line, col int }

// comment is a comment of a file, without its mark. inline ones end a line.
type comment struct {
	text   string
	inline bool
}

// item is an entry of a mapping, or a comment between two of them.
type item struct {
	// key is a string or a comment; a comment has no value.
	key any
	// value is a branch, a list, or a scalar: string, int, float64, bool, time.Time, nil.
	value any
	at    place
}

// branch is a mapping, in order.
type branch []item

// element is one of a list: a value as of an item, or a comment.
type element struct {
	value any
	at    place
}

// list is a list.
type list []element

// fault is why a file is not opened. It becomes a diagnostic once the file's name is known.
type fault struct {
	rule, message, hint string
	at                  place
}

func (f *fault) Error() string { return f.message }

func (f *fault) diagnostic(path string) *fleet.Diagnostic {
	return &fleet.Diagnostic{
		Rule: f.rule, Severity: fleet.SeverityError, Message: f.message, Hint: f.hint,
		Position: fleet.Position{File: path, Line: max(f.at.line, 1), Col: max(f.at.col, 1)},
	}
}

// in is the fault as an error that says where.
func (f *fault) in(path string) error {
	return fmt.Errorf("%s: %w", fleet.Position{File: path, Line: max(f.at.line, 1), Col: max(f.at.col, 1)}, f)
}

// The rules of what this package reports.
const (
	ruleMAC          = "sops-mac"
	ruleKey          = "sops-key"
	ruleTier         = "sops-tier"
	ruleBackend      = "sops-backend"
	ruleFormat       = "sops-format"
	ruleNotEncrypted = "sops-not-encrypted"
	ruleTooLarge     = "sops-too-large"
	ruleOldKey       = "sops-old-key"
)

func badFormat(at place, format string, args ...any) *fault {
	return &fault{rule: ruleFormat, at: at, message: fmt.Sprintf(format, args...)}
}

// macText is a scalar as the MAC covers it and as it is encrypted.
func macText(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case int:
		return strconv.Itoa(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case bool:
		if v {
			return "True", true
		}
		return "False", true
	case time.Time:
		text, err := v.MarshalText()
		return string(text), err == nil
	case comment:
		return v.text, true
	}
	return "", false
}

// flatText is a scalar in a format that knows only text.
func flatText(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case int:
		return strconv.Itoa(v)
	case bool:
		return strconv.FormatBool(v)
	case float64:
		text := strconv.FormatFloat(v, 'G', -1, 64)
		for _, r := range text {
			if r == '.' || r == 'E' {
				return text
			}
		}
		return strconv.FormatFloat(v, 'f', 1, 64) // or it would read as an integer
	case time.Time:
		return v.Format(time.RFC3339)
	}
	return fmt.Sprint(value)
}

// leaf is a scalar or comment with its surroundings.
type leaf struct {
	value any
	path  []string
	// comments are those before it, and before each mapping and list it is in.
	comments [][]string
	at       place
}

// walker rewrites the leaves of a tree. Comments are leaves, too; null is none.
type walker struct {
	visit func(leaf) (any, error)
}

func (w walker) branch(in branch, path []string, above [][]string) (branch, error) {
	out := make(branch, 0, len(in))
	var before []string
	for _, it := range in {
		if c, ok := it.key.(comment); ok {
			before = append(before, c.text)
			got, err := w.comment(c, leaf{c, path, with(above, before), it.at})
			if err != nil {
				return nil, err
			}
			out = append(out, item{key: got, at: it.at})
			continue
		}
		key, ok := it.key.(string)
		if !ok {
			return nil, badFormat(it.at, "a key is not text")
		}
		value, err := w.value(leaf{it.value, with(path, key), with(above, before), it.at})
		if err != nil {
			return nil, err
		}
		out = append(out, item{key, value, it.at})
		before = nil
	}
	return out, nil
}

func (w walker) list(in list, path []string, above [][]string) (list, error) {
	out := make(list, 0, len(in))
	var before []string
	for _, e := range in {
		c, isComment := e.value.(comment)
		if isComment {
			before = append(before, c.text)
		}
		value, err := w.value(leaf{e.value, path, with(above, before), e.at})
		if err != nil {
			return nil, err
		}
		out = append(out, element{value, e.at})
		if !isComment {
			before = nil
		}
	}
	return out, nil
}

// comment rewrites a comment, which stays one.
func (w walker) comment(c comment, at leaf) (comment, error) {
	got, err := w.visit(at)
	if err != nil {
		return comment{}, err
	}
	switch got := got.(type) {
	case comment:
		return got, nil // where it stood is not kept by what was encrypted
	case string:
		return comment{got, c.inline}, nil
	}
	return comment{}, badFormat(at.at, "a comment was encrypted as something else")
}

func (w walker) value(at leaf) (any, error) {
	switch v := at.value.(type) {
	case branch:
		return w.branch(v, at.path, at.comments)
	case list:
		return w.list(v, at.path, at.comments)
	case nil:
		return nil, nil //nolint:nilnil // null is a value
	case string, int, float64, bool, time.Time, comment:
		return w.visit(at)
	}
	return nil, badFormat(at.at, "a value of this kind cannot be encrypted")
}

// with appends without touching what others hold.
func with[T any](list []T, last T) []T {
	return append(slices.Clip(list), last)
}
