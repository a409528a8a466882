package render_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
	"github.com/varanhq/varan/sync/render"
)

// elsewhere is what lies outside the sync's own tree. It counts what it is asked for.
type elsewhere struct {
	// repositories are by "provider/owner/name branch commit".
	repositories map[string]repo
	// hosts are the directories of servers, by "server dir".
	hosts map[string]repo

	mu    sync.Mutex
	asked []string
}

func (e *elsewhere) note(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = append(e.asked, what)
}

func (e *elsewhere) Repository(_ context.Context, ref render.RepositoryRef) (render.Checkout, error) {
	name := strings.TrimSpace(fmt.Sprintf("%s/%s %s %s", ref.Provider, ref.Repo, ref.Branch, ref.Commit))
	e.note(name)
	r, ok := e.repositories[name]
	if !ok {
		return render.Checkout{}, errors.New("authentication failed for account " + ref.Account)
	}
	tree, err := memory(r)
	return render.Checkout{Tree: tree, Commit: fleet.Commit{ID: "of " + name, Branch: ref.Branch}}, err
}

func (e *elsewhere) HostDirectory(_ context.Context, server, dir string, files []string) (compose.Tree, error) {
	e.note(server + " " + dir)
	r, ok := e.hosts[server+" "+dir]
	if !ok {
		return nil, errors.New("the agent is not connected")
	}
	given := repo{}
	for name, text := range r {
		if slices.Contains(files, name) {
			given[name] = text
		}
	}
	return memory(given)
}

func memory(r repo) (*render.Memory, error) {
	files := map[string][]byte{}
	for name, text := range r {
		files[name] = []byte(text)
	}
	return render.MemTree(files, nil)
}

// withDB is the basic repository with more in the configuration of the stack db.
func withDB(config string) repo {
	r := basic()
	r["fleet.toml"] = strings.Replace(r["fleet.toml"], `run_directory = "db"`, "run_directory = \"db\"\n"+config, 1)
	return r
}

func TestTheOwnRepositoryIsKnownByIdentity(t *testing.T) {
	const https = "https://git.example.com/house/docker.git"
	for name, tc := range map[string]struct {
		config, repository string
		// note is the place of the note that files are elsewhere.
		note string
	}{
		"own":                {`repo = "house/docker"`, https, ""},
		"own with branch":    {"repo = \"house/docker\"\nbranch = \"main\"", https, ""},
		"own by ssh":         {`repo = "house/docker"`, "ssh://git@git.example.com/house/docker", ""},
		"own in scp form":    {`repo = "House/Docker"`, "git@git.example.com:house/docker.git", ""},
		"own by address":     {`repo = "https://git.example.com/house/docker/"`, https, ""},
		"own by provider":    {"repo = \"house/docker/\"\ngit_provider = \"Git.Example.com\"", https, ""},
		"own link":           {`linked_repo = "docker"`, https, ""},
		"unknown":            {`repo = "house/docker"`, "", ""},
		"other branch":       {"repo = \"house/docker\"\nbranch = \"dev\"", https, "fleet.toml:28:1"},
		"pinned":             {"repo = \"house/docker\"\ncommit = \"abc\"", https, "fleet.toml:28:1"},
		"other provider":     {"repo = \"house/docker\"\ngit_provider = \"github.com\"", https, "fleet.toml:28:1"},
		"other":              {`repo = "house/other"`, https, "fleet.toml:28:1"},
		"other with end":     {`repo = "ouse/docker"`, https, "fleet.toml:28:1"},
		"unknown, not here":  {"repo = \"house/docker\"\nfile_paths = [\"x.yaml\"]", "", "fleet.toml:28:1"},
		"other link":         {`linked_repo = "other"`, https, "fleet.toml:28:1"},
		"inline elsewhere":   {"repo = \"house/other\"\nfile_contents = \"services: {a: {image: a}}\"", "x/y", ""},
		"files on a host":    {"files_on_host = true\nrun_directory = \"/srv/db\"", https, "fleet.toml:28:1"},
		"a link that is own": {"linked_repo = \"mine\"\n[[repo]]\nname = \"mine\"\n[repo.config]\nrepo = \"house/docker\"", https, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := withDB(tc.config)
			if strings.HasPrefix(tc.config, "files_on_host") {
				r["fleet.toml"] = strings.Replace(r["fleet.toml"], "run_directory = \"db\"\nfiles", "auto_pull = true\nfiles", 1)
				r["fleet.toml"] = strings.Replace(r["fleet.toml"], "auto_pull = false\n", "", 1)
			}
			r["fleet.toml"] = moveEnvironment(r["fleet.toml"])
			in := input(t, r, "")
			in.Repository, in.Offline = tc.repository, true
			in.Commit.Branch = "main"
			out := mustRender(t, newRenderer(), in)
			_, desired := out.Desired.Stack("db")
			if desired != (tc.note == "") {
				t.Errorf("desired is %v; found:\n%s", desired, out.Diagnostics)
			}
			if tc.note != "" {
				wantFinding(t, out.Diagnostics, fleet.SeverityNote, "elsewhere-not-checked", tc.note)
			}
		})
	}
}

// moveEnvironment keeps the rest of a table before tables that a test adds in its middle.
func moveEnvironment(text string) string {
	const rest = "auto_pull = false\nenvironment = \"LEVEL = info\"\n"
	if !strings.Contains(text, "[[repo]]") {
		return text
	}
	text = strings.Replace(text, rest, "", 1)
	return strings.Replace(text, "run_directory = \"db\"\n", "run_directory = \"db\"\nenvironment = \"LEVEL = info\"\n", 1)
}

func TestStacksOfManyRepositories(t *testing.T) {
	r := repo{"fleet.toml": `[[server]]
name = "alpha"
[[repo]]
name = "tools"
[repo.config]
git_provider = "git.example.com"
repo = "house/tools"
branch = "live"
git_account = "me"
[[stack]]
name = "linked"
server = "alpha"
linked_repo = "tools"
run_directory = "a"
[[stack]]
name = "linked-too"
server = "alpha"
linked_repo = "tools"
run_directory = "b"
[[stack]]
name = "own-fields"
server = "alpha"
git_provider = "git.example.com"
repo = "https://git.example.com/house/tools.git"
branch = "live"
git_account = "me"
run_directory = "c"
project_name = "tools"
[[stack]]
name = "pinned"
server = "alpha"
repo = "house/docker"
commit = "0123abcd"
[[stack]]
name = "lost"
server = "alpha"
repo = "house/lost"
git_account = "nobody"
[[stack]]
name = "here"
server = "alpha"
run_directory = "here"
`, "here/compose.yaml": "services: {a: {image: a}}\n"}
	src := &elsewhere{repositories: map[string]repo{
		"git.example.com/house/tools live": {
			"a/compose.yaml": "services:\n  a:\n    image: a\n    volumes: [\"./conf:/conf\"]\n", "a/conf/x": "tools",
			"b/compose.yaml": "services: {b: {image: b}}\n",
			"c/compose.yaml": "services: {c: {image: c, extra: 1}}\n",
		},
		"git.example.com/house/docker main 0123abcd": {"compose.yaml": "services: {p: {image: p:old}}\n"},
	}}
	in := input(t, r, "c1")
	in.Sources, in.Commit.Branch = src, "main"
	renderer := newRenderer()
	out, err := renderer.Render(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(src.asked)
	want := []string{"git.example.com/house/docker main 0123abcd", "git.example.com/house/tools live", "github.com/house/lost main"}
	if diff := cmp.Diff(want, src.asked); diff != "" {
		t.Errorf("repositories opened (-want +got):\n%s", diff)
	}
	wantFinding(t, out.Diagnostics, fleet.SeverityError, "source-unavailable", "fleet.toml:37:1")
	wantFinding(t, out.Diagnostics, fleet.SeverityError, "unknown-key", "git.example.com/house/tools: c/compose.yaml:1:26")
	got := map[string]string{}
	for _, s := range out.Desired.Stacks {
		got[s.Name] = s.Release.Source.Repository + " " + s.Release.Source.Commit.ID
		if s.Unreadable != "" {
			got[s.Name] = s.Unreadable
			continue
		}
		if s.Release.Commit.ID != "c1" {
			t.Errorf("%s is of commit %s", s.Name, s.Release.Commit.ID)
		}
		for _, f := range s.Release.Files {
			if data, err := out.Content.Blob(t.Context(), f.Digest); err != nil || string(data) != "tools" {
				t.Errorf("%s of %s: %q, %v", f.Path, s.Name, data, err)
			}
		}
	}
	tools := "git.example.com/house/tools of git.example.com/house/tools live"
	wantStacks := map[string]string{
		"linked": tools, "linked-too": tools, "here": " ",
		"lost":   "the repository github.com/house/lost cannot be read: authentication failed for account nobody",
		"pinned": "git.example.com/house/docker of git.example.com/house/docker main 0123abcd",
	}
	if diff := cmp.Diff(wantStacks, got); diff != "" {
		t.Errorf("stacks and their sources (-want +got):\n%s", diff)
	}

	// Nothing but the other repository moves: its stack alone is loaded.
	src.repositories["git.example.com/house/tools live"]["b/compose.yaml"] = "services: {b: {image: b:2}}\n"
	in.Commit.ID = "c2"
	again, err := renderer.Render(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if again.Loads != 1 {
		t.Errorf("%d stacks are loaded again, want 1", again.Loads)
	}
}

func TestFilesOnAHost(t *testing.T) {
	r := repo{"fleet.toml": `[[server]]
name = "alpha"
[[stack]]
name = "dns"
[stack.config]
server = "alpha"
files_on_host = true
run_directory = "/opt/dns/"
file_paths = ["main.yaml"]
`}
	src := &elsewhere{hosts: map[string]repo{"alpha /opt/dns": {
		"main.yaml":    "include: [more.yaml]\nservices:\n  dns:\n    image: dns:${TAG}\n    env_file: [dns.env]\n    volumes: [\"./zones:/zones\"]\n",
		"more.yaml":    "services:\n  log:\n    extends: {file: base.yaml, service: base}\n",
		"base.yaml":    "services:\n  base: {image: log}\n",
		"dns.env":      "A=1\n",
		".env":         "TAG=7\n",
		"other.secret": "not asked for",
	}}}
	in := input(t, r, "c1")
	in.Sources = src
	renderer := newRenderer()
	out := mustRender(t, renderer, in)
	release := stack(t, out, "dns").Release
	if release.Options.Dir != "/opt/dns" || len(release.Files) != 0 {
		t.Errorf("directory %q, files %v", release.Options.Dir, release.Files)
	}
	fields := map[string]string{}
	for _, s := range release.Services {
		for _, f := range s.Fields {
			fields[s.Name+" "+f.Path] = f.Value
		}
	}
	for path, want := range map[string]string{
		"dns image": "dns:7", "dns volumes[0]": "/opt/dns/zones:/zones", "log image": "log",
	} {
		if fields[path] != want {
			t.Errorf("%s is %q, want %q in %v", path, fields[path], want, fields)
		}
	}
	model, err := out.Content.Blob(t.Context(), release.Model)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(model), `"/opt/dns/zones"`) {
		t.Errorf("the bind is not absolute: %s", model)
	}
	src.asked, in.Commit.ID = nil, "c2"
	if again := mustRender(t, renderer, in); again.Loads != 0 || len(src.asked) != 1 {
		t.Errorf("without a change: %d loads, asked for %v", again.Loads, src.asked)
	}
	src.hosts["alpha /opt/dns"]["base.yaml"] = "services:\n  base: {image: \"log:2\"}\n"
	in.Commit.ID = "c3"
	if again := mustRender(t, renderer, in); again.Loads != 1 {
		t.Errorf("a changed file of the host: %d loads", again.Loads)
	}
	src.hosts = nil
	in.Commit.ID = "c4"
	gone, err := renderer.Render(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	wantFinding(t, gone.Diagnostics, fleet.SeverityError, "source-unavailable", "fleet.toml:7:1")
	if s := stack(t, gone, "dns"); !strings.HasPrefix(s.Unreadable, "/opt/dns cannot be read: ") || s.Release.Digest != "" {
		t.Errorf("unreadable %q, release %v", s.Unreadable, s.Release)
	}
}

func TestAnAbsoluteRunDirectoryInsideTheCloneIsOneOfTheRepository(t *testing.T) {
	r := repo{"fleet.toml": `[[server]]
name = "alpha"
[[stack]]
name = "proxy"
server = "alpha"
run_directory = "/home/me/.komodo/stacks/proxy"
file_paths = ["stacks/proxy/docker-compose.yml"]
repo = "house/docker"
`, "stacks/proxy/docker-compose.yml": "services:\n  p:\n    image: p\n    volumes: [\"./conf:/conf\"]\n", "stacks/proxy/conf/a": "1"}
	out := mustRender(t, newRenderer(), input(t, r, "c1"))
	wantFinding(t, out.Diagnostics, fleet.SeverityNote, "absolute-run-directory", "fleet.toml:6:1")
	if files := stack(t, out, "proxy").Release.Files; len(files) != 1 || files[0].Path != "stacks/proxy/conf/a" {
		t.Errorf("files: %v", files)
	}
	for _, dir := range []string{"/home/me/.komodo/stacks/proxy/stacks/proxy\"", "/srv/proxy/stacks/proxy\"\nclone_path = \"/srv/proxy/\""} {
		text := strings.NewReplacer("/home/me/.komodo/stacks/proxy\"", dir, "stacks/proxy/docker", "docker").Replace(r["fleet.toml"])
		out := mustRender(t, newRenderer(), input(t, repo{
			"fleet.toml": text, "stacks/proxy/docker-compose.yml": r["stacks/proxy/docker-compose.yml"], "stacks/proxy/conf/a": "1",
		}, "c1"))
		if files := stack(t, out, "proxy").Release.Files; len(files) != 1 {
			t.Errorf("%s: files: %v", dir, files)
		}
	}
	r["fleet.toml"] = strings.Replace(r["fleet.toml"], "stacks/proxy\"\nfile", "stacks/other\"\nfile", 1)
	refused, err := newRenderer().Render(t.Context(), input(t, r, "c1"))
	if err != nil {
		t.Fatal(err)
	}
	wantFinding(t, refused.Diagnostics, fleet.SeverityError, "path-outside", "fleet.toml:6:1")
}
