package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/compose/v5/pkg/api"
	"github.com/docker/compose/v5/pkg/compose"
	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/agent/docker/job"
)

func TestVersionLabelIsThePinnedSDK(t *testing.T) {
	mod, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mod), "github.com/docker/compose/v5 v"+composeVersion+"\n") {
		t.Errorf("go.mod does not pin the Compose SDK at v%s", composeVersion)
	}
}

// loadModel loads a model the way an order does.
func loadModel(t *testing.T, yaml string) (*work, *types.Project, error) {
	t.Helper()
	dir := t.TempDir()
	model := filepath.Join(dir, "compose.yaml")
	if err := os.WriteFile(model, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &work{out: &output{w: &bytes.Buffer{}}, req: job.Request{
		Op: job.Up, Project: "shop", Dir: filepath.Join(dir, "run"), Model: model,
		OwnerLabels:   map[string]string{"dev.varan.server": "alpha"},
		ReleaseLabels: map[string]string{"dev.varan.commit": "c0ffee"},
	}}
	project, err := w.load(t.Context())
	return w, project, err
}

func TestLoadReadsNothingButTheModel(t *testing.T) {
	t.Setenv("SECRET_OF_THE_AGENT", "leaked")
	t.Setenv("COMPOSE_PROJECT_NAME", "hijacked")
	_, project, err := loadModel(t, `
name: other
services:
  web:
    image: app:1
    profiles: [special]
    environment:
      DOLLAR: "${SECRET_OF_THE_AGENT} $$ $x"
      UNSET:
      SECRET_OF_THE_AGENT:
    volumes:
      - type: volume
        source: d
        target: /d
      - type: bind
        source: ./conf
        target: /conf
volumes:
  d: {}
`)
	if err != nil {
		t.Fatal(err)
	}
	if project.Name != "shop" {
		t.Errorf("project %q, want shop", project.Name)
	}
	web := project.Services["web"]
	if got := *web.Environment["DOLLAR"]; got != "${SECRET_OF_THE_AGENT} $$ $x" {
		t.Errorf("a value was interpolated: %q", got)
	}
	for _, name := range []string{"UNSET", "SECRET_OF_THE_AGENT"} {
		if v := web.Environment[name]; v != nil {
			t.Errorf("%s was taken from the process: %q", name, *v)
		}
	}
	if v := web.Volumes[0]; v.Type != "volume" || v.Source != "d" || v.Target != "/d" {
		t.Errorf("a single-letter volume became %+v", v)
	}
	if v := web.Volumes[1]; v.Source != filepath.Join(project.WorkingDir, "conf") || !filepath.IsAbs(v.Source) {
		t.Errorf("bind source %q is not in the run directory", v.Source)
	}
}

func TestOurLabelsAreNotInComposeHash(t *testing.T) {
	const yaml = "services: {web: {image: 'app:1', labels: {dev.varan.digest: 'sha256:x'}}}\n"
	_, project, err := loadModel(t, yaml)
	if err != nil {
		t.Fatal(err)
	}
	web := project.Services["web"]
	want := map[string]string{
		api.ProjectLabel: "shop", api.ServiceLabel: "web", api.OneoffLabel: "False",
		api.VersionLabel: api.ComposeVersion, api.WorkingDirLabel: project.WorkingDir,
		api.ConfigFilesLabel: project.ComposeFiles[0],
		"dev.varan.server":   "alpha", "dev.varan.commit": "c0ffee",
	}
	if diff := cmp.Diff(want, map[string]string(web.CustomLabels)); diff != "" {
		t.Errorf("custom labels (-want +got):\n%s", diff)
	}
	labelled, err := compose.ServiceHash(web)
	if err != nil {
		t.Fatal(err)
	}
	web.CustomLabels = nil
	bare, err := compose.ServiceHash(web)
	if err != nil {
		t.Fatal(err)
	}
	web.Labels = types.Labels{"dev.varan.digest": "sha256:y"}
	other, err := compose.ServiceHash(web)
	if err != nil {
		t.Fatal(err)
	}
	if labelled != bare {
		t.Error("server, stack or commit would recreate containers")
	}
	if other == bare {
		t.Error("the digest would not recreate its container")
	}
}

func TestEnvFileHashesAsTheCommandLineDoes(t *testing.T) {
	dir := t.TempDir()
	env := filepath.Join(dir, "app.env")
	if err := os.WriteFile(env, []byte("A=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, project, err := loadModel(t, "services: {web: {image: 'app:1', env_file: ["+env+"]}}\n")
	if err != nil {
		t.Fatal(err)
	}
	web := project.Services["web"]
	if len(web.EnvFiles) > 0 || web.Environment["A"] == nil {
		t.Errorf("env_file %v, environment %v: the file must have become environment", web.EnvFiles, web.Environment)
	}
}

func TestProviderIsRefused(t *testing.T) {
	_, _, err := loadModel(t, "services: {db: {provider: {type: sh}}}\n")
	if !errors.Is(err, errProvider) {
		t.Errorf("err %v, want %v", err, errProvider)
	}
}

func TestQuestionsAreAnsweredNoButForVolumesGivenUp(t *testing.T) {
	w, _, err := loadModel(t, `
services: {web: {image: 'app:1', volumes: [{type: volume, source: data, target: /d}, {type: volume, source: cache, target: /c}]}}
volumes: {data: {}, cache: {}}
`)
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	w.out = &output{w: &said}
	w.req.RecreateVolumes = []string{"cache"}
	const rest = " exists but doesn't match configuration in compose file. Recreate (data will be lost)?"
	for question, want := range map[string]bool{
		`Volume "shop_data"` + rest:   false,
		`Volume "shop_cache"` + rest:  true,
		`Volume "shop_cache2"` + rest: false,
		"Anything else?":              false,
	} {
		if got, err := w.answer(question, true); got != want || err != nil {
			t.Errorf("%s: %t, %v, want %t", question, got, err, want)
		}
	}
	if n := strings.Count(said.String(), `"question"`); n != 4 {
		t.Errorf("%d questions were told, want 4", n)
	}
}

func TestOutputSaysEachThingOnceAndEndsWithTheResult(t *testing.T) {
	var out bytes.Buffer
	o := &output{w: &out}
	o.On(api.Resource{ID: "Container x", Status: api.Working, Text: "Starting"},
		api.Resource{ID: "Container x", Status: api.Working, Text: "Starting"},
		api.Resource{ID: "Container x", Status: api.Error, Text: "boom"})
	o.Done("up", true)
	o.result(job.Result{Error: "no"})
	var lines []job.Line
	for dec := json.NewDecoder(&out); dec.More(); {
		var l job.Line
		if err := dec.Decode(&l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	want := []job.Line{
		{Event: &job.Event{ID: "Container x", Text: "Starting", Percent: -1}},
		{Event: &job.Event{ID: "Container x", Text: "boom", Percent: -1, Failed: true}},
		{Result: &job.Result{Error: "no"}},
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestWorkGoesOnWhenNobodyReads(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Close()); err != nil {
		t.Fatal(err)
	}
	o := &output{w: w}
	o.result(job.Result{})
	if !o.gone {
		t.Error("output did not notice that nobody reads")
	}
	o.On(api.Resource{ID: "x"})
}

func TestUnknownOpIsNamedInTheResult(t *testing.T) {
	res := run(t.Context(), job.Request{Op: "unheard-of", Host: "unix:///nowhere", Deadline: time.Now()}, &output{w: &bytes.Buffer{}})
	if !strings.Contains(res.Error, "unheard-of") {
		t.Errorf("error %q does not name the op", res.Error)
	}
}
