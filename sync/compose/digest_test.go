package compose_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/varanhq/varan/sync/compose"
)

// digests are the service digests of a stack.
func digests(tb testing.TB, req compose.Request) map[string]string {
	tb.Helper()
	out := map[string]string{}
	for _, s := range mustLoad(tb, req).Release.Services {
		out[s.Name] = string(s.Digest)
	}
	return out
}

// changed are the services whose digest differs.
func changed(before, after map[string]string) []string {
	var out []string
	for name := range before {
		if before[name] != after[name] {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

const digestBase = `services:
  app:
    image: app:1
    environment: {LEVEL: "${LEVEL}", PASS: "${PASS}"}
    volumes: ["./conf:/etc/app", "./data:/data"]
    configs: [c]
  db:
    image: db:1
    secrets: [s, e]
  other:
    image: other:1
    env_file: [other.env]
configs:
  c: {content: "one ${LEVEL}"}
secrets:
  s: {file: token}
  e: {environment: PASS}
`

func digestRequest() compose.Request {
	req := request(files(map[string]string{
		"compose.yaml": digestBase, "conf/a.toml": "a", "conf/sub/b.toml": "b", "token": "t", "other.env": "X=1\n",
		"unused.txt": "u",
	}))
	req.Environment = []compose.Variable{{Name: "LEVEL", Value: "info"}, {Name: "PASS", Value: "secret1", Secret: true}}
	return req
}

func TestDigestChangesWithExactlyWhatAServiceUses(t *testing.T) {
	edit := func(name, from, to string) func(*compose.Request) {
		return func(r *compose.Request) {
			file := r.Tree.(tree).MapFS[name]
			if !strings.Contains(string(file.Data), from) {
				panic("no " + from + " in " + name)
			}
			file.Data = []byte(strings.ReplaceAll(string(file.Data), from, to))
		}
	}
	for name, tc := range map[string]struct {
		change func(*compose.Request)
		want   []string
	}{
		"image":             {edit("compose.yaml", "app:1", "app:2"), []string{"app"}},
		"new key":           {edit("compose.yaml", "image: db:1", "image: db:1\n    restart: always"), []string{"db"}},
		"mounted file":      {edit("conf/a.toml", "a", "x"), []string{"app"}},
		"file in directory": {edit("conf/sub/b.toml", "b", "x"), []string{"app"}},
		"new mounted file": {func(r *compose.Request) {
			r.Tree.(tree).MapFS["conf/new"] = &fstest.MapFile{Mode: 0o644}
		}, []string{"app"}},
		"file mode": {func(r *compose.Request) {
			r.Tree.(tree).MapFS["conf/a.toml"].Mode = 0o755
		}, []string{"app"}},
		"config content":    {edit("compose.yaml", "one $", "two $"), []string{"app"}},
		"secret file":       {edit("token", "t", "x"), []string{"db"}},
		"secret variable":   {func(r *compose.Request) { r.Environment[1].Value = "secret2" }, []string{"app", "db"}},
		"variable":          {func(r *compose.Request) { r.Environment[0].Value = "debug" }, []string{"app"}},
		"env_file value":    {edit("other.env", "X=1", "X=2"), []string{"other"}},
		"env_file comment":  {edit("other.env", "X=1", "# hello\nX=1"), nil},
		"unused file":       {edit("unused.txt", "u", "x"), nil},
		"comment":           {edit("compose.yaml", "image: db:1", "image: db:1 # the database"), nil},
		"formatting":        {edit("compose.yaml", "image: db:1", "\"image\":    'db:1'"), nil},
		"replicas":          {edit("compose.yaml", "image: db:1", "image: db:1\n    scale: 2"), nil},
		"start order":       {edit("compose.yaml", "image: db:1", "image: db:1\n    depends_on: [other]"), nil},
		"pull policy":       {edit("compose.yaml", "image: db:1", "image: db:1\n    pull_policy: always"), nil},
		"unused variable":   {func(r *compose.Request) { r.Environment = append(r.Environment, compose.Variable{Name: "N"}) }, nil},
		"new service":       {edit("compose.yaml", "  db:\n", "  more: {image: more}\n  db:\n"), nil},
		"extension":         {edit("compose.yaml", "image: db:1", "image: db:1\n    x-owner: me"), nil},
		"environment order": {edit("compose.yaml", `{LEVEL: "${LEVEL}", PASS: "${PASS}"}`, `{PASS: "${PASS}", LEVEL: "${LEVEL}"}`), nil},
	} {
		t.Run(name, func(t *testing.T) {
			before := digests(t, digestRequest())
			req := digestRequest()
			tc.change(&req)
			if diff := cmp.Diff(tc.want, changed(before, digests(t, req))); diff != "" {
				t.Errorf("services whose digest changed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReleaseDigestIgnoresCommitAndPlaces(t *testing.T) {
	before := mustLoad(t, digestRequest()).Release
	req := digestRequest()
	req.Commit.ID = "0123456789abcdef"
	req.Environment[0].Origin.Line = 99
	file := req.Tree.(tree).MapFS["compose.yaml"]
	file.Data = append([]byte("# a comment moves every line\n"), file.Data...)
	after := mustLoad(t, req).Release
	if before.Digest != after.Digest {
		t.Error("the release changed with a comment")
	}
	if after.Commit.ID == "" || after.Services[0].Fields[0].Origin == before.Services[0].Fields[0].Origin {
		t.Error("commit or origins are stale")
	}
	req.Options.Pull = true
	if mustLoad(t, req).Release.Digest == before.Digest {
		t.Error("options do not change the release")
	}
}

func TestVolumeDigestCoversItsDefinition(t *testing.T) {
	load := func(definition string) string {
		v := mustLoad(t, one(app("volumes: [\"state:/x\"]")+"volumes:\n  state: "+definition+"\n")).Release.Volumes
		if len(v) != 1 || v[0].Name != "state" || v[0].Origin.String() != "compose.yaml:6:3" {
			t.Fatalf("volumes: %+v", v)
		}
		return string(v[0].Digest)
	}
	if load("{}") != load("{} # kept") {
		t.Error("a comment changes a volume")
	}
	if load("{}") == load("{labels: {a: b}}") || load("{}") == load("{external: true}") {
		t.Error("a label or external does not change a volume")
	}
}

// TestOneServiceChangesAlone draws stacks and changes one value of one service.
func TestOneServiceChangesAlone(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		value := rapid.StringMatching(`[a-z0-9 $"'\\#:-]{0,12}`)
		count := rapid.IntRange(1, 5).Draw(rt, "services")
		services := map[string]map[string]string{}
		for i := range count {
			services[fmt.Sprintf("s%d", i)] = map[string]string{
				"hostname": value.Draw(rt, "hostname"), "user": value.Draw(rt, "user"), "A": value.Draw(rt, "A"),
			}
		}
		render := func(comment string) compose.Request {
			var b strings.Builder
			fmt.Fprintf(&b, "# %s\nservices:\n", comment)
			for _, name := range slices.Sorted(maps.Keys(services)) {
				s := services[name]
				fmt.Fprintf(&b, "  %s:\n    image: a\n    hostname: %q\n    user: %q\n    environment: {A: %q}\n", name,
					strings.ReplaceAll(s["hostname"], "$", "$$"), strings.ReplaceAll(s["user"], "$", "$$"),
					strings.ReplaceAll(s["A"], "$", "$$"))
			}
			return one(b.String())
		}
		before := digests(t, render("before"))
		victim := rapid.SampledFrom(slices.Sorted(maps.Keys(services))).Draw(rt, "victim")
		key := rapid.SampledFrom([]string{"hostname", "user", "A"}).Draw(rt, "key")
		services[victim][key] += "x"
		if diff := cmp.Diff([]string{victim}, changed(before, digests(t, render("after")))); diff != "" {
			rt.Fatalf("changed services (-want +got):\n%s", diff)
		}
	})
}

// TestModelKeepsValuesExactly loads the resolved model again and compares every value.
func TestModelKeepsValuesExactly(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringMatching(`[ -~\n\r\täöü€\x{7f}\x{85}\x{feff}\x{2028}\x{1f600}\x{1}]{0,40}`).Draw(rt, "value")
		secret := rapid.Bool().Draw(rt, "secret")
		req := one("services: {app: {image: a, env_file: [.env], environment: {W: \"${V}\"}, labels: {l: \"${V}\"}}}\n")
		req.Environment = []compose.Variable{{Name: "V", Value: text, Secret: secret}}
		result := mustLoad(t, req)
		app := agentLoad(t, "/nonexistent", blob(t, result, req, result.Release.Model), "web").Services["app"]
		if *app.Environment["V"] != text || *app.Environment["W"] != text || app.Labels["l"] != text {
			rt.Fatalf("%q became %q, %q and %q", text, *app.Environment["V"], *app.Environment["W"], app.Labels["l"])
		}
	})
}
