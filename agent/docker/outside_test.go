package docker

import "testing"

func TestWhatAReleaseIsNotToBlameFor(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]bool{
		`Conflict. The container name "/web" is already in use by container "3f9c"`:          true,
		"Bind for 0.0.0.0:80 failed: port is already allocated":                              true,
		"failed to bind host port 127.0.0.1:80/tcp: address already in use":                  true,
		"write /var/lib/docker/tmp/x: no space left on device":                               true,
		"dial tcp: lookup registry.example.org: no such host":                                true,
		`OCI runtime create failed: exec: "nonsense": executable file not found in $PATH`:    false,
		"invalid mount config for type \"bind\": bind source path does not exist: /srv/data": false,
		"service app: exited with code 1, 3 times in 4s":                                     false,
	} {
		if got := outside(reason); got != want {
			t.Errorf("%s: %v", reason, got)
		}
	}
}
