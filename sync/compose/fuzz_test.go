package compose_test

import (
	"bytes"
	"io/fs"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/dotenv"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
)

// FuzzPreScan feeds arbitrary text. Whatever is accepted gives a model that an agent can
// load, and keeps within the limits; whatever is refused says where.
func FuzzPreScan(f *testing.F) {
	f.Add([]byte(app("")))
	f.Add([]byte(digestBase))
	f.Add([]byte("x: &a [*a]\nservices: {a: {image: b, <<: [*a]}}\n---\nservices: !reset {}\n"))
	f.Add([]byte("include: [{path: [a, b]}]\nservices: {a: {extends: {service: b, file: c}}}\n"))
	f.Add([]byte("services: {a: {image: a, ports: ['1-2:3-4'], volumes: [x:/y, ./z:/z:ro], deploy: {replicas: 3}}}\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		req := one(string(src))
		result, findings := compose.Load(t.Context(), req)
		if findings.HasErrors() {
			for _, d := range findings {
				if d.Severity == fleet.SeverityError && (d.Rule == "" || d.File == "" || d.Message == "") {
					t.Errorf("an error that does not explain itself: %+v", d)
				}
			}
			return
		}
		if len(src) > 1<<20 || len(result.Release.Services) == 0 || len(result.Release.Services) > 200 {
			t.Fatalf("accepted %d bytes with %d services", len(src), len(result.Release.Services))
		}
		for _, s := range result.Release.Services {
			if s.Replicas < 0 || s.Replicas > 100 || !s.Digest.Valid() {
				t.Errorf("service %+v", s)
			}
		}
		agentLoad(t, "/nonexistent", blob(t, result, req, result.Release.Model), "web")
	})
}

// FuzzEnvFile writes a variable and reads it as Compose does.
func FuzzEnvFile(f *testing.F) {
	for _, value := range []string{
		"", "a", "a\nEVIL=1", `it's`, `a\`, `\'`, `'"$X${Y}`, " # no comment", "a\\nb", "\r\n", `\\\"`, "é \t", `$$`, "#",
	} {
		f.Add("NAME", value)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		req := one(app(""))
		req.Environment = []compose.Variable{{Name: name, Value: value}, {Name: "AFTER", Value: "1"}}
		if _, findings := compose.Load(t.Context(), req); findings.HasErrors() {
			return
		}
		got, err := dotenv.Parse(bytes.NewReader(compose.FormatEnv(req.Environment)))
		if err != nil {
			t.Fatalf("%q: %v", value, err)
		}
		want := map[string]string{name: value, "AFTER": "1"}
		if name == "AFTER" {
			want = map[string]string{"AFTER": "1"}
		}
		if len(got) != len(want) || got[name] != want[name] || got["AFTER"] != "1" {
			t.Fatalf("%q became %q", want, got)
		}
	})
}

// FuzzSettings feeds what a stack's own table may hold beside its Compose file. Whatever is
// accepted has a release, and the commands of a hook keep their words.
func FuzzSettings(f *testing.F) {
	f.Add("--scale app=2 -t 3", "make all # x\nb \\\n c", "a${B:-c}$$", "conf/x")
	f.Add("--build-arg 'A=b", "'\n#\n\\", "${", "../x")
	f.Add("-Vdt20 --profile=x", "\\\n\\\n", "$A$$", "./conf/../.")
	f.Fuzz(func(t *testing.T, args, command, value, path string) {
		req := one(app("environment: {V: \"${V}\"}"))
		req.Tree.(tree).MapFS["conf/x"] = files(map[string]string{"x": "1"}).MapFS["x"]
		req.ExtraArgs, req.BuildExtraArgs = []string{args}, []string{args}
		req.PreDeploy = compose.Hook{Command: command, Path: path}
		req.Environment = []compose.Variable{{Name: "V", Value: value, Expand: true}}
		req.ConfigFiles = []compose.ConfigFile{{Path: path, Requires: compose.ReactRestart}}
		result, findings := compose.Load(t.Context(), req)
		for _, d := range findings {
			if d.Rule == "" || d.File == "" || d.Message == "" {
				t.Errorf("a finding that does not explain itself: %+v", d)
			}
		}
		if findings.HasErrors() {
			return
		}
		for _, file := range result.Release.Files {
			if !fs.ValidPath(file.Path) {
				t.Errorf("file %q is not in the run directory", file.Path)
			}
		}
		if dir := result.Release.Options.PreDeploy.Path; dir != "" && !fs.ValidPath(dir) {
			t.Errorf("the hook runs in %q", dir)
		}
		if script := result.Release.Options.PreDeploy.Script; script != "" {
			_, text, _ := strings.Cut(blob(t, result, req, script), "\n")
			for line := range strings.Lines(text) {
				if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
					t.Errorf("a command %q of %q", line, command)
				}
			}
		}
	})
}
