package spec

import (
	"fmt"
	"slices"
	"strings"
)

// maxName is the longest name of anything.
const maxName = 63

// naming is the rule that the names of a type follow.
type naming int

const (
	// freeName allows what Komodo users call servers, variables and syncs.
	freeName naming = iota + 1
	// projectName is what Compose accepts as the name of a project.
	projectName
)

// reservedNames cannot be files or directories everywhere.
var reservedNames = []string{"aux", "con", "nul", "prn"}

// check returns what is wrong with a name, and what would be right; both empty when
// it is fine.
func (n naming) check(name string) (problem, hint string) {
	allowed := "start with a letter or digit, then letters, digits, _, ., - and spaces"
	if n == projectName {
		allowed = "start with a lower-case letter or digit, then lower-case letters, digits, _ and -"
		if normal := normalName(name); normal != "" && normal != name {
			allowed = "write " + quoted(normal)
		}
	}
	switch {
	case name == "":
		return "the name is empty", "give it a name"
	case len(name) > maxName:
		return fmt.Sprintf("the name %s is longer than %d characters", quoted(name), maxName), "shorten it"
	case slices.Contains(reservedNames, strings.ToLower(name)):
		return fmt.Sprintf("the name %s is reserved on some systems", quoted(name)), "choose another name"
	case objectID(name):
		return fmt.Sprintf("the name %s looks like an id", quoted(name)), "choose another name"
	}
	for i, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
		case n == freeName && r >= 'A' && r <= 'Z':
		case i > 0 && (r == '_' || r == '-' || n == freeName && (r == '.' || r == ' ')):
		case r > 0x7F:
			return fmt.Sprintf("the name %s has %s (U+%04X), which is not ASCII", quoted(name), quoted(string(r)), r), allowed
		default:
			return fmt.Sprintf("the name %s cannot have %s there", quoted(name), quoted(string(r))), allowed
		}
	}
	if strings.HasSuffix(name, " ") || strings.HasSuffix(name, ".") {
		return fmt.Sprintf("the name %s ends in a space or dot", quoted(name)), "remove it"
	}
	return "", ""
}

// normalName is the project name nearest to name.
func normalName(name string) string {
	normal := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		case r == ' ', r == '.', r == '/':
			return '-'
		}
		return -1
	}, name)
	return strings.TrimLeft(normal[:min(len(normal), maxName)], "-_")
}

// objectID reports whether s has the form of the ids that Komodo's database gives.
func objectID(s string) bool {
	return len(s) == 24 && strings.Trim(s, "0123456789abcdef") == ""
}
