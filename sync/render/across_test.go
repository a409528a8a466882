package render_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/render"
)

// pair is a repository of two stacks, one and two, with these Compose files.
func pair(second, one, two string) repo {
	return repo{
		"fleet.toml": fmt.Sprintf(`[[server]]
name = "alpha"
enabled = true
[[server]]
name = "beta"
enabled = true
tags = ["untrusted"]
[[stack]]
name = "one"
server = "alpha"
run_directory = "one"
[[stack]]
name = "two"
server = %q
run_directory = "two"
tags = ["tier:any"]
`, second),
		"one/compose.yaml": "services: {app: {image: a" + one + "\n",
		"two/compose.yaml": "services: {app: {image: a" + two + "\n",
	}
}

// places lists the findings of some rules as "rule place related".
func places(tb testing.TB, r repo, rules ...string) string {
	tb.Helper()
	out, err := newRenderer().Render(tb.Context(), render.Input{Sync: "main", Tree: r.tree(tb), Offline: true})
	if err != nil {
		tb.Fatal(err)
	}
	var found []string
	for _, d := range out.Diagnostics {
		for _, rule := range rules {
			if d.Rule == rule {
				found = append(found, strings.TrimSpace(fmt.Sprintf("%s %s %s", d.Severity, d.File, d.Related.File)))
			}
		}
	}
	return strings.Join(found, "; ")
}

func TestStacksOfOneServerWantDifferentThings(t *testing.T) {
	t.Parallel()
	const both = "warning two/compose.yaml one/compose.yaml"
	for name, tc := range map[string]struct{ rule, one, two, want string }{
		"one port":                  {"port-taken", ", ports: ['80:80']}}", ", ports: ['80:81']}}", both},
		"one port of two addresses": {"port-taken", ", ports: ['127.0.0.1:80:80']}}", ", ports: ['127.0.0.2:80:80']}}", ""},
		"all addresses and one":     {"port-taken", ", ports: ['80:80']}}", ", ports: ['127.0.0.2:80:80']}}", both},
		"two protocols":             {"port-taken", ", ports: ['53:53']}}", ", ports: ['53:53/udp']}}", ""},
		"in a range of ports":       {"port-taken", ", ports: ['8000-8002:8000-8002']}}", ", ports: ['8001:80']}}", both},
		"any port of a range":       {"port-taken", ", ports: ['8000-8002:80']}}", ", ports: ['8001:80']}}", ""},
		"any port":                  {"port-taken", ", ports: ['80']}}", ", ports: ['80']}}", ""},
		"one volume":                {"volume-taken", ", volumes: ['dd:/d']}}\nvolumes: {dd: {name: data}}", ", volumes: ['dd:/d']}}\nvolumes: {dd: {name: data}}", both},
		"one volume, owned":         {"volume-taken", ", volumes: ['dd:/d']}}\nvolumes: {dd: {name: data}}", ", volumes: ['dd:/d']}}\nvolumes: {dd: {name: data, external: true}}", ""},
		"volumes of their own":      {"volume-taken", ", volumes: ['dd:/d']}}\nvolumes: {dd: {}}", ", volumes: ['dd:/d']}}\nvolumes: {dd: {}}", ""},
		"one network":               {"network-taken", ", networks: [n]}}\nnetworks: {n: {name: proxy}}", ", networks: [n]}}\nnetworks: {n: {name: proxy}}", both},
		"a network that one makes":  {"external-resource", ", networks: [n]}}\nnetworks: {n: {}}", ", networks: [n]}}\nnetworks: {n: {external: true, name: one_n}}", ""},
		"a network nobody makes":    {"external-resource", "}}", ", networks: [n]}}\nnetworks: {n: {external: true}}", "note two/compose.yaml"},
		"a network of Docker":       {"external-resource", "}}", ", networks: [n]}}\nnetworks: {n: {external: true, name: bridge}}", ""},
	} {
		if got := places(t, pair("alpha", tc.one, tc.two), tc.rule); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
		if got := places(t, pair("beta", tc.one, tc.two), "port-taken", "volume-taken", "network-taken", "container-name-taken", "project-taken"); got != "" {
			t.Errorf("%s on two servers: %q", name, got)
		}
	}
	external := ", networks: [n]}}\nnetworks: {n: {external: true}}"
	if got := places(t, pair("beta", "}}", external), "external-resource"); got != "warning two/compose.yaml" {
		t.Errorf("on an untrusted server: %q", got)
	}
}

func TestVariablesThatNothingUsesAreNoted(t *testing.T) {
	t.Parallel()
	r := pair("alpha", ", environment: {A: '${IN_COMPOSE}'}}}", "}}")
	r["vars.toml"] = `[[variable]]
name = "IN_COMPOSE"
value = "1"
[[variable]]
name = "IN_ANOTHER"
value = "1"
[[variable]]
name = "MADE"
value = "[[IN_ANOTHER]]"
[[variable]]
name = "LEFT"
value = "[[MADE]]"
`
	if got := places(t, r, "unused-variable"); got != "note vars.toml" {
		t.Errorf("unused: %q", got)
	}
}

func TestRulesFileDecidesWhatIsDesired(t *testing.T) {
	t.Parallel()
	r := pair("beta", "}}", "}}")
	stacks := func(rules string) string {
		t.Helper()
		out, err := newRenderer().Render(t.Context(), input(t, r.with(map[string]string{".varan.toml": rules}), "c"+fmt.Sprint(len(rules))))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range out.Desired.Stacks {
			names = append(names, s.Name)
		}
		return strings.Join(names, " ")
	}
	for _, tc := range []struct{ rules, want string }{
		{"", "one two"},
		{"[rules]\nrestart-policy = \"error\"\n", ""},
		{"[rules.untrusted]\nrestart-policy = \"error\"\n", "one"},
		{"[rules]\nrestart-policy = \"error\"\n[[exception]]\nrule = \"restart-policy\"\nstack = \"two\"\nreason = \"r\"\n", "two"},
	} {
		if got := stacks(tc.rules); got != tc.want {
			t.Errorf("with %q: stacks %q, want %q", tc.rules, got, tc.want)
		}
	}
}

// A change of the rules file alone is judged afresh, and loads nothing.
func TestRulesFileChangesSeveritiesWithoutLoading(t *testing.T) {
	t.Parallel()
	renderer, r := newRenderer(), pair("alpha", "}}", "}}")
	mustRender(t, renderer, input(t, r, "c1"))
	out, err := renderer.Render(t.Context(), input(t, r.with(map[string]string{".varan.toml": "[rules]\nread-only = \"error\"\n"}), "c2"))
	if err != nil || out.Loads != 0 {
		t.Fatalf("%d loads, %v", out.Loads, err)
	}
	wantFinding(t, out.Diagnostics, fleet.SeverityError, "read-only", "one/compose.yaml:1:12")
}
