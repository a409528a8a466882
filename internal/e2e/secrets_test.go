//go:build e2e

package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/varanhq/varan/core/api"
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
		w.expectNowhere(canary, plan)
	}
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
// API's answers and process arguments. On the agent's host it may lie in files that only
// their owner can read.
func (w *world) expectNowhere(canary string, plan api.PlanResult) {
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
		if !strings.HasPrefix(path, w.path("alpha")+string(filepath.Separator)) || info.Mode().Perm() != 0o600 {
			w.t.Errorf("%s holds the secret (mode %s)", path, info.Mode())
		}
		return err
	})
	if err != nil {
		w.t.Error(err)
	}
}
