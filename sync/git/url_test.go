package git_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/varanhq/varan/sync/git"
)

func TestSpellingsOfARepositoryAreOne(t *testing.T) {
	for _, group := range [][]string{
		{
			"https://git.example.org/team/repo", "https://git.example.org/team/repo.git", "HTTPS://GIT.example.org:443//team/./repo/",
			"https://git.example.org./team/repo.git/",
		},
		{"http://git.example.org/a", "http://git.example.org:80/a.git"},
		{"https://git.example.org:8443/a"},
		{"https://git.example.org/A"},
		{"ssh://git@git.example.org/team/repo", "git@git.example.org:team/repo.git", "ssh://git@git.example.org:22/team/repo.git", "git@GIT.example.org:/team/repo"},
		{"ssh://git@git.example.org:2222/team/repo"},
		{"https://[2001:db8::1]/a", "https://[2001:DB8:0::1]/a.git"},
		{"/srv/git/repo.git", "file:///srv/git/repo.git", "/srv/git//repo.git/"},
	} {
		want := location(t, group[0]).String()
		for _, raw := range group {
			loc := location(t, raw)
			if got := loc.String(); got != want {
				t.Errorf("%s is %s, want %s", raw, got, want)
			}
			if again := location(t, loc.String()).String(); again != want {
				t.Errorf("%s is not stable: %s", want, again)
			}
			if same := location(t, loc.URL()); same != loc {
				t.Errorf("%s: url %s leads to %+v", raw, loc.URL(), same)
			}
		}
	}
}

func location(t *testing.T, raw string) git.Location {
	t.Helper()
	loc, err := git.ParseURL(raw, []string{"/srv/git"})
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return loc
}

func TestDangerousURLsAreRefused(t *testing.T) {
	for raw, rule := range map[string]string{
		"":                                    "url-empty",
		"ext::sh -c touch%20/tmp/x":           "url-scheme",
		"fd::17":                              "url-scheme",
		"git://git.example.org/a":             "url-scheme",
		"ftp://git.example.org/a":             "url-scheme",
		"-oProxyCommand=touch /tmp/x":         "url-characters",
		"ssh://-oProxyCommand=x/a":            "url-host",
		"git@-oProxyCommand=x:a":              "url-host",
		"-git@host:a":                         "url-characters",
		"git@host:-upload-pack":               "url-characters",
		"ssh://host/-x":                       "url-characters",
		"ssh://host/./-x":                     "url-characters",
		"git@host:./-x":                       "url-characters",
		"https://user:secret@host/a":          "url-credentials",
		"https://secret@host/a":               "url-credentials",
		"ssh://git:secret@host/a":             "url-credentials",
		"git:secret@host:a":                   "url-credentials",
		"https://host/a\nb":                   "url-characters",
		"https://host/a%0ab":                  "url-characters",
		"https://host/a b":                    "url-characters",
		"https://host/a/../../b":              "url-path",
		"https://host/":                       "url-path",
		"https://host":                        "url-path",
		"https:///a":                          "url-host",
		"https://ho st/a":                     "url-syntax",
		"https://host:99999/a":                "url-host",
		"https://host/a?x=1":                  "url-syntax",
		"https://host/a#x":                    "url-syntax",
		"https://host/\xff":                   "url-characters",
		"./relative":                          "url-scheme",
		"../up":                               "url-scheme",
		"relative/path:with-colon":            "url-scheme",
		"/etc":                                "url-local",
		"/srv/git/../../etc":                  "url-local",
		"file:///etc":                         "url-local",
		"file://host/srv/git/a":               "url-syntax",
		"https://host/" + longPath(3000):      "url-characters",
		"https://user:p%zz@host/secret":       "url-syntax",
		"https://host/a\\b":                   "url-characters",
		"ssh://gi$t@host/a":                   "url-syntax",
		"file:///srv/gitignored/outside/repo": "url-local",
	} {
		_, err := git.ParseURL(raw, []string{"/srv/git"})
		bad, ok := errors.AsType[*git.URLError](err)
		if !ok || bad.Rule != rule {
			t.Errorf("%q: %v (%+v), want %s", raw, err, bad, rule)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: error %q repeats the password", raw, err)
		}
	}
}

func longPath(n int) string { return strings.Repeat("x", n) }

func FuzzParseURL(f *testing.F) {
	for _, raw := range []string{
		"https://git.example.org/a/b.git", "git@host:a/b", "ssh://git@[::1]:22/~a/b", "file:///srv/git/x", "/srv/git/x",
		"ext::sh", "https://u:p@h/a", "git@[::1]:a",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		loc, err := git.ParseURL(raw, []string{"/srv/git"})
		if err != nil {
			return
		}
		again, err := git.ParseURL(loc.URL(), []string{"/srv/git"})
		if err != nil || again != loc {
			t.Errorf("%q: url %q leads to %+v, %v", raw, loc.URL(), again, err)
		}
		same, err := git.ParseURL(loc.String(), []string{"/srv/git"})
		if err != nil || same.String() != loc.String() {
			t.Errorf("%q: identity %q becomes %q, %v", raw, loc.String(), same.String(), err)
		}
	})
}
