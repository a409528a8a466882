package schedule

import "strings"

// ParseAny reads a schedule in whichever format it is written in. An error is about the one
// that it looks like.
func ParseAny(text, zone string) (Schedule, error) {
	format := English
	if fields := strings.Fields(text); len(fields) >= 5 && strings.ContainsAny(fields[0][:1], "*0123456789") {
		format = Cron
	}
	return Parse(format, text, zone)
}
