package render_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
)

// TestSettingsOfAStackReachItsRelease goes from TOML to what an agent gets.
func TestSettingsOfAStackReachItsRelease(t *testing.T) {
	r := repo{
		"fleet.toml": `[[server]]
name = "alpha"
enabled = true

[[stack]]
name = "web"
[stack.config]
server = "alpha"
run_directory = "stacks/web"
file_paths = ["compose.yaml", "../common.yaml"]
additional_env_files = ["../../global.env", {path = "none.env", track = false}]
environment = """
HOST = web.${ZONE}
"""
extra_args = ["--force-recreate --scale app=2", "--profile more"]
build_extra_args = ["--no-cache"]
interpolate_files = true
[stack.config.pre_deploy]
command = """
# first
login [[PASSWORD]]
"""
[[stack.config.config_files]]
path = "conf/app.toml"
requires = "Restart"
services = ["app"]
[[stack.config.config_files]]
path = "../shared.toml"
requires = "Redeploy"
`,
		"global.env":                 "ZONE=example.org\n",
		"stacks/common.yaml":         "services: {app: {labels: {host: \"${HOST}\"}}}\n",
		"stacks/shared.toml":         "a = 1\n",
		"stacks/web/compose.yaml":    "services:\n  app: {image: a}\n  extra: {image: e, profiles: [more]}\n",
		"stacks/web/conf/app.toml":   "password = \"[[PASSWORD]]\"\n",
		"stacks/web/conf/other.toml": "",
	}
	out := mustRender(t, newRenderer(), input(t, r, "c1"))
	wantFinding(t, out.Diagnostics, fleet.SeverityNote, "file-not-found", "fleet.toml:11:1")
	release := stack(t, out, "web").Release

	files := map[string]string{}
	for _, f := range release.Files {
		data, err := out.Content.Blob(t.Context(), f.Digest)
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		if f.Salted {
			_, text, _ = strings.Cut(text, "\n")
		}
		files[f.Path] = text
	}
	delete(files, ".env")
	wantFiles := map[string]string{".repo/stacks/shared.toml": "a = 1\n", "conf/app.toml": "password = \"zq9secret\"\n"}
	if diff := cmp.Diff(wantFiles, files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	script, err := out.Content.Blob(t.Context(), release.Options.PreDeploy.Script)
	if err != nil || !strings.HasSuffix(string(script), "\nlogin zq9secret\n") {
		t.Errorf("script %q, %v", script, err)
	}
	if !release.Options.Up.ForceRecreate || !release.Options.BuildWith.NoCache {
		t.Errorf("options %+v", release.Options)
	}
	app, _ := release.Service("app")
	extra, _ := release.Service("extra")
	if app.Replicas != 2 || app.Restart == "" || extra.Restart != "" || extra.Name == "" {
		t.Errorf("app %+v, extra %+v", app, extra)
	}
	for _, f := range app.Fields {
		if f.Path == "labels.host" && f.Value != "web.example.org" {
			t.Errorf("label %+v", f)
		}
	}
	r["stacks/web/conf/app.toml"] = "other\n"
	after, _ := stack(t, mustRender(t, newRenderer(), input(t, r, "c2")), "web").Release.Service("app")
	if after.Digest != app.Digest || after.Restart == app.Restart {
		t.Error("the config file asks for more, or less, than a restart")
	}
}
