package policy_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/agent/policy"
	"github.com/varanhq/varan/fleet"
)

func write(t *testing.T, name, text string, mode fs.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAPolicyIsRead(t *testing.T) {
	t.Parallel()
	token := write(t, "token", "from-a-file\n", 0o600)
	path := write(t, "policy.toml", `
host_commands = true
host_directories = ["/srv/stacks", "/etc/komodo/stacks"]
repo_directory = "/srv/repos"
allowed_signers = "ada@example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAzcVVSVbPKzqQPmNqQ0MvG6mOFFvPFyDFhnGBGBQPHp"

[secrets]
DB_PASSWORD = "hunter22"

[secret_files]
TOKEN = "`+token+`"

[[registry]]
domain = "ghcr.io"
username = "ci"
password_file = "`+token+`"
`, 0o600)
	p, err := policy.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if !p.HostCommands || p.SecretsOnDisk || p.RepoDirectory != "/srv/repos" {
		t.Errorf("got %+v", p)
	}
	if diff := cmp.Diff([]string{"ada@example.com"}, p.Signers.Names()); diff != "" {
		t.Errorf("signers (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/srv/stacks", "/etc/komodo/stacks"}, p.HostDirectories); diff != "" {
		t.Errorf("directories (-want +got):\n%s", diff)
	}
	if p.Secrets["DB_PASSWORD"].Reveal() != "hunter22" || p.Secrets["TOKEN"].Reveal() != "from-a-file" {
		t.Error("the secrets are not those of the file")
	}
	if len(p.Registries) != 1 || p.Registries[0].Domain != "ghcr.io" || p.Registries[0].Password.Reveal() != "from-a-file" {
		t.Errorf("registries: %v", p.Registries)
	}
	more := write(t, "secrets.toml", "API_KEY = \"k-123456\"\n", 0o600)
	if err := p.LoadSecrets(more); err != nil || p.Secrets["API_KEY"].Reveal() != "k-123456" {
		t.Errorf("secrets file: %v", err)
	}
	if err := p.LoadSecrets(more); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("the same names again: %v", err)
	}
}

func TestWhatAPolicyMayNotBeIsSaidWithItsPlace(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text string
		mode fs.FileMode
		want string
		line int
	}{
		"an unknown key":            {text: "host_commands = true\nhost_comands = true", want: "host_comands", line: 2},
		"a wrong type":              {text: "\nhost_commands = \"canary\"", want: "bool", line: 2},
		"no TOML":                   {text: "a\n= canary", want: "", line: 1},
		"a relative directory":      {text: "host_directories = [\"/a\", \"b\"]", want: `"b" must be an absolute directory`, line: 1},
		"all of the host":           {text: "host_directories = [\"/\"]", want: "not all of the host", line: 1},
		"a relative repo directory": {text: "\n\nrepo_directory = \"r\"", want: "repo_directory", line: 0},
		"a secret that has no name": {text: "[secrets]\n\"a b\" = \"canary\"", want: `"a b" cannot be the name`, line: 2},
		"an empty secret":           {text: "[secrets]\nA = \"\"", want: "the secret A is empty", line: 2},
		"a file that is not there":  {text: "[secret_files]\nA = \"/does/not/exist\"", want: "/does/not/exist", line: 2},
		"an account without a name": {text: "[[registry]]\ndomain = \"x\"", want: "a username", line: 1},
		"an account twice secured":  {text: "[[registry]]\ndomain=\"x\"\nusername=\"u\"\npassword=\"canary\"\npassword_file=\"/f\"", want: "a password or a password_file", line: 1},
		"another tier":              {text: "tier = \"gold\"", want: `no tier "gold"`, line: 1},
		"commands where none run":   {text: "tier = \"untrusted\"\nhost_commands = true", want: "never run on an untrusted host", line: 2},
		"terminals":                 {text: "terminals = true", want: "neither terminals nor tunnels", line: 1},
		"tunnels":                   {text: "tunnels = [\"db:5432\"]", want: "neither terminals nor tunnels", line: 1},
		"a registry without a host": {text: "\nallowed_registries = [\"library/nginx\"]", want: `"library/nginx" is no registry`, line: 2},
		"a signer without a key":    {text: "allowed_signers = \"ada\"", want: "allowed signers, line 1", line: 1},
		"a PGP key that is none":    {text: "\npgp_keys = \"x\"", want: "no armored public key", line: 2},
		"secrets for everybody":     {text: "[secrets]\nA = \"canary\"", mode: 0o644, want: "everybody can read it"},
		"written by others":         {text: "host_commands = true", mode: 0o622, want: "others can write it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mode := tc.mode
			if mode == 0 {
				mode = 0o600
			}
			path := write(t, "policy.toml", tc.text, mode)
			_, err := policy.Load(path)
			fault, ok := errors.AsType[*policy.Error](err)
			if !ok {
				t.Fatalf("got %v, want a fault of the file", err)
			}
			if !strings.Contains(err.Error(), tc.want) && tc.line != 0 {
				t.Errorf("got %q, want %q in it", err, tc.want)
			}
			if fault.Pos.File != path || tc.line != 0 && fault.Pos.Line != tc.line {
				t.Errorf("position %v, want line %d", fault.Pos, tc.line)
			}
			if strings.Contains(err.Error(), "canary") || strings.Contains(fault.Hint, "canary") {
				t.Errorf("a value is shown: %v", err)
			}
		})
	}
}

func TestAPolicyNarrows(t *testing.T) {
	t.Parallel()
	p, err := policy.Load(write(t, "policy.toml", `
tier = "untrusted"
terminals = false
tunnels = []
allowed_registries = ["ghcr.io/acme", "docker.io/library/*"]
`, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	if p.Tier != fleet.TierUntrusted || len(p.AllowedRegistries) != 2 {
		t.Errorf("got %+v", p)
	}
}

func TestADirectoryThatOthersCanWriteHoldsNoPolicy(t *testing.T) {
	t.Parallel()
	path := write(t, "policy.toml", "", 0o600)
	if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Load(path); err == nil || !strings.Contains(err.Error(), "others can write") {
		t.Errorf("got %v", err)
	}
}

func TestRefuseUntrusted(t *testing.T) {
	t.Parallel()
	for model, want := range map[string]string{
		"services: {a: {image: x, cap_add: [CHOWN, CAP_KILL], sysctls: {net.core.somaxconn: 1}}}":                     "",
		"services: {a: {volumes: [{type: bind, source: ./conf, target: /c}, {type: volume, source: v, target: /v}]}}": "",
		"volumes: {v: {driver_opts: {type: tmpfs, device: tmpfs}}}":                                                   "",
		"services: {a: {privileged: true}}":                                                                           "service a is privileged",
		"services: {a: {cap_add: [SYS_ADMIN]}}":                                                                       "adds the capability SYS_ADMIN",
		"services: {a: {devices: [{source: /dev/kvm}]}}":                                                              "devices",
		"services: {a: {gpus: all}}":                                                                                  "devices",
		"services: {a: {deploy: {resources: {reservations: {devices: [{count: 1}]}}}}}":                               "devices",
		"services: {a: {network_mode: host}}":                                                                         "namespace",
		"services: {a: {pid: 'container:other'}}":                                                                     "namespace",
		"services: {a: {volumes_from: ['container:other']}}":                                                          "outside the stack",
		"services: {a: {security_opt: ['seccomp=unconfined']}}":                                                       "gives up isolation",
		"services: {a: {sysctls: {kernel.panic: 1}}}":                                                                 "kernel parameter",
		"services: {a: {runtime: other}}":                                                                             "runtime",
		"services: {a: {cgroup_parent: x}}":                                                                           "cgroup",
		"services: {a: {build: {context: .}}}":                                                                        "built on the host",
		"services: {a: {post_start: [{privileged: true}]}}":                                                           "privileged hook",
		"services: {a: {volumes: [{type: bind, source: /var/run/docker.sock, target: /s}]}}":                          "mounts /var/run/docker.sock",
		"services: {a: {volumes: [{type: bind, source: ../../etc, target: /s}]}}":                                     "mounts ../../etc",
		"services: {a: {volumes: [{type: bind, source: ./x/../../etc, target: /s}]}}":                                 "of the host",
		"volumes: {v: {driver: nfs}}":                                                                                 "served by nfs",
		"volumes: {v: {driver_opts: {type: none, o: bind, device: /etc}}}":                                            "mounts /etc",
		"secrets: {s: {file: /etc/shadow}}":                                                                           "/etc/shadow",
		"services: [":                                                                                                 "cannot be read",
	} {
		got := policy.RefuseUntrusted([]byte(model))
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", model, got, want)
		}
	}
}

func TestNoPolicyIsToldFromABadOne(t *testing.T) {
	t.Parallel()
	if _, err := policy.Load(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	var p policy.Policy
	if err := p.LoadSecrets(write(t, "s", "A = 1", 0o600)); err == nil {
		t.Error("a number is taken for a secret")
	}
	if err := p.LoadSecrets(write(t, "s", "A = \"x\"", 0o644)); err == nil {
		t.Error("everybody can read the secrets")
	}
	if (fleet.LocalSecret{Name: "a:b", Version: "v"}).Valid() || (fleet.LocalSecret{Name: "a", Version: "v@"}).Valid() {
		t.Error("a name that breaks a token is valid")
	}
}
