package takeover_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/sync/spec"
	"github.com/varanhq/varan/sync/takeover"
)

func project(files ...string) takeover.Project {
	p := takeover.Project{Name: "web", Server: "alpha", Dir: "/srv/web", ComposeFiles: []string{"compose.yaml"}}
	for i := 0; i < len(files); i += 2 {
		p.Files = append(p.Files, takeover.File{Path: files[i], Mode: 0o644, Content: []byte(files[i+1])})
	}
	return p
}

// show is a result as text: what is declared, the files, and the secrets by name.
func show(r takeover.Result) string {
	var b strings.Builder
	b.Write(spec.Export(spec.Declarations{Resources: spec.Resources{Stacks: []spec.Stack{r.Stack}}}))
	for _, f := range r.Files {
		b.WriteString("-- " + f.Path + "\n" + string(f.Content))
	}
	for _, s := range r.Secrets {
		b.WriteString("secret " + s.Name + " = " + s.Value.Reveal() + "\n")
	}
	for _, n := range r.Notes {
		b.WriteString("note: " + n + "\n")
	}
	return b.String()
}

func TestSecretsBecomeVariables(t *testing.T) {
	t.Parallel()
	p := project(
		".env", "# of the shop\nTAG=1.4\nURL=http://${TAG}.example.org\nDB_PASSWORD='hunter$2'\n",
		"app.env", "MODE=fast # well\nAPI_TOKEN=abcdef123456\n",
		"compose.yaml", `x-env: &env {DB_PASSWORD: "correct horse$$", ADMIN_PASSWORD: 'it''s4me', ÄÖ: x} # shared
services:
  app:
    image: app:${TAG}
    env_file: [app.env]
    environment:
      <<: *env
      LEVEL: info
      SMTP_PASSWORD: s3cretpass # theirs
  side:
    image: side:1
    environment:
      - "SMTP_PASSWORD=s3cretpass"
      - OTHER_PASSWORD=${FROM_SHELL}
`)
	want := `[[stack]]
name = "web"
[stack.config]
server = "alpha"
auto_pull = false
run_directory = "stacks/web"
environment = """
TAG = 1.4
URL = http://1.4.example.org
DB_PASSWORD = [[WEB_DB_PASSWORD]]
"""
-- .env.example
TAG=
URL=
DB_PASSWORD=
-- app.env
MODE=fast # well
API_TOKEN=${WEB_API_TOKEN}
-- compose.yaml
x-env: &env {DB_PASSWORD: "correct horse$$", ADMIN_PASSWORD: "${WEB_ADMIN_PASSWORD}", ÄÖ: x} # shared
services:
  app:
    image: app:${TAG}
    env_file: [app.env]
    environment:
      <<: *env
      LEVEL: info
      SMTP_PASSWORD: "${WEB_SMTP_PASSWORD}" # theirs
  side:
    image: side:1
    environment:
      - "SMTP_PASSWORD=${WEB_SMTP_PASSWORD}"
      - OTHER_PASSWORD=${FROM_SHELL}
secret WEB_ADMIN_PASSWORD = it's4me
secret WEB_API_TOKEN = abcdef123456
secret WEB_DB_PASSWORD = hunter$2
secret WEB_SMTP_PASSWORD = s3cretpass
`
	if diff := cmp.Diff(want, show(takeover.Convert(p, "stacks/web"))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAStackKeepsItsFilesOnTheHost(t *testing.T) {
	t.Parallel()
	mounts := project("compose.yaml", "services: {}\n")
	mounts.Mounts, mounts.ComposeFiles, mounts.EnvFiles = []string{"conf", "data"}, []string{"a.yaml", "b.yaml"}, []string{"prod.env"}
	refused := project()
	refused.Refused, refused.Name = "the policy says no", "Web.Shop"
	for name, tc := range map[string]struct {
		p    takeover.Project
		want []string
	}{
		"mounts":      {mounts, []string{"files_on_host = true", `run_directory = "/srv/web"`, `file_paths = ["a.yaml", "b.yaml"]`, `"prod.env"`, "conf, data of /srv/web"}},
		"not allowed": {refused, []string{"files_on_host = true", `name = "web-shop"`, `project_name = "Web.Shop"`, "the policy says no", "host_directories"}},
		"a block": {
			project("compose.yaml", "services:\n  a:\n    environment:\n      DB_PASSWORD: >-\n        hunter2hunter2\n"),
			[]string{"files_on_host = true", "compose.yaml holds secrets in a form"},
		},
		"a key elsewhere": {
			project("compose.yaml", "services:\n  a:\n    command: [--key, ghp_0123456789abcdefghijABCDEFGHIJ012345]\n"),
			[]string{"files_on_host = true", "compose.yaml holds a GitHub token"},
		},
		"shell variables": {project(".env", "A=${FROM_THE_SHELL}\n"), []string{"files_on_host = true", "FROM_THE_SHELL"}},
		"brackets":        {project(".env", "A='[[B]]'\n"), []string{"files_on_host = true", "double brackets"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := takeover.Convert(tc.p, "stacks/web")
			got := show(r)
			for _, want := range tc.want {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, got)
				}
			}
			if len(r.Files)+len(r.Secrets) > 0 || strings.Contains(got, "hunter2") || strings.Contains(got, "ghp_") {
				t.Errorf("too much in\n%s", got)
			}
		})
	}
}
