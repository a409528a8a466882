package render_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/render"
)

func TestVariables(t *testing.T) {
	contents := func(environment, extra string) repo {
		r := basic()
		return r.with(map[string]string{"fleet.toml": strings.Replace(r["fleet.toml"], "HOST = web.[[DOMAIN]]", environment, 1) + extra})
	}
	for name, tc := range map[string]struct {
		repo        repo
		severity    fleet.Severity
		rule, place string
	}{
		"undefined": {contents("HOST = [[DOMAINN]]", ""), fleet.SeverityError, "undefined-variable", "fleet.toml:17:1"},
		"cycle": {
			contents("HOST = [[A]]", "[[variable]]\nname = \"A\"\nvalue = \"x[[B]]\"\n[[variable]]\nname = \"B\"\nvalue = \"[[A]]\"\n"),
			fleet.SeverityError, "variable-cycle", "fleet.toml:17:1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := newRenderer().Render(t.Context(), input(t, tc.repo, "c1"))
			if err != nil {
				t.Fatal(err)
			}
			wantFinding(t, out.Diagnostics, tc.severity, tc.rule, tc.place)
		})
	}
	t.Run("offline", func(t *testing.T) {
		in := input(t, contents("HOST = [[IN_CORE]]", ""), "")
		in.Offline, in.Variables = true, nil
		wantFinding(t, mustRender(t, newRenderer(), in).Diagnostics, fleet.SeverityNote, "undefined-variable", "fleet.toml:17:1")
		in = input(t, contents("HOST = [[DOMIAN]]", ""), "")
		in.Offline, in.Variables = true, nil
		wantFinding(t, mustRender(t, newRenderer(), in).Diagnostics, fleet.SeverityWarning, "undefined-variable", "fleet.toml:17:1")
	})
	for name, tc := range map[string]struct{ written, want, extra string }{
		"escape":        {"[[[DOMAIN]]]", "[[DOMAIN]]", ""},
		"shell test":    {"[[ -f x ]]", "[[ -f x ]]", ""},
		"nested":        {"[[A]]", "https://example.org", "[[variable]]\nname = \"A\"\nvalue = \"https://[[DOMAIN]]\"\n"},
		"value in core": {"[[CORE]]", "from core", "[[variable]]\nname = \"CORE\"\n"},
		"tree first":    {"[[BOTH]]", "tree", "[[variable]]\nname = \"BOTH\"\nvalue = \"tree\"\n"},
	} {
		t.Run(name, func(t *testing.T) {
			in := input(t, contents("HOST = "+tc.written, tc.extra), "")
			in.Variables = append(in.Variables,
				render.Variable{Name: "CORE", Value: "from core"}, render.Variable{Name: "BOTH", Value: "core"})
			out := mustRender(t, newRenderer(), in)
			model, err := out.Content.Blob(t.Context(), stack(t, out, "web").Release.Model)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(model), fmt.Sprintf(`"HOST": %q`, tc.want)) {
				t.Errorf("want HOST = %q in %s", tc.want, model)
			}
		})
	}
}

func TestInlineComposeFile(t *testing.T) {
	r := repo{"fleet.toml": `[[server]]
name = "alpha"
enabled = true
[[stack]]
name = "web"
[stack.config]
server = "alpha"
file_contents = """
services:
  app:
    image: a
    command: run --password [[PASSWORD]] --then more
    hostname: [[NOPE]]
"""
`}
	out, err := newRenderer().Render(t.Context(), input(t, r, "c1"))
	if err != nil {
		t.Fatal(err)
	}
	wantFinding(t, out.Diagnostics, fleet.SeverityError, "undefined-variable", "fleet.toml:13:15")

	r["fleet.toml"] = strings.Replace(r["fleet.toml"], "[[NOPE]]", "host", 1)
	in := input(t, r, "c2")
	in.Variables[0].Value = "vx1 vx2"
	out = mustRender(t, newRenderer(), in)
	data, err := json.Marshal(out.Desired)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "vx1") || strings.Contains(string(data), "vx2") {
		t.Errorf("a secret of an inline file is shown: %s", data)
	}
	for _, f := range stack(t, out, "web").Release.Services[0].Fields {
		if f.Path == "hostname" && f.Origin.String() != "fleet.toml:13:5" {
			t.Errorf("hostname is at %s", f.Origin)
		}
	}
}

// pooled is a stack that uses one of many variables by ${NAME}, and one that uses another.
func pooled() repo {
	r := repo{"fleet.toml": `[[server]]
name = "alpha"
enabled = true
[[stack]]
name = "one"
server = "alpha"
run_directory = "one"
[[stack]]
name = "two"
server = "alpha"
run_directory = "two"
environment = "OWN = x"
[[variable]]
name = "DOMAIN"
value = "[[BASE]].org"
[[variable]]
name = "BASE"
value = "example"
[[variable]]
name = "OWN"
value = "shadowed"
`}
	r["one/compose.yaml"] = "services: {a: {image: a, hostname: \"one.${DOMAIN}\"}}\n"
	r["two/compose.yaml"] = "services: {b: {image: b, hostname: \"${OWN}\", environment: {T: \"${TOKEN}\", L: \"${LATER:-none}\"}}}\n"
	return r
}

func TestOnlyStacksThatUseAVariableAreLoadedAgain(t *testing.T) {
	secret := func(name, value string) render.Variable {
		return render.Variable{Name: name, Value: value, Secret: true}
	}
	fleetFile := pooled()["fleet.toml"]
	for name, tc := range map[string]struct {
		from, to string
		vars     []render.Variable
		loads    int
	}{
		"one that is used":             {"[[BASE]].org", "[[BASE]].net", nil, 1},
		"one that it is made of":       {`"example"`, `"sample"`, nil, 1},
		"one that is shadowed":         {`"shadowed"`, `"changed"`, nil, 0},
		"one that nothing uses":        {"\n[[variable]]\nname = \"BASE\"", "\n[[variable]]\nname = \"NEW\"\nvalue = \"x\"\n[[variable]]\nname = \"BASE\"", nil, 0},
		"one that was missing so far":  {"\n[[variable]]\nname = \"BASE\"", "\n[[variable]]\nname = \"LATER\"\nvalue = \"x\"\n[[variable]]\nname = \"BASE\"", nil, 1},
		"an unused secret in core":     {"", "", []render.Variable{secret("TOKEN", "t"), secret("OTHER", "2")}, 0},
		"a used secret in core":        {"", "", []render.Variable{secret("TOKEN", "u"), secret("OTHER", "1")}, 1},
		"the place of all of them":     {"[[server]]", "# a line\n[[server]]", nil, 0},
		"the scope of one in use":      {`value = "example"`, "value = \"example\"\nservers = [\"alpha\"]", nil, 0},
		"an environment over the pool": {"OWN = x", "OWN = y", nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			renderer := newRenderer()
			in := input(t, pooled(), "c1")
			in.Variables = []render.Variable{secret("TOKEN", "t"), secret("OTHER", "1")}
			out := mustRender(t, renderer, in)
			if host := fieldOf(t, out, "one", "hostname"); host != "one.example.org" {
				t.Errorf("hostname %q", host)
			}
			if host := fieldOf(t, out, "two", "hostname"); host != "x" {
				t.Errorf("hostname %q", host)
			}
			next := input(t, pooled().with(map[string]string{"fleet.toml": strings.Replace(fleetFile, tc.from, tc.to, 1)}), "c2")
			next.Variables = in.Variables
			if tc.vars != nil {
				next.Variables = tc.vars
			}
			if got := mustRender(t, renderer, next); got.Loads != tc.loads {
				t.Errorf("%d loads, want %d", got.Loads, tc.loads)
			}
		})
	}
}

func fieldOf(tb testing.TB, out render.Output, name, path string) string {
	tb.Helper()
	for _, service := range stack(tb, out, name).Release.Services {
		for _, f := range service.Fields {
			if f.Path == path {
				return f.Value
			}
		}
	}
	return ""
}

func TestLocalSecretsOfAgents(t *testing.T) {
	r := repo{"fleet.toml": `[[server]]
name = "alpha"
enabled = true
[[server]]
name = "beta"
enabled = true
[[stack]]
name = "web"
[stack.config]
servers = ["alpha", "beta"]
environment = "KEY = a-[[LOCAL]]"
file_contents = "services: {a: {image: a, environment: {K: \"${KEY}\", L: \"${LOCAL}\"}}}"
`}
	in := input(t, r, "c1")
	in.LocalSecrets = map[string][]fleet.LocalSecret{
		"alpha": {{Name: "LOCAL", Version: "v1"}}, "beta": {{Name: "LOCAL", Version: "v2"}},
	}
	renderer := newRenderer()
	out := mustRender(t, renderer, in)
	if out.Loads != 2 {
		t.Errorf("%d loads", out.Loads)
	}
	for i, version := range []string{"v1", "v2"} {
		model, err := out.Content.Blob(t.Context(), out.Desired.Stacks[i].Release.Model)
		if err != nil {
			t.Fatal(err)
		}
		token := fleet.LocalSecret{Name: "LOCAL", Version: version}.Token()
		if !strings.Contains(string(model), "a-"+token) || strings.Count(string(model), token) != 2 {
			t.Errorf("no tokens of %s in %s", version, model)
		}
	}
	in.Commit.ID, in.LocalSecrets["beta"] = "c2", []fleet.LocalSecret{{Name: "LOCAL", Version: "v3"}}
	if again := mustRender(t, renderer, in); again.Loads != 1 {
		t.Errorf("a new value on one of two hosts: %d loads", again.Loads)
	}
	in.Commit.ID, in.LocalSecrets = "c3", nil
	without, err := renderer.Render(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	wantFinding(t, without.Diagnostics, fleet.SeverityError, "undefined-variable", "fleet.toml:11:16")
}

func TestFilesOfGitAreFilledInOnRequest(t *testing.T) {
	r := repo{
		"fleet.toml": `[[server]]
name = "alpha"
enabled = true
[[variable]]
name = "TAG"
value = "7"
[[stack]]
name = "web"
[stack.config]
server = "alpha"
run_directory = "web"
interpolate_files = true
config_files = ["app.conf"]
`,
		"web/compose.yaml": "services:\n  a:\n    image: a:[[TAG]]\n    volumes: [\"./app.conf:/app.conf\", \"./raw:/raw\"]\n",
		"web/app.conf":     "token = [[PASSWORD]]\ntag = [[[x]]]\n", "web/raw": "[[TAG]]",
	}
	renderer := newRenderer()
	out := mustRender(t, renderer, input(t, r, "c1"))
	if image := stack(t, out, "web").Release.Services[0].Image; image != "a:7" {
		t.Errorf("image %q", image)
	}
	for _, f := range stack(t, out, "web").Release.Files {
		data, err := out.Content.Blob(t.Context(), f.Digest)
		if err != nil {
			t.Fatal(err)
		}
		switch f.Path {
		case "app.conf":
			if !strings.HasSuffix(string(data), "\ntoken = zq9secret\ntag = [[x]]\n") || !f.Salted {
				t.Errorf("app.conf: salted %v: %q", f.Salted, data)
			}
		case "raw":
			if string(data) != "[[TAG]]" {
				t.Errorf("a file that is no config file was filled in: %q", data)
			}
		}
	}
	r["web/compose.yaml"] = strings.Replace(r["web/compose.yaml"], "[[TAG]]", "[[TAGG]]", 1)
	faulty, err := renderer.Render(t.Context(), input(t, r, "c2"))
	if err != nil {
		t.Fatal(err)
	}
	wantFinding(t, faulty.Diagnostics, fleet.SeverityError, "undefined-variable", "web/compose.yaml:3:14")
}

func TestWhereNamesAreFilledIn(t *testing.T) {
	r := repo{"fleet.toml": `[[server]]
name = "alpha"
enabled = true
[[variable]]
name = "N"
value = "7"
[[stack]]
name = "web"
[stack.config]
server = "alpha"
file_contents = "services: {a: {image: \"a:[[N]]\"}}"
extra_args = ["--timeout", "[[N]]"]
build_extra_args = ["--build-arg", "X=[[N]]"]
[stack.config.pre_deploy]
command = "echo pre [[N]] [[PASSWORD]]"
[stack.config.post_deploy]
path = "sub"
command = """
echo post [[N]]
"""
`}
	out := mustRender(t, newRenderer(), input(t, r, "c1"))
	options := stack(t, out, "web").Release.Options
	if options.Up.TimeoutSeconds != 7 || options.BuildWith.Args["X"] != "7" || options.PostDeploy.Path != "sub" {
		t.Errorf("options: %+v", options)
	}
	for want, command := range map[string]fleet.Command{"echo pre 7 zq9secret": options.PreDeploy, "echo post 7": options.PostDeploy} {
		if script, err := out.Content.Blob(t.Context(), command.Script); err != nil || !strings.Contains(string(script), want) {
			t.Errorf("script %q, %v, want %q", script, err, want)
		}
	}
	r["fleet.toml"] = strings.Replace(r["fleet.toml"], "extra_args", "skip_secret_interp = true\nextra_args", 1)
	r["fleet.toml"] = strings.Replace(r["fleet.toml"], `["--timeout", "[[N]]"]`, `[]`, 1)
	r["fleet.toml"] = strings.Replace(r["fleet.toml"], `a:[[N]]`, `a:1`, 1)
	left := stack(t, mustRender(t, newRenderer(), input(t, r, "c1")), "web").Release.Options
	if left.BuildWith.Args["X"] != "[[N]]" {
		t.Errorf("skip_secret_interp: %+v", left)
	}
}
