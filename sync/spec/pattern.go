package spec

import (
	"fmt"
	"regexp"
	"strings"
)

// Pattern chooses resources by name: parts separated by commas and lines, each a name,
// a wildcard with * and ?, or a regular expression between backslashes.
type Pattern struct {
	names map[string]bool
	exprs []*regexp.Regexp
}

// maxPattern is how long a pattern may be.
const maxPattern = 10_000

// isPattern reports whether a name is a wildcard or a regular expression.
func isPattern(name string) bool {
	return strings.ContainsAny(name, `*?\,`) || strings.Contains(name, "\n")
}

// ParsePattern reads a pattern.
func ParsePattern(text string) (Pattern, error) {
	p := Pattern{names: map[string]bool{}}
	if len(text) > maxPattern {
		return Pattern{}, fmt.Errorf("it is longer than %d characters", maxPattern)
	}
	for _, part := range patternParts(text) {
		var expr string
		switch {
		case len(part) >= 2 && part[0] == '\\' && part[len(part)-1] == '\\':
			expr = part[1 : len(part)-1]
		case strings.ContainsAny(part, "*?"):
			expr = "^(?s:" + strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(part)) + ")$"
		default:
			p.names[part] = true
			continue
		}
		compiled, err := regexp.Compile(expr)
		if err != nil {
			return Pattern{}, fmt.Errorf("the regular expression %s: %w", quoted(expr), err)
		}
		p.exprs = append(p.exprs, compiled)
	}
	return p, nil
}

// patternParts splits at lines and commas, but not inside \regular expressions\.
func patternParts(text string) []string {
	var parts []string
	for line := range splitLines(text) {
		rest := cutComment(line.text)
		for rest != "" {
			end := strings.IndexByte(rest, ',')
			if rest[0] == '\\' {
				if last := closingBackslash(rest); last > 0 {
					end = last + 1
				}
			}
			if end < 0 || end > len(rest) {
				end = len(rest)
			}
			if part := strings.TrimSpace(rest[:end]); part != "" {
				parts = append(parts, part)
			}
			rest = strings.TrimLeft(rest[end:], ", \t")
		}
	}
	return parts
}

// closingBackslash is where a regular expression ends: at a backslash that a comma or
// the end of the line follows.
func closingBackslash(text string) int {
	for i := 1; i < len(text); i++ {
		if text[i] == '\\' {
			if rest := strings.TrimLeft(text[i+1:], " \t"); rest == "" || rest[0] == ',' {
				return i
			}
		}
	}
	return 0
}

// Match reports whether the pattern chooses a name.
func (p Pattern) Match(name string) bool {
	if p.names[name] {
		return true
	}
	for _, e := range p.exprs {
		if e.MatchString(name) {
			return true
		}
	}
	return false
}

// Select returns the names that the pattern chooses, in their order.
func (p Pattern) Select(names []string) []string {
	var out []string
	for _, name := range names {
		if p.Match(name) {
			out = append(out, name)
		}
	}
	return out
}
