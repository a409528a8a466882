package schemas_test

import (
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/schemas"
	"github.com/varanhq/varan/sync/spec"
)

var update = flag.Bool("update", false, "write the schemas anew")

func TestSchemaIsUpToDate(t *testing.T) {
	t.Parallel()
	want, err := spec.JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("resources.schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), string(schemas.Resources())); diff != "" {
		t.Errorf("run go test ./schemas -update (-want +got):\n%s", diff)
	}
}
