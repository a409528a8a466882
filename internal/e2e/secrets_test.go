//go:build e2e

package e2e_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/varanhq/varan/core"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/sops"
)

func TestSecretReachesItsContainerAndNoOtherPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.SyncSpec{AutoApply: true}, "alpha")
	canaries := []string{"canary-one-4711", "canary-two-4712"}
	w.setSecret("TOKEN", canaries[0])
	app := compose(service{name: "app", extra: "    environment:\n      TOKEN: ${TOKEN}\n"}, service{name: "side"})
	files := with(w.declare("web@alpha"), file("web/compose.yaml", app))
	files["fleet.toml"] = strings.Replace(files["fleet.toml"], "auto_pull = false\n",
		"auto_pull = false\nenvironment = \"\"\"\nTOKEN = [[TOKEN]]\n\"\"\"\n", 1)
	w.waitCommit("web", w.push("secret", files))
	before := w.running("web")
	w.expectToken(before["app"], canaries[0])

	w.setSecret("TOKEN", canaries[1])
	plan, err := w.api.Plan(t.Context(), "fleet", api.PlanRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if text := plan.Plan.String(); !strings.Contains(text, "environment.TOKEN changed") {
		t.Errorf("the plan does not tell of the new value: %s", text)
	}
	w.webhook("sync", "main")
	w.eventually("the container with the new value", func() bool {
		now := w.running("web")
		return now["app"] != "" && now["app"] != before["app"]
	})
	now := w.running("web")
	w.expectToken(now["app"], canaries[1])
	if now["side"] != before["side"] {
		t.Error("a service that does not use the secret was recreated")
	}

	for _, canary := range canaries {
		w.expectNowhere(canary, plan, true)
	}
}

// TestEncryptedFilesReachTheirContainerInMemoryOnly has a file in every place that a stack
// can use one from. What was decrypted is not even on the disk of the host.
func TestEncryptedFilesReachTheirContainerInMemoryOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.SyncSpec{AutoApply: true}, "alpha")
	recipient, err := core.GenerateAge(core.AgeKeyFile(w.path("core"), fleet.TierTrusted), false, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w.core.kill()
	w.restartCore()
	w.waitOnline("alpha", true)

	const env, inline, token, mounted = "canary-env-5811", "canary-inline-5812", "canary-file-5813", "canary-mounted-5814"
	encrypt := func(name, text string, rule sops.Rule) string {
		t.Helper()
		to := []sops.Recipient{{Kind: sops.KindAge, ID: recipient}}
		data, err := sops.Encrypt(name, sops.FormatOf(name), []byte(text), to, rule, nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	stack := func(content string) map[string]string {
		app := compose(service{name: "app", extra: `    environment:
      INLINE_PASSWORD: ` + inline + `
    env_file: [secrets.env]
    volumes: ["./conf:/conf:ro"]
    secrets: [token]
`}) + "secrets:\n  token: {file: token.txt}\n"
		return with(w.declare("web@alpha"),
			file("web/compose.yaml", encrypt("compose.yaml", app, sops.Rule{EncryptedRegex: "PASSWORD"})),
			file("web/secrets.env", encrypt("secrets.env", "TOKEN="+env+"\n", sops.Rule{})),
			file("web/token.txt", encrypt("token.txt", content, sops.Rule{})),
			file("web/conf/plain.conf", "plain\n"),
			file("web/conf/app.yaml", encrypt("app.yaml", "password: "+mounted+"\n", sops.Rule{})))
	}
	w.waitCommit("web", w.push("encrypted", stack(token)))
	before := w.running("web")
	w.expectToken(before["app"], env)
	w.expectFile(before["app"], "/run/secrets/token", token)
	w.expectFile(before["app"], "/conf/app.yaml", "password: "+mounted+"\n")
	w.expectFile(before["app"], "/conf/plain.conf", "plain\n")

	const changed = "canary-file-5815"
	w.waitCommit("web", w.push("another token", stack(changed)))
	now := w.running("web")
	if now["app"] == before["app"] {
		t.Error("the service was not recreated for its new secret")
	}
	w.expectFile(now["app"], "/run/secrets/token", changed)
	plan, err := w.api.Plan(t.Context(), "fleet", api.PlanRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, canary := range []string{env, inline, token, mounted, changed} {
		w.expectNowhere(canary, plan, false)
	}
}

// expectFile reads a file of a container through the engine, which needs no right of the
// test's own over the container's processes.
func (w *world) expectFile(id, name, want string) {
	w.t.Helper()
	got, link := w.copyOut(id, name)
	if link != "" {
		got, _ = w.copyOut(id, link) // as seen from inside
	}
	if got != want {
		w.t.Errorf("%s in the container holds %q, want %q", name, got, want)
	}
}

func (w *world) copyOut(id, name string) (content, link string) {
	w.t.Helper()
	out, err := w.docker.CopyFromContainer(w.t.Context(), id, client.CopyFromContainerOptions{SourcePath: name})
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = out.Content.Close() }()
	archive := tar.NewReader(out.Content)
	header, err := archive.Next()
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := io.ReadAll(archive)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(raw), header.Linkname
}

func (w *world) setSecret(name, value string) {
	w.t.Helper()
	spec := api.VariableSpec{Value: api.WriteOnly(value), Secret: true}
	if _, err := w.api.SetVariable(w.t.Context(), name, spec); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) expectToken(id, value string) {
	w.t.Helper()
	inspect, err := w.docker.ContainerInspect(w.t.Context(), id, client.ContainerInspectOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	if !slices.Contains(inspect.Container.Config.Env, "TOKEN="+value) {
		w.t.Errorf("the container's environment is %v", inspect.Container.Config.Env)
	}
	for name, label := range inspect.Container.Config.Labels {
		if strings.Contains(label, value) {
			w.t.Errorf("label %s holds the secret", name)
		}
	}
}

// expectNowhere looks for a secret where it must not be: in core's data, every log, the
// API's answers and process arguments. With onHost it may lie on the agent's disk, in files
// that only their owner can read.
func (w *world) expectNowhere(canary string, plan api.PlanResult, onHost bool) {
	w.t.Helper()
	answers := []any{plan}
	if status, err := w.api.Status(w.t.Context()); err == nil {
		answers = append(answers, status)
	}
	if ops, err := w.api.History(w.t.Context(), w.name("web"), api.Page{}); err == nil {
		answers = append(answers, ops)
	}
	if why, err := w.api.Why(w.t.Context(), w.name("web")); err == nil {
		answers = append(answers, why)
	}
	if variables, err := w.api.Variables(w.t.Context()); err == nil {
		answers = append(answers, variables)
	}
	for _, answer := range answers {
		raw, err := json.Marshal(answer)
		if err != nil || bytes.Contains(raw, []byte(canary)) {
			w.t.Errorf("an answer of the API holds the secret (%T), %v", answer, err)
		}
	}
	for name, p := range w.processes() {
		args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.cmd.Process.Pid))
		if err != nil || bytes.Contains(args, []byte(canary)) {
			w.t.Errorf("the arguments of %s hold the secret, %v", name, err)
		}
	}
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(raw, []byte(canary)) {
			return err
		}
		info, err := d.Info()
		if !onHost || !strings.HasPrefix(path, w.path("alpha")+string(filepath.Separator)) || info.Mode().Perm() != 0o600 {
			w.t.Errorf("%s holds the secret (mode %s)", path, info.Mode())
		}
		return err
	})
	if err != nil {
		w.t.Error(err)
	}
}
