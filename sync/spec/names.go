package spec

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/varanhq/varan/fleet"
)

// maxName is the longest name of anything.
const maxName = 63

// naming is the rule that the names of a type follow.
type naming int

const (
	// freeName allows what Komodo users call servers, variables and repositories.
	freeName naming = iota + 1
	// projectName is what Compose accepts as the name of a project. Others are made so.
	projectName
	// displayName is for what only people read, such as procedures: any text that shows.
	displayName
)

// reservedNames cannot be files or directories everywhere.
var reservedNames = []string{"aux", "con", "nul", "prn"}

// check returns what is wrong with a name, and what would be right; both empty when
// it is fine.
func (n naming) check(name string) (problem, hint string) {
	switch {
	case strings.TrimSpace(name) == "":
		return "the name is empty", "give it a name"
	case len(name) > maxName && (n != displayName || len([]rune(name)) > 4*maxName):
		return fmt.Sprintf("the name %s is longer than %d characters", quoted(name), maxName), "shorten it"
	case slices.Contains(reservedNames, strings.ToLower(name)):
		return fmt.Sprintf("the name %s is reserved on some systems", quoted(name)), "choose another name"
	case objectID(name):
		return fmt.Sprintf("the name %s looks like an id", quoted(name)), "choose another name"
	}
	if problem, hint = n.checkLetters(name); problem != "" {
		return problem, hint
	}
	if strings.TrimRight(name, " ") != name || n != displayName && strings.HasSuffix(name, ".") {
		return fmt.Sprintf("the name %s ends in a space or dot", quoted(name)), "remove it"
	}
	return "", ""
}

func (n naming) checkLetters(name string) (problem, hint string) {
	allowed := "start with a letter or digit, then letters, digits, _, ., - and spaces"
	if n == projectName {
		allowed = "start with a lower-case letter or digit, then lower-case letters, digits, _ and -"
	}
	for i, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
		case n == freeName && r >= 'A' && r <= 'Z':
		case i > 0 && (r == '_' || r == '-' || n == freeName && (r == '.' || r == ' ')):
		case n == displayName && unicode.IsPrint(r) && (i > 0 || r != ' '):
		case r > 0x7F:
			return fmt.Sprintf("the name %s has %s (U+%04X), which is not ASCII", quoted(name), quoted(string(r)), r), allowed
		default:
			return fmt.Sprintf("the name %s cannot have %s there", quoted(name), quoted(string(r))), allowed
		}
	}
	return "", ""
}

// renamed reports whether a name only has to be written differently, and how.
func renamed(name string) (normal string, ok bool) {
	normal = fleet.ProjectName(name)
	ascii := strings.IndexFunc(name, func(r rune) bool { return r > unicode.MaxASCII || control(r) }) < 0
	if normal == name || normal == "" || !ascii || len(name) > maxName || strings.ContainsAny(name, "/*\\") || name[0] == '-' || strings.HasSuffix(name, " ") {
		return "", false
	}
	problem, _ := projectName.check(normal)
	return normal, problem == ""
}

// objectID reports whether s has the form of the ids that Komodo's database gives.
func objectID(s string) bool {
	return len(s) == 24 && strings.Trim(s, "0123456789abcdef") == ""
}
