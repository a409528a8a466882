package spec_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/spec"
)

// sameValues compares declarations by what they say, not by where they say it.
var sameValues = cmp.Options{
	cmpopts.IgnoreTypes(fleet.Position{}),
	cmpopts.IgnoreUnexported(
		spec.Server{}, spec.Stack{}, spec.Deployment{}, spec.Repo{}, spec.Build{}, spec.Builder{}, spec.Procedure{},
		spec.Action{}, spec.Alerter{}, spec.Swarm{}, spec.ResourceSync{}, spec.Variable{}, spec.UserGroup{},
	),
	cmp.Transformer("reveal", fleet.Secret.Reveal),
	cmpopts.EquateEmpty(),
}

// parse reads a file that is expected to have no more than notes.
func parse(t *testing.T, src string) spec.Resources {
	t.Helper()
	file, diags := spec.ParseFile("fleet.toml", []byte(src))
	if got := found(diags); len(got) > 0 {
		t.Fatalf("%s\nin\n%s", diags.Error(), src)
	}
	return file.Resources
}

func TestDeploymentForms(t *testing.T) {
	t.Parallel()
	full := spec.DeploymentConfig{
		Server: "s", Image: spec.Image{Type: "Image", Image: "nginx:1"}, SendAlerts: true, Network: "bridge",
		Restart: "unless-stopped", Replicas: 1, TerminationSignal: "SIGINT", TerminationTimeout: 30,
		Ports:       []spec.Pair{{Local: "8080", Container: "80"}, {Local: "127.0.0.1", Container: "9090:90"}},
		Volumes:     []spec.Pair{{Local: "/a", Container: "/b"}, {Local: "/c", Container: "/d:ro"}},
		Environment: []spec.EnvVar{{Name: "A", Value: "1"}},
		Labels:      []spec.EnvVar{{Name: "com.example/x", Value: "Host(`a`)"}},
	}
	for name, src := range map[string]string{
		"dotted": `
[[deployment]]
name = "d"
config.server_id = "s"
config.image.type = "Image"
config.image.params.image = "nginx:1"
config.network = "bridge"
config.restart = "unless-stopped"
config.termination_signal = "SIGINT"
config.termination_timeout = 30
config.ports = """
8080:80
127.0.0.1:9090:90
"""
config.volumes = """
# kept
/a = /b
- "/c:/d:ro" # read only
"""
config.environment = "A = 1"
config.labels = "com.example/x: Host(` + "`a`" + `)"
`,
		"tables": `
[[deployments]]
name = "d"
[deployments.config]
server = "s"
image = { type = "Image", params = { image = "nginx:1" } }
network = "bridge"
restart = "unless-stopped"
termination_signal = "SIGINT"
termination_timeout = 30
ports = ["8080:80", "127.0.0.1:9090:90"]
volumes = [{ local = "/a", container = "/b" }, { local = "/c", container = "/d:ro" }]
environment = [{ variable = "A", value = "1" }]
labels = [{ variable = "com.example/x", value = "Host(` + "`a`" + `)" }]
`,
		"short": `
[[deployment]]
name = "d"
server = "s"
image = "nginx:1"
network = "bridge"
restart = "unless-stopped"
termination_signal = "SIGINT"
termination_timeout = 30
ports = """
8080:80
127.0.0.1:9090:90"""
volumes = ["/a:/b", "/c:/d:ro"]
environment = ["A=1"]
labels = ["com.example/x=Host(` + "`a`" + `)"]
`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := parse(t, src).Deployments[0]
			if diff := cmp.Diff(full, got.Config, sameValues); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
		})
	}
	built := parse(t, "[[deployment]]\nname = \"d\"\nimage.type = \"Build\"\nimage.params.build_id = \"b\"\nimage.params.version = { major = 1, minor = 2, patch = 3 }\n")
	if diff := cmp.Diff(spec.Image{Type: "Build", Build: "b", Version: "1.2.3"}, built.Deployments[0].Config.Image, sameValues); diff != "" {
		t.Errorf("image of a build (-want +got):\n%s", diff)
	}
}

func TestProcedureForms(t *testing.T) {
	t.Parallel()
	want := []spec.Stage{{Name: "one", Enabled: true, Executions: []spec.Execution{
		{Type: "DeployStack", Enabled: true, Params: []spec.Param{{Name: "stack", Text: "web"}, {Name: "services", List: []string{"a"}}}},
		{Type: "Sleep", Params: []spec.Param{{Name: "duration_ms", Int: 500}}},
		{Type: "RotateAllServerKeys", Enabled: true},
	}}}
	for name, src := range map[string]string{
		"params": `
[[procedure]]
name = "p"
[[procedure.config.stage]]
name = "one"
enabled = true
executions = [
  { execution.type = "DeployStack", execution.params = { stack = "web", services = ["a"] }, enabled = true },
  { execution.type = "Sleep", execution.params.duration_ms = 500, enabled = false },
  { execution.type = "RotateAllServerKeys", execution.params = {}, enabled = true },
]
`,
		"short": `
[[procedures]]
name = "p"
[[procedures.config.stages]]
name = "one"
executions = [
  { execution.type = "DeployStack", execution.services = "a", execution.stack = "web" },
  { type = "Sleep", duration_ms = 500, enabled = false },
  { execution = { type = "RotateAllServerKeys" } },
]
`,
		"inline": `
procedure = [{ name = "p", config.stages = [{ name = "one", executions = [
  { execution = { type = "DeployStack", params = { stack_id = "web", services = ["a"] } } },
  { execution = { type = "Sleep", params = { duration_ms = 500 } }, enabled = false },
  { execution.type = "RotateAllServerKeys" },
] }] }]
`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := parse(t, src).Procedures[0].Config
			if diff := cmp.Diff(want, got.Stages, sameValues); diff != "" {
				t.Errorf("stages (-want +got):\n%s", diff)
			}
			deploy := got.Stages[0].Executions[0]
			if deploy.Text("stack") != "web" || deploy.Has("stop_time") || deploy.At("stop_time").Line == 0 {
				t.Errorf("the stack is %q, stop_time at %s", deploy.Text("stack"), deploy.At("stop_time"))
			}
		})
	}
}

func TestAlerterBuilderBuildAndGroupForms(t *testing.T) {
	t.Parallel()
	got := parse(t, `
[[alerter]]
name = "chat"
config.enabled = true
config.endpoint.type = "Ntfy"
config.endpoint.params.url = "https://ntfy.sh/x"
config.resources = [{ type = "Server", id = "s" }]

[[builder]]
name = "local"
config = { type = "Server", params.server_id = "s" }

[[builder]]
name = "cloud"
config.type = "Aws"
[builder.config.params]
region = "eu-west-1"
security_group_ids = ["sg-1", "sg-2"]
secrets = "A, B"

[[build]]
name = "one"
config.builder_id = "local"
config.image_registry = { type = "Standard", params = { domain = "ghcr.io", account = "me" } }

[[build]]
name = "many"
[[build.config.image_registry]]
domain = "ghcr.io"
account = "me"

[[user_group]]
name = "people"
all.Build = "Execute"
all.Stack = { level = "Read", specific = ["Logs"] }
permissions = [{ target.type = "Server", target.id = "\\^a-.*$\\", level = "Write" }]

[[resource_sync]]
name = "self"
interval = "5-min"
self_heal = true
`)
	endpoint := spec.Endpoint{Type: "Ntfy", URL: fleet.NewSecret("https://ntfy.sh/x")}
	if diff := cmp.Diff(endpoint, got.Alerters[0].Config.Endpoint, sameValues); diff != "" {
		t.Errorf("endpoint (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(spec.BuilderConfig{Type: "Server", Servers: []string{"s"}}, got.Builders[0].Config, sameValues); diff != "" {
		t.Errorf("builder (-want +got):\n%s", diff)
	}
	cloud := got.Builders[1].Config
	if cloud.Region != "eu-west-1" || cloud.InstanceType != "c5.2xlarge" || len(cloud.SecurityGroups) != 2 || len(cloud.Secrets) != 2 || cloud.Port != 8120 {
		t.Errorf("builder %+v", cloud)
	}
	for _, b := range got.Builds {
		if diff := cmp.Diff([]spec.ImageRegistry{{Domain: "ghcr.io", Account: "me"}}, b.Config.ImageRegistry); diff != "" {
			t.Errorf("registry of %s (-want +got):\n%s", b.Name, diff)
		}
	}
	group := got.UserGroups[0]
	all := []spec.TypePermission{{Type: "Build", Level: "Execute"}, {Type: "Stack", Level: "Read", Specific: []string{"Logs"}}}
	if diff := cmp.Diff(all, group.All, sameValues); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
	if p := group.Permissions[0]; p.Target.ID != `\^a-.*$\` || p.Level != "Write" {
		t.Errorf("permission %+v", p)
	}
	if sync := got.Syncs[0].Config; sync.Interval != 5*time.Minute || !sync.SelfHeal || sync.MaxRemovals != 3 {
		t.Errorf("sync %+v", sync)
	}
}
