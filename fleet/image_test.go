package fleet_test

import (
	"testing"

	"github.com/varanhq/varan/fleet"
)

func TestImageAllowed(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		image    string
		patterns []string
		want     bool
	}{
		{"anything", nil, true},
		{"", []string{"docker.io"}, false},
		{"nginx", []string{"docker.io"}, true},
		{"nginx:1.27@sha256:abc", []string{"docker.io/library/*"}, true},
		{"docker.io/nginx", []string{"docker.io/library/nginx"}, true},
		{"index.docker.io/acme/app", []string{"docker.io/acme"}, true},
		{"acme/app", []string{"docker.io/library/*"}, false},
		{"ghcr.io/acme/app:1", []string{"ghcr.io/acme"}, true},
		{"ghcr.io/acme/tools/app:1", []string{"ghcr.io/acme"}, true},
		{"ghcr.io/acme-evil/app:1", []string{"ghcr.io/acme"}, false},
		{"ghcr.io.evil.example/acme/app", []string{"ghcr.io"}, false},
		{"registry:5000/team-a/app:2", []string{"registry:5000/team-*"}, true},
		{"registry:5001/team-a/app", []string{"registry:5000"}, false},
		{"localhost/app", []string{"localhost"}, true},
		{"ghcr.io/app", []string{"*/x/app"}, false},
		{"sha256:0123", []string{"*"}, false},
		{"Acme/app", []string{"docker.io"}, false}, // Docker takes an upper-case word for a host
	} {
		if got := fleet.ImageAllowed(tc.patterns, tc.image); got != tc.want {
			t.Errorf("%q with %q: %v", tc.image, tc.patterns, got)
		}
	}
	for pattern, want := range map[string]bool{
		"ghcr.io": true, "docker.io/library/*": true, "localhost": true, "*.example.com/x": true,
		"library/nginx": false, "": false, "ghcr.io//x": false, "ghcr.io/[": false, "ghcr.io/a@b": false,
	} {
		if got := fleet.ValidRegistryPattern(pattern); got != want {
			t.Errorf("pattern %q: %v", pattern, got)
		}
	}
}
