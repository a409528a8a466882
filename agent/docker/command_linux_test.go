package docker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/varanhq/varan/agent/policy"
	"github.com/varanhq/varan/fleet"
)

func TestACommandThatWasCutOffRunsAgainAndADoneOneDoesNot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e, err := New(Config{
		Server: "alpha", Dir: dir, Worker: []string{"none"}, Host: "unix:///does/not/exist.sock",
		SecretsDir: filepath.Join(dir, "none"), Policy: policy.Policy{HostCommands: true, SecretsOnDisk: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	script := []byte("salt\necho ran >> trace")
	digest := fleet.SumDigest(script)
	if err := e.blobs.put(digest, script, true); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(dir, "stacks", "web")
	s := site{dir: run, base: run, rel: "."}
	for _, tc := range []struct {
		at    runs
		trace string
		again bool
	}{{"", "ran\n", false}, {runsDone, "ran\n", false}, {runsStarted, strings.Repeat("ran\n", 2), true}} {
		task := &task{
			e: e, order: fleet.Order{ID: "o1", Stack: "web"}, said: tail{max: maxSaid},
			rec: &record{Order: fleet.Order{ID: "o1", Stack: "web"}, Pre: tc.at},
		}
		if f := task.command(t.Context(), "pre_deploy", fleet.Command{Script: digest}, &task.rec.Pre, s); f != nil {
			t.Fatalf("%q: %+v", tc.at, f)
		}
		if b, err := os.ReadFile(filepath.Join(run, "trace")); string(b) != tc.trace {
			t.Errorf("%q: trace %q, %v", tc.at, b, err)
		}
		if strings.Contains(task.said.String(), "is run again") != tc.again {
			t.Errorf("%q: it said %q", tc.at, task.said.String())
		}
		if r, err := e.journal.find("o1"); err != nil || r == nil || r.Pre != runsDone {
			t.Errorf("%q: the journal says %+v, %v", tc.at, r, err)
		}
	}
}
