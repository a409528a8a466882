package imageregistry

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// App is a static program of two megabytes for the layers of test images. It sleeps or exits
// as its arguments tell it.
func App(t *testing.T) []byte {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "app")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w", "-o", bin, "github.com/varanhq/varan/agent/docker/testdata/app") //nolint:gosec // bin is the test's own
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	content, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
