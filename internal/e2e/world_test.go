//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/varanhq/varan/core"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/githook"
	"github.com/varanhq/varan/internal/selfimage"
	"github.com/varanhq/varan/internal/testutil/gitserver"
)

// image is what every container of the tests runs: the binary under test itself.
const image = "varan-e2e:latest"

// patience bounds every wait. It is generous: a slow machine is not a failure.
const patience = 90 * time.Second

var importImage = sync.OnceValue(func() error {
	docker, err := client.New(client.FromEnv)
	if err != nil {
		return err
	}
	return selfimage.Import(context.Background(), docker, os.Getenv("VARAN_BIN"), image)
})

// world is one core with its agents, its Git server and the engine they share.
type world struct {
	t       *testing.T
	git     *gitserver.Server
	docker  *client.Client
	api     *api.Client
	dir     string
	core    *process
	address string
	agents  map[string]*process
	tokens  map[string]string
	secret  string
	prefix  string
}

// newWorld starts a core and one agent for each server named, and adds one sync. Names
// of servers and stacks get a prefix that is the test's own, so that tests can share one
// engine side by side.
func newWorld(t *testing.T, spec api.SyncSpec, servers ...string) *world {
	t.Helper()
	if os.Getenv("VARAN_BIN") == "" || agentBinary() == "" {
		t.Fatal("VARAN_BIN and VARAN_AGENT_BIN are not set: run make e2e")
	}
	if err := importImage(); err != nil {
		t.Fatalf("make the test image: %v", err)
	}
	docker, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, docker: docker, git: gitserver.New(t), dir: t.TempDir(),
		agents: map[string]*process{}, tokens: map[string]string{},
		prefix: "e2e" + hex.EncodeToString(sha256Of(t.Name())[:3]),
	}
	t.Cleanup(w.cleanup)
	key, err := core.Init(t.Context(), w.path("core"))
	if err != nil {
		t.Fatal(err)
	}
	w.api = &api.Client{Key: key}
	w.startCore("127.0.0.1:0")
	for _, server := range servers {
		w.startAgent(server)
	}
	for _, server := range servers {
		w.waitOnline(server, true)
	}
	w.git.Commit(map[string]string{"README.md": "fleet\n"}, "empty fleet")
	spec.Name, spec.URL = "fleet", w.git.URL()
	if spec.IntervalSeconds == 0 {
		spec.IntervalSeconds = 3600
	}
	created, err := w.api.AddSync(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	w.secret = string(created.WebhookSecret)
	return w
}

func sha256Of(s string) []byte { sum := sha256.Sum256([]byte(s)); return sum[:] }

func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

// name is a server's or stack's name with the test's prefix.
func (w *world) name(short string) string { return w.prefix + "-" + short }

// process is a core or an agent.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// agentBinary is the small binary; the demo runs the same agent out of the large one.
func agentBinary() string { return os.Getenv("VARAN_AGENT_BIN") }

func (w *world) start(name, binary string, env []string, args ...string) *process {
	w.t.Helper()
	p := &process{log: w.path(name + ".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	p.cmd = exec.Command(binary, args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p
}

// kill ends a process as kill -9 does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (w *world) startCore(listen string) {
	w.t.Helper()
	addrFile := w.path("core.addr")
	_ = os.Remove(addrFile)
	w.core = w.start("core", os.Getenv("VARAN_BIN"), nil, "core", "--dir", w.path("core"), "--listen", listen,
		"--addr-file", addrFile, "--log-level", "debug")
	w.eventually("core to serve", func() bool {
		raw, err := os.ReadFile(addrFile)
		w.address = strings.TrimSpace(string(raw))
		return err == nil && w.address != ""
	})
	w.api.BaseURL = "http://" + w.address
}

// restartCore brings core back on the same address after a kill.
func (w *world) restartCore() { w.startCore(w.address) }

func (w *world) startAgent(server string, flags ...string) {
	w.t.Helper()
	full := w.name(server)
	if w.tokens[server] == "" {
		created, err := w.api.CreateOnboardingKey(w.t.Context(), api.OnboardingSpec{ServerGlob: full})
		if err != nil {
			w.t.Fatal(err)
		}
		w.tokens[server] = string(created.Token)
	}
	args := append([]string{
		"--core", w.api.BaseURL, "--connect-as", full,
		"--dir", w.path(server), "--log-level", "debug",
	}, flags...)
	w.agents[server] = w.start(server, agentBinary(), []string{"VARAN_ONBOARDING_KEY=" + w.tokens[server]}, args...)
}

func (w *world) waitOnline(server string, online bool) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("%s to be online=%v", server, online), func() bool {
		s, err := w.api.Server(w.t.Context(), w.name(server))
		return err == nil && s.Online == online
	})
}

// eventually waits until a condition holds. Everything the tests look at is a process of
// its own, so looking again is the only way to learn of a change.
func (w *world) eventually(what string, holds func() bool) {
	w.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			w.t.Fatalf("waited %s for %s\n%s", patience, what, w.state())
		case <-ticker.C:
		}
	}
}

// state is what one needs to understand a failure without running it again.
func (w *world) state() string {
	var b strings.Builder
	if status, err := w.api.Status(context.Background()); err == nil {
		raw, _ := json.MarshalIndent(status, "", " ")
		fmt.Fprintf(&b, "status: %s\n", raw)
	}
	for name, p := range w.processes() {
		raw, _ := os.ReadFile(p.log)
		lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
		fmt.Fprintf(&b, "--- %s\n%s\n", name, bytes.Join(lines[max(0, len(lines)-40):], []byte("\n")))
	}
	return b.String()
}

func (w *world) processes() map[string]*process {
	all := map[string]*process{}
	if w.core != nil {
		all["core"] = w.core
	}
	maps.Copy(all, w.agents)
	return all
}

func (w *world) cleanup() {
	if w.t.Failed() {
		w.t.Log(w.state())
	}
	for _, p := range w.processes() {
		p.kill()
	}
	ctx := context.Background()
	defer w.releaseImages(ctx)
	for _, c := range w.list(ctx, true, "") {
		_, _ = w.docker.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	}
	networks, err := w.docker.NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return
	}
	for i := range networks.Items {
		if strings.HasPrefix(networks.Items[i].Name, w.prefix) {
			_, _ = w.docker.NetworkRemove(ctx, networks.Items[i].ID, client.NetworkRemoveOptions{})
		}
	}
	volumes, err := w.docker.VolumeList(ctx, client.VolumeListOptions{})
	if err != nil {
		return
	}
	for i := range volumes.Items {
		if strings.HasPrefix(volumes.Items[i].Name, w.prefix) {
			_, _ = w.docker.VolumeRemove(ctx, volumes.Items[i].Name, client.VolumeRemoveOptions{Force: true})
		}
	}
}

// releaseImages removes the names by which the agents held images for a rollback.
func (w *world) releaseImages(ctx context.Context) {
	held, err := w.docker.ImageList(ctx, client.ImageListOptions{
		Filters: client.Filters{}.Add("reference", "varan-rollback/"+w.prefix+"-*"),
	})
	if err != nil {
		return
	}
	for i := range held.Items {
		for _, tag := range held.Items[i].RepoTags {
			if strings.HasPrefix(tag, "varan-rollback/"+w.prefix+"-") {
				_, _ = w.docker.ImageRemove(ctx, tag, client.ImageRemoveOptions{})
			}
		}
	}
}

// push commits files and calls the webhook, as a Git host does.
func (w *world) push(message string, files map[string]string) string {
	w.t.Helper()
	commit := w.git.Commit(files, message)
	status, _ := w.webhook("sync", "main")
	if status != http.StatusAccepted {
		w.t.Fatalf("the webhook answered %d", status)
	}
	return commit
}

// webhook sends a signed push and returns the answer.
func (w *world) webhook(action, branch string) (int, api.Accepted) {
	w.t.Helper()
	return w.send(githook.Push{
		Core: w.api.BaseURL, Kind: "sync", Name: "fleet", Action: action, Secret: fleet.NewSecret(w.secret), Branch: branch,
		ID: fmt.Sprint(time.Now().UnixNano()),
	})
}

func (w *world) send(push githook.Push) (int, api.Accepted) {
	w.t.Helper()
	req, err := push.Request(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer api.Accepted
	_ = json.NewDecoder(resp.Body).Decode(&answer)
	return resp.StatusCode, answer
}

// instance is a live container of the test.
type instance struct {
	ID, Name, Stack, Service, Server, State, Status string
	Labels                                          map[string]string
}

// varan runs the command line against the test's core, and returns all it said.
func (w *world) varan(stdin string, args ...string) (out string, code int) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), os.Getenv("VARAN_BIN"), args...)
	cmd.Env = append(os.Environ(), "VARAN_CORE="+w.api.BaseURL, "VARAN_API_KEY="+w.api.Key.Reveal())
	cmd.Stdin = strings.NewReader(stdin)
	said, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	return string(said), cmd.ProcessState.ExitCode()
}

// list finds the test's containers; stack narrows to one, by its short name.
func (w *world) list(ctx context.Context, all bool, stack string) []instance {
	result, err := w.docker.ContainerList(ctx, client.ContainerListOptions{
		All: all, Filters: client.Filters{}.Add("label", fleet.LabelStack),
	})
	if err != nil {
		w.t.Logf("list containers: %v", err)
		return nil
	}
	var found []instance
	for i := range result.Items {
		c := &result.Items[i]
		name := c.Labels[fleet.LabelStack]
		if !strings.HasPrefix(name, w.prefix+"-") || (stack != "" && name != w.name(stack)) {
			continue
		}
		found = append(found, instance{
			ID: c.ID, Name: strings.TrimPrefix(c.Names[0], "/"), Stack: name,
			Service: c.Labels["com.docker.compose.service"], Server: c.Labels[fleet.LabelServer],
			State: string(c.State), Status: c.Status, Labels: c.Labels,
		})
	}
	return found
}

// running maps each service of a stack to the id of its running container.
func (w *world) running(stack string) map[string]string {
	ids := map[string]string{}
	for _, c := range w.list(w.t.Context(), false, stack) {
		if c.State == "running" {
			ids[c.Service] = c.ID
		}
	}
	return ids
}

// waitCommit waits until a stack runs what a commit says and is synced and healthy, on all
// of its servers.
func (w *world) waitCommit(stack, commit string) {
	w.t.Helper()
	w.eventually(stack+" to run "+commit[:8], func() bool {
		if w.head() != commit {
			return false
		}
		found := w.stacks(stack)
		return len(found) > 0 && !slices.ContainsFunc(found, func(s api.Stack) bool {
			return s.Sync != fleet.Synced || s.Health != fleet.Healthy
		})
	})
}

func (w *world) head() string {
	source, err := w.api.Sync(w.t.Context(), "fleet")
	if err != nil {
		return ""
	}
	return source.State.Commit.ID
}

func (w *world) stack(short string) (api.Stack, bool) {
	if found := w.stacks(short); len(found) > 0 {
		return found[0], true
	}
	return api.Stack{}, false
}

// stacks are all of a name: one for each server.
func (w *world) stacks(short string) []api.Stack {
	stacks, err := w.api.Stacks(w.t.Context())
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(stacks, func(s api.Stack) bool { return s.Name != w.name(short) })
}

// lastOp waits for the op that a commit caused on a stack to end, and returns it.
func (w *world) lastOp(stack, commit string) api.Op {
	w.t.Helper()
	var op api.Op
	w.eventually("an op of "+stack+" for "+commit[:8], func() bool {
		ops, err := w.api.History(w.t.Context(), w.name(stack), api.Page{Limit: 1})
		if err != nil || len(ops) == 0 || ops[0].Commit.ID != commit || ops[0].Ended.IsZero() {
			return false
		}
		op = ops[0]
		return true
	})
	return op
}
