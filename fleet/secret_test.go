package fleet_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/varanhq/varan/fleet"
)

func TestSecretNeverPrints(t *testing.T) {
	t.Parallel()
	const canary = "hunter2"
	type holder struct {
		Open   fleet.Secret
		hidden fleet.Secret
		List   []fleet.Secret
		Map    map[string]fleet.Secret
	}
	s := fleet.NewSecret(canary)
	h := holder{Open: s, hidden: s, List: []fleet.Secret{s}, Map: map[string]fleet.Secret{"k": s}}
	if h.hidden.Reveal() != canary || s.IsEmpty() || !(fleet.Secret{}).IsEmpty() {
		t.Fatal("a secret does not hold its value")
	}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
		for _, value := range []any{s, &s, h, &h, []any{h}} {
			fmt.Fprintf(&out, verb, value)
		}
	}
	raw, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(raw)
	logger := slog.New(slog.NewTextHandler(&out, nil))
	logger.Info("secret", slog.Any("secret", s), slog.Any("holder", h))
	slog.New(slog.NewJSONHandler(&out, nil)).Info("secret", slog.Any("secret", s), slog.Any("holder", h))
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary)} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the secret was printed:\n%s", out.String())
		}
	}
}
