package spec_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/spec"
)

// with declares a server s, and resources after it from line 3 on.
func with(more ...string) map[string]string {
	return map[string]string{"a.toml": "[[server]]\nname = \"s\"\n" + strings.Join(more, "\n") + "\n"}
}

func run(executions ...string) string {
	return "[[procedure.config.stage]]\nexecutions = [\n" + strings.Join(executions, ",\n") + ",\n]"
}

func TestReferencesOfEveryType(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		files map[string]string
		opts  spec.Options
		want  []string
		says  string
	}{
		{"one of several servers", with(`[[stack]]`, `name = "w"`, `servers = ["s", "x"]`), spec.Options{}, []string{"a.toml:5:17 unknown-server"}, "`x`"},
		{"servers of a stack", with(`[[stack]]`, `name = "w"`, `servers = ["s"]`), spec.Options{}, nil, ""},
		{"server tags that nothing has", with(`[[stack]]`, `name = "w"`, `server_tags = ["edge"]`), spec.Options{}, []string{"a.toml:5:1 unmatched-server-tags"}, "`edge`"},
		{"server tags of a known server", with(`[[stack]]`, `name = "w"`, `server_tags = ["edge"]`), spec.Options{KnownServers: []fleet.Server{{Name: "k", Tags: []string{"x", "edge"}}}}, nil, ""},
		{"overlay for no server", with(`[[stack]]`, `name = "w"`, `server = "s"`, `[[stack.config.overlay]]`, `profiles = ["x"]`), spec.Options{}, []string{"a.toml:6:1 overlay-selector"}, ""},
		{"overlay for an unknown server", with(`[[stack]]`, `name = "w"`, `server = "s"`, `[[stack.config.overlay]]`, `servers = ["z"]`), spec.Options{}, []string{"a.toml:6:1 unknown-server"}, "overlay"},
		{"deployed without a server", with(`[[stack]]`, `name = "w"`, `deploy = true`), spec.Options{}, []string{"a.toml:3:1 missing-server"}, ""},
		{"deployment on an unknown server", with(`[[deployment]]`, `name = "d"`, `server = "z"`), spec.Options{}, []string{"a.toml:5:1 unknown-server"}, "deployment `d`"},
		{"repo on an unknown server", with(`[[repo]]`, `name = "r"`, `server = "z"`), spec.Options{}, []string{"a.toml:5:1 unknown-server"}, "repo `r`"},
		{"repo without a server", with(`[[repo]]`, `name = "r"`), spec.Options{}, nil, ""},
		{"linked repo that is misspelt", with(`[[repo]]`, `name = "files"`, `[[stack]]`, `name = "w"`, `server = "s"`, `linked_repo = "file"`), spec.Options{Offline: true}, []string{"a.toml:8:1 unknown-repo"}, "did you mean `files`?"},
		{"linked repo that may be in core", with(`[[stack]]`, `name = "w"`, `server = "s"`, `linked_repo = "x"`), spec.Options{Offline: true}, nil, "unknown-repo"},
		{"build of a deployment", with(`[[build]]`, `name = "paint"`, `[[deployment]]`, `name = "d"`, `server = "s"`, `image = { type = "Build", params.build = "piant" }`), spec.Options{}, []string{"a.toml:8:11 unknown-build"}, "`paint`"},
		{"alerter about a misspelt stack", with(`[[stack]]`, `name = "web"`, `server = "s"`, `[[alerter]]`, `name = "a"`, `resources = [{ type = "Stack", id = "wbe" }]`), spec.Options{}, []string{"a.toml:8:16 unknown-stack"}, "alerter `a`"},
		{"permissions by wildcard and expression", with(`[[user_group]]`, `name = "g"`, `permissions = [{ target.type = "Stack", target.id = "x-*" }, { target.type = "Server", target.id = "\\^a.*$\\" }]`), spec.Options{}, nil, ""},
		{"permissions by a wrong expression", with(`[[user_group]]`, `name = "g"`, `permissions = [{ target.type = "Stack", target.id = "\\(\\" }]`), spec.Options{}, []string{"a.toml:5:18 invalid-pattern"}, ""},
		{"variable for a misspelt server", with(`[[variable]]`, `name = "V"`, `servers = ["z"]`), spec.Options{}, []string{"a.toml:5:12 unknown-server"}, "variable `V`"},
		{"execution of an unknown stack", with(`[[procedure]]`, `name = "p"`, run(`{ execution.type = "DeployStack", execution.params.stack = "x" }`)), spec.Options{}, []string{"a.toml:7:52 unknown-stack"}, "DeployStack of procedure `p`"},
		{"execution of a stack of another sync", with(`[[procedure]]`, `name = "p"`, run(`{ execution.type = "DeployStack", execution.params.stack = "x" }`)), spec.Options{KnownStacks: []string{"x"}}, nil, ""},
		{"execution of a stack in core", with(`[[procedure]]`, `name = "p"`, run(`{ execution.type = "DeployStack", execution.params.stack = "x" }`)), spec.Options{Offline: true}, nil, "unknown-stack"},
		{"execution of a misspelt stack, offline", with(`[[stack]]`, `name = "web"`, `server = "s"`, `[[procedure]]`, `name = "p"`, run(`{ execution.type = "DeployStack", execution.stack = "wbe" }`)), spec.Options{Offline: true}, []string{"a.toml:10:45 unknown-stack"}, "`web`"},
		{"execution by id, offline", with(`[[procedure]]`, `name = "p"`, run(`{ execution.type = "RunSync", execution.params.sync = "0123456789abcdef01234567" }`)), spec.Options{Offline: true}, nil, "reference-by-id"},
		{"execution of a batch", with(`[[procedure]]`, `name = "p"`, run(`{ execution.type = "BatchDeployStack", execution.params.pattern = "a-*, \\^b$\\" }`)), spec.Options{}, nil, "unmatched-pattern"},
		{"execution of a wrong pattern", with(`[[procedure]]`, `name = "p"`, run(`{ execution.type = "BatchDeployStack", execution.params.pattern = "\\[\\" }`)), spec.Options{}, []string{"a.toml:7:57 invalid-pattern"}, ""},
		{"execution that sends alerts", with(`[[alerter]]`, `name = "phone"`, `[[procedure]]`, `name = "p"`, run(`{ execution.type = "SendAlert", execution.params = { message = "x", alerters = ["phnoe"] } }`)), spec.Options{}, []string{"a.toml:9:69 unknown-alerter"}, "`phone`"},
		{"procedure that runs itself", with(`[[procedure]]`, `name = "p"`, run(`{ execution.type = "RunProcedure", execution.params.procedure = "p" }`)), spec.Options{}, []string{"a.toml:7:53 procedure-cycle"}, "p -> p"},
		{"procedure that would run itself", with(`[[procedure]]`, `name = "p"`, run(`{ execution.type = "RunProcedure", execution.params.procedure = "p", enabled = false }`)), spec.Options{}, nil, ""},
		{"procedures that run each other", with(`[[procedure]]`, `name = "p"`, run(`{ execution.type = "RunProcedure", execution.params.procedure = "q" }`), `[[procedure]]`, `name = "q"`, run(`{ execution.type = "BatchRunProcedure", execution.params.pattern = "?" }`)), spec.Options{}, []string{"a.toml:13:58 procedure-cycle", "a.toml:13:58 procedure-cycle"}, "p -> q -> p"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, diags := spec.Load(tree(tt.files), tt.opts)
			if diff := cmp.Diff(tt.want, located(diags)); diff != "" {
				t.Fatalf("diagnostics (-want +got):\n%s\n%s", diff, diags.Error())
			}
			if !strings.Contains(diags.Error()+hints(diags), tt.says) {
				t.Errorf("nothing says %q:\n%s", tt.says, diags.Error())
			}
		})
	}
}

func hints(ds fleet.Diagnostics) string {
	var b strings.Builder
	for _, d := range ds {
		b.WriteString("\n" + d.Hint)
	}
	return b.String()
}

// TestDependenciesBetweenStacksAndDeployments is about what Komodo gets wrong: it looks
// a resource's own name up instead of what it waits for, and takes every name for one of
// the resource's own type.
func TestDependenciesBetweenStacksAndDeployments(t *testing.T) {
	t.Parallel()
	stack := func(name, after string) string {
		return fmt.Sprintf("[[stack]]\nname = %q\nserver = \"s\"\nafter = [%s]", name, after)
	}
	deployment := func(name, after string) string {
		return fmt.Sprintf("[[deployment]]\nname = %q\nserver = \"s\"\nafter = [%s]", name, after)
	}
	tests := []struct {
		name  string
		files map[string]string
		opts  spec.Options
		want  []string
	}{
		{"stack after a deployment", with(deployment("d", ""), stack("w", `"d"`)), spec.Options{}, nil},
		{"deployment after a stack", with(stack("w", ""), deployment("d", `"w"`)), spec.Options{}, nil},
		{"deployment after nothing known", with(deployment("d", `"w"`)), spec.Options{}, []string{"a.toml:6:10 unknown-stack"}},
		{"stack after nothing known", with(stack("w", `"d"`)), spec.Options{}, []string{"a.toml:6:10 unknown-stack"}},
		{"after a stack of another sync", with(stack("w", `"far"`)), spec.Options{KnownStacks: []string{"far"}}, nil},
		{"cycle over both types", with(stack("w", `"d"`), deployment("d", `"w"`)), spec.Options{}, []string{"a.toml:10:10 after-cycle"}},
		{"two new stacks after each other", with(stack("a", `"b"`), stack("b", `"a"`)), spec.Options{}, []string{"a.toml:10:10 after-cycle"}},
		{"deployment with the name of a stack", with(stack("w", ""), deployment("w", `"w"`), stack("z", `"w-deployment"`)), spec.Options{}, nil},
		{"deployment after itself", with(deployment("d", `"d"`)), spec.Options{}, []string{"a.toml:6:10 after-self"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, diags := spec.Load(tree(tt.files), tt.opts)
			if diff := cmp.Diff(tt.want, located(diags)); diff != "" {
				t.Fatalf("diagnostics (-want +got):\n%s\n%s", diff, diags.Error())
			}
		})
	}
}

func TestStacksAreCalledByTheirComposeName(t *testing.T) {
	t.Parallel()
	decls, diags := spec.Load(tree(with(
		`[[stack]]`, `name = "Immich"`, `server = "s"`,
		`[[stack]]`, `name = "web-2.0"`, `server = "s"`, `after = ["Immich"]`,
		`[[procedure]]`, `name = "Do all (daily)"`, run(`{ execution.type = "DeployStack", execution.params.stack = "Immich" }`),
		`[[alerter]]`, `name = "a"`, `resources = [{ type = "Stack", id = "web-2.0" }]`,
	)), spec.Options{})
	if want := []string{"a.toml:4:1 name-normalized", "a.toml:7:1 name-normalized"}; !slices.Equal(want, located(diags)) {
		t.Fatalf("got %v: %s", located(diags), diags.Error())
	}
	if diff := cmp.Diff([]string{"immich", "web-2_0"}, stackNames(decls.Stacks)); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"immich"}, decls.Stacks[1].After); diff != "" {
		t.Errorf("after (-want +got):\n%s", diff)
	}
	if got := decls.Procedures[0].Config.Stages[0].Executions[0].Text("stack"); got != "immich" {
		t.Errorf("the procedure deploys %q", got)
	}
}

func TestWhatASyncDoesNotInclude(t *testing.T) {
	t.Parallel()
	fsys := tree(with(`[[variable]]`, `name = "V"`, `[[user_group]]`, `name = "g"`))
	for _, tt := range []struct {
		opts                       spec.Options
		servers, variables, groups int
	}{
		{spec.Options{}, 1, 1, 1},
		{spec.Options{SkipResources: true}, 0, 1, 1},
		{spec.Options{SkipVariables: true}, 1, 0, 1},
		{spec.Options{SkipUserGroups: true}, 1, 1, 0},
	} {
		decls, diags := spec.Load(fsys, tt.opts)
		if diags.HasErrors() || len(decls.Servers) != tt.servers || len(decls.Variables) != tt.variables || len(decls.UserGroups) != tt.groups {
			t.Errorf("%+v: %d servers, %d variables, %d groups", tt.opts, len(decls.Servers), len(decls.Variables), len(decls.UserGroups))
		}
	}
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	names := []string{"web", "web-1", "web-2", "bar-7", "bar-x", "a,b"}
	for pattern, want := range map[string][]string{
		"web":                    {"web"},
		"*":                      names,
		"web-?":                  {"web-1", "web-2"},
		"web, bar-x":             {"web", "bar-x"},
		"web\nbar-x # comment":   {"web", "bar-x"},
		`\^bar-[0-9]{1,2}$\`:     {"bar-7"},
		`web-* , \^bar-[0-9]+$\`: {"web-1", "web-2", "bar-7"},
		`\,\`:                    {"a,b"},
		"nothing":                nil,
		"":                       nil,
	} {
		p, err := spec.ParsePattern(pattern)
		if err != nil {
			t.Errorf("%q: %v", pattern, err)
			continue
		}
		if diff := cmp.Diff(want, p.Select(names)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", pattern, diff)
		}
	}
	if _, err := spec.ParsePattern(`\(\`); err == nil {
		t.Error("a wrong expression is accepted")
	}
}
