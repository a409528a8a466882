package spec_test

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/spec"
)

func tree(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

// located lists diagnostics worse than a note as "file:line:col rule".
func located(ds fleet.Diagnostics) []string {
	var out []string
	for _, d := range ds {
		if d.Severity != fleet.SeverityNote {
			out = append(out, d.Position.String()+" "+d.Rule)
		}
	}
	return out
}

func TestResourcesAreCheckedTogether(t *testing.T) {
	t.Parallel()
	const server = "[[server]]\nname = \"s\"\n"
	stack := func(name, more string) string {
		return fmt.Sprintf("[[stack]]\nname = %q\nserver = \"s\"\n%s\n", name, more)
	}
	tests := []struct {
		name  string
		files map[string]string
		opts  spec.Options
		want  []string
		says  string
	}{
		{"nothing at all", nil, spec.Options{}, nil, ""},
		{"same name in one file", map[string]string{"a.toml": server + server}, spec.Options{}, []string{"a.toml:4:1 duplicate-name"}, "first at a.toml:2:1"},
		{"same name in two files", map[string]string{"a.toml": server, "b.toml": server}, spec.Options{}, []string{"b.toml:2:1 duplicate-name"}, "first at a.toml:2:1"},
		{"names of two types may be the same", map[string]string{"a.toml": server + stack("s", "")}, spec.Options{}, nil, ""},
		{"names differ by case", map[string]string{"a.toml": server + "[[server]]\nname = \"S\"\n"}, spec.Options{}, []string{"a.toml:4:1 name-collision"}, "a.toml:2:1"},
		{"unknown server", map[string]string{"a.toml": server + "[[stack]]\nname = \"w\"\nserver = \"sx\"\n"}, spec.Options{}, []string{"a.toml:5:1 unknown-server"}, "did you mean `s`?"},
		{"server by id", map[string]string{"a.toml": "[[stack]]\nname = \"w\"\nserver = \"0123456789abcdef01234567\"\n"}, spec.Options{}, []string{"a.toml:3:1 unknown-server"}, "write the name"},
		{"known server", map[string]string{"a.toml": "[[stack]]\nname = \"w\"\nserver = \"x\"\n"}, spec.Options{KnownServers: []fleet.Server{{Name: "x"}}}, nil, ""},
		{"unknown server offline", map[string]string{"a.toml": "[[stack]]\nname = \"w\"\nserver = \"x\"\n"}, spec.Options{Offline: true}, nil, ""},
		{"no server", map[string]string{"a.toml": "[[stack]]\nname = \"w\"\n"}, spec.Options{Offline: true}, []string{"a.toml:1:1 missing-server"}, ""},
		{"swarm and no server", map[string]string{"a.toml": "[[stack]]\nname = \"w\"\nswarm = \"x\"\n"}, spec.Options{}, nil, ""},
		{"template without a server", map[string]string{"a.toml": "[[stack]]\nname = \"w\"\ntemplate = true\n"}, spec.Options{}, nil, ""},
		{"server in a removed file", map[string]string{"b.toml": stack("w", "")}, spec.Options{}, []string{"b.toml:3:1 unknown-server"}, ""},
		{"after itself", map[string]string{"a.toml": server + stack("w", `after = ["w"]`)}, spec.Options{}, []string{"a.toml:6:10 after-self"}, ""},
		{"after unknown", map[string]string{"a.toml": server + stack("web", "") + stack("w", `after = ["web", "wbe"]`)}, spec.Options{}, []string{"a.toml:10:17 unknown-stack"}, "did you mean `web`?"},
		{"after a deployment", map[string]string{"a.toml": server + "[[deployment]]\nname = \"d\"\nserver = \"s\"\n" + stack("w", `after = ["d"]`)}, spec.Options{}, nil, ""},
		{
			"after in a cycle",
			map[string]string{"a.toml": server + stack("a", `after = ["b"]`) + stack("b", `after = ["c"]`) + stack("c", `after = ["a"]`)},
			spec.Options{},
			[]string{"a.toml:14:10 after-cycle"},
			"a -> b -> c -> a",
		},
		{"missing names are not held against a broken file", map[string]string{"a.toml": "[[server]]\nname =\n", "b.toml": stack("w", "")}, spec.Options{}, []string{"a.toml:2:7 toml-syntax"}, ""},
		{"path that does not exist", map[string]string{"a.toml": server}, spec.Options{ResourcePaths: []string{"x"}}, []string{"x resource-path"}, "does not exist"},
		{"path out of the tree", map[string]string{"a.toml": server}, spec.Options{ResourcePaths: []string{"../x"}}, []string{"../x resource-path"}, ""},
		{"absolute path", map[string]string{"a.toml": server}, spec.Options{ResourcePaths: []string{"/a.toml"}}, []string{"/a.toml resource-path"}, ""},
		{"path of another kind of file", map[string]string{"a.yaml": "x"}, spec.Options{ResourcePaths: []string{"a.yaml"}}, []string{"a.yaml resource-path"}, ".toml"},
		{"unknown keys when lenient", map[string]string{"a.toml": server + "naem = 1\nName = 2\n"}, spec.Options{Lenient: true}, []string{"a.toml:3:1 unknown-key", "a.toml:4:1 key-case"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, diags := spec.Load(tree(tt.files), tt.opts)
			if diff := cmp.Diff(tt.want, located(diags)); diff != "" {
				t.Fatalf("diagnostics (-want +got):\n%s\n%s", diff, diags.Error())
			}
			if tt.opts.Lenient && diags.HasErrors() {
				t.Error("an unknown key is an error although lenient")
			}
			if len(tt.want) > 0 {
				rule := tt.want[0][strings.Index(tt.want[0], " ")+1:]
				if got := hintOf(diags, rule); !strings.Contains(got, tt.says) {
					t.Errorf("message and hint %q do not have %q", got, tt.says)
				}
			}
		})
	}
}

func TestDiscoveryIsSortedAndSkipsHidden(t *testing.T) {
	t.Parallel()
	fsys := tree(map[string]string{
		"b.toml": "", "a/z.toml": "", "a/y/x.toml": "", ".hidden/x.toml": "!", "a/.git/x.toml": "!", ".x.toml": "!",
		"a/compose.yaml": "!", "c/.d/x.toml": "",
	})
	fsys["link.toml"] = &fstest.MapFile{Mode: fs.ModeSymlink, Data: []byte("b.toml")}
	tests := []struct {
		paths []string
		want  []string
	}{
		{nil, []string{"a/y/x.toml", "a/z.toml", "b.toml"}},
		{[]string{"b.toml", "./a/"}, []string{"b.toml", "a/y/x.toml", "a/z.toml"}},
		{[]string{"a/z.toml", "a", "a"}, []string{"a/z.toml", "a/y/x.toml"}},
		{[]string{"c/.d"}, []string{"c/.d/x.toml"}},
		{[]string{"."}, []string{"a/y/x.toml", "a/z.toml", "b.toml"}},
	}
	for _, tt := range tests {
		decls, diags := spec.Load(fsys, spec.Options{ResourcePaths: tt.paths})
		if diff := cmp.Diff(tt.want, decls.Files); diff != "" {
			t.Errorf("files of %v (-want +got):\n%s", tt.paths, diff)
		}
		if diags.HasErrors() {
			t.Errorf("%v: %s", tt.paths, diags.Error())
		}
	}
	_, diags := spec.Load(fsys, spec.Options{})
	if diff := cmp.Diff([]string{"link.toml not-a-regular-file"}, located(diags)); diff != "" {
		t.Errorf("diagnostics (-want +got):\n%s", diff)
	}
}

func TestMatchTagsKeepsWhatCarriesAll(t *testing.T) {
	t.Parallel()
	fsys := tree(map[string]string{"a.toml": `
[[server]]
name = "s"
tags = ["prod"]
[[stack]]
name = "db"
server = "s"
tags = ["data"]
[[stack]]
name = "web"
server = "s"
tags = ["prod", "web"]
after = ["db"]
[[variable]]
name = "V"
`})
	decls, diags := spec.Load(fsys, spec.Options{MatchTags: []string{"web", "prod"}})
	if diags.HasErrors() {
		t.Fatal(diags.Error())
	}
	if len(decls.Servers) != 0 || len(decls.Stacks) != 1 || len(decls.Variables) != 1 {
		t.Errorf("kept %d servers, %d stacks, %d variables; want 0, 1, 1", len(decls.Servers), len(decls.Stacks), len(decls.Variables))
	}
	if after := decls.Stacks[0].After; len(after) != 0 {
		t.Errorf("web still waits for %v", after)
	}
	if !slices.ContainsFunc(diags, func(d fleet.Diagnostic) bool { return d.Rule == "after-filtered" && d.Line == 13 }) {
		t.Error("dropping the dependency is not said")
	}
}

// countingFS counts how often files are opened.
type countingFS struct {
	fstest.MapFS
	reads *int
}

func (c countingFS) ReadFile(name string) ([]byte, error) {
	*c.reads++
	return c.MapFS.ReadFile(name)
}

func TestCacheReadsOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	reads := 0
	files := map[string]string{"a.toml": "[[server]]\nname = \"a\"\n", "b.toml": "[[server]]\nname = \"b\"\n"}
	ids := map[string]string{"a.toml": "1", "b.toml": "1"}
	opts := spec.Options{Cache: &spec.Cache{}, ObjectID: func(p string) (string, error) { return ids[p], nil }}
	load := func() spec.Declarations {
		t.Helper()
		decls, diags := spec.Load(countingFS{tree(files), &reads}, opts)
		if diags.HasErrors() {
			t.Fatal(diags.Error())
		}
		return decls
	}
	first := load()
	if again := load(); reads != 2 || len(again.Servers) != len(first.Servers) {
		t.Errorf("%d reads after two loads, want 2; %d servers, want %d", reads, len(again.Servers), len(first.Servers))
	}
	files["b.toml"], ids["b.toml"] = "[[server]]\nname = \"c\"\n", "2"
	if got := load().Servers[1].Name; got != "c" || reads != 3 {
		t.Errorf("server %s after %d reads, want c after 3", got, reads)
	}
	delete(files, "a.toml")
	load()
	if n := opts.Cache.Len(); n != 1 {
		t.Errorf("the cache holds %d files, want the 1 that is used", n)
	}
}

func TestLimitOfResources(t *testing.T) {
	t.Parallel()
	resources := func(n int) fstest.MapFS {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "[[variable]]\nname = \"V%d\"\n", i)
		}
		return tree(map[string]string{"a.toml": b.String()})
	}
	fsys := resources(10)
	for limit, faulty := range map[int]bool{9: true, 10: false, 11: false} {
		_, diags := spec.Load(fsys, spec.Options{MaxResources: limit})
		if diags.HasErrors() != faulty {
			t.Errorf("limit %d: %s", limit, diags.Error())
		}
	}
	if _, diags := spec.Load(resources(10_001), spec.Options{}); hintOf(diags, "too-many-resources") == "" {
		t.Error("10,001 resources are accepted by default")
	}
}

func TestSourceSizeIsLimitedBeforeReading(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for i := range 17 {
		files[fmt.Sprintf("%02d.toml", i)] = "#" + strings.Repeat("x", 1<<20-1)
	}
	reads := 0
	_, diags := spec.Load(countingFS{tree(files), &reads}, spec.Options{})
	if diff := cmp.Diff([]string{"16.toml:1:1 source-too-large"}, located(diags)); diff != "" {
		t.Errorf("diagnostics (-want +got):\n%s", diff)
	}
	if reads != 16 {
		t.Errorf("%d files were read, want 16", reads)
	}
}

func TestCrossErrorsAreBounded(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 5_000 {
		fmt.Fprintf(&b, "[[stack]]\nname = \"stack-%d\"\nserver = \"nowhere-%d\"\nafter = [\"stakc-%d\"]\n", i, i, i)
	}
	_, diags := spec.Load(tree(map[string]string{"a.toml": b.String()}), spec.Options{})
	if n := len(located(diags)); n != 51 {
		t.Errorf("%d errors, want 50 and a last one", n)
	}
}

func TestManySmallFiles(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for i := range 10_000 {
		files[fmt.Sprintf("%04d.toml", i)] = fmt.Sprintf("[[variable]]\nname = \"V%d\"\n", i)
	}
	decls, diags := spec.Load(tree(files), spec.Options{})
	if len(diags) > 0 || len(decls.Variables) != 10_000 || decls.Variables[9_999].Name != "V9999" {
		t.Errorf("%d variables, %d diagnostics", len(decls.Variables), len(diags))
	}
}

func TestLargeFleetHasNoFaults(t *testing.T) {
	t.Parallel()
	decls, diags := spec.Load(largeFleet(), spec.Options{})
	if diags.HasErrors() || len(decls.Stacks) != 5_000 || len(decls.Procedures) != 1_000 {
		t.Errorf("%d stacks, %d procedures: %s", len(decls.Stacks), len(decls.Procedures), diags[0])
	}
}
