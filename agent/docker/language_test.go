package docker

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/varanhq/varan/agent/policy"
	"github.com/varanhq/varan/fleet"
)

func TestChainedLinesStopAtTheFirstThatFails(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                  "",
		"# only a comment\n\n":              "",
		"echo a\necho b":                    "a\nb\n",
		"echo a # said\n# left out\necho b": "a\nb\n",
		"echo a\nfalse\necho b":             "a\n",
		"false || echo a\necho b":           "a\nb\n",
		"true && false\necho b":             "",
		"cd /\npwd":                         "/\n",
		"echo a \\\n  b\necho c":            "a b\nc\n",
		"x='# no comment'\necho \"$x\"":     "# no comment\n",
		"echo a\r\necho b\r\n":              "a\nb\n",
	} {
		cmd := exec.CommandContext(t.Context(), "/bin/sh")
		cmd.Stdin = strings.NewReader(chain(text))
		out, _ := cmd.Output() // some of them fail; what they said is what counts
		if diff := cmp.Diff(want, string(out)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

func TestASecretCannotBecomePartOfTheModel(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"plain", "a: b", "x\n- y", `"quoted"`, "# no comment", "true", "12", "[a]", "{{}}", "$HOME", ""} {
		e := &Engine{secrets: newLocalSecrets(map[string]fleet.Secret{"S": fleet.NewSecret(value)})}
		token := fleet.LocalSecret{Name: "S", Version: "v"}.Token()
		filled, err := e.completeModel([]byte("services:\n  web:\n    environment:\n      A: \""+token+"\"\n      B: 'x"+token+"y'\n    command: [sh, '"+token+"']\n"), nil, "")
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Services map[string]struct {
				Environment map[string]any
				Command     []any
			}
		}
		if err := yaml.Unmarshal(filled, &got); err != nil {
			t.Fatalf("%q: %v in\n%s", value, err, filled)
		}
		web := got.Services["web"]
		if web.Environment["A"] != value || web.Environment["B"] != "x"+value+"y" || len(web.Command) != 2 || web.Command[1] != value {
			t.Errorf("%q became %v", value, web)
		}
	}
	e := &Engine{secrets: newLocalSecrets(nil)}
	if _, err := e.completeModel([]byte("a: '"+fleet.LocalSecret{Name: "GONE", Version: "v"}.Token()+"'"), nil, ""); err == nil || !strings.Contains(err.Error(), "GONE") {
		t.Errorf("an unknown secret: %v", err)
	}
}

func TestSecretsAreTakenOutOfTexts(t *testing.T) {
	t.Parallel()
	s := newLocalSecrets(map[string]fleet.Secret{
		"KEY": fleet.NewSecret("-----BEGIN-----\nabcdefgh\n-----END-----\n"), "LONG": fleet.NewSecret("hunter22"),
		"LONGER": fleet.NewSecret("hunter2222"), "SHORT": fleet.NewSecret("1"),
	})
	if got := s.clean("a hunter2222 and hunter22, abcdefgh, 1"); got != "a [secret] and [secret], [secret], 1" {
		t.Errorf("got %q", got)
	}
}

func TestSecretFilesNeedMemory(t *testing.T) {
	t.Parallel()
	disk, id := t.TempDir(), ""
	if inMemory(disk) {
		t.Skip("the temporary directory is in memory here")
	}
	cfg := Config{Dir: disk, SecretsDir: filepath.Join(disk, "secrets"+id)}
	if r := chooseRAM(&cfg); r.err == nil || !r.none() {
		t.Errorf("a disk was taken for memory: %+v", r)
	}
	cfg.Policy.SecretsOnDisk = true
	r := chooseRAM(&cfg)
	dir, err := r.ensure("blobs")
	if err != nil || dir != filepath.Join(disk, "secrets", "blobs") {
		t.Errorf("the policy accepts a disk: %q, %v", dir, err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ensure("blobs"); err == nil {
		t.Error("a directory that others can read was taken")
	}
	if r := chooseRAM(&Config{Dir: disk}); r.err == nil && !strings.HasPrefix(r.dir, "/run/varan-agent/") && !strings.HasPrefix(r.dir, "/dev/shm/varan-agent-") {
		t.Errorf("chose %q", r.dir)
	}
}

func TestWhatAHostRefusesIsNotTheReleasesFault(t *testing.T) {
	t.Parallel()
	e := &Engine{cfg: Config{Dir: t.TempDir()}, blobs: blobs{ram: ram{err: errors.New("no memory here")}}}
	e.cfg.Policy.AllowedRegistries = []string{"ghcr.io/acme"}
	for name, tc := range map[string]struct {
		release fleet.Release
		hint    string
	}{
		"a command":               {fleet.Release{Options: fleet.ReleaseOptions{PostDeploy: fleet.Command{Script: "sha256:1"}}}, "host_commands"},
		"a directory":             {fleet.Release{Options: fleet.ReleaseOptions{Dir: "/etc"}}, "host_directories"},
		"a way out":               {fleet.Release{Options: fleet.ReleaseOptions{Dir: "../../etc"}}, "host_directories"},
		"no memory":               {fleet.Release{Files: []fleet.File{{Path: "a", Salted: true, Digest: "sha256:1"}}}, "secrets_on_disk"},
		"no recreate":             {fleet.Release{Options: fleet.ReleaseOptions{Up: fleet.UpOptions{NoRecreate: true}}}, "--no-recreate"},
		"an image from elsewhere": {fleet.Release{Services: []fleet.Service{{Name: "web", Image: "evil.example/app"}}}, "allowed_registries"},
		"all in order":            {fleet.Release{Services: []fleet.Service{{Name: "web", Image: "ghcr.io/acme/web:1"}}}, ""},
	} {
		task := &task{e: e, order: fleet.Order{Stack: "web"}}
		f := task.permitted(&tc.release)
		switch {
		case (f == nil) != (tc.hint == ""):
			t.Errorf("%s: %+v", name, f)
		case f != nil && (!strings.Contains(f.Hint, tc.hint) || f.Retryable):
			t.Errorf("%s: %+v, want a hint at %s", name, f, tc.hint)
		}
	}
	e.cfg.Policy = policy.Policy{HostCommands: true, HostDirectories: []string{"/etc"}}
	if f := (&task{e: e, order: fleet.Order{Stack: "web"}}).permitted(&fleet.Release{Options: fleet.ReleaseOptions{
		Dir: "/etc/komodo", PreDeploy: fleet.Command{Script: "sha256:1"},
	}}); f != nil && !strings.Contains(f.Reason, "memory") {
		t.Errorf("what the policy allows: %+v", f)
	}
}

func TestP12AHostThatIsUntrustedTakesNothingElse(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	e := &Engine{
		cfg: Config{Dir: t.TempDir(), Policy: policy.Policy{Tier: fleet.TierUntrusted}},
		log: slog.New(slog.NewTextHandler(&log, nil)),
	}
	release := &fleet.Release{Stack: "web", Services: []fleet.Service{{Name: "app", Image: "app:1"}}}
	trusted := &task{e: e, order: fleet.Order{Stack: "web"}}
	if f := trusted.permitted(release); f == nil || !strings.Contains(f.Reason, "untrusted") || !f.Retryable {
		t.Errorf("a release for a trusted server: %+v", f)
	}
	untrusted := &task{e: e, order: fleet.Order{Stack: "web", Tier: fleet.TierUntrusted}}
	if f := untrusted.permitted(release); f != nil {
		t.Errorf("a release for an untrusted server: %+v", f)
	}
	// What core says of the tier is not all: the model is what would run.
	f := untrusted.modelPermitted(release, []byte("services: {app: {image: app, privileged: true}}"))
	if f == nil || !strings.Contains(f.Reason, "service app is privileged") {
		t.Errorf("a privileged service: %+v", f)
	}
	if !strings.Contains(log.String(), "privileged") || !strings.Contains(log.String(), "stack=web") {
		t.Errorf("the host's own log does not say so: %s", log.String())
	}
	if f := untrusted.modelPermitted(release, []byte("services: {app: {image: app}}")); f != nil {
		t.Errorf("a plain service: %+v", f)
	}
}

func TestP12TheModelIsHeldAgainstTheRegistriesToo(t *testing.T) {
	t.Parallel()
	e := &Engine{
		cfg: Config{Dir: t.TempDir(), Policy: policy.Policy{AllowedRegistries: []string{"ghcr.io/acme"}}}, log: slog.New(slog.DiscardHandler),
	}
	for model, want := range map[string]string{
		"services: {app: {image: ghcr.io/acme/app}}":                "",
		"services: {app: {image: evil.example/app}}":                "lets no image in",
		"services: {app: {image: ghcr.io/acme/app, build: {x: y}}}": "is built here",
		"services: [": "cannot be read",
	} {
		f := (&task{e: e}).modelPermitted(&fleet.Release{Stack: "web"}, []byte(model))
		if (f == nil) != (want == "") || f != nil && !strings.Contains(f.Reason, want) {
			t.Errorf("%s: %+v, want %q", model, f, want)
		}
	}
}

func TestARestartIsNoReasonToRunCommands(t *testing.T) {
	t.Parallel()
	release := func(digest, service, restart fleet.Digest) *fleet.Release {
		return &fleet.Release{Digest: digest, Services: []fleet.Service{{Name: "web", Digest: service, Restart: restart}}}
	}
	good := release("1", "a", "x")
	for name, tc := range map[string]struct {
		good, release *fleet.Release
		want          bool
	}{
		"the first":        {nil, good, true},
		"the same again":   {good, good, true},
		"a restart":        {good, release("2", "a", "y"), false},
		"a change":         {good, release("2", "b", "x"), true},
		"both":             {good, release("2", "b", "y"), true},
		"only the options": {good, release("2", "a", "x"), true},
	} {
		if got := commandsDue(tc.good, tc.release); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
