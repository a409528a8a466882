package web_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// fakeAgent stands for the agent's program: it says how it was called and what it was given.
const fakeAgent = `#!/bin/sh
[ "$1" = install ] || exit 3
printf '%s\n' "$*" >"$REPORT.args"
cat >"$REPORT.stdin"
ps -o args= -p $$ >"$REPORT.ps" 2>/dev/null || :
mkdir -p "$DESTDIR/usr/local/bin"
[ "$0" = "$DESTDIR/usr/local/bin/varan-agent" ] || cp "$0" "$DESTDIR/usr/local/bin/varan-agent"
`

func get(t *testing.T, url, host string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, http.NoBody)
	must(t, err)
	if host != "" {
		req.Host = host
	}
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(body), resp.Header
}

// withPrograms is a core that has the fake agent for this platform.
func withPrograms(t *testing.T) (f *fixture, dir string) {
	t.Helper()
	dir = t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "varan-agent-"+runtime.GOOS+"-"+runtime.GOARCH), []byte(fakeAgent), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "varan-agent-linux-riscv64"), []byte("elsewhere"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte("canary"), 0o644))
	return newFixtureWith(t, dir), dir
}

func TestTheScriptInstallsWhatCoreHas(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("agents are for Linux")
	}
	if _, err := exec.LookPath("curl"); err != nil {
		if _, err := exec.LookPath("wget"); err != nil {
			t.Skip("neither curl nor wget is here")
		}
	}
	f, dir := withPrograms(t)
	status, script, header := get(t, f.server.URL+"/install.sh", "")
	if status != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), "text/x-shellscript") || strings.Contains(script, "@CORE@") {
		t.Fatalf("status %d, %v:\n%s", status, header, script)
	}
	root, report := t.TempDir(), filepath.Join(t.TempDir(), "report")
	run := func() (string, error) {
		cmd := exec.Command("sh", "-s", "--", "--connect-as", "web-1")
		cmd.Stdin = strings.NewReader(script)
		cmd.Env = append(os.Environ(), "DESTDIR="+root, "REPORT="+report, "VARAN_ONBOARDING_KEY=vo1_canary")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	read := func(name string) string {
		text, err := os.ReadFile(report + name)
		must(t, err)
		return string(text)
	}
	out, err := run()
	if err != nil || !strings.Contains(out, "fetching varan-agent") {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, want := read(".args"), "install --core "+f.server.URL+" --onboarding-key-file - --root "+root+" --connect-as web-1\n"; got != want {
		t.Errorf("called with %q, want %q", got, want)
	}
	if read(".stdin") != "vo1_canary\n" || strings.Contains(read(".args")+read(".ps")+out+script, "canary") {
		t.Error("the key is not given by a pipe alone")
	}
	// What is there already is not fetched again, and what core has newly is.
	if out, err = run(); err != nil || strings.Contains(out, "fetching") {
		t.Errorf("the second time: %v\n%s", err, out)
	}
	name := filepath.Join(dir, "varan-agent-"+runtime.GOOS+"-"+runtime.GOARCH)
	must(t, os.WriteFile(name, []byte(fakeAgent+"# version 2\n"), 0o755))
	stale := script
	if out, err = run(); err != nil {
		t.Errorf("with what is there: %v\n%s", err, out)
	}
	must(t, os.Remove(filepath.Join(root, "usr", "local", "bin", "varan-agent")))
	if out, err = run(); err == nil || !strings.Contains(out, "not what core announced; nothing was installed") {
		t.Errorf("a program that is not the one of the script: %v\n%s", err, out)
	}
	if _, script, _ = get(t, f.server.URL+"/install.sh", ""); script == stale {
		t.Error("the script does not follow the programs")
	}
	if out, err = run(); err != nil || !strings.Contains(out, "fetching") {
		t.Errorf("with the new script: %v\n%s", err, out)
	}
}

func TestDownloadsAreOfTheProgramsAndNothingElse(t *testing.T) {
	t.Parallel()
	f, _ := withPrograms(t)
	status, body, header := get(t, f.server.URL+"/download/varan-agent/linux/riscv64", "")
	sum := sha256.Sum256([]byte("elsewhere"))
	if status != http.StatusOK || body != "elsewhere" || header.Get("ETag") != `"`+hex.EncodeToString(sum[:])+`"` {
		t.Errorf("status %d, %q, %v", status, body, header)
	}
	for _, path := range []string{"linux/nonsense", "windows/amd64", "linux/..%2f..%2fSHA256SUMS", "..%2f/SHA256SUMS"} {
		if status, body, _ := get(t, f.server.URL+"/download/varan-agent/"+path, ""); status != http.StatusNotFound || strings.Contains(body, "canary") {
			t.Errorf("%s: status %d, %q", path, status, body)
		}
	}
}

func TestAHostHeaderIsNoWayIntoTheScript(t *testing.T) {
	t.Parallel()
	f, _ := withPrograms(t)
	for _, host := range []string{"x'$(reboot)'", "x;reboot", "x y", "`reboot`"} {
		if status, body, _ := get(t, f.server.URL+"/install.sh", host); status == http.StatusOK || strings.Contains(body, "reboot") {
			t.Errorf("%q: status %d, %q", host, status, body)
		}
	}
	if status, body, _ := get(t, f.server.URL+"/install.sh", "core.example.com:8443"); status != http.StatusOK || !strings.Contains(body, "core='http://core.example.com:8443'") {
		t.Errorf("a plain host: status %d", status)
	}
}
