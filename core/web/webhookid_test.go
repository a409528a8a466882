package web_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestIDsOfKomodoInAddressesOfWebhooks(t *testing.T) {
	t.Parallel()
	const known, unknown = "66b0c1d2e3f4a5b6c7d8e9f0", "66b0c1d2e3f4a5b6c7d8e9f1"
	f := newFixture(t)
	f.hookNames = map[string]string{known: "main"}
	secret := f.addSync(t, true)
	for path, want := range map[string]int{
		"/listener/github/sync/main/sync":                     http.StatusAccepted,
		"/listener/github/sync/" + known + "/sync":            http.StatusAccepted,
		"/listener/github/sync/" + unknown + "/sync":          http.StatusNotFound,
		"/listener/github/stack/" + unknown + "/deploy":       http.StatusNotFound,
		"/listener/github/procedure/" + unknown + "/main":     http.StatusNotFound,
		"/listener/github/sync/66B0C1D2E3F4A5B6C7D8E9F0/sync": http.StatusUnauthorized,
	} {
		push := githubPush(secret, `{"ref":"refs/heads/main","after":"`+path+`"}`)
		push.path = path
		status, body := f.deliver(t, push)
		if status != want {
			t.Errorf("POST %s: %d, want %d: %s", path, status, want, body)
		}
		if want == http.StatusNotFound {
			right := strings.Replace(path, unknown, "NAME", 1)
			if !strings.Contains(body, right) || !strings.Contains(body, `ids = [`) {
				t.Errorf("POST %s does not say where to: %s", path, body)
			}
		}
	}
	forged := githubPush("guess", pushBody)
	forged.path = "/listener/github/sync/" + known + "/sync"
	if status, _ := f.deliver(t, forged); status != http.StatusUnauthorized {
		t.Errorf("an id that is mapped lets a stranger in: %d", status)
	}
}
