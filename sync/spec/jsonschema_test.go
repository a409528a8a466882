package spec_test

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/varanhq/varan/sync/spec"
)

// compiled is the schema as an editor has it.
func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	raw, err := spec.JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("resources.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("resources.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// TestSchemaAcceptsWhatIsValid checks every example and every valid fixture.
func TestSchemaAcceptsWhatIsValid(t *testing.T) {
	t.Parallel()
	schema := compiled(t)
	checked := 0
	for _, root := range []string{"../../examples", "../../testdata/fleets"} {
		fsys := os.DirFS(root)
		err := fs.WalkDir(fsys, ".", func(p string, _ fs.DirEntry, err error) error {
			if err != nil || path.Ext(p) != ".toml" || strings.HasPrefix(path.Base(p), ".") {
				return err
			}
			src, err := fs.ReadFile(fsys, p)
			if err != nil {
				return err
			}
			file, diags := spec.ParseFile(p, src)
			if diags.HasErrors() || file.Len() == 0 {
				return nil
			}
			doc, err := spec.Plain(src)
			if err != nil {
				t.Errorf("%s/%s: %v", root, p, err)
				return nil
			}
			checked++
			if err := schema.Validate(doc); err != nil {
				t.Errorf("%s/%s: %v", root, p, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if checked < 15 {
		t.Errorf("only %d files are checked", checked)
	}
}

// TestSchemaAndReaderAgree says that what the reader has no fault with, the schema has
// none with either: for whatever resources there are.
func TestSchemaAndReaderAgree(t *testing.T) {
	t.Parallel()
	schema := compiled(t)
	rapid.Check(t, func(t *rapid.T) {
		out := spec.Export(spec.Declarations{Resources: maker{t}.resources()})
		doc, err := spec.Plain(out)
		if err != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
		if err := schema.Validate(doc); err != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
	})
}

func TestSchemaRefusesWhatIsWrong(t *testing.T) {
	t.Parallel()
	schema := compiled(t)
	for name, src := range map[string]string{
		"unknown key":            "[[server]]\nname = \"a\"\nnaem = \"b\"\n",
		"unknown table":          "[[servr]]\nname = \"a\"\n",
		"wrong type":             "[[stack]]\nname = \"a\"\nauto_pull = \"true\"\n",
		"wrong word":             "[[server]]\nname = \"a\"\ntier = \"trused\"\n",
		"no name":                "[[stack]]\nserver = \"a\"\n",
		"unknown execution":      "[[procedure]]\nname = \"a\"\n[[procedure.config.stage]]\nexecutions = [{ execution.type = \"Deplo\" }]\n",
		"param of another":       "[[procedure]]\nname = \"a\"\n[[procedure.config.stage]]\nexecutions = [{ execution.type = \"Deploy\", execution.params.stack = \"x\" }]\n",
		"endpoint without type":  "[[alerter]]\nname = \"a\"\nendpoint.params.url = \"x\"\n",
		"key of another builder": "[[builder]]\nname = \"a\"\nconfig = { type = \"Server\", params.region = \"x\" }\n",
	} {
		doc, err := spec.Plain([]byte(src))
		if err != nil {
			t.Fatal(name, err)
		}
		if schema.Validate(doc) == nil {
			t.Errorf("%s is accepted", name)
		}
		if _, diags := spec.ParseFile("x.toml", []byte(src)); !diags.HasErrors() {
			t.Errorf("%s is read: %v", name, diags)
		}
	}
}
