package procedure

import (
	"strings"
	"testing"
)

func TestPatternsChooseNames(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		pattern   string
		yes, nope string
	}{
		{"web", "web", "webs web2 aweb"},
		{"web, db\nmail", "web db mail", "webdb ,"},
		{"web-*", "web- web-1 web-a-b", "web aweb-1"},
		{"*", "a web", ""},
		{"w?b", "web wab", "wb weeb"},
		{"*-prod-*", "a-prod-b -prod-", "a-prod prod"},
		{`\^web-[0-9]{1,2}$\`, "web-1 web-12", "web-123 aweb-1"},
		{`\b\`, "b abc", "ac"},
		{`\^\d+$\, db`, "12 db", "a1"},
		{"web # the front\n# db\nmail", "web mail", "db the"},
		{"", "", "web"},
		{" , \n,", "", "web ,"},
	} {
		p, err := parsePattern(tc.pattern)
		if err != nil {
			t.Errorf("%q: %v", tc.pattern, err)
			continue
		}
		for name := range strings.FieldsSeq(tc.yes) {
			if !p.matches(name) {
				t.Errorf("%q does not choose %s", tc.pattern, name)
			}
		}
		for name := range strings.FieldsSeq(tc.nope) {
			if p.matches(name) {
				t.Errorf("%q chooses %s", tc.pattern, name)
			}
		}
	}
	for _, bad := range []string{`\(\`, `\never ends`, `a, \[\`, strings.Repeat("a", maxPattern+1)} {
		if _, err := parsePattern(bad); err == nil {
			t.Errorf("%.20q is taken", bad)
		}
	}
}

func FuzzPattern(f *testing.F) {
	f.Add("web-*, \\^a\\\n# x", "web-1")
	f.Add(strings.Repeat("*a", 50), strings.Repeat("a", 100))
	f.Fuzz(func(t *testing.T, pattern, name string) {
		p, err := parsePattern(pattern)
		if err != nil {
			return
		}
		got := p.matches(name)
		if len(p.exact) == 1 && len(p.wild)+len(p.regex) == 0 && got != (p.exact[0] == name) {
			t.Errorf("the plain name %q chooses %q: %v", pattern, name, got)
		}
	})
}
