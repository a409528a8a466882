package settings_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/settings"
)

// table has one setting of each kind.
type table struct {
	Listen string         `key:"listen" flag:"listen" env:"T_LISTEN" default:"127.0.0.1:1" reload:"static" doc:"d"`
	Cores  []string       `key:"cores" alias:"core_address" flag:"core" env:"T_CORES,OLD_CORES" reload:"static" doc:"d"`
	Paths  []string       `key:"paths" env:"T_PATHS" split:"path" reload:"static" doc:"d"`
	Skip   bool           `key:"skip" flag:"skip" env:"T_SKIP" reload:"dynamic" doc:"d"`
	Key    fleet.Secret   `key:"key" flag:"key" fileflag:"key-file" env:"T_KEY" optional:"file" reload:"dynamic" doc:"d"`
	Nets   []netip.Prefix `key:"nets" env:"T_NETS" reload:"dynamic" doc:"d"`
	Log    struct {
		Level string        `key:"level" flag:"log-level" env:"T_LEVEL" default:"info" enum:"debug,info" reload:"dynamic" doc:"d"`
		Keep  time.Duration `key:"keep" env:"T_KEEP" default:"30d" min:"1h" reload:"dynamic" doc:"d"`
		Lines int           `key:"lines" flag:"lines" default:"5" min:"1" max:"10" reload:"dynamic" doc:"d"`
	} `key:"log"`
	Doors  []door                  `key:"doors" reload:"static"`
	Places map[string]place        `key:"places" reload:"static"`
	Words  map[string]string       `key:"words" reload:"static" doc:"d"`
	Hidden map[string]fleet.Secret `key:"hidden" reload:"static" doc:"d"`
}

type door struct {
	Name string   `key:"name" reload:"static" doc:"d"`
	Kind string   `key:"kind" default:"tcp" enum:"tcp,unix" reload:"static" doc:"d"`
	For  []string `key:"for" reload:"static" doc:"d"`
}

type place struct {
	URL string       `key:"url" reload:"static" doc:"d"`
	Key fleet.Secret `key:"key" reload:"static" doc:"d"`
}

// Check implements settings.Checker.
func (t *table) Check() []settings.Fault {
	if t.Log.Lines == 7 {
		return []settings.Fault{{Key: "log.lines", Message: "seven is no number of lines", Hint: "six"}}
	}
	return nil
}

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "t.toml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for _, pair := range pairs {
			if key, value, _ := strings.Cut(pair, "="); key == name {
				return value
			}
		}
		return ""
	}
}

func flags(pairs ...string) func(string) ([]string, bool) {
	return func(name string) (values []string, set bool) {
		for _, pair := range pairs {
			if key, value, _ := strings.Cut(pair, "="); key == name {
				values = append(values, value)
			}
		}
		return values, values != nil
	}
}

func TestA044FlagsWinOverEnvironmentOverFileOverDefaults(t *testing.T) {
	t.Parallel()
	file := write(t, "listen = 'file'\n[log]\nlevel = 'debug'\n")
	for _, tc := range []struct {
		name, want, origin string
		src                settings.Source
	}{
		{"default", "127.0.0.1:1", "default", settings.Source{}},
		{"other default", "other", "default", settings.Source{Defaults: map[string]string{"listen": "other"}}},
		{"file", "file", file + ":1", settings.Source{File: file}},
		{"environment", "env", "$T_LISTEN", settings.Source{File: file, Env: env("T_LISTEN=env")}},
		{"flag", "flag", "--listen", settings.Source{File: file, Env: env("T_LISTEN=env"), Flags: flags("listen=flag")}},
	} {
		var got table
		values, err := settings.Load(&got, tc.src)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if got.Listen != tc.want || values.Origin("listen").String() != tc.origin {
			t.Errorf("%s: %q from %s, want %q from %s", tc.name, got.Listen, values.Origin("listen"), tc.want, tc.origin)
		}
	}
}

func TestEveryKindOfValueIsRead(t *testing.T) {
	t.Parallel()
	secret := write(t, "hunter2hunter2\n")
	file := write(t, fmt.Sprintf(`
core_address = ["a", "b"]
skip = true
key_file = %q
nets = ["10.0.0.0/8"]
log.keep = "7d"
log.lines = 1_0
words = { x = "y" }
hidden.A = "canary"
[[doors]]
name = "one"
[[doors]]
name = "two"
kind = "unix"
for = ["api"]
[places.home]
url = "http://home"
key = "canary"
`, secret))
	var got table
	values, err := settings.Load(&got, settings.Source{File: file, Env: env("T_PATHS=/a:/b", "T_NETS=::1/128, 10.1.0.0/16")})
	if err != nil {
		t.Fatal(err)
	}
	if got.Key.Reveal() != "hunter2hunter2" || !got.Skip || got.Log.Keep != 7*24*time.Hour || got.Log.Lines != 10 || got.Words["x"] != "y" {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff([]string{"a", "b", "/a", "/b"}, append(got.Cores, got.Paths...)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]door{{"one", "tcp", nil}, {"two", "unix", []string{"api"}}}, got.Doors); diff != "" {
		t.Error(diff)
	}
	if got.Places["home"].URL != "http://home" || got.Places["home"].Key.Reveal() != "canary" || got.Hidden["A"].Reveal() != "canary" {
		t.Error("named tables are not read")
	}
	if len(got.Nets) != 2 || got.Nets[1].String() != "10.1.0.0/16" {
		t.Errorf("networks %v", got.Nets)
	}
	for key, want := range map[string]string{
		"key": file + ":4", "doors[1].kind": file + ":14", "places.home.url": file + ":17", "paths": "$T_PATHS", "nets": "$T_NETS",
	} {
		if got := values.Origin(key).String(); got != want {
			t.Errorf("%s is from %s, want %s", key, got, want)
		}
	}
}

func TestWhatIsPrintedIsAFileThatSaysTheSame(t *testing.T) {
	t.Parallel()
	file := write(t, "listen = 'a\"b\\c'\nkey = 'canary'\ncores = ['x']\nlog.keep = '36h'\nnets=['::/0']\n"+
		"hidden = {A='canary'}\n[[doors]]\nname='n'\n[places.p]\nkey='canary'\nurl='u'\n")
	var first, second table
	values, err := settings.Load(&first, settings.Source{File: file})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := values.Print(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "canary") || !strings.Contains(b.String(), `key = "***"`) {
		t.Errorf("secrets are shown, or not told of:\n%s", b.String())
	}
	if !strings.Contains(b.String(), "# "+file+":1\n") || !strings.Contains(b.String(), "# default\n") {
		t.Errorf("origins are missing:\n%s", b.String())
	}
	again, err := settings.Load(&second, settings.Source{File: write(t, b.String())})
	if err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	strip := func(list []settings.Value) (out []string) {
		for _, v := range list {
			out = append(out, v.Key+" = "+v.Value)
		}
		return out
	}
	if diff := cmp.Diff(strip(values.List()), strip(again.List())); diff != "" {
		t.Error(diff)
	}
}

func TestL2WhatIsWrongInTheFileIsSaidWithItsPlace(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, pos, rule, hint, want string }{
		"unknown key":        {"\n  listne = 'x'", "2:3", "unknown-key", "did you mean listen?", `"listne"`},
		"of another table":   {"level = 'info'", "1:1", "unknown-key", "did you mean log.level?", `"level"`},
		"nothing like it":    {"[log]\nzzzzzz = 1", "2:1", "unknown-key", "the keys here are keep, level, lines", `"log.zzzzzz"`},
		"unknown table":      {"[lgo]\nlevel = 'info'", "1:2", "unknown-key", "did you mean log?", `"lgo"`},
		"unknown in a list":  {"[[doors]]\nnme = 'x'", "2:1", "unknown-key", "did you mean name?", `"doors[0].nme"`},
		"number for text":    {"listen = 80", "1:1", "wrong-type", "", "a number, not text in quotes"},
		"text for a number":  {"log.lines = '80'", "1:5", "wrong-type", "", "text, not a whole number"},
		"text for a boolean": {"skip = 'yes'", "1:1", "wrong-type", "", "text, not true or false"},
		"text for a list":    {"cores = 'a'", "1:1", "wrong-type", "", "text, not a list"},
		"number in a list":   {"cores = ['a',\n 1]", "2:2", "wrong-type", "", "a number, not text"},
		"list for a table":   {"log = []", "1:1", "wrong-type", "write [log]", "a list, not a table"},
		"table for a list":   {"[doors]\nname = 'x'", "1:2", "wrong-type", "write [[doors]]", "a table, not a list of tables"},
		"number for days":    {"log.keep = 5", "1:5", "wrong-type", "", "not a duration"},
		"no duration":        {"log.keep = 'soon'", "1:5", "invalid-value", "", `"soon" is no duration`},
		"too short":          {"log.keep = '1s'", "1:5", "invalid-value", "", `"1s" is less than 1h`},
		"too many":           {"log.lines = 11", "1:5", "invalid-value", "", "11 is more than 10"},
		"no such word":       {"log.level = 'loud'", "1:5", "invalid-value", "", `"loud" is none of debug, info`},
		"no network":         {"nets = ['*']", "1:9", "invalid-value", "", `"*"`},
		"twice":              {"listen = 'a'\nlisten = 'b'", "2:1", "duplicate-key", "keep one of them", "first on line 1"},
		"table twice":        {"[log]\n[log]", "2:2", "duplicate-key", "write all of its keys in one place", "first on line 1"},
		"twice inline":       {"log = {lines = 1, lines = 2}", "1:19", "duplicate-key", "keep one of them", "lines"},
		"dotted and header":  {"log.lines = 1\n[log]", "2:2", "duplicate-key", "write all of its keys in one place", "log"},
		"value and table":    {"listen = 'x'\n[listen.y]", "2:2", "table-conflict", "", "cannot hold tables"},
		"list and table":     {"[doors]\n[[doors]]", "2:3", "table-conflict", "", "a list of tables here"},
		"no TOML":            {"a\n= 3", "1:2", "toml-syntax", "", ""},
		"no text":            {"listen = 'a\x00'", "1:12", "toml-syntax", "a TOML file is text in UTF-8", "not text"},
		"no UTF-8":           {"\n\xff\xfe", "2:1", "toml-syntax", "a TOML file is text in UTF-8", "not text"},
		"secret and file":    {"key = 'canary'\nkey_file = '/x'", "2:1", "invalid-value", "keep one of the two", "key_file"},
		"directory secret":   {"key_file = '/'", "1:1", "file-unreadable", "", "/ is a directory"},
		"against a rule":     {"\nlog.lines = 7", "2:5", "invalid-value", "six", "log.lines: seven is no number"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := write(t, tc.text)
			_, err := settings.Load(&table{}, settings.Source{File: file})
			found, ok := errors.AsType[fleet.Diagnostics](err)
			if !ok {
				t.Fatalf("got %v", err)
			}
			d := found[0]
			if d.Position.String() != file+":"+tc.pos || d.Rule != tc.rule || d.Hint != tc.hint || !strings.Contains(d.Message, tc.want) {
				t.Errorf("got %s, hint %q", d, d.Hint)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("a secret is shown: %v", err)
			}
		})
	}
}

func TestL2WhatIsNoFileIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	big := write(t, strings.Repeat("# a comment\n", 10<<20/12))
	open := write(t, "key = 'canary'")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		dir: "is a directory", big: "larger than 1048576 bytes", filepath.Join(dir, "none"): "no such file", open: "everybody can read it",
		os.DevNull: "no regular file",
	} {
		_, err := settings.Load(&table{}, settings.Source{File: name})
		found, ok := errors.AsType[fleet.Diagnostics](err)
		if !ok || !strings.Contains(err.Error(), want) || found[0].File != name {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
}

func TestAllFindingsAreTold(t *testing.T) {
	t.Parallel()
	_, err := settings.Load(&table{}, settings.Source{File: write(t, "listne = 1\nskip = 1\n"), Env: env("T_KEEP=x")})
	found, _ := errors.AsType[fleet.Diagnostics](err)
	if len(found) != 3 || !strings.Contains(found[2].Message, "$T_KEEP") {
		t.Errorf("got %v", err)
	}
}

func TestAWrongFlagIsToldFromAWrongFile(t *testing.T) {
	t.Parallel()
	for want, src := range map[string]settings.Source{
		settings.FlagRule: {Flags: flags("lines=many")}, "invalid-value": {Env: env("T_LEVEL=loud")},
	} {
		_, err := settings.Load(&table{}, src)
		if found, ok := errors.AsType[fleet.Diagnostics](err); !ok || found[0].Rule != want {
			t.Errorf("%s: %v", want, err)
		}
	}
	_, err := settings.Load(&table{}, settings.Source{Flags: flags("lines=7")})
	if found, ok := errors.AsType[fleet.Diagnostics](err); !ok || found[0].Rule != settings.FlagRule || !strings.HasPrefix(found[0].Message, "--lines: seven") {
		t.Errorf("got %v", err)
	}
}

func TestASecretMayComeFromAFileOfItsOwn(t *testing.T) {
	t.Parallel()
	file := write(t, " from-a-file\n")
	for name, tc := range map[string]struct {
		src          settings.Source
		want, origin string
	}{
		"variable":      {settings.Source{Env: env("T_KEY=direct", "T_KEY_FILE="+file)}, "direct", "$T_KEY"},
		"file variable": {settings.Source{Env: env("T_KEY_FILE=" + file)}, "from-a-file", "$T_KEY_FILE"},
		"file flag":     {settings.Source{Env: env("T_KEY=direct"), Flags: flags("key-file=" + file)}, "from-a-file", "--key-file"},
		"flag":          {settings.Source{Flags: flags("key-file="+file, "key=flag")}, "flag", "--key"},
		"gone":          {settings.Source{Env: env("T_KEY_FILE=/does/not/exist")}, "", "$T_KEY_FILE"},
	} {
		var got table
		values, err := settings.Load(&got, tc.src)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if o := values.Origin("key"); got.Key.Reveal() != tc.want || o.String() != tc.origin || o.Missing != (name == "gone") {
			t.Errorf("%s: %q from %v", name, got.Key.Reveal(), o)
		}
	}
}

func TestAListOfOneMayBeATextWhereTheTableSaysSo(t *testing.T) {
	t.Parallel()
	var s struct {
		Cores []string `key:"core" single:"text"`
	}
	if _, err := settings.Load(&s, settings.Source{File: write(t, "core = 'a'\n")}); err != nil || len(s.Cores) != 1 || s.Cores[0] != "a" {
		t.Errorf("got %q, %v", s.Cores, err)
	}
}

func TestIgnoredKeysAreToldAndNoMore(t *testing.T) {
	t.Parallel()
	values, err := settings.Load(&table{}, settings.Source{File: write(t, "port = 8120\n[stats]\nx = 1\n"), Ignored: []string{"port", "stats"}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, ignored := range values.Ignored() {
		got[ignored.Key] = ignored.Pos.Line
	}
	if diff := cmp.Diff(map[string]int{"port": 1, "stats": 2}, got); diff != "" {
		t.Error(diff)
	}
}

func TestDiffTellsDynamicFromStatic(t *testing.T) {
	t.Parallel()
	load := func(text string) *table {
		var out table
		if _, err := settings.Load(&out, settings.Source{File: write(t, text)}); err != nil {
			t.Fatal(err)
		}
		return &out
	}
	before := load("key = 'canary1'\ncores = []\n")
	after := load("key = 'canary2'\nlisten = 'x'\nlog.level = 'debug'\n[[doors]]\nname = 'd'\n")
	want := []settings.Change{
		{Key: "listen", Old: `"127.0.0.1:1"`, New: `"x"`},
		{Key: "key", Old: `"***"`, New: `"***"`, Dynamic: true},
		{Key: "log.level", Old: `"info"`, New: `"debug"`, Dynamic: true},
		{Key: "doors", Old: "[]", New: `[{name = "d", kind = "tcp"}]`},
	}
	if diff := cmp.Diff(want, settings.Diff(before, after)); diff != "" {
		t.Error(diff)
	}
	if same := settings.Diff(before, load("key = 'canary1'")); len(same) > 0 {
		t.Errorf("equal tables differ: %v", same)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("listen = 'x'\n[[doors]]\nname = 'y'\n[places.a]\nkey = 'z'\n")
	f.Add("log = {level = 'info'}\nkey_file = 3\n")
	f.Add("[a.b]\n[a]\nb.c = 1")
	f.Fuzz(func(t *testing.T, text string) {
		file := write(t, text)
		var got table
		values, err := settings.Load(&got, settings.Source{File: file})
		if err == nil {
			_ = values.List()
			return
		}
		found, ok := errors.AsType[fleet.Diagnostics](err)
		if !ok || len(found) == 0 {
			t.Fatalf("%v", err)
		}
	})
}
