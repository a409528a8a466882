package alert_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/varanhq/varan/core/alert"
	"github.com/varanhq/varan/fleet"
)

// sendTest runs a service against real endpoints on loopback and sends one test.
func sendTest(t *testing.T, e fleet.Endpoint) error {
	t.Helper()
	s, err := alert.New(alert.Config{
		Store: &memory{open: map[string]alert.Alert{}}, Logger: slog.New(slog.DiscardHandler),
		View: func(context.Context) (alert.View, error) {
			return alert.View{Desired: []fleet.Desired{{Alerters: []fleet.Alerter{{Name: "a", Endpoint: e}}}}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.Test(t.Context(), "a")
}

func TestEachEndpointGetsItsFormat(t *testing.T) {
	t.Parallel()
	for typ, check := range map[fleet.EndpointType]func(r *http.Request, body string) bool{
		fleet.EndpointCustom: func(_ *http.Request, body string) bool {
			var a struct {
				TS       int64
				Resolved bool
				Level    string
				Target   struct{ Type, ID string }
				Data     struct {
					Type string
					Data map[string]any
				}
			}
			err := json.Unmarshal([]byte(body), &a)
			return err == nil && a.TS > 0 && a.Level == "OK" && a.Target.Type == "Alerter" && a.Data.Type == "Test" && a.Data.Data["name"] == "a"
		},
		fleet.EndpointSlack: func(_ *http.Request, body string) bool {
			return strings.Contains(body, `"blocks":[{"type":"header","text":{"type":"plain_text"`) && strings.Contains(body, `"mrkdwn"`)
		},
		fleet.EndpointDiscord: func(_ *http.Request, body string) bool {
			return strings.Contains(body, `"content":`) && strings.Contains(body, `"allowed_mentions":{"parse":[]}`)
		},
		fleet.EndpointNtfy: func(r *http.Request, body string) bool {
			return r.Header.Get("Title") == "OK: Test a" && r.Header.Get("Email") == "me@example.org" && r.Header.Get("Priority") == "default" && body == "a test of the alerter a"
		},
		fleet.EndpointPushover: func(r *http.Request, body string) bool {
			form, err := url.ParseQuery(body)
			return err == nil && form.Get("token") == "t" && form.Get("user") == "u" && form.Get("message") != "" && r.URL.RawQuery == ""
		},
	} {
		var request *http.Request
		var body string
		srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			raw, _ := io.ReadAll(r.Body)
			request, body = r, string(raw)
		}))
		t.Cleanup(srv.Close)
		address := srv.URL + "/hook"
		if typ == fleet.EndpointPushover {
			address += "?token=t&user=u"
		}
		if err := sendTest(t, fleet.Endpoint{Type: typ, URL: fleet.NewSecret(address), Email: "me@example.org"}); err != nil {
			t.Errorf("%s: %v", typ, err)
			continue
		}
		if !check(request, body) {
			t.Errorf("%s got %v\n%s", typ, request.Header, body)
		}
	}
}

func TestRedirectsStayOnTheirHost(t *testing.T) {
	t.Parallel()
	var elsewhere int
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	t.Cleanup(other.Close)
	var target string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hook-canary" {
			http.Redirect(w, r, target, http.StatusTemporaryRedirect)
		}
	}))
	t.Cleanup(srv.Close)
	target = srv.URL + "/moved"
	e := fleet.Endpoint{Type: fleet.EndpointCustom, URL: fleet.NewSecret(srv.URL + "/hook-canary")}
	if err := sendTest(t, e); err != nil {
		t.Errorf("on the same host: %v", err)
	}
	target = other.URL
	err := sendTest(t, e)
	if err == nil || !strings.Contains(err.Error(), "redirects to another host") || strings.Contains(err.Error(), "canary") || elsewhere > 0 {
		t.Errorf("to another host: %v, %d requests there", err, elsewhere)
	}
	err = sendTest(t, fleet.Endpoint{Type: fleet.EndpointCustom, URL: fleet.NewSecret("http://127.0.0.1:1/canary")})
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("nobody there: %v", err)
	}
	for _, address := range []string{"", "ftp://canary/x", "http://%zz/canary", "/canary"} {
		err := sendTest(t, fleet.Endpoint{Type: fleet.EndpointCustom, URL: fleet.NewSecret(address)})
		if err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", address, err)
		}
	}
}
