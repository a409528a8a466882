package compose

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
)

// undefinedThing is how compose-go says that a service names what is declared nowhere.
var undefinedThing = regexp.MustCompile(
	`^service "([^"]+)" (?:refers to undefined (build secret|network|volume|config|secret|model) ([^ :]+)|depends on undefined service "([^"]+)")`)

// reportUndefined reports such a message at the line that has the name, and says what may
// have been meant. It leaves other messages alone.
func (l *load) reportUndefined(message string) bool {
	m := undefinedThing.FindStringSubmatch(message)
	if m == nil {
		return false
	}
	service, kind, name := m[1], strings.TrimPrefix(cmp.Or(m[2], "service"), "build "), m[3]+m[4]
	path := []string{"services", service, kind + "s"}
	switch {
	case kind == "service":
		path[2] = "depends_on"
	case kind != m[2]:
		path = []string{"services", service, "build", "secrets"}
	}
	pos := l.atItem(name, path...)
	if pos == l.at(path...) {
		pos = l.at(append(path, name)...)
	}
	hint := DidYouMean(name, l.declaredNames(kind+"s"))
	if hint == "" && kind != "service" {
		hint = fmt.Sprintf("declare it under %ss:, beside services:", kind)
	}
	l.fail("undefined-reference", pos, fmt.Sprintf("service %q names the %s %q, which is not declared", service, kind, name), hint)
	return true
}

// declaredNames are the names under a top-level key of the stack's files.
func (l *load) declaredNames(key string) []string {
	var names []string
	for in := range l.layers() {
		for _, e := range entries(field(in.root, key)) {
			names = append(names, e.key.Value)
		}
	}
	return names
}
