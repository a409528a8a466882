package render_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/render"
)

// poolRepo has a stack that uses core's variables without declaring them.
func poolRepo() repo {
	return repo{
		"fleet.toml": `[[server]]
name = "alpha"
enabled = true

[[stack]]
name = "web"
[stack.config]
server = "alpha"
environment = """
PUID = 1000
HOME_DIR = /home/${PUID}
PASS = x-[[DOLLAR]]-${PUID}-$$
"""
`,
		"compose.yaml": "services:\n  app:\n    image: \"a:${TAG}\"\n    hostname: \"${KEY}${GONE:-}\"\n" +
			"    labels: {home: \"${HOME_DIR}\", pass: \"${PASS}\"}\n",
	}
}

func poolInput(t *testing.T, commit string) render.Input {
	t.Helper()
	in := input(t, poolRepo(), commit)
	in.Variables = []render.Variable{
		{Name: "TAG", Value: "1"},
		{Name: "OTHER", Value: "1"},
		{Name: "DOLLAR", Value: "a$PUID", Scope: anywhere},
	}
	in.LocalSecrets = map[string][]fleet.LocalSecret{"alpha": {{Name: "KEY", Version: "1"}, {Name: "MORE", Version: "1"}}}
	return in
}

func TestOnlyVariablesThatAreUsedCount(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*render.Input)
		loads  int
	}{
		"another variable":        {func(in *render.Input) { in.Variables[1].Value = "2" }, 0},
		"a new variable":          {func(in *render.Input) { in.Variables = append(in.Variables, render.Variable{Name: "NEW", Value: "1"}) }, 0},
		"another local secret":    {func(in *render.Input) { in.LocalSecrets["alpha"][1].Version = "2" }, 0},
		"a used variable":         {func(in *render.Input) { in.Variables[0].Value = "2" }, 1},
		"one that was missing":    {func(in *render.Input) { in.Variables[1].Name = "GONE" }, 1},
		"a used local secret":     {func(in *render.Input) { in.LocalSecrets["alpha"][0].Version = "2" }, 1},
		"one of the environment":  {func(in *render.Input) { in.Variables[2].Value = "b" }, 1},
		"core takes a local name": {func(in *render.Input) { in.Variables[1].Name = "KEY" }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRenderer()
			mustRender(t, r, poolInput(t, "c1"))
			next := poolInput(t, "c2")
			tc.change(&next)
			got := mustRender(t, r, next)
			if got.Loads != tc.loads {
				t.Errorf("%d stacks loaded, want %d", got.Loads, tc.loads)
			}
			want := mustRender(t, newRenderer(), next)
			if diff := cmp.Diff(want.Desired, got.Desired); diff != "" {
				t.Errorf("cached and fresh renders differ (-fresh +cached):\n%s", diff)
			}
		})
	}
}

func TestEnvironmentRefersToEarlierLines(t *testing.T) {
	out := mustRender(t, newRenderer(), poolInput(t, "c1"))
	got := map[string]string{}
	for _, f := range stack(t, out, "web").Release.Services[0].Fields {
		if strings.HasPrefix(f.Path, "labels.") {
			got[f.Path] = f.Value
		}
	}
	want := map[string]string{"labels.home": "/home/1000", "labels.pass": "x-a$PUID-1000-$"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}
