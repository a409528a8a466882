package fleet

import "strings"

// SplitWords splits a text as a shell does: quotes and backslashes keep words together. A
// reference to an input is never split.
func SplitWords(text string) []string {
	var words []string
	var word strings.Builder
	inWord, quoted := false, rune(0)
	escaped, reference := false, false
	for i, c := range text {
		reference = strings.HasPrefix(text[i:], "${{") || reference && !strings.HasSuffix(text[:i], "}}")
		switch {
		case escaped, reference:
			word.WriteRune(c)
			escaped, inWord = false, true
		case c == '\\' && quoted != '\'':
			escaped, inWord = true, true
		case quoted != 0 && c == quoted:
			quoted = 0
		case quoted != 0:
			word.WriteRune(c)
		case c == '"' || c == '\'':
			quoted, inWord = c, true
		case c == ' ' || c == '\t' || c == '\n':
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		default:
			word.WriteRune(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words
}
