package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

// importCore is a core with one server, and what was set in it.
type importCore struct {
	projects api.HostProjects
	files    map[string]api.ProjectFiles
	set      map[string]api.VariableSpec
}

func (c *importCore) serve(t *testing.T) {
	t.Helper()
	mux := http.NewServeMux()
	answer := func(pattern string, f func(r *http.Request) any) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { _ = json.NewEncoder(w).Encode(f(r)) })
	}
	answer("GET /api/v1/servers/alpha", func(*http.Request) any { return api.Server{Name: "alpha", Tier: fleet.TierTrusted} })
	answer("GET /api/v1/servers/alpha/projects", func(*http.Request) any { return c.projects })
	answer("GET /api/v1/servers/alpha/projects/{name}/files", func(r *http.Request) any { return c.files[r.PathValue("name")] })
	answer("GET /api/v1/variables", func(*http.Request) any { return []api.Variable{} })
	answer("PUT /api/v1/variables/{name}", func(r *http.Request) any {
		var v api.VariableSpec
		_ = json.NewDecoder(r.Body).Decode(&v)
		c.set[r.PathValue("name")] = v
		return api.Variable{}
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	t.Setenv("VARAN_CORE", srv.URL)
	t.Setenv("VARAN_API_KEY", "vk1_a_b")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
}

func (c *importCore) project(name string, files ...string) {
	f := api.ProjectFiles{Project: name, Dir: "/srv/" + name, ComposeFiles: []string{"compose.yaml"}}
	for i := 0; i < len(files); i += 2 {
		f.Files = append(f.Files, api.HostFile{Path: files[i], Mode: 0o644, Content: []byte(files[i+1])})
	}
	c.files[name] = f
	c.projects.Projects = append(c.projects.Projects, api.HostProject{Name: name, WorkingDir: f.Dir})
}

func newImportCore(t *testing.T) *importCore {
	t.Helper()
	c := &importCore{files: map[string]api.ProjectFiles{}, set: map[string]api.VariableSpec{}}
	c.projects.Projects = []api.HostProject{{Name: "db", Server: "alpha", Stack: "database"}}
	c.projects.Loose = []api.HostContainer{{Name: "lone"}}
	c.project("web", "compose.yaml", "services: {app: {image: 'app:${TAG}', environment: {DB_PASSWORD: hunter2hunter2}}}\n",
		".env", "TAG=1\nAPI_TOKEN=canary-token-1\n")
	c.project("media", "compose.yaml", "services: {app: {image: 'media:1', volumes: ['./data:/data']}}\n")
	media := c.files["media"]
	media.Mounts = []string{"data"}
	c.files["media"] = media
	c.serve(t)
	return c
}

func runVaran(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// tree reads every file below a directory.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(name)
		rel, _ := filepath.Rel(dir, name)
		files[filepath.ToSlash(rel)] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestImportWritesWhatDeclaresTheProjects(t *testing.T) {
	c := newImportCore(t)
	dir := filepath.Join(t.TempDir(), "fleet")
	if code, _, stderr := runVaran("import", "alpha", "--out", dir, "--dry-run"); code != 0 || !strings.Contains(stderr, "would write") {
		t.Fatalf("dry run: %d %s", code, stderr)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Fatal("a dry run wrote something")
	}
	code, stdout, stderr := runVaran("import", "alpha", "--out", dir, "--set-secrets")
	if code != 0 {
		t.Fatalf("%d\n%s", code, stderr)
	}
	want := map[string]string{
		"stacks.toml": `[[server]]
name = "alpha"

[[stack]]
name = "media"
[stack.config]
server = "alpha"
auto_pull = false
files_on_host = true
run_directory = "/srv/media"

[[stack]]
name = "web"
[stack.config]
server = "alpha"
auto_pull = false
run_directory = "stacks/web"
environment = """
TAG = 1
API_TOKEN = [[WEB_API_TOKEN]]
"""
`,
		"stacks/web/.env.example": "TAG=\nAPI_TOKEN=\n",
		"stacks/web/compose.yaml": "services: {app: {image: 'app:${TAG}', environment: {DB_PASSWORD: \"${WEB_DB_PASSWORD}\"}}}\n",
	}
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for _, text := range []string{"is stack database of Varan already", "not a Compose project", "mount or are built from data", "git add", "varan plan"} {
		if !strings.Contains(stdout+stderr, text) {
			t.Errorf("no %q in\n%s%s", text, stdout, stderr)
		}
	}
	if strings.Contains(stdout+stderr, "canary") || strings.Contains(stdout+stderr, "hunter2") {
		t.Error("a secret is shown")
	}
	token := c.set["WEB_API_TOKEN"]
	if len(c.set) != 2 || token.Value.Secret().Reveal() != "canary-token-1" || !token.Secret || !cmp.Equal(token.Stacks, []string{"web"}) {
		t.Errorf("set in core: %+v", c.set)
	}
	// Again: everything is declared, and nothing is touched.
	code, stdout, _ = runVaran("import", "alpha", "--out", dir)
	if code != 0 || !strings.Contains(stdout, "is declared already at") {
		t.Errorf("again: %d %s", code, stdout)
	}
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Errorf("files after a second time (-want +got):\n%s", diff)
	}
}

func TestImportAddsToWhatIsThere(t *testing.T) {
	newImportCore(t)
	repo := t.TempDir()
	put := func(name, content string) {
		t.Helper()
		path := filepath.Join(repo, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(".git/HEAD", "ref: refs/heads/main\n")
	put("servers.toml", "[[server]]\nname = \"alpha\"\n")
	put("home/stacks.toml", "# by hand\n[[stack]]\nname = \"web\"\nserver = \"beta\"\nfile_contents = \"services: {a: {image: 'a:1'}}\"\n")
	put("home/stacks/web-alpha/compose.yaml", "something else\n")
	out := filepath.Join(repo, "home")
	before := tree(t, repo)
	code, _, stderr := runVaran("import", "alpha", "web", "--out", out)
	if code != 4 || !strings.Contains(stderr, "stacks/web-alpha/compose.yaml exists with other content") || !strings.Contains(stderr, "hint: --force") {
		t.Errorf("%d %s", code, stderr)
	}
	if diff := cmp.Diff(before, tree(t, repo)); diff != "" {
		t.Errorf("something was written (-want +got):\n%s", diff)
	}
	if code, _, stderr = runVaran("import", "alpha", "web", "--out", out, "--force"); code != 0 || !strings.Contains(stderr, "varan secret set WEB_ALPHA_API_TOKEN --stack web-alpha") {
		t.Fatalf("%d %s", code, stderr)
	}
	got := tree(t, repo)["home/stacks.toml"]
	if !strings.HasPrefix(got, "# by hand\n") || strings.Contains(got, "[[server]]") || !strings.Contains(got, `run_directory = "home/stacks/web-alpha"`) ||
		!strings.Contains(got, `project_name = "web"`) {
		t.Errorf("stacks.toml:\n%s", got)
	}
}

func TestImportTrustsNoPathOfAHost(t *testing.T) {
	c := newImportCore(t)
	for _, name := range []string{"../../evil.yaml", "/etc/evil.yaml", ".git/hooks/evil.yaml", "a/../../evil.yaml"} {
		c.project("bad", name, "services: {}\n")
		dir := t.TempDir()
		if code, _, stderr := runVaran("import", "alpha", "bad", "--out", dir); code == 0 || !strings.Contains(stderr, "no path inside its project") {
			t.Errorf("%s: %d %s", name, code, stderr)
		}
		if len(tree(t, dir)) > 0 {
			t.Errorf("%s: files were written", name)
		}
		c.projects.Projects = c.projects.Projects[:len(c.projects.Projects)-1]
	}
}

func TestImportSaysWhatItCannotImport(t *testing.T) {
	c := newImportCore(t)
	c.files["web"] = api.ProjectFiles{
		Project: "web", Dir: "/srv/web", ComposeFiles: []string{"compose.yaml"},
		Diagnostics: fleet.Diagnostics{{Rule: "unknown-key", Severity: fleet.SeverityError, Message: "unknown key `imgae`"}},
	}
	code, stdout, stderr := runVaran("import", "alpha", "--out", t.TempDir(), "--json")
	var result imported
	if err := json.NewDecoder(strings.NewReader(stdout)).Decode(&result); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	if code != 1 || len(result.Projects) != 3 || !strings.Contains(stdout, "imgae") || !strings.Contains(stderr, "1 project not imported") {
		t.Errorf("%d %s %s", code, stdout, stderr)
	}
	if code, _, stderr = runVaran("import", "alpha", "wbe"); code != 64 || !strings.Contains(stderr, "did you mean web?") {
		t.Errorf("%d %s", code, stderr)
	}
	if code, _, _ = runVaran("import", "alpha", "db", "--out", t.TempDir()); code != 1 {
		t.Errorf("a project that is Varan's: %d", code)
	}
	faulty := t.TempDir()
	if err := os.WriteFile(filepath.Join(faulty, "a.toml"), []byte("[[stack]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr = runVaran("import", "alpha", "--out", faulty); code != 4 || !strings.Contains(stderr, "varan validate") {
		t.Errorf("a faulty repository: %d %s", code, stderr)
	}
}
