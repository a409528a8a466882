package docker_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/agent/docker"
	"github.com/varanhq/varan/agent/policy"
	"github.com/varanhq/varan/wire"
)

// openPolicy is an engine whose Docker is away and whose host allows what p says.
func openPolicy(t *testing.T, p policy.Policy) *docker.Engine {
	t.Helper()
	e, err := docker.New(docker.Config{
		Server: "alpha", Dir: t.TempDir(), Worker: []string{os.Args[0], "fake-worker", "ok"},
		Host: "unix:///does/not/exist.sock", Policy: p,
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// readFiles returns what the engine lets core read: path to content, "-" for missing.
func readFiles(t *testing.T, e *docker.Engine, dir string, files ...string) (map[string]string, error) {
	t.Helper()
	var out bytes.Buffer
	err := e.Files(t.Context(), wire.FilesRequest{Dir: dir, Files: files}, &out)
	got := map[string]string{}
	for decoder := json.NewDecoder(&out); ; {
		var f wire.HostFile
		switch e := decoder.Decode(&f); {
		case errors.Is(e, io.EOF):
			return got, err
		case e != nil:
			t.Fatal(e)
		}
		got[f.Path] = string(f.Content)
		if f.Missing {
			got[f.Path] = "-"
		}
	}
}

func TestCoreReadsOnlyWhereThePolicyLetsIt(t *testing.T) {
	t.Parallel()
	host := t.TempDir()
	srv := filepath.Join(host, "srv")
	put(t, filepath.Join(srv, "web", "compose.yaml"), "services: {}")
	put(t, filepath.Join(srv, "web", "conf", "a.toml"), "a")
	put(t, filepath.Join(srv, "web", ".git", "config"), "no")
	put(t, filepath.Join(host, "secret"), "canary")
	for link, to := range map[string]string{
		filepath.Join(srv, "web", "out"):          filepath.Join(host, "secret"),
		filepath.Join(srv, "away"):                host,
		filepath.Join(host, "in"):                 filepath.Join(srv, "web"),
		filepath.Join(srv, "web", "conf", "link"): filepath.Join(host, "secret"),
	} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	e := openPolicy(t, policy.Policy{HostDirectories: []string{srv}})

	got, err := readFiles(t, e, filepath.Join(srv, "web"), "compose.yaml", "conf", "none.yaml", ".")
	want := map[string]string{"compose.yaml": "services: {}", "conf/a.toml": "a", "none.yaml": "-"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
	if got, err := readFiles(t, e, filepath.Join(host, "in"), "compose.yaml"); err != nil || len(got) != 1 {
		t.Errorf("a link into an allowed directory: %v, %v", got, err)
	}
	if got, err := readFiles(t, e, filepath.Join(srv, "not-yet"), "compose.yaml"); err != nil || got["compose.yaml"] != "-" {
		t.Errorf("a directory that is not there: %v, %v", got, err)
	}
	for name, req := range map[string]wire.FilesRequest{
		"a directory next to it":   {Dir: host, Files: []string{"secret"}},
		"a link out of it":         {Dir: filepath.Join(srv, "away"), Files: []string{"secret"}},
		"dots":                     {Dir: srv + "/../", Files: []string{"secret"}},
		"a file behind a link":     {Dir: filepath.Join(srv, "web"), Files: []string{"out"}},
		"a path with dots":         {Dir: filepath.Join(srv, "web"), Files: []string{"../../secret"}},
		"an absolute path":         {Dir: srv, Files: []string{filepath.Join(host, "secret")}},
		"a relative directory":     {Dir: "srv", Files: []string{"x"}},
		"a directory of the agent": {Dir: "/proc/self", Files: []string{"environ"}},
		"nothing":                  {Dir: srv},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := e.Files(t.Context(), req, &out)
			refusal, ok := errors.AsType[*wire.Error](err)
			if !ok || refusal.Code != wire.CodeDenied && refusal.Code != wire.CodeBadRequest {
				t.Errorf("got %v, want a refusal", err)
			}
			if strings.Contains(out.String(), "canary") || out.Len() > 0 {
				t.Errorf("read %q", out.String())
			}
		})
	}
}

func TestFilesOfAHostHaveLimits(t *testing.T) {
	t.Parallel()
	srv := t.TempDir()
	put(t, filepath.Join(srv, "big"), strings.Repeat("x", wire.MaxHostFile+1))
	e := openPolicy(t, policy.Policy{HostDirectories: []string{srv}})
	_, err := readFiles(t, e, srv, "big")
	if refusal, ok := errors.AsType[*wire.Error](err); !ok || refusal.Code != wire.CodeTooLarge {
		t.Errorf("got %v", err)
	}
}
