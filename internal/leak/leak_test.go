package leak_test

import (
	"strings"
	"testing"

	"github.com/varanhq/varan/internal/leak"
)

// The secrets are put together here, so that no scanner takes this file for a leak.
func TestFindKnowsSecretsByTheirForm(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("aB3", 20)
	for name, tc := range map[string]struct{ text, kind string }{
		"private key":       {"x\n-----BEGIN RSA " + "PRIVATE KEY-----\nabc", "a private key"},
		"certificate":       {"-----BEGIN CERTIFICATE-----\nabc", ""},
		"public key":        {"-----BEGIN PUBLIC KEY-----\nabc", ""},
		"age":               {"AGE-SECRET-" + "KEY-1" + strings.Repeat("Q", 58), "an age identity"},
		"aws":               {"id = AKIA" + "ABCDEFGHIJ234567", "an AWS access key"},
		"aws documentation": {"AKIA" + "IOSFODNN7EXAMPLE", ""},
		"github":            {"ghp" + "_" + long[:36], "a GitHub token"},
		"github new":        {"github" + "_pat_" + long, "a GitHub token"},
		"gitlab":            {"glpat" + "-" + long[:20], "a GitLab token"},
		"slack":             {"xoxb" + "-1234567890-" + long, "a Slack token"},
		"jwt":               {"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0." + long, "a signed token (JWT)"},
		"an image":          {"ghcr.io/org/app:1.2.3@sha256:" + strings.Repeat("ab", 32), ""},
		"ghost":             {"ghost_of_christmas_past_is_a_long_value_here", ""},
	} {
		if kind, at := leak.Find(tc.text); kind != tc.kind || at > len(tc.text) {
			t.Errorf("%s: Find = %q, want %q", name, kind, tc.kind)
		}
	}
}

func TestPasswordGoesByTheNameAndSparesWhatIsNone(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, value string
		want        bool
	}{
		{"POSTGRES_PASSWORD", "hunter22", true},
		{"dbPassword", "hunter22", true},
		{"MYSQL_ROOT_PASSWORD", "12345", true},
		{"API_KEY", "0a1b2c3d4e", true},
		{"JWT_SECRET", "long-random-text", true},
		{"CLOUDFLARE_API_TOKEN", "abcdefabcdef", true},
		{"REDIS_URL", "redis://:hunter22@cache:6379", true},
		{"DATABASE_URL", "postgres://app:${DB_PASSWORD}@db/app", false},
		{"DATABASE_URL", "postgres://db/app", false},
		{"POSTGRES_PASSWORD", "${DB_PASSWORD}", false},
		{"POSTGRES_PASSWORD", "[[DB_PASSWORD]]", false},
		{"POSTGRES_PASSWORD_FILE", "/run/secrets/db", false},
		{"DB_PASSWORD", "/run/secrets/db", false},
		{"DB_PASSWORD", "", false},
		{"DB_PASSWORD", "<your password>", false},
		{"DB_PASSWORD", "********", false},
		{"TOKEN_LIFETIME", "a long while", false},
		{"ACCESS_TOKEN", "3600", false},
		{"MAX_TOKENS", "4096-or-so", false},
		{"PASSWORD_MIN_LENGTH", "12-chars", false},
		{"PUBLIC_API_KEY", "abcdef012345", false},
		{"ENABLE_PASSWORD", "maybe", false},
		{"KEY", "abcdef", false},
		{"PWD", "/srv", false},
		{"TITLE", "hunter22", false},
	} {
		if got := leak.Password(tc.name, tc.value); got != tc.want {
			t.Errorf("Password(%s, %q) = %v, want %v", tc.name, tc.value, got, tc.want)
		}
	}
}
