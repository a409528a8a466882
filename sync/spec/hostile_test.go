package spec_test

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/spec"
)

// An answer takes at most tooLong of processor time, the garbage collector's included, so
// that a busy machine does not matter. It allocates at most tooMuch in all; less than that is
// there at a time.
const (
	tooLong = 2 * time.Second
	tooMuch = 256 << 20
)

// bounded runs what must be answered cheaply.
func bounded(t *testing.T, answer func()) {
	t.Helper()
	runtime.GC() // what came before is not paid for here
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := processorTime(t)
	answer()
	took := processorTime(t) - start
	runtime.ReadMemStats(&after)
	limit := tooLong
	if raceDetector {
		limit *= 20
	}
	if took > limit {
		t.Errorf("took %s", took)
	}
	much := after.TotalAlloc - before.TotalAlloc
	if much > tooMuch && !raceDetector {
		t.Errorf("allocated %d MiB", much>>20)
	}
	t.Logf("%s, %d MiB", took.Round(time.Millisecond), much>>20)
}

// processorTime is what the process has used so far.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		t.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
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
			var diags fleet.Diagnostics
			bounded(t, func() { _, diags = spec.ParseFile("fleet.toml", []byte(src)) })
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
				repository := tree(files)
				var diags fleet.Diagnostics
				bounded(t, func() { _, diags = spec.Load(repository, spec.Options{Offline: offline}) })
				t.Logf("%d findings", len(diags))
			})
		}
	}
}
