package spec

import (
	"bytes"
	"fmt"
	"slices"
	"unicode/utf8"
)

const (
	maxFileSize = 1 << 20
	maxDepth    = 32
)

// fault is what makes a file unreadable as TOML: one, the first, is enough.
type fault struct {
	offset  int
	rule    string
	message string
	hint    string
}

// newlines lists the offset at which each line starts.
func newlines(src []byte) []int {
	lines := make([]int, 1, 1+bytes.Count(src, []byte{'\n'}))
	for i, c := range src {
		if c == '\n' {
			lines = append(lines, i+1)
		}
	}
	return lines
}

// checkEncoding finds what no parser should see: text that is not UTF-8.
func checkEncoding(src []byte) *fault {
	if utf8.Valid(src) && !looksUTF16(src) {
		return nil
	}
	if looksUTF16(src) {
		return &fault{rule: "invalid-utf8", message: "the file looks like UTF-16", hint: "save it as UTF-8"}
	}
	at := 0
	for at < len(src) {
		r, size := utf8.DecodeRune(src[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	return &fault{
		offset: at, rule: "invalid-utf8", hint: "save the file as UTF-8",
		message: fmt.Sprintf("byte 0x%02X at offset %d is not UTF-8", src[at], at),
	}
}

func looksUTF16(src []byte) bool {
	if len(src) < 2 {
		return false
	}
	bom := bytes.HasPrefix(src, []byte{0xFF, 0xFE}) || bytes.HasPrefix(src, []byte{0xFE, 0xFF})
	return bom || (src[0] == 0) != (src[1] == 0) && len(src)%2 == 0
}

// checkLines finds control characters, stray carriage returns and the marks that an
// unfinished merge leaves.
func checkLines(src []byte) *fault {
	lineStart := true
	for i, c := range src {
		switch {
		case c == '\r' && (i+1 == len(src) || src[i+1] != '\n'):
			return &fault{
				offset: i, rule: "line-endings", message: "a carriage return without a line feed",
				hint: "save the file with LF or CRLF line endings",
			}
		case c < 0x20 && c != '\t' && c != '\n' && c != '\r', c == 0x7F:
			return &fault{
				offset: i, rule: "control-character", message: fmt.Sprintf("control character U+%04X", c),
				hint: "remove it",
			}
		case lineStart && (c == '<' || c == '>') && conflictMarker(src[i:]):
			return &fault{
				offset: i, rule: "merge-conflict-marker", message: "the file has an unresolved merge conflict",
				hint: "resolve it and remove the markers",
			}
		}
		lineStart = c == '\n'
	}
	return nil
}

func conflictMarker(line []byte) bool {
	return bytes.HasPrefix(line, []byte("<<<<<<< ")) || bytes.HasPrefix(line, []byte(">>>>>>> "))
}

// scanner walks over the tokens of a file without understanding them: enough to find
// the backslashes that are plain characters, what is opened and never closed, and
// nesting that no parser should be given.
type scanner struct {
	src []byte
	// open are the offsets of the brackets not yet closed.
	open []int
	// escapes are the offsets of backslashes between triple double quotes, ascending.
	escapes []int
	// hidden are the offsets of invisible characters in comments.
	hidden []int
}

// scan returns the first fault, or nil.
func (s *scanner) scan() *fault {
	for i := 0; i < len(s.src); {
		next := i + 1
		switch s.src[i] {
		case '#':
			next = s.comment(i)
		case '"', '\'':
			end, ok := s.quoted(i)
			if !ok {
				return &fault{
					offset: i, rule: "unterminated", message: "the string that starts here is never closed",
					hint: "close it with the quotes that open it",
				}
			}
			next = end
		case '[', '{':
			s.open = append(s.open, i)
			if len(s.open) > maxDepth {
				return &fault{
					offset: i, rule: "too-deep", hint: "flatten the file",
					message: fmt.Sprintf("nested more than %d levels deep", maxDepth),
				}
			}
		case ']', '}':
			s.open = s.open[:max(0, len(s.open)-1)]
		}
		i = next
	}
	if len(s.open) > 0 {
		return &fault{
			offset: s.open[0], rule: "unterminated", message: "the bracket that opens here is never closed",
			hint: "close it",
		}
	}
	return nil
}

func (s *scanner) comment(start int) (end int) {
	end = len(s.src)
	if i := bytes.IndexByte(s.src[start:], '\n'); i >= 0 {
		end = start + i
	}
	if i, _ := findHidden(string(s.src[start:end])); i >= 0 {
		s.hidden = append(s.hidden, start+i)
	}
	return end
}

// quoted returns the offset after the string that starts at start.
func (s *scanner) quoted(start int) (end int, ok bool) {
	quote := s.src[start]
	if triple := bytes.Repeat([]byte{quote}, 3); bytes.HasPrefix(s.src[start:], triple) {
		return s.tripleQuoted(start, triple)
	}
	for i := start + 1; i < len(s.src) && s.src[i] != '\n'; i++ {
		switch {
		case s.src[i] == quote:
			return i + 1, true
		case s.src[i] == '\\' && quote == '"':
			i++
		}
	}
	return 0, false
}

func (s *scanner) tripleQuoted(start int, triple []byte) (end int, ok bool) {
	body := start + len(triple)
	n := bytes.Index(s.src[body:], triple)
	if n < 0 {
		return 0, false
	}
	end = body + n + len(triple)
	// Up to two quotes right before the closing three belong to the text.
	for range 2 {
		if end < len(s.src) && s.src[end] == triple[0] {
			end++
		}
	}
	if triple[0] == '"' {
		for i := body; i < body+n; i++ {
			if s.src[i] == '\\' {
				s.escapes = append(s.escapes, i)
			}
		}
	}
	return end, true
}

// doubled returns src with every backslash at the offsets written twice, so that a
// TOML parser reads it as the plain character it is meant to be.
func doubled(src []byte, offsets []int) []byte {
	if len(offsets) == 0 {
		return slices.Clip(src)
	}
	out := make([]byte, 0, len(src)+len(offsets))
	last := 0
	for _, at := range offsets {
		out = append(out, src[last:at]...)
		out = append(out, '\\')
		last = at
	}
	out = append(out, src[last:]...)
	return slices.Clip(out)
}
