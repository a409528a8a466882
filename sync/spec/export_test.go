package spec_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/spec"
)

// maker fills declarations with random values that a file can hold.
type maker struct{ t *rapid.T }

// Text that is awkward to write: quotes, backslashes, comments, separators, lines.
var textGen = rapid.StringOfN(rapid.SampledFrom([]rune("ab:=, \t\n\"'\\#[]{}-$é/*")), 0, 12, -1)

func (m maker) text() string { return textGen.Draw(m.t, "text") }

func (m maker) word() string { return rapid.StringMatching(`[a-z][a-z0-9_-]{0,8}`).Draw(m.t, "word") }

func (m maker) bool() bool { return rapid.Bool().Draw(m.t, "bool") }

func (m maker) secret() fleet.Secret {
	return fleet.NewSecret(rapid.SampledFrom([]string{"", "[[TOKEN]]"}).Draw(m.t, "secret"))
}

// few makes up to two of something.
func few[T any](m maker, one func() T) []T {
	var out []T
	for range rapid.IntRange(0, 2).Draw(m.t, "count") {
		out = append(out, one())
	}
	return out
}

// fill sets the fields of a struct that have keys, by their tags.
func (m maker) fill(v reflect.Value) {
	if v.Type() == reflect.TypeFor[spec.Target]() {
		v.Set(reflect.ValueOf(spec.Target{Type: rapid.SampledFrom([]string{"Server", "Stack"}).Draw(m.t, "type"), ID: m.word()}))
		return
	}
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		switch {
		case sf.Anonymous && sf.IsExported():
			m.fill(v.Field(i))
		case sf.Name == "Config" && sf.Tag.Get("key") == "":
			m.fill(v.Field(i))
		case sf.Tag.Get("key") != "":
			m.field(v.Field(i), sf)
		}
	}
}

func (m maker) field(v reflect.Value, sf reflect.StructField) {
	if enum := sf.Tag.Get("enum"); enum != "" {
		v.SetString(rapid.SampledFrom(strings.Split(enum, ",")).Draw(m.t, "enum"))
		return
	}
	var made any
	switch v.Interface().(type) {
	case fleet.Secret:
		made = m.secret()
	case time.Duration:
		made = time.Duration(rapid.IntRange(1, 10_000).Draw(m.t, "seconds")) * time.Second
	case []string:
		made = few(m, m.text)
		if sf.Tag.Get("key") == "stacks" {
			made = few(m, m.word)
		}
	case []spec.EnvVar:
		made = few(m, func() spec.EnvVar {
			e := m.entry(sf.Tag.Get("form") == "labels")
			if sf.Tag.Get("key") == "update_policy" {
				e.Value = m.tagPolicy()
			}
			return e
		})
	case []spec.Pair:
		made = few(m, func() spec.Pair { return spec.Pair{Local: "a" + m.text(), Container: m.text() + "b"} })
	case []spec.TypePermission:
		made = m.levels()
	case []spec.Execution:
		made = few(m, m.execution)
	case spec.Image:
		made = m.image()
	case spec.Endpoint:
		made = m.endpoint()
	case spec.BuilderConfig:
		made = m.builder()
	default:
		m.scalar(v, sf)
		return
	}
	v.Set(reflect.ValueOf(made))
}

func (m maker) scalar(v reflect.Value, sf reflect.StructField) {
	switch v.Kind() { //nolint:exhaustive // the declarations hold nothing else
	case reflect.String:
		s := m.text()
		if sf.Tag.Get("key") == "schedule" { // in words and for cron alike
			s = rapid.SampledFrom([]string{"", "@daily", "@hourly", "@weekly"}).Draw(m.t, "schedule")
		}
		if sf.Tag.Get("key") == "schedule_timezone" {
			s = rapid.SampledFrom([]string{"", "Europe/Berlin"}).Draw(m.t, "zone")
		}
		if sf.Tag.Get("form") == "share" {
			s = rapid.SampledFrom([]string{"", "2", "25%"}).Draw(m.t, "share")
		}
		if sf.Tag.Get("key") == "update_policy" {
			s = rapid.SampledFrom([]string{"", m.tagPolicy()}).Draw(m.t, "policy")
		}
		if sf.Tag.Get("form") == "file" {
			if s = strings.TrimRight(s, "\n"); strings.TrimSpace(s) != "" {
				s += "\n"
			}
		}
		v.SetString(s)
	case reflect.Bool:
		v.SetBool(m.bool())
	case reflect.Int:
		v.SetInt(int64(rapid.IntRange(0, 100).Draw(m.t, "int")))
	case reflect.Float64:
		v.SetFloat(float64(rapid.IntRange(0, 400).Draw(m.t, "float")) / 4)
	case reflect.Struct:
		m.fill(v)
	case reflect.Slice:
		for range rapid.IntRange(0, 2).Draw(m.t, "count") {
			item := reflect.New(v.Type().Elem()).Elem()
			m.fill(item)
			if w, ok := reflect.TypeAssert[*spec.SyncWindow](item.Addr()); ok {
				w.Schedule, w.Timezone = "@daily", "" // one that never opens is a fault
			}
			v.Set(reflect.Append(v, item))
		}
	}
}

func (m maker) tagPolicy() string {
	return rapid.SampledFrom([]string{"~1.4", "*", ">=1.4 <2 || ^3", `/^16\.\d+-"[a-z]#'=$/`}).Draw(m.t, "tags")
}

func (m maker) entry(label bool) spec.EnvVar {
	name := strings.ToUpper(strings.ReplaceAll(m.word(), "-", "_"))
	if label {
		name += m.text()
	}
	return spec.EnvVar{Name: name, Value: m.text()}
}

func (m maker) levels() []spec.TypePermission {
	var out []spec.TypePermission
	for _, typ := range []string{"Action", "Build", "Server", "Stack"} {
		if m.bool() {
			out = append(out, spec.TypePermission{Type: typ, Level: "Read", Specific: few(m, m.word)})
		}
	}
	return out
}

func (m maker) image() spec.Image {
	switch rapid.IntRange(0, 2).Draw(m.t, "image") {
	case 0:
		return spec.Image{}
	case 1:
		return spec.Image{Type: "Image", Image: m.text()}
	}
	return spec.Image{Type: "Build", Build: m.text(), Version: m.text()}
}

func (m maker) endpoint() spec.Endpoint {
	typ := rapid.SampledFrom([]string{"Custom", "Slack", "Ntfy"}).Draw(m.t, "endpoint")
	e := spec.Endpoint{Type: typ, URL: m.secret()}
	if typ == "Ntfy" {
		e.URL, e.Email = fleet.NewSecret("https://ntfy.example/topic"), m.text()
	}
	return e
}

func (m maker) builder() spec.BuilderConfig {
	switch rapid.IntRange(0, 2).Draw(m.t, "builder") {
	case 0:
		return spec.BuilderConfig{Type: "Url", Address: m.text(), InsecureTLS: m.bool(), Passkey: m.secret()}
	case 1:
		return spec.BuilderConfig{Type: "Server", Servers: few(m, m.text)}
	}
	return spec.BuilderConfig{
		Type: "Aws", Region: m.text(), InstanceType: m.text(), VolumeGB: 7, Port: 8120, UserData: m.text(),
		Secrets: few(m, m.text), UseHTTPS: m.bool(),
		GitProviders: few(m, func() spec.Provider {
			return spec.Provider{Domain: m.text(), HTTPS: m.bool(), Accounts: few(m, func() spec.ProviderAccount {
				return spec.ProviderAccount{Username: m.text(), Token: m.secret()}
			})}
		}),
	}
}

func (m maker) execution() spec.Execution {
	typ := rapid.SampledFrom(spec.ExecutionTypes()).Draw(m.t, "execution")
	e := spec.Execution{Type: typ.Name, Enabled: m.bool()}
	if m.bool() {
		m.fill(reflect.ValueOf(&e.Policy).Elem())
		e.When = "" // the stage's
	}
	for _, p := range typ.Params {
		if !p.Required && m.bool() {
			continue
		}
		given := spec.Param{Name: p.Name}
		switch p.Kind {
		case spec.ParamList, spec.ParamWords, spec.ParamReferences:
			given.List = few(m, m.text)
		case spec.ParamInt:
			given.Int = rapid.IntRange(0, 99).Draw(m.t, "int")
		case spec.ParamBool:
			given.Bool = m.bool()
		case spec.ParamObject:
			given.Text = m.object()
		case spec.ParamText, spec.ParamReference, spec.ParamPattern:
			given.Text = m.word()
		}
		e.Params = append(e.Params, given)
	}
	return e
}

func (m maker) object() string {
	out, err := json.Marshal(map[string]any{
		m.text(): m.text(), m.word(): 1.5, "n": 3, "flag": true, "list": []any{"a", map[string]any{"b": m.text()}}, "none": map[string]any{},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return string(out)
}

// resources makes some of every type.
func (m maker) resources() spec.Resources {
	var r spec.Resources
	for _, list := range reflect.ValueOf(&r).Elem().Fields() {
		for n := range rapid.IntRange(0, 2).Draw(m.t, "resources") {
			item := reflect.New(list.Type().Elem()).Elem()
			m.fill(item)
			item.FieldByName("Name").SetString(fmt.Sprintf("%c-%s", 'a'+n, m.word()))
			list.Set(reflect.Append(list, item))
		}
	}
	for i := range r.Stacks {
		r.Stacks[i].Config.ComposeCmdWrapper = ""
	}
	for i := range r.Procedures {
		m.sensible(&r.Procedures[i].Config)
	}
	for i := range r.Variables {
		if v := &r.Variables[i]; v.IsSecret {
			v.Value = fleet.Secret{}
		} else {
			v.Value = fleet.NewSecret(m.text())
		}
	}
	return r
}

// sensible makes the parts of a procedure fit each other.
func (maker) sensible(c *spec.ProcedureConfig) {
	for i := range c.Inputs {
		in := &c.Inputs[i]
		in.Name = fmt.Sprint("INPUT_", i)
		if in.Required = in.Required && c.Schedule == ""; in.Required {
			in.Default = ""
		} else if len(in.Options) > 0 {
			in.Default = in.Options[0]
		}
	}
	for i := range c.Stages {
		s := &c.Stages[i]
		if s.Approval {
			s.Executions, s.Retries = nil, 0
		} else {
			s.Approvers = nil
		}
	}
}

func TestExportReadsBackTheSame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := maker{t}.resources()
		out := spec.Export(spec.Declarations{Resources: want})
		file, diags := spec.ParseFile("export.toml", out)
		if diags.HasErrors() {
			t.Fatalf("%s\nin\n%s", diags.Error(), out)
		}
		if diff := cmp.Diff(want, file.Resources, sameValues); diff != "" {
			t.Fatalf("(-want +got):\n%s\nin\n%s", diff, out)
		}
		again := spec.Export(spec.Declarations{Resources: file.Resources})
		if string(again) != string(out) {
			t.Fatalf("a second export differs (-first +second):\n%s", cmp.Diff(string(out), string(again)))
		}
	})
}

func TestExportLeavesSecretsOut(t *testing.T) {
	t.Parallel()
	out := string(spec.Export(spec.Declarations{Resources: parseLoud(`
[[variable]]
name = "OPEN"
value = "shown"
[[variable]]
name = "SHUT"
is_secret = true
value = "canary-1"
[[stack]]
name = "web"
webhook_secret = "canary-2"
[[server]]
name = "s"
passkey = "canary-3"
[[builder]]
name = "b"
config = { type = "Aws", params.git_providers = [{ domain = "d", accounts = [{ username = "u", token = "canary-4" }] }] }
[[alerter]]
name = "chat"
endpoint = { type = "Discord", params.url = "https://discord.example/canary-5" }
[[alerter]]
name = "own"
endpoint = { type = "Custom", params.url = "http://me:canary-6@alerts.lan/" }
[[alerter]]
name = "plain"
endpoint = { type = "Custom", params.url = "http://alerts.lan:7000" }
[[alerter]]
name = "stored"
endpoint = { type = "Slack", params.url = "[[SLACK_URL]]" }
`)}))
	if strings.Contains(out, "canary") {
		t.Errorf("a secret is exported:\n%s", out)
	}
	for _, want := range []string{`value = "shown"`, "# value is secret", "# webhook_secret is secret", `"http://alerts.lan:7000"`, `"[[SLACK_URL]]"`} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
}

// parseLoud reads a file that may have warnings.
func parseLoud(src string) spec.Resources {
	file, _ := spec.ParseFile("fleet.toml", []byte(src))
	return file.Resources
}

func TestExportOfFixturesReadsBackTheSame(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"minimal", "homelab", "komodo-forms"} {
		decls, _ := load(t, fleets+dir)
		out := spec.Export(decls)
		again := parseLoud(string(out))
		withheld := regexp.MustCompile(`(?m)^# .* is secret, and left out\n`).ReplaceAllString(string(out), "")
		if diff := cmp.Diff(withheld, string(spec.Export(spec.Declarations{Resources: again}))); diff != "" {
			t.Errorf("%s (-first +second):\n%s", dir, diff)
		}
	}
}
