package store_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
)

func hashOf(secret string) [32]byte { return sha256.Sum256([]byte(secret)) }

// addToken adds an onboarding key "tok" with the secret "secret".
func addToken(t *testing.T, s *store.Store, c *clock, change func(*api.OnboardingKey)) {
	t.Helper()
	key := api.OnboardingKey{
		ID: "tok", Name: "test", ServerGlob: "*", Tier: fleet.TierTrusted, MaxUses: 1, Tags: []string{"x"},
		Created: c.now, Expires: c.now.Add(time.Hour),
	}
	if change != nil {
		change(&key)
	}
	must(t, s.AddOnboardingKey(t.Context(), key, hashOf("secret")))
}

func joining(server, key string) store.Joining {
	return store.Joining{Token: "tok", Hash: hashOf("secret"), Server: server, PublicKey: key}
}

func TestO05ATokenIsConsumedOnceByAHundredAtATime(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	addToken(t, s, c, nil)
	var (
		wg       sync.WaitGroup
		admitted atomic.Int32
	)
	for i := range 100 {
		wg.Go(func() {
			err := s.Onboard(t.Context(), joining(fmt.Sprintf("server-%d", i), fmt.Sprintf("key-%d", i)))
			switch {
			case err == nil:
				admitted.Add(1)
			case !errors.Is(err, store.ErrOnboarding):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	servers, err := s.Servers(t.Context())
	must(t, err)
	keys, err := s.OnboardingKeys(t.Context())
	must(t, err)
	if admitted.Load() != 1 || len(servers) != 1 || keys[0].Uses != 1 {
		t.Errorf("%d admitted, %d servers, %d uses", admitted.Load(), len(servers), keys[0].Uses)
	}
}

func TestOnboardingRefusals(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		change func(*api.OnboardingKey)
		before func(t *testing.T, s *store.Store, c *clock)
		join   store.Joining
		reason string
	}{
		"unknown token": {
			join:   store.Joining{Token: "other", Hash: hashOf("secret"), Server: "a", PublicKey: "k"},
			reason: "no such key",
		},
		"wrong secret": {
			join:   store.Joining{Token: "tok", Hash: hashOf("guess"), Server: "a", PublicKey: "k"},
			reason: "wrong secret",
		},
		"expired": {
			before: func(_ *testing.T, _ *store.Store, c *clock) { c.now = c.now.Add(time.Hour) },
			join:   joining("a", "k"), reason: "spent, expired or revoked",
		},
		"expired, and the clock set back": {
			before: func(t *testing.T, s *store.Store, c *clock) {
				t.Helper()
				c.now = c.now.Add(2 * time.Hour)
				_ = s.Onboard(t.Context(), joining("a", "k"))
				c.now = c.now.Add(-2 * time.Hour)
			},
			join: joining("a", "k"), reason: "spent, expired or revoked",
		},
		"revoked": {
			before: func(t *testing.T, s *store.Store, _ *clock) {
				t.Helper()
				must(t, s.RevokeOnboardingKey(t.Context(), "tok"))
			},
			join: joining("a", "k"), reason: "spent, expired or revoked",
		},
		"spent": {
			before: func(t *testing.T, s *store.Store, _ *clock) {
				t.Helper()
				must(t, s.Onboard(t.Context(), joining("first", "k1")))
			},
			join: joining("a", "k"), reason: "spent, expired or revoked",
		},
		"name outside the glob": {
			change: func(k *api.OnboardingKey) { k.ServerGlob = "edge-*" },
			join:   joining("core-1", "k"), reason: "does not match",
		},
		"O06 a name that is taken": {
			change: func(k *api.OnboardingKey) { k.MaxUses = 5 },
			before: func(t *testing.T, s *store.Store, _ *clock) {
				t.Helper()
				_ = s.Onboard(t.Context(), joining("a", "k1")) // pending, and it holds the name
			},
			join: joining("a", "k2"), reason: "taken",
		},
		"O06 a name that is taken in another case": {
			change: func(k *api.OnboardingKey) { k.MaxUses = 5 },
			before: func(t *testing.T, s *store.Store, _ *clock) {
				t.Helper()
				_ = s.Onboard(t.Context(), joining("Alpha", "k1")) // pending, and it holds the name
			},
			join: joining("alpha", "k2"), reason: "taken",
		},
		"an agent key that belongs to another server": {
			change: func(k *api.OnboardingKey) { k.MaxUses = 5 },
			before: func(t *testing.T, s *store.Store, _ *clock) {
				t.Helper()
				_ = s.Onboard(t.Context(), joining("a", "k")) // pending, and it holds the name
			},
			join: joining("b", "k"), reason: "taken",
		},
		"a re-key token for another server": {
			change: func(k *api.OnboardingKey) { k.Rekey = "b" },
			join:   joining("a", "k"), reason: `for server "b" only`,
		},
		"a re-key token for a server that is gone": {
			change: func(k *api.OnboardingKey) { k.Rekey = "a" },
			join:   joining("a", "k"), reason: "does not exist",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			s := open(t, config(t, c))
			addToken(t, s, c, tc.change)
			if tc.before != nil {
				tc.before(t, s, c)
			}
			before, err := s.OnboardingKeys(t.Context())
			must(t, err)
			err = s.Onboard(t.Context(), tc.join)
			if !errors.Is(err, store.ErrOnboarding) || !strings.Contains(err.Error(), tc.reason) {
				t.Errorf("got %v, want ErrOnboarding with %q", err, tc.reason)
			}
			after, err := s.OnboardingKeys(t.Context())
			must(t, err)
			if before[0].Uses != after[0].Uses {
				t.Errorf("a refusal spent a use: %d -> %d", before[0].Uses, after[0].Uses)
			}
		})
	}
}

func TestOnboardingMayBeRepeatedByTheSameAgent(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	addToken(t, s, c, nil)
	for range 2 {
		must(t, s.Onboard(t.Context(), joining("a", "k")))
	}
	got, err := s.AdmitKey(t.Context(), "k")
	must(t, err)
	if got.Server != "a" {
		t.Errorf("the key belongs to %q", got.Server)
	}
	for want := uint64(1); want <= 3; want++ {
		epoch, err := s.NextEpoch(t.Context(), "a")
		must(t, err)
		if epoch != want {
			t.Errorf("epoch %d, want %d", epoch, want)
		}
	}
}

func TestO06ARekeyTokenReplacesTheKeyOfItsServer(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	addToken(t, s, c, nil)
	must(t, s.Onboard(t.Context(), joining("a", "old")))
	must(t, s.AddOnboardingKey(t.Context(), api.OnboardingKey{
		ID: "re", ServerGlob: "*", Rekey: "a", MaxUses: 1, Created: c.now, Expires: c.now.Add(time.Minute),
	}, hashOf("secret")))
	must(t, s.Onboard(t.Context(), store.Joining{Token: "re", Hash: hashOf("secret"), Server: "a", PublicKey: "new"}))
	if _, err := s.AdmitKey(t.Context(), "old"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the old key still opens: %v", err)
	}
	got, err := s.AdmitKey(t.Context(), "new")
	must(t, err)
	if got.Server != "a" {
		t.Errorf("the new key belongs to %q", got.Server)
	}
}

func TestO07ServersOfAReusableTokenWaitForApproval(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	addToken(t, s, c, func(k *api.OnboardingKey) { k.MaxUses = 2 })
	for range 2 {
		if err := s.Onboard(t.Context(), joining("a", "k")); !errors.Is(err, store.ErrPending) {
			t.Errorf("joining: %v", err)
		}
	}
	if _, err := s.AdmitKey(t.Context(), "k"); !errors.Is(err, store.ErrPending) {
		t.Errorf("a pending server: %v", err)
	}
	must(t, s.ApproveServer(t.Context(), "a"))
	must(t, s.Onboard(t.Context(), joining("a", "k")))
	_, err := s.AdmitKey(t.Context(), "k")
	must(t, err)
	must(t, s.RemoveServer(t.Context(), "a"))
	if _, err := s.AdmitKey(t.Context(), "k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a removed server: %v", err)
	}
}

func TestO11GuessingRevokesTheToken(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	addToken(t, s, c, nil)
	for i := range 50 {
		if keys, err := s.OnboardingKeys(t.Context()); err != nil || keys[0].Revoked {
			t.Fatalf("after %d guesses: revoked or %v", i, err)
		}
		_ = s.Onboard(t.Context(), store.Joining{Token: "tok", Hash: hashOf(fmt.Sprint(i)), Server: "a", PublicKey: "k"})
	}
	if err := s.Onboard(t.Context(), joining("a", "k")); !errors.Is(err, store.ErrOnboarding) {
		t.Errorf("after 50 guesses the token still works: %v", err)
	}
}
