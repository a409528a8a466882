package fleet_test

import (
	"testing"

	"github.com/varanhq/varan/fleet"
)

func TestLocalSecretTokensAreReplaced(t *testing.T) {
	t.Parallel()
	values := map[string]string{"DB": "p@ss", "EMPTY": ""}
	value := func(name string) (string, bool) {
		v, ok := values[name]
		return v, ok
	}
	token := fleet.LocalSecret{Name: "DB", Version: "v1"}.Token()
	out, unknown := fleet.ReplaceLocalSecrets("a "+token+" b "+fleet.LocalSecret{Name: "EMPTY", Version: "v"}.Token(), value)
	if out != "a p@ss b " || unknown != "" {
		t.Errorf("got %q, unknown %q", out, unknown)
	}
	if _, unknown := fleet.ReplaceLocalSecrets(fleet.LocalSecret{Name: "GONE", Version: "v"}.Token(), value); unknown != "GONE" {
		t.Errorf("unknown is %q", unknown)
	}
	if out, _ := fleet.ReplaceLocalSecrets("@varan-local-secret:@", value); out != "@varan-local-secret:@" {
		t.Errorf("what is no token became %q", out)
	}
}
