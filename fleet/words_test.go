package fleet_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
)

func TestWordsAreSplitAsAShellDoes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                                   nil,
		"  rake   db:migrate ":               {"rake", "db:migrate"},
		`sh -c "echo a, 'b'"`:                {"sh", "-c", "echo a, 'b'"},
		`one\ word 'a\b' ""`:                 {"one word", `a\b`, ""},
		"app --to ${{ inputs.version }} now": {"app", "--to", "${{ inputs.version }}", "now"},
	} {
		if diff := cmp.Diff(want, fleet.SplitWords(text)); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}
