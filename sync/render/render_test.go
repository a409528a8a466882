package render_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/render"
)

// repo is a repository of a few stacks by file.
type repo map[string]string

func (r repo) with(changes map[string]string) repo {
	out := maps.Clone(r)
	maps.Copy(out, changes)
	return out
}

func (r repo) tree(tb testing.TB) *render.Memory {
	tb.Helper()
	files := map[string][]byte{}
	for name, text := range r {
		files[name] = []byte(text)
	}
	tree, err := render.MemTree(files, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return tree
}

func basic() repo {
	return repo{
		"fleet.toml": `[[server]]
name = "alpha"
enabled = true

[[variable]]
name = "DOMAIN"
value = "example.org"

[[stack]]
name = "web"
tags = ["front", "tier:any"]
deploy = true
[stack.config]
server = "alpha"
run_directory = "web"
environment = """
HOST = web.[[DOMAIN]]
PASS = [[PASSWORD]]
"""

[[stack]]
name = "db"
after = ["web"]
tags = ["tier:any"]
[stack.config]
server = "alpha"
run_directory = "db"
auto_pull = false
environment = "LEVEL = info"
`,
		"web/compose.yaml": "services:\n  app:\n    image: a\n    environment: {HOST: \"${HOST}\", P: \"${PASS}\"}\n    volumes: [\"./html:/html\"]\n",
		"web/html/index":   "hello",
		"db/compose.yaml":  "services:\n  db:\n    image: d\n    hostname: ${LEVEL}\n",
	}
}

// anywhere is the scope of a secret for all servers.
var anywhere = fleet.Scope{Tags: []string{"scope:all"}}

func input(tb testing.TB, r repo, commit string) render.Input {
	tb.Helper()
	return render.Input{
		Sync: "main", Commit: fleet.Commit{ID: commit}, Tree: r.tree(tb),
		Variables:  []render.Variable{{Name: "PASSWORD", Value: "zq9secret", Secret: true, Scope: anywhere}},
		Repository: "https://git.example.com/house/docker.git",
	}
}

func newRenderer() *render.Renderer { return render.New(render.Config{Key: []byte("a key for tests")}) }

// mustRender renders a tree that has no fault.
func mustRender(tb testing.TB, r *render.Renderer, in render.Input) render.Output {
	tb.Helper()
	out, err := r.Render(tb.Context(), in)
	if err != nil {
		tb.Fatal(err)
	}
	if out.Diagnostics.HasErrors() {
		tb.Fatalf("Render: %v", out.Diagnostics)
	}
	return out
}

func stack(tb testing.TB, out render.Output, name string) fleet.Stack {
	tb.Helper()
	s, ok := out.Desired.Stack(name)
	if !ok {
		tb.Fatalf("no stack %s", name)
	}
	return s
}

func TestRenderMakesDesiredState(t *testing.T) {
	out := mustRender(t, newRenderer(), input(t, basic(), "c1"))
	if out.Loads != 2 || len(out.Desired.Servers) != 1 || out.Desired.Servers[0].Tier != fleet.TierTrusted {
		t.Errorf("%d loads, servers %+v", out.Loads, out.Desired.Servers)
	}
	web, db := stack(t, out, "web"), stack(t, out, "db")
	if !web.Deploy || web.Server != "alpha" || !web.Release.Options.Pull || web.Origin.String() != "fleet.toml:9:1" {
		t.Errorf("web: %+v", web)
	}
	if diff := cmp.Diff([]string{"web"}, db.After); diff != "" || db.Release.Options.Pull || db.Release.Commit.ID != "c1" {
		t.Errorf("db: %+v", db)
	}
	data, err := json.Marshal(out.Desired)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "zq9secret") {
		t.Error("the secret is in the desired state")
	}
	var env string
	for _, f := range web.Release.Files {
		blob, err := out.Content.Blob(t.Context(), f.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if f.Path == ".env" && f.Secret {
			env = string(blob)
		}
	}
	if !strings.Contains(env, "HOST=web.example.org\nPASS=zq9secret\n") {
		t.Errorf("environment file: %q", env)
	}
	if _, err := out.Content.Blob(t.Context(), web.Release.Model); err != nil {
		t.Error(err)
	}
	if _, err := out.Content.Blob(t.Context(), fleet.SumDigest(nil)); err == nil {
		t.Error("a foreign digest is served")
	}
}

func TestOnlyWhatChangedIsLoaded(t *testing.T) {
	fleetFile := basic()["fleet.toml"]
	for name, tc := range map[string]struct {
		changes map[string]string
		vars    []render.Variable
		loads   int
	}{
		"nothing":             {map[string]string{}, nil, 0},
		"a readme":            {map[string]string{"README.md": "x", "docs/a": "y"}, nil, 0},
		"a compose file":      {map[string]string{"db/compose.yaml": "services: {db: {image: e, hostname: \"${LEVEL}\"}}\n"}, nil, 1},
		"a mounted file":      {map[string]string{"web/html/index": "bye"}, nil, 1},
		"a file that was not": {map[string]string{"db/.env": "LEVEL=debug\n"}, nil, 1},
		"an unused file":      {map[string]string{"db/notes.txt": "x"}, nil, 0},
		"lines above":         {map[string]string{"fleet.toml": "# one\n# two\n" + fleetFile}, nil, 0},
		"a variable":          {map[string]string{"fleet.toml": strings.Replace(fleetFile, "example.org", "example.net", 1)}, nil, 1},
		"the tier": {map[string]string{
			"fleet.toml": strings.Replace(fleetFile, "enabled = true", "enabled = true\ntags = [\"untrusted\"]", 1),
		}, nil, 2},
		"a secret in core": {map[string]string{}, []render.Variable{{Name: "PASSWORD", Value: "other", Secret: true, Scope: anywhere}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRenderer()
			mustRender(t, r, input(t, basic(), "c1"))
			next := input(t, basic().with(tc.changes), "c2")
			if tc.vars != nil {
				next.Variables = tc.vars
			}
			got := mustRender(t, r, next)
			if got.Loads != tc.loads {
				t.Errorf("%d stacks loaded, want %d", got.Loads, tc.loads)
			}
			want := mustRender(t, newRenderer(), next)
			if diff := cmp.Diff(want.Desired, got.Desired); diff != "" {
				t.Errorf("cached and fresh renders differ (-fresh +cached):\n%s", diff)
			}
			if diff := cmp.Diff(want.Diagnostics, got.Diagnostics); diff != "" {
				t.Errorf("cached and fresh diagnostics differ (-fresh +cached):\n%s", diff)
			}
			for _, s := range got.Desired.Stacks {
				for _, f := range s.Release.Files {
					if _, err := got.Content.Blob(t.Context(), f.Digest); err != nil {
						t.Error(err)
					}
				}
			}
			if again := mustRender(t, r, next); again.Loads != 0 {
				t.Errorf("the same commit loads %d stacks again", again.Loads)
			}
		})
	}
}

func TestACommitCannotRaiseTheTierOfAServer(t *testing.T) {
	r := basic()
	r["db/compose.yaml"] = "services: {db: {image: d, hostname: \"${LEVEL}\", privileged: true}}\n"
	in := input(t, r, "c1")
	in.KnownServers = []fleet.Server{{Name: "alpha", Enabled: true, Tier: fleet.TierUntrusted}}
	out, err := newRenderer().Render(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	wantFinding(t, out.Diagnostics, fleet.SeverityError, "privileged", "db/compose.yaml:1:49")
	if out.Desired.Servers[0].Tier != fleet.TierUntrusted {
		t.Error("the server is trusted")
	}
}

func TestStacksOfOneServerMustNotCollide(t *testing.T) {
	r := repo{
		"fleet.toml": `[[server]]
name = "alpha"
enabled = true
[[stack]]
name = "one"
server = "alpha"
file_paths = ["a.yaml"]
project_name = "p"
[[stack]]
name = "two"
server = "alpha"
file_paths = ["a.yaml"]
project_name = "p"
`,
		"a.yaml": "services:\n  app:\n    image: a\n    container_name: mine\n    ports: [\"8080:80\", \"9000-9001:90\"]\n",
	}
	out, err := newRenderer().Render(t.Context(), input(t, r, "c1"))
	if err != nil {
		t.Fatal(err)
	}
	wantFinding(t, out.Diagnostics, fleet.SeverityError, "project-taken", "fleet.toml:9:1")
	wantFinding(t, out.Diagnostics, fleet.SeverityError, "container-name-taken", "a.yaml:4:5")
	wantFinding(t, out.Diagnostics, fleet.SeverityWarning, "port-taken", "a.yaml:5:13")
}

func TestFixtureFleetsRender(t *testing.T) {
	for _, dir := range []string{"../../testdata/fleets/minimal", "../../testdata/fleets/homelab", "../../examples/homelab", "../../examples/quickstart"} {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			tree, err := render.DirTree(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tree.Close() }()
			out := mustRender(t, newRenderer(), render.Input{Sync: "local", Tree: tree, Offline: true})
			if len(out.Desired.Stacks) == 0 {
				t.Error("no stacks")
			}
			for _, d := range out.Diagnostics {
				if d.Severity == fleet.SeverityWarning {
					t.Logf("%s", d)
				}
			}
		})
	}
}

func wantFinding(tb testing.TB, findings fleet.Diagnostics, severity fleet.Severity, rule, place string) {
	tb.Helper()
	for _, d := range findings {
		if d.Rule == rule && d.Severity == severity && d.Position.String() == place {
			return
		}
	}
	tb.Errorf("no %s [%s] at %s; found:\n%s", severity, rule, place, findings)
}

// fleetOf is a repository of n stacks.
func fleetOf(n int) repo {
	r := repo{}
	var b strings.Builder
	b.WriteString("[[server]]\nname = \"alpha\"\nenabled = true\n")
	for i := range n {
		name := fmt.Sprintf("stack%04d", i)
		fmt.Fprintf(&b, "[[stack]]\nname = %q\n[stack.config]\nserver = \"alpha\"\nrun_directory = \"stacks/%s\"\nenvironment = \"TAG = 1\"\n", name, name)
		r["stacks/"+name+"/compose.yaml"] = "services:\n  app:\n    image: a:${TAG}\n    restart: always\n    volumes: [\"./conf:/conf\"]\n"
		r["stacks/"+name+"/conf/x"] = name
	}
	r["fleet.toml"] = b.String()
	return r
}

// gitLike knows the ids of its content, as a tree of Git does.
type gitLike struct {
	*render.Memory
	ids map[string]string
}

func (g gitLike) ObjectID(name string) (string, error) {
	if id, ok := g.ids[name]; ok {
		return id, nil
	}
	return "", fs.ErrNotExist
}

func gitInput(b *testing.B, r repo, commit string) render.Input {
	b.Helper()
	in := input(b, r, commit)
	memory := r.tree(b)
	g := gitLike{memory, map[string]string{}}
	err := fs.WalkDir(memory, ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		g.ids[name], err = memory.ObjectID(name)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	in.Tree = g
	return in
}

func BenchmarkRenderThousand(b *testing.B) {
	base := fleetOf(1000)
	first := gitInput(b, base, "c0")
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			mustRender(b, newRenderer(), first)
		}
	})
	b.Run("same-commit", func(b *testing.B) {
		r := newRenderer()
		mustRender(b, r, first)
		for b.Loop() {
			mustRender(b, r, first)
		}
	})
	b.Run("commit-without-change", func(b *testing.B) {
		r := newRenderer()
		mustRender(b, r, first)
		next, n := first, 0
		for b.Loop() {
			n++
			next.Commit.ID = fmt.Sprint("c", n)
			if out := mustRender(b, r, next); out.Loads != 0 {
				b.Fatalf("%d loads", out.Loads)
			}
		}
	})
	trees := []render.Input{
		gitInput(b, base.with(map[string]string{"stacks/stack0500/conf/x": "y"}), ""), gitInput(b, base, ""),
	}
	oneChanged := func(variables []render.Variable) func(b *testing.B) {
		return func(b *testing.B) {
			b.Helper()
			r := newRenderer()
			begin := first
			begin.Variables = variables
			mustRender(b, r, begin)
			n := 0
			for b.Loop() {
				next := trees[n%2]
				n++
				next.Commit.ID, next.Variables = fmt.Sprint("d", n), variables
				if out := mustRender(b, r, next); out.Loads != 1 {
					b.Fatalf("%d loads", out.Loads)
				}
			}
		}
	}
	b.Run("one-changed", oneChanged(first.Variables))
	many := slices.Clone(first.Variables)
	for i := range 2000 {
		many = append(many, render.Variable{
			Name: fmt.Sprintf("V%d", i), Value: "x", Secret: i%2 == 0, Scope: fleet.Scope{Stacks: []string{"other"}},
		})
	}
	b.Run("one-changed-of-2000-variables", oneChanged(many))
}
