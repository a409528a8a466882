package compose_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
)

// app wraps the keys of one service; the first key is on line 4, column 5.
func app(keys string) string {
	return "services:\n  app:\n    image: a\n    " + strings.ReplaceAll(strings.TrimSpace(keys), "\n", "\n    ") + "\n"
}

func TestRefusedOnEveryServer(t *testing.T) {
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	block := "x-a:\n"
	for i := range 100 {
		block += strings.Repeat(" ", i+1) + "a:\n"
	}
	laughs := "x-a: &a [1,1,1,1,1,1,1,1,1,1]\n"
	for c := 'b'; c <= 'j'; c++ {
		laughs += fmt.Sprintf("x-%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 10), ","))
	}
	many := "services:\n"
	for i := range 201 {
		many += fmt.Sprintf("  s%d: {image: a}\n", i)
	}
	for name, tc := range map[string]struct{ text, rule, place string }{
		"billion laughs":      {laughs + app(""), "alias-expansion", "compose.yaml:1:1"},
		"too many aliases":    {"x-a: &a 1\nx-b: [" + strings.Repeat("*a,", 1001) + "]\n" + app(""), "alias-expansion", ""},
		"deep flow":           {"x-a: " + deep + "\n" + app(""), "too-deep", ""},
		"deep block":          {block + app(""), "too-deep", ""},
		"too many nodes":      {"x-a: [" + strings.Repeat("1,", 20_001) + "]\n" + app(""), "too-many-nodes", ""},
		"too many services":   {many, "too-many-services", ""},
		"too large":           {"#" + strings.Repeat("x", 1<<20) + "\n", "too-large", "stacks.toml:7:1"},
		"value in itself":     {"x-a: &a {b: *a}\n" + app(""), "alias-cycle", "compose.yaml:1:6"},
		"merged into itself":  {"services: &s\n  app:\n    image: a\n  <<: *s\n", "alias-cycle", ""},
		"include cycle":       {"include: [compose.yaml]\n" + app(""), "include-cycle", "compose.yaml:1:11"},
		"extends cycle":       {app("extends: b") + "  b: {image: b, extends: app}\n", "extends-cycle", ""},
		"extends nothing":     {app("extends: aap"), "undefined-service", "compose.yaml:4:14"},
		"duplicate key":       {app("image: b"), "duplicate-key", "compose.yaml:4:5"},
		"duplicate service":   {"services:\n  app: {image: a}\n  app: {image: b}\n", "duplicate-key", "compose.yaml:3:3"},
		"not UTF-8":           {app("hostname: \"\xff\""), "invalid-encoding", "compose.yaml:4:16"},
		"NUL":                 {app("hostname: \x00"), "invalid-encoding", "compose.yaml:4:15"},
		"tab indent":          {"services:\n\tapp: {image: a}\n", "yaml-syntax", "compose.yaml:2:1"},
		"empty":               {"", "empty-file", "compose.yaml:1:1"},
		"null":                {"null\n", "empty-file", "compose.yaml:1:1"},
		"list":                {"- a\n", "not-a-mapping", "compose.yaml:1:1"},
		"scalar":              {"a\n", "not-a-mapping", "compose.yaml:1:1"},
		"python tag":          {app("hostname: !!python/object/apply:os.system x"), "unknown-tag", "compose.yaml:4:15"},
		"binary tag":          {app("hostname: !!binary aGk="), "unknown-tag", "compose.yaml:4:15"},
		"key with tag":        {app("!mine hostname: x"), "unknown-tag", "compose.yaml:4:5"},
		"unknown key":         {app("privilegedd: true"), "unknown-key", "compose.yaml:4:5"},
		"unknown top key":     {app("") + "servces: {}\n", "unknown-key", "compose.yaml:5:1"},
		"unknown nested key":  {app("healthcheck:\n  intervall: 1s"), "unknown-key", "compose.yaml:5:7"},
		"ports not a list":    {app("ports: 1"), "wrong-type", "compose.yaml:4:5"},
		"negative scale":      {app("scale: -1"), "wrong-type", "compose.yaml:4:5"},
		"absurd scale":        {app("scale: 99999999999999999999"), "", "compose.yaml:4:5"},
		"large scale":         {app("scale: 101"), "too-many-replicas", "compose.yaml:4:5"},
		"large replicas":      {app("deploy: {replicas: 1000000000}"), "too-many-replicas", "compose.yaml:4:14"},
		"no image":            {"services:\n  app: {}\n", "missing-image", "compose.yaml:2:3"},
		"required variable":   {app("hostname: ${MISSING:?need it}"), "interpolation", "compose.yaml:4:5"},
		"undefined variable":  {app("hostname: a-${MISSING}"), "undefined-variable", "compose.yaml:4:17"},
		"undefined in block":  {app("command: |\n  true\n  echo $MISSING"), "undefined-variable", "compose.yaml:6:12"},
		"undefined default":   {app("hostname: ${A:-${MISSING}}"), "undefined-variable", "compose.yaml:4:20"},
		"deep defaults":       {app("hostname: " + strings.Repeat("${A:-", 2000) + strings.Repeat("}", 2000)), "too-deep", "compose.yaml:4:15"},
		"unclosed variable":   {app("hostname: ${"), "interpolation", "compose.yaml:4:5"},
		"env_file host":       {app("env_file: /etc/passwd"), "path-outside", "compose.yaml:4:15"},
		"env_file above":      {app("env_file: [../../x]"), "path-outside", "compose.yaml:4:16"},
		"env_file proc":       {app("env_file: [/proc/self/environ]"), "path-outside", "compose.yaml:4:16"},
		"env_file missing":    {app("env_file: none.env"), "file-not-found", "compose.yaml:4:15"},
		"env_file symlink":    {app("env_file: [link]"), "symlink", "compose.yaml:4:16"},
		"env_file fifo":       {app("env_file: [fifo]"), "not-regular", "compose.yaml:4:16"},
		"env_file device":     {app("env_file: [device]"), "not-regular", "compose.yaml:4:16"},
		"env_file directory":  {app("env_file: [dir]"), "not-regular", "compose.yaml:4:16"},
		"env_file huge":       {app("env_file: [huge]"), "too-large", "compose.yaml:4:16"},
		"env_file through":    {app("env_file: [link/x]"), "symlink", "compose.yaml:4:16"},
		"env_file syntax":     {app("env_file: [bad.env]"), "env-file-syntax", "bad.env:2:1"},
		"env_file format":     {app("env_file: [{path: dir/ok, format: x}]"), "env-file-syntax", "dir/ok"},
		"label_file host":     {app("label_file: [/etc/passwd]"), "path-outside", "compose.yaml:4:18"},
		"include host":        {"include:\n  - /etc/passwd\n" + app(""), "path-outside", "compose.yaml:2:5"},
		"include above":       {"include:\n  - path: ../x.yaml\n" + app(""), "path-outside", "compose.yaml:2:11"},
		"include https":       {"include:\n  - https://example.com/c.yaml\n" + app(""), "remote-reference", "compose.yaml:2:5"},
		"include git":         {"include:\n  - git@example.com:a/b.git\n" + app(""), "remote-reference", "compose.yaml:2:5"},
		"include oci":         {"include: [\"oci://example.com/a\"]\n" + app(""), "remote-reference", "compose.yaml:1:11"},
		"include variable":    {"include: [\"${P:-/etc/passwd}\"]\n" + app(""), "path-outside", "compose.yaml:1:11"},
		"include anchor":      {"x-i: &i [/etc/passwd]\ninclude: *i\n" + app(""), "path-outside", "compose.yaml:1:10"},
		"include project dir": {"include: [{path: other.yaml, project_directory: /etc}]\n" + app(""), "path-outside", "compose.yaml:1:49"},
		"include env_file":    {"include: [{path: other.yaml, env_file: /proc/self/environ}]\n" + app(""), "path-outside", "compose.yaml:1:40"},
		"include missing":     {"include: [othr.yaml]\n" + app(""), "file-not-found", "compose.yaml:1:11"},
		"extends host":        {app("extends: {file: /etc/passwd, service: x}"), "path-outside", "compose.yaml:4:21"},
		"extends remote":      {app("extends: {file: \"https://example.com/a\", service: x}"), "remote-reference", "compose.yaml:4:21"},
		"extends merged":      {"x-e: &e {extends: {file: ../x, service: x}}\n" + app("<<: *e"), "path-outside", "compose.yaml:1:26"},
		"config host":         {app("configs: [c]") + "configs:\n  c:\n    file: /etc/shadow\n", "path-outside", "compose.yaml:7:5"},
		"secret above":        {app("secrets: [s]") + "secrets:\n  s:\n    file: ../x\n", "path-outside", "compose.yaml:7:5"},
		"secret link":         {app("secrets: [s]") + "secrets:\n  s:\n    file: link\n", "symlink", "compose.yaml:7:5"},
		"secret environment":  {app("secrets: [s]") + "secrets:\n  s:\n    environment: HOME\n", "undefined-variable", "compose.yaml:7:5"},
		"provider program":    {app("provider: {type: ./evil}"), "provider-service", "compose.yaml:4:5"},
		"provider shell":      {"services:\n  app:\n    provider:\n      type: sh\n", "provider-service", "compose.yaml:3:5"},
		"engine socket":       {app("use_api_socket: true"), "api-socket", "compose.yaml:4:5"},
		"models":              {app("models: [m]") + "models: {m: {model: x}}\n", "models", "compose.yaml:4:5"},
		"service name":        {"services:\n  \"a\\e[31m\": {image: a}\n", "service-name", "compose.yaml:2:3"},
		"service homoglyph":   {"services:\n  \u0430pp: {image: a}\n", "service-name", "compose.yaml:2:3"},
		"long service name":   {"services:\n  " + strings.Repeat("a", 300) + ": {image: a}\n", "service-name", "compose.yaml:2:3"},
		"bind above":          {app("volumes: [\"../x:/x\"]"), "path-outside", "compose.yaml:4:15"},
		"bind below above":    {app("volumes: [\"./a/../../x:/x\"]"), "path-outside", "compose.yaml:4:15"},
		"bind home":           {app("volumes: [\"~/x:/x\"]"), "path-outside", "compose.yaml:4:15"},
		"bind windows":        {app("volumes: ['C:\\x:/x']"), "path-outside", ""},
		"bind link":           {app("volumes: [\"./link:/x\"]"), "symlink", "compose.yaml:4:15"},
		"bind tree with link": {app("volumes: [\"./linked:/x\"]"), "symlink", "compose.yaml:4:15"},
		"bind submodule":      {app("volumes: [\"./sub:/x\"]"), "not-regular", "compose.yaml:4:15"},
		"volume of a letter":  {app("volumes: [\"v:/v\"]"), "volume-target", "compose.yaml:4:15"},
		"volume device above": {app("volumes: [\"vol:/v\"]") + "volumes:\n  vol:\n    driver_opts: {type: none, o: bind, device: ../x}\n", "path-outside", "compose.yaml:7:40"},
		"seccomp outside":     {app("security_opt: [\"seccomp:../x.json\"]"), "path-outside", "compose.yaml:4:20"},
		"build context":       {app("build: {context: /}"), "path-outside", "compose.yaml:4:13"},
		"build above":         {app("build: ../x"), "path-outside", "compose.yaml:4:5"},
		"build dockerfile":    {app("build: {context: ./dir, dockerfile: ../../Dockerfile}"), "path-outside", "compose.yaml:4:29"},
		"build ssh":           {app("build: {context: ./dir, ssh: [default]}"), "path-outside", "compose.yaml:4:29"},
		"image upper case":    {"services:\n  app:\n    image: Evil/X\n", "image-reference", "compose.yaml:3:5"},
		"image option":        {"services:\n  app:\n    image: --help\n", "image-reference", "compose.yaml:3:5"},
		"image long":          {"services:\n  app:\n    image: " + strings.Repeat("a", 300) + "\n", "image-reference", "compose.yaml:3:5"},
		"own label":           {app("labels: {dev.varan.server: x}"), "reserved-label", "compose.yaml:4:14"},
		"unknown network":     {app("networks: [none]"), "undefined-reference", "compose.yaml:4:16"},
		"unknown volume":      {app("volumes: [\"dta:/x\"]"), "undefined-reference", "compose.yaml:4:15"},
		"unknown dependency":  {app("depends_on:\n  none:\n    condition: service_started"), "undefined-reference", "compose.yaml:5:7"},
		"unknown secret":      {app("secrets:\n  - source: none"), "undefined-reference", "compose.yaml:5:9"},
		"dependency cycle":    {app("depends_on: [b]") + "  b: {image: b, depends_on: [app]}\n", "dependency-cycle", ""},
		"only in profiles":    {app("profiles: [x]"), "no-services", ""},
	} {
		t.Run(name, func(t *testing.T) {
			repo := files(map[string]string{
				"compose.yaml": tc.text, "other.yaml": "services: {o: {image: o}}\n", "dir/ok": "A=1\n",
				"dir/Dockerfile": "FROM scratch\n", "bad.env": "A=1\nB C=2\n", "huge": strings.Repeat("#", 1<<20+1), "linked/a": "1",
			})
			for link, mode := range map[string]fs.FileMode{
				"link": fs.ModeSymlink, "linked/link": fs.ModeSymlink, "fifo": fs.ModeNamedPipe,
				"device": fs.ModeDevice, "sub": fs.ModeIrregular,
			} {
				repo.MapFS[link] = &fstest.MapFile{Data: []byte("dir/ok"), Mode: mode}
			}
			result, findings := compose.Load(t.Context(), request(repo))
			if tc.rule == "" {
				tc.rule = findings[0].Rule
			}
			wantFinding(t, findings, fleet.SeverityError, tc.rule, tc.place)
			if len(result.Content) > 0 || result.Release.Digest != "" {
				t.Error("a refused stack has a release")
			}
		})
	}
}

func TestRiskyIsAnErrorOnlyOnUntrustedServers(t *testing.T) {
	for name, tc := range map[string]struct{ text, rule, place string }{
		"second document":      {app("") + "---\nservices:\n  app:\n    privileged: true\n", "privileged", "compose.yaml:8:5"},
		"privileged":           {app("privileged: true"), "privileged", "compose.yaml:4:5"},
		"hook":                 {app("post_start: [{command: x, privileged: true}]"), "privileged", "compose.yaml:4:31"},
		"capability":           {app("cap_add: [sys_admin]"), "cap-add", "compose.yaml:4:15"},
		"all capabilities":     {app("cap_add:\n  - NET_ADMIN\n  - ALL"), "cap-add", "compose.yaml:6:9"},
		"device":               {app("devices: [\"/dev/sda:/dev/sda\"]"), "host-device", "compose.yaml:4:15"},
		"device rules":         {app("device_cgroup_rules: [\"a *:* rwm\"]"), "host-device", "compose.yaml:4:5"},
		"gpus":                 {app("gpus: all"), "host-device", "compose.yaml:4:5"},
		"pid":                  {app("pid: host"), "host-namespace", "compose.yaml:4:5"},
		"ipc":                  {app("ipc: host"), "host-namespace", "compose.yaml:4:5"},
		"uts":                  {app("uts: host"), "host-namespace", "compose.yaml:4:5"},
		"userns":               {app("userns_mode: host"), "host-namespace", "compose.yaml:4:5"},
		"cgroup":               {app("cgroup: host"), "host-namespace", "compose.yaml:4:5"},
		"network":              {app("network_mode: host"), "host-namespace", "compose.yaml:4:5"},
		"foreign network":      {app("network_mode: container:other"), "foreign-container", "compose.yaml:4:5"},
		"foreign volumes":      {app("volumes_from: [\"container:other\"]"), "foreign-container", "compose.yaml:4:20"},
		"seccomp":              {app("security_opt: [\"seccomp=unconfined\"]"), "weak-isolation", "compose.yaml:4:20"},
		"apparmor":             {app("security_opt: [\"apparmor:unconfined\"]"), "weak-isolation", "compose.yaml:4:20"},
		"labels":               {app("security_opt: [\"label:disable\"]"), "weak-isolation", "compose.yaml:4:20"},
		"new privileges":       {app("security_opt: [\"no-new-privileges:false\"]"), "weak-isolation", "compose.yaml:4:20"},
		"remote build":         {app("build: {context: \"https://example.com/a.git\"}"), "remote-build", "compose.yaml:4:13"},
		"build network":        {app("build: {context: ., network: host}"), "host-namespace", "compose.yaml:4:25"},
		"build entitlement":    {app("build: {context: ., entitlements: [security.insecure]}"), "privileged", "compose.yaml:4:25"},
		"extended":             {app("extends: base") + "  base:\n    image: b\n    privileged: true\n", "privileged", "compose.yaml:7:5"},
		"privileged by anchor": {"x-a: &a\n  privileged: true\n" + app("<<: *a"), "privileged", "compose.yaml:2:3"},
	} {
		t.Run(name, func(t *testing.T) {
			req := one(tc.text)
			req.Tree.(tree).MapFS["Dockerfile"] = &fstest.MapFile{Data: []byte("FROM scratch\n"), Mode: 0o644}
			_, findings := compose.Load(t.Context(), req)
			wantFinding(t, findings, fleet.SeverityWarning, tc.rule, tc.place)
			if findings.HasErrors() {
				t.Errorf("refused on a trusted server: %v", findings)
			}
			req.Tier = fleet.TierUntrusted
			_, findings = compose.Load(t.Context(), req)
			wantFinding(t, findings, fleet.SeverityError, tc.rule, tc.place)
		})
	}
}

func TestHostPaths(t *testing.T) {
	for source, dangerous := range map[string]bool{
		"/": true, "//": true, "/./": true, "/etc/../": true, "/etc": true, "/etc/ssl": true, "/proc": true, "/sys/fs": true,
		"/var/lib/docker/volumes": true, "/var/lib": true, "/var/run/docker.sock": true, "/run/docker.sock": true,
		"/var/run/../run/docker.sock": true, "/run": true, "/var/run": true, "/root/.ssh": true,
		"/srv": false, "/data/x": false, "/mnt": false, "/var/log": false,
	} {
		t.Run(source, func(t *testing.T) {
			req := one(app("volumes: [\"" + source + ":/host\"]"))
			_, findings := compose.Load(t.Context(), req)
			if dangerous {
				wantFinding(t, findings, fleet.SeverityWarning, "dangerous-host-path", "compose.yaml:4:15")
			} else if len(findings) > 0 {
				t.Errorf("on a trusted server: %v", findings)
			}
			req.Tier = fleet.TierUntrusted
			_, findings = compose.Load(t.Context(), req)
			wantFinding(t, findings, fleet.SeverityError, "host-path", "compose.yaml:4:15")
		})
	}
}

func TestCapabilitiesOfEveryContainerMayBeAddedBack(t *testing.T) {
	req := one(app("cap_drop: [ALL]\ncap_add: [NET_BIND_SERVICE, cap_chown, CAP_SETUID]"))
	req.Tier = fleet.TierUntrusted
	if _, findings := compose.Load(t.Context(), req); len(findings) > 0 {
		t.Errorf("findings: %v", findings)
	}
}

func TestRestrictedOnlyOnUntrustedServers(t *testing.T) {
	for name, tc := range map[string]struct{ text, rule, place string }{
		"sysctl":        {app("sysctls: {kernel.msgmax: 1}"), "weak-isolation", "compose.yaml:4:15"},
		"cgroup parent": {app("cgroup_parent: /"), "weak-isolation", "compose.yaml:4:5"},
		"runtime":       {app("runtime: x"), "weak-isolation", "compose.yaml:4:5"},
		"oom":           {app("oom_score_adj: -1000"), "weak-isolation", "compose.yaml:4:5"},
		"build":         {app("build: ."), "build", "compose.yaml:4:5"},
		"nfs": {
			app("volumes: [\"vol:/v\"]") + "volumes:\n  vol:\n    driver_opts: {type: nfs, o: addr=x, device: \":/x\"}\n",
			"volume-driver", "compose.yaml:7:41",
		},
		"plugin": {
			app("volumes: [\"vol:/v\"]") + "volumes:\n  vol:\n    driver: rclone\n", "volume-driver", "compose.yaml:7:5",
		},
		"bind volume": {
			app("volumes: [\"vol:/v\"]") + "volumes:\n  vol:\n    driver_opts: {type: none, o: bind, device: /srv}\n",
			"host-path", "compose.yaml:7:40",
		},
	} {
		t.Run(name, func(t *testing.T) {
			req := one(tc.text)
			req.Tree.(tree).MapFS["Dockerfile"] = &fstest.MapFile{Data: []byte("FROM scratch\n"), Mode: 0o644}
			if _, findings := compose.Load(t.Context(), req); len(findings) > 0 {
				t.Errorf("on a trusted server: %v", findings)
			}
			req.Tier = fleet.TierUntrusted
			_, findings := compose.Load(t.Context(), req)
			wantFinding(t, findings, fleet.SeverityError, tc.rule, tc.place)
		})
	}
}

func TestComposeFileItself(t *testing.T) {
	link := &fstest.MapFile{Data: []byte("other"), Mode: fs.ModeSymlink}
	for name, tc := range map[string]struct {
		tree        tree
		paths       []string
		rule, place string
	}{
		"link":          {tree{fstest.MapFS{"compose.yaml": link}}, nil, "symlink", "stacks.toml:7:1"},
		"none":          {files(nil), nil, "file-not-found", "stacks.toml:7:1"},
		"two":           {files(map[string]string{"compose.yaml": app(""), "docker-compose.yml": app("")}), nil, "ambiguous-compose-file", "docker-compose.yml:1:1"},
		"typo":          {files(map[string]string{"compose.yaml": app("")}), []string{"compse.yaml"}, "file-not-found", "stacks.toml:7:1"},
		"outside":       {files(nil), []string{"../a.yaml"}, "path-outside", "stacks.toml:7:1"},
		"absolute":      {files(nil), []string{"/etc/passwd"}, "path-outside", "stacks.toml:7:1"},
		"linked dotenv": {tree{fstest.MapFS{"compose.yaml": {Data: []byte(app("")), Mode: 0o644}, ".env": link}}, nil, "symlink", ".env"},
	} {
		t.Run(name, func(t *testing.T) {
			req := request(tc.tree)
			req.FilePaths = tc.paths
			_, findings := compose.Load(t.Context(), req)
			wantFinding(t, findings, fleet.SeverityError, tc.rule, tc.place)
		})
	}
}

func TestRunDirectoryMustBeInside(t *testing.T) {
	for dir, rule := range map[string]string{
		"..": "path-outside", "/etc": "path-outside", "a/../..": "path-outside", "none": "file-not-found", "compose.yaml": "not-a-directory",
	} {
		req := one(app(""))
		req.RunDirectory = dir
		_, findings := compose.Load(t.Context(), req)
		wantFinding(t, findings, fleet.SeverityError, rule, "stacks.toml:7:1")
	}
}

func TestDotenvDoesNotSteerCompose(t *testing.T) {
	req := one(app("hostname: ${DOCKER_TAG}"))
	req.Tree.(tree).MapFS[".env"] = &fstest.MapFile{
		Data: []byte("DOCKER_TAG=1\nCOMPOSE_PROJECT_NAME=other\nCOMPOSE_FILE=x\n export DOCKER_HOST=tcp://x\n"), Mode: 0o644,
	}
	result, findings := compose.Load(t.Context(), req)
	wantFinding(t, findings, fleet.SeverityWarning, "ignored-variable", ".env:2:1")
	wantFinding(t, findings, fleet.SeverityWarning, "ignored-variable", ".env:3:1")
	wantFinding(t, findings, fleet.SeverityWarning, "ignored-variable", ".env:4:9")
	if findings.HasErrors() || result.Release.Project != "web" {
		t.Errorf("release of project %q, %v", result.Release.Project, findings)
	}
}

func TestProcessEnvironmentTakesNoPart(t *testing.T) {
	t.Setenv("AGENT_KEY", "leaked")
	_, findings := compose.Load(t.Context(), one(app("hostname: ${AGENT_KEY}")))
	wantFinding(t, findings, fleet.SeverityError, "undefined-variable", "compose.yaml:4:15")

	result, findings := compose.Load(t.Context(), one(app("environment: [AGENT_KEY]")))
	wantFinding(t, findings, fleet.SeverityWarning, "undefined-variable", "compose.yaml:4:19")
	for _, b := range result.Content {
		if data, _ := b.Bytes(nil); strings.Contains(string(data), "leaked") {
			t.Error("the process environment is in the model")
		}
	}
}

func TestLenientMakesUndefinedVariablesBlank(t *testing.T) {
	req := one(app("hostname: a${MISSING}"))
	req.Lenient = true
	result := mustLoad(t, req)
	if f := fieldOf(t, service(t, result, "app"), "hostname"); f.Value != "a" {
		t.Errorf("hostname = %q", f.Value)
	}
}

func TestSecretsAreNotInDiagnostics(t *testing.T) {
	req := one(app("scale: ${SECRET}\nmem_limit: ${SECRET}"))
	req.Environment = []compose.Variable{{Name: "SECRET", Value: "zq9secret", Secret: true}}
	_, findings := compose.Load(t.Context(), req)
	if !findings.HasErrors() || strings.Contains(findings.Error(), "zq9secret") {
		t.Errorf("findings: %v", findings)
	}
}

func TestEnvironmentIsChecked(t *testing.T) {
	for name, tc := range map[string]struct {
		variable compose.Variable
		rule     string
	}{
		"bad name": {compose.Variable{Name: "A B", Value: "1"}, "variable-name"},
		"digit":    {compose.Variable{Name: "1A", Value: "1"}, "variable-name"},
		"NUL":      {compose.Variable{Name: "A", Value: "a\x00"}, "invalid-encoding"},
		"huge":     {compose.Variable{Name: "A", Value: strings.Repeat("a", 64<<10+1)}, "too-large"},
	} {
		t.Run(name, func(t *testing.T) {
			req := one(app(""))
			tc.variable.Origin = fleet.Position{File: "stacks.toml", Line: 9, Col: 3}
			req.Environment = []compose.Variable{tc.variable}
			_, findings := compose.Load(t.Context(), req)
			wantFinding(t, findings, fleet.SeverityError, tc.rule, "stacks.toml:9:3")
		})
	}
	req := one(app(""))
	req.Environment, req.EnvFilePath = []compose.Variable{{Name: "A", Value: "1"}}, "../x"
	_, findings := compose.Load(t.Context(), req)
	wantFinding(t, findings, fleet.SeverityError, "path-outside", "stacks.toml:7:1")
}

func TestOwnContainersAreJoinedByTheirService(t *testing.T) {
	_, findings := compose.Load(t.Context(), one(app("network_mode: container:tunnel")+"  vpn:\n    image: v\n    container_name: tunnel\n"))
	for _, d := range findings {
		if d.Rule == "foreign-container" {
			if d.Severity != fleet.SeverityWarning || d.Hint != "write network_mode: service:vpn" {
				t.Error(d)
			}
			return
		}
	}
	t.Errorf("findings: %v", findings)
}

func TestUndefinedReferencesHaveHints(t *testing.T) {
	_, findings := compose.Load(t.Context(), one(app("networks: [bck]")+"networks:\n  back:\n"))
	if len(findings) != 1 || findings[0].Hint != `did you mean "back"?` {
		t.Errorf("findings: %v", findings)
	}
}

func TestAMisspeltVariableIsMoreThanANoteOffline(t *testing.T) {
	req := one(app("environment: [\"A=${PROT}\", \"B=${OTHER}\"]"))
	req.Offline, req.Environment = true, []compose.Variable{{Name: "PORT", Value: "1"}}
	_, findings := compose.Load(t.Context(), req)
	wantFinding(t, findings, fleet.SeverityWarning, "undefined-variable", "compose.yaml:4:22")
	wantFinding(t, findings, fleet.SeverityNote, "undefined-variable", "compose.yaml:4:35")
}

func TestAFileThatIsNotThereBecomesADirectory(t *testing.T) {
	load := func(volume, hook string) fleet.Diagnostics {
		req := request(files(map[string]string{"compose.yaml": app("volumes: [\"" + volume + "\"]"), "conf/site.yml": "a: 1\n"}))
		req.PreDeploy.Command = hook
		_, findings := compose.Load(t.Context(), req)
		return findings
	}
	findings := load("./conf/sit.yml:/etc/site.yml:ro", "")
	wantFinding(t, findings, fleet.SeverityWarning, "file-not-found", "compose.yaml:4:15")
	if findings[0].Hint != "did you mean conf/site.yml?" {
		t.Errorf("findings: %v", findings)
	}
	for _, f := range []fleet.Diagnostics{
		load("./conf/site.yml:/etc/site.yml", ""), load("./data:/data", ""), load("./conf.d:/etc/conf.d", ""),
		load("./made.yml:/made.yml", "make made.yml"), load("/srv/host.yml:/host.yml", ""),
	} {
		if len(f) > 0 {
			t.Errorf("findings: %v", f)
		}
	}
}

func TestAnEnvFileThatPreDeployMakesIsLeftToTheHost(t *testing.T) {
	load := func(service, hook string) (compose.Request, compose.Result, fleet.Diagnostics) {
		req := one(app(service))
		req.PreDeploy.Command = hook
		result, findings := compose.Load(t.Context(), req)
		return req, result, findings
	}
	req, result, findings := load("env_file: made.env", "sops -d a.env > made.env")
	if len(findings) != 1 || findings[0].Rule != "made-on-host" || findings.HasErrors() {
		t.Errorf("findings: %v", findings)
	}
	if model := blob(t, result, req, result.Release.Model); !strings.Contains(model, `"./made.env"`) {
		t.Errorf("the model does not name the file: %s", model)
	}
	for service, hook := range map[string]string{"env_file: made.env": "", "env_file: ../made.env": "make ../made.env"} {
		if _, _, findings := load(service, hook); !findings.HasErrors() {
			t.Errorf("%q with %q: %v", service, hook, findings)
		}
	}
}
