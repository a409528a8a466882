package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// action is a run of an action's script as GitHub would do it.
type action struct {
	code                 int
	log, output, summary string
	sarif                string
	path                 string
}

// self is a program that behaves as varan: this test binary, by its name.
func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "varan")
	if err := os.Symlink(exe, link); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	return link
}

func runAction(t *testing.T, name string, env ...string) action {
	t.Helper()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no shell")
	}
	dir := t.TempDir()
	actions, err := filepath.Abs(filepath.Join(root, ".github", "actions", name))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", filepath.Join(actions, "run.sh"))
	cmd.Dir = filepath.Dir(filepath.Dir(filepath.Dir(actions)))
	a := action{path: dir, sarif: filepath.Join(dir, "varan.sarif")}
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_CONFIG_HOME=" + dir, "RUNNER_TEMP=" + dir, "GITHUB_ACTION_PATH=" + actions,
		"GITHUB_OUTPUT=" + filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY=" + filepath.Join(dir, "summary"),
	}, env...)
	log, err := cmd.CombinedOutput()
	if exitErr, ok := errors.AsType[*exec.ExitError](err); ok {
		a.code = exitErr.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	a.log = string(log)
	output, _ := os.ReadFile(filepath.Join(dir, "output"))
	summary, _ := os.ReadFile(filepath.Join(dir, "summary"))
	a.output, a.summary = string(output), string(summary)
	return a
}

func TestValidateActionAnnotatesAndSummarises(t *testing.T) {
	t.Parallel()
	varan := "VARAN_BINARY=" + self(t)
	good := runAction(t, "validate", varan, "VARAN_PATHS=examples/homelab\nexamples/quickstart\n")
	if good.code != 0 || !strings.Contains(good.output, "valid=true\nsarif-file="+good.sarif+"\n") || !strings.Contains(good.summary, "### varan validate") {
		t.Errorf("good: %+v", good)
	}
	bad := runAction(t, "validate", varan, "VARAN_PATHS=testdata/fleets/broken")
	if bad.code != 4 || !strings.Contains(bad.log, "::error file=testdata/fleets/broken/unknown-key.toml,line=4,") ||
		!strings.Contains(bad.output, "valid=false") || !strings.Contains(bad.summary, "\n    testdata/fleets/broken/unknown-key.toml:4:1: ") {
		t.Errorf("bad: %+v", bad)
	}
	sarif, err := os.ReadFile(bad.sarif)
	if err != nil || !strings.Contains(string(sarif), `"ruleId": "unknown-key"`) {
		t.Errorf("SARIF: %v %.200s", err, sarif)
	}
	if strict := runAction(t, "validate", varan, "VARAN_PATHS=examples/komodo-migration", "VARAN_STRICT=true"); strict.code != 4 {
		t.Errorf("strict: %+v", strict)
	}
}

func TestActionsDoNotEvaluateTheirInputs(t *testing.T) {
	t.Parallel()
	varan := "VARAN_BINARY=" + self(t)
	for _, evil := range []string{"$(touch EVIL)", "`touch EVIL`", "x; touch EVIL", "--output=EVIL", `"; touch EVIL; "`} {
		marker := filepath.Join(t.TempDir(), "pwned")
		evil = strings.ReplaceAll(evil, "EVIL", marker)
		for _, a := range []action{
			runAction(t, "validate", varan, "VARAN_PATHS="+evil),
			runAction(t, "plan", varan, "VARAN_DIR="+evil),
			runAction(t, "validate", "VARAN_VERSION="+evil, "VARAN_CHECKSUM="+strings.Repeat("0", 64)),
		} {
			if a.code == 0 {
				t.Errorf("%q is taken: %+v", evil, a)
			}
		}
		if _, err := os.Stat(marker); err == nil {
			t.Errorf("%q ran", evil)
		}
	}
}

func TestPlanActionShowsThePlan(t *testing.T) {
	t.Parallel()
	varan := "VARAN_BINARY=" + self(t)
	p := runAction(t, "plan", varan, "VARAN_DIR=examples/quickstart", "VARAN_CORE=", "VARAN_API_KEY=")
	if p.code != 0 || p.output != "exitcode=2\nchanges=true\n" || !strings.Contains(p.summary, "to create") || !strings.Contains(p.log, "no core is known") {
		t.Errorf("plan: %+v", p)
	}
	if d := runAction(t, "plan", varan, "VARAN_DIR=examples/quickstart", "VARAN_DETAILED_EXITCODE=true"); d.code != 2 {
		t.Errorf("detailed: %+v", d)
	}
	if bad := runAction(t, "plan", varan, "VARAN_DIR=testdata/fleets/broken"); bad.code != 4 || !strings.Contains(bad.output, "changes=false") {
		t.Errorf("bad: %+v", bad)
	}
}

func TestActionsRunOnlyTheReleaseThatIsExpected(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("no curl")
	}
	program := "#!/bin/sh\necho released \"$1\"\n"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/v1.2.3/varan-") {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(program))
	}))
	defer server.Close()
	sum := sha256.Sum256([]byte(program))
	right := "VARAN_CHECKSUM=" + hex.EncodeToString(sum[:])
	releases := "VARAN_RELEASES=" + server.URL
	if a := runAction(t, "validate", releases, "VARAN_VERSION=v1.2.3", right); a.code != 0 || !strings.Contains(a.log, "released validate") {
		t.Errorf("release: %+v", a)
	}
	for name, env := range map[string][]string{
		"another checksum": {"VARAN_VERSION=v1.2.3", "VARAN_CHECKSUM=" + strings.Repeat("0", 64)},
		"no checksum":      {"VARAN_VERSION=v1.2.3"},
		"no such release":  {"VARAN_VERSION=v9.9.9", right},
	} {
		if a := runAction(t, "validate", append(env, releases)...); a.code == 0 || strings.Contains(a.log, "released validate") {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// What is put into a script by an expression is evaluated by the shell: inputs go through
// the environment, all of them.
func TestActionsPassInputsByEnvironmentOnly(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"validate", "plan"} {
		raw, err := os.ReadFile(filepath.Join(root, ".github", "actions", name, "action.yml"))
		if err != nil {
			t.Fatal(err)
		}
		var a struct {
			Inputs map[string]struct{ Description, Default string }
			Runs   struct {
				Using string
				Steps []struct {
					Run, Shell string
					Env        map[string]string
				}
			}
		}
		if err := yaml.Unmarshal(raw, &a); err != nil {
			t.Fatal(err)
		}
		if a.Runs.Using != "composite" || len(a.Runs.Steps) != 1 || strings.Contains(a.Runs.Steps[0].Run, "${{") || a.Runs.Steps[0].Shell != "sh" {
			t.Errorf("%s: %+v", name, a.Runs)
		}
		passed := map[string]bool{}
		for _, value := range a.Runs.Steps[0].Env {
			if m := regexp.MustCompile(`^\$\{\{ inputs\.([a-z-]+) \}\}$`).FindStringSubmatch(value); m != nil {
				passed[m[1]] = true
			}
		}
		for input, d := range a.Inputs {
			if !passed[input] || d.Description == "" {
				t.Errorf("%s: the input %s is not passed on or not described", name, input)
			}
		}
	}
}
