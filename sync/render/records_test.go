package render_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/render"
)

// recordsOf renders one resource file and returns its records by id.
func recordsOf(t *testing.T, toml string) map[string]fleet.Resource {
	t.Helper()
	tree, err := render.MemTree(map[string][]byte{"all.toml": []byte(toml)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := render.New(render.Config{Key: []byte("key")}).Render(t.Context(), render.Input{Sync: "main", Tree: tree})
	if err != nil || out.Diagnostics.HasErrors() {
		t.Fatal(err, out.Diagnostics)
	}
	all := map[string]fleet.Resource{}
	for _, r := range out.Desired.Resources {
		all[r.ID()] = r
	}
	return all
}

func TestRecordsHoldWhatDiffersFromTheDefaults(t *testing.T) {
	t.Parallel()
	got := recordsOf(t, `[[server]]
name = "alpha"
tags = ["b", "a"]
enabled = true

[[stack]]
name = "web"
template = true
server = "alpha"
auto_pull = true
environment = "A = 1\nB = 2"
file_contents = "services: {a: {image: x}}"
webhook_secret = "canary-9"

[[variable]]
name = "OPEN"
value = "yes"

[[variable]]
name = "CLOSED"
is_secret = true
value = "canary-8"
`)
	values := map[string]string{}
	for id, r := range got {
		for _, f := range r.Fields {
			values[id+" "+f.Path] = f.Value
			if f.Origin.File != "all.toml" || f.Origin.Line == 0 {
				t.Errorf("%s %s has no place: %v", id, f.Path, f.Origin)
			}
			if strings.Contains(f.Value+f.Keyed, "canary") {
				t.Errorf("%s %s shows a secret", id, f.Path)
			}
		}
	}
	want := map[string]string{
		"server/alpha config.enabled": "true", "server/alpha tags": "a, b",
		"stack/web template": "true", "stack/web config.server": "alpha", "stack/web config.environment.A": "1",
		"stack/web config.file_contents": "services: {a: {image: x}}\n",
		"stack/web config.environment.B": "2", "stack/web config.webhook_secret": "",
		"variable/OPEN value": "yes", "variable/CLOSED value": "", "variable/CLOSED is_secret": "true",
	}
	if diff := cmp.Diff(want, values); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

func TestTheOrderOfTagsIsNoDifference(t *testing.T) {
	t.Parallel()
	first := recordsOf(t, "[[server]]\nname = \"a\"\nenabled = true\ntags = [\"x\", \"y\"]\n")
	second := recordsOf(t, "[[server]]\nname = \"a\"\nenabled = true\ntags = [\"y\", \"x\"]\n")
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error(diff)
	}
}

func TestADirectoryThatIsOnlyLookedAtLeavesNothingBehind(t *testing.T) {
	r := newRenderer()
	variable := func(value string) map[string]string {
		return map[string]string{"more.toml": "[[variable]]\nname = \"SEEN\"\nvalue = \"" + value + "\"\n"}
	}
	mustRender(t, r, input(t, basic().with(variable("git")), "c1"))
	mustRender(t, r, input(t, basic().with(variable("directory")), ""))
	changed := basic().with(variable("git"))
	changed["db/compose.yaml"] += "# changed\n"
	for _, v := range mustRender(t, r, input(t, changed, "c2")).Desired.Variables {
		if v.Name == "SEEN" && v.Value.Reveal() != "git" {
			t.Errorf("the commit's variable is %q", v.Value.Reveal())
		}
	}
}
