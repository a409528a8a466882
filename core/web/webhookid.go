package web

import "strings"

// komodoIDSize is the length of the ids that Komodo's database gives, in hexadecimal digits.
const komodoIDSize = 24

// KomodoID reports whether a text is such an id. No resource of Komodo's has one for a name.
func KomodoID(text string) bool {
	return len(text) == komodoIDSize && strings.Trim(text, "0123456789abcdef") == ""
}

// hookName is the name of the resource that the address of a webhook means: it may have
// Komodo's id of it in place of the name.
func (s *server) hookName(text string) string {
	if KomodoID(text) {
		if name := s.HookName(text); name != "" {
			return name
		}
	}
	return text
}

// hookAddress is where a delivery would be right.
func hookAddress(d delivery) string {
	return "/listener/" + d.provider + "/" + d.kind + "/NAME/" + d.action
}
