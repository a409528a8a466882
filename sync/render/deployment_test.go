package render_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
)

const deploymentTOML = `[[server]]
name = "alpha"
enabled = true
[[stack]]
name = "web"
server = "alpha"
file_contents = "services: {a: {image: a}}"
after = ["Grafana UI"]
[[deployment]]
name = "Grafana UI"
description = "dashboards"
after = ["web-2"]
[deployment.config]
server = "alpha"
image.type = "Image"
image.params.image = "grafana/grafana:11"
network = "front"
restart = "unless-stopped"
command = "--flag \"two words\" $HOME"
termination_signal = "SIGINT"
termination_timeout = 30
ports = """
3001 = 3000
127.0.0.1:9000 : 9000/udp
"""
volumes = """
grafana-data = /var/lib/grafana
/data/conf : /etc/conf:ro
"""
environment = """
ADMIN = [[PASSWORD]]
PRICE = 5$
"""
labels = "traefik.rule = Host(` + "`a.b`" + `)"
extra_args = [
  "--cap-add NET_ADMIN --cap-add=SYS_TIME",
  "--memory", "512m",
  "--health-cmd \"curl -f localhost\" --health-interval=5s",
  "--ulimit nofile=1024:2048 --sysctl net.core.somaxconn=1024",
  "--log-opt max-size=10m --log-driver json-file",
  "--add-host=host.docker.internal:host-gateway -e MORE=1 -u 1000 --init",
  "--mount type=bind,source=/srv/a,target=/a,readonly",
  "-v cache:/cache",
]
[[deployment]]
name = "web"
[deployment.config]
server = "alpha"
custom_name = "old-name"
image.type = "Image"
image.params.image = "b"
ports = "1 = 1"
`

func TestADeploymentIsAComposeProjectOfOneService(t *testing.T) {
	toml := strings.Replace(deploymentTOML, `after = ["web-2"]`, "", 1)
	renderer := newRenderer()
	out := mustRender(t, renderer, input(t, repo{"fleet.toml": toml}, "c1"))
	wantFinding(t, out.Diagnostics, fleet.SeverityNote, "name-taken", "fleet.toml:46:1")
	wantFinding(t, out.Diagnostics, fleet.SeverityNote, "ports-ignored", "fleet.toml:52:10")
	d := stack(t, out, "Grafana UI")
	if d.Kind != fleet.KindDeployment || d.Release.Project != "grafana-ui" || !d.Release.Options.Pull || d.Description != "dashboards" {
		t.Errorf("deployment: %+v", d)
	}
	if diff := cmp.Diff([]string{"Grafana UI"}, stack(t, out, "web").After); diff != "" {
		t.Errorf("after (-want +got):\n%s", diff)
	}
	got := map[string]any{}
	data, err := out.Content.Blob(t.Context(), d.Release.Model)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data[strings.IndexByte(string(data), '{'):], &got); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	services, _ := got["services"].(map[string]any)
	service, _ := services["Grafana_UI"].(map[string]any)
	delete(service, "labels")
	var want map[string]any
	if err := json.Unmarshal([]byte(`{
		"image": "grafana/grafana:11", "container_name": "Grafana_UI", "restart": "unless-stopped",
		"command": ["--flag", "two words", "$HOME"], "stop_signal": "SIGINT", "stop_grace_period": "30s",
		"environment": {"ADMIN": "zq9secret", "PRICE": "5$", "MORE": "1"},
		"networks": {"joined": null}, "cap_add": ["NET_ADMIN", "SYS_TIME"], "mem_limit": "536870912",
		"healthcheck": {"test": ["CMD-SHELL", "curl -f localhost"], "interval": "5s"},
		"ulimits": {"nofile": {"soft": 1024, "hard": 2048}}, "sysctls": {"net.core.somaxconn": "1024"},
		"logging": {"driver": "json-file", "options": {"max-size": "10m"}},
		"extra_hosts": ["host.docker.internal=host-gateway"], "user": "1000", "init": true,
		"ports": [
			{"mode": "ingress", "target": 3000, "published": "3001", "protocol": "tcp"},
			{"mode": "ingress", "host_ip": "127.0.0.1", "target": 9000, "published": "9000", "protocol": "udp"}
		],
		"volumes": [
			{"type": "volume", "source": "grafana-data", "target": "/var/lib/grafana", "volume": {}},
			{"type": "bind", "source": "/data/conf", "target": "/etc/conf", "read_only": true, "bind": {}},
			{"type": "volume", "source": "cache", "target": "/cache", "volume": {}},
			{"type": "bind", "source": "/srv/a", "target": "/a", "read_only": true}
		]
	}`), &want); err != nil {
		t.Fatal(err)
	}
	sortMounts := cmp.Transformer("sorted", func(list []any) []any {
		out := slices.Clone(list)
		slices.SortFunc(out, func(a, b any) int { return strings.Compare(text(a), text(b)) })
		return out
	})
	delete(service, "entrypoint")
	if diff := cmp.Diff(want, service, sortMounts); diff != "" {
		t.Errorf("service (-want +got):\n%s", diff)
	}
	for key, want := range map[string]string{
		"networks": `{"joined":{"external":true,"ipam":{},"name":"front"}}`,
		"volumes":  `{"cache":{"name":"cache"},"grafana-data":{"name":"grafana-data"}}`,
	} {
		if got := text(got[key]); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
	places := map[string]string{}
	for _, f := range d.Release.Services[0].Fields {
		places[f.Path] = f.Origin.String()
	}
	for path, want := range map[string]string{
		"image": "fleet.toml:15:14", "ports[0]": "fleet.toml:23:1", "environment.ADMIN": "fleet.toml:31:1",
		"mem_limit": "fleet.toml:37:3", "restart": "fleet.toml:18:1",
	} {
		if !strings.HasPrefix(places[path], want[:len(want)-2]) {
			t.Errorf("%s is at %s, want %s", path, places[path], want)
		}
	}
	other := stack(t, out, "web-deployment")
	if name := fieldOf(t, out, "web-deployment", "container_name"); name != "old-name" || other.Release.Project != "web-deployment" {
		t.Errorf("container %q, project %q", name, other.Release.Project)
	}
	if again := mustRender(t, renderer, input(t, repo{"fleet.toml": "# moved\n" + toml}, "c2")); again.Loads != 0 {
		t.Errorf("%d loads without a change", again.Loads)
	} else if at := stack(t, again, "web-deployment").Release.Services[0].Fields[0].Origin; at.File != "fleet.toml" || at.Line < 47 {
		t.Errorf("a field is at %s", at)
	}
}

func text(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func TestFaultsOfDeploymentsAreAtTheirFields(t *testing.T) {
	for name, tc := range map[string]struct {
		config   string
		severity fleet.Severity
		rule     string
		line     int
	}{
		"no image":           {``, fleet.SeverityError, "missing-image", 4},
		"bad image":          {`image = {type = "Image", params = {image = "A B"}}`, fleet.SeverityError, "image-reference", 8},
		"unknown build":      {`image = {type = "Build", params = {build = "x"}}`, fleet.SeverityError, "unknown-build", 8},
		"unknown flag":       {"image.params.image = \"a\"\nimage.type = \"Image\"\nextra_args = [\"--init\",\n\"--capadd X\"]", fleet.SeverityError, "extra-args", 11},
		"flag with a field":  {"image.params.image = \"a\"\nimage.type = \"Image\"\nextra_args = [\"--name x\"]", fleet.SeverityError, "extra-args", 10},
		"flag without value": {"image.params.image = \"a\"\nimage.type = \"Image\"\nextra_args = [\"--memory\"]", fleet.SeverityError, "extra-args", 10},
		"relative path":      {"image.params.image = \"a\"\nimage.type = \"Image\"\nvolumes = \"./x : /x\"", fleet.SeverityError, "path-outside", 10},
		"bad port":           {"image.params.image = \"a\"\nimage.type = \"Image\"\nnetwork = \"bridge\"\nports = \"x = 80\"", fleet.SeverityError, "port-syntax", 11},
		"privileged":         {"image.params.image = \"a\"\nimage.type = \"Image\"\nextra_args = [\"--privileged\"]", fleet.SeverityWarning, "privileged", 10},
		"undefined variable": {"image.params.image = \"a\"\nimage.type = \"Image\"\ncommand = \"x [[NOPE]]\"", fleet.SeverityError, "undefined-variable", 10},
	} {
		t.Run(name, func(t *testing.T) {
			r := repo{"fleet.toml": "[[server]]\nname = \"alpha\"\nenabled = true\n[[deployment]]\nname = \"dd\"\n[deployment.config]\nserver = \"alpha\"\n" + tc.config + "\n"}
			out, err := newRenderer().Render(t.Context(), input(t, r, "c1"))
			if err != nil {
				t.Fatal(err)
			}
			found := slices.ContainsFunc(out.Diagnostics, func(d fleet.Diagnostic) bool {
				return d.Severity == tc.severity && d.File == "fleet.toml" && d.Line == tc.line && d.Rule == tc.rule
			})
			if !found {
				t.Errorf("no %s [%s] on line %d, found:\n%s", tc.severity, tc.rule, tc.line, out.Diagnostics)
			}
			if strings.Contains(out.Diagnostics.Error(), "\x00") {
				t.Errorf("an inner name is shown: %q", out.Diagnostics.Error())
			}
		})
	}
}

func TestADeploymentOfABuildTakesTheImageItMakes(t *testing.T) {
	build := `[[build]]
name = "cli"
[build.config]
builder = "local"
version = "4.3.2"
auto_increment_version = false
image_registry = {domain = "ghcr.io", account = "Kim"}
[[builder]]
name = "local"
[builder.config]
type = "Server"
params.server = "alpha"
`
	r := repo{"fleet.toml": "[[server]]\nname = \"alpha\"\nenabled = true\n[[deployment]]\nname = \"dd\"\n[deployment.config]\nserver = \"alpha\"\nimage = {type = \"Build\", params = {build = \"cli\"}}\n" + build}
	out := mustRender(t, newRenderer(), input(t, r, "c1"))
	if image := stack(t, out, "dd").Release.Services[0].Image; image != "ghcr.io/kim/cli:4.3.2" {
		t.Errorf("image %q", image)
	}
	wantFinding(t, out.Diagnostics, fleet.SeverityNote, "build-not-run", "fleet.toml:8:10")
}

func TestARepoIsFilesInADirectory(t *testing.T) {
	r := repo{"fleet.toml": `[[server]]
name = "alpha"
enabled = true
[[repo]]
name = "tools"
[repo.config]
server = "alpha"
git_provider = "git.example.com"
repo = "house/tools"
path = "/srv/tools"
environment = "TOKEN = [[PASSWORD]]"
on_clone = {command = "make first"}
on_pull = {path = "bin", command = "make again"}
[[repo]]
name = "relative"
[repo.config]
server = "alpha"
repo = "house/docker"
[[repo]]
name = "only-a-source"
[repo.config]
repo = "house/else"
`, "bin/run": "here"}
	src := &elsewhere{repositories: map[string]repo{
		"git.example.com/house/tools main": {"bin/run": "run", "README.md": "readme"},
	}}
	in := input(t, r, "c1")
	in.Sources = src
	renderer := newRenderer()
	out := mustRender(t, renderer, in)
	tools := stack(t, out, "tools")
	if tools.Kind != fleet.KindRepo || len(tools.Release.Services) != 0 || tools.Release.Options.Dir != "/srv/tools" || tools.Release.Digest == "" {
		t.Errorf("repo: %+v", tools)
	}
	got := map[string]string{}
	for _, f := range tools.Release.Files {
		data, err := out.Content.Blob(t.Context(), f.Digest)
		if err != nil {
			t.Fatal(err)
		}
		got[f.Path] = string(data)
	}
	if !strings.HasSuffix(got[".env"], "TOKEN=zq9secret\n") {
		t.Errorf("environment file %q", got[".env"])
	}
	delete(got, ".env")
	if diff := cmp.Diff(map[string]string{"bin/run": "run", "README.md": "readme"}, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	options := tools.Release.Options
	for want, command := range map[string]fleet.Command{"make first\n": options.FirstDeploy, "make again\n": options.PostDeploy} {
		if script, err := out.Content.Blob(t.Context(), command.Script); err != nil || !strings.HasSuffix(string(script), want) {
			t.Errorf("script %q, %v; want %q", script, err, want)
		}
	}
	if dir := stack(t, out, "relative").Release.Options.Dir; dir != "relative" {
		t.Errorf("directory %q", dir)
	}
	if _, ok := out.Desired.Stack("only-a-source"); ok {
		t.Error("a repo without a server is deployed")
	}
	src.repositories["git.example.com/house/tools main"]["bin/run"] = "run 2"
	in.Commit.ID = "c2"
	if again := mustRender(t, renderer, in); again.Loads != 1 {
		t.Errorf("%d loads, want that of the repo that changed", again.Loads)
	}
	in.Commit.ID = "c3"
	if again := mustRender(t, renderer, in); again.Loads != 0 {
		t.Errorf("%d loads without a change", again.Loads)
	}
}
