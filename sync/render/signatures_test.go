package render_test

import (
	"strings"
	"testing"

	"github.com/varanhq/varan/fleet"
)

const adasKey = "ada@example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAzcVVSVbPKzqQPmNqQ0MvG6mOFFvPFyDFhnGBGBQPHp"

func TestKeysOfASyncAreCheckedBeforeTheyLockAnybodyOut(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"signatures = \"head\"": "ops.toml:5:1",
		"signatures = \"head\"\nallowed_signers = \"" + adasKey + "\"":                    "",
		"signatures = \"head\"\nallowed_signers = \"\"\"\n# keys\n" + "ada ssh\n\"\"\"\n": "ops.toml:6:1",
		"pgp_keys = \"nonsense\"": "ops.toml:5:1",
	} {
		file := "[[resource_sync]]\nname = \"x\"\n[resource_sync.config]\nrepo = \"a/b\"\n" + text + "\n"
		out, err := newRenderer().Render(t.Context(), input(t, repo{"ops.toml": file}, "c1"))
		if err != nil {
			t.Fatal(err)
		}
		var at []string
		for _, d := range out.Diagnostics {
			if d.Rule == "commit-signers" && d.Severity == fleet.SeverityError {
				at = append(at, d.Position.String())
			}
		}
		if got := strings.Join(at, " "); got != want {
			t.Errorf("%s\nfound at %q, want %q: %v", text, got, want, out.Diagnostics)
		}
	}
}
