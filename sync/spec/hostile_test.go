package spec_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/varanhq/varan/sync/spec"
)

// tooLong is far above what any file needs, also under the race detector on a busy
// machine, and far below what quadratic work on a megabyte takes.
const tooLong = 20 * time.Second

// tooMuch bounds all that reading one file allocates; less than half of it is there at
// a time.
const tooMuch = 512 << 20

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func TestHostileFilesAreBounded(t *testing.T) {
	const size = 1<<20 - 100
	numbered := func(format string) string {
		var b strings.Builder
		for i := 0; b.Len() < size-20; i++ {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	const stack = "[[stack]]\nname = \"a\"\nserver = \"s\"\n"
	for name, src := range map[string]string{
		"unknown keys":        numbered("stak%d = 1\n"),
		"headers":             numbered("[a.b.c.d%d]\n"),
		"tables":              strings.Repeat("[[server]]\n", size/11),
		"named tables":        strings.Repeat("[[server]]\nname='a'\n", size/20),
		"other tables":        strings.Repeat("[[action]]\n", size/11),
		"environment":         stack + "environment = '''\n" + strings.Repeat("A=1\n", size/4-30) + "'''\n",
		"bad environment":     stack + "environment = '''\n" + strings.Repeat("A\n", size/2-40) + "'''\n",
		"list":                stack + "after = [" + strings.Repeat("'',", size/3-30) + "]\n",
		"list in a string":    stack + "after = '" + strings.Repeat("a,", size/2-40) + "'\n",
		"backslashes":         stack + "file_contents = \"\"\"" + strings.Repeat(`\`, size-100) + "\"\"\"\n",
		"hidden characters":   strings.Repeat("#\u202E\n", size/5),
		"inline tables":       "server = [" + strings.Repeat("{},", size/3-20) + "]\n",
		"one long key":        strings.Repeat("a", size) + " = 1\n",
		"keys of many parts":  strings.Repeat("a.", size/2) + "a = 1\n",
		"executions":          "[[procedure]]\nname = 'a'\n[[procedure.config.stage]]\nexecutions = [" + strings.Repeat("{type='None'},", size/14-10) + "]\n",
		"empty executions":    "[[procedure]]\nname = 'a'\n[[procedure.config.stage]]\nexecutions = [" + strings.Repeat("{},", size/3-40) + "]\n",
		"stages":              "[[procedure]]\nname = 'a'\n" + strings.Repeat("[[procedure.config.stage]]\n", size/27-2),
		"arguments":           "[[procedure]]\nname = 'a'\n[[procedure.config.stage]]\nexecutions = [{type='RunAction', action='a', args={x=[" + strings.Repeat("{},", size/3-60) + "]}}]\n",
		"pairs":               "[[deployment]]\nname = 'a'\nports = '''\n" + strings.Repeat("1:2\n", size/4-30) + "'''\n",
		"half pairs":          "[[deployment]]\nname = 'a'\nports = '''\n" + strings.Repeat("1\n", size/2-30) + "'''\n",
		"labels":              "[[deployment]]\nname = 'a'\nlabels = '''\n" + strings.Repeat("a=\n", size/3-30) + "'''\n",
		"permissions":         "[[user_group]]\nname = 'a'\npermissions = [" + strings.Repeat("{},", size/3-30) + "]\n",
		"overlays":            stack + strings.Repeat("[[stack.config.overlay]]\n", size/25-4),
		"registries":          "[[build]]\nname = 'a'\nimage_registry = [" + strings.Repeat("{},", size/3-30) + "]\n",
		"quotes":              "a = " + strings.Repeat(`"`, size),
		"comments in strings": stack + "links = '''\n" + strings.Repeat("a #\n", size/4-40) + "'''\n",
		"quoted value":        stack + "environment = '''\nA=\"" + strings.Repeat("\" ", size/2-60) + "'''\n",
	} {
		t.Run(name, func(t *testing.T) {
			start, before := time.Now(), allocated()
			_, diags := spec.ParseFile("fleet.toml", []byte(src))
			if took := allocated() - before; took > tooMuch {
				t.Errorf("took %d MiB", took>>20)
			}
			if took := time.Since(start); took > tooLong {
				t.Errorf("took %s", took)
			}
			if n := len(diags); n > 600 {
				t.Errorf("%d diagnostics", n)
			}
		})
	}
}

// TestHostileTreesAreBounded is about what resources say of each other: names that do
// not exist, patterns that match everything, and graphs that are dense.
func TestHostileTreesAreBounded(t *testing.T) {
	const many = 9_000
	const procedure = "[[procedure]]\nname = 'p%[1]d'\n[[procedure.config.stage]]\n"
	repeated := func(n int, format string) map[string]string {
		files := map[string]string{}
		for i := range n {
			file := fmt.Sprintf("%02d.toml", i/500)
			files[file] += fmt.Sprintf(format, i)
		}
		return files
	}
	for name, files := range map[string]map[string]string{
		"unknown servers":   repeated(many/2, "[[server]]\nname = 'server-%[1]d'\n[[stack]]\nname = 's%[1]d'\nserver = 'sevrer-%[1]d'\n"),
		"unknown after":     repeated(many, "[[stack]]\nname = 'stack-%[1]d'\nserver = 's'\nafter = ['sta-ck%[1]d']\n"),
		"a dense graph":     repeated(many, "[[stack]]\nname = 's%[1]d'\nserver = 's'\nafter = ['s1', 's2', 's3', 's4']\n"),
		"patterns":          repeated(many, procedure+"executions = [{type='BatchRunProcedure', pattern='*'}]\n"),
		"many expressions":  repeated(many, procedure+"executions = [{type='BatchRunProcedure', pattern='\\(p|%[1]d)+\\'}]\n"),
		"long expressions":  repeated(90, procedure+"executions = [{type='BatchDeployStack', pattern='\\"+strings.Repeat("(a|b)*", 1_600)+"\\'}]\n"),
		"nested repetition": repeated(many, procedure+"executions = [{type='BatchDeployStack', pattern='\\((a{100}){100}){100}\\'}]\n"),
		"unknown targets":   repeated(many/2, "[[server]]\nname = 'server-%[1]d'\n[[alerter]]\nname = 'a%[1]d'\nresources = [{type='Server', id='sevrer-%[1]d'}]\n"),
		"tags of nothing":   repeated(many/2, "[[server]]\nname = 'server-%[1]d'\ntags = ['a']\n[[stack]]\nname = 's%[1]d'\nserver_tags = ['a', 'b']\n"),
	} {
		for _, offline := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, offline %t", name, offline), func(t *testing.T) {
				start := time.Now()
				_, diags := spec.Load(tree(files), spec.Options{Offline: offline})
				took := time.Since(start)
				if took > tooLong {
					t.Errorf("took %s", took)
				}
				t.Logf("%s, %d findings", took.Round(time.Millisecond), len(diags))
			})
		}
	}
}
