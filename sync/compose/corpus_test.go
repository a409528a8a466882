package compose_test

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
)

// maxAllocated is what one hostile stack may allocate in all. It counts everything that is
// ever allocated, so that it is above what is held at any time.
const maxAllocated = 256 << 20

// hostile loads a stack that may be made to hang or to eat memory.
func hostile(t *testing.T, req compose.Request) (compose.Result, fleet.Diagnostics) {
	t.Helper()
	type answer struct {
		result    compose.Result
		findings  fleet.Diagnostics
		allocated uint64
	}
	answers := make(chan answer, 1)
	go func() {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		result, findings := compose.Load(t.Context(), req)
		runtime.ReadMemStats(&after)
		answers <- answer{result, findings, after.TotalAlloc - before.TotalAlloc}
	}()
	hang := time.NewTimer(time.Minute)
	defer hang.Stop()
	select {
	case a := <-answers:
		if a.allocated > maxAllocated {
			t.Errorf("%d MiB were allocated", a.allocated>>20)
		}
		return a.result, a.findings
	case <-hang.C:
		t.Fatal("the stack is still being loaded")
		return compose.Result{}, nil
	}
}

// repeated joins many lines.
func repeated(count int, line func(i int) string) string {
	var out strings.Builder
	for i := range count {
		out.WriteString(line(i))
	}
	return out.String()
}

// large are inputs at which a parser or compose-go itself takes seconds or gigabytes.
func large() map[string]struct{ text, rule string } {
	laughs := "x-a: &a [1,1,1,1,1,1,1,1,1,1]\n"
	for c := 'b'; c <= 'j'; c++ {
		laughs += fmt.Sprintf("x-%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 10), ","))
	}
	shared := "x-m: &m\n" + repeated(2000, func(i int) string { return fmt.Sprintf("  k%d: 1\n", i) })
	nested := func(depth int) string {
		return "x-a:\n" + repeated(depth, func(i int) string { return strings.Repeat(" ", i+1) + "a:\n" }) + app("")
	}
	chain := "services:\n  s0: {image: a}\n" + repeated(150, func(i int) string {
		return fmt.Sprintf("  s%d: {image: a, extends: s%d}\n", i+1, i)
	})
	many := "services:\n" + repeated(20_000, func(i int) string { return fmt.Sprintf("  s%d: {image: a}\n", i) })
	variables := "environment:\n" + repeated(1001, func(i int) string { return fmt.Sprintf("  V%d: x\n", i) })
	return map[string]struct{ text, rule string }{
		"C01 billion laughs":         {laughs + app(""), "alias-expansion"},
		"C02 aliases to a large map": {shared + "x-l: [" + strings.Repeat("*m,", 4000) + "]\n" + app(""), "alias-expansion"},
		"C02 fewer aliases":          {shared + "x-l: [" + strings.Repeat("*m,", 900) + "]\n" + app(""), "alias-expansion"},
		"C02 merged aliases":         {shared + app("labels: {<<: ["+strings.TrimSuffix(strings.Repeat("*m,", 900), ",")+"]}"), "alias-expansion"},
		"C03 deep flow":              {"x-a: " + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + "\n" + app(""), "too-deep"},
		"C03 deep block":             {nested(3000), "too-large"},
		"C03 less deep block":        {nested(1000), "too-deep"},
		"C04 services":               {many, "too-many-nodes"},
		"C06 extends chain":          {chain, "too-deep"},
		"C16 nested defaults":        {app("hostname: " + strings.Repeat("${A:-", 2000) + strings.Repeat("}", 2000)), "too-deep"},
		"C48 large value":            {app("environment: {V: " + strings.Repeat("x", 1<<20-100) + "}"), "too-large"},
		"C48 large label":            {app("labels: {v: " + strings.Repeat("x", 1<<20-100) + "}"), "too-large"},
		"C48 many variables":         {app(variables), "too-many-variables"},
		"C48 large file":             {app("hostname: " + strings.Repeat("x", 1<<20)), "too-large"},
		"many values":                {app("command: [" + strings.Repeat("a,", 20_001) + "]"), "too-many-nodes"},
		"variable many times":        {app("command: [" + strings.Repeat("\"${BIG}\",", 400) + "]"), "interpolation"},
	}
}

func TestLargeInputsAreRefusedCheaply(t *testing.T) {
	for name, tc := range large() {
		t.Run(name, func(t *testing.T) {
			req := one(tc.text)
			req.Environment = []compose.Variable{{Name: "BIG", Value: strings.Repeat("x", 60<<10)}}
			result, findings := hostile(t, req)
			wantFinding(t, findings, fleet.SeverityError, tc.rule, "")
			if result.Release.Digest != "" {
				t.Error("a refused stack has a release")
			}
			for _, d := range findings {
				if d.File == "" || d.Message == "" || len(d.Message) > 4096 {
					t.Errorf("a finding that helps nobody: %.300s", d)
				}
			}
		})
	}
}

func TestManyFilesAreRefusedCheaply(t *testing.T) {
	t.Run("C06 include chain", func(t *testing.T) {
		repo := map[string]string{"compose.yaml": "include: [f0.yaml]\n" + app("")}
		for i := range 1000 {
			repo[fmt.Sprintf("f%d.yaml", i)] = fmt.Sprintf("include: [f%d.yaml]\n", i+1)
		}
		_, findings := hostile(t, request(files(repo)))
		wantFinding(t, findings, fleet.SeverityError, "too-many-files", "f18.yaml:1:11")
	})
	t.Run("C06 include diamonds", func(t *testing.T) {
		repo := map[string]string{"compose.yaml": "include: [f0.yaml, f0.yaml]\n" + app("")}
		for i := range 15 {
			repo[fmt.Sprintf("f%d.yaml", i)] = fmt.Sprintf("include: [f%d.yaml, f%d.yaml]\n", i+1, i+1)
		}
		repo["f15.yaml"] = "services: {b: {image: b}}\n"
		_, findings := hostile(t, request(files(repo)))
		wantFinding(t, findings, fleet.SeverityError, "too-many-files", "")
	})
	t.Run("C48 env_file", func(t *testing.T) {
		text := repeated(10_000, func(i int) string { return fmt.Sprintf("V%d=x\n", i) })
		_, findings := hostile(t, request(files(map[string]string{"compose.yaml": app("env_file: [e]"), "e": text})))
		wantFinding(t, findings, fleet.SeverityError, "too-many-variables", "compose.yaml:2:3")
	})
	t.Run("C48 growing env_file", func(t *testing.T) {
		_, findings := hostile(t, request(files(map[string]string{"compose.yaml": app("env_file: [e]"), "e": growing()})))
		wantFinding(t, findings, fleet.SeverityError, "env-file-syntax", "e")
	})
}

// TestUntrustedServersRefuse has what a host must not be asked for; a trusted one is
// asked with no more than a warning.
func TestUntrustedServersRefuse(t *testing.T) {
	for name, tc := range map[string]struct{ text, rule, place string }{
		"C28 container name":    {app("container_name: other-app-1"), "foreign-name", "compose.yaml:4:5"},
		"C28 half the name":     {app("container_name: webapp"), "foreign-name", "compose.yaml:4:5"},
		"C35 ptrace":            {app("cap_add: [SYS_PTRACE]"), "cap-add", "compose.yaml:4:15"},
		"C34 external link":     {app("external_links: [other]"), "foreign-container", "compose.yaml:4:22"},
		"C38 no oom":            {app("oom_kill_disable: true"), "weak-isolation", "compose.yaml:4:5"},
		"C38 credential spec":   {app("credential_spec: {config: c}") + "configs: {c: {content: x}}\n", "weak-isolation", "compose.yaml:4:5"},
		"C40 network name":      {app("networks: [n]") + "networks:\n  n: {name: other_default}\n", "foreign-name", "compose.yaml:6:7"},
		"C40 volume name":       {app("volumes: [\"vv:/v\"]") + "volumes:\n  vv: {name: other_data}\n", "foreign-name", "compose.yaml:6:8"},
		"network of the host":   {app("networks: [n]") + "networks:\n  n: {driver: macvlan}\n", "network-driver", "compose.yaml:6:7"},
		"C31 agent's directory": {app("volumes: [\"/var/lib/varan-agent/x:/x\"]"), "host-path", "compose.yaml:4:15"},
	} {
		t.Run(name, func(t *testing.T) {
			req := one(tc.text)
			if _, findings := hostile(t, req); findings.HasErrors() {
				t.Errorf("on a trusted server: %v", findings)
			}
			req.Tier = fleet.TierUntrusted
			_, findings := hostile(t, req)
			wantFinding(t, findings, fleet.SeverityError, tc.rule, tc.place)
		})
	}
	for name, text := range map[string]string{
		"container name": app("container_name: web-app"), "network": app("networks: [n]") + "networks: {n: {name: web_n}}\n",
		"volume": app("volumes: [\"vv:/v\"]") + "volumes: {vv: {}}\n",
	} {
		t.Run("own "+name, func(t *testing.T) {
			req := one(text)
			req.Tier = fleet.TierUntrusted
			if _, findings := hostile(t, req); findings.HasErrors() {
				t.Errorf("what is the stack's own is refused: %v", findings)
			}
		})
	}
	for name, tc := range map[string]struct{ text, place string }{
		"C42 hosts": {app("extra_hosts: [\"metadata:169.254.169.254\"]"), "compose.yaml:4:5"},
		"C42 dns":   {app("dns: [192.0.2.1]"), "compose.yaml:4:5"},
	} {
		t.Run(name, func(t *testing.T) {
			req := one(tc.text)
			req.Tier = fleet.TierUntrusted
			_, findings := hostile(t, req)
			wantFinding(t, findings, fleet.SeverityWarning, "name-resolution", tc.place)
		})
	}
}

func TestLaterDocumentsAndResetsAreJudged(t *testing.T) {
	_, findings := hostile(t, one(app("privileged: true")+"---\nservices:\n  app:\n    privileged: !reset null\n"))
	for _, d := range findings {
		if d.Rule == "privileged" {
			t.Errorf("C11: what was taken back is judged: %s", d)
		}
	}
	const hardened = "security_opt: [\"no-new-privileges:true\"]"
	advised := func(text string) bool {
		result, _ := hostile(t, one(text))
		for _, d := range result.Advice {
			if d.Rule == "no-new-privileges" {
				return true
			}
		}
		return false
	}
	if advised(app(hardened)) || !advised(app(hardened)+"---\nservices:\n  app:\n    security_opt: !reset []\n") {
		t.Error("C11: a reset that takes hardening away is not seen")
	}
}

func TestOddInputs(t *testing.T) {
	for name, tc := range map[string]struct{ text, rule, place string }{
		"C14 exponent":            {app("scale: 1e9"), "", "compose.yaml:4:5"},
		"C16 variable as service": {"services:\n  $VAR: {image: a}\n", "service-name", "compose.yaml:2:3"},
		"C27 escape sequence":     {"services:\n  \"a\\e]0;x\\a\": {image: a}\n", "service-name", "compose.yaml:2:3"},
		"C30 undefined home":      {app("volumes: [\"${HOME}:/x\"]"), "undefined-variable", "compose.yaml:4:16"},
		"C30 windows path":        {app("volumes: ['C:\\data:/x']"), "path-outside", ""},
		"C39 build secret":        {app("build: {context: ./d, secrets: [s]}") + "secrets:\n  s:\n    file: /etc/shadow\n", "path-outside", "compose.yaml:7:5"},
		"C39 build context":       {app("build: {context: ./d, additional_contexts: {x: /etc}}"), "path-outside", ""},
		"C41 short digest":        {"services:\n  app:\n    image: a@sha256:abc\n", "image-reference", "compose.yaml:3:5"},
		"C41 leading dash":        {"services:\n  app:\n    image: \"-v/:/host\"\n", "image-reference", "compose.yaml:3:5"},
	} {
		t.Run(name, func(t *testing.T) {
			req := one(tc.text)
			req.Tree.(tree).MapFS["d/Dockerfile"] = &fstest.MapFile{Data: []byte("FROM scratch\n"), Mode: 0o644}
			result, findings := hostile(t, req)
			if tc.rule == "" && len(findings) > 0 {
				tc.rule = findings[0].Rule
			}
			wantFinding(t, findings, fleet.SeverityError, tc.rule, tc.place)
			if result.Release.Digest != "" {
				t.Error("a refused stack has a release")
			}
		})
	}
}

// TestValuesAreReadAsComposeReadsThem holds YAML's old habits (C47) and exact values (C17).
func TestValuesAreReadAsComposeReadsThem(t *testing.T) {
	req := one(app(`
ports: ["22:22", 8080:80]
environment:
  ON: on
  YES: yes
  NO: "no"
  OCTAL: 012
  UNDERSCORE: 1_000
  SEXAGESIMAL: 22:22
  HEX: 0x1F
  FLOAT: 1.10
  DOLLARS: a$$b$$$$
  QUOTES: "it's \"so\"\nand so"`))
	result, findings := hostile(t, req)
	if findings.HasErrors() {
		t.Fatal(findings)
	}
	project := agentLoad(t, "/x", blob(t, result, req, result.Release.Model), "web")
	got := map[string]string{}
	for name, value := range project.Services["app"].Environment {
		got[name] = *value
	}
	want := map[string]string{
		"ON": "on", "YES": "yes", "NO": "no", "OCTAL": "10", "UNDERSCORE": "1000", "SEXAGESIMAL": "22:22", "HEX": "31",
		"FLOAT": "1.1", "DOLLARS": "a$b$$", "QUOTES": "it's \"so\"\nand so",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	for i, want := range []string{"22", "8080"} {
		if port := project.Services["app"].Ports[i].Published; port != want {
			t.Errorf("port %q, want %q", port, want)
		}
	}
}

// vanishing is a tree whose files cannot be read.
type vanishing struct{ tree }

func (vanishing) ReadFile(name string) ([]byte, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("permission denied")}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	req := one(app(""))
	req.Tree = vanishing{req.Tree.(tree)}
	_, findings := hostile(t, req)
	wantFinding(t, findings, fleet.SeverityError, "file-unreadable", "stacks.toml:7:1")
}
