package compose_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
)

const hardened = `services:
  app:
    image: ghcr.io/org/app:1.2.3@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    restart: unless-stopped
    security_opt: ["no-new-privileges:true"]
    cap_drop: [ALL]
    read_only: true
    logging: {driver: json-file, options: {max-size: 10m}}
`

// advice lists what a stack is advised of, as "rule place".
func advice(tb testing.TB, req compose.Request) []string {
	tb.Helper()
	result, findings := compose.Load(tb.Context(), req)
	if findings.HasErrors() {
		tb.Fatalf("Load: %v", findings)
	}
	var out []string
	for _, d := range result.Advice {
		if d.Severity != fleet.SeverityWarning || d.Stack != "web" || d.Message == "" {
			tb.Errorf("advice %+v", d)
		}
		out = append(out, d.Rule+" "+d.Position.String())
	}
	slices.Sort(out)
	return out
}

func TestHardenedServiceGetsNoAdvice(t *testing.T) {
	t.Parallel()
	if got := advice(t, one(hardened)); len(got) != 0 {
		t.Errorf("advice: %v", got)
	}
}

func TestHardeningRules(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		old, now string
		want     []string
	}{
		"no registry": {"ghcr.io/org/app", "org/app", []string{"image-registry-prefix compose.yaml:3:5"}},
		"no digest": {
			"@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "",
			[]string{"image-digest compose.yaml:3:5"},
		},
		"latest with a digest":   {":1.2.3@", ":latest@", nil},
		"new privileges":         {`["no-new-privileges:true"]`, `["label:type:x"]`, []string{"no-new-privileges compose.yaml:2:3"}},
		"some capabilities":      {"cap_drop: [ALL]", "cap_drop: [NET_RAW]", []string{"cap-drop-all compose.yaml:2:3"}},
		"capabilities by case":   {"cap_drop: [ALL]", "cap_drop: [all]", nil},
		"writable":               {"read_only: true", "read_only: false", []string{"read-only compose.yaml:2:3"}},
		"log without limit":      {", options: {max-size: 10m}", "", []string{"logging-limits compose.yaml:8:5"}},
		"log driver that limits": {"{driver: json-file, options: {max-size: 10m}}", "{driver: local}", nil},
		"no restart":             {"restart: unless-stopped", "restart: \"no\"", []string{"restart-policy compose.yaml:4:5"}},
		"restart by deploy":      {"restart: unless-stopped", "deploy: {restart_policy: {condition: any}}", nil},
		"one-shot":               {"restart: unless-stopped", "labels: {dev.varan.one-shot: \"true\"}", nil},
		"published":              {"read_only: true", "read_only: true\n    ports: [\"8080:80\"]", []string{"published-ports compose.yaml:8:13"}},
		"published here":         {"read_only: true", "read_only: true\n    ports: [\"127.0.0.1:8080:80\", \"[::1]:8080:80\"]", nil},
	} {
		if got := advice(t, one(strings.Replace(hardened, tc.old, tc.now, 1))); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
	bare := advice(t, one("services: {app: {image: app}}\n"))
	if !slices.Contains(bare, "unpinned-image compose.yaml:1:18") || len(bare) != 8 {
		t.Errorf("a bare service: %v", bare)
	}
	built := advice(t, request(files(map[string]string{
		"compose.yaml": "services: {app: {build: ., image: app, restart: always}}\n", "Dockerfile": "FROM scratch\n",
	})))
	if slices.ContainsFunc(built, func(s string) bool { return strings.Contains(s, "image") }) {
		t.Errorf("an image that is built here is asked for a registry: %v", built)
	}
}

func TestPortabilityRules(t *testing.T) {
	t.Parallel()
	withEnv := func(extra string) string { return hardened + "    environment:\n" + extra }
	for name, tc := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"nothing beside the file": {
			map[string]string{"compose.yaml": withEnv("      A: ${A}\n      B: x${B:?}\n      C: ${C:-c}\n")},
			[]string{"env-example compose.yaml:10:10"},
		},
		"all listed": {
			map[string]string{"compose.yaml": withEnv("      A: ${A}\n      B: ${B}\n"), ".env.example": "# A=1\nexport B=\n"},
			nil,
		},
		"one is not listed": {
			map[string]string{"compose.yaml": withEnv("      A: ${A}\n      B: ${B}\n"), ".env.example": "A=1\n"},
			[]string{"env-example compose.yaml:11:10"},
		},
		"a committed .env says it": {
			map[string]string{"compose.yaml": withEnv("      A: ${A}\n      B: ${B}\n"), "./.env": "A=1\nB=2\n"}, nil,
		},
		"left for Varan to fill in": {
			map[string]string{"compose.yaml": withEnv("      A: a-[[DOMAIN]]\n      B: '[[ -f x ]]'\n")},
			[]string{"literal-reference compose.yaml:10:12"},
		},
		"made by Varan": {
			map[string]string{"compose.yaml": hardened + "    env_file: .env\n"}, []string{"stands-alone compose.yaml:9:15"},
		},
	} {
		content := map[string]string{}
		for path, text := range tc.files {
			content[strings.TrimPrefix(path, "./")] = text
		}
		req := request(files(content))
		req.Environment = []compose.Variable{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}}
		if got := advice(t, req); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestSecretsInPlainTextAreFoundAndNotRepeated(t *testing.T) {
	t.Parallel()
	token := "ghp" + "_" + strings.Repeat("aB3", 12)
	req := request(files(map[string]string{
		"compose.yaml": hardened + "    command: [run, \"--token=" + token + "\"]\n    environment:\n" +
			"      DB_PASSWORD: hunter22\n      OTHER_PASSWORD: ${OTHER_PASSWORD:-}\n      TITLE: x\n    env_file: [app.env]\n",
		"app.env": "# comment\nAPI_TOKEN=abcdefabcdef\nEMPTY_PASSWORD=\n",
	}))
	want := []string{
		"plaintext-password app.env:2:1", "plaintext-password compose.yaml:11:7", "plaintext-secret compose.yaml:9:20",
	}
	if got := advice(t, req); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for _, d := range mustLoad(t, req).Advice {
		if text := d.Message + d.Hint; strings.Contains(text, token) || strings.Contains(text, "hunter22") || strings.Contains(text, "abcdefabcdef") {
			t.Errorf("%s tells the secret: %s", d.Rule, text)
		}
	}
}

func TestAPasswordThatIsNotKnownHereIsNotInPlainText(t *testing.T) {
	t.Parallel()
	req := request(files(map[string]string{
		"compose.yaml": hardened + "    environment:\n      URL: postgres://" + compose.StandIn + "-U:" + compose.StandIn + "-P@db/x\n",
	}))
	if got := advice(t, req); len(got) > 0 {
		t.Error(got)
	}
}

func TestClaimsNameWhatAStackTakesOfItsServer(t *testing.T) {
	t.Parallel()
	result := mustLoad(t, one(`services:
  app:
    image: a
    container_name: front
    networks: [own, proxy, shared]
    volumes: ["data:/d", "kept:/k"]
    ports:
      - "8080:80"
      - "127.0.0.1:53:53/udp"
      - "9000-9001:9000-9001"
      - "7000-7010:70"
      - "90"
networks: {own: {}, proxy: {external: true}, shared: {name: common}}
volumes: {data: {}, kept: {name: kept-data}}
`))
	var got []string
	for _, c := range result.Claims.Containers {
		got = append(got, "container "+c.Name+" "+c.Origin.String())
	}
	for _, p := range result.Claims.Ports {
		got = append(got, "port "+p.String()+" "+p.Origin.String())
	}
	for kind, list := range map[string][]compose.Claim{"network": result.Claims.Networks, "volume": result.Claims.Volumes} {
		for _, c := range list {
			text := kind + " " + c.Name + " " + c.Origin.String()
			if c.Named {
				text += " named"
			}
			if c.External {
				text += " external"
			}
			got = append(got, text)
		}
	}
	slices.Sort(got)
	want := []string{
		"container front compose.yaml:4:5",
		"network common compose.yaml:13:55 named", "network proxy compose.yaml:13:21 named external",
		"network web_own compose.yaml:13:12",
		"port 127.0.0.1:53/udp compose.yaml:9:9", "port 7000-7010 compose.yaml:11:9", "port 8080 compose.yaml:8:9",
		"port 9000 compose.yaml:10:9", "port 9001 compose.yaml:10:9",
		"volume kept-data compose.yaml:14:28 named", "volume web_data compose.yaml:14:11",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}
