package fleet

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// ValidServerName keeps out what no server can be called: it is one printable word of at
// most 63 bytes that no shell and no path gives a meaning to.
func ValidServerName(s string) bool {
	odd := func(r rune) bool {
		return !unicode.IsGraphic(r) || unicode.IsSpace(r) || strings.ContainsRune(`$/\`, r)
	}
	return s != "" && len(s) <= 63 && utf8.ValidString(s) && !strings.ContainsFunc(s, odd)
}
