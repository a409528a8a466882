package spec_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/varanhq/varan/sync/spec"
)

// largeFleet is 10,000 resources in 1,000 files: 5,000 stacks with environments, 1,000
// servers, 1,000 variables, 1,000 procedures, and 2,000 of the other types.
func largeFleet() fstest.MapFS {
	fsys := fstest.MapFS{}
	for f := range 1_000 {
		var b strings.Builder
		fmt.Fprintf(&b, "[[server]]\nname = \"server-%d\"\nenabled = true\ntags = [\"prod\"]\n\n", f)
		fmt.Fprintf(&b, "[[variable]]\nname = \"VARIABLE_%d\"\nvalue = \"value %d\"\n\n", f, f)
		fmt.Fprintf(&b, others[2*(f%(len(others)/2))], f)
		fmt.Fprintf(&b, others[2*(f%(len(others)/2))+1], f)
		for i := range 5 {
			n := 5*f + i
			fmt.Fprintf(&b, "[[stack]]\nname = \"stack-%d\"\ndescription = \"Stack number %d\"\ntags = [\"prod\", \"web\"]\n", n, n)
			if n > 0 {
				fmt.Fprintf(&b, "after = [\"stack-%d\"]\n", n-1)
			}
			fmt.Fprintf(&b, "[stack.config]\nserver = \"server-%d\"\nrun_directory = \"stacks/%d\"\n", n%1_000, n)
			b.WriteString("file_paths = [\"compose.yaml\", \"compose.prod.yaml\"]\nenvironment = \"\"\"\n")
			for v := range 5 {
				fmt.Fprintf(&b, "VALUE_%d = some [[VARIABLE_%d]] text\n", v, n%1_000)
			}
			b.WriteString("\"\"\"\n\n")
		}
		fmt.Fprintf(&b, "[[procedure]]\nname = \"procedure-%d\"\nconfig.schedule = \"Every day at 03:00\"\n\n", f)
		fmt.Fprintf(&b, "[[procedure.config.stage]]\nname = \"one\"\nexecutions = [\n")
		fmt.Fprintf(&b, "  { execution.type = \"DeployStack\", execution.params.stack = \"stack-%d\" },\n", 5*f)
		fmt.Fprintf(&b, "  { execution.type = \"RunProcedure\", execution.params.procedure = \"procedure-%d\" },\n]\n", f+1)
		fsys[fmt.Sprintf("fleet/%03d/resources.toml", f)] = &fstest.MapFile{Data: []byte(b.String())}
	}
	return fsys
}

// others are pairs of resources of the types that are seldom many.
var others = []string{
	"[[deployment]]\nname = \"deployment-%[1]d\"\nserver = \"server-%[1]d\"\nimage = \"nginx:1\"\nports = \"80:80\"\n\n",
	"[[repo]]\nname = \"repo-%[1]d\"\nserver = \"server-%[1]d\"\nrepo = \"owner/repo\"\non_pull.command = \"make\"\n\n",
	"[[alerter]]\nname = \"alerter-%[1]d\"\nendpoint = { type = \"Slack\", params.url = \"[[URL]]\" }\nresources = [{ type = \"Server\", id = \"server-%[1]d\" }]\n\n",
	"[[user_group]]\nname = \"group-%d\"\nall.Stack = \"Read\"\npermissions = [{ target.type = \"Stack\", target.id = \"stack-*\", level = \"Execute\" }]\n\n",
	"[[build]]\nname = \"build-%d\"\nrepo = \"owner/repo\"\nimage_registry = { domain = \"ghcr.io\", account = \"me\" }\n\n",
	"[[builder]]\nname = \"builder-%[1]d\"\nconfig = { type = \"Server\", params.server = \"server-%[1]d\" }\n\n",
	"[[action]]\nname = \"action-%d\"\nfile_contents = \"\"\"\nconsole.log(/\\d/);\n\"\"\"\n\n",
	"[[swarm]]\nname = \"swarm-%[1]d\"\nservers = [\"server-%[1]d\"]\n\n",
	"[[resource_sync]]\nname = \"sync-%d\"\nrepo = \"owner/repo\"\nresource_path = [\"fleet\"]\n\n",
	"[[variable]]\nname = \"OTHER_%d\"\nvalue = \"x\"\ntags = [\"scope:trusted\"]\n\n",
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

func BenchmarkExport(b *testing.B) {
	decls, _ := spec.Load(largeFleet(), spec.Options{Offline: true})
	b.ReportAllocs()
	for b.Loop() {
		if len(spec.Export(decls)) < 1<<20 {
			b.Fatal("too little")
		}
	}
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
