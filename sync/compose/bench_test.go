package compose_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/varanhq/varan/sync/compose"
)

const benchFile = `services:
  web:
    image: nginx:${TAG:-1.29}
    restart: unless-stopped
    ports: ["80:80", "443:443"]
    environment:
      LEVEL: ${LEVEL}
      HOST: web.${DOMAIN}
    volumes:
      - ./conf:/etc/nginx/conf.d:ro
      - cache:/var/cache
    healthcheck:
      test: ["CMD", "curl", "-f", "http://localhost"]
      interval: 30s
      timeout: 5s
      retries: 3
    depends_on:
      api: {condition: service_healthy}
    deploy:
      resources:
        limits: {cpus: "0.50", memory: 128M}
  api:
    image: api:${TAG:-1.29}
    restart: unless-stopped
    command: serve --port 8080
    environment: {LEVEL: "${LEVEL}"}
    env_file: [api.env]
    healthcheck:
      test: ["CMD", "api", "health"]
      interval: 10s
    networks: [default, back]
    logging: {driver: json-file, options: {max-size: 10m}}
volumes:
  cache:
networks:
  back: {internal: true}
`

// BenchmarkLoad loads one stack, scan, policy, digests and model included, and compares
// with compose-go alone on the same file, taken in turns.
func BenchmarkLoad(b *testing.B) {
	alone := request(files(map[string]string{
		"compose.yaml": benchFile, "api.env": "A=1\nB=2\n", "conf/site": "server {}", "more.env": "LEVEL=debug\n", "conf/api": "x",
	}))
	alone.Environment = []compose.Variable{{Name: "LEVEL", Value: "info"}, {Name: "DOMAIN", Value: "example.org"}}
	b.Run("alone", func(b *testing.B) { compareLoad(b, alone) })

	settings := alone
	settings.Environment = []compose.Variable{{Name: "LEVEL", Value: "${BASE}", Expand: true}}
	list := compose.List{{Name: "DOMAIN", Value: "example.org"}, {Name: "BASE", Value: "info", Secret: true}}
	for i := range 1000 {
		list = append(list, compose.Variable{Name: fmt.Sprintf("V%d", i), Value: "x"})
	}
	settings.Variables = list
	settings.AdditionalEnvFiles = []compose.EnvFile{{Path: "more.env", Track: true}}
	settings.ConfigFiles = []compose.ConfigFile{{Path: "conf/api", Requires: compose.ReactRestart}}
	settings.ExtraArgs = []string{"--scale api=2", "-t 20"}
	b.Run("with settings and a pool of variables", func(b *testing.B) { compareLoad(b, settings) })
}

func compareLoad(b *testing.B, req compose.Request) {
	b.Helper()
	dir := b.TempDir()
	writeFile(b, filepath.Join(dir, "api.env"), "A=1\nB=2\n")
	bare := func() {
		_, err := loader.LoadWithContext(b.Context(), types.ConfigDetails{
			WorkingDir:  dir,
			ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "compose.yaml"), Content: []byte(benchFile)}},
			Environment: types.Mapping{"LEVEL": "info", "DOMAIN": "example.org"},
		}, func(o *loader.Options) { o.SetProjectName("web", true) })
		if err != nil {
			b.Fatal(err)
		}
	}
	mustLoad(b, req)
	bare()
	var ours, theirs time.Duration
	for b.Loop() {
		start := time.Now()
		bare()
		middle := time.Now()
		mustLoad(b, req)
		theirs += middle.Sub(start)
		ours += time.Since(middle)
	}
	b.ReportMetric(float64(ours)/float64(theirs), "ratio")
	b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N), "ns/load")
}
