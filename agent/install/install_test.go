package install_test

import (
	"context"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/varanhq/varan/agent/install"
	"github.com/varanhq/varan/agent/policy"
	"github.com/varanhq/varan/fleet"
)

var update = flag.Bool("update", false, "write the golden units anew")

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// host is a root with a service manager that remembers.
type host struct {
	install.Host
	t       *testing.T
	program string
	calls   []string
	state   map[string]bool // "enabled", "active"
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, program: filepath.Join(t.TempDir(), "varan-agent"), state: map[string]bool{}}
	h.Root = t.TempDir()
	h.Systemctl = func(_ context.Context, args ...string) error {
		switch verb := args[0]; verb {
		case "is-enabled", "is-active":
			if !h.state[strings.TrimPrefix(verb, "is-")] {
				return errors.New("no")
			}
			return nil
		case "enable":
			h.state["enabled"] = true
		case "restart":
			h.state["active"] = true
		case "disable":
			h.state = map[string]bool{}
		}
		h.calls = append(h.calls, strings.Join(args, " "))
		return nil
	}
	must(t, os.WriteFile(h.program, []byte("version 1"), 0o755))
	return h
}

func (h *host) path(p string) string { return filepath.Join(h.Root, p) }

func (h *host) read(p string) string {
	h.t.Helper()
	text, err := os.ReadFile(h.path(p))
	must(h.t, err)
	return string(text)
}

func (h *host) install(change func(*install.Options)) install.Report {
	h.t.Helper()
	o := install.Options{
		Program: h.program, Core: "https://core.example.com", ConnectAs: "web-1", Token: fleet.NewSecret("vo1_canary"),
	}
	if change != nil {
		change(&o)
	}
	report, err := h.Install(h.t.Context(), o)
	must(h.t, err)
	return report
}

// files lists what is below the root, with modes.
func (h *host) files() map[string]fs.FileMode {
	out := map[string]fs.FileMode{}
	must(h.t, filepath.WalkDir(h.Root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		out[strings.TrimPrefix(path, h.Root)] = info.Mode().Perm()
		return err
	}))
	return out
}

func TestInstallMakesAServiceAndASecondTimeNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	report := h.install(nil)
	want := map[string]fs.FileMode{
		"/usr/local/bin/varan-agent": 0o755, "/etc/varan/agent.toml": 0o600, "/etc/varan/policy.toml": 0o600,
		"/etc/systemd/system/varan-agent.service": 0o644, "/var/lib/varan-agent/onboarding.key": 0o600,
		"/var/lib/varan-agent/install.json": 0o600,
	}
	if diff := cmp.Diff(want, h.files()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"daemon-reload", "enable --quiet varan-agent.service", "restart varan-agent.service"}, h.calls); diff != "" {
		t.Errorf("systemctl (-want +got):\n%s", diff)
	}
	if !report.Started || len(report.Kept) > 0 {
		t.Errorf("report %+v", report)
	}
	for p := range want {
		if p != "/var/lib/varan-agent/onboarding.key" && strings.Contains(h.read(p), "canary") {
			t.Errorf("the onboarding key is in %s", p)
		}
	}
	h.calls = nil
	if again := h.install(nil); len(again.Changed) > 0 || again.Started || len(h.calls) > 0 {
		t.Errorf("a second time did %+v and %q", again, h.calls)
	}
}

func TestInstallUpgradesAndLeavesTheConfigurationAlone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.install(nil)
	must(t, os.WriteFile(h.path("/etc/varan/agent.toml"), []byte("core = [\"mine\"]\n"), 0o600))
	must(t, os.WriteFile(h.path("/var/lib/varan-agent/registration.json"), []byte("{}"), 0o600))
	must(t, os.Remove(h.path("/var/lib/varan-agent/onboarding.key"))) // as the agent does
	must(t, os.WriteFile(h.program, []byte("version 2"), 0o755))
	h.calls = nil
	report := h.install(func(o *install.Options) { o.Core = "https://other.example.com" })
	if diff := cmp.Diff([]string{"/usr/local/bin/varan-agent"}, report.Changed); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"restart varan-agent.service"}, h.calls); diff != "" {
		t.Errorf("systemctl (-want +got):\n%s", diff)
	}
	if h.read("/etc/varan/agent.toml") != "core = [\"mine\"]\n" || h.read("/usr/local/bin/varan-agent") != "version 2" {
		t.Error("the configuration was written, or the program was not")
	}
	if _, err := os.Stat(h.path("/var/lib/varan-agent/onboarding.key")); err == nil {
		t.Error("an agent that is registered was given an onboarding key")
	}
}

func TestWithoutAServiceManagerItIsSaidHowToRun(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.Systemctl = nil
	report := h.install(nil)
	if report.Command != "/usr/local/bin/varan-agent --config /etc/varan/agent.toml" || report.Started {
		t.Errorf("report %+v", report)
	}
	if _, err := os.Stat(h.path("/etc/systemd/system/varan-agent.service")); err == nil {
		t.Error("there is a unit")
	}
}

func TestUninstallRemovesWhatInstallMadeAndNothingElse(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		purge bool
		want  []string
	}{
		"keeping": {false, []string{
			"/etc/varan/agent.toml", "/etc/varan/other", "/etc/varan/policy.toml", "/usr/local/bin/other",
			"/var/lib/varan-agent/install.json", "/var/lib/varan-agent/keys/agent.key", "/var/lib/varan-agent/onboarding.key",
			"/var/lib/varan-agent/stacks/web/conf",
		}},
		"purging": {true, []string{"/etc/varan/other", "/usr/local/bin/other", "/var/lib/varan-agent/stacks/web/conf"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			for _, p := range []string{"/etc/varan/other", "/usr/local/bin/other", "/var/lib/varan-agent/stacks/web/conf", "/var/lib/varan-agent/keys/agent.key"} {
				must(t, os.MkdirAll(filepath.Dir(h.path(p)), 0o755))
				must(t, os.WriteFile(h.path(p), nil, 0o600))
			}
			h.install(nil)
			h.calls = nil
			_, err := h.Uninstall(t.Context(), tc.purge)
			must(t, err)
			var got []string
			for p := range h.files() {
				got = append(got, p)
			}
			slices.Sort(got)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"disable --now --quiet varan-agent.service", "daemon-reload"}, h.calls); diff != "" {
				t.Errorf("systemctl (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUninstallKeepsWhatIsNotWhatItInstalled(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	if _, err := h.Uninstall(t.Context(), true); err == nil {
		t.Error("something was uninstalled from an empty host")
	}
	h.install(nil)
	must(t, os.WriteFile(h.path("/usr/local/bin/varan-agent"), []byte("by a package manager"), 0o755))
	report, err := h.Uninstall(t.Context(), false)
	must(t, err)
	if h.read("/usr/local/bin/varan-agent") != "by a package manager" || !strings.Contains(strings.Join(report.Kept, "\n"), "varan-agent: it is not what was installed") {
		t.Errorf("report %+v", report)
	}
}

func TestWhatCannotWorkChangesNothing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*install.Options)
		policy string
		want   string
	}{
		"no core":       {func(o *install.Options) { o.Core = "" }, "", "which core"},
		"no key":        {func(o *install.Options) { o.Token = fleet.Secret{} }, "", "no onboarding key"},
		"two lines":     {func(o *install.Options) { o.ConnectAs = "a\nb" }, "", "printed"},
		"a bad policy":  {nil, "host_comands = true\n", "host_comands"},
		"no program":    {func(o *install.Options) { o.Program = "/nowhere" }, "", "program"},
		"a bad address": {func(o *install.Options) { o.Core = "\x1b[0m" }, "", "printed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			if tc.policy != "" {
				must(t, os.MkdirAll(h.path("/etc/varan"), 0o755))
				must(t, os.WriteFile(h.path("/etc/varan/policy.toml"), []byte(tc.policy), 0o600))
			}
			before := h.files()
			o := install.Options{Program: h.program, Core: "https://core.example.com", Token: fleet.NewSecret("vo1_canary")}
			if tc.change != nil {
				tc.change(&o)
			}
			_, err := h.Install(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if diff := cmp.Diff(before, h.files()); diff != "" || len(h.calls) > 0 {
				t.Errorf("changed (-want +got):\n%s%q", diff, h.calls)
			}
		})
	}
}

func TestUnitFollowsThePolicy(t *testing.T) {
	t.Parallel()
	for name, allowed := range map[string]policy.Policy{
		"plain":         {},
		"directories":   {HostDirectories: []string{"/srv/stacks", "/opt/100% mine"}, RepoDirectory: "/srv/repos"},
		"home":          {HostDirectories: []string{"/home/ada/stacks"}},
		"host_commands": {HostCommands: true, HostDirectories: []string{"/srv"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			golden := filepath.Join("testdata", name+".service")
			got := install.Unit(allowed)
			if *update {
				must(t, os.WriteFile(golden, []byte(got), 0o644))
			}
			want, err := os.ReadFile(golden)
			must(t, err)
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("unit (-want +got):\n%s", diff)
			}
		})
	}
}

func TestThePolicyOfANewHostIsOneThatAllowsNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.install(nil)
	got, err := policy.Load(h.path("/etc/varan/policy.toml"))
	must(t, err)
	if diff := cmp.Diff(policy.Policy{}, got, cmpopts.IgnoreFields(policy.Policy{}, "Signers")); diff != "" || !got.Signers.Empty() {
		t.Errorf("the sample says something (-want +got):\n%s", diff)
	}
	// What is commented out in it is right too, but for the files that it names.
	var lines []string
	for line := range strings.Lines(h.read("/etc/varan/policy.toml")) {
		rest, example := strings.CutPrefix(line, "#")
		if example && !strings.HasPrefix(rest, " ") && !strings.Contains(rest, "/etc/varan/") && !strings.HasPrefix(rest, "[") &&
			!strings.HasPrefix(rest, "domain") && !strings.HasPrefix(rest, "username") {
			lines = append(lines, rest)
		}
	}
	path := filepath.Join(t.TempDir(), "policy.toml")
	must(t, os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600))
	if got, err = policy.Load(path); err != nil || got.Tier != fleet.TierUntrusted || len(got.HostDirectories) != 1 || len(got.AllowedRegistries) != 2 {
		t.Errorf("the examples of the sample say %+v, %v", got, err)
	}
}
