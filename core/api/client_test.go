package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

func serve(t *testing.T, status int, body string) *api.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer key" {
			t.Errorf("the key was sent as %q", r.Header.Get("Authorization"))
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return &api.Client{BaseURL: server.URL + "/", Key: fleet.NewSecret("key")}
}

func TestEveryRefusalIsAnError(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]api.Error{
		`{"code":"conflict","message":"it exists","hint":"h"}`: {Status: 409, Code: api.CodeConflict, Message: "it exists", Hint: "h"},
		`<html>bad gateway</html>`:                             {Status: 409, Code: api.CodeInternal, Message: "core answered 409 Conflict"},
		``:                                                     {Status: 409, Code: api.CodeInternal, Message: "core answered 409 Conflict"},
	} {
		_, err := serve(t, http.StatusConflict, body).Version(t.Context())
		var e *api.Error
		if !errors.As(err, &e) || e.Status != want.Status || e.Code != want.Code || e.Message != want.Message {
			t.Errorf("%q: got %#v", body, err)
		}
	}
}

func TestNobodyThereIsUnreachable(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	client := &api.Client{BaseURL: server.URL, Key: fleet.NewSecret("canary-9")}
	_, err := client.Status(t.Context())
	if !errors.Is(err, api.ErrUnreachable) || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v", err)
	}
}

func TestAStreamWithoutAnEndIsCutOff(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", `{"kind":"started"}`, `{"kind":"started"}` + "\n" + `{"kind":"do`} {
		_, err := serve(t, http.StatusOK, body).Apply(t.Context(), "main", api.ApplyRequest{}, nil)
		if !errors.Is(err, api.ErrCutOff) {
			t.Errorf("%q: %v", body, err)
		}
	}
	result, err := serve(t, http.StatusOK, `{"kind":"done","done":{"run":"r","status":"failed"}}`).
		Apply(t.Context(), "main", api.ApplyRequest{}, nil)
	if err != nil || result.Status != api.OpFailed {
		t.Errorf("got %+v, %v", result, err)
	}
}

func TestSecretsOnTheirWayPrintAsNothing(t *testing.T) {
	t.Parallel()
	const canary = "canary-12"
	spec := api.SyncSpec{Name: "main", WebhookSecret: canary, Credentials: api.GitCredentials{Password: canary}}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).LogAttrs(t.Context(), slog.LevelInfo, "x",
		slog.Any("secret", spec.WebhookSecret), slog.Any("spec", spec))
	if text := fmt.Sprintf("%v %+v %#v %q %x %s", spec, spec, spec, spec.WebhookSecret, spec.WebhookSecret, spec.WebhookSecret) + log.String(); strings.Contains(text, canary) {
		t.Errorf("printed: %s", text)
	}
	raw, err := json.Marshal(spec.WebhookSecret)
	if err != nil || string(raw) != `"`+canary+`"` {
		t.Errorf("encoded as %s, %v", raw, err)
	}
}
