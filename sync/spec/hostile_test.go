package spec_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/varanhq/varan/sync/spec"
)

// tooLong is far above what any file needs, also under the race detector on a busy
// machine, and far below what quadratic work on a megabyte takes.
const tooLong = 20 * time.Second

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
		"quotes":              "a = " + strings.Repeat(`"`, size),
		"comments in strings": stack + "links = '''\n" + strings.Repeat("a #\n", size/4-40) + "'''\n",
		"quoted value":        stack + "environment = '''\nA=\"" + strings.Repeat("\" ", size/2-60) + "'''\n",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, diags := spec.ParseFile("fleet.toml", []byte(src))
			if took := time.Since(start); took > tooLong {
				t.Errorf("took %s", took)
			}
			if n := len(diags); n > 600 {
				t.Errorf("%d diagnostics", n)
			}
		})
	}
}
