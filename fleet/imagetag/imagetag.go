// Package imagetag says which of an image's tags is the newest that a policy allows. It is
// pure: it neither asks registries nor knows the time.
package imagetag

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Policy is a range of versions, such as "~1.4", or a regular expression between slashes.
type Policy struct {
	text    string
	match   *regexp.Regexp
	allowed *semver.Constraints
}

// Error says what is wrong with a policy.
type Error struct {
	Message, Hint string
}

// Error is the message.
func (e *Error) Error() string { return e.Message }

// Parse reads a policy.
func Parse(text string) (Policy, error) {
	text = strings.TrimSpace(text)
	p := Policy{text: text}
	var err error
	if inner, ok := strings.CutPrefix(text, "/"); ok {
		inner, closed := strings.CutSuffix(inner, "/")
		if !closed || inner == "" {
			return p, &Error{
				Message: strconv.Quote(text) + " begins like a regular expression and does not end like one",
				Hint:    `write it between slashes, like /^16\.\d+-alpine$/`,
			}
		}
		if p.match, err = regexp.Compile(inner); err != nil {
			return p, &Error{Message: "it is no regular expression: " + strings.TrimPrefix(err.Error(), "error parsing regexp: "), Hint: "the syntax is that of RE2"}
		}
		return p, nil
	}
	if p.allowed, err = semver.NewConstraint(text); err != nil || text == "" {
		return p, &Error{
			Message: strconv.Quote(text) + " is no range of versions",
			Hint:    `write one like "~1.4" (1.4.x), "^1.4" (below 2), ">=1.4 <1.9" or "*", or a regular expression between slashes`,
		}
	}
	return p, nil
}

// String is the policy as it was written.
func (p Policy) String() string { return p.text }

// Newest is the highest tag that the policy allows, if it is above the current one.
//
// Of a range only tags of the current one's form count: "1.25-alpine" has nothing to do with
// "1.25.3" or "1.26-bookworm", and "1.26-alpine" is the next. A tag that is no version, such
// as "latest", is compared with the versions of three parts and nothing after them.
func (p Policy) Newest(current string, tags []string) (tag string, newer bool) {
	if p.match != nil {
		return p.newestMatch(current, tags)
	}
	if p.allowed == nil {
		return "", false
	}
	now, known := parse(current)
	best := now
	for _, t := range tags {
		v, ok := parse(t)
		if !ok || !p.allowed.Check(semver.New(v.parts[0], v.parts[1], v.parts[2], "", "")) {
			continue
		}
		if known && !v.follows(now) || !known && (v.count != len(v.parts) || v.suffix != "") {
			continue
		}
		if tag == "" && !known || v.compare(best) > 0 {
			best, tag = v, t
		}
	}
	return tag, tag != ""
}

func (p Policy) newestMatch(current string, tags []string) (tag string, newer bool) {
	best := ""
	if p.match.MatchString(current) {
		best = current
	}
	for _, t := range tags {
		if p.match.MatchString(t) && (best == "" || natural(t, best) > 0) {
			best, tag = t, t
		}
	}
	return tag, tag != "" && tag != current
}

// version is a tag that is one.
type version struct {
	prefix, suffix string
	parts          [3]uint64
	// count is how many parts were written.
	count int
}

var (
	versionTag = regexp.MustCompile(`^(v?)(\d{1,18})(?:\.(\d{1,18}))?(?:\.(\d{1,18}))?(-.+)?$`)
	preRelease = regexp.MustCompile(`^-(alpha|beta|rc|pre|preview|dev)\b`)
)

func parse(tag string) (v version, ok bool) {
	m := versionTag.FindStringSubmatch(tag)
	if m == nil {
		return v, false
	}
	v.prefix, v.suffix = m[1], m[5]
	for i, digits := range m[2:5] {
		if digits == "" {
			break
		}
		v.parts[i], _ = strconv.ParseUint(digits, 10, 64)
		v.count++
	}
	return v, true
}

// follows reports whether v is of the form of the tag that is there now.
func (v version) follows(now version) bool {
	return v.prefix == now.prefix && v.count == now.count &&
		(v.suffix == now.suffix || v.suffix == "" && preRelease.MatchString(now.suffix))
}

func (v version) compare(w version) int {
	c := cmp.Or(cmp.Compare(v.parts[0], w.parts[0]), cmp.Compare(v.parts[1], w.parts[1]), cmp.Compare(v.parts[2], w.parts[2]))
	if c == 0 && v.suffix == "" && w.suffix != "" {
		return 1 // a release is above what came before it
	}
	return c
}

// natural compares texts as people do: 9 comes before 10.
func natural(a, b string) int {
	for a != "" && b != "" {
		x, y := run(a), run(b)
		if c := compareRuns(x, y); c != 0 {
			return c
		}
		a, b = a[len(x):], b[len(y):]
	}
	return cmp.Compare(len(a), len(b))
}

// run is the digits, or what is none, that a text begins with.
func run(s string) string {
	digits := digit(s[0])
	for i := range len(s) {
		if digit(s[i]) != digits {
			return s[:i]
		}
	}
	return s
}

func compareRuns(x, y string) int {
	if !digit(x[0]) || !digit(y[0]) {
		return cmp.Compare(x, y)
	}
	// The lengths alone say more than a number that might not fit.
	m, n := strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
	return cmp.Or(cmp.Compare(len(m), len(n)), cmp.Compare(m, n))
}

func digit(b byte) bool { return '0' <= b && b <= '9' }
