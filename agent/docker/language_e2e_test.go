//go:build e2e

package docker_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/varanhq/varan/agent/policy"
	"github.com/varanhq/varan/fleet"
)

// canary is in every value that must not reach a disk.
const canary = "CANARY-7f3a"

// salted adds a decrypted file to a release.
func (h *host) salted(r fleet.Release, path, text string) fleet.Release {
	r.Files = append(slices.Clone(r.Files), fleet.File{
		Path: path, Mode: 0o644, Size: int64(len(text)), Digest: h.blobs.add("salt of " + path + "\n" + text), Secret: true, Salted: true,
	})
	slices.SortFunc(r.Files, func(a, b fleet.File) int { return strings.Compare(a.Path, b.Path) })
	return seal(r)
}

// script adds a command to a release.
func (h *host) script(text string) fleet.Command {
	return fleet.Command{Script: h.blobs.add("salt\n" + text)}
}

func seal(r fleet.Release) fleet.Release {
	r.Digest = fleet.SumDigest([]byte(fmt.Sprint(r.Model, r.Files, r.Services, r.Options, r.Project)))
	return r
}

// onDisk lists the files below a directory that hold a text.
func onDisk(t *testing.T, dir, text string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(text)) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestAFileThatAsksForARestartRestarts(t *testing.T) {
	h := newHost(t)
	const yaml = "command: [sleep]\nvolumes: [{type: bind, source: ./conf, target: /conf}]"
	release := func(conf, restart, entry string) fleet.Release {
		r := h.release("restart", map[string]string{"conf/a.toml": conf}, "", svc{name: "db", yaml: "command: [sleep]"}, svc{name: "web", yaml: yaml + entry})
		r.Services[1].Restart = fleet.Digest(restart)
		return seal(r)
	}
	h.mustApply(release("1", "sha256:1", ""))
	db, web := h.container("restart", "db"), h.container("restart", "web")
	out := h.mustApply(release("2", "sha256:2", ""))
	again := h.container("restart", "web")
	if again.ID != web.ID || !again.StartedAt.After(web.StartedAt) || len(again.Drift) > 0 {
		t.Errorf("web was %s started %v, is %s started %v, drift %v", web.ID, web.StartedAt, again.ID, again.StartedAt, again.Drift)
	}
	if !slices.Equal(out.Started, []string{"web"}) || len(out.Recreated) > 0 || h.container("restart", "db").StartedAt != db.StartedAt {
		t.Errorf("outcome %+v", out)
	}
	if b, err := os.ReadFile(filepath.Join(h.dir, "stacks", "restart", "conf", "a.toml")); string(b) != "2" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	if out := h.mustApply(release("2", "sha256:2", "")); len(out.Started)+len(out.Recreated) > 0 {
		t.Errorf("applying what runs: %+v", out)
	}
	// A release that fails takes its file back, and what had read it is restarted.
	r := release("3", "sha256:3", "")
	bad := h.release("restart", map[string]string{"conf/a.toml": "3"}, "", svc{name: "db", yaml: `command: [exit, "1"]`}, svc{name: "web", yaml: yaml})
	bad.Services[1].Restart = r.Services[1].Restart
	h.want(h.apply(seal(bad)), fleet.OutcomeRolledBack)
	after := h.container("restart", "web")
	if b, _ := os.ReadFile(filepath.Join(h.dir, "stacks", "restart", "conf", "a.toml")); string(b) != "2" || after.ID != web.ID || !after.StartedAt.After(again.StartedAt) {
		t.Errorf("after the rollback the file holds %q, web is %+v", b, after)
	}
}

func TestSecretFilesNeverReachADisk(t *testing.T) {
	h := newHost(t)
	yaml := "command: [sleep]\nhealthcheck: {test: [CMD, /app, has, /token], interval: 100ms, timeout: 2s}\nvolumes: [{type: bind, source: ./conf/token, target: /token}]"
	release := func(text string, command string) fleet.Release {
		return h.salted(h.release("salted", nil, "", svc{name: "web", yaml: strings.Replace(yaml, "[sleep]", command, 1), extra: text}), "conf/token", text)
	}
	good := release(canary+"-1", "[sleep]")
	h.mustApply(good)
	link := filepath.Join(h.dir, "stacks", "salted", "conf", "token")
	held := func() string {
		b, err := os.ReadFile(link)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	target, err := os.Readlink(link)
	if err != nil || !strings.HasPrefix(target, h.ram) || held() != canary+"-1" {
		t.Fatalf("link to %q, %v", target, err)
	}
	if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if found := onDisk(t, h.dir, canary); len(found) > 0 {
		t.Errorf("on disk: %v", found)
	}
	h.want(h.apply(release(canary+"-2", `[exit, "1"]`)), fleet.OutcomeRolledBack)
	if held() != canary+"-1" {
		t.Errorf("after the rollback it holds %q", held())
	}
	// The host restarts: what was in memory is gone, and so is what a rollback needs.
	if err := os.RemoveAll(filepath.Join(h.ram, "agent")); err != nil {
		t.Fatal(err)
	}
	h.Engine = h.open()
	if r := h.observe("salted"); !r.SecretsGone {
		t.Errorf("report %+v, want the files missed", r)
	}
	h.mustApply(good)
	if r := h.observe("salted"); r.SecretsGone || held() != canary+"-1" {
		t.Errorf("after another apply: %+v", r)
	}
	h.want(h.do(h.order(fleet.OrderRemove, good)), fleet.OutcomeSucceeded)
	if found := onDisk(t, h.ram, canary); len(found) > 0 {
		t.Errorf("left in memory: %v", found)
	}
	if _, err := os.Lstat(link); !os.IsNotExist(err) {
		t.Errorf("the link is still there: %v", err)
	}
}

func TestSecretFilesAreInMountedDirectories(t *testing.T) {
	h := newHost(t)
	r := h.release("saltdir", map[string]string{"conf/plain": "1"}, "", svc{name: "web", yaml: "command: [sleep]\nread_only: true\nhealthcheck: {test: [CMD, /app, has, /etc/app/keys/token], interval: 100ms, timeout: 2s}\nvolumes: [{type: bind, source: ./conf, target: /etc/app}]"})
	r = h.salted(r, "conf/keys/token", canary)
	h.mustApply(r)
	if c := h.container("saltdir", "web"); c.Health != fleet.HealthHealthy || len(c.Drift) > 0 {
		t.Errorf("container %+v", c)
	}
	if out := h.mustApply(r); len(out.Recreated)+len(out.Started) > 0 {
		t.Errorf("applying what runs: %+v", out)
	}
	if found := onDisk(t, h.dir, canary); len(found) > 0 {
		t.Errorf("on disk: %v", found)
	}
}

func TestLocalSecretsAreKnownToTheHostAlone(t *testing.T) {
	h := newHost(t)
	value := canary + ": \"quoted\" 'twice'\n- and a second line"
	h.allow(policy.Policy{Secrets: map[string]fleet.Secret{"DB": fleet.NewSecret(value)}, HostCommands: true})
	info, _, err := h.Observe(t.Context())
	if err != nil || len(info.LocalSecrets) != 1 || info.LocalSecrets[0].Name != "DB" || !info.HostCommands {
		t.Fatalf("agent info %+v, %v", info, err)
	}
	token := info.LocalSecrets[0].Token()
	release := func(token string) fleet.Release {
		r := h.release("local", map[string]string{"app.env": "DB=" + token + "\n"}, "", svc{name: "web", yaml: "command: [sleep]\nenvironment:\n  DB: '" + token + "'"})
		r.Options.PreDeploy = h.script("printf 'it is %s\\n' '" + canary + "'; cat app.env | head -1")
		return seal(r)
	}
	h.mustApply(release(token))
	res, err := h.cl.ContainerInspect(t.Context(), h.container("local", "web").ID, client.ContainerInspectOptions{})
	if err != nil || !slices.Contains(res.Container.Config.Env, "DB="+value) {
		t.Errorf("environment %q, %v", res.Container.Config.Env, err)
	}
	run := filepath.Join(h.dir, "stacks", "local", "app.env")
	if b, err := os.ReadFile(run); string(b) != "DB="+value+"\n" {
		t.Errorf("env file %q, %v", b, err)
	}
	if found := onDisk(t, h.dir, "quoted"); len(found) > 0 {
		t.Errorf("on disk: %v", found)
	}
	// What is managed later needs the model again.
	h.want(h.do(h.order(fleet.OrderRestart, release(token))), fleet.OutcomeSucceeded)

	out := h.apply(release(fleet.LocalSecret{Name: "GONE", Version: "v"}.Token()))
	h.want(out, fleet.OutcomeFailed)
	if !out.Untouched || !strings.Contains(out.Reason, "GONE") || out.Hint == "" {
		t.Errorf("outcome %+v", out)
	}
	if r := h.observe("local"); len(r.Bad) > 0 {
		t.Errorf("the host's fault made the release bad: %+v", r.Bad)
	}
}

func TestCommandsRunOnTheHostWhenItLetsThem(t *testing.T) {
	h := newHost(t)
	trace := filepath.Join(t.TempDir(), "trace")
	release := func(conf, pre, post string) fleet.Release {
		r := h.release("hooks", map[string]string{"conf": conf}, "", svc{name: "web", yaml: "command: [sleep]"})
		if pre != "" {
			r.Options.PreDeploy = h.script(pre)
		}
		if post != "" {
			r.Options.PostDeploy = h.script(post)
		}
		return seal(r)
	}
	pre := "# a comment\nconf=$(cat conf) # it is placed\necho pre $conf \\\n  in $(basename $PWD) >> " + trace
	out := h.apply(release("1", pre, ""))
	h.want(out, fleet.OutcomeFailed)
	if !out.Untouched || !strings.Contains(out.Hint, "host_commands") || len(h.observe("hooks").Bad) > 0 {
		t.Fatalf("without the policy's word: %+v", out)
	}
	h.allow(policy.Policy{HostCommands: true, Secrets: map[string]fleet.Secret{"S": fleet.NewSecret(canary)}})
	t.Setenv("VARAN_TEST_LEAK", "leaked")
	post := "docker=x\necho post $VARAN_STACK ${VARAN_TEST_LEAK:-clean} >> " + trace
	h.mustApply(release("1", pre, post))
	if b, _ := os.ReadFile(trace); string(b) != "pre 1 in hooks\npost hooks clean\n" {
		t.Errorf("trace:\n%s", b)
	}
	id := h.container("hooks", "web").ID

	out = h.apply(release("2", "echo about to fail "+canary+"\nfalse\necho never >> "+trace, ""))
	h.want(out, fleet.OutcomeFailed)
	if !out.Untouched || !strings.Contains(out.Reason, "pre_deploy failed: exit status 1") || !strings.Contains(out.Log, "about to fail [secret]") {
		t.Errorf("outcome %+v", out)
	}
	if b, _ := os.ReadFile(filepath.Join(h.dir, "stacks", "hooks", "conf")); string(b) != "1" {
		t.Errorf("the file holds %q, want the old one back", b)
	}
	r := h.observe("hooks")
	if len(r.Bad) != 1 || !r.Bad[0].RolledBack || h.container("hooks", "web").ID != id || strings.Contains(r.Bad[0].Reason, canary) {
		t.Errorf("report %+v", r)
	}

	failing := release("3", "", "echo no; exit 4")
	out = h.apply(failing)
	h.want(out, fleet.OutcomeFailed)
	if out.Untouched || !strings.Contains(out.Reason, "post_deploy failed: exit status 4") || !strings.Contains(out.Hint, "stays") {
		t.Errorf("outcome %+v", out)
	}
	if r := h.observe("hooks"); r.Release.Digest != failing.Digest {
		t.Error("what was deployed before post_deploy failed is not the good one")
	}

	slow := h.order(fleet.OrderApply, release("4", "sleep 60", ""))
	slow.Timeout = 2e9
	out = h.do(slow)
	if out.Status != fleet.OutcomeFailed || !strings.Contains(out.Reason, "timeout") {
		t.Errorf("outcome %+v", out)
	}
	if b, _ := os.ReadFile(trace); strings.Contains(string(b), "never") {
		t.Error("a line ran after one that failed")
	}
}

func TestARenamedProjectTakesTheOldOneDown(t *testing.T) {
	h := newHost(t)
	tail := "volumes:\n  data: {}\n"
	yaml := "command: [sleep]\nvolumes: [{type: volume, source: data, target: /data}]"
	old := h.release("renamed", nil, tail, svc{name: "web", yaml: yaml})
	h.mustApply(old)
	moved := func(command string) fleet.Release {
		r := h.release("renamed", nil, tail, svc{name: "web", yaml: strings.Replace(yaml, "[sleep]", command, 1)})
		r.Model = h.blobs.add(strings.ReplaceAll(string(h.blobs[r.Model]), r.Project, r.Project+"-new"))
		r.Project += "-new"
		return seal(r)
	}
	projects := func() (names []string) {
		list, err := h.Projects(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range list.Projects {
			if p.Server == h.server {
				names = append(names, p.Name)
			}
		}
		return names
	}
	h.want(h.apply(moved(`[exit, "1"]`)), fleet.OutcomeRolledBack)
	if got := projects(); !slices.Equal(got, []string{old.Project}) {
		t.Errorf("after the rollback: %v", got)
	}
	out := h.mustApply(moved("[sleep]"))
	if !slices.Equal(out.Recreated, []string{"web"}) {
		t.Errorf("outcome %+v", out)
	}
	if got := projects(); !slices.Equal(got, []string{old.Project + "-new"}) {
		t.Errorf("projects %v", got)
	}
	if r := h.observe("renamed"); r.Project != old.Project+"-new" || len(r.Containers) != 1 || len(r.Containers[0].Drift) > 0 {
		t.Errorf("report %+v", r)
	}
	if _, err := h.cl.VolumeInspect(t.Context(), old.Project+"_data", client.VolumeInspectOptions{}); err != nil {
		t.Errorf("the volume of the old project: %v", err)
	}
	h.want(h.do(h.order(fleet.OrderRemove, moved("[sleep]"))), fleet.OutcomeSucceeded)
}

func TestARepoIsFilesAndNothingElse(t *testing.T) {
	h := newHost(t)
	srv := t.TempDir()
	h.allow(policy.Policy{HostDirectories: []string{srv}, HostCommands: true})
	repo := func(dir string, files map[string]string) fleet.Release {
		r := fleet.Release{Stack: "dots", Server: h.server, Project: "dots"}
		for _, path := range slices.Sorted(mapKeys(files)) {
			r.Files = append(r.Files, fleet.File{Path: path, Mode: 0o644, Size: int64(len(files[path])), Digest: h.blobs.add(files[path])})
		}
		r.Options.Dir = dir
		r.Options.FirstDeploy = h.script("echo cloned >> pulls")
		r.Options.PostDeploy = h.script("echo pulled >> pulls")
		return seal(r)
	}
	dir := filepath.Join(srv, "dots")
	if out := h.apply(repo("/srv/elsewhere", map[string]string{"a": "1"})); out.Status != fleet.OutcomeFailed || !out.Untouched || !strings.Contains(out.Hint, "host_directories") {
		t.Fatalf("outside of the policy: %+v", out)
	}
	h.mustApply(repo(dir, map[string]string{"a": "1", "b/c": "2", "d": "3"}))
	if r := h.observe("dots"); r.Release.Digest == "" || len(r.Drift) > 0 || len(r.Containers) > 0 {
		t.Errorf("report %+v", r)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "pulls")); string(b) != "cloned\npulled\n" {
		t.Errorf("the command left %q", b)
	}
	put(t, filepath.Join(dir, "b", "c"), "by hand")
	put(t, filepath.Join(dir, "theirs"), "theirs")
	if r := h.observe("dots"); len(r.Drift) != 1 || r.Drift[0].Field != "file b/c" {
		t.Errorf("drift %+v", r.Drift)
	}
	second := repo(dir, map[string]string{"a": "1", "e": "4"})
	h.mustApply(second)
	for name, want := range map[string]bool{"a": true, "b/c": true, "d": false, "e": true, "theirs": true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s is there: %t", name, !want)
		}
	}
	// Another directory, relative to the agent's own: what is ours leaves the first.
	third := repo("moved", map[string]string{"a": "1"})
	h.mustApply(third)
	if _, err := os.Stat(filepath.Join(dir, "e")); !os.IsNotExist(err) {
		t.Errorf("a file in the old directory: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(h.dir, "repos", "moved", "a")); string(b) != "1" {
		t.Errorf("the file in the new one holds %q, %v", b, err)
	}
	h.want(h.do(h.order(fleet.OrderRemove, third)), fleet.OutcomeSucceeded)
	if _, err := os.Stat(filepath.Join(h.dir, "repos", "moved", "a")); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
	if r, known, _ := h.ObserveStack(t.Context(), "dots"); known {
		t.Errorf("still known: %+v", r)
	}
}

func mapKeys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func TestAStackWhoseFilesAreOnTheHost(t *testing.T) {
	h := newHost(t)
	srv := t.TempDir()
	h.allow(policy.Policy{HostDirectories: []string{srv}})
	put(t, filepath.Join(srv, "conf"), "theirs")
	r := h.release("onhost", nil, "", svc{name: "web", yaml: "command: [sleep]\nhealthcheck: {test: [CMD, /app, has, /conf], interval: 100ms, timeout: 2s}\nvolumes: [{type: bind, source: ./conf, target: /conf}]"})
	r.Options.Dir = srv
	r = seal(r)
	h.mustApply(r)
	res, err := h.cl.ContainerInspect(t.Context(), h.container("onhost", "web").ID, client.ContainerInspectOptions{})
	if err != nil || len(res.Container.Mounts) != 1 || res.Container.Mounts[0].Source != filepath.Join(srv, "conf") {
		t.Errorf("mounts %+v, %v", res.Container.Mounts, err)
	}
	h.want(h.do(h.order(fleet.OrderRemove, r)), fleet.OutcomeSucceeded)
	if b, _ := os.ReadFile(filepath.Join(srv, "conf")); string(b) != "theirs" {
		t.Errorf("the host's file holds %q", b)
	}
}
