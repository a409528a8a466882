package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/varanhq/varan/cmd/internal/agentcmd"
	"github.com/varanhq/varan/cmd/internal/exit"
)

func TestExitCodesAndMessages(t *testing.T) {
	cases := map[string]struct {
		args   []string
		env    map[string]string
		code   int
		stdout string
		stderr []string
	}{
		"version": {args: []string{"--version"}, code: exit.OK, stdout: "varan-agent version "},
		"help":    {args: []string{"--help"}, code: exit.OK, stdout: "--onboarding-key-file"},
		"unknown flag": {
			args: []string{"--cores", "x"}, code: exit.Usage,
			stderr: []string{"varan-agent: unknown flag: --cores", "hint: varan-agent --help"},
		},
		"unexpected argument": {
			args: []string{"start"}, code: exit.Usage, stderr: []string{`varan-agent: unexpected argument "start"`, "hint: "},
		},
		"bad log level": {
			args: []string{"--log-level", "loud"}, code: exit.Usage, stderr: []string{"--log-level"},
		},
		"no address of core": {
			code: exit.Config, stderr: []string{"varan-agent: no address of core given", "hint: set --core or VARAN_CORE_ADDRESS"},
		},
		"nothing to trust core by": {
			args: []string{"--core", "ws://127.0.0.1:1"}, code: exit.Config,
			stderr: []string{"varan-agent: nothing says which core to trust", "--onboarding-key-file", "--core-public-key"},
		},
		"the address from Komodo's variable": {
			env: map[string]string{"PERIPHERY_CORE_ADDRESS": "ws://127.0.0.1:1"}, code: exit.Config,
			stderr: []string{"nothing says which core to trust"},
		},
		"a name that is none": {
			args: []string{"--core", "ws://127.0.0.1:1", "--connect-as", "$(whoami)"}, code: exit.Config,
			stderr: []string{"not a server name", "hint: "},
		},
		"a token that is none": {
			args: []string{"--core", "ws://127.0.0.1:1"}, env: map[string]string{"VARAN_ONBOARDING_KEY": "canary"}, code: exit.Config,
			stderr: []string{"onboarding token", "hint: "},
		},
		"a token file that is not there": {
			args: []string{"--core", "ws://127.0.0.1:1", "--onboarding-key-file", "/does/not/exist"}, code: exit.Config,
			stderr: []string{"the onboarding key file does not exist", "nothing says which core to trust"},
		},
		"a policy file that is not there": {
			args: []string{"--core", "ws://127.0.0.1:1", "--policy", "/does/not/exist"}, code: exit.Config,
			stderr: []string{"policy:", "/does/not/exist", "hint: "},
		},
		"a secrets file that is not there": {
			args: []string{"--core", "ws://127.0.0.1:1"}, env: map[string]string{"VARAN_AGENT_SECRETS_FILE": "/does/not/exist"}, code: exit.Config,
			stderr: []string{"secrets file:", "/does/not/exist"},
		},
		"a switch that is none": {
			args: []string{"--core", "ws://127.0.0.1:1"}, env: map[string]string{"VARAN_INSECURE_SKIP_VERIFY": "maybe"}, code: exit.Config,
			stderr: []string{"VARAN_INSECURE_SKIP_VERIFY"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			for _, variable := range os.Environ() {
				key, _, _ := strings.Cut(variable, "=")
				if strings.HasPrefix(key, "VARAN_") || strings.HasPrefix(key, "PERIPHERY_") {
					t.Setenv(key, "")
				}
			}
			dir := filepath.Join(t.TempDir(), "state")
			t.Setenv("VARAN_AGENT_DIR", dir)
			for key, value := range tc.env {
				t.Setenv(key, value)
			}
			var stdout, stderr bytes.Buffer
			if code := agentcmd.Run(tc.args, strings.NewReader(""), &stdout, &stderr); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			if !strings.Contains(stdout.String(), tc.stdout) || (tc.stdout == "" && stdout.Len() > 0) {
				t.Errorf("stdout %q, want %q in it", stdout.String(), tc.stdout)
			}
			for _, want := range tc.stderr {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("stderr lacks %q:\n%s", want, &stderr)
				}
			}
			if strings.Contains(stderr.String(), "canary") {
				t.Errorf("the key is shown:\n%s", &stderr)
			}
		})
	}
}
