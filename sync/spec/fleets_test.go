package spec_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/spec"
)

var update = flag.Bool("update", false, "rewrite golden files")

const fleets = "../../testdata/fleets/"

func load(t *testing.T, dir string) (spec.Declarations, fleet.Diagnostics) {
	t.Helper()
	return spec.Load(os.DirFS(dir), spec.Options{})
}

func mustLoad(t *testing.T, dir string) spec.Declarations {
	t.Helper()
	decls, diags := load(t, dir)
	for _, d := range diags {
		if d.Severity != fleet.SeverityNote {
			t.Error(d)
		}
	}
	return decls
}

func stackNames(stacks []spec.Stack) []string {
	var names []string
	for i := range stacks {
		names = append(names, stacks[i].Name)
	}
	return names
}

func TestFleetMinimal(t *testing.T) {
	t.Parallel()
	decls := mustLoad(t, fleets+"minimal")
	if len(decls.Servers) != 1 || len(decls.Stacks) != 1 {
		t.Fatalf("%d servers and %d stacks, want 1 and 1", len(decls.Servers), len(decls.Stacks))
	}
	web := decls.Stacks[0]
	if web.Config.Server != "alpha" || web.Config.RunDirectory != "web" || !web.Config.AutoPull || web.Config.EnvFilePath != ".env" {
		t.Errorf("got %+v", web.Config)
	}
	if got := web.At("config.server").String(); got != "fleet.toml:7:1" {
		t.Errorf("config.server is at %s", got)
	}
	if got := web.At("config.links").String(); got != "fleet.toml:5:1" {
		t.Errorf("a field that is not set is at %s, want the table", got)
	}
}

func TestFleetHomelab(t *testing.T) {
	t.Parallel()
	decls := mustLoad(t, fleets+"homelab")
	want := []string{"proxy", "signin", "dns", "vault", "panel"}
	if diff := cmp.Diff(want, stackNames(decls.Stacks)); diff != "" {
		t.Fatalf("stacks (-want +got):\n%s", diff)
	}
	vault := decls.Stacks[3]
	if diff := cmp.Diff([]string{"proxy", "signin"}, vault.After); diff != "" {
		t.Errorf("after (-want +got):\n%s", diff)
	}
	if vault.Config.Server != "cellar1" || vault.Config.Repo != "house/docker" || vault.Config.GitAccount != "house" {
		t.Errorf("short forms: %+v", vault.Config)
	}
	if decls.Servers[0].Config.Tier != fleet.TierTrusted || decls.Servers[1].Config.Tier != fleet.TierUntrusted {
		t.Errorf("tiers: %s, %s", decls.Servers[0].Config.Tier, decls.Servers[1].Config.Tier)
	}
	if !decls.Servers[0].Config.Enabled || len(decls.Variables) != 5 || len(decls.Procedures) != 1 {
		t.Errorf("enabled %t, %d variables, %d procedures", decls.Servers[0].Config.Enabled, len(decls.Variables), len(decls.Procedures))
	}
}

func TestFleetKomodoForms(t *testing.T) {
	t.Parallel()
	decls := mustLoad(t, fleets+"komodo-forms")
	byName := map[string]spec.Stack{}
	for _, s := range decls.Stacks {
		byName[s.Name] = s
	}
	t.Run("servers", func(t *testing.T) {
		t.Parallel()
		enabled := map[string]bool{}
		for _, s := range decls.Servers {
			enabled[s.Name] = s.Config.Enabled
		}
		want := map[string]bool{"inline": true, "dial-out": true, "dial-in": false, "Old Box 2.0": true}
		if diff := cmp.Diff(want, enabled); diff != "" {
			t.Errorf("enabled (-want +got):\n%s", diff)
		}
		box := decls.Servers[3].Config
		if box.CPUWarning != 80 || box.MemWarning != 72.5 || box.DiskWarning != 75 || box.Tier != fleet.TierUntrusted {
			t.Errorf("got %+v", box)
		}
		if diff := cmp.Diff([]string{"https://one.example", "https://two.example", "https://three.example"}, box.Links); diff != "" {
			t.Errorf("links (-want +got):\n%s", diff)
		}
		window := spec.MaintenanceWindow{Name: "sunday", ScheduleType: "Weekly", DayOfWeek: "Sunday", Hour: 4, DurationMinutes: 60, Enabled: true}
		if diff := cmp.Diff([]spec.MaintenanceWindow{window}, box.MaintenanceWindows); diff != "" {
			t.Errorf("windows (-want +got):\n%s", diff)
		}
	})
	t.Run("environment", func(t *testing.T) {
		t.Parallel()
		want := []spec.EnvVar{
			{Name: "PLAIN", Value: "value"},
			{Name: "YAML", Value: "value with spaces"},
			{Name: "LIST", Value: "item"},
			{Name: "QUOTED", Value: "all of it"},
			{Name: "DOUBLE", Value: "kept # hash"},
			{Name: "SINGLE", Value: "kept: colon"},
			{Name: "URL", Value: "https://user@host:8080/?a=b#fragment"},
			{Name: "EMPTY", Value: ""},
			{Name: "BACKSLASH", Value: `C:\temp\new`},
			{Name: "REFERENCE", Value: "[[DOMAIN]]"},
		}
		got := byName["full"].Config.Environment
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(spec.EnvVar{}, "Pos")); diff != "" {
			t.Fatalf("environment (-want +got):\n%s", diff)
		}
		positions := map[string]string{"PLAIN": "21:1", "LIST": "23:3", "QUOTED": "24:4", "DOUBLE": "25:3", "REFERENCE": "30:3"}
		for _, e := range got {
			if want, ok := positions[e.Name]; ok && e.Pos.String() != "02-stacks.toml:"+want {
				t.Errorf("%s is at %s, want %s", e.Name, e.Pos, want)
			}
		}
		for _, name := range []string{"from-list", "from-tables"} {
			if got := byName[name].Config.Environment; len(got) != 2 || got[0].Name != "A" || got[0].Value != "1" || got[0].Pos.Line == 0 {
				t.Errorf("%s: %+v", name, got)
			}
		}
	})
	t.Run("places and lists", func(t *testing.T) {
		t.Parallel()
		short := byName["short"]
		if !short.Deploy || short.Config.Server != "inline" || len(short.After) != 1 {
			t.Errorf("short: %+v", short)
		}
		list := byName["from-list"]
		if diff := cmp.Diff([]string{"compose.yaml", "more.yaml"}, list.Config.FilePaths); diff != "" {
			t.Errorf("file_paths (-want +got):\n%s", diff)
		}
		if got := list.At("config.file_paths[1]").String(); got != "02-stacks.toml:48:36" {
			t.Errorf("second file path is at %s", got)
		}
		if got := byName["written-here"].Config.FileContents; got != "services:\n  one:\n    image: nginx:1.29-alpine\n" {
			t.Errorf("file_contents %q", got)
		}
	})
	t.Run("entries", func(t *testing.T) {
		t.Parallel()
		config := byName["with-files"].Config
		env := []spec.EnvFile{{Path: "shared.env", Track: true}, {Path: "secret.env"}}
		if diff := cmp.Diff(env, config.AdditionalEnvFiles); diff != "" {
			t.Errorf("additional_env_files (-want +got):\n%s", diff)
		}
		files := []spec.ConfigFile{
			{Path: "plain.conf", Requires: "None"},
			{Path: "one.conf", Services: []string{"web"}, Requires: "Restart"},
			{Path: "two.conf", Services: []string{"web"}, Requires: "Redeploy"},
		}
		if diff := cmp.Diff(files, config.ConfigFiles); diff != "" {
			t.Errorf("config_files (-want +got):\n%s", diff)
		}
		if want := (spec.SystemCommand{Path: "scripts", Command: "echo one \\\n  two\n"}); config.PreDeploy != want {
			t.Errorf("pre_deploy %+v", config.PreDeploy)
		}
	})
}

func TestFleetKomodoFormsNotes(t *testing.T) {
	t.Parallel()
	_, diags := load(t, fleets+"komodo-forms")
	golden(t, fleets+"komodo-forms.golden", diags.Error()+"\n")
}

func TestFleetBroken(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"broken", "broken-syntax"} {
		_, diags := load(t, fleets+name)
		text := ""
		for _, d := range diags {
			text += d.String() + "\n"
			if d.Hint != "" {
				text += "  hint: " + d.Hint + "\n"
			}
		}
		golden(t, fleets+name+".golden", text)
	}
}

// golden compares with a file, or rewrites it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", filepath.Base(path), diff)
	}
}

func TestExamples(t *testing.T) {
	t.Parallel()
	for name, stacks := range map[string][]string{
		"quickstart": {"cache", "api", "web"},
		"homelab":    {"proxy", "signin", "dns", "vault", "panel"},
	} {
		dir := "../../examples/" + name
		decls, diags := load(t, dir)
		if len(diags) > 0 {
			t.Errorf("%s: %s", name, diags.Error())
		}
		if diff := cmp.Diff(stacks, stackNames(decls.Stacks)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		for _, s := range decls.Stacks {
			run := filepath.Join(dir, s.Config.RunDirectory)
			if _, err := os.Stat(filepath.Join(run, "compose.yaml")); err != nil {
				t.Error(err)
			}
			_, err := os.Stat(filepath.Join(run, ".env.example"))
			if hasEnv := len(s.Config.Environment) > 0; hasEnv != (err == nil) {
				t.Errorf("%s/%s: environment %t, .env.example %v", name, s.Name, hasEnv, err)
			}
		}
	}
}

func TestFleetKomodoTypes(t *testing.T) {
	t.Parallel()
	decls, diags := spec.Load(os.DirFS(fleets+"komodo-types"), spec.Options{Offline: true})
	bad := slices.DeleteFunc(slices.Clone(diags), func(d fleet.Diagnostic) bool { return d.Rule == "execution-refused" })
	if diff := cmp.Diff([]string{"02-workloads.toml:87:1 name-normalized"}, located(bad)); diff != "" {
		t.Fatalf("diagnostics (-want +got):\n%s\n%s", diff, diags.Error())
	}
	diags = slices.DeleteFunc(diags, func(d fleet.Diagnostic) bool { return d.Rule == "not-acted-on" })
	golden(t, fleets+"komodo-types.golden", diags.Error()+"\n\n"+string(spec.Export(decls)))
}

func TestFleetAbsolute(t *testing.T) {
	t.Parallel()
	decls := mustLoad(t, fleets+"absolute")
	login := decls.Stacks[1].Config
	if login.RunDirectory != "/home/komodo/.komodo/stacks/login" || login.FilePaths[0] != "komodo/stacks/login/docker-compose.yml" {
		t.Errorf("login: %+v", login)
	}
	executions := decls.Procedures[0].Config.Stages[1].Executions
	if len(executions) != 2 || executions[1].Text("stack") != "resolver" || !executions[1].Enabled {
		t.Errorf("executions: %+v", executions)
	}
	if rotate := decls.Procedures[1]; rotate.Config.Schedule != "Every day at 06:00" || rotate.Config.Stages[0].Executions[0].Type != "RotateAllServerKeys" {
		t.Errorf("rotate: %+v", rotate.Config)
	}
	if scoped := decls.Variables[2]; !slices.Equal(scoped.Tags, []string{"scope:trusted"}) {
		t.Errorf("scoped: %+v", scoped)
	}
}
