package web_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

// post sends a body as a script with curl does, and returns the status and the answer.
func post(t *testing.T, f *fixture, path, authorization, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.BaseURL+path, strings.NewReader(body))
	must(t, err)
	req.Header.Set("Authorization", authorization)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(text)
}

func TestKomodoClientsSetVariables(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	parts := strings.Split(f.Key.Reveal(), "_")
	bearer := "Bearer " + parts[1] + ":" + parts[2]
	status, text := post(t, f, "/api/variable", bearer,
		`{"name": "ADMIN_TOKEN", "value": "canary-7", "is_secret": true, "description": "of the vault"}`)
	if status != http.StatusOK || strings.Contains(text, "canary") || !strings.Contains(text, `"is_secret":true`) {
		t.Errorf("status %d: %s", status, text)
	}
	// What a later request leaves out stays: a secret never becomes readable by omission.
	if status, text = post(t, f, "/api/variable", bearer, `{"name": "ADMIN_TOKEN", "value": "canary-8"}`); status != http.StatusOK {
		t.Errorf("status %d: %s", status, text)
	}
	variables, err := f.Variables(t.Context())
	must(t, err)
	want := []api.Variable{{Name: "ADMIN_TOKEN", Secret: true, Description: "of the vault"}}
	if diff := cmp.Diff(want, variables, cmpopts.IgnoreFields(api.Variable{}, "Updated")); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
	for name, body := range map[string]string{
		"no value": `{"name": "ADMIN_TOKEN", "is_secret": false}`,
		"bad name": `{"name": "1 2", "value": "x"}`,
		"no name":  `{"value": "x"}`,
		"not JSON": `canary-9`,
	} {
		status, text := post(t, f, "/api/variable", bearer, body)
		if status < 400 || status >= 500 || strings.Contains(text, "canary") {
			t.Errorf("%s: status %d: %s", name, status, text)
		}
	}
	if status, _ := post(t, f, "/api/variable", "Bearer nobody:nothing", `{"name": "X", "value": "x"}`); status != http.StatusUnauthorized {
		t.Errorf("without a key: status %d", status)
	}
	if strings.Contains(f.log.String(), "canary") {
		t.Error("the log holds a secret")
	}
}

func TestAVariableKeepsItsScope(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	scope := fleet.Scope{Tags: []string{"scope:all"}, Servers: []string{"a"}, ServerTags: []string{"edge"}, Stacks: []string{"web"}}
	_, err := f.SetVariable(t.Context(), "TOKEN", api.VariableSpec{Value: "x", Secret: true, Scope: scope})
	must(t, err)
	variables, err := f.Variables(t.Context())
	must(t, err)
	if diff := cmp.Diff(scope, variables[0].Scope); diff != "" {
		t.Error(diff)
	}
	_, err = f.SetVariable(t.Context(), "TOKEN", api.VariableSpec{Value: "x", Scope: fleet.Scope{Tags: []string{"scope:Trusted"}}})
	wantError(t, err, http.StatusBadRequest, api.CodeBadRequest)
}
