package render_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
)

func TestUpdatesAreCoresBusinessAndNoPartOfARelease(t *testing.T) {
	t.Parallel()
	const plain = `[[server]]
name = "alpha"
enabled = true
[[stack]]
name = "web"
server = "alpha"
file_contents = "services: {a: {image: a}, b: {image: b}}"
[[deployment]]
name = "one"
server = "alpha"
image = "one:1"
`
	const watched = `[[server]]
name = "alpha"
enabled = true
[[stack]]
name = "web"
server = "alpha"
file_contents = "services: {a: {image: a}, b: {image: b}}"
auto_update = true
auto_update_all_services = true
auto_update_skip_services = ["b", "front"]
update_min_age = "1-day"
update_policy = "a = ~1.4"
[[deployment]]
name = "one"
server = "alpha"
image = "one:1"
poll_for_updates = true
update_policy = "^2"
`
	renderer := newRenderer()
	before := mustRender(t, renderer, input(t, repo{"fleet.toml": plain}, "c1"))
	after := mustRender(t, renderer, input(t, repo{"fleet.toml": watched}, "c2"))
	web, _ := after.Desired.Stack("web")
	want := fleet.UpdatePolicy{
		Auto: true, AllServices: true, Skip: []string{"b", "front"}, MinAge: 24 * time.Hour,
		Tags: []fleet.TagPolicy{{Service: "a", Policy: "~1.4"}},
	}
	if diff := cmp.Diff(want, web.Updates); diff != "" {
		t.Errorf("stack (-want +got):\n%s", diff)
	}
	one, _ := after.Desired.Stack("one")
	if diff := cmp.Diff(fleet.UpdatePolicy{Poll: true, Tags: []fleet.TagPolicy{{Policy: "^2"}}}, one.Updates); diff != "" {
		t.Errorf("deployment (-want +got):\n%s", diff)
	}
	for _, stack := range after.Desired.Stacks {
		if old, _ := before.Desired.Stack(stack.Name); old.Release.Digest != stack.Release.Digest {
			t.Errorf("%s would be deployed again for a setting of updates", stack.Name)
		}
	}
	found := false
	for _, d := range after.Diagnostics {
		found = found || d.Rule == "update-service" && d.Line == 10
	}
	if !found {
		t.Errorf("nothing is said of the service front: %v", after.Diagnostics)
	}
}
