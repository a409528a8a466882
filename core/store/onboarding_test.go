package store_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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

// races is how often a hundred agents race for one key. A thousand were run by hand; each
// costs a hundred transactions that are on disk when they end.
const races = 12

func TestO05ATokenIsConsumedOnceByAHundredAtATime(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	for race := range races {
		id := fmt.Sprintf("tok-%d", race)
		must(t, s.AddOnboardingKey(t.Context(), api.OnboardingKey{
			ID: id, ServerGlob: "*", MaxUses: 1, Created: c.now, Expires: c.now.Add(time.Hour),
		}, hashOf("secret")))
		var (
			wg       sync.WaitGroup
			admitted atomic.Int32
		)
		for i := range 100 {
			wg.Go(func() {
				err := s.Onboard(t.Context(), store.Joining{
					Token: id, Hash: hashOf("secret"), Server: fmt.Sprintf("s-%d-%d", race, i), PublicKey: fmt.Sprintf("k-%d-%d", race, i),
				})
				switch {
				case err == nil:
					admitted.Add(1)
				case !errors.Is(err, store.ErrOnboarding):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if admitted.Load() != 1 {
			t.Fatalf("race %d: %d admitted", race, admitted.Load())
		}
	}
	servers, err := s.Servers(t.Context())
	must(t, err)
	keys, err := s.OnboardingKeys(t.Context())
	must(t, err)
	uses := 0
	for i := range keys {
		uses += keys[i].Uses
	}
	if len(servers) != races || uses != races {
		t.Errorf("%d servers and %d uses after %d races", len(servers), uses, races)
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
		"O04 an address outside the networks": {
			change: func(k *api.OnboardingKey) { k.CIDRs = []string{"10.0.0.0/8", "2001:db8::/32"} },
			join:   from(joining("a", "k"), "192.0.2.1"), reason: "not in 10.0.0.0/8, 2001:db8::/32",
		},
		"O04 an address that is not known": {
			change: func(k *api.OnboardingKey) { k.CIDRs = []string{"0.0.0.0/0"} },
			join:   joining("a", "k"), reason: "not in 0.0.0.0/0",
		},
		"a name that no server has": {
			join: joining("a b", "k"), reason: "no server can have that name",
		},
		"a name that draws on a terminal": {
			join: joining("a\x1b[31m", "k"), reason: "no server can have that name",
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
			// O08: the peer hears nothing, the history has the reason.
			events, err := s.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 1}})
			must(t, err)
			if len(events) != 1 || events[0].Kind != "onboarding" || !strings.Contains(events[0].Text, tc.reason) ||
				strings.ContainsRune(events[0].Text, 0x1b) {
				t.Errorf("the history has %+v, not %q", events, tc.reason)
			}
			after, err := s.OnboardingKeys(t.Context())
			must(t, err)
			if before[0].Uses != after[0].Uses {
				t.Errorf("a refusal spent a use: %d -> %d", before[0].Uses, after[0].Uses)
			}
		})
	}
}

// from is an agent at an address.
func from(join store.Joining, addr string) store.Joining {
	join.RemoteAddr = netip.MustParseAddr(addr)
	return join
}

func TestO02TheSecretOfAKeyIsNotKept(t *testing.T) {
	t.Parallel()
	c := newClock()
	cfg := config(t, c)
	s := open(t, cfg)
	must(t, s.AddOnboardingKey(t.Context(), api.OnboardingKey{
		ID: "tok", ServerGlob: "*", MaxUses: 1, Last4: "4567", Created: c.now, Expires: c.now.Add(time.Hour),
	}, hashOf("canary-secret")))
	files, err := filepath.Glob(cfg.Path + "*")
	must(t, err)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		must(t, err)
		if bytes.Contains(raw, []byte("canary-secret")) {
			t.Errorf("%s holds the secret", file)
		}
	}
	keys, err := s.OnboardingKeys(t.Context())
	must(t, err)
	if len(files) == 0 || keys[0].ID != "tok" || keys[0].Last4 != "4567" {
		t.Errorf("%d files, keys %+v", len(files), keys)
	}
}

func TestO04AKeyGivesWhatItWasMadeWith(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	addToken(t, s, c, func(k *api.OnboardingKey) {
		k.CIDRs, k.Tier, k.Template, k.CopyServer = []string{"10.0.0.0/8"}, fleet.TierUntrusted, "[[server]]", "base"
	})
	must(t, s.Onboard(t.Context(), from(joining("a", "k"), "::ffff:10.9.8.7")))
	servers, err := s.Servers(t.Context())
	must(t, err)
	want := []store.Server{{
		Name: "a", PublicKey: "k", Tags: []string{"x"}, Tier: fleet.TierUntrusted, OnboardedAt: c.now.UTC(),
		Template: "[[server]]", OnboardingKey: "tok", RemoteAddr: "10.9.8.7",
	}}
	if diff := cmp.Diff(want, servers); diff != "" {
		t.Errorf("servers (-want +got):\n%s", diff)
	}
}

func TestO04AKeyEndsWithTheAPIKeyThatMadeIt(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	for _, id := range []string{"ada", "eve"} {
		_, err := s.AddKey(t.Context(), id, id, hashOf(id))
		must(t, err)
	}
	addToken(t, s, c, func(k *api.OnboardingKey) { k.CreatedBy = "eve" })
	must(t, s.DeleteKey(t.Context(), "eve"))
	if err := s.Onboard(t.Context(), joining("a", "k")); !errors.Is(err, store.ErrOnboarding) {
		t.Errorf("the key of a revoked API key lets in: %v", err)
	}
}

func TestO07ARejectedAgentDoesNotComeBack(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	addToken(t, s, c, func(k *api.OnboardingKey) { k.MaxUses = 5 })
	if err := s.Onboard(t.Context(), joining("a", "k")); !errors.Is(err, store.ErrPending) {
		t.Fatalf("joining: %v", err)
	}
	must(t, s.RejectServer(t.Context(), "a"))
	for _, name := range []string{"a", "b"} {
		err := s.Onboard(t.Context(), joining(name, "k"))
		if !errors.Is(err, store.ErrOnboarding) || !strings.Contains(err.Error(), "rejected") {
			t.Errorf("as %s: %v", name, err)
		}
	}
	// The name is free for another.
	if err := s.Onboard(t.Context(), joining("a", "other")); !errors.Is(err, store.ErrPending) {
		t.Errorf("another agent: %v", err)
	}
	must(t, s.ApproveServer(t.Context(), "a"))
	if err := s.RejectServer(t.Context(), "a"); !errors.Is(err, store.ErrExists) {
		t.Errorf("an approved server: %v", err)
	}
	if err := s.RejectServer(t.Context(), "nobody"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a server that is not there: %v", err)
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
	lists := func() (pending, admitted []string) {
		waiting, err := s.PendingServers(t.Context())
		must(t, err)
		for i := range waiting {
			pending = append(pending, waiting[i].Name)
		}
		admitted, err = s.AdmittedServers(t.Context())
		must(t, err)
		return pending, admitted
	}
	if pending, admitted := lists(); !slices.Equal(pending, []string{"a"}) || len(admitted) != 0 {
		t.Errorf("before the approval %v wait, %v are admitted", pending, admitted)
	}
	must(t, s.ApproveServer(t.Context(), "a"))
	if pending, admitted := lists(); len(pending) != 0 || !slices.Equal(admitted, []string{"a"}) {
		t.Errorf("after the approval %v wait, %v are admitted", pending, admitted)
	}
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
	events, err := s.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 3}})
	must(t, err)
	if !slices.ContainsFunc(events, func(e api.Event) bool { return strings.Contains(e.Text, "revoked by itself after 50") }) {
		t.Errorf("the history does not say so: %+v", events)
	}
}

func TestO08EqualRefusalsAreRecordedOnceAnHour(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	refusals := func() int {
		events, err := s.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 50}})
		must(t, err)
		return len(events)
	}
	for range 3 {
		_ = s.Onboard(t.Context(), joining("a", "k"))
	}
	if got := refusals(); got != 1 {
		t.Errorf("%d events after three equal refusals", got)
	}
	_ = s.Onboard(t.Context(), joining("b", "k"))
	c.now = c.now.Add(time.Hour)
	_ = s.Onboard(t.Context(), joining("a", "k"))
	if got := refusals(); got != 3 {
		t.Errorf("%d events after another refusal and one an hour later", got)
	}
}

func TestO11OnlyWhatTheKeysLimitsRefuseCounts(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	addToken(t, s, c, func(k *api.OnboardingKey) { k.ServerGlob = "edge-*" })
	_ = s.Onboard(t.Context(), joining("core", "k1")) // counts
	must(t, s.Onboard(t.Context(), joining("edge-1", "k2")))
	_ = s.Onboard(t.Context(), joining("edge-2", "k3")) // spent: nothing is to be had any more
	_ = s.Onboard(t.Context(), joining("core", "k4"))
	keys, err := s.OnboardingKeys(t.Context())
	must(t, err)
	if keys[0].Failures != 1 {
		t.Errorf("%d failures", keys[0].Failures)
	}
}
