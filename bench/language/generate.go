package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// resources is one resource file: ten resources of the types people have most of.
const resources = `[[server]]
name = "host-%[1]d"
enabled = true
tags = ["rack-%[2]d"]

[[stack]]
name = "app-%[1]d"
tags = ["apps"]
[stack.config]
server = "host-%[1]d"
run_directory = "stacks/app-%[1]d"
environment = """
LEVEL = info
DOMAIN = app-%[1]d.[[ZONE_%[1]d]]
"""

[[variable]]
name = "ZONE_%[1]d"
value = "example.org"

[[variable]]
name = "TOKEN_%[1]d"
is_secret = true

[[repo]]
name = "source-%[1]d"
[repo.config]
repo = "house/source-%[1]d"

[[build]]
name = "image-%[1]d"
[build.config]
builder = "builder-%[1]d"
repo = "house/source-%[1]d"

[[builder]]
name = "builder-%[1]d"
[builder.config]
type = "Server"
params.server = "host-%[1]d"

[[alerter]]
name = "alerts-%[1]d"
[alerter.config]
enabled = true
endpoint.type = "Slack"
endpoint.params.url = "https://hooks.example.org/%[1]d"

[[procedure]]
name = "redeploy-%[1]d"
[[procedure.config.stage]]
name = "Deploy"
executions = [
  { execution.type = "DeployStack", execution.params.stack = "app-%[1]d" }
]

[[action]]
name = "action-%[1]d"
[action.config]
file_contents = """
console.log("%[1]d\n")
"""
`

// composeFile is the file that transport figures were taken with before: two services, a
// health check, limits and interpolation.
const composeFile = `services:
  app:
    image: ghcr.io/example/app:1.%[1]d
    restart: unless-stopped
    environment:
      LEVEL: ${LEVEL}
      DOMAIN: ${DOMAIN}
    ports:
      - "127.0.0.1:8080:80"
    healthcheck:
      test: ["CMD", "wget", "-q", "--spider", "http://localhost/health"]
      interval: 30s
    depends_on:
      cache:
        condition: service_started
    deploy:
      resources:
        limits:
          cpus: "0.50"
          memory: 256M
    volumes:
      - data:/data
  cache:
    image: redis:7.%[1]d
    restart: unless-stopped
    command: ["redis-server", "--save", ""]
volumes:
  data:
`

// generate writes a repository of n resource files and n stacks.
func generate(dir string, n int) error {
	for i := range n {
		stack := filepath.Join(dir, "stacks", fmt.Sprintf("app-%d", i))
		if err := os.MkdirAll(stack, 0o755); err != nil { //nolint:gosec // a scratch repository
			return fmt.Errorf("make %s: %w", stack, err)
		}
		for name, text := range map[string]string{
			filepath.Join(stack, "compose.yaml"):             fmt.Sprintf(composeFile, i),
			filepath.Join(dir, fmt.Sprintf("r%04d.toml", i)): fmt.Sprintf(resources, i, i/40),
		} {
			if err := os.WriteFile(name, []byte(text), 0o644); err != nil { //nolint:gosec // a scratch repository
				return fmt.Errorf("write %s: %w", name, err)
			}
		}
	}
	return nil
}

// loadAll is the floor: compose-go loads every Compose file, and nothing is done with it.
func loadAll(ctx context.Context, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "stacks", "*", "compose.yaml"))
	if err != nil {
		return fmt.Errorf("find the stacks: %w", err)
	}
	for _, file := range files {
		if err := loadOne(ctx, file); err != nil {
			return err
		}
	}
	return nil
}

func loadOne(ctx context.Context, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	name := strings.ToLower(filepath.Base(filepath.Dir(file)))
	_, err = loader.LoadWithContext(ctx, types.ConfigDetails{
		WorkingDir:  filepath.Dir(file),
		ConfigFiles: []types.ConfigFile{{Filename: file, Content: data}},
		Environment: types.Mapping{"LEVEL": "info", "DOMAIN": name},
	}, func(o *loader.Options) { o.SetProjectName(name, true) })
	if err != nil {
		return fmt.Errorf("load %s: %w", file, err)
	}
	return nil
}
