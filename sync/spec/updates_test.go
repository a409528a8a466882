package spec_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/sync/spec"
)

func TestSettingsOfUpdatesAreChecked(t *testing.T) {
	t.Parallel()
	file, findings := spec.ParseFile("web.toml", []byte(`[[stack]]
name = "web"
[stack.config]
server = "alpha"
auto_update = true
update_min_age = "3-day"
update_policy = """
app = ~1.4
db = newest
"""

[[stack]]
name = "idle"
[stack.config]
update_min_age = "1h"
update_policy = ["app = /[/"]

[[deployment]]
name = "one"
[deployment.config]
poll_for_updates = true
update_min_age = "1h"
update_policy = "^2"
`))
	var got []string
	for _, d := range findings {
		got = append(got, d.Position.String()+" "+d.Rule)
	}
	want := []string{
		"web.toml:9:1 update-policy", "web.toml:15:1 update-unused", "web.toml:16:1 update-unused", "web.toml:16:18 update-policy",
		"web.toml:22:1 update-unused",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s\n%v", diff, findings)
	}
	c := file.Stacks[0].Config
	if c.UpdateMinAge.Hours() != 72 || len(c.UpdatePolicy) != 2 || c.UpdatePolicy[0].Value != "~1.4" {
		t.Errorf("config %+v", c)
	}
	for _, d := range findings {
		if d.Rule == "update-policy" && !strings.Contains(d.Hint+d.Message, "~1.4") && !strings.Contains(d.Hint, "RE2") {
			t.Errorf("%s is no help: %s", d, d.Hint)
		}
	}
}
