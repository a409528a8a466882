package spec_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/spec"
)

func FuzzParseFile(f *testing.F) {
	paths, err := filepath.Glob(fleets + "*/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range paths {
		src, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Add([]byte("a = \"\"\"\\\"\"\"\"\" # \\"))
	f.Add([]byte("[[stack]]\nenvironment = \"\"\"\r\n- 'A: \"b\" # c'\r\n\"\"\""))
	f.Add([]byte("server = [{name.x = 1, name.y = [[{}]]}]"))
	f.Fuzz(func(t *testing.T, src []byte) {
		start := time.Now()
		file, diags := spec.ParseFile("fuzz.toml", src)
		if took := time.Since(start); took > 10*tooLong { // other workers have their share
			t.Errorf("took %s", took)
		}
		lines := strings.Split(string(src), "\n")
		for _, d := range diags {
			if d.Line < 1 || d.Line > len(lines) || d.Col < 1 || d.Col > len(lines[d.Line-1])+1 {
				t.Errorf("outside the file: %s", d)
			}
			if d.Rule == "" || d.Message == "" || strings.ContainsAny(d.Message+d.Hint, "\x1b\x00\u202E") {
				t.Errorf("bad diagnostic %q", d.String()+d.Hint)
			}
		}
		for _, s := range file.Stacks {
			for _, e := range s.Config.Environment {
				if e.Pos.Line < 1 || e.Pos.Line > len(lines) || e.Name == "" {
					t.Errorf("variable %q at %s", e.Name, e.Pos)
				}
			}
		}
	})
}

// TestPositionsPointAtWhatTheyName writes stacks in random forms and looks every
// field up again in the text.
func TestPositionsPointAtWhatTheyName(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		n := rapid.IntRange(1, 4).Draw(t, "stacks")
		for range n {
			b.WriteString(strings.Repeat("# \\ comment\n", rapid.IntRange(0, 2).Draw(t, "comments")))
			b.WriteString("[[stack]]\nname = \"x\"\n")
			b.WriteString(rapid.SampledFrom([]string{"server = \"s\"\n", "config.server = \"s\"\n", "[stack.config]\nserver = \"s\"\n"}).Draw(t, "server"))
			if rapid.Bool().Draw(t, "environment") {
				newline := rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "newline")
				b.WriteString("environment = \"\"\"" + newline)
				for range rapid.IntRange(0, 3).Draw(t, "variables") {
					b.WriteString(rapid.SampledFrom([]string{"NAME = a\\b", "  - NAME: c # d", "# NAME", "", "- \"NAME=x\""}).Draw(t, "line") + newline)
				}
				b.WriteString("\"\"\"\n")
			}
		}
		src := b.String()
		file, diags := spec.ParseFile("a.toml", []byte(src))
		lines := strings.Split(src, "\n")
		at := func(p fleet.Position) string { return lines[p.Line-1][p.Col-1:] }
		for _, d := range diags {
			if d.Rule != "duplicate-variable" {
				t.Fatalf("%s\n%s", d, src)
			}
		}
		for _, s := range file.Stacks {
			if got := at(s.At("")); !strings.HasPrefix(got, "[[stack]]") {
				t.Fatalf("the table is at %q", got)
			}
			if got := at(s.At("config.server")); s.Config.Server != "" && !strings.HasPrefix(got, "server") {
				t.Fatalf("server is at %q", got)
			}
			for _, e := range s.Config.Environment {
				if got := at(e.Pos); !strings.HasPrefix(strings.TrimPrefix(got, "- "), e.Name) {
					t.Fatalf("%s is at %q\n%s", e.Name, got, src)
				}
			}
		}
	})
}
