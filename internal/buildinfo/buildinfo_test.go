package buildinfo_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/varanhq/varan/internal/buildinfo"
)

func TestStringNamesVersionAndPlatform(t *testing.T) {
	got := buildinfo.String()
	for _, want := range []string{buildinfo.Version() + " (", runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
	if strings.HasPrefix(buildinfo.Version(), "v") || buildinfo.Version() == "" {
		t.Errorf("version %q", buildinfo.Version())
	}
}
