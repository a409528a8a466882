package render_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/render"
)

// edge is a fleet of three servers, and a stack on all that are tagged edge.
func edge() repo {
	return repo{
		"fleet.toml": `[[server]]
name = "east"
enabled = true
tags = ["edge"]
[[server]]
name = "west"
enabled = false
tags = ["edge", "big"]
[[server]]
name = "home"
enabled = true
[[stack]]
name = "proxy"
[stack.config]
server_tags = ["edge"]
servers = ["home"]
run_directory = "proxy"
environment = """
LEVEL = info
SIZE = small
"""
[[stack.config.overlay]]
server_tags = ["edge", "big"]
file_paths = ["big.yaml"]
environment = "SIZE = big"
profiles = ["extra"]
project_name = "proxy-west"
`,
		"proxy/compose.yaml": `services:
  app:
    image: a:${SIZE}
    hostname: ${LEVEL}
  more:
    image: m
    profiles: [extra]
`,
		"proxy/big.yaml": "services:\n  app:\n    mem_limit: 1g\n",
	}
}

func TestAStackOnManyServers(t *testing.T) {
	renderer := newRenderer()
	out := mustRender(t, renderer, input(t, edge(), "c1"))
	got := map[string]string{}
	digests := map[fleet.Digest]bool{}
	for _, s := range out.Desired.Stacks {
		var services []string
		for _, service := range s.Release.Services {
			services = append(services, service.Name+"="+service.Image)
		}
		got[s.Name+"@"+s.Server] = s.Release.Project + " " + strings.Join(services, " ")
		digests[s.Release.Digest] = true
		if s.Release.Server != s.Server {
			t.Errorf("the release of %s is for %s", s.Server, s.Release.Server)
		}
		if _, err := out.Content.Blob(t.Context(), s.Release.Model); err != nil {
			t.Error(err)
		}
	}
	want := map[string]string{
		"proxy@east": "proxy app=a:small", "proxy@home": "proxy app=a:small", "proxy@west": "proxy-west app=a:big more=m",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stacks (-want +got):\n%s", diff)
	}
	if len(digests) != 3 {
		t.Errorf("%d digests of releases, want one for each server", len(digests))
	}
	if out.Loads != 2 {
		t.Errorf("%d loads, want one for the two servers that are the same and one for the third", out.Loads)
	}
	again := mustRender(t, renderer, input(t, edge(), "c2"))
	if again.Loads != 0 {
		t.Errorf("%d loads without a change", again.Loads)
	}
	for i := range again.Desired.Stacks {
		if a, b := out.Desired.Stacks[i], again.Desired.Stacks[i]; a.Release.Digest != b.Release.Digest {
			t.Errorf("%s on %s has another digest", a.Name, a.Server)
		}
	}
	more := edge()
	more["fleet.toml"] += "[[server]]\nname = \"north\"\nenabled = true\ntags = [\"edge\"]\n"
	if wider := mustRender(t, renderer, input(t, more, "c3")); wider.Loads != 0 || len(wider.Desired.Stacks) != 4 {
		t.Errorf("a fourth server: %d loads, %d stacks", wider.Loads, len(wider.Desired.Stacks))
	}
	changed := edge().with(map[string]string{"proxy/big.yaml": "services:\n  app:\n    mem_limit: 2g\n"})
	if one := mustRender(t, renderer, input(t, changed, "c4")); one.Loads != 1 {
		t.Errorf("a file of the overlay: %d loads, want 1", one.Loads)
	}
}

func TestSelectorsThatMatchNothing(t *testing.T) {
	r := edge()
	r["fleet.toml"] = strings.Replace(r["fleet.toml"], "server_tags = [\"edge\"]\nservers = [\"home\"]", "server_tags = [\"cloud\"]", 1)
	out := mustRender(t, newRenderer(), input(t, r, "c1"))
	wantFinding(t, out.Diagnostics, fleet.SeverityWarning, "no-server-matches", "fleet.toml:15:1")
	wantFinding(t, out.Diagnostics, fleet.SeverityWarning, "overlay-unused", "fleet.toml:21:1")
	if len(out.Desired.Stacks) != 0 {
		t.Error("the stack runs somewhere")
	}
}

// tiered is a stack that uses a variable, on a server of a tier.
func tiered(tier, stackTag, variable, reference string) repo {
	return repo{
		"servers.toml": fmt.Sprintf("[[server]]\nname = \"alpha\"\nenabled = true\ntags = [\"dmz\"]\nconfig.tier = %q\n", tier),
		"vars.toml":    "[[variable]]\nname = \"TOKEN\"\n" + variable,
		"stacks.toml": fmt.Sprintf(`[[stack]]
name = "app"
tags = [%s]
[stack.config]
server = "alpha"
file_contents = """
services:
  app:
    image: a
    environment:
      T: %s
"""
`, stackTag, reference),
	}
}

func TestScopesOfVariables(t *testing.T) {
	const plain, secret = "value = \"v\"\n", "is_secret = true\n"
	for name, tc := range map[string]struct {
		tier, variable string
		// refused is part of the message; empty when it may be used.
		refused string
	}{
		"a variable anywhere":             {"untrusted", plain, ""},
		"a trusted one on trusted":        {"trusted", plain + `tags = ["scope:trusted"]`, ""},
		"a trusted one on untrusted":      {"untrusted", plain + `tags = ["scope:trusted"]`, "variable TOKEN (vars.toml:1:1) is for trusted servers, and server alpha (servers.toml:1:1) is untrusted"},
		"an untrusted one on trusted":     {"trusted", plain + `tags = ["scope:untrusted"]`, ""},
		"a secret on trusted":             {"trusted", secret, ""},
		"a secret on untrusted":           {"untrusted", secret, "secret TOKEN (vars.toml:1:1) is for trusted servers"},
		"a secret for untrusted":          {"untrusted", secret + `tags = ["scope:untrusted"]`, ""},
		"a secret for untrusted, trusted": {"trusted", secret + `tags = ["scope:untrusted"]`, ""},
		"a secret for all":                {"untrusted", secret + `tags = ["scope:all"]`, ""},
		"for the server":                  {"trusted", plain + `servers = ["alpha"]`, ""},
		"for another server":              {"trusted", plain + `servers = ["beta"]`, "only for the servers beta, and not for server alpha (servers.toml:1:1)"},
		"for the tag":                     {"trusted", plain + `server_tags = ["dmz"]`, ""},
		"for another tag":                 {"trusted", plain + `server_tags = ["dmz", "x"]`, "only for servers tagged dmz, x"},
		"for the stack":                   {"trusted", plain + `stacks = ["app"]`, ""},
		"for another stack":               {"trusted", plain + `stacks = ["db"]`, "only for the stacks db"},
	} {
		for _, reference := range []string{"\"[[TOKEN]]\"", "${TOKEN}"} {
			t.Run(name+" "+reference, func(t *testing.T) {
				in := input(t, tiered(tc.tier, `"tier:any"`, tc.variable, reference), "c1")
				in.Variables = []render.Variable{{Name: "TOKEN", Value: "zq9secret", Secret: strings.HasPrefix(tc.variable, secret)}}
				if strings.HasPrefix(tc.variable, "servers = [\"beta\"]") {
					in.KnownServers = []fleet.Server{{Name: "beta"}}
				}
				out, err := newRenderer().Render(t.Context(), in)
				if err != nil {
					t.Fatal(err)
				}
				if tc.refused == "" {
					if findings := errorsOf(out.Diagnostics, "variable-scope"); len(findings) > 0 {
						t.Errorf("refused: %v", findings)
					}
					stack(t, out, "app")
					return
				}
				findings := errorsOf(out.Diagnostics, "variable-scope")
				if len(findings) != 1 || !strings.Contains(findings[0].Message, tc.refused) || findings[0].Line != 11 {
					t.Errorf("want %q at stacks.toml:11, found:\n%s", tc.refused, out.Diagnostics)
				}
			})
		}
	}
}

func errorsOf(findings fleet.Diagnostics, rule string) fleet.Diagnostics {
	var out fleet.Diagnostics
	for _, d := range findings {
		if d.Rule == rule && d.Severity == fleet.SeverityError {
			out = append(out, d)
		}
	}
	return out
}

func TestACommitCannotWidenTheScopeThatCoreGives(t *testing.T) {
	in := input(t, tiered("untrusted", `"tier:any"`, "is_secret = true\ntags = [\"scope:all\"]\n", `"[[TOKEN]]"`), "c1")
	in.Variables = []render.Variable{{
		Name: "TOKEN", Value: "zq9secret", Secret: true, Scope: fleet.Scope{Tags: []string{"scope:trusted"}},
	}}
	out, err := newRenderer().Render(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if len(errorsOf(out.Diagnostics, "variable-scope")) != 1 {
		t.Errorf("found:\n%s", out.Diagnostics)
	}
}

func TestTiersOfStacks(t *testing.T) {
	for name, tc := range map[string]struct {
		server, tags string
		refused      string
	}{
		"no tag on trusted":      {"trusted", ``, ""},
		"no tag on untrusted":    {"untrusted", ``, "stack app has no tier: tag, and server alpha (servers.toml:1:1) is untrusted"},
		"trusted on trusted":     {"trusted", `"tier:trusted"`, ""},
		"trusted on untrusted":   {"untrusted", `"tier:trusted"`, "stack app is tagged tier:trusted, and server alpha (servers.toml:1:1) is untrusted"},
		"untrusted on untrusted": {"untrusted", `"x", "tier:untrusted"`, ""},
		"untrusted on trusted":   {"trusted", `"tier:untrusted"`, "stack app is tagged tier:untrusted, and server alpha (servers.toml:1:1) is trusted"},
		"any on untrusted":       {"untrusted", `"tier:any"`, ""},
		"any on trusted":         {"trusted", `"tier:any"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := newRenderer().Render(t.Context(), input(t, tiered(tc.server, tc.tags, "value = \"v\"\n", "x"), "c1"))
			if err != nil {
				t.Fatal(err)
			}
			findings := errorsOf(out.Diagnostics, "stack-tier")
			switch {
			case tc.refused == "" && len(findings) > 0:
				t.Errorf("refused: %v", findings)
			case tc.refused != "" && (len(findings) != 1 || findings[0].Message != tc.refused || findings[0].Position.String() != "stacks.toml:3:1"):
				t.Errorf("want %q, found:\n%s", tc.refused, out.Diagnostics)
			}
		})
	}
}
