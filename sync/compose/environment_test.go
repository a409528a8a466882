package compose_test

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
)

func TestPathsStartFromTheDirectoryOfTheFirstFile(t *testing.T) {
	repo := map[string]string{
		"run/sub/compose.yaml": `
include: [more/compose.yaml, ../beside/compose.yaml]
services:
  app:
    image: "app:${TAG}"
    env_file: [app.env]
    label_file: [labels]
    extends: {file: ../base.yaml, service: base}
    volumes: ["./conf:/conf", "../above:/above"]
    configs: [c]
    secrets: [s]
    build: {context: ./src, dockerfile: ../Dockerfile, additional_contexts: {x: ../above}}
configs: {c: {file: conf/a}}
secrets: {s: {file: ../token}}
`,
		"run/other/override.yaml":   "services: {app: {volumes: [\"./over:/over\"], environment: {O: \"${TAG}\"}}}\n",
		"run/sub/.env":              "TAG=sub\n",
		"run/.env":                  "TAG=run\n",
		"run/sub/app.env":           "A=${TAG}\n",
		"run/sub/labels":            "l=1\n",
		"run/base.yaml":             "services: {base: {volumes: [\"./seed:/seed\"]}}\n",
		"run/seed/x":                "1",
		"run/above/x":               "2",
		"run/token":                 "3",
		"run/sub/conf/a":            "4",
		"run/sub/over/x":            "5",
		"run/sub/src/main":          "6",
		"run/sub/Dockerfile":        "FROM scratch\n",
		"run/sub/more/compose.yaml": "services: {more: {image: m, volumes: [\"./html:/h\"]}}\n",
		"run/sub/more/html/x":       "7",
		"run/beside/compose.yaml":   "services: {beside: {image: \"b:${WHERE}\", volumes: [\"./html:/h\"]}}\n",
		"run/beside/.env":           "WHERE=beside\n",
		"run/beside/html/x":         "8",
	}
	req := request(files(repo))
	req.RunDirectory, req.FilePaths = "run", []string{"sub/compose.yaml", "other/override.yaml"}
	result := mustLoad(t, req)

	dir := t.TempDir()
	for name, text := range repo {
		writeFile(t, filepath.Join(dir, name), text)
	}
	run := filepath.Join(dir, "run")
	options, err := cli.NewProjectOptions(
		[]string{filepath.Join(run, "sub", "compose.yaml"), filepath.Join(run, "other", "override.yaml")},
		cli.WithEnvFiles(), cli.WithDotEnv, cli.WithName("web"), cli.WithDiscardEnvFile)
	if err != nil {
		t.Fatal(err)
	}
	want, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range want.Services {
		s.LabelFiles = nil
		want.Services[name] = s
	}
	got := agentLoad(t, run, blob(t, result, req, result.Release.Model), "web")
	if diff := cmp.Diff(asJSON(t, want), asJSON(t, got)); diff != "" {
		t.Errorf("the agent's project differs from Compose's own (-want +got):\n%s", diff)
	}
	var shipped []string
	for _, f := range result.Release.Files {
		shipped = append(shipped, f.Path)
	}
	wantFiles := []string{
		"above/x", "beside/html/x", "seed/x", "sub/Dockerfile", "sub/conf/a", "sub/more/html/x", "sub/over/x",
		"sub/src/main", "token",
	}
	if diff := cmp.Diff(wantFiles, shipped); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// TestSettingsStartFromTheRunDirectory has the Compose file elsewhere.
func TestSettingsStartFromTheRunDirectory(t *testing.T) {
	req := request(files(map[string]string{
		"run/sub/compose.yaml": "services: {app: {image: \"a:${TAG}\", env_file: [../stack.env], security_opt: [\"seccomp:./p.json\"]}}\n",
		"run/sub/p.json":       "{}",
		"run/more.env":         "TAG=more\n",
	}))
	req.RunDirectory, req.FilePaths, req.EnvFilePath = "run", []string{"sub/compose.yaml"}, "stack.env"
	req.Environment = []compose.Variable{{Name: "A", Value: "1"}}
	req.AdditionalEnvFiles = []compose.EnvFile{{Path: "more.env", Track: true}}
	result := mustLoad(t, req)
	app := agentLoad(t, "/run", blob(t, result, req, result.Release.Model), "web").Services["app"]
	if app.Image != "a:more" || app.Environment["A"] == nil || app.SecurityOpt[0] != "seccomp:./sub/p.json" {
		t.Errorf("image %q, environment %v, security_opt %v", app.Image, app.Environment, app.SecurityOpt)
	}
	if result.Release.Files[0].Path != "stack.env" {
		t.Errorf("files: %+v", result.Release.Files)
	}
}

func TestPrecedenceOfVariables(t *testing.T) {
	const text = `services:
  app:
    image: app
    environment:
      A: ${A}
      B: ${B}
      C: ${C}
      D: ${D}
      E: ${E}
      F: ${F:-default}
      G: ${G}
      H:
`
	req := request(files(map[string]string{
		"compose.yaml": text, ".env": "B=dotenv\nC=dotenv\nD=dotenv\nG=${A} and ${B}\n",
		"one.env": "C=one\nD=one\nE=one\n", "two.env": "D=two\nE=two ${C}\n",
	}))
	req.EnvFilePath = "stack.env"
	req.AdditionalEnvFiles = []compose.EnvFile{{Path: "one.env", Track: true}, {Path: "./two.env"}}
	req.Environment = []compose.Variable{{Name: "E", Value: "stack"}}
	var list compose.List
	for _, name := range []string{"A", "B", "C", "D", "E", "H", "UNUSED"} {
		list = append(list, compose.Variable{Name: name, Value: "pool"})
	}
	req.Variables = list
	req.LocalSecrets = []fleet.LocalSecret{{Name: "A", Version: "1"}}
	result := mustLoad(t, req)
	got := map[string]string{}
	for name, value := range agentLoad(t, "/x", blob(t, result, req, result.Release.Model), "web").Services["app"].Environment {
		got[name] = *value
	}
	want := map[string]string{
		"A": "pool", "B": "dotenv", "C": "one", "D": "two", "E": "stack", "F": "default", "G": "pool and dotenv", "H": "pool",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"A", "F", "H"}, result.Variables); diff != "" {
		t.Errorf("names looked for in the pool (-want +got):\n%s", diff)
	}
}

func TestPoolReachesEveryKindOfFile(t *testing.T) {
	req := request(files(map[string]string{
		"compose.yaml": `
include: [inc/compose.yaml]
services:
  app: {extends: {file: base.yaml, service: base}, env_file: [app.env], secrets: [s]}
secrets: {s: {environment: SECRET}}
`,
		"base.yaml":        "services: {base: {image: \"b:${BASE}\"}}\n",
		"inc/compose.yaml": "services: {inc: {image: \"i:${DERIVED}\", hostname: \"${NEAR}\"}}\n",
		"inc/.env":         "DERIVED=${INC}-x\nNEAR=file\n",
		"app.env":          "OWN=1\nFROM=${ENVFILE} ${OWN}\n",
	}))
	var list compose.List
	for _, name := range []string{"BASE", "INC", "ENVFILE", "NEAR", "OWN"} {
		list = append(list, compose.Variable{Name: name, Value: "pool-" + strings.ToLower(name)})
	}
	list = append(list, compose.Variable{Name: "SECRET", Value: "zq9secret", Secret: true})
	req.Variables = list
	result := mustLoad(t, req)
	project := agentLoad(t, "/x", blob(t, result, req, result.Release.Model), "web")
	app, inc := project.Services["app"], project.Services["inc"]
	if app.Image != "b:pool-base" || *app.Environment["FROM"] != "pool-envfile 1" {
		t.Errorf("app: %s, %v", app.Image, app.Environment)
	}
	if inc.Image != "i:pool-inc-x" || inc.Hostname != "file" {
		t.Errorf("inc: %s, %s", inc.Image, inc.Hostname)
	}
	if !strings.Contains(blob(t, result, req, result.Release.Model), "zq9secret") {
		t.Error("the secret did not get into the model")
	}
	want := []string{"BASE", "ENVFILE", "INC", "SECRET"}
	if diff := cmp.Diff(want, result.Variables); diff != "" {
		t.Errorf("names looked for in the pool (-want +got):\n%s", diff)
	}
}

func TestVariablesKeyCoversWhatCounts(t *testing.T) {
	base := func() compose.Request {
		req := one(app("hostname: ${A}${B:-x}"))
		req.Variables = compose.List{{Name: "A", Value: "1"}, {Name: "OTHER", Value: "1"}}
		req.LocalSecrets = []fleet.LocalSecret{{Name: "L", Version: "1"}}
		return req
	}
	req := base()
	names := mustLoad(t, req).Variables
	before := req.VariablesKey(names)
	for name, tc := range map[string]struct {
		change func(*compose.Request)
		same   bool
	}{
		"nothing":           {func(*compose.Request) {}, true},
		"unrelated":         {func(r *compose.Request) { r.Variables.(compose.List)[1].Value = "2" }, true},
		"place":             {func(r *compose.Request) { r.Variables.(compose.List)[0].Origin.Line = 3 }, true},
		"value":             {func(r *compose.Request) { r.Variables.(compose.List)[0].Value = "2" }, false},
		"now secret":        {func(r *compose.Request) { r.Variables.(compose.List)[0].Secret = true }, false},
		"refused":           {func(r *compose.Request) { r.Variables.(compose.List)[0].Refused = "no" }, false},
		"missing one came":  {func(r *compose.Request) { r.Variables.(compose.List)[1].Name = "B" }, false},
		"local secret came": {func(r *compose.Request) { r.LocalSecrets[0].Name = "B" }, false},
		"other key":         {func(r *compose.Request) { r.Key = []byte("k") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			req := base()
			tc.change(&req)
			if same := req.VariablesKey(names) == before; same != tc.same {
				t.Errorf("same = %t, want %t", same, tc.same)
			}
		})
	}
}

func TestVariablesOutOfScopeAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"plain": app("hostname: ${DB}"), "default": app("hostname: ${DB:-x}"), "passed on": app("environment: [DB]"),
		"secret": app("secrets: [s]") + "secrets: {s: {environment: DB}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			req := one(text)
			req.Variables = compose.List{{Name: "DB", Refused: "variable DB is for trusted servers"}}
			_, findings := compose.Load(t.Context(), req)
			wantFinding(t, findings, fleet.SeverityError, "variable-scope", "")
			req.Environment = []compose.Variable{{Name: "DB", Value: "own"}}
			if _, findings = compose.Load(t.Context(), req); findings.HasErrors() {
				t.Errorf("the stack's own variable is refused: %v", findings)
			}
		})
	}
}

func TestUndefinedVariableIsExplained(t *testing.T) {
	req := one(app("hostname: ${DOMIAN}"))
	req.Variables = compose.List{{Name: "DOMAIN", Value: "x"}}
	_, findings := compose.Load(t.Context(), req)
	wantFinding(t, findings, fleet.SeverityError, "undefined-variable", "compose.yaml:4:15")
	if findings[0].Hint != "did you mean DOMAIN?" {
		t.Errorf("hint %q", findings[0].Hint)
	}
}

func TestLocalSecretsAreTokens(t *testing.T) {
	secret := fleet.LocalSecret{Name: "KEY", Version: "v1"}
	req := one(app("environment: {K: \"x${KEY}\"}\nlabels: {l: \"${KEY}\"}"))
	req.LocalSecrets = []fleet.LocalSecret{secret}
	result := mustLoad(t, req)
	if model := blob(t, result, req, result.Release.Model); !strings.Contains(model, "x"+secret.Token()) {
		t.Error("the token is not in the model")
	}
	if f := fieldOf(t, service(t, result, "app"), "labels.l"); f.Value != "" || f.Keyed == "" {
		t.Errorf("label %+v", f)
	}
	req.LocalSecrets = []fleet.LocalSecret{{Name: "KEY", Version: "v2"}}
	if service(t, mustLoad(t, req), "app").Digest == service(t, result, "app").Digest {
		t.Error("a new version of the secret changes nothing")
	}
}

func TestProfilesOfTheEnvironment(t *testing.T) {
	const text = "services: {a: {image: a}, b: {image: b, profiles: [x]}, c: {image: c, profiles: [y]}, d: {image: d, profiles: [z]}}\n"
	for name, tc := range map[string]struct {
		dotenv, stack string
		profiles      []string
		want          []string
	}{
		"none":              {"", "", nil, []string{"a"}},
		"dotenv":            {"COMPOSE_PROFILES=x, y\n", "", nil, []string{"a", "b", "c"}},
		"stack wins":        {"COMPOSE_PROFILES=x\n", "y", nil, []string{"a", "c"}},
		"beside the stacks": {"COMPOSE_PROFILES=x\n", "", []string{"z"}, []string{"a", "b", "d"}},
		"all":               {"COMPOSE_PROFILES=*\n", "", nil, []string{"a", "b", "c", "d"}},
	} {
		t.Run(name, func(t *testing.T) {
			req := request(files(map[string]string{"compose.yaml": text, ".env": tc.dotenv}))
			req.Profiles, req.EnvFilePath = tc.profiles, "stack.env"
			if tc.stack != "" {
				req.Environment = []compose.Variable{{Name: "COMPOSE_PROFILES", Value: tc.stack}}
			}
			result, findings := compose.Load(t.Context(), req)
			if len(findings) > 0 {
				t.Errorf("findings: %v", findings)
			}
			var got []string
			for _, s := range result.Release.Services {
				got = append(got, s.Name)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("services (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAdditionalEnvFiles(t *testing.T) {
	origin := fleet.Position{File: "stacks.toml", Line: 12, Col: 5}
	for name, tc := range map[string]struct {
		file     compose.EnvFile
		severity fleet.Severity
		rule     string
		place    string
	}{
		"missing":           {compose.EnvFile{Path: "mor.env", Track: true}, fleet.SeverityError, "file-not-found", "stacks.toml:12:5"},
		"missing untracked": {compose.EnvFile{Path: "mor.env"}, fleet.SeverityNote, "file-not-found", "stacks.toml:12:5"},
		"outside":           {compose.EnvFile{Path: "../x"}, fleet.SeverityError, "path-outside", "stacks.toml:12:5"},
		"link":              {compose.EnvFile{Path: "link"}, fleet.SeverityError, "symlink", "stacks.toml:12:5"},
		"directory":         {compose.EnvFile{Path: "dir"}, fleet.SeverityError, "not-regular", "stacks.toml:12:5"},
		"syntax":            {compose.EnvFile{Path: "bad.env"}, fleet.SeverityError, "env-file-syntax", "bad.env:2:1"},
		"steers":            {compose.EnvFile{Path: "steer.env"}, fleet.SeverityWarning, "ignored-variable", "steer.env:1:1"},
		"growth":            {compose.EnvFile{Path: "grow.env"}, fleet.SeverityError, "env-file-syntax", "grow.env"},
	} {
		t.Run(name, func(t *testing.T) {
			req := request(files(map[string]string{
				"compose.yaml": app(""), "more.env": "A=1\n", "dir/x": "", "bad.env": "A=1\nB C=2\n",
				"steer.env": "COMPOSE_FILE=x\n", "grow.env": growing(),
			}))
			req.Tree.(tree).MapFS["link"] = &fstest.MapFile{Mode: fs.ModeSymlink}
			tc.file.Origin = origin
			req.AdditionalEnvFiles = []compose.EnvFile{tc.file}
			_, findings := compose.Load(t.Context(), req)
			wantFinding(t, findings, tc.severity, tc.rule, tc.place)
		})
	}
}

// growing is an environment file whose variables double in size from line to line.
func growing() string {
	lines := []string{"A=" + strings.Repeat("x", 1000)}
	for c := 'B'; c <= 'Z'; c++ {
		lines = append(lines, string(c)+"=${"+string(c-1)+"}${"+string(c-1)+"}")
	}
	return strings.Join(lines, "\n") + "\n"
}

func TestOfflineUnknownVariablesAreNotes(t *testing.T) {
	for name, tc := range map[string]struct {
		text, place string
		resolved    bool
	}{
		"text":          {app("hostname: a-${X}"), "compose.yaml:4:17", true},
		"required":      {app("hostname: ${X:?need it}"), "compose.yaml:4:15", true},
		"image":         {"services:\n  app:\n    image: ${X}\n", "compose.yaml:3:12", true},
		"registry":      {"services:\n  app:\n    image: ${X}/app:1\n", "compose.yaml:3:12", true},
		"port":          {app("ports: [\"${X}:80\"]"), "compose.yaml:4:14", true},
		"number":        {app("mem_limit: ${X}"), "compose.yaml:4:16", true},
		"truth":         {app("read_only: ${X}"), "compose.yaml:4:16", false},
		"mount":         {app("volumes: [\"${X}:/data\"]"), "compose.yaml:4:16", true},
		"below a mount": {app("volumes: [\"${X}/data:/data:ro\"]"), "compose.yaml:4:16", true},
		"passed on":     {app("environment: [X]"), "compose.yaml:4:19", true},
		"secret":        {app("secrets: [s]") + "secrets: {s: {environment: X}}\n", "compose.yaml:5:15", true},
		"duration":      {app("healthcheck: {interval: \"${X}\", test: a}"), "compose.yaml:4:30", false},
		"env_file":      {app("env_file: [\"${X}.env\"]"), "compose.yaml:4:17", false},
		"include":       {"include: [\"${X}/compose.yaml\"]\n" + app(""), "compose.yaml:1:12", false},
	} {
		t.Run(name, func(t *testing.T) {
			req := one(tc.text)
			req.Offline = true
			result, findings := compose.Load(t.Context(), req)
			wantFinding(t, findings, fleet.SeverityNote, "undefined-variable", tc.place)
			if findings.HasErrors() {
				t.Errorf("findings: %v", findings)
			}
			if got := result.Release.Digest != ""; got != tc.resolved {
				t.Errorf("resolved = %t, want %t: %v", got, tc.resolved, findings)
			}
			if !tc.resolved {
				wantFinding(t, findings, fleet.SeverityNote, "not-resolved", "stacks.toml:7:1")
			}
			req.Offline = false
			if _, findings = compose.Load(t.Context(), req); !findings.HasErrors() && name != "passed on" {
				t.Errorf("no error in core: %v", findings)
			}
		})
	}
}

func TestOfflineOtherFaultsStayErrors(t *testing.T) {
	req := one(app("hostname: ${X}\nports: 1\nimagee: x"))
	req.Offline = true
	_, findings := compose.Load(t.Context(), req)
	wantFinding(t, findings, fleet.SeverityError, "unknown-key", "compose.yaml:6:5")

	req = one(app("mem_limit: ${X}\nscale: lots"))
	req.Offline = true
	_, findings = compose.Load(t.Context(), req)
	wantFinding(t, findings, fleet.SeverityError, "wrong-type", "compose.yaml:5:5")
}
