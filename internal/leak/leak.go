// Package leak recognises secrets in plain text: keys and tokens by a form that nothing
// else has, passwords by the name they are given. It returns what a secret is and where,
// never the secret.
package leak

import (
	"regexp"
	"slices"
	"strings"
)

// form is a kind of secret that is known by its form.
type form struct {
	// hint is in every such secret; looking for it is cheap.
	hint    string
	kind    string
	pattern *regexp.Regexp
}

var forms = []form{
	{"PRIVATE KEY", "a private key", regexp.MustCompile(`-{5}BEGIN [A-Z0-9 ]*PRIVATE KEY`)},
	{"AGE-SECRET-KEY-", "an age identity", regexp.MustCompile(`AGE-SECRET-KEY-1[0-9A-Z]{50,}`)},
	{"AKIA", "an AWS access key", regexp.MustCompile(`\bAKIA[A-Z0-9]{16}`)},
	{"ASIA", "an AWS access key", regexp.MustCompile(`\bASIA[A-Z0-9]{16}\b`)},
	{"gh", "a GitHub token", regexp.MustCompile(`\bgh[pousr]_[A-Za-z0-9]{36}`)},
	{"github_pat_", "a GitHub token", regexp.MustCompile(`\bgithub_pat_[A-Za-z0-9_]{40}`)},
	{"glpat-", "a GitLab token", regexp.MustCompile(`\bglpat-[A-Za-z0-9_-]{20}`)},
	{"xox", "a Slack token", regexp.MustCompile(`\bxox[abeoprs]-[A-Za-z0-9-]{20}`)},
	{"hooks.slack.com/", "a Slack webhook", regexp.MustCompile(`hooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{16}`)},
	{"/api/webhooks/", "a Discord webhook", regexp.MustCompile(`discord(?:app)?\.com/api/webhooks/[0-9]{15,}/[A-Za-z0-9_-]{50}`)},
	{"dckr_pat_", "a Docker Hub token", regexp.MustCompile(`\bdckr_pat_[A-Za-z0-9_-]{20}`)},
	{"npm_", "an npm token", regexp.MustCompile(`\bnpm_[A-Za-z0-9]{36}`)},
	{"_live_", "a Stripe key", regexp.MustCompile(`\b[sr]k_live_[A-Za-z0-9]{20}`)},
	{"AIza", "a Google API key", regexp.MustCompile(`\bAIza[A-Za-z0-9_-]{35}`)},
	{"tskey-", "a Tailscale key", regexp.MustCompile(`\btskey-(?:auth|api|client)-[A-Za-z0-9]{8,}-[A-Za-z0-9]{16}`)},
	{"eyJ", "a signed token (JWT)", regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20}`)},
}

// Find says what secret a text holds and at which byte it begins; "" when none is known
// by its form. Keys that documentations use as examples do not count.
func Find(text string) (kind string, at int) {
	if len(text) < 20 {
		return "", 0
	}
	for _, f := range forms {
		if !strings.Contains(text, f.hint) {
			continue
		}
		for _, m := range f.pattern.FindAllStringIndex(text, -1) {
			if !strings.Contains(text[m[0]:m[1]], "EXAMPLE") {
				return f.kind, m[0]
			}
		}
	}
	return "", 0
}

// credentials is a URL with a password in it. A variable is none.
var credentials = regexp.MustCompile(`[a-z][a-z0-9+.-]*://[^\s:/@$]*:([^\s/@]+)@`)

// Password says whether an entry of an environment is a password written out: by the name
// of the entry, or because its value is a URL with one. It errs on the side of silence.
func Password(name, value string) bool {
	if strings.Contains(value, "://") {
		for _, m := range credentials.FindAllStringSubmatch(value, -1) {
			if !placeholder(m[1]) {
				return true
			}
		}
		return false
	}
	kind := secretName(name)
	if kind == "" || placeholder(value) || strings.ContainsAny(value, " \t") {
		return false
	}
	if kind != "PASSWORD" && strings.Trim(value, "0123456789.") == "" {
		return false // TOKEN: 3600 is a time, not a token
	}
	return len(value) >= 4
}

// secretName is the kind of secret that a variable's name promises, or "".
func secretName(name string) string {
	words := strings.FieldsFunc(strings.ToUpper(split(name)), func(r rune) bool {
		return r == '_' || r == '-' || r == '.'
	})
	if len(words) == 0 || slices.ContainsFunc(words, func(w string) bool { return slices.Contains(harmless, w) }) {
		return ""
	}
	last := words[len(words)-1]
	switch last {
	case "PASSWORD", "PASSWD", "PASSPHRASE", "PASS", "PW", "PWD":
		if len(words) == 1 && last == "PWD" {
			return "" // the working directory
		}
		return "PASSWORD"
	case "SECRET", "TOKEN", "APIKEY", "CREDENTIALS":
		return last
	case "KEY":
		if len(words) > 1 && slices.Contains(keyWords, words[len(words)-2]) {
			return last
		}
	}
	for _, suffix := range []string{"PASSWORD", "PASSWD", "APIKEY", "APITOKEN"} {
		if strings.HasSuffix(last, suffix) {
			return "PASSWORD"
		}
	}
	return ""
}

var (
	// harmless words make a name one about a secret rather than of one.
	harmless = []string{
		"PUBLIC", "FILE", "PATH", "DIR", "ENABLED", "ENABLE", "DISABLE", "REQUIRED", "ALLOW", "MIN", "MAX", "LENGTH",
		"POLICY", "PROMPT", "RESET", "SHOW", "HIDE", "EMPTY", "EXPIRY", "EXPIRATION", "LIFETIME", "AUTHENTICATION",
	}
	// keyWords make KEY the name of a secret.
	keyWords = []string{"API", "SECRET", "ACCESS", "PRIVATE", "ENCRYPTION", "SIGNING", "AUTH", "JWT", "MASTER", "SESSION", "ADMIN", "APP"}
)

// split puts a line between the words of dbPassword.
func split(name string) string {
	if strings.ToUpper(name) == name || strings.ContainsAny(name, "_-.") {
		return name
	}
	var out strings.Builder
	lower := false
	for _, r := range name {
		upper := r >= 'A' && r <= 'Z'
		if upper && lower {
			out.WriteByte('_')
		}
		lower = !upper
		out.WriteRune(r)
	}
	return out.String()
}

// placeholder reports values that stand for a secret instead of being one.
func placeholder(value string) bool {
	value = strings.TrimSpace(strings.Trim(value, `"'`))
	if value == "" || strings.ContainsAny(value, "$<>{}") || strings.Contains(value, "[[") ||
		strings.HasPrefix(value, "/") || strings.HasPrefix(value, "./") || strings.HasPrefix(value, "ENC[") {
		return true
	}
	if strings.Trim(value, "*xX.-_") == "" {
		return true
	}
	switch strings.ToLower(value) {
	case "true", "false", "yes", "no", "on", "off", "none", "null", "nil", "disabled", "enabled", "default", "required":
		return true
	}
	return false
}
