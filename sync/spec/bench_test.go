package spec_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/varanhq/varan/sync/spec"
)

// largeFleet is 10,000 resources in 1,000 files: 5,000 stacks with environments, 2,000
// servers, 2,000 variables and 1,000 procedures.
func largeFleet() fstest.MapFS {
	fsys := fstest.MapFS{}
	for f := range 1_000 {
		var b strings.Builder
		for i := range 2 {
			n := 2*f + i
			fmt.Fprintf(&b, "[[server]]\nname = \"server-%d\"\nenabled = true\ntags = [\"prod\"]\n\n", n)
			fmt.Fprintf(&b, "[[variable]]\nname = \"VARIABLE_%d\"\nvalue = \"value %d\"\n\n", n, n)
		}
		for i := range 5 {
			n := 5*f + i
			fmt.Fprintf(&b, "[[stack]]\nname = \"stack-%d\"\ndescription = \"Stack number %d\"\ntags = [\"prod\", \"web\"]\n", n, n)
			if n > 0 {
				fmt.Fprintf(&b, "after = [\"stack-%d\"]\n", n-1)
			}
			fmt.Fprintf(&b, "[stack.config]\nserver = \"server-%d\"\nrun_directory = \"stacks/%d\"\n", n%2_000, n)
			b.WriteString("file_paths = [\"compose.yaml\", \"compose.prod.yaml\"]\nenvironment = \"\"\"\n")
			for v := range 5 {
				fmt.Fprintf(&b, "VALUE_%d = some [[VARIABLE_%d]] text\n", v, n%2_000)
			}
			b.WriteString("\"\"\"\n\n")
		}
		fmt.Fprintf(&b, "[[procedure]]\nname = \"procedure-%d\"\nconfig.schedule = \"Every day at 03:00\"\n\n", f)
		fmt.Fprintf(&b, "[[procedure.config.stage]]\nname = \"one\"\n")
		fsys[fmt.Sprintf("fleet/%03d/resources.toml", f)] = &fstest.MapFile{Data: []byte(b.String())}
	}
	return fsys
}

func BenchmarkLoad(b *testing.B) {
	fsys := largeFleet()
	run := func(b *testing.B, opts spec.Options) {
		b.Helper()
		b.ReportAllocs()
		for b.Loop() {
			decls, diags := spec.Load(fsys, opts)
			if diags.HasErrors() || len(decls.Stacks) != 5_000 {
				b.Fatal(diags.Error())
			}
		}
	}
	b.Run("cold", func(b *testing.B) { run(b, spec.Options{}) })
	b.Run("cached", func(b *testing.B) {
		run(b, spec.Options{Cache: &spec.Cache{}, ObjectID: func(string) (string, error) { return "1", nil }})
	})
}

func BenchmarkParseFile(b *testing.B) {
	src := largeFleet()["fleet/001/resources.toml"].Data
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if _, diags := spec.ParseFile("resources.toml", src); diags.HasErrors() {
			b.Fatal(diags.Error())
		}
	}
}
