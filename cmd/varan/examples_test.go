package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/varanhq/varan/cmd/internal/exit"
)

// root is the top of the repository.
const root = "../.."

// runHere runs the program with no core known.
func runHere(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// alone makes sure that no login or variable of the developer's takes part.
func alone(t *testing.T) {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for _, name := range []string{"VARAN_CORE", "VARAN_API_KEY", "VARAN_API_KEY_FILE"} {
		t.Setenv(name, "")
	}
}

func TestExamplesAndFixturesValidateAndPlan(t *testing.T) {
	alone(t)
	dirs, err := filepath.Glob(filepath.Join(root, "examples", "*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	dirs = append(dirs, root+"/testdata/fleets/minimal", root+"/testdata/fleets/homelab")
	for _, dir := range dirs {
		t.Run(filepath.Base(filepath.Dir(dir))+"/"+filepath.Base(dir), func(t *testing.T) {
			code, stdout, stderr := runHere(t, "validate", "--json", dir)
			var found validation
			if err := json.Unmarshal([]byte(stdout), &found); err != nil {
				t.Fatalf("validate prints no JSON: %v\n%s%s", err, stdout, stderr)
			}
			if code != exit.OK || !found.Valid || found.Stacks == 0 || found.Diagnostics.HasErrors() {
				t.Errorf("validate ends with %d: %s%s", code, stdout, stderr)
			}
			code, stdout, stderr = runHere(t, "plan", "--dir", dir, "--detailed-exitcode")
			if code != exit.Changes || !strings.Contains(stdout, "to create") {
				t.Errorf("plan ends with %d: %s%s", code, stdout, stderr)
			}
		})
	}
}

// Each of the two identities opens what .sops.yaml says it does, and no more.
func TestEncryptedFilesOfTheTwoTierExample(t *testing.T) {
	alone(t)
	dir := filepath.Join(root, "examples", "two-tier")
	for _, tc := range []struct {
		identity, file string
		code           int
	}{
		{"trusted", "notes/secrets/notes.env", exit.OK},
		{"trusted", "gateway/secrets/tunnel.key", exit.OK},
		{"untrusted", "gateway/secrets/gateway.env", exit.OK},
		{"untrusted", "notes/secrets/notes.env", exit.Config},
	} {
		code, stdout, stderr := runHere(t, "secret", "decrypt",
			"--age-key-file", filepath.Join(dir, "keys", tc.identity+".txt"), filepath.Join(dir, "stacks", tc.file))
		if code != tc.code || (code == exit.OK) != (stdout != "") {
			t.Errorf("%s with the %s identity ends with %d: %s%s", tc.file, tc.identity, code, stdout, stderr)
		}
	}
	t.Setenv("SOPS_AGE_KEY_FILE", filepath.Join(dir, "keys", "trusted.txt"))
	if code, stdout, stderr := runHere(t, "validate", "--strict", "-v", dir); code != exit.OK || strings.Contains(stdout, "sops-key") {
		t.Errorf("validate with the identity ends with %d: %s%s", code, stdout, stderr)
	}
}

// Each folder is a repository in the forms that people really use. Nothing in them is at
// fault, whatever only core or a host can know.
func TestRepositoriesInTheWildHaveNoErrors(t *testing.T) {
	alone(t)
	dirs, err := filepath.Glob(filepath.Join(root, "testdata", "fleets", "wild", "*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no repositories: %v", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			for _, args := range [][]string{{"validate", dir}, {"plan", "--dir", dir}} {
				if code, stdout, stderr := runHere(t, args...); code != exit.OK {
					t.Errorf("%v ends with %d: %s%s", args, code, stdout, stderr)
				}
			}
		})
	}
}

func TestBrokenFixturesAreRefused(t *testing.T) {
	alone(t)
	for _, name := range []string{"broken", "broken-syntax"} {
		dir := root + "/testdata/fleets/" + name
		for _, args := range [][]string{{"validate", dir}, {"plan", "--dir", dir}} {
			code, stdout, stderr := runHere(t, args...)
			if code != exit.Config || !strings.Contains(stderr, "varan: the configuration is invalid: ") {
				t.Errorf("%v ends with %d: %s%s", args, code, stdout, stderr)
			}
		}
	}
}

// What a README tells people to type is typed here.
func TestCommandsOfTheExamplesWork(t *testing.T) {
	alone(t)
	t.Chdir(root)
	pages, err := filepath.Glob("examples/*/README.md")
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, page := range pages {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			command, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "    varan ")
			if !ok {
				continue
			}
			tried++
			if code, stdout, stderr := runHere(t, strings.Fields(command)...); code != exit.OK {
				t.Errorf("%s: varan %s ends with %d: %s%s", page, command, code, stdout, stderr)
			}
		}
	}
	if tried < len(pages) {
		t.Errorf("%d commands in %d pages", tried, len(pages))
	}
}
