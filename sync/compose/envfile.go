package compose

import (
	"regexp"
	"strings"
)

// plainValue needs no quotes in an environment file.
var plainValue = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,=-]*$`)

// FormatEnv writes variables as an environment file that Compose reads back to exactly
// the same values, whatever they hold. A later variable of the same name wins, and
// takes the place of the earlier one.
func FormatEnv(vars []Variable) []byte {
	last := make(map[string]int, len(vars))
	for i, v := range vars {
		last[v.Name] = i
	}
	var b strings.Builder
	for i, v := range vars {
		if last[v.Name] != i {
			continue
		}
		b.WriteString(v.Name)
		b.WriteByte('=')
		writeEnvValue(&b, v.Value)
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

// writeEnvValue prefers no quotes, then single ones, in which nothing is special but a
// quote and a backslash before it, then double ones.
func writeEnvValue(b *strings.Builder, value string) {
	switch {
	case plainValue.MatchString(value):
		b.WriteString(value)
	case !strings.ContainsAny(value, `'\`):
		b.WriteString("'" + value + "'")
	default:
		b.WriteByte('"')
		for i := range len(value) {
			switch c := value[i]; c {
			case '"', '\\', '$':
				b.WriteByte('\\')
				b.WriteByte(c)
			default:
				b.WriteByte(c)
			}
		}
		b.WriteByte('"')
	}
}
