//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/varanhq/varan/agent/docker/job"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// byHand starts a project as a person does with docker compose: nothing of Varan is on it.
func (w *world) byHand(dir, project, model string) {
	w.t.Helper()
	file := filepath.Join(dir, "compose.yaml")
	w.put(file, model)
	req, err := json.Marshal(job.Request{
		Op: job.Up, Host: "unix:///var/run/docker.sock", Project: project, Dir: dir, Model: file, Deadline: time.Now().Add(time.Minute),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(agentBinary(), "compose-worker")
	cmd.Stdin = bytes.NewReader(req)
	if out, err := cmd.Output(); err != nil || strings.Contains(string(out), `"error"`) {
		w.t.Fatalf("%v: %s", err, out)
	}
	w.t.Cleanup(func() {
		for _, id := range w.ofProject(context.Background(), project) {
			_, _ = w.docker.ContainerRemove(context.Background(), id, client.ContainerRemoveOptions{Force: true})
		}
	})
}

func (w *world) put(file, content string) {
	w.t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// ofProject maps the services of a Compose project to their containers, whoever made them.
func (w *world) ofProject(ctx context.Context, project string) map[string]string {
	res, err := w.docker.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: client.Filters{}.Add("label", "com.docker.compose.project="+project),
	})
	if err != nil {
		return nil
	}
	ids := map[string]string{}
	for _, c := range res.Items {
		ids[c.Labels["com.docker.compose.service"]] = c.ID
	}
	return ids
}

// cli runs the program and returns what it printed.
func (w *world) cli(args ...string) string {
	w.t.Helper()
	cmd := exec.Command(os.Getenv("VARAN_BIN"), args...)
	cmd.Env = append(os.Environ(), "VARAN_CORE="+w.api.BaseURL, "VARAN_API_KEY="+w.api.Key.Reveal(), "XDG_CONFIG_HOME="+w.path("config"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("varan %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// planned commits files and returns the plan for them, which nobody applies.
func (w *world) planned(files map[string]string) plan.Plan {
	w.t.Helper()
	if len(files) > 0 {
		commit := w.git.Commit(files, "a commit")
		if _, err := w.api.RunSync(w.t.Context(), "fleet"); err != nil {
			w.t.Fatal(err)
		}
		w.eventually("core to read "+commit[:8], func() bool { return w.head() == commit })
	}
	result, err := w.api.Plan(w.t.Context(), "fleet", api.PlanRequest{Refresh: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return result.Plan
}

func (w *world) apply() {
	w.t.Helper()
	result, err := w.api.Apply(w.t.Context(), "fleet", api.ApplyRequest{}, func(api.ApplyEvent) error { return nil })
	if err != nil || result.Status != api.OpSucceeded {
		w.t.Fatalf("%v, %+v\n%s", err, result, w.state())
	}
}

func TestWhatRunsIsImportedAndTakenOverAsItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.SyncSpec{})
	shop, media := w.name("shop"), w.name("media")
	srv := w.path("srv")
	for _, dir := range []string{"shop", "media"} {
		if err := os.MkdirAll(filepath.Join(srv, dir, "conf"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	secret := "    environment:\n      MODE: %MODE\n      DB_PASSWORD: %PASSWORD\n      SMTP_PASSWORD: canary-pa$$word\n"
	model := compose(service{name: "app", flags: "--message one", extra: secret}, service{name: "side"})
	w.byHand(filepath.Join(srv, "shop"), shop, strings.NewReplacer("%MODE", "fast", "%PASSWORD", "canary-hunter2", "$$", "$").Replace(model))
	// What Compose was given, with its variables.
	w.put(filepath.Join(srv, "shop", "compose.yaml"), strings.NewReplacer("%MODE", "${MODE}", "%PASSWORD", "${DB_PASSWORD}").Replace(model))
	w.put(filepath.Join(srv, "shop", ".env"), "MODE=fast\nDB_PASSWORD=canary-hunter2\n")
	w.byHand(filepath.Join(srv, "media"), media, compose(service{name: "app", extra: "    volumes: [\"./conf:/conf:ro\"]\n"}))
	policy := w.path("policy.toml")
	w.put(policy, "host_directories = ["+quote(srv)+"]\n")
	w.startAgent("alpha", "--policy", policy)
	w.waitOnline("alpha", true)
	before := []map[string]string{w.ofProject(t.Context(), shop), w.ofProject(t.Context(), media)}

	repo := w.path("repo")
	said := w.cli("import", w.name("alpha"), shop, media, "--out", repo, "--set-secrets")
	files := map[string]string{}
	if err := filepath.WalkDir(repo, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(name)
		rel, _ := filepath.Rel(repo, name)
		files[filepath.ToSlash(rel)] = string(raw)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if all := said + strings.Join(slices.Collect(maps.Values(files)), "\n"); strings.Contains(all, "canary") || !strings.Contains(all, "files_on_host") {
		t.Fatalf("import said and wrote\n%s", all)
	}

	todo := w.planned(files)
	if len(todo.Ops) != 2 || len(todo.Blocked)+len(todo.Gates) > 0 {
		t.Fatalf("the plan: %+v", todo)
	}
	for _, op := range todo.Ops {
		if op.Causes[0].Kind != plan.CauseAdopt || todo.Totals.ContainersCreate+todo.Totals.ContainersRecreate > 0 {
			t.Errorf("%s: %+v", op.Stack, op)
		}
	}
	w.apply()
	after := []map[string]string{w.ofProject(t.Context(), shop), w.ofProject(t.Context(), media)}
	if !maps.Equal(before[0], after[0]) || !maps.Equal(before[1], after[1]) || len(after[0]) != 2 || len(after[1]) != 1 {
		t.Fatalf("containers before %v, after %v", before, after)
	}
	if todo = w.planned(nil); len(todo.Ops)+len(todo.Blocked)+len(todo.Notices) > 0 {
		t.Fatalf("a second plan: %+v", todo)
	}
	w.eventually("the sync's own look at it", func() bool {
		s, ok := w.stack("shop")
		return ok && s.Sync == fleet.Synced && s.Health == fleet.Healthy
	})
	if list, err := w.api.Projects(t.Context(), w.name("alpha")); err != nil || !slices.ContainsFunc(list.Projects, func(p api.HostProject) bool {
		return p.Name == shop && p.Stack == shop && p.Managed()
	}) {
		t.Errorf("the project is not Varan's: %v, %+v", err, list)
	}

	path := "stacks/" + shop + "/compose.yaml"
	w.planned(file(path, strings.Replace(files[path], `"one"`, `"two"`, 1)))
	w.apply()
	now := w.ofProject(t.Context(), shop)
	if now["side"] != before[0]["side"] || now["app"] == before[0]["app"] || !maps.Equal(w.ofProject(t.Context(), media), before[1]) {
		t.Errorf("containers before %v, now %v: only app should differ", before[0], now)
	}
}

func quote(s string) string {
	raw, _ := json.Marshal(s)
	return string(raw)
}
