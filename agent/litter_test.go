package agent_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/internal/atomicfile"
)

// litter leaves in a directory what a process leaves that dies while it writes a file.
func litter(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	name, err := atomicfile.OS{}.Temp(path, []byte("half"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestAnAgentRemovesWhatItLeftWhenItDied(t *testing.T) {
	r := newRig(t)
	r.onboarding()
	dir := r.cfg.Dir
	var left []string
	for _, name := range []string{"registration.json", "baseline.key", "keys/core.pub", "keys/agent.key.next", "orders/1.json", "journal/2.json", "releases/web.json"} {
		left = append(left, litter(t, filepath.Join(dir, name)))
	}
	// A stack's files are not the agent's.
	kept := litter(t, filepath.Join(dir, "stacks", "web", "data"))
	a, err := agent.New(r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range left {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
	writing := litter(t, filepath.Join(dir, "registration.json"))
	if _, err := agent.New(r.cfg); err == nil {
		t.Fatal("two agents share a directory")
	}
	if _, err := os.Stat(writing); err != nil {
		t.Errorf("the second agent took a file from under the first: %v", err)
	}
	a.Close()
}
