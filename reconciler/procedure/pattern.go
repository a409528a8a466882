package procedure

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// maxPattern bounds a pattern; a list of every name in a large fleet fits.
const maxPattern = 64 << 10

// pattern chooses names: a list of names, wildcards with * and ?, and regular expressions
// between backslashes.
type pattern struct {
	exact []string
	wild  []string
	regex []*regexp.Regexp
}

// parsePattern reads a list that commas or line ends separate. What comes after a # is a
// remark, except inside of a regular expression.
func parsePattern(text string) (pattern, error) {
	var p pattern
	if len(text) > maxPattern {
		return p, fmt.Errorf("the pattern is longer than %d bytes", maxPattern)
	}
	for rest := text; rest != ""; {
		var item string
		rest = strings.TrimLeft(rest, ", \t\r\n")
		switch {
		case strings.HasPrefix(rest, "#"):
			_, rest, _ = strings.Cut(rest, "\n")
			continue
		case strings.HasPrefix(rest, `\`):
			var err error
			if item, rest, err = cutRegex(rest); err != nil {
				return p, err
			}
			re, err := regexp.Compile(item)
			if err != nil {
				return p, fmt.Errorf("the regular expression %q is invalid: %w", item, err)
			}
			p.regex = append(p.regex, re)
			continue
		}
		item, rest = cutItem(rest)
		switch {
		case item == "":
		case strings.ContainsAny(item, "*?"):
			p.wild = append(p.wild, item)
		default:
			p.exact = append(p.exact, item)
		}
	}
	return p, nil
}

// cutItem takes a name or wildcard off the front of a list.
func cutItem(list string) (item, rest string) {
	end := strings.IndexAny(list, ",\n")
	if end < 0 {
		end = len(list)
	}
	item, rest = list[:end], list[end:]
	item, _, _ = strings.Cut(item, " #")
	return strings.TrimSpace(item), rest
}

// cutRegex takes a regular expression off the front. It ends at the backslash that a comma,
// a line end or nothing follows: backslashes within it escape.
func cutRegex(list string) (expression, rest string, err error) {
	for i := 1; i < len(list); i++ {
		if list[i] != '\\' {
			continue
		}
		after := strings.TrimLeft(list[i+1:], " \t\r")
		if after == "" || after[0] == ',' || after[0] == '\n' {
			return list[1:i], after, nil
		}
	}
	return "", "", fmt.Errorf("the regular expression %q has no backslash at its end", list)
}

// matches reports whether the pattern chooses a name.
func (p pattern) matches(name string) bool {
	return slices.Contains(p.exact, name) ||
		slices.ContainsFunc(p.wild, func(w string) bool { return wildcard(w, name) }) ||
		slices.ContainsFunc(p.regex, func(re *regexp.Regexp) bool { return re.MatchString(name) })
}

// wildcard matches with * for anything and ? for one character, in time that the product of
// both lengths bounds.
func wildcard(pattern, name string) bool {
	p, n := []rune(pattern), []rune(name)
	star, mark, i, j := -1, 0, 0, 0
	for j < len(n) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == n[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(string(p[i:]), "*") == ""
}
