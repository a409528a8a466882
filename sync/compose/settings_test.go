package compose_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
)

const twoServices = `services:
  app: {image: a, volumes: ["./conf:/conf"]}
  db: {image: b, volumes: ["./conf/shared:/s"]}
  other: {image: c}
`

func configRequest() compose.Request {
	return request(files(map[string]string{
		"compose.yaml": twoServices, "conf/app.toml": "1", "conf/shared": "1", "loose/x": "1", "loose/y": "1",
	}))
}

func restarts(tb testing.TB, req compose.Request) map[string]string {
	tb.Helper()
	out := map[string]string{}
	for _, s := range mustLoad(tb, req).Release.Services {
		out[s.Name] = string(s.Restart)
	}
	return out
}

func TestConfigFilesChooseTheReaction(t *testing.T) {
	for name, tc := range map[string]struct {
		listed                []compose.ConfigFile
		edit                  string
		redeployed, restarted []string
	}{
		"not listed":         {nil, "conf/app.toml", []string{"app"}, nil},
		"redeploy all":       {[]compose.ConfigFile{{Path: "loose/x", Requires: compose.ReactRedeploy}}, "loose/x", []string{"app", "db", "other"}, nil},
		"redeploy one":       {[]compose.ConfigFile{{Path: "loose/x", Requires: compose.ReactRedeploy, Services: []string{"db"}}}, "loose/x", []string{"db"}, nil},
		"restart all":        {[]compose.ConfigFile{{Path: "./loose/x", Requires: compose.ReactRestart}}, "loose/x", nil, []string{"app", "db", "other"}},
		"restart mounted":    {[]compose.ConfigFile{{Path: "conf/shared", Requires: compose.ReactRestart, Services: []string{"app", "other"}}}, "conf/shared", nil, []string{"app", "other"}},
		"none":               {[]compose.ConfigFile{{Path: "conf/app.toml", Requires: compose.ReactNone}}, "conf/app.toml", nil, nil},
		"default is none":    {[]compose.ConfigFile{{Path: "conf/app.toml"}}, "conf/app.toml", nil, nil},
		"directory":          {[]compose.ConfigFile{{Path: "loose", Requires: compose.ReactRestart, Services: []string{"db"}}}, "loose/y", nil, []string{"db"}},
		"the other file":     {[]compose.ConfigFile{{Path: "conf/app.toml"}}, "conf/shared", []string{"app", "db"}, nil},
		"redeploy outweighs": {[]compose.ConfigFile{{Path: "loose/x", Requires: compose.ReactRestart}, {Path: "loose", Requires: compose.ReactRedeploy, Services: []string{"db"}}}, "loose/x", []string{"db"}, []string{"app", "other"}},
	} {
		t.Run(name, func(t *testing.T) {
			req := configRequest()
			req.ConfigFiles = tc.listed
			digestsBefore, restartsBefore := digests(t, req), restarts(t, req)
			req.Tree.(tree).MapFS[tc.edit].Data = []byte("2")
			if diff := cmp.Diff(tc.redeployed, changed(digestsBefore, digests(t, req))); diff != "" {
				t.Errorf("redeployed (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.restarted, changed(restartsBefore, restarts(t, req))); diff != "" {
				t.Errorf("restarted (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfigFilesAreReleasedAndExplained(t *testing.T) {
	req := configRequest()
	origin := fleet.Position{File: "stacks.toml", Line: 12, Col: 5}
	req.ConfigFiles = []compose.ConfigFile{
		{Path: "loose/x", Origin: origin}, {Path: "loose/y", Requires: compose.ReactRestart, Services: []string{"db"}, Origin: origin},
	}
	result := mustLoad(t, req)
	var got []string
	for _, f := range result.Release.Files {
		got = append(got, f.Path)
	}
	if diff := cmp.Diff([]string{"conf/app.toml", "conf/shared", "loose/x", "loose/y"}, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	f := fieldOf(t, service(t, result, "db"), "file ./loose/y")
	if f.Value != fleet.SumDigest([]byte("1")).Short() || f.Origin != origin {
		t.Errorf("field %+v", f)
	}
	if paths := fieldPaths(service(t, result, "app")); strings.Contains(paths, "loose") {
		t.Errorf("app has fields %s", paths)
	}
}

func TestConfigFileFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		file     compose.ConfigFile
		severity fleet.Severity
		rule     string
	}{
		"missing":  {compose.ConfigFile{Path: "conf/ap.toml"}, fleet.SeverityError, "file-not-found"},
		"outside":  {compose.ConfigFile{Path: "../x"}, fleet.SeverityError, "path-outside"},
		"service":  {compose.ConfigFile{Path: "loose/x", Services: []string{"dbb"}}, fleet.SeverityError, "undefined-service"},
		"disabled": {compose.ConfigFile{Path: "loose/x", Services: []string{"off"}}, fleet.SeverityNote, "undefined-service"},
	} {
		t.Run(name, func(t *testing.T) {
			req := configRequest()
			req.Tree.(tree).MapFS["compose.yaml"].Data = []byte(twoServices + "  off: {image: o, profiles: [x]}\n")
			tc.file.Origin = fleet.Position{File: "stacks.toml", Line: 12, Col: 5}
			req.ConfigFiles = []compose.ConfigFile{tc.file}
			_, findings := compose.Load(t.Context(), req)
			wantFinding(t, findings, tc.severity, tc.rule, "stacks.toml:12:5")
		})
	}
}

func TestExtraArgs(t *testing.T) {
	type result struct {
		Up    fleet.UpOptions
		Build fleet.BuildOptions
		Pull  bool
		Run   bool
	}
	for name, tc := range map[string]struct {
		up, build []string
		want      result
	}{
		"nothing": {nil, nil, result{}},
		"flags": {
			[]string{"--force-recreate --always-recreate-deps", "-V", "--no-deps", "-t", "20"},
			nil,
			result{Up: fleet.UpOptions{
				ForceRecreate: true, AlwaysRecreateDeps: true, RenewAnonymousVolume: true, NoDeps: true, TimeoutSeconds: 20,
			}},
		},
		"spellings":  {[]string{"-dVt20", "--no-recreate=true", "--force-recreate=false"}, nil, result{Up: fleet.UpOptions{NoRecreate: true, RenewAnonymousVolume: true, TimeoutSeconds: 20}}},
		"pull":       {[]string{"--pull", "always"}, nil, result{Pull: true}},
		"build":      {[]string{"--build"}, nil, result{Run: true}},
		"build args": {nil, []string{"--no-cache --pull", "--build-arg 'A=b c'", "--build-arg=B"}, result{Build: fleet.BuildOptions{NoCache: true, Pull: true, Args: map[string]string{"A": "b c", "B": "own"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			req := one(app(""))
			req.Environment = []compose.Variable{{Name: "B", Value: "own"}}
			req.ExtraArgs, req.BuildExtraArgs = tc.up, tc.build
			options := mustLoad(t, req).Release.Options
			got := result{options.Up, options.BuildWith, options.Pull, options.Build}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExtraArgsChangeTheModel(t *testing.T) {
	req := one("services: {a: {image: a}, b: {image: b, profiles: [x], deploy: {replicas: 3}}}\n")
	req.ExtraArgs = []string{"--profile x --scale b=2"}
	if b := service(t, mustLoad(t, req), "b"); b.Replicas != 2 {
		t.Errorf("%d replicas", b.Replicas)
	}
}

func TestExtraArgsThatAreNotSupported(t *testing.T) {
	at := compose.Settings{ExtraArgs: fleet.Position{File: "stacks.toml", Line: 8, Col: 3}, BuildExtraArgs: fleet.Position{File: "stacks.toml", Line: 9, Col: 3}}
	for arg, severity := range map[string]fleet.Severity{
		"--wait": fleet.SeverityNote, "-d": fleet.SeverityNote, "--remove-orphans": fleet.SeverityNote,
		"--quiet-pull": fleet.SeverityNote, "--no-build": fleet.SeverityNote, "--wait-timeout 3": fleet.SeverityNote,
		"--env-file x": fleet.SeverityError, "--abort-on-container-exit": fleet.SeverityError, "web": fleet.SeverityError,
		"--unheard-of": fleet.SeverityError, "'open": fleet.SeverityError, "--timeout x": fleet.SeverityError,
		"--timeout -1": fleet.SeverityError, "--scale app=x": fleet.SeverityError, "--scale app=101": fleet.SeverityError,
		"--pull never": fleet.SeverityError, "--force-recreate --no-recreate": fleet.SeverityError,
	} {
		t.Run(arg, func(t *testing.T) {
			req := one(app(""))
			req.Settings, req.ExtraArgs = at, []string{arg}
			_, findings := compose.Load(t.Context(), req)
			wantFinding(t, findings, severity, "extra-args", "stacks.toml:8:3")
		})
	}
	for _, arg := range []string{"--push", "--ssh default", "--build-arg NONE", "--build-arg S=zq9secret", "app"} {
		t.Run(arg, func(t *testing.T) {
			req := one(app(""))
			req.Settings, req.BuildExtraArgs, req.Secrets = at, []string{arg}, []string{"zq9secret"}
			req.Options.Build = true
			_, findings := compose.Load(t.Context(), req)
			wantFinding(t, findings, fleet.SeverityError, "extra-args", "stacks.toml:9:3")
			if strings.Contains(findings.Error(), "zq9secret") {
				t.Errorf("findings: %v", findings)
			}
		})
	}
	req := one(app(""))
	req.Settings, req.ExtraArgs, req.BuildExtraArgs = at, []string{"--build"}, []string{"--build"}
	_, findings := compose.Load(t.Context(), req) // nothing is built
	wantFinding(t, findings, fleet.SeverityWarning, "extra-args", "stacks.toml:9:3")
	req = one(app(""))
	req.Settings, req.ExtraArgs = at, []string{"--scale ap=2"}
	_, findings = compose.Load(t.Context(), req)
	wantFinding(t, findings, fleet.SeverityError, "undefined-service", "stacks.toml:8:3")
}

func TestHooksAreSaltedScripts(t *testing.T) {
	for name, tc := range map[string]struct {
		hook compose.Hook
		want string
	}{
		"lines":     {compose.Hook{Command: "\n# first\ncd conf\n  make all  # second\n\n"}, "cd conf\nmake all\n"},
		"continued": {compose.Hook{Command: "docker run \\\n  # why\n  --rm \\\n  x\necho 'a # b' done\\\n"}, "docker run --rm x\necho 'a # b' done\n"},
		"windows":   {compose.Hook{Command: "a\r\nb\r\n"}, "a\nb\n"},
		"no space":  {compose.Hook{Command: "echo a#b"}, "echo a#b\n"},
		"shell":     {compose.Hook{Command: "for i in 1; do\n  echo $i # x\ndone", Shell: true}, "for i in 1; do\n  echo $i # x\ndone\n"},
		"secret":    {compose.Hook{Command: "login zq9secret", Path: "./conf/"}, "login zq9secret\n"},
	} {
		t.Run(name, func(t *testing.T) {
			req := one(app(""))
			req.PreDeploy, req.Secrets = tc.hook, []string{"zq9secret"}
			result := mustLoad(t, req)
			command := result.Release.Options.PreDeploy
			salt, script, _ := strings.Cut(blob(t, result, req, command.Script), "\n")
			if script != tc.want || !strings.HasPrefix(salt, "# hmac:") {
				t.Errorf("script %q after %q, want %q", script, salt, tc.want)
			}
			if command.Shell != tc.hook.Shell || tc.hook.Path != "" && command.Path != "conf" {
				t.Errorf("command %+v", command)
			}
			req.Key = []byte("another key")
			if mustLoad(t, req).Release.Options.PreDeploy.Script == command.Script {
				t.Error("the digest of the script does not depend on the key")
			}
		})
	}
	req := one(app(""))
	req.PostDeploy = compose.Hook{Command: " \n# nothing\n"}
	if got := mustLoad(t, req).Release.Options.PostDeploy; got != (fleet.Command{}) {
		t.Errorf("a hook of comments: %+v", got)
	}
	req.PostDeploy = compose.Hook{Command: "x", Path: "../y"}
	req.Settings.PostDeploy = fleet.Position{File: "stacks.toml", Line: 9, Col: 3}
	_, findings := compose.Load(t.Context(), req)
	wantFinding(t, findings, fleet.SeverityError, "path-outside", "stacks.toml:9:3")
}

func TestInterpolateFiles(t *testing.T) {
	req := request(files(map[string]string{
		"compose.yaml": "services:\n  app:\n    image: a:[[TAG]]\n    volumes: [\"./conf:/conf\"]\n    configs: [c]\nconfigs: {c: {file: in.cfg}}\n",
		"conf/listed":  "tag [[TAG]]\n", "conf/secret": "pass [[PASS]]\n", "conf/other": "[[TAG]]\n", "in.cfg": "[[TAG]]",
		"conf/binary": "\xff[[TAG]]",
	}))
	req.ConfigFiles = []compose.ConfigFile{
		{Path: "conf/listed", Requires: compose.ReactRedeploy}, {Path: "conf/secret", Requires: compose.ReactRestart}, {Path: "conf/binary"},
	}
	req.InterpolateFiles = func(file, text string) compose.Interpolated {
		out := compose.Interpolated{Text: strings.NewReplacer("[[TAG]]", "1", "[[PASS]]", "zq9secret").Replace(text)}
		if strings.Contains(text, "[[TAG]]") {
			out.Variables = append(out.Variables, "TAG")
			out.Findings = fleet.Diagnostics{{Rule: "seen", Severity: fleet.SeverityNote, Position: fleet.Position{File: file, Line: 1}}}
		}
		if strings.Contains(text, "[[PASS]]") {
			out.Secrets = []string{"zq9secret"}
		}
		return out
	}
	result, findings := compose.Load(t.Context(), req)
	for _, file := range []string{"compose.yaml:1", "conf/listed:1", "in.cfg:1"} {
		wantFinding(t, findings, fleet.SeverityNote, "seen", file)
	}
	if f := fieldOf(t, service(t, result, "app"), "image"); f.Value != "a:1" {
		t.Errorf("image %q", f.Value)
	}
	got := map[string]string{}
	for _, f := range result.Release.Files {
		text := blob(t, result, req, f.Digest)
		if f.Salted {
			_, text, _ = strings.Cut(text, "\n")
			text = "salted " + text
		}
		got[f.Path] = text
	}
	want := map[string]string{
		"conf/listed": "tag 1\n", "conf/secret": "salted pass zq9secret\n", "conf/other": "[[TAG]]\n", "in.cfg": "1",
		"conf/binary": "\xff[[TAG]]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if f := fieldOf(t, service(t, result, "app"), "file ./conf/secret"); f.Keyed == "" || f.Value != "" {
		t.Errorf("field %+v", f)
	}
	if diff := cmp.Diff([]string{"TAG"}, result.Variables); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

func hostRequest() compose.Request {
	req := request(files(map[string]string{
		"compose.yaml": `services:
  app:
    image: a
    env_file: [/opt/app/app.env]
    volumes: ["./conf:/conf", "/opt/app/more:/more", "../beside:/beside", "/srv/x:/x", "data:/data"]
    configs: [c]
    secrets: [s, there]
    build: ./src
volumes: {data: {}}
configs: {c: {file: c.cfg}}
secrets: {s: {file: /opt/app/token}, there: {file: not-read}}
`,
		"app.env": "A=1\n", "conf/a": "1", "more/b": "1", "c.cfg": "1", "token": "1",
	}))
	req.HostDir = "/opt/app"
	return req
}

func TestFilesOnTheHostStayThere(t *testing.T) {
	req := hostRequest()
	req.Environment = []compose.Variable{{Name: "X", Value: "1"}}
	result := mustLoad(t, req)
	if len(result.Release.Files) > 0 || len(result.Content) != 1 {
		t.Errorf("files %+v, %d blobs", result.Release.Files, len(result.Content))
	}
	project := agentLoad(t, "/elsewhere", blob(t, result, req, result.Release.Model), "web")
	var sources []string
	for _, v := range project.Services["app"].Volumes {
		sources = append(sources, v.Source)
	}
	if diff := cmp.Diff([]string{"/opt/app/conf", "/opt/app/more", "/opt/beside", "/srv/x", "data"}, sources); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	got := []string{
		project.Configs["c"].File, project.Secrets["s"].File, project.Secrets["there"].File,
		project.Services["app"].Build.Context, *project.Services["app"].Environment["A"],
	}
	if diff := cmp.Diff([]string{"/opt/app/c.cfg", "/opt/app/token", "/opt/app/not-read", "/opt/app/src", "1"}, got); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
	before := digests(t, req)
	for _, name := range []string{"conf/a", "more/b", "c.cfg", "token", "app.env"} {
		edited := hostRequest()
		edited.Environment = req.Environment
		edited.Tree.(tree).MapFS[name].Data = []byte("A=2\n")
		if diff := cmp.Diff([]string{"app"}, changed(before, digests(t, edited))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestHostDirectoriesAreJudged(t *testing.T) {
	req := hostRequest()
	req.Tier = fleet.TierUntrusted
	_, findings := compose.Load(t.Context(), req)
	wantFinding(t, findings, fleet.SeverityError, "host-path", "/opt/app/compose.yaml:5:54")
	for _, d := range findings {
		if strings.Contains(d.Message, "/opt/app/conf") || strings.Contains(d.Message, "/opt/app/more") {
			t.Errorf("a path of the stack's own is refused: %s", d)
		}
	}
	for dir, rule := range map[string]string{"opt": "path-outside", "/opt/../etc": "path-outside", "/": "dangerous-host-path", "/etc/app": "dangerous-host-path"} {
		req.HostDir = dir
		_, findings = compose.Load(t.Context(), req)
		wantFinding(t, findings, fleet.SeverityError, rule, "stacks.toml:7:1")
	}
}

func TestHostFilesAreNotRead(t *testing.T) {
	req := hostRequest()
	req.Tree.(tree).MapFS["compose.yaml"] = &fstest.MapFile{Data: []byte(app("env_file: [../x.env, /etc/passwd]")), Mode: 0o644}
	_, findings := compose.Load(t.Context(), req)
	wantFinding(t, findings, fleet.SeverityError, "path-outside", "/opt/app/compose.yaml:4:16")
	wantFinding(t, findings, fleet.SeverityError, "path-outside", "/opt/app/compose.yaml:4:26")
}

func TestOptionsPassThrough(t *testing.T) {
	req := one(app(""))
	req.Options = fleet.ReleaseOptions{
		Pull: true, Build: true, DestroyFirst: true, IgnoreServices: []string{"app"}, Dir: "/opt/app",
		Registry: fleet.RegistryAccount{Registry: "ghcr.io", Account: "me"},
	}
	if diff := cmp.Diff(req.Options, mustLoad(t, req).Release.Options); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}
