package web_test

import (
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

func (f *fixture) browse(t *testing.T, path, accept string) (status int, header http.Header, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.server.URL+path, http.NoBody)
	must(t, err)
	req.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, resp.Header, string(raw)
}

const browser = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"

func TestTheFrontPageSaysWhatThisIsAndNothingOfTheFleet(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSync(t, true)
	status, header, page := f.browse(t, "/", browser)
	if status != http.StatusOK || header.Get("Content-Type") != "text/html; charset=utf-8" || header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", status, header)
	}
	for _, want := range []string{"Varan core is up and ready.", "varan login", "/healthz"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, leak := range []string{"1.2.3", "main", "example.org", "ada", "STATE", "SAYS"} {
		if strings.Contains(strings.ReplaceAll(page, "<main>", ""), leak) && leak != "main" {
			t.Errorf("the page tells strangers %q", leak)
		}
	}
	policy := header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") || strings.Contains(policy, "unsafe") {
		t.Errorf("its policy is %q", policy)
	}
	if found := regexp.MustCompile(`(?i)<script|<link|<img|https?://|style=`).FindString(page); found != "" {
		t.Errorf("the page has %q", found)
	}
	status, header, text := f.browse(t, "/", "*/*")
	if status != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), "text/plain") || !strings.Contains(text, "varan login") {
		t.Errorf("to a program it says %d %q", status, text)
	}
	f.ready = errors.New("secret trouble")
	status, _, page = f.browse(t, "/", browser)
	if status != http.StatusServiceUnavailable || !strings.Contains(page, "not ready") || strings.Contains(page, "trouble") {
		t.Errorf("a core that is not ready says %d", status)
	}
}

func TestA062WhatIsNotThereIsNoFailedLogin(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 20 {
		for _, path := range []string{"/favicon.ico", "/robots.txt", "/login", "/api", "/index.html"} {
			if status, _, body := f.browse(t, path, browser); status != http.StatusNotFound {
				t.Fatalf("GET %s: %d %s", path, status, body)
			}
		}
	}
	if status, _, _ := f.browse(t, "/api/v1/status", browser); status != http.StatusUnauthorized {
		t.Errorf("the first request without a key gets %d", status)
	}
}
