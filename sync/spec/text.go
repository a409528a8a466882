package spec

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/varanhq/varan/internal/didyoumean"
)

// quoted shows a user's text in a message: escaped, and cut when it is long.
func quoted(s string) string {
	const most = 64
	if len(s) > most {
		cut := most
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "..."
	}
	q := strconv.QuoteToGraphic(s)
	return "`" + q[1:len(q)-1] + "`"
}

// findHidden returns the offset of the first character in text that does not show or
// changes how the text around it shows, or -1. The joiners that scripts and emoji need
// are left alone.
func findHidden(text string) (offset int, r rune) {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return findHiddenRune(text, i)
		}
	}
	return -1, 0
}

func findHiddenRune(text string, from int) (offset int, r rune) {
	for i, c := range text[from:] {
		if hidden(c) {
			return from + i, c
		}
	}
	return -1, 0
}

// hidden reports characters that reorder text or have no width, and C1 controls.
func hidden(r rune) bool {
	switch {
	case r >= 0x80 && r <= 0x9F,
		r == 0x200B, r == 0x200E, r == 0x200F,
		r >= 0x202A && r <= 0x202E,
		r >= 0x2060 && r <= 0x2064,
		r >= 0x2066 && r <= 0x2069,
		r == 0xFEFF:
		return true
	}
	return false
}

// checkText reports control characters and invisible ones in a decoded string.
func (r *report) checkText(v value, what string) (ok bool) {
	at := func(i int) int {
		if v.body < 0 {
			return v.at
		}
		return v.body + i
	}
	if v.body < 0 {
		// Only an escape can put a control character here: raw ones were refused before.
		if i := strings.IndexFunc(v.text, control); i >= 0 {
			r.fail(v.at, "control-character", "remove it", "%s has the control character U+%04X", what, v.text[i])
			return false
		}
	}
	i, c := findHidden(v.text)
	if i < 0 {
		return true
	}
	r.fail(at(i), "invisible-character", "remove it", "%s has the invisible character U+%04X", what, c)
	return false
}

func control(r rune) bool { return r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0x7F }

// didYouMean is the hint for an unknown word; empty when nothing is near.
func didYouMean(word string, candidates []string) string {
	if c := didyoumean.Word(word, candidates); c != "" {
		return fmt.Sprintf("did you mean %s?", quoted(c))
	}
	return ""
}

// didYouMeanKey also finds the key that an unknown one was made of by adding words:
// `compose_file_paths`, `delete_unmatched`.
func didYouMeanKey(key string, known []string) string {
	if hint := didYouMean(key, known); hint != "" || len(key) > 64 {
		return hint
	}
	best := ""
	for _, k := range known {
		if len(k) > len(best) && len(k) > 3 && strings.Contains("_"+key+"_", "_"+k+"_") {
			best = k
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %s?", quoted(best))
}
