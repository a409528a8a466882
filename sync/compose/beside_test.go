package compose_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
)

func besideRequest() compose.Request {
	req := request(files(map[string]string{
		"stacks/a/compose.yaml": `
include: [../shared/extra.yaml]
services:
  app:
    image: "a:${TAG}"
    env_file: ../../global.env
    extends: {file: ../shared/base.yaml, service: base}
    volumes: ["./../shared/x.ini:/etc/x.ini", "./data:/data", "../../conf:/conf"]
    configs: [c]
    build: {context: ../.., dockerfile: stacks/a/Dockerfile}
  other:
    build: {context: src, dockerfile: ../../../docker/Dockerfile}
configs: {c: {file: ../shared/c.cfg}}
`,
		"stacks/rack.yaml":         "services: {app: {labels: {rack: \"1\"}}}\n",
		"stacks/shared/base.yaml":  "services: {base: {volumes: [\"./seed:/seed\"]}}\n",
		"stacks/shared/extra.yaml": "services: {extra: {image: \"e:${WHERE}\", volumes: [\"./seed:/seed\"]}}\n",
		"stacks/shared/.env":       "WHERE=beside\n",
		"stacks/shared/seed/s":     "1", "stacks/shared/x.ini": "1", "stacks/shared/c.cfg": "1",
		"stacks/a/Dockerfile": "FROM scratch\n", "stacks/a/src/m": "1", "docker/Dockerfile": "FROM scratch\n",
		"global.env": "TAG=global\n", "conf/x": "1",
	}))
	req.RunDirectory = "stacks/a"
	req.FilePaths = []string{"compose.yaml", "../rack.yaml"}
	req.AdditionalEnvFiles = []compose.EnvFile{{Path: "../../global.env", Track: true}}
	return req
}

func TestFilesBesideTheRunDirectory(t *testing.T) {
	req := besideRequest()
	result := mustLoad(t, req)
	project := agentLoad(t, "/run", blob(t, result, req, result.Release.Model), "web")
	app, other := project.Services["app"], project.Services["other"]
	var got []string
	for _, v := range app.Volumes {
		got = append(got, v.Source)
	}
	got = append(got, app.Image, *app.Environment["TAG"], app.Labels["rack"], project.Configs["c"].File,
		app.Build.Context, app.Build.Dockerfile, other.Build.Context, other.Build.Dockerfile,
		project.Services["extra"].Image, project.Services["extra"].Volumes[0].Source)
	want := []string{
		"/run/.repo/stacks/shared/seed", "/run/.repo/stacks/shared/x.ini", "/run/data", "/run/.repo/conf",
		"a:global", "global", "1", "/run/.repo/stacks/shared/c.cfg",
		"/run/.repo", "stacks/a/Dockerfile", "/run/src", "../.repo/docker/Dockerfile",
		"e:beside", "/run/.repo/stacks/shared/seed",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("model (-want +got):\n%s", diff)
	}
	shipped := map[string]bool{}
	for _, f := range result.Release.Files {
		if strings.Contains(f.Path, "..") || filepath.IsAbs(f.Path) {
			t.Errorf("file %s is not in the run directory", f.Path)
		}
		shipped[f.Path] = true
	}
	for _, name := range []string{
		".repo/stacks/a/Dockerfile", ".repo/docker/Dockerfile", ".repo/conf/x", ".repo/stacks/shared/x.ini", "src/m",
	} {
		if !shipped[name] {
			t.Errorf("%s is not released; there are %v", name, shipped)
		}
	}
	before := digests(t, req)
	edited := besideRequest()
	edited.Tree.(tree).MapFS["conf/x"].Data = []byte("2")
	if diff := cmp.Diff([]string{"app"}, changed(before, digests(t, edited))); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
}

func TestPathsNeverLeaveTheRepository(t *testing.T) {
	for name, change := range map[string]func(*compose.Request){
		"compose file": func(r *compose.Request) { r.FilePaths = []string{"../../../x.yaml"} },
		"env file":     func(r *compose.Request) { r.AdditionalEnvFiles = []compose.EnvFile{{Path: "../../../x", Track: true}} },
		"config file":  func(r *compose.Request) { r.ConfigFiles = []compose.ConfigFile{{Path: "../../../x"}} },
		"hook":         func(r *compose.Request) { r.PreDeploy = compose.Hook{Command: "x", Path: "../shared"} },
		"mount": func(r *compose.Request) {
			r.Tree.(tree).MapFS["stacks/a/compose.yaml"].Data = []byte(app("volumes: [\"../../../x:/x\"]"))
		},
		"mount through the root": func(r *compose.Request) {
			r.Tree.(tree).MapFS["stacks/a/compose.yaml"].Data = []byte(app("volumes: [\"../../../../repo/conf:/x\"]"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			req := besideRequest()
			req.FilePaths = nil
			change(&req)
			_, findings := compose.Load(t.Context(), req)
			wantFinding(t, findings, fleet.SeverityError, "path-outside", "")
		})
	}
}

func TestDataBesideTheRunDirectoryIsNoted(t *testing.T) {
	req := besideRequest()
	req.FilePaths = nil
	req.Tree.(tree).MapFS["stacks/a/compose.yaml"].Data = []byte(app("volumes: [\"../data:/data\"]"))
	result, findings := compose.Load(t.Context(), req)
	wantFinding(t, findings, fleet.SeverityNote, "data-beside", "stacks/a/compose.yaml:4:15")
	if f := fieldOf(t, service(t, result, "app"), "volumes[0]"); f.Value != "./.repo/stacks/data:/data" {
		t.Errorf("volume %q", f.Value)
	}
}

func TestProjectNameOfTheFileIsNoted(t *testing.T) {
	result, findings := compose.Load(t.Context(), one("name: other\n"+app("")))
	wantFinding(t, findings, fleet.SeverityNote, "project-name", "compose.yaml:1:1")
	if result.Release.Project != "web" {
		t.Errorf("project %q", result.Release.Project)
	}
}

// TestEnvironmentRefersToVariables compares with what Compose reads from the same lines.
func TestEnvironmentRefersToVariables(t *testing.T) {
	lines := []struct{ name, value string }{
		{"PUID", "1000"},
		{"HOME_DIR", "/home/${PUID}"},
		{"BOTH", "$PUID:${HOME_DIR}"},
		{"DEFAULT", "${NOPE:-d-${PUID}}"},
		{"PRICE", "5$$ and $${PUID}"},
		{"BELOW", "${DOTENV}/x"},
		{"POOLED", "${POOL}"},
		{"PUID", "2${PUID}"},
	}
	req := request(files(map[string]string{"compose.yaml": app("env_file: [stack.env]"), ".env": "DOTENV=dot\n"}))
	req.EnvFilePath = "stack.env"
	req.Variables = compose.List{{Name: "POOL", Value: "p$$q", Secret: true}}
	var text strings.Builder
	for i, line := range lines {
		text.WriteString(line.name + "=" + line.value + "\n")
		req.Environment = append(req.Environment, compose.Variable{
			Name: line.name, Value: line.value, Expand: strings.Contains(line.value, "$"),
			Origin: fleet.Position{File: "stacks.toml", Line: 10 + i, Col: 1},
		})
	}
	known := map[string]string{"DOTENV": "dot", "POOL": "p$$q"}
	want, err := dotenv.ParseWithLookup(strings.NewReader(text.String()), func(name string) (string, bool) {
		value, ok := known[name]
		return value, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	result, findings := compose.Load(t.Context(), req)
	if len(findings) > 0 {
		t.Errorf("findings: %v", findings)
	}
	got := map[string]string{}
	for name, value := range agentLoad(t, "/x", blob(t, result, req, result.Release.Model), "web").Services["app"].Environment {
		got[name] = *value
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if req.Environment[1].Value != "/home/${PUID}" {
		t.Error("the request was changed")
	}
}

func TestEnvironmentThatRefersToNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		value, rule string
		severity    fleet.Severity
		offline     bool
	}{
		"undefined": {"a$wordb", "undefined-variable", fleet.SeverityWarning, false},
		"offline":   {"${X}", "undefined-variable", fleet.SeverityNote, true},
		"required":  {"${X:?why}", "interpolation", fleet.SeverityError, false},
		"open":      {"${X", "interpolation", fleet.SeverityError, false},
		"deep":      {strings.Repeat("${A:-", 30) + strings.Repeat("}", 30), "interpolation", fleet.SeverityError, false},
	} {
		t.Run(name, func(t *testing.T) {
			req := one(app(""))
			req.Offline = tc.offline
			req.Environment = []compose.Variable{{Name: "V", Value: tc.value, Expand: true, Origin: fleet.Position{File: "stacks.toml", Line: 9, Col: 3}}}
			_, findings := compose.Load(t.Context(), req)
			wantFinding(t, findings, tc.severity, tc.rule, "stacks.toml:9:3")
		})
	}
}
