package web

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/varanhq/varan/core/api"
)

//go:embed home.html
var homePage string

// homePolicy lets the page have its own style, known by its hash, and nothing else.
var homePolicy = sync.OnceValue(func() string {
	_, rest, _ := strings.Cut(homePage, "<style>")
	style, _, _ := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
})

// home says to anybody what this is and whether it is well, and nothing about the fleet.
func (s *server) home(w http.ResponseWriter, r *http.Request) {
	state, says, status := "good", "core is up and ready", http.StatusOK
	if err := s.Ready(r.Context()); err != nil {
		state, says, status = "bad", "core is up, but not ready; its log says why", http.StatusServiceUnavailable
	}
	h := w.Header()
	h.Add("Vary", "Accept")
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "varan "+says+"\nnext: varan login\n")
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", homePolicy())
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, strings.NewReplacer("STATE", state, "SAYS", "Varan "+says+".").Replace(homePage))
}

// elsewhere hands what is the API's to those with a key. Anything else is not there: who
// looks for an icon has not failed to log in.
func elsewhere(guarded http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") || strings.HasPrefix(r.URL.Path, "/openapi") {
			guarded.ServeHTTP(w, r)
			return
		}
		nothingHere(w)
	})
}

func nothingHere(w http.ResponseWriter) {
	writeError(w, &api.Error{
		Status: http.StatusNotFound, Code: api.CodeNotFound, Message: "there is nothing here",
		Hint: "GET /openapi.json describes the API",
	})
}
