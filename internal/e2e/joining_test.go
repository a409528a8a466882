//go:build e2e

package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/varanhq/varan/core/api"
)

// TestAHostIsInstalledWithOneLineAndWaitsForApproval goes the way of a new host: the key, the
// script of core, the program that it fetches and installs, the agent with the configuration
// that is made, approval, and a stack that finds the server by the tags of the key.
func TestAHostIsInstalledWithOneLineAndWaitsForApproval(t *testing.T) {
	w := newWorld(t, api.SyncSpec{AutoApply: true})
	tag := w.name("edge")
	w.push("template and stack", map[string]string{
		"fleet.toml": `
[[server]]
name = "` + w.name("template") + `"
template = true
description = "from the template"

[[variable]]
name = "COLOUR"
value = "blue"
server_tags = ["` + tag + `"]

[[stack]]
name = "` + w.name("web") + `"
server_tags = ["` + tag + `"]
tags = ["tier:untrusted"]
file_contents = """
services:
  app:
    image: ` + image + `
    pull_policy: never
    command: ["demo-service"]
    environment: {COLOUR: "[[COLOUR]]"}
"""
`,
	})
	var created api.OnboardingCreated
	w.eventually("the template to be known", func() bool {
		var err error
		created, err = w.api.CreateOnboardingKey(t.Context(), api.OnboardingSpec{
			ServerGlob: w.name("host-*"), Tags: []string{tag}, CopyServer: w.name("template"), MaxUses: 5, CIDRs: []string{"127.0.0.1"},
		})
		return err == nil
	})
	root, name := w.path("root"), w.name("host-1")
	install := func() string {
		t.Helper()
		cmd := exec.Command("sh", "-c", "curl -fsSL "+w.api.BaseURL+"/install.sh | sh -s -- --connect-as "+name)
		cmd.Env = append(os.Environ(), "DESTDIR="+root, "VARAN_ONBOARDING_KEY="+string(created.Token))
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Contains(string(out), string(created.Token)) {
			t.Fatalf("install: %v\n%s", err, out)
		}
		return string(out)
	}
	if out := install(); !strings.Contains(out, "wrote /usr/local/bin/varan-agent") {
		t.Errorf("installed nothing:\n%s", out)
	}
	if out := install(); strings.Contains(out, "wrote") || strings.Contains(out, "fetching") {
		t.Errorf("a second time:\n%s", out)
	}
	program, token := filepath.Join(root, "usr", "local", "bin", "varan-agent"), filepath.Join(root, "var", "lib", "varan-agent", "onboarding.key")
	w.agents["host-1"] = w.start("host-1", program, []string{"VARAN_ONBOARDING_KEY_FILE=" + token},
		"--config", filepath.Join(root, "etc", "varan", "agent.toml"), "--dir", w.path("host-1"), "--log-level", "debug")
	w.eventually("the host to wait", func() bool {
		s, err := w.api.Server(t.Context(), name)
		return err == nil && s.Pending && s.RemoteAddr == "127.0.0.1"
	})
	if out, code := w.varan("", "server", "approve", name); code != 0 {
		t.Fatalf("approve: %d\n%s", code, out)
	}
	w.waitOnline("host-1", true)
	w.eventually("the stack to run on the new host", func() bool { return len(w.running("web")) == 1 })
	w.eventually("the key to be removed", func() bool { _, err := os.Stat(token); return os.IsNotExist(err) })
	if out, code := w.varan("", "export", "--from-core", "--type", "server"); code != 0 ||
		!strings.Contains(out, `name = "`+name+`"`) || !strings.Contains(out, `description = "from the template"`) || !strings.Contains(out, `tier = "untrusted"`) {
		t.Errorf("exported %d:\n%s", code, out)
	}
	w.agents["host-1"].kill()
	out, err := exec.Command(os.Getenv("VARAN_BIN"), "agent", "uninstall", "--root", root, "--purge").CombinedOutput()
	if _, statErr := os.Stat(program); err != nil || !os.IsNotExist(statErr) {
		t.Errorf("uninstall: %v\n%s", err, out)
	}
	if len(w.running("web")) != 1 {
		t.Error("the containers did not stay")
	}
}
