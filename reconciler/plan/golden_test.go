package plan_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/varanhq/varan/reconciler/plan"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGoldenPlans holds every rule of the planner against a small world. The section
// "plan" is Plan.String, "render" is what people see; the latter only where it is there.
func TestGoldenPlans(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sections := map[string]string{}
			for _, f := range archive.Files {
				sections[f.Name] = string(f.Data)
			}
			in, err := parseWorld(sections)
			if err != nil {
				t.Fatal(err)
			}
			got := plan.Compute(in)
			checkInvariants(t, in, got)
			checkRoundTrip(t, got)
			for i := range archive.Files {
				f := &archive.Files[i]
				var text string
				switch f.Name {
				case "plan":
					text = got.String()
				case "render":
					text = render(t, got, plan.RenderOptions{Width: 110})
				case "verbose":
					text = render(t, got, plan.RenderOptions{Verbose: true})
				default:
					continue
				}
				if diff := cmp.Diff(string(f.Data), text); diff != "" && !*update {
					t.Errorf("%s (-want +got):\n%s", f.Name, diff)
				}
				f.Data = []byte(text)
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func render(t *testing.T, p plan.Plan, opts plan.RenderOptions) string {
	t.Helper()
	var b bytes.Buffer
	if err := p.Render(&b, opts); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func checkRoundTrip(t *testing.T, p plan.Plan) {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back plan.Plan
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(back)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, again) || back.String() != p.String() {
		t.Errorf("a plan changes when it goes through JSON:\n%s", cmp.Diff(string(text), string(again)))
	}
}
