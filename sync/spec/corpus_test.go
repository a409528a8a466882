package spec_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/spec"
)

// found lists diagnostics worse than a note as "line:col rule".
func found(ds fleet.Diagnostics) []string {
	var out []string
	for _, d := range ds {
		if d.Severity != fleet.SeverityNote {
			out = append(out, fmt.Sprintf("%d:%d %s", d.Line, d.Col, d.Rule))
		}
	}
	return out
}

func hintOf(ds fleet.Diagnostics, rule string) string {
	for _, d := range ds {
		if d.Rule == rule {
			return d.Message + "; " + d.Hint
		}
	}
	return ""
}

func TestFaultsAreReportedWhereTheyAre(t *testing.T) {
	tests := []struct {
		name string
		src  string
		want []string
		// says is part of the message or hint of the first one.
		says string
	}{
		{"empty file", "", nil, ""},
		{"only comments", "# nothing\n\n# here\n", nil, ""},
		{"duplicate key in table", "[[server]]\nname = \"a\"\nname = \"b\"\n", []string{"3:1 duplicate-key"}, "first on line 2"},
		{"duplicate dotted key", "[[stack]]\nname = \"a\"\nconfig.server = \"x\"\nconfig.server = \"y\"\n", []string{"4:8 duplicate-key"}, "line 3"},
		{"table twice", "[server]\nname = \"a\"\n[server]\nname = \"b\"\n", []string{"1:2 type", "3:1 duplicate-key"}, "[[server]]"},
		{"table then list of tables", "[server]\n[[server]]\nname = \"b\"\n", []string{"1:2 type", "2:1 table-conflict"}, "[[server]]"},
		{"list of tables then table", "[[server]]\nname = \"b\"\n[server]\nname = \"c\"\n", []string{"3:1 table-conflict"}, "[[server]] here too"},
		{"config header twice", "[[stack]]\nname = \"a\"\nserver = \"s\"\n[stack.config]\n[stack.config]\n", []string{"5:1 duplicate-key"}, ""},
		{"inline table extended by a header", "[[stack]]\nname = \"a\"\nconfig = {server = \"s\"}\n[stack.config.pre_deploy]\n", []string{"4:8 table-conflict"}, "line 3"},
		{"value used as a table", "[[stack]]\nname = \"a\"\nname.x = 1\n", []string{"3:1 table-conflict"}, "a string"},
		{"both cases of a key", "[[server]]\nname = \"a\"\nNAME = \"b\"\n", []string{"3:1 key-case"}, "write `name`"},
		{"wrong case alone", "[[server]]\nname = \"a\"\nTier = \"trusted\"\n", []string{"3:1 key-case"}, "write `tier`"},
		{"wrong case of a table", "[[Server]]\nname = \"a\"\n", []string{"1:3 key-case"}, "write `server`"},
		{"misspelt key", "[[server]]\nname = \"x\"\nnaem = \"a\"\n", []string{"3:1 unknown-key"}, "did you mean `name`?"},
		{"misspelt name", "[[server]]\n# a\nnaem = \"a\"\n", []string{"1:1 missing-name", "3:1 unknown-key"}, ""},
		{"misspelt table", "[[stak]]\nname = \"a\"\n", []string{"1:3 unknown-key"}, "did you mean `stack`?"},
		{"misspelt config key", "[[stack]]\nname = \"a\"\nserver = \"s\"\n[stack.config]\nfile_path = [\"x\"]\n", []string{"5:1 unknown-key"}, "did you mean `file_paths`?"},
		{"misspelt key in a small table", "[[stack]]\nname = \"a\"\nserver = \"s\"\npre_deploy = {comand = \"x\"}\n", []string{"4:15 unknown-key"}, "did you mean `command`?"},
		{"key with a word more", "[[stack]]\nname = \"a\"\nserver = \"s\"\n[stack.config]\ncompose_file_paths = \"x\"\n", []string{"5:1 unknown-key"}, "did you mean `file_paths`?"},
		{"another word behind a key", "[[resource_sync]]\nname = \"a\"\ndelete_unmatched = true\n", []string{"3:1 unknown-key"}, "did you mean `delete`?"},
		{"secrets of core", "[[server]]\nname = \"a\"\n[secrets]\nA = \"x\"\n", []string{"3:2 unknown-key"}, "varan secret set"},
		{"tags inside config", "[[stack]]\nname = \"a\"\nserver = \"s\"\n[stack.config]\ntags = [\"x\"]\n", []string{"5:1 unknown-key"}, "directly under [[stack]]"},
		{"deploy on a server", "[[server]]\nname = \"a\"\ndeploy = true\n", []string{"3:1 unknown-key"}, ""},
		{"file of an application", "[log]\nlevel = \"INFO\"\n", nil, ""},
		{"integer for a string", "[[server]]\nname = 3\n", []string{"2:8 type"}, "`name` must be a string, not an integer"},
		{"quoted boolean", "[[stack]]\nname = \"a\"\nserver = \"s\"\nauto_pull = \"false\"\n", []string{"4:13 type"}, "remove the quotes"},
		{"string for a list item", "[[stack]]\nname = \"a\"\nserver = \"s\"\nafter = [\"x\", 3]\n", []string{"4:15 type"}, "`after[1]`"},
		{"string for a table", "[[stack]]\nname = \"a\"\nserver = \"s\"\nconfig = \"x\"\n", []string{"4:10 type"}, "a table"},
		{"a single resource as a table", "[server]\nname = \"a\"\n", []string{"1:2 type"}, "[[server]]"},
		{"integer overflow", "[[server]]\nname = \"a\"\n[[server.config.maintenance_windows]]\nhour = 99999999999999999999\n", []string{"4:8 type"}, ""},
		{"negative integer", "[[server]]\nname = \"a\"\n[[server.config.maintenance_windows]]\nhour = -1\n", []string{"4:8 type"}, ""},
		{"not a number", "[[server]]\nname = \"a\"\ncpu_warning = nan\n", []string{"3:15 type"}, "finite"},
		{"infinite number", "[[server]]\nname = \"a\"\ncpu_warning = -inf\n", []string{"3:15 type"}, "finite"},
		{"date for a string", "[[server]]\nname = \"a\"\nregion = 9999-99-99\n", []string{"3:10 type"}, "a date or time"},
		{"unknown word", "[[server]]\nname = \"a\"\ntier = \"untrustd\"\n", []string{"3:8 invalid-value"}, "did you mean `untrusted`?"},
		{"invalid utf-8", "[[server]]\nname = \"a\xff\"\n", []string{"2:10 invalid-utf8"}, "0xFF at offset 20"},
		{"nul byte", "[[server]]\nname = \"a\x00\"\n", []string{"2:10 control-character"}, "U+0000"},
		{"raw escape character", "[[server]]\nname = \"a\x1b\"\n", []string{"2:10 control-character"}, "U+001B"},
		{"escaped control character", "[[server]]\nname = \"\\u001b[31m\"\n", []string{"2:8 control-character"}, "U+001B"},
		{"bidi override in a name", "[[server]]\nname = \"a\u202Eb\"\n", []string{"2:10 invisible-character"}, "U+202E"},
		{"escaped bidi override", "[[server]]\nname = \"a\"\ndescription = \"\\u202E\"\n", []string{"3:15 invisible-character"}, "U+202E"},
		{"zero width space in a name", "[[server]]\nname = \"a\u200B\"\n", []string{"2:10 invisible-character"}, "U+200B"},
		{"zero width joiner in a name", "[[server]]\nname = \"a\u200Db\"\n", []string{"2:8 invalid-name"}, "U+200D"},
		{"bidi override in a comment", "# \u202E\n[[server]]\nname = \"a\"\n", []string{"1:3 invisible-character"}, ""},
		{"emoji in a description", "[[server]]\nname = \"a\"\ndescription = \"\U0001F3F3\uFE0F\u200D\U0001F308\"\n", nil, ""},
		{"homoglyph in a name", "[[server]]\nname = \"\u0430pi\"\n", []string{"2:8 invalid-name"}, "U+0430"},
		{"lone surrogate", "[[server]]\nname = \"\\uD800\"\n", []string{"2:9 toml-syntax"}, ""},
		{"byte order mark", "\xEF\xBB\xBF[[server]]\nname = 3\n", []string{"1:1 byte-order-mark", "2:8 type"}, ""},
		{"utf-16", "\xFF\xFE[\x00[\x00", []string{"1:1 invalid-utf8"}, "UTF-16"},
		{"utf-16 without a mark", "[\x00[\x00", []string{"1:1 invalid-utf8"}, "UTF-16"},
		{"cr line ends", "[[server]]\rname = \"a\"\r", []string{"1:11 line-endings"}, "LF"},
		{"crlf line ends", "[[server]]\r\nname = \"a\"\r\nnaem = 1\r\n", []string{"3:1 unknown-key"}, ""},
		{"merge conflict", "<<<<<<< HEAD\n[[server]]\n=======\n>>>>>>> other\n", []string{"1:1 merge-conflict-marker"}, ""},
		{"unterminated string", "[[server]]\nname = \"a\n", []string{"2:8 unterminated"}, ""},
		{"unterminated text", "[[stack]]\nname = \"a\"\nenvironment = \"\"\"\nA = 1\n", []string{"3:15 unterminated"}, ""},
		{"unterminated list", "[[stack]]\nname = \"a\"\nafter = [\n  \"b\",\n", []string{"3:9 unterminated"}, ""},
		{"unterminated header", "[[server]]\nname = \"a\"\n[[stack\n", []string{"3:1 unterminated"}, ""},
		{"apostrophe in a bare value", "[[server]]\nname = don't\n", []string{"2:8 toml-syntax"}, ""},
		{"no value", "[[server]]\nname =\n", []string{"2:7 toml-syntax"}, ""},
		{"unknown escape in a line", "[[server]]\nname = \"a\\qb\"\n", []string{"2:10 toml-syntax"}, ""},
		{"key of too many parts", "[[server]]\nname = \"a\"\n" + strings.Repeat("a.", 40) + "a = 1\n", []string{"3:65 too-deep"}, "32"},
		{"header of too many parts", "[" + strings.Repeat("a.", 100_000) + "a]\n", []string{"1:66 too-deep"}, ""},
		{"nested too deep", "a = " + strings.Repeat("[", 100_000), []string{"1:37 too-deep"}, ""},
		{"just deep enough", "[[server]]\nname = \"a\"\nlinks = " + strings.Repeat("[", 32) + strings.Repeat("]", 32), []string{"3:9 type"}, ""},
		{"long name", "[[server]]\nname = \"" + strings.Repeat("a", 64) + "\"\n", []string{"2:8 invalid-name"}, "63"},
		{"longest name", "[[server]]\nname = \"" + strings.Repeat("a", 63) + "\"\n", nil, ""},
		{"empty name", "[[server]]\nname = \"\"\n", []string{"2:8 invalid-name"}, "empty"},
		{"no name", "\n[[server]]\ndescription = \"x\"\n", []string{"2:1 missing-name"}, ""},
		{"dot", "[[server]]\nname = \".\"\n", []string{"2:8 invalid-name"}, ""},
		{"dots", "[[server]]\nname = \"..\"\n", []string{"2:8 invalid-name"}, ""},
		{"leading dash", "[[server]]\nname = \"-x\"\n", []string{"2:8 invalid-name"}, ""},
		{"slash", "[[server]]\nname = \"a/b\"\n", []string{"2:8 invalid-name"}, ""},
		{"star", "[[server]]\nname = \"*\"\n", []string{"2:8 invalid-name"}, ""},
		{"reserved name", "[[server]]\nname = \"CON\"\n", []string{"2:8 invalid-name"}, "reserved"},
		{"trailing space", "[[server]]\nname = \"a \"\n", []string{"2:8 invalid-name"}, "ends in"},
		{"name like an id", "[[server]]\nname = \"0123456789abcdef01234567\"\n", []string{"2:8 invalid-name"}, "id"},
		{"stack name with capitals", "[[stack]]\nname = \"My Stack\"\nserver = \"s\"\n", []string{"2:1 name-normalized"}, "write `my_stack`"},
		{"private key as a variable", "[[variable]]\nname = \"K\"\nvalue = \"\"\"\n-----BEGIN RSA PRIVATE KEY-----\nabc\"\"\"\n", []string{"3:1 plaintext-secret"}, ""},
		{"access key in an environment", "[[stack]]\nname = \"a\"\nserver = \"s\"\nenvironment = \"\"\"\nX = 1\nK = AKIAABCDEFGHIJKLMNOP\n\"\"\"\n", []string{"6:1 plaintext-secret"}, "`K`"},
		{"secret variable with a value", "[[variable]]\nname = \"K\"\nis_secret = true\nvalue = \"hunter2\"\n", []string{"4:1 plaintext-secret"}, ""},
		{"field in two places", "[[stack]]\nname = \"a\"\nserver = \"s\"\n[stack.config]\nserver = \"s\"\n", []string{"5:1 duplicate-field"}, "first on line 3"},
		{"two spellings of a field", "[[stack]]\nname = \"a\"\nserver = \"s\"\nserver_id = \"s\"\n", []string{"4:1 duplicate-field"}, ""},
		{"after in two places", "[[stack]]\nname = \"a\"\nserver = \"s\"\nafter = [\"b\"]\n[stack.config]\nafter = [\"b\"]\n", []string{"6:1 duplicate-field"}, ""},
		{"tier and tag disagree", "[[server]]\nname = \"a\"\ntier = \"trusted\"\ntags = [\"untrusted\"]\n", []string{"3:1 tier-conflict"}, "line 4"},
		{"both tier tags", "[[server]]\nname = \"a\"\ntags = [\"trusted\", \"tier:untrusted\"]\n", []string{"3:1 tier-conflict"}, ""},
		{"environment line without a key", "[[stack]]\nname = \"a\"\nserver = \"s\"\nenvironment = \"\"\"\nA = 1\n  just words\n\"\"\"\n", []string{"6:3 environment-syntax"}, "KEY = value"},
		{"environment name", "[[stack]]\nname = \"a\"\nserver = \"s\"\nenvironment = \"A=1\\nB C=2\"\n", []string{"4:15 environment-name"}, "`B C`"},
		{"environment name twice", "[[stack]]\nname = \"a\"\nserver = \"s\"\nenvironment = '''\nA = 1\n- A: 2\n'''\n", []string{"6:3 duplicate-variable"}, "line 5"},
		{"control character in a schedule", "[[procedure]]\nname = \"a\"\n[procedure.config]\nschedule = \"every day\\u001b[31m\"\n", []string{"4:12 control-character"}, ""},
		{"invisible character in a time zone", "[[procedure]]\nname = \"a\"\n[procedure.config]\nschedule_timezone = \"Mars/\u202EX\"\n", []string{"4:27 invisible-character"}, ""},
		{"unknown form of schedule", "[[procedure]]\nname = \"a\"\n[procedure.config]\nschedule_format = \"Crno\"\n", []string{"4:19 invalid-value"}, "did you mean `Cron`?"},
		{"environment as a table", "[[stack]]\nname = \"a\"\nserver = \"s\"\n[stack.config.environment]\nA = \"1\"\n", []string{"4:1 type"}, "KEY = value"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var diags fleet.Diagnostics
			bounded(t, func() { _, diags = spec.ParseFile("fleet.toml", []byte(tt.src)) })
			if diff := cmp.Diff(tt.want, found(diags)); diff != "" {
				t.Fatalf("diagnostics (-want +got):\n%s\n%s", diff, diags.Error())
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

func TestLimitsOfAFile(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	for _, size := range []int{limit - 1, limit, limit + 1} {
		src := []byte("#" + strings.Repeat("x", size-1))
		_, diags := spec.ParseFile("big.toml", src)
		want := []string(nil)
		if size > limit {
			want = []string{"1:1 file-too-large"}
		}
		if diff := cmp.Diff(want, found(diags)); diff != "" {
			t.Errorf("%d bytes (-want +got):\n%s", size, diff)
		}
	}
}

func TestErrorsOfAFileAreBounded(t *testing.T) {
	var unknown, wrong strings.Builder
	unknown.WriteString("[[server]]\nname = \"a\"\n")
	for i := range 50_000 {
		fmt.Fprintf(&unknown, "key%d = 1\n", i)
		fmt.Fprintf(&wrong, "[[server]]\n")
	}
	for src, last := range map[string]string{unknown.String(): "too-many-unknown-keys", wrong.String(): "too-many-errors"} {
		var diags fleet.Diagnostics
		bounded(t, func() { _, diags = spec.ParseFile("fleet.toml", []byte(src)) })
		got := found(diags)
		if len(got) != 21 || !strings.HasSuffix(got[20], last) {
			t.Errorf("%d errors, the last is %s; want 21 and %s", len(got), got[len(got)-1], last)
		}
	}
}

func TestMessagesHideValuesAndControls(t *testing.T) {
	t.Parallel()
	for _, src := range []string{
		"[[variable]]\nname = \"K\"\nis_secret = true\nvalue = \"hunter2\"\n",
		"[[variable]]\nname = \"K\"\nvalue = \"-----BEGIN PRIVATE KEY----- hunter2\"\n",
		"[[stack]]\nname = \"a\"\nenvironment = \"hunter2\"\n",
		"[[stack]]\nname = \"a\"\nenvironment = [\"hunter2\"]\n",
		"[[server]]\nname = \"\\u001b[31m\\u202E\"\n\"\\u001b[2J\" = 1\n",
	} {
		file, diags := spec.ParseFile("fleet.toml", []byte(src))
		text := diags.Error() + fmt.Sprintf("%v %+v %#v", file.Variables, file.Variables, file.Variables)
		for _, d := range diags {
			text += d.Hint
		}
		if strings.Contains(text, "hunter2") || strings.ContainsAny(text, "\x1b\u202E") {
			t.Errorf("shown: %q", text)
		}
	}
}
