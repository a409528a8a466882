//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/imageregistry"
)

// localSecret is known to the host alpha alone.
const localSecret = "canary-local-6911"

// TestWhatResourceFilesSayIsSoOnTheHosts has one core and two agents for all of its parts;
// only alpha's policy lets stacks run commands and use directories of the host.
func TestWhatResourceFilesSayIsSoOnTheHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.SyncSpec{AutoApply: true, Delete: true}, "beta")
	w.startAgent("alpha", "--policy", policyFile(t, fmt.Sprintf(
		"host_commands = true\nhost_directories = [%q]\n[secrets]\nTOKEN = %q\n", w.path("srv"), localSecret)))
	w.waitOnline("alpha", true)
	for _, part := range []struct {
		name string
		is   func(*world)
	}{
		{"one stack on the servers that carry a tag", followsTags},
		{"a stack that moves", moves},
		{"a file that asks for a restart", restarts},
		{"a deployment", deploysOneContainer},
		{"a secret of the host", usesLocalSecret},
		{"a command before the deploy", runsCommands},
		{"files in another repository", followsAnotherRepository},
		{"files on the host", readsFilesOfTheHost},
		{"a repository put on the host", placesRepository},
		{"a registry with a password", pullsWithAccount},
	} {
		w.part(part.name, part.is)
	}
}

// part runs a test that goes on in the world of the others, with its own files in Git: what
// they push follows one another.
func (w *world) part(name string, is func(*world)) {
	w.t.Helper()
	w.t.Run(name, func(t *testing.T) {
		own := *w
		own.t = t
		is(&own)
	})
}

func policyFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// tokenApp is a service that shows ${TOKEN} in its environment.
func tokenApp() string {
	return compose(service{name: "app", extra: "    environment:\n      TOKEN: ${TOKEN}\n"})
}

// declareStack is a resource file of one stack, with more lines of its config.
func (w *world) declareStack(stack string, lines ...string) map[string]string {
	text := fmt.Sprintf("[[stack]]\nname = %q\n[stack.config]\nauto_pull = false\nrun_directory = %q\n", w.name(stack), stack)
	return file(stack+".toml", text+strings.Join(lines, "\n")+"\n")
}

// byServer maps each server, by its short name, to the container of a stack of one service.
func (w *world) byServer(stack string) map[string]instance {
	found := map[string]instance{}
	for _, c := range w.list(w.t.Context(), true, stack) {
		found[strings.TrimPrefix(c.Server, w.prefix+"-")] = c
	}
	return found
}

func (w *world) inspect(id string) container.InspectResponse {
	w.t.Helper()
	result, err := w.docker.ContainerInspect(w.t.Context(), id, client.ContainerInspectOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return result.Container
}

func followsTags(w *world) {
	servers := func(tagsOfBeta string) map[string]string {
		return file("servers.toml", fmt.Sprintf("[[server]]\nname = %q\ntags = [\"edge\"]\n[[server]]\nname = %q\ntags = [%s]\n",
			w.name("alpha"), w.name("beta"), tagsOfBeta))
	}
	// The servers of the test share an engine, so that their projects must differ.
	stack := w.declareStack("spread", `server_tags = ["edge"]`, `environment = "TOKEN = everywhere"`,
		"[[stack.config.overlay]]", `server_tags = ["big"]`, fmt.Sprintf("project_name = %q", w.name("spread-big")),
		`file_paths = ["big.yaml"]`, `environment = "TOKEN = there-only"`)
	w.waitCommit("spread", w.push("spread", with(servers(`"edge", "big"`), stack,
		file("spread/compose.yaml", tokenApp()),
		file("spread/big.yaml", "services:\n  app:\n    labels: {size: big}\n"))))
	on := w.byServer("spread")
	if len(on) != 2 {
		w.t.Fatalf("containers: %+v", on)
	}
	w.expectToken(on["alpha"].ID, "everywhere")
	w.expectToken(on["beta"].ID, "there-only")
	if on["alpha"].Labels["size"] != "" || on["beta"].Labels["size"] != "big" {
		w.t.Errorf("labels of alpha %v, of beta %v", on["alpha"].Labels, on["beta"].Labels)
	}

	w.waitCommit("spread", w.push("beta is no edge", servers(`"big"`)))
	w.eventually("the stack to leave beta alone", func() bool { return len(w.byServer("spread")) == 1 })
	if now := w.byServer("spread"); now["alpha"].ID != on["alpha"].ID {
		w.t.Errorf("alpha's container was %s, is %+v", on["alpha"].ID, now)
	}
}

func moves(w *world) {
	stack := func(server string) map[string]string {
		return w.declareStack("move", fmt.Sprintf("server = %q", w.name(server)), fmt.Sprintf("project_name = %q", w.name("move-"+server)))
	}
	w.waitCommit("move", w.push("on alpha", with(stack("alpha"), file("move/compose.yaml", compose(service{name: "app"})))))
	w.waitCommit("move", w.push("on beta", stack("beta")))
	w.eventually("alpha to be left", func() bool { return len(w.byServer("move")) == 1 })
	if now := w.byServer("move"); now["beta"].State != "running" {
		w.t.Fatalf("containers: %+v", now)
	}
	var there, here api.Op
	w.eventually("both ops to be on record", func() bool {
		ops, err := w.api.History(w.t.Context(), w.name("move"), api.Page{Limit: 2})
		if err != nil || len(ops) != 2 {
			return false
		}
		here, there = ops[0], ops[1]
		return !here.Ended.IsZero()
	})
	if there.Server != w.name("beta") || here.Kind != "remove" || here.Server != w.name("alpha") || here.Started.Before(there.Ended) {
		w.t.Errorf("brought up by %s on %s until %s, taken down by %s on %s from %s",
			there.Kind, there.Server, there.Ended, here.Kind, here.Server, here.Started)
	}
}

func restarts(w *world) {
	stack := w.declareStack("reread", fmt.Sprintf("server = %q", w.name("alpha")),
		`config_files = [{ path = "conf/app.txt", requires = "Restart", services = ["app"] }]`)
	mount := "    volumes: [\"./conf:/conf:ro\"]\n"
	w.waitCommit("reread", w.push("reread", with(stack, file("reread/conf/app.txt", "one\n"),
		file("reread/compose.yaml", compose(service{name: "app", extra: mount}, service{name: "side"})))))
	before := w.running("reread")
	app, side := w.inspect(before["app"]).State.StartedAt, w.inspect(before["side"]).State.StartedAt

	commit := w.push("another file", file("reread/conf/app.txt", "two\n"))
	op := w.lastOp("reread", commit)
	w.waitCommit("reread", commit)
	if now := w.running("reread"); now["app"] != before["app"] || now["side"] != before["side"] {
		w.t.Fatalf("containers were %v, are %v", before, now)
	}
	if w.inspect(before["app"]).State.StartedAt == app || w.inspect(before["side"]).State.StartedAt != side {
		w.t.Error("only app should have been restarted")
	}
	if !slices.Equal(op.Outcome.Started, []string{"app"}) || len(op.Outcome.Recreated) > 0 {
		w.t.Errorf("outcome %+v", op.Outcome)
	}
	w.expectFile(before["app"], "/conf/app.txt", "two\n")
}

func deploysOneContainer(w *world) {
	deployment := func(message string) map[string]string {
		return file("single.toml", fmt.Sprintf(`[[deployment]]
name = %q
[deployment.config]
server = %q
image = { type = "Image", params.image = %q }
network = "none"
command = "demo-service --message %s"
termination_timeout = 1
environment = "TOKEN = %s"
`, w.name("single"), w.name("alpha"), image, message, message))
	}
	w.waitCommit("single", w.push("single", deployment("one")))
	before := w.byServer("single")["alpha"]
	if before.Name != w.name("single") {
		w.t.Errorf("the container is called %s", before.Name)
	}
	w.expectToken(before.ID, "one")

	w.waitCommit("single", w.push("single changed", deployment("two")))
	now := w.list(w.t.Context(), true, "single")
	if len(now) != 1 || now[0].ID == before.ID || now[0].Name != before.Name {
		w.t.Fatalf("the container was %+v, is %+v", before, now)
	}
	w.expectToken(now[0].ID, "two")
}

func usesLocalSecret(w *world) {
	w.waitCommit("web", w.push("local secret", with(w.declareStack("web", fmt.Sprintf("server = %q", w.name("alpha"))),
		file("web/compose.yaml", tokenApp()))))
	w.expectToken(w.running("web")["app"], localSecret)
	plan, err := w.api.Plan(w.t.Context(), "fleet", api.PlanRequest{Forced: []string{w.name("web")}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.expectNowhere(localSecret, plan, false)
}

func runsCommands(w *world) {
	trace := filepath.Join(w.t.TempDir(), "trace")
	command := fmt.Sprintf("pre_deploy.command = \"echo $VARAN_STACK >> %s; echo MADE=there > made.env\"", trace)
	commit := w.push("commands", with(
		w.declareStack("allowed", fmt.Sprintf("server = %q", w.name("alpha")), command),
		w.declareStack("refused", fmt.Sprintf("server = %q", w.name("beta")), command),
		file("allowed/compose.yaml", compose(service{name: "app", extra: "    env_file: made.env\n"})),
		file("refused/compose.yaml", compose(service{name: "app"}))))
	w.waitCommit("allowed", commit)
	w.eventually("the other one to be refused", func() bool {
		s, ok := w.stack("refused")
		return ok && s.Sync == fleet.SyncBlocked
	})
	why, err := w.api.Why(w.t.Context(), w.name("refused"))
	if err != nil || !strings.Contains(why.Summary, "does not let stacks run commands") ||
		!strings.Contains(strings.Join(why.Next, "\n"), "host_commands") {
		w.t.Errorf("why answers %+v, %v", why, err)
	}
	if found := w.list(w.t.Context(), true, "refused"); len(found) > 0 {
		w.t.Errorf("containers: %+v", found)
	}
	if got, err := os.ReadFile(trace); string(got) != w.name("allowed")+"\n" {
		w.t.Errorf("the commands wrote %q, %v", got, err)
	}
	if env := w.inspect(w.running("allowed")["app"]).Config.Env; !slices.Contains(env, "MADE=there") {
		w.t.Errorf("the container got %v, not what pre_deploy wrote", env)
	}
}

func pullsWithAccount(w *world) {
	const password = "canary-registry-6912"
	binary, err := os.ReadFile(os.Getenv("VARAN_BIN"))
	if err != nil {
		w.t.Fatal(err)
	}
	registry := imageregistry.New(w.t, binary, "ci", password)
	ref := registry.Host + "/team/app:1"
	w.t.Cleanup(func() {
		for _, c := range w.list(context.Background(), true, "private") {
			_, _ = w.docker.ContainerRemove(context.Background(), c.ID, client.ContainerRemoveOptions{Force: true})
		}
		_, _ = w.docker.ImageRemove(context.Background(), ref, client.ImageRemoveOptions{Force: true})
	})
	if out, code := w.varan(password+"\n", "account", "set", "registry", registry.Host, "ci"); code != 0 {
		w.t.Fatalf("varan account set ended with %d: %s", code, out)
	}
	w.waitCommit("private", w.push("private", with(
		w.declareStack("private", fmt.Sprintf("server = %q", w.name("alpha")),
			fmt.Sprintf("registry_provider = %q", registry.Host), `registry_account = "ci"`),
		file("private/compose.yaml", "services:\n  app:\n    image: "+ref+"\n    command: [\"demo-service\"]\n    stop_grace_period: 1s\n"))))
	if image := w.inspect(w.running("private")["app"]).Config.Image; image != ref {
		w.t.Errorf("the container's image is %s", image)
	}
	plan, err := w.api.Plan(w.t.Context(), "fleet", api.PlanRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.expectNowhere(password, plan, false)
}

func TestAProcedureDeploysInItsOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, api.SyncSpec{}, "alpha", "beta")
	app := compose(service{name: "app"})
	name := w.name("rollout")
	commit := w.git.Commit(with(w.declare("one@alpha", "two@beta"), file("one/compose.yaml", app), file("two/compose.yaml", app),
		file("ops.toml", fmt.Sprintf(`[[procedure]]
name = %q
[[procedure.config.stage]]
name = "Second to none"
executions = [{ execution.type = "DeployStack", execution.params.stack = %q }]
[[procedure.config.stage]]
name = "Then the other"
executions = [{ execution.type = "DeployStack", execution.params.stack = %q }]
`, name, w.name("two"), w.name("one")))), "a procedure")
	if out, code := w.varan("", "apply", "fleet", "--only", "procedure/"+name); code != 0 {
		t.Fatalf("varan apply ended with %d: %s", code, out)
	}
	if found := w.list(t.Context(), true, ""); len(found) > 0 {
		t.Fatalf("applying the procedure alone deployed %+v", found)
	}
	out, code := w.varan("", "run", name)
	if code != 0 || !strings.Contains(out, name+" succeeded: 2 of 2") {
		t.Fatalf("varan run ended with %d: %s", code, out)
	}
	first, second := w.lastOp("two", commit), w.lastOp("one", commit)
	if first.Status != api.OpSucceeded || second.Status != api.OpSucceeded || second.Started.Before(first.Ended) {
		t.Errorf("two ended %s at %s, one ended %s and began at %s", first.Status, first.Ended.Format(time.RFC3339Nano),
			second.Status, second.Started.Format(time.RFC3339Nano))
	}
	if len(w.running("one")) != 1 || len(w.running("two")) != 1 {
		t.Errorf("containers: %+v", w.list(t.Context(), true, ""))
	}
}
