package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
)

// withServer is a store with the server "a", whose agent has the key "k0".
func withServer(t *testing.T) (*store.Store, *clock) {
	t.Helper()
	c := newClock()
	s := open(t, config(t, c))
	addToken(t, s, c, nil)
	must(t, s.Onboard(t.Context(), joining("a", "k0")))
	return s, c
}

func states(t *testing.T, s *store.Store) map[string]store.KeyState {
	t.Helper()
	keys, err := s.ServerKeys(t.Context())
	must(t, err)
	out := map[string]store.KeyState{}
	for _, k := range keys {
		out[k.PublicKey] = k.State
	}
	return out
}

func TestAKeyChangesStepByStep(t *testing.T) {
	t.Parallel()
	s, _ := withServer(t)
	id, err := s.StartRotation(t.Context(), "a", "one", "ann", false)
	must(t, err)
	if again, err := s.StartRotation(t.Context(), "a", "two", "bob", false); err != nil || again != id {
		t.Errorf("a second change began: %s, %v", again, err)
	}
	for range 2 {
		must(t, s.ProposeKey(t.Context(), "a", id, "k1"))
	}
	if diff := cmp.Diff(map[string]store.KeyState{"k0": store.KeyCurrent, "k1": store.KeyNext}, states(t, s)); diff != "" {
		t.Errorf("accepted (-want +got):\n%s", diff)
	}
	got, err := s.AdmitKey(t.Context(), "k1")
	must(t, err)
	if diff := cmp.Diff(store.Admitted{Server: "a", Replaced: "k0"}, got); diff != "" {
		t.Errorf("the next key (-want +got):\n%s", diff)
	}
	got, err = s.AdmitKey(t.Context(), "k0")
	must(t, err)
	if !got.Retired {
		t.Errorf("the old key is good for more than saying so: %+v", got)
	}
	must(t, s.ConfirmKey(t.Context(), "a"))
	if diff := cmp.Diff(map[string]store.KeyState{"k1": store.KeyCurrent}, states(t, s)); diff != "" {
		t.Errorf("in the end (-want +got):\n%s", diff)
	}
	if _, err := s.OpenRotation(t.Context(), "a"); !errors.Is(err, store.ErrNoRotation) {
		t.Errorf("the change is still open: %v", err)
	}
}

func TestTimeEndsAChangeOfKeysAndAGrace(t *testing.T) {
	t.Parallel()
	s, c := withServer(t)
	id, err := s.StartRotation(t.Context(), "a", "one", "ann", false)
	must(t, err)
	must(t, s.ProposeKey(t.Context(), "a", id, "k1"))
	c.now = c.now.Add(store.RotationTime)
	if _, err := s.AdmitKey(t.Context(), "k1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the key of a change that is over: %v", err)
	}
	if err := s.ProposeKey(t.Context(), "a", id, "k2"); !errors.Is(err, store.ErrNoRotation) {
		t.Errorf("a proposal in a change that is over: %v", err)
	}
	if id, err = s.StartRotation(t.Context(), "a", "two", "ann", false); err != nil || id != "two" {
		t.Errorf("no other change could begin: %s, %v", id, err)
	}
	must(t, s.ProposeKey(t.Context(), "a", id, "k2"))
	_, err = s.AdmitKey(t.Context(), "k2")
	must(t, err)
	c.now = c.now.Add(store.KeyGrace - 1)
	if got, err := s.AdmitKey(t.Context(), "k0"); err != nil || !got.Retired {
		t.Errorf("within the grace: %+v, %v", got, err)
	}
	c.now = c.now.Add(1)
	if _, err := s.AdmitKey(t.Context(), "k0"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after the grace: %v", err)
	}
}

func TestADisabledServersKeysAreRefused(t *testing.T) {
	t.Parallel()
	s, c := withServer(t)
	must(t, s.SetServerDisabled(t.Context(), "a", true))
	if _, err := s.AdmitKey(t.Context(), "k0"); !errors.Is(err, store.ErrDisabled) {
		t.Errorf("its key: %v", err)
	}
	if err := s.Onboard(t.Context(), joining("a", "k0")); !errors.Is(err, store.ErrDisabled) {
		t.Errorf("joining again: %v", err)
	}
	must(t, s.AddOnboardingKey(t.Context(), api.OnboardingKey{
		ID: "re", ServerGlob: "*", Rekey: "a", MaxUses: 1, Created: c.now, Expires: c.now.Add(time.Minute),
	}, hashOf("secret")))
	must(t, s.Onboard(t.Context(), store.Joining{Token: "re", Hash: hashOf("secret"), Server: "a", PublicKey: "new"}))
	_, err := s.AdmitKey(t.Context(), "new")
	must(t, err)
	if _, err := s.AdmitKey(t.Context(), "k0"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the key it had when it was disabled: %v", err)
	}
	must(t, s.SetServerDisabled(t.Context(), "a", true))
	must(t, s.SetServerDisabled(t.Context(), "a", false))
	_, err = s.AdmitKey(t.Context(), "new")
	must(t, err)
}

// TestN14AServerHasAtMostTwoKeysAndOneThatWas tries what agents, people and time may do in any
// order: there is always one current key, and never more than one beside it that opens a session.
func TestN14AServerHasAtMostTwoKeysAndOneThatWas(t *testing.T) {
	t.Parallel()
	s, c := withServer(t)
	names := rapid.SampledFrom([]string{"k0", "k1", "k2", "k3", "k4"})
	rapid.Check(t, func(t *rapid.T) {
		id := ""
		t.Repeat(map[string]func(*rapid.T){
			"start": func(rt *rapid.T) {
				var err error
				id, err = s.StartRotation(t.Context(), "a", rapid.StringN(1, 8, 8).Draw(rt, "id"), "", rapid.Bool().Draw(rt, "emergency"))
				if err != nil {
					rt.Fatal(err)
				}
			},
			"propose": func(rt *rapid.T) { _ = s.ProposeKey(t.Context(), "a", id, names.Draw(rt, "key")) },
			"connect": func(rt *rapid.T) { _, _ = s.AdmitKey(t.Context(), names.Draw(rt, "key")) },
			"confirm": func(rt *rapid.T) {
				if err := s.ConfirmKey(t.Context(), "a"); err != nil {
					rt.Fatal(err)
				}
			},
			"abandon": func(rt *rapid.T) {
				if err := s.AbandonRotation(t.Context(), "a", id); err != nil {
					rt.Fatal(err)
				}
			},
			"wait": func(rt *rapid.T) {
				c.now = c.now.Add(time.Duration(rapid.IntRange(1, int(2*store.KeyGrace)).Draw(rt, "time")))
			},
			"": func(rt *rapid.T) {
				keys, err := s.ServerKeys(t.Context())
				if err != nil {
					rt.Fatal(err)
				}
				count := map[store.KeyState]int{}
				for _, k := range keys {
					count[k.State]++
				}
				if count[store.KeyCurrent] != 1 || count[store.KeyNext] > 1 || count[store.KeyRetired] > 1 || len(keys) > 3 {
					rt.Fatalf("core accepts %+v", keys)
				}
			},
		})
	})
}
