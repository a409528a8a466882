package git_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/gitserver"
	"github.com/varanhq/varan/sync/git"
)

const token = "tok-3f9c1b7e"

func TestCredentials(t *testing.T) {
	for _, tc := range []struct {
		name   string
		server func(*gitserver.Server)
		source git.Source
		want   error
	}{
		{"user and password", func(s *gitserver.Server) { s.RequireBasic("ada", token) }, git.Source{Username: "ada", Password: fleet.NewSecret(token)}, nil},
		{"token alone", func(s *gitserver.Server) { s.RequireBasic("x-access-token", token) }, git.Source{Password: fleet.NewSecret(token)}, nil},
		{"bearer", func(s *gitserver.Server) { s.RequireBearer(token) }, git.Source{Password: fleet.NewSecret(token), Bearer: true}, nil},
		{"wrong password", func(s *gitserver.Server) { s.RequireBasic("ada", "other") }, git.Source{Username: "ada", Password: fleet.NewSecret(token)}, git.ErrAuth},
		{"none", func(s *gitserver.Server) { s.RequireBasic("ada", token) }, git.Source{}, git.ErrAuth},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := gitserver.New(t)
			srv.Commit(map[string]string{"a": "1"}, "one")
			tc.server(srv)
			var log bytes.Buffer
			dir := t.TempDir()
			tc.source.URL = srv.URL()
			m := openWith(t, git.Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))}, tc.source)
			_, _, err := m.Fetch(t.Context())
			if !errors.Is(err, tc.want) || (tc.want != nil && !git.Permanent(err)) {
				t.Errorf("fetch: %v, want %v", err, tc.want)
			}
			if strings.Contains(fmt.Sprint(err), token) || strings.Contains(log.String(), token) {
				t.Error("the token is in the error or the log")
			}
			noSecretOnDisk(t, dir)
		})
	}
}

func noSecretOnDisk(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(token)) {
			t.Errorf("%s holds the token", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPrivateCAIsTrustedForItsSourceOnly(t *testing.T) {
	srv := gitserver.NewTLS(t)
	srv.Commit(map[string]string{"a": "1"}, "one")
	m := openWith(t, git.Config{Dir: t.TempDir()}, git.Source{URL: srv.URL(), CA: srv.CA()})
	fetch(t, m)
	other := openWith(t, git.Config{Dir: t.TempDir()}, git.Source{URL: srv.URL()})
	if _, _, err := other.Fetch(t.Context()); !errors.Is(err, git.ErrTLS) || !git.Permanent(err) {
		t.Errorf("without the CA: %v", err)
	}
	if _, err := git.Open(git.Config{Dir: t.TempDir()}, git.Source{URL: srv.URL(), CA: []byte("no PEM")}); !errors.Is(err, git.ErrTLS) {
		t.Errorf("with a broken CA: %v", err)
	}
}

func TestProxyOfTheSourceIsUsed(t *testing.T) {
	srv := gitserver.New(t)
	srv.Commit(map[string]string{"a": "1"}, "one")
	target, err := url.Parse(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	var used atomic.Int32
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		used.Add(1)
		r.Out.URL.Scheme, r.Out.URL.Host = "http", target.Host
	}}
	proxy := httptest.NewServer(forward)
	t.Cleanup(proxy.Close)
	m := openWith(t, git.Config{Dir: t.TempDir()}, git.Source{
		URL: "http://git.example.org/" + filepath.Base(srv.Dir()), Proxy: proxy.URL,
	})
	fetch(t, m)
	if used.Load() == 0 {
		t.Error("the proxy saw nothing")
	}
}

func TestCredentialsNeverFollowARedirectToAnotherHost(t *testing.T) {
	srv := gitserver.New(t)
	srv.Commit(map[string]string{"a": "1"}, "one")
	var leaked atomic.Bool
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		leaked.Store(true)
	}))
	t.Cleanup(thief.Close)
	srv.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, thief.URL+r.URL.RequestURI(), http.StatusFound)
		return true
	})
	m := openWith(t, git.Config{Dir: t.TempDir()}, git.Source{URL: srv.URL(), Password: fleet.NewSecret(token)})
	if _, _, err := m.Fetch(t.Context()); !errors.Is(err, git.ErrRedirect) {
		t.Errorf("fetch: %v", err)
	}
	if leaked.Load() {
		t.Error("the other host was asked")
	}
}

func TestRenamedRepositoryIsFollowedOnTheSameHost(t *testing.T) {
	srv := gitserver.New(t)
	srv.Commit(map[string]string{"a": "1"}, "one")
	srv.RequireBasic("x-access-token", token)
	old := strings.TrimSuffix(srv.URL(), "repo.git") + "old.git"
	srv.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/old.git/") {
			return false
		}
		http.Redirect(w, r, "/repo.git/"+strings.TrimPrefix(r.URL.RequestURI(), "/old.git/"), http.StatusMovedPermanently)
		return true
	})
	m := openWith(t, git.Config{Dir: t.TempDir()}, git.Source{URL: old, Password: fleet.NewSecret(token)})
	if got := read(t, fetch(t, m), "a"); got != "1" {
		t.Errorf("a is %q", got)
	}
}

func TestServerFaultsAreClassifiedAndKeepTheOldTree(t *testing.T) {
	const advert = "application/x-git-upload-pack-advertisement"
	status := func(code int, header ...string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			if len(header) == 2 {
				w.Header().Set(header[0], header[1])
			}
			w.WriteHeader(code)
			return true
		}
	}
	body := func(path, contentType, text string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, path) {
				return false
			}
			w.Header().Set("Content-Type", contentType)
			_, _ = w.Write([]byte(text))
			return true
		}
	}
	for _, tc := range []struct {
		name      string
		intercept func(http.ResponseWriter, *http.Request) bool
		want      error
		permanent bool
		after     time.Duration
	}{
		{"401", status(401), git.ErrAuth, true, 0},
		{"403", status(403), git.ErrAuth, true, 0},
		{"404", status(404), git.ErrNotFound, true, 0},
		{"429", status(429, "Retry-After", "17"), nil, false, 17 * time.Second},
		{"500", status(500), nil, false, 0},
		{"503", status(503, "Retry-After", "soon"), nil, false, 0},
		{"a page for people", body("info/refs", "text/html", "<html>"), git.ErrNotFound, true, 0},
		{"nothing", body("info/refs", advert, ""), nil, false, 0},
		{"cut list", body("info/refs", advert, "001e# service=git-upload-pack\n0000003f"), nil, false, 0},
		{"malformed list", body("info/refs", advert, "001e# service=git-upload-pack\n0000000cnonsense"), nil, false, 0},
		{"sha256", body("info/refs", advert, "0000"+pkt(strings.Repeat("0", 64)+" capabilities^{}\x00object-format=sha256\n")+"0000"), git.ErrUnsupported, true, 0},
		{"empty list", body("info/refs", advert, "00000000"), git.ErrRef, true, 0},
		{"message of the server", body("info/refs", advert, pkt("ERR access denied to "+token+"\x1b[31m\n")), nil, false, 0},
		{"no pack", body("git-upload-pack", "application/x-git-upload-pack-result", ""), nil, false, 0},
		{"garbage pack", body("git-upload-pack", "application/x-git-upload-pack-result", pkt("NAK\n")+pkt("\x01PACKgarbage")+"0000"), git.ErrCorrupt, false, 0},
		{"cut pack", body("git-upload-pack", "application/x-git-upload-pack-result", pkt("NAK\n")+pkt("\x01PACK\x00\x00\x00\x02\x00\x00\x00\x07")), nil, false, 0},
		{"promise of four billion objects", body("git-upload-pack", "application/x-git-upload-pack-result", pkt("NAK\n")+pkt("\x01PACK\x00\x00\x00\x02\xff\xff\xff\xff")+"0000"), git.ErrCorrupt, false, 0},
		{"error in the pack", body("git-upload-pack", "application/x-git-upload-pack-result", pkt("NAK\n")+pkt("\x03out of memory\n")), nil, false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := gitserver.New(t)
			srv.Commit(map[string]string{"a": "1"}, "one")
			dir := t.TempDir()
			m := openWith(t, git.Config{Dir: dir}, git.Source{URL: srv.URL(), Password: fleet.NewSecret(token)})
			old := fetch(t, m)
			srv.Commit(map[string]string{"a": "2"}, "two")
			srv.Intercept(tc.intercept)
			_, _, err := m.Fetch(t.Context())
			if err == nil || (tc.want != nil && !errors.Is(err, tc.want)) || git.Permanent(err) != tc.permanent {
				t.Errorf("fetch: %v (permanent %t), want %v (%t)", err, git.Permanent(err), tc.want, tc.permanent)
			}
			if got := git.RetryAfter(err); got != tc.after {
				t.Errorf("retry after %s, want %s", got, tc.after)
			}
			if text := fmt.Sprint(err); strings.Contains(text, token) || strings.Contains(text, "\x1b") {
				t.Errorf("error %q repeats what it must not", text)
			}
			if current, ok := m.Current(); !ok || current != old || read(t, current, "a") != "1" {
				t.Error("the old tree is gone")
			}
			noLeftovers(t, dir)
			srv.Intercept(nil)
			if got := read(t, fetch(t, m), "a"); got != "2" {
				t.Errorf("after the fault a is %q", got)
			}
		})
	}
}

func pkt(payload string) string { return fmt.Sprintf("%04x%s", len(payload)+4, payload) }

// noLeftovers makes sure that nothing temporary is left below dir.
func noLeftovers(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if name := filepath.Base(path); strings.HasPrefix(name, "tmp") || strings.HasPrefix(name, "clone-") {
			t.Errorf("%s is left", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestStalledServerIsGivenUp(t *testing.T) {
	hang := func(path string, first string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, path) {
				return false
			}
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			if first != "" {
				_, _ = w.Write([]byte(first))
				w.(http.Flusher).Flush()
			}
			// A server notices that the client left only once it has read the request.
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			return true
		}
	}
	for _, tc := range []struct {
		name      string
		intercept func(http.ResponseWriter, *http.Request) bool
	}{
		{"before the list", hang("info/refs", "")},
		{"within the list", hang("info/refs", "001e# service=git-upload-pack\n0000")},
		{"before the pack", hang("git-upload-pack", "")},
		{"within the pack", hang("git-upload-pack", pkt("NAK\n")+pkt("\x01PACK"))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := gitserver.New(t)
			srv.Commit(map[string]string{"a": "1"}, "one")
			srv.Intercept(tc.intercept)
			dir := t.TempDir()
			m := openWith(t, git.Config{Dir: dir, Limits: git.Limits{Timeout: 300 * time.Millisecond}}, git.Source{URL: srv.URL()})
			start := time.Now()
			if _, _, err := m.Fetch(t.Context()); err == nil || git.Permanent(err) {
				t.Errorf("fetch: %v", err)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("gave up after %s", took)
			}
			noLeftovers(t, dir)
		})
	}
}

func TestBranches(t *testing.T) {
	srv := gitserver.New(t)
	m := openWith(t, git.Config{Dir: t.TempDir()}, git.Source{URL: srv.URL(), Branch: "main"})
	if _, _, err := m.Fetch(t.Context()); !errors.Is(err, git.ErrRef) {
		t.Errorf("empty repository: %v", err)
	}
	id := srv.Commit(map[string]string{"a": "1"}, "one")
	fetch(t, m)
	srv.Branch("release/1.x", id)
	srv.Git("", "tag", "release", id)
	named := openWith(t, git.Config{Dir: t.TempDir()}, git.Source{URL: srv.URL(), Branch: "release/1.x"})
	if c := fetch(t, named).Commit(); c.Branch != "release/1.x" {
		t.Errorf("branch is %q", c.Branch)
	}
	srv.Git("", "symbolic-ref", "HEAD", "refs/heads/release/1.x")
	def := openWith(t, git.Config{Dir: t.TempDir()}, git.Source{URL: srv.URL()})
	if c := fetch(t, def).Commit(); c.Branch != "release/1.x" {
		t.Errorf("default branch is %q", c.Branch)
	}
	srv.DeleteBranch("main")
	if _, _, err := m.Fetch(t.Context()); !errors.Is(err, git.ErrRef) || !git.Permanent(err) {
		t.Errorf("deleted branch: %v", err)
	}
	if _, ok := m.Current(); !ok {
		t.Error("the last good commit is gone with the branch")
	}
	for _, bad := range []string{"../../x", "a..b", "-x", "a b", "x.lock", "a//b", "@{1}", "a\nb", strings.Repeat("x", 300), "release"} {
		b, err := git.Open(git.Config{Dir: t.TempDir()}, git.Source{URL: srv.URL(), Branch: bad})
		if err == nil {
			_, _, err = b.Fetch(t.Context())
			_ = b.Close()
		}
		if !errors.Is(err, git.ErrRef) {
			t.Errorf("branch %q: %v", bad, err)
		}
	}
}
