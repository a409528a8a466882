// Package gitserver serves a repository over smart HTTP on loopback, with Git's own
// http-backend behind it. It is for tests; they commit to it without a work tree.
package gitserver

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/cgi" //nolint:gosec // Httpoxy was mended in Go 1.6.3
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// mainBranch is the branch that Commit commits to and HEAD names.
const mainBranch = "main"

// Server is one bare repository behind HTTP. Its methods fail the test on any error, and
// may be called from many goroutines.
type Server struct {
	tb      testing.TB
	dir     string
	http    *httptest.Server
	backend http.Handler

	mu        sync.Mutex
	counts    map[string]int
	authorize func(*http.Request) bool
	intercept func(http.ResponseWriter, *http.Request) bool
	clock     int
}

// File is one file of a commit.
type File struct {
	Content string
	// Mode is Git's: "100644", "100755", "120000" with the link's target as content, or
	// "160000" with a commit id as content. Empty is "100644".
	Mode string
}

// New starts a server with an empty repository. It stops when the test ends.
func New(tb testing.TB) *Server {
	tb.Helper()
	s := create(tb)
	s.http = httptest.NewServer(s)
	tb.Cleanup(s.http.Close)
	return s
}

// NewTLS is New over https. CA returns the certificate to trust.
func NewTLS(tb testing.TB) *Server {
	tb.Helper()
	s := create(tb)
	s.http = httptest.NewTLSServer(s)
	tb.Cleanup(s.http.Close)
	return s
}

func create(tb testing.TB) *Server {
	tb.Helper()
	s := &Server{tb: tb, dir: filepath.Join(tb.TempDir(), "repo.git"), counts: map[string]int{}}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		tb.Fatalf("create repository: %v", err)
	}
	s.Git("", "init", "--quiet", "--bare", "--initial-branch="+mainBranch, ".")
	backend, err := Backend(tb.Context(), filepath.Dir(s.dir))
	if err != nil {
		tb.Fatalf("find git http-backend: %v", err)
	}
	s.backend = backend
	return s
}

// Backend serves the repositories below root, read-only.
func Backend(ctx context.Context, root string) (http.Handler, error) {
	execPath, err := exec.CommandContext(ctx, "git", "--exec-path").Output()
	if err != nil {
		return nil, fmt.Errorf("ask git for its exec path: %w", err)
	}
	return &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(execPath)), "git-http-backend"),
		Env: append(environment(),
			"GIT_PROJECT_ROOT="+root, "GIT_HTTP_EXPORT_ALL=1"),
		InheritEnv: []string{"PATH"},
	}, nil
}

// environment keeps the machine's and the user's Git settings out.
func environment() []string {
	return []string{
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "HOME=/nonexistent", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org",
		"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org",
		"GIT_AUTHOR_DATE=1700000000 +0000", "GIT_COMMITTER_DATE=1700000000 +0000",
	}
}

// URL is where the repository is served.
func (s *Server) URL() string { return s.http.URL + "/" + filepath.Base(s.dir) }

// Dir is the bare repository's folder.
func (s *Server) Dir() string { return s.dir }

// CA is the certificate of a server made by NewTLS, as PEM.
func (s *Server) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
}

// ServeHTTP counts, authorizes and serves.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/"+filepath.Base(s.dir)+"/")
	s.mu.Lock()
	s.counts[path]++
	authorize, intercept := s.authorize, s.intercept
	s.mu.Unlock()
	if authorize != nil && !authorize(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	if intercept != nil && intercept(w, r) {
		return
	}
	s.backend.ServeHTTP(w, r)
}

// RequireBasic lets only this user in.
func (s *Server) RequireBasic(user, password string) {
	s.setAuthorize(func(r *http.Request) bool {
		u, p, ok := r.BasicAuth()
		return ok && equal(u, user) && equal(p, password)
	})
}

// RequireBearer lets only this token in.
func (s *Server) RequireBearer(token string) {
	s.setAuthorize(func(r *http.Request) bool {
		return equal(r.Header.Get("Authorization"), "Bearer "+token)
	})
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func (s *Server) setAuthorize(authorize func(*http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.authorize = authorize
}

// Intercept has f see each authorized request first; f returns true when it answered.
// A nil f stops that.
func (s *Server) Intercept(f func(http.ResponseWriter, *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = f
}

// Requests returns how many requests came for each path below the repository
// ("info/refs", "git-upload-pack") and starts counting anew.
func (s *Server) Requests() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := s.counts
	s.counts = map[string]int{}
	return counts
}

// Commit adds or replaces files on the main branch and returns the new commit's id.
func (s *Server) Commit(files map[string]string, message string) string {
	s.tb.Helper()
	return s.CommitTo(mainBranch, plain(files), nil, message)
}

// Remove removes files or folders from the main branch and returns the new commit's id.
func (s *Server) Remove(paths ...string) string {
	s.tb.Helper()
	return s.CommitTo(mainBranch, nil, paths, "remove "+strings.Join(paths, ", "))
}

func plain(files map[string]string) map[string]File {
	all := make(map[string]File, len(files))
	for path, content := range files {
		all[path] = File{Content: content}
	}
	return all
}

// CommitTo commits to a branch, which is made when there is none.
func (s *Server) CommitTo(branch string, files map[string]File, remove []string, message string) string {
	s.tb.Helper()
	s.mu.Lock()
	s.clock++
	now := 1_700_000_000 + s.clock
	s.mu.Unlock()
	ref := "refs/heads/" + branch
	var in bytes.Buffer
	fmt.Fprintf(&in, "commit %s\ncommitter Ada <ada@example.org> %d +0000\n", ref, now)
	fmt.Fprintf(&in, "data %d\n%s\n", len(message), message)
	if s.Git("", "for-each-ref", ref) != "" {
		fmt.Fprintf(&in, "from %s^0\n", ref)
	}
	for _, path := range remove {
		fmt.Fprintf(&in, "D %s\n", path)
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		f := files[path]
		switch f.Mode {
		case "160000":
			fmt.Fprintf(&in, "M 160000 %s %s\n", f.Content, path)
			continue
		case "":
			f.Mode = "100644"
		}
		fmt.Fprintf(&in, "M %s inline %s\ndata %d\n%s\n", f.Mode, path, len(f.Content), f.Content)
	}
	s.Git(in.String(), "fast-import", "--quiet", "--force")
	return s.Git("", "rev-parse", ref)
}

// Branch makes or moves a branch to a commit.
func (s *Server) Branch(name, commit string) {
	s.tb.Helper()
	s.Git("", "update-ref", "refs/heads/"+name, commit)
}

// ForcePush moves the main branch to a commit, as a force push does.
func (s *Server) ForcePush(commit string) {
	s.tb.Helper()
	s.Branch(mainBranch, commit)
}

// DeleteBranch deletes a branch.
func (s *Server) DeleteBranch(name string) {
	s.tb.Helper()
	s.Git("", "update-ref", "-d", "refs/heads/"+name)
}

// Git runs git in the repository with stdin and returns what it printed, trimmed.
func (s *Server) Git(stdin string, args ...string) string {
	s.tb.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(s.tb.Context()), "git", args...) //nolint:gosec // the arguments come from tests
	cmd.Dir = s.dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, environment()...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		s.tb.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, errOut.String())
	}
	return strings.TrimSpace(out.String())
}
