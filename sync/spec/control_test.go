package spec_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/sync/spec"
)

func TestBatchesAreNumbersOrShares(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		n       int
		percent bool
		bad     bool
	}{
		"": {1, false, false}, "3": {3, false, false}, "25%": {25, true, false}, "100%": {100, true, false},
		"0": {bad: true}, "-1": {bad: true}, "101%": {bad: true}, "%": {bad: true}, "a few": {bad: true},
	} {
		n, percent, err := (&spec.Rollout{Batch: text}).Size()
		if (err != nil) != want.bad || !want.bad && (n != want.n || percent != want.percent) {
			t.Errorf("%q is %d, %v, %v", text, n, percent, err)
		}
	}
}

func TestWindowsLimitsAndRolloutsAreRead(t *testing.T) {
	t.Parallel()
	file, ds := spec.ParseFile("fleet.toml", []byte(`
[[resource_sync]]
name = "home"
[resource_sync.config]
repo = "me/fleet"
limits = { stacks = 5, removals = 1 }
[[resource_sync.config.window]]
kind = "deny"
schedule = "0 8 * * fri"
duration = "10h"
timezone = "Europe/Berlin"
stacks = ["web-*"]
manual = true
[[stack]]
name = "web"
[stack.config]
servers = ["a", "b"]
[stack.config.rollout]
batch = "25%"
canary = ["b"]
pause = "10m"
on_failure = "rollback"
[[stack]]
name = "api"
config.rollout.batch = 2
`))
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	c := file.Syncs[0].Config
	w := c.Windows[0]
	w.Pos.File, w.Pos.Line, w.Pos.Col = "", 0, 0
	want := spec.SyncWindow{
		Kind: "deny", Schedule: "0 8 * * fri", Duration: 10 * time.Hour, Timezone: "Europe/Berlin", Stacks: []string{"web-*"}, Manual: true,
	}
	if diff := cmp.Diff(want, w); diff != "" || c.Limits != (spec.SyncLimits{Stacks: 5, Removals: 1}) {
		t.Errorf("%s %+v", diff, c.Limits)
	}
	if r := file.Stacks[0].Config.Rollout; !r.Declared() || r.Batch != "25%" || r.OnFailure != "rollback" || r.Pause != 10*time.Minute {
		t.Errorf("%+v", r)
	}
	if r := file.Stacks[1].Config.Rollout; !r.Declared() || r.Batch != "2" || r.OnFailure != "stop" {
		t.Errorf("%+v", r)
	}
}

func TestWhatIsWrongWithWindowsAndRollouts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"[[resource_sync.config.window]]\nschedule = \"sometimes\"\nduration = \"2h\"": "the schedule `sometimes` of a window",
		"[[resource_sync.config.window]]\nschedule = \"@daily\"":                       "does not say how long it stays open",
		"[[resource_sync.config.window]]\nschedule = \"@daily\"\nkind = \"maybe\"":     "cannot be `maybe`",
	} {
		_, ds := spec.ParseFile("fleet.toml", []byte("[[resource_sync]]\nname = \"home\"\n"+text+"\n"))
		if !ds.HasErrors() || !strings.Contains(ds.Error(), want) || !strings.Contains(ds.Error(), "fleet.toml:3:") && !strings.Contains(ds.Error(), "fleet.toml:5:") {
			t.Errorf("%s\ngives %v", text, ds)
		}
	}
	_, ds := spec.ParseFile("fleet.toml", []byte("[[stack]]\nname = \"web\"\nconfig.rollout.batch = \"half\"\n"))
	if !ds.HasErrors() || !strings.Contains(ds.Error(), "neither a number") {
		t.Errorf("%v", ds)
	}
}
