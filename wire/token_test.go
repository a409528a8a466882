package wire_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/varanhq/varan/wire"
)

func TestOnboardingTokenSurvivesItsWrittenForm(t *testing.T) {
	core := wire.Fingerprint{1, 2, 3, 15: 255}
	token := wire.NewOnboardingToken(core)
	got, err := wire.ParseOnboardingToken(token.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if got.Reveal() != token.Reveal() || got.Core() != core || got.SecretHash() != token.SecretHash() {
		t.Errorf("parsed %v, want %v", got, token)
	}
	if len(token.Reveal()) != len("vo1")+1+13+1+52+1+26 {
		t.Errorf("token of %d characters", len(token.Reveal()))
	}
	if wire.NewOnboardingToken(core).Reveal() == token.Reveal() {
		t.Error("two new tokens are the same")
	}
}

func TestOnboardingTokenHasOneForm(t *testing.T) {
	good := wire.NewOnboardingToken(wire.Fingerprint{}).Reveal()
	parts := strings.Split(good, "_")
	join := func(p ...string) string { return strings.Join(p, "_") }
	for name, bad := range map[string]string{
		"empty":              "",
		"another version":    "vo2" + good[3:],
		"space around":       " " + good,
		"line break within":  good[:20] + "\n" + good[20:],
		"upper case":         strings.ToUpper(good),
		"a part missing":     join(parts[:3]...),
		"a part too many":    good + "_a",
		"short id":           join(parts[0], parts[1][:11], parts[2], parts[3]),
		"short secret":       join(parts[0], parts[1], parts[2][:39], parts[3]),
		"short fingerprint":  join(parts[0], parts[1], parts[2], parts[3][:13]),
		"padded":             good + "======",
		"stray bits":         good[:len(good)-1] + "b",
		"foreign characters": join(parts[0], parts[1], "0189"+parts[2][4:], parts[3]),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := wire.ParseOnboardingToken(bad)
			if err == nil {
				t.Fatal("accepted")
			}
			if len(bad) > 60 && strings.Contains(err.Error(), parts[2][4:20]) {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
}

func TestOnboardingTokenNeverPrintsItsSecret(t *testing.T) {
	token := wire.NewOnboardingToken(wire.Fingerprint{})
	encoded := strings.Split(token.Reveal(), "_")[2]
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", slog.Any("token", token))
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", slog.Any("token", token))
	encodedJSON, err := json.Marshal(map[string]any{"token": token})
	if err != nil {
		t.Fatal(err)
	}
	out := log.String() + string(encodedJSON)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		out += fmt.Sprintf(verb, token) + fmt.Sprintf(verb, struct{ T wire.OnboardingToken }{token})
	}
	if strings.Contains(out, encoded) {
		t.Errorf("the secret shows in %s", out)
	}
	if !strings.Contains(out, token.ID()) {
		t.Errorf("the id is missing in %s", out)
	}
}

func FuzzParseOnboardingToken(f *testing.F) {
	f.Add(wire.NewOnboardingToken(wire.Fingerprint{9}).Reveal())
	f.Add("vo1___")
	f.Add("vo1_aaaaaaaaaaaaa_\n_aaaaaaaaaaaaaaaaaaaaaaaaaa")
	f.Fuzz(func(t *testing.T, s string) {
		token, err := wire.ParseOnboardingToken(s)
		if err == nil && token.Reveal() != s {
			t.Errorf("%q was accepted, its canonical form is %q", s, token.Reveal())
		}
	})
}
