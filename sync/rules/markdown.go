package rules

import (
	"bytes"
	"fmt"
	"strings"
)

// Markdown is the page that documents every rule.
func Markdown() []byte {
	var out bytes.Buffer
	out.WriteString(`# Rules

Every finding of ` + "`varan validate`" + ` and of a plan ends with the name of its rule. ` + "`varan explain RULE`" + `
says the same as this page, which is generated from it by ` + "`go generate ./sync/rules`" + `.

Rules that are errors say that something cannot work. The others can be set in ` + "`.varan.toml`" + `
at the root of the repository; validate, plan, core and apply all go by it.

` + "```toml" + `
[rules]
preset = "recommended"     # or "none": no hardening and portability; or "strict": they are errors
image-digest = "off"       # off, note, warn or error

[rules.untrusted]          # for servers of that tier; [rules.trusted] likewise
preset = "strict"

[[exception]]
rule = "published-ports"
stack = "proxy"
service = "traefik"        # optional, as is stack
reason = "it is the way in"
` + "```" + `

A setting for a tier comes before one for all, and a rule before a preset. An exception needs a
reason, which is shown with ` + "`--verbose`" + ` and in JSON; one that matches nothing is reported.
`)
	for _, group := range Groups() {
		fmt.Fprintf(&out, "\n## %s\n\n%s\n", group, group.About())
		for _, e := range All() {
			if e.Group == group {
				e.markdown(&out)
			}
		}
	}
	return out.Bytes()
}

func (e Entry) markdown(out *bytes.Buffer) {
	set := ""
	if e.Configurable() {
		set = ", can be set"
	}
	fmt.Fprintf(out, "\n### %s\n\n%s (%s%s). %s\n", e.ID, plainText(e.Title), e.Severity, set, plainText(e.Why))
	for _, example := range []struct{ head, text string }{{"Instead of", e.Bad}, {"Write", e.Good}} {
		if example.text != "" {
			fmt.Fprintf(out, "\n%s:\n\n```\n%s\n```\n", example.head, example.text)
		}
	}
}

// plainText keeps double brackets and angles from being read as links and HTML.
func plainText(text string) string {
	return strings.NewReplacer("[[", `\[\[`, "<", `\<`).Replace(text)
}
