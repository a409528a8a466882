package spec

import (
	"iter"
	"strings"
)

// span is a part of a text that knows where it starts.
type span struct {
	text   string
	offset int
}

// trim drops white space on both ends.
func (s span) trim() span {
	left := strings.TrimLeft(s.text, " \t\r")
	return span{strings.TrimRight(left, " \t\r"), s.offset + len(s.text) - len(left)}
}

// from drops the first n bytes.
func (s span) from(n int) span { return span{s.text[n:], s.offset + n} }

// split yields the trimmed parts between separators that are not empty.
func (s span) split(separator byte) iter.Seq[span] {
	return func(yield func(span) bool) {
		for rest, more := s, true; more; {
			part := rest
			if i := strings.IndexByte(rest.text, separator); i >= 0 {
				part, rest = span{rest.text[:i], rest.offset}, rest.from(i+1)
			} else {
				more = false
			}
			if part = part.trim(); part.text != "" && !yield(part) {
				return
			}
		}
	}
}

// splitLines yields the trimmed lines that are neither empty nor a comment.
func splitLines(text string) iter.Seq[span] {
	return func(yield func(span) bool) {
		for line := range (span{text: text}).split('\n') {
			if line.text[0] != '#' && !yield(line) {
				return
			}
		}
	}
}

// cutComment drops a comment at the end of a line: a # after white space.
func cutComment(line string) string {
	for i := 1; i < len(line); i++ {
		if line[i] == '#' && (line[i-1] == ' ' || line[i-1] == '\t') {
			return strings.TrimRight(line[:i], " \t")
		}
	}
	return line
}

// entryLines yields the lines of a text of entries: // begins a comment too.
func entryLines(text string) iter.Seq[span] {
	return func(yield func(span) bool) {
		for line := range splitLines(text) {
			if !strings.HasPrefix(line.text, "//") && !yield(line) {
				return
			}
		}
	}
}
