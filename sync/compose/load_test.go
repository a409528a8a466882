package compose_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
)

const richMain = `name: web
version: "3.9"
include:
  - extra/compose.yaml
x-common: &common
  restart: unless-stopped
  logging: {driver: json-file, options: {max-size: "10m"}}
services:
  app:
    <<: *common
    image: registry.example.com/app:${TAG:-1.0}
    command: serve --port 80 --greeting "hello $$USER"
    entrypoint: ["/bin/app", "-v"]
    environment:
      LITERAL: a$$b "c" 'd' \n
      FROM_ENV: ${GREETING}
      MULTI: |
        line one
        line two
      NUMBER: 12
      YES: "yes"
    env_file:
      - .env
      - path: conf/app.env
      - path: conf/none.env
        required: false
    label_file: conf/labels
    labels: ["com.example.a=b$$c"]
    ports: ["127.0.0.1:8080-8081:80-81", "53:53/udp"]
    volumes:
      - ./conf/app.toml:/etc/app.toml:ro
      - ./data:/var/data
      - state:/var/state
      - type: tmpfs
        target: /tmp
        tmpfs: {size: 64m, mode: 1777}
      - /srv/host:/srv:rw
    configs:
      - source: inline
        target: /etc/inline
        mode: 0440
      - file
    secrets: [token, fromenv]
    healthcheck:
      test: ["CMD", "app", "health"]
      interval: 1m30s
      start_period: 5s
    depends_on:
      init: {condition: service_completed_successfully}
      gone: {condition: service_started, required: false}
    ulimits: {nofile: {soft: 1000, hard: 2000}, nproc: 65535}
    extra_hosts: ["a:10.0.0.1", "b:10.0.0.2"]
    deploy:
      replicas: 2
      resources: {limits: {cpus: "0.5", memory: 128M}}
    mem_swappiness: 10
    sysctls: {net.core.somaxconn: 1024}
    stop_grace_period: 20s
    networks:
      default: {aliases: [web-app]}
      back:
    x-note: mine
  init:
    extends: {file: base/base.yaml, service: job}
    command: migrate
  gone:
    image: nothing
    profiles: [never]
volumes:
  state: {labels: {keep: "yes"}}
  unused: {}
networks:
  back: {internal: true}
configs:
  inline: {content: "port = ${PORT:?set it}\n"}
  file: {file: conf/file.cfg}
secrets:
  token: {file: ./conf/token}
  fromenv: {environment: PASSWORD}
`

func richFiles() map[string]string {
	return map[string]string{
		"compose.yaml":          richMain,
		"extra/compose.yaml":    "services:\n  side:\n    build: .\n    volumes: [\"./html:/html\"]\n    environment: [\"WHERE=${WHERE}\"]\n",
		"extra/.env":            "WHERE=beside\n",
		"extra/Dockerfile":      "FROM scratch\n",
		"extra/html/index.html": "<p>hi",
		"base/base.yaml":        "services:\n  job:\n    image: job:${TAG:-2.0}\n    volumes: [\"./seed:/seed\"]\n",
		"base/seed/a.sql":       "select 1",
		"conf/app.toml":         "x = 1\n",
		"conf/app.env":          "FROM_FILE=\"$GREETING again\"\nLITERAL=lost\n",
		"conf/labels":           "com.example.file=yes\n",
		"conf/file.cfg":         "a=b\n",
		"conf/token":            "t0ken\n",
		".env":                  "TAG=9.9\nGREETING=replaced\n",
		".env.example":          "TAG=never\n",
	}
}

func richRequest() compose.Request {
	req := request(files(richFiles()))
	req.Environment = []compose.Variable{
		{Name: "GREETING", Value: `it's "$5" & more`, Origin: fleet.Position{File: "stacks.toml", Line: 20, Col: 3}},
		{Name: "PORT", Value: "8080"},
		{Name: "PASSWORD", Value: "hunter2 and\nmore", Secret: true},
		{Name: "TAG", Value: "3.1"},
	}
	return req
}

// checkout writes the repository as a person would have it, environment file included.
func checkout(t *testing.T, req compose.Request) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range richFiles() {
		writeFile(t, filepath.Join(dir, name), text)
	}
	writeFile(t, filepath.Join(dir, ".env"), string(compose.FormatEnv(req.Environment)))
	return dir
}

func writeFile(tb testing.TB, name, text string) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// agentLoad loads a resolved model as an agent does.
func agentLoad(tb testing.TB, dir, model, project string) *types.Project {
	tb.Helper()
	p, err := loader.LoadWithContext(tb.Context(), types.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "model.yaml"), Content: []byte(model)}},
		Environment: types.Mapping{},
	}, func(o *loader.Options) {
		o.SetProjectName(project, true)
		o.SkipInterpolation = true
	})
	if err != nil {
		tb.Fatalf("load the resolved model: %v\n%s", err, model)
	}
	return p
}

// asJSON is a project as JSON values, without what differs on purpose.
func asJSON(t *testing.T, p *types.Project) map[string]any {
	t.Helper()
	for name, s := range p.Services {
		delete(s.Labels, fleet.LabelDigest)
		if len(s.Labels) == 0 {
			s.Labels = nil
		}
		s.Profiles, s.Develop, s.Extensions = nil, nil, nil
		p.Services[name] = s
	}
	for name, c := range p.Configs {
		c.Environment = ""
		p.Configs[name] = c
	}
	p.Extensions = nil
	data, err := p.MarshalJSON(types.WithSecretContent)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestResolvedModelIsWhatComposeWouldLoadFromACheckout(t *testing.T) {
	req := richRequest()
	result := mustLoad(t, req)
	dir := checkout(t, req)

	options, err := cli.NewProjectOptions([]string{filepath.Join(dir, "compose.yaml")},
		cli.WithWorkingDirectory(dir), cli.WithEnvFiles(), cli.WithDotEnv, cli.WithName("web"), cli.WithDiscardEnvFile)
	if err != nil {
		t.Fatal(err)
	}
	want, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want = want.WithoutUnresolvedOptionalDependencies().WithoutUnnecessaryResources()
	for name, s := range want.Services {
		s.LabelFiles = nil
		want.Services[name] = s
	}
	got := agentLoad(t, dir, blob(t, result, req, result.Release.Model), "web")
	if diff := cmp.Diff(asJSON(t, want), asJSON(t, got)); diff != "" {
		t.Errorf("the agent's project differs from Compose's own (-want +got):\n%s", diff)
	}
}

func TestReleaseHoldsTheFilesServicesUse(t *testing.T) {
	req := richRequest()
	req.Tree.(tree).MapFS["conf/app.toml"].Mode = 0o755
	result := mustLoad(t, req)
	var got []string
	for _, f := range result.Release.Files {
		kind := ""
		if f.Secret {
			kind = " secret"
		}
		if f.Mode == 0o755 {
			kind = " executable"
		}
		got = append(got, f.Path+kind)
	}
	want := []string{
		".env secret", "base/seed/a.sql", "conf/app.toml executable", "conf/file.cfg", "conf/token",
		"extra/.env", "extra/Dockerfile", "extra/compose.yaml", "extra/html/index.html",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for _, f := range result.Release.Files {
		if text := blob(t, result, req, f.Digest); int64(len(text)) != f.Size {
			t.Errorf("%s: %d bytes, want %d", f.Path, len(text), f.Size)
		}
	}
}

func TestLoadIsDeterministic(t *testing.T) {
	first := mustLoad(t, richRequest())
	for range 10 {
		if diff := cmp.Diff(first.Release, mustLoad(t, richRequest()).Release); diff != "" {
			t.Fatalf("loads differ:\n%s", diff)
		}
	}
}

func TestSecretsAppearOnlyInTheirBlobs(t *testing.T) {
	req := one(`
services:
  app:
    image: "app:${SECRET}"
    command: run --password ${WORDS} --size ${SIZE}
    mem_limit: ${SIZE}
    labels: ["${SECRET}=x", "a=${DERIVED}"]
    healthcheck: {test: "check ${SECRET}"}
    ports: ["${SECRETPORT}:80"]
    volumes: ["state:/x"]
    secrets: [s]
    configs: [c]
volumes: {state: {labels: {l: "${SECRET}"}}}
secrets: {s: {environment: SECRET}}
configs: {c: {content: "x ${WORDS}"}}
`)
	req.Tree.(tree).MapFS[".env"] = files(map[string]string{"x": "DERIVED=pre-${SECRET}-post\n"}).MapFS["x"]
	req.EnvFilePath = "stack.env"
	secrets := map[string]string{"SECRET": "zq9secret", "WORDS": "vx1 vx2", "SIZE": "77123456", "SECRETPORT": "45678"}
	for name, value := range secrets {
		req.Environment = append(req.Environment, compose.Variable{Name: name, Value: value, Secret: true})
	}
	result := mustLoad(t, req)
	data, err := json.Marshal(result.Release)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"zq9secret", "vx1", "vx2", "77123456", "45678"} {
		if strings.Contains(string(data), value) {
			t.Errorf("%q is in the release: %s", value, data)
		}
	}
	if model := blob(t, result, req, result.Release.Model); !strings.Contains(model, "zq9secret") {
		t.Error("the model does not hold the secret")
	}
	other := req
	other.Key = []byte("another key")
	if again := mustLoad(t, other); again.Release.Model == result.Release.Model {
		t.Error("the digest of the model does not depend on the key")
	}
}

func TestFieldsExplainTheService(t *testing.T) {
	result := mustLoad(t, richRequest())
	app := service(t, result, "app")
	for _, tc := range []struct{ path, value, origin string }{
		{"image", "registry.example.com/app:3.1", "compose.yaml:11:5"},
		{"restart", "unless-stopped", "compose.yaml:6:3"},
		{"ports[0]", "127.0.0.1:8080:80/tcp", "compose.yaml:29:13"},
		{"volumes[0]", "./conf/app.toml:/etc/app.toml:ro", "compose.yaml:31:9"},
		{"entrypoint", "/bin/app -v", "compose.yaml:13:5"},
		{"healthcheck.test", "CMD app health", "compose.yaml:45:7"},
		{"file ./conf/app.toml", fleet.SumDigest([]byte("x = 1\n")).Short(), "compose.yaml:31:9"},
	} {
		f := fieldOf(t, app, tc.path)
		if f.Value != tc.value || f.Keyed != "" || f.Origin.String() != tc.origin {
			t.Errorf("%s = %q at %s (keyed %q), want %q at %s", tc.path, f.Value, f.Origin, f.Keyed, tc.value, tc.origin)
		}
	}
	for path, origin := range map[string]string{
		"environment.FROM_ENV": "stacks.toml:20:3", "environment.GREETING": "stacks.toml:20:3",
		"environment.LITERAL": "compose.yaml:15:7", "environment.FROM_FILE": "compose.yaml:22:5",
	} {
		f := fieldOf(t, app, path)
		if f.Value != "" || f.Keyed == "" || f.Origin.String() != origin {
			t.Errorf("%s = %+v, want a keyed value at %s", path, f, origin)
		}
	}
	if f := fieldOf(t, service(t, result, "init"), "image"); f.Origin.String() != "base/base.yaml:3:5" {
		t.Errorf("image of init is at %s, want base/base.yaml:3:5", f.Origin)
	}
}

func TestOneShotServices(t *testing.T) {
	result := mustLoad(t, one(`
services:
  job: {image: a}
  labelled: {image: a, labels: {dev.varan.one-shot: "true"}}
  refused: {image: a, labels: {dev.varan.one-shot: "false"}}
  forever: {image: a, restart: always}
  plain: {image: a}
  app:
    image: a
    depends_on:
      job: {condition: service_completed_successfully}
      refused: {condition: service_completed_successfully}
      forever: {condition: service_completed_successfully}
      plain: {condition: service_started}
`))
	got := map[string]bool{}
	for _, s := range result.Release.Services {
		got[s.Name] = s.OneShot
	}
	want := map[string]bool{
		"job": true, "labelled": true, "refused": false, "forever": false, "plain": false, "app": false,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("one-shot (-want +got):\n%s", diff)
	}
}

func TestOverridesAndInlineFiles(t *testing.T) {
	req := request(files(map[string]string{
		"apps/web/a.yaml": "services: {app: {image: one, ports: [\"80:80\"]}}\n",
		"apps/web/b.yaml": "services:\n  app:\n    image: two\n    ports: !override [\"81:80\"]\n",
	}))
	req.RunDirectory, req.FilePaths = "apps/web/", []string{"a.yaml", "./b.yaml"}
	app := service(t, mustLoad(t, req), "app")
	if f := fieldOf(t, app, "image"); f.Value != "two" || f.Origin.String() != "apps/web/b.yaml:3:5" {
		t.Errorf("image = %+v", f)
	}
	if f := fieldOf(t, app, "ports[0]"); f.Value != "81:80/tcp" {
		t.Errorf("ports[0] = %+v", f)
	}

	inline := request(files(nil))
	inline.FileContents = "services:\n  app:\n    image: three\n"
	inline.FileContentsOrigin = fleet.Position{File: "stacks.toml", Line: 30, Col: 17}
	if f := fieldOf(t, service(t, mustLoad(t, inline), "app"), "image"); f.Origin.String() != "stacks.toml:33:5" {
		t.Errorf("inline image at %s, want stacks.toml:33:5", f.Origin)
	}
}

func TestProfilesChooseServices(t *testing.T) {
	req := one("services: {a: {image: a}, b: {image: b, profiles: [x]}, c: {image: c, profiles: [y]}}\n")
	req.Profiles = []string{"x"}
	result := mustLoad(t, req)
	var names []string
	for _, s := range result.Release.Services {
		names = append(names, s.Name)
	}
	if diff := cmp.Diff([]string{"a", "b"}, names); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	if p := agentLoad(t, "/nonexistent", blob(t, result, req, result.Release.Model), "web"); len(p.Services) != 2 {
		t.Errorf("the agent sees %d services", len(p.Services))
	}
}

func TestInlineFileOnOneLine(t *testing.T) {
	req := request(files(nil))
	req.FileContents = "services: {app: {image: a, privilegedd: true}}\n"
	req.FileContentsOrigin = fleet.Position{File: "stacks.toml", Line: 30, Col: 17}
	_, findings := compose.Load(t.Context(), req)
	wantFinding(t, findings, fleet.SeverityError, "unknown-key", "stacks.toml:30:28")
}

func TestDependenciesNameWhatWasReadAndWhatWasMissing(t *testing.T) {
	req := one("services: {app: {image: a, volumes: [\"./data:/d\", \"./conf:/c\"]}}\n")
	req.Tree.(tree).MapFS["conf/x"] = files(map[string]string{"x": "1"}).MapFS["x"]
	want := []string{
		".env", "compose.yaml", "compose.yml", "conf", "data", "docker-compose.yaml", "docker-compose.yml",
	}
	if diff := cmp.Diff(want, mustLoad(t, req).Dependencies); diff != "" {
		t.Errorf("dependencies (-want +got):\n%s", diff)
	}
}
