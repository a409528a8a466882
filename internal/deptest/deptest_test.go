// Package deptest holds the code to the import law and the package table of
// docs/architecture.md to the tree. It has no code of its own.
package deptest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/varanhq/varan/"

// pkg is one package as `go list` tells of it. Tests are not part of it.
type pkg struct {
	ImportPath string
	GoFiles    []string
	Imports    []string
	Standard   bool
}

// graph holds every package of the module and everything they need, by import path.
type graph map[string]pkg

// ours lists the packages of the module, relative to it, sorted.
func (g graph) ours() []string {
	var names []string
	for path := range g {
		if name, ok := strings.CutPrefix(path, module); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// needs maps everything a package depends on to the package that imports it.
func (g graph) needs(path string) map[string]string {
	via := map[string]string{}
	for queue := []string{path}; len(queue) > 0; queue = queue[1:] {
		for _, imported := range g[queue[0]].Imports {
			if _, seen := via[imported]; !seen {
				via[imported] = queue[0]
				queue = append(queue, imported)
			}
		}
	}
	return via
}

// A rule keeps packages of ours from importing others. Patterns name a package, or with
// a trailing "/..." a package and all below it; those of ours begin with "./".
type rule struct {
	why string
	// of are the packages that the rule binds; but are exceptions.
	of, but []string
	// deny are what they may not import; direct looks at their own import lines only,
	// otherwise everything they need counts.
	deny   []string
	direct bool
	// ours, if set, are the only packages of the module they may import.
	ours []string
}

func law() []rule {
	pure := []string{
		"os/...", "io/fs", "net/...", "context", "log/...", "math/rand/...", "crypto/rand", "database/sql/...", "syscall", "unsafe",
	}
	only := func(importer, library string) rule {
		// Benchmarks measure against the libraries as they come.
		return rule{
			why: "only " + importer + " uses it", of: []string{"./..."}, but: []string{importer, "./bench/..."},
			deny: []string{library}, direct: true,
		}
	}
	return []rule{
		{why: "the domain is pure and imports nothing of ours", of: []string{"./fleet"}, deny: pure, direct: true, ours: []string{"./fleet"}},
		{why: "tag policies are pure", of: []string{"./fleet/imagetag"}, deny: pure, direct: true, ours: []string{"./fleet/imagetag"}},
		{
			why: "schedules are pure", of: []string{"./fleet/schedule"}, deny: pure, direct: true,
			ours: []string{"./internal/didyoumean"},
		},
		only("./fleet/schedule", "github.com/robfig/cron/..."),
		{why: "the planner is pure", of: []string{"./reconciler/plan"}, deny: pure, direct: true, ours: []string{"./fleet"}},
		{why: "the protocol knows no sockets", of: []string{"./wire"}, deny: []string{"net/..."}, direct: true, ours: []string{"./fleet"}},
		{why: "the handshake knows only messages", of: []string{"./wire/noise"}, ours: []string{"./fleet", "./wire"}},
		{why: "a transport moves messages", of: []string{"./wire/ws"}, ours: []string{"./fleet", "./wire"}},
		{
			why: "a host holds no Git, SOPS or database code", of: []string{"./agent/...", "./cmd/varan-agent"},
			deny: []string{
				"./sync/...", "./reconciler/...", "./core/...", "github.com/go-git/go-git/...", "github.com/getsops/sops/...",
				"filippo.io/age/...", "modernc.org/sqlite/...", "database/sql",
			},
		},
		{
			why: "core and agent meet in wire alone", of: []string{"./core/...", "./reconciler/...", "./sync/..."},
			deny: []string{"./agent/..."},
		},
		{why: "the reconciler knows only its seams", of: []string{"./reconciler"}, ours: []string{"./fleet", "./reconciler/plan"}},
		{
			why: "alerts know neither the store nor the handlers", of: []string{"./core/alert"},
			ours: []string{"./fleet", "./reconciler", "./reconciler/plan", "./reconciler/procedure"},
		},
		{
			why: "backups know neither the store nor a running core", of: []string{"./core/backup"},
			ours: []string{"./sync/sops", "./internal/atomicfile"}, direct: true,
		},
		{
			why: "explanations are pure", of: []string{"./core/why"}, deny: pure, direct: true,
			ours: []string{"./core/why", "./fleet", "./reconciler", "./reconciler/plan", "./core/api"},
		},
		{
			why: "procedures know only the reconciler", of: []string{"./reconciler/procedure"},
			ours: []string{"./fleet", "./fleet/schedule", "./reconciler", "./reconciler/plan"},
		},
		{
			why: "cmd is the composition root", of: []string{"./..."}, but: []string{"./cmd/..."},
			deny: []string{"./cmd/...", "github.com/spf13/cobra"}, direct: true,
		},
		only("./sync/git", "github.com/go-git/go-git/..."),
		{
			why: "only core/update/registry asks registries", of: []string{"./..."},
			but:  []string{"./core/update/registry", "./internal/testutil/imageregistry"},
			deny: []string{"github.com/google/go-containerregistry/..."}, direct: true,
		},
		only("./sync/sops", "github.com/getsops/sops/..."),
		only("./sync/sops", "filippo.io/age/..."),
		{
			why: "only ./sync/sops and internal/commitsig use OpenPGP", of: []string{"./..."},
			but: []string{"./sync/sops", "./internal/commitsig"}, deny: []string{"github.com/ProtonMail/go-crypto/..."}, direct: true,
		},
		{
			why: "resource files are read by sync/spec, a host's policy by agent/policy, settings by internal/settings", of: []string{"./..."},
			but: []string{"./sync/spec", "./agent/policy", "./internal/settings", "./bench/..."}, deny: []string{"github.com/pelletier/go-toml/..."}, direct: true,
		},
		only("./wire/noise", "github.com/flynn/noise"),
		only("./wire/ws", "github.com/gorilla/websocket"),
		only("./core/store", "modernc.org/sqlite/..."),
		only("./core/acme", "github.com/caddyserver/certmagic/..."),
		only("./core/acme/acmetest", "github.com/letsencrypt/pebble/..."),
		only("./agent/docker/worker", "github.com/docker/compose/v5/..."),
	}
}

// matches reports whether an import path is named by one of the patterns.
func matches(patterns []string, path string) bool {
	if name, ok := strings.CutPrefix(path, module); ok {
		path = "./" + name
	}
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		below, tree := strings.CutSuffix(pattern, "...")
		if !tree {
			return path == pattern
		}
		return strings.HasPrefix(path+"/", below)
	})
}

// violations lists what breaks a rule, sorted.
func (r rule) violations(g graph) []string {
	var found []string
	for _, name := range g.ours() {
		if !matches(r.of, module+name) || matches(r.but, module+name) {
			continue
		}
		via := g.needs(module + name)
		for _, needed := range slices.Sorted(maps.Keys(via)) {
			direct := via[needed] == module+name
			isOurs := strings.HasPrefix(needed, module)
			switch {
			case matches(r.deny, needed) && (direct || !r.direct):
				found = append(found, fmt.Sprintf("%s needs %s, imported by %s: %s", name, needed, via[needed], r.why))
			case direct && isOurs && r.ours != nil && !matches(r.ours, needed):
				found = append(found, fmt.Sprintf("%s imports %s: %s", name, needed, r.why))
			}
		}
	}
	return found
}

func TestImportLaw(t *testing.T) {
	g := load(t)
	for _, r := range law() {
		for _, v := range r.violations(g) {
			t.Error(v)
		}
	}
}

func TestRulesFindViolations(t *testing.T) {
	g := graph{}
	add := func(path string, imports ...string) { g[path] = pkg{ImportPath: path, Imports: imports} }
	add(module+"fleet", "fmt", "os")
	add(module+"agent/docker", module+"internal/x")
	add(module+"internal/x", "database/sql")
	add(module+"core/hub", module+"wire")
	add(module+"wire", module+"core/hub")
	add("fmt", "os")
	add("os")
	add("database/sql", "context")
	var got []string
	for _, r := range law() {
		got = append(got, r.violations(g)...)
	}
	want := []string{
		"fleet needs os, imported by " + module + "fleet: the domain is pure and imports nothing of ours",
		"wire imports " + module + "core/hub: the protocol knows no sockets",
		"agent/docker needs database/sql, imported by " + module + "internal/x: a host holds no Git, SOPS or database code",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
}

// TestArchitecturePageNamesEveryPackage compares the package table with the tree.
func TestArchitecturePageNamesEveryPackage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root(t), "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9/-]+)` \\|").FindAllSubmatch(page, -1) {
		rows = append(rows, string(m[1]))
	}
	g := load(t)
	var packages []string
	for _, name := range g.ours() {
		helper := matches([]string{"./cmd/internal/...", "./internal/testutil/...", "./internal/e2e/...", "./bench/..."}, module+name)
		if !helper && len(g[module+name].GoFiles) > 0 {
			packages = append(packages, name)
		}
	}
	slices.Sort(rows)
	if diff := cmp.Diff(packages, rows); diff != "" {
		t.Errorf("the package table of docs/architecture.md is not the tree (-tree +table):\n%s", diff)
	}
}

// root is the module's directory.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// load reads the module's packages and all they need.
func load(t *testing.T) graph {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "-json=ImportPath,GoFiles,Imports,Standard", "./...")
	cmd.Dir = root(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	g := graph{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return g
		}
		if err != nil {
			t.Fatalf("read go list: %v", err)
		}
		g[p.ImportPath] = p
	}
}
