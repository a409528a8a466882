package render_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/render"
)

func TestVariables(t *testing.T) {
	contents := func(environment, extra string) repo {
		r := basic()
		return r.with(map[string]string{"fleet.toml": strings.Replace(r["fleet.toml"], "HOST = web.[[DOMAIN]]", environment, 1) + extra})
	}
	for name, tc := range map[string]struct {
		repo        repo
		severity    fleet.Severity
		rule, place string
	}{
		"undefined": {contents("HOST = [[DOMAINN]]", ""), fleet.SeverityError, "undefined-variable", "fleet.toml:17:1"},
		"cycle": {
			contents("HOST = [[A]]", "[[variable]]\nname = \"A\"\nvalue = \"x[[B]]\"\n[[variable]]\nname = \"B\"\nvalue = \"[[A]]\"\n"),
			fleet.SeverityError, "variable-cycle", "fleet.toml:17:1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := newRenderer().Render(t.Context(), input(t, tc.repo, "c1"))
			if err != nil {
				t.Fatal(err)
			}
			wantFinding(t, out.Diagnostics, tc.severity, tc.rule, tc.place)
		})
	}
	t.Run("offline", func(t *testing.T) {
		in := input(t, contents("HOST = [[IN_CORE]]", ""), "")
		in.Offline, in.Variables = true, nil
		wantFinding(t, mustRender(t, newRenderer(), in).Diagnostics, fleet.SeverityNote, "undefined-variable", "fleet.toml:17:1")
	})
	for name, tc := range map[string]struct{ written, want, extra string }{
		"escape":        {"[[[DOMAIN]]]", "[[DOMAIN]]", ""},
		"shell test":    {"[[ -f x ]]", "[[ -f x ]]", ""},
		"nested":        {"[[A]]", "https://example.org", "[[variable]]\nname = \"A\"\nvalue = \"https://[[DOMAIN]]\"\n"},
		"value in core": {"[[CORE]]", "from core", "[[variable]]\nname = \"CORE\"\n"},
		"tree first":    {"[[BOTH]]", "tree", "[[variable]]\nname = \"BOTH\"\nvalue = \"tree\"\n"},
	} {
		t.Run(name, func(t *testing.T) {
			in := input(t, contents("HOST = "+tc.written, tc.extra), "")
			in.Variables = append(in.Variables,
				render.Variable{Name: "CORE", Value: "from core"}, render.Variable{Name: "BOTH", Value: "core"})
			out := mustRender(t, newRenderer(), in)
			model, err := out.Content.Blob(t.Context(), stack(t, out, "web").Release.Model)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(model), fmt.Sprintf(`"HOST": %q`, tc.want)) {
				t.Errorf("want HOST = %q in %s", tc.want, model)
			}
		})
	}
}

func TestInlineComposeFile(t *testing.T) {
	r := repo{"fleet.toml": `[[server]]
name = "alpha"
enabled = true
[[stack]]
name = "web"
[stack.config]
server = "alpha"
file_contents = """
services:
  app:
    image: a
    command: run --password [[PASSWORD]] --then more
    hostname: [[NOPE]]
"""
`}
	out, err := newRenderer().Render(t.Context(), input(t, r, "c1"))
	if err != nil {
		t.Fatal(err)
	}
	wantFinding(t, out.Diagnostics, fleet.SeverityError, "undefined-variable", "fleet.toml:13:15")

	r["fleet.toml"] = strings.Replace(r["fleet.toml"], "[[NOPE]]", "host", 1)
	in := input(t, r, "c2")
	in.Variables[0].Value = "vx1 vx2"
	out = mustRender(t, newRenderer(), in)
	data, err := json.Marshal(out.Desired)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "vx1") || strings.Contains(string(data), "vx2") {
		t.Errorf("a secret of an inline file is shown: %s", data)
	}
	for _, f := range stack(t, out, "web").Release.Services[0].Fields {
		if f.Path == "hostname" && f.Origin.String() != "fleet.toml:13:5" {
			t.Errorf("hostname is at %s", f.Origin)
		}
	}
}
