package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
)

// host has a clock that is set, and one that nobody sets.
type host struct {
	wall    time.Time
	elapsed time.Duration
}

func (h *host) pass(d time.Duration) {
	h.wall = h.wall.Add(d)
	h.elapsed += d
}

func (h *host) config(t *testing.T) store.Config {
	t.Helper()
	cfg := config(t, newClock())
	cfg.Now = func() time.Time { return h.wall }
	cfg.Elapsed = func() time.Duration { return h.elapsed }
	return cfg
}

// addHourToken adds an onboarding key that is good for an hour, as core makes them.
func addHourToken(t *testing.T, s *store.Store, id string) {
	t.Helper()
	now := s.Clock().Now
	must(t, s.AddOnboardingKey(t.Context(), api.OnboardingKey{
		ID: id, ServerGlob: "*", MaxUses: 9, Tier: "trusted", Created: now, Expires: now.Add(time.Hour),
	}, hashOf("secret")))
}

func opens(t *testing.T, s *store.Store, id, server string) bool {
	t.Helper()
	err := s.Onboard(t.Context(), store.Joining{Token: id, Hash: hashOf("secret"), Server: server, PublicKey: "k-" + server})
	if err != nil && !errors.Is(err, store.ErrOnboarding) && !errors.Is(err, store.ErrPending) {
		t.Fatal(err)
	}
	return !errors.Is(err, store.ErrOnboarding)
}

func TestNoStepOfTheClockMakesATokenGoodAgainOrLonger(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	const year = 365 * 24 * time.Hour
	for name, to := range map[string]time.Time{
		"a second on":     start.Add(time.Second),
		"a second back":   start.Add(-time.Second),
		"an hour on":      start.Add(time.Hour),
		"an hour back":    start.Add(-time.Hour), // as of a clock that keeps summer time
		"two hours on":    start.Add(2 * time.Hour),
		"ten years on":    start.Add(10 * year),
		"ten years back":  start.Add(-10 * year),
		"the epoch":       time.Unix(0, 0),
		"the end of 1969": time.Unix(-1, 0),
		"2038":            time.Unix(1<<31, 0),
		"2106":            time.Unix(1<<32, 0),
		"a smeared leap":  start.Add(500 * time.Millisecond),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &host{wall: start}
			cfg := h.config(t)
			s := open(t, cfg)
			addHourToken(t, s, "old")
			h.pass(2 * time.Hour)
			if opens(t, s, "old", "a") {
				t.Fatal("a token is good after its hour")
			}
			addHourToken(t, s, "live")
			before := s.Clock()
			h.wall = h.wall.Add(to.Sub(start))
			if opens(t, s, "old", "a") {
				t.Error("an expired token is good after the step")
			}
			after := s.Clock()
			if after.Now.Before(before.Now) {
				t.Errorf("the time that expiry is judged by went back from %s to %s", before.Now, after.Now)
			}
			if step := to.Sub(start); (after.Jump > 0) != (step > time.Hour) {
				t.Errorf("a step of %s is a jump of %s", step, after.Jump)
			}
			h.pass(59 * time.Minute)
			if got, want := opens(t, s, "live", "b"), to.Sub(start) < time.Minute+time.Nanosecond; got != want {
				t.Errorf("within its hour a token opens: %v, want %v", got, want)
			}
			h.pass(time.Minute)
			if opens(t, s, "live", "c") {
				t.Error("a token is good for more than an hour")
			}
			addHourToken(t, s, "fresh")
			if !opens(t, s, "fresh", "d") {
				t.Error("a token that is made after the step opens nothing")
			}
			must(t, s.KeepClock(t.Context()))
			must(t, s.Close())
			h.elapsed = 0
			again := open(t, cfg)
			if opens(t, again, "old", "e") || opens(t, again, "live", "e") {
				t.Error("an expired token is good after a restart")
			}
		})
	}
}

func TestAClockThatWasSetBackIsToldUntilItCaughtUp(t *testing.T) {
	t.Parallel()
	h := &host{wall: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	s := open(t, h.config(t))
	h.wall = h.wall.Add(-2 * time.Hour)
	h.pass(time.Hour)
	if got := s.Clock().Behind(); got != 2*time.Hour {
		t.Errorf("behind by %s, want 2h", got)
	}
	h.wall = h.wall.Add(2 * time.Hour)
	if got := s.Clock(); got.Behind() != 0 || got.Jump != 0 {
		t.Errorf("put right it is %+v", got)
	}
}

func TestAJumpLocksNoAgentOut(t *testing.T) {
	t.Parallel()
	h := &host{wall: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	s := open(t, h.config(t))
	addHourToken(t, s, "tok")
	if !opens(t, s, "tok", "a") { // with the key k-a
		t.Fatal("the server did not join")
	}
	must(t, s.ApproveServer(t.Context(), "a"))
	id, err := s.StartRotation(t.Context(), "a", "one", "ann", false)
	must(t, err)
	must(t, s.ProposeKey(t.Context(), "a", id, "k1"))
	jump := 10 * 365 * 24 * time.Hour
	h.wall = h.wall.Add(jump)
	got, err := s.AdmitKey(t.Context(), "k1") // within the time of the change, by the other clock
	must(t, err)
	if diff := cmp.Diff(store.Admitted{Server: "a", Replaced: "k-a"}, got); diff != "" {
		t.Errorf("the next key (-want +got):\n%s", diff)
	}
	h.wall = h.wall.Add(jump)
	if got, err := s.AdmitKey(t.Context(), "k-a"); err != nil || !got.Retired {
		t.Errorf("the retired key after another jump: %+v, %v", got, err)
	}
	h.pass(25 * time.Hour)
	if _, err := s.AdmitKey(t.Context(), "k-a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the retired key a day later: %v", err)
	}
	if clock := s.Clock(); clock.Jump != 0 {
		t.Errorf("a jump of %s is still told a day later", clock.Jump)
	}
}
