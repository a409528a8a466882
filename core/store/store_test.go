package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
)

// clock is a settable time.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func newClock() *clock { return &clock{time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)} }

// config is one database that can be opened again.
func config(tb testing.TB, c *clock) store.Config {
	tb.Helper()
	return store.Config{
		Path:    filepath.Join(tb.TempDir(), "varan.db"),
		SealKey: bytes.Repeat([]byte{7}, store.SealKeySize),
		Now:     c.Now,
	}
}

func open(tb testing.TB, cfg store.Config) *store.Store {
	tb.Helper()
	s, err := store.Open(context.Background(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func TestOpenIsPrivateAndRepeatable(t *testing.T) {
	t.Parallel()
	cfg := config(t, newClock())
	s := open(t, cfg)
	must(t, s.AddSync(t.Context(), api.SyncSpec{Name: "main", URL: "https://example.org/x"}))
	for _, name := range []string{cfg.Path, cfg.Path + "-wal", cfg.Path + "-shm"} {
		info, err := os.Stat(name)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", filepath.Base(name), info.Mode())
		}
	}
	must(t, s.Close())
	syncs, err := open(t, cfg).Syncs(t.Context())
	must(t, err)
	if len(syncs) != 1 {
		t.Errorf("after reopening there are %d syncs", len(syncs))
	}
}

func TestOpenRefusesADatabaseOfANewerRelease(t *testing.T) {
	t.Parallel()
	cfg := config(t, newClock())
	must(t, open(t, cfg).Close())
	db, err := sql.Open("sqlite", cfg.Path)
	must(t, err)
	_, err = db.ExecContext(t.Context(), "PRAGMA user_version = 999")
	must(t, err)
	must(t, db.Close())
	if _, err := store.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "newer release") {
		t.Errorf("got %v", err)
	}
}

func TestSyncRoundTrip(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	spec := api.SyncSpec{
		Name: "main", URL: "https://example.org/x", Branch: "trunk", Paths: []string{"a.toml", "b"},
		MatchTags: []string{"prod"}, IntervalSeconds: 90, AutoApply: true, Delete: true, SelfHeal: true,
		MaxRemovals: 5, WebhookSecret: "hook", Credentials: api.GitCredentials{Username: "u", Password: "p", CA: "pem"},
	}
	must(t, s.AddSync(t.Context(), spec))
	if err := s.AddSync(t.Context(), spec); !errors.Is(err, store.ErrExists) {
		t.Errorf("adding twice: %v", err)
	}
	got, err := s.Sync(t.Context(), "main")
	must(t, err)
	want := api.Sync{
		Name: "main", URL: spec.URL, Branch: "trunk", Paths: spec.Paths, MatchTags: spec.MatchTags,
		IntervalSeconds: 90, AutoApply: true, Delete: true, SelfHeal: true, MaxRemovals: 5, Created: c.now,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sync (-want +got):\n%s", diff)
	}
	credentials, err := s.Credentials(t.Context(), "main")
	must(t, err)
	if credentials != spec.Credentials {
		t.Error("the credentials changed")
	}
	secret, err := s.WebhookSecret(t.Context(), "main")
	must(t, err)
	if secret.Reveal() != "hook" {
		t.Error("the webhook secret changed")
	}
	must(t, s.RemoveSync(t.Context(), "main"))
	_, err = s.Sync(t.Context(), "main")
	for _, err := range []error{err, s.RemoveSync(t.Context(), "main")} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a removed sync: %v", err)
		}
	}
}

func TestSecretsAreSealedOnDisk(t *testing.T) {
	t.Parallel()
	const canary = "canary-3f9a61"
	cfg := config(t, newClock())
	s := open(t, cfg)
	must(t, s.AddSync(t.Context(), api.SyncSpec{
		Name: "main", WebhookSecret: canary, Credentials: api.GitCredentials{Password: canary, SSHKey: canary},
	}))
	_, err := s.SetVariable(t.Context(), "TOKEN", api.VariableSpec{Value: canary, Secret: true})
	must(t, err)
	files, err := filepath.Glob(cfg.Path + "*")
	must(t, err)
	for _, name := range files {
		raw, err := os.ReadFile(name)
		must(t, err)
		if bytes.Contains(raw, []byte(canary)) {
			t.Errorf("%s holds a secret in the clear", filepath.Base(name))
		}
	}
	must(t, s.Close())
	cfg.SealKey = bytes.Repeat([]byte{8}, store.SealKeySize)
	if _, err := open(t, cfg).RevealVariables(t.Context()); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("another seal key: %v", err)
	}
}

func TestASealedValueDoesNotOpenElsewhere(t *testing.T) {
	t.Parallel()
	cfg := config(t, newClock())
	s := open(t, cfg)
	for _, name := range []string{"A", "B"} {
		_, err := s.SetVariable(t.Context(), name, api.VariableSpec{Value: api.WriteOnly("secret of " + name), Secret: true})
		must(t, err)
	}
	db, err := sql.Open("sqlite", cfg.Path)
	must(t, err)
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(t.Context(), "UPDATE variables SET value = (SELECT value FROM variables WHERE name = 'A') WHERE name = 'B'")
	must(t, err)
	if _, err := s.RevealVariables(t.Context()); err == nil {
		t.Error("a secret moved to another row opens")
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	for _, v := range []struct {
		name string
		spec api.VariableSpec
	}{
		{"PLAIN", api.VariableSpec{Value: "old"}},
		{"PLAIN", api.VariableSpec{Value: "new"}},
		{"HIDDEN", api.VariableSpec{Value: "s3cret", Secret: true}},
	} {
		_, err := s.SetVariable(t.Context(), v.name, v.spec)
		must(t, err)
	}
	got, err := s.Variables(t.Context())
	must(t, err)
	want := []api.Variable{
		{Name: "HIDDEN", Secret: true, Updated: c.now},
		{Name: "PLAIN", Value: "new", Updated: c.now},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
	revealed, err := s.RevealVariables(t.Context())
	must(t, err)
	if len(revealed) != 2 || revealed[0].Value.Reveal() != "s3cret" || revealed[1].Value.Reveal() != "new" {
		t.Error("the revealed values are wrong")
	}
	must(t, s.DeleteVariable(t.Context(), "PLAIN"))
	if err := s.DeleteVariable(t.Context(), "PLAIN"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deleting twice: %v", err)
	}
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	hash := sha256.Sum256([]byte("x"))
	for _, id := range []string{"k1", "k2"} {
		_, err := s.AddKey(t.Context(), id, "name of "+id, hash)
		must(t, err)
	}
	name, got, err := s.KeyHash(t.Context(), "k1")
	must(t, err)
	if name != "name of k1" || got != hash {
		t.Errorf("got %q and another hash", name)
	}
	must(t, s.KeyUsed(t.Context(), "k1", c.now.Add(time.Hour)))
	keys, err := s.Keys(t.Context())
	must(t, err)
	want := []api.Key{
		{ID: "k1", Name: "name of k1", Created: c.now, LastUsed: c.now.Add(time.Hour)},
		{ID: "k2", Name: "name of k2", Created: c.now},
	}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	must(t, s.DeleteKey(t.Context(), "k1"))
	if err := s.DeleteKey(t.Context(), "k1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deleting twice: %v", err)
	}
	if err := s.DeleteKey(t.Context(), "k2"); !errors.Is(err, store.ErrLastKey) {
		t.Errorf("deleting the last key: %v", err)
	}
}

func TestOfManyEqualWebhooksAtOnceOneIsNew(t *testing.T) {
	t.Parallel()
	s := open(t, config(t, newClock()))
	var fresh atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			_, replay, err := s.WebhookSeen(t.Context(), "hash", func(replay bool) api.Event {
				return api.Event{Kind: "webhook", Text: fmt.Sprintf("replay %v", replay)}
			})
			if err != nil {
				t.Error(err)
			} else if !replay {
				fresh.Add(1)
			}
		})
	}
	wg.Wait()
	if n := fresh.Load(); n != 1 {
		t.Errorf("%d deliveries are new", n)
	}
	events, err := s.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 100}})
	must(t, err)
	if len(events) != 50 {
		t.Errorf("%d events for 50 deliveries", len(events))
	}
}

func TestWebhookReplaysAreSeenForADayAndAcrossRestarts(t *testing.T) {
	t.Parallel()
	c := newClock()
	cfg := config(t, c)
	s := open(t, cfg)
	seen := func() bool {
		t.Helper()
		_, replay, err := s.WebhookSeen(t.Context(), "hash", func(replay bool) api.Event {
			return api.Event{Kind: "webhook", Text: fmt.Sprintf("replay %v", replay)}
		})
		must(t, err)
		return replay
	}
	if seen() {
		t.Error("the first delivery is a replay")
	}
	if !seen() {
		t.Error("the second delivery is new")
	}
	must(t, s.Close())
	s = open(t, cfg)
	c.now = c.now.Add(24*time.Hour - time.Nanosecond)
	if !seen() {
		t.Error("the replay was forgotten within a day")
	}
	c.now = c.now.Add(time.Nanosecond)
	if seen() {
		t.Error("the replay was remembered after a day")
	}
	events, err := s.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 10}})
	must(t, err)
	if len(events) != 4 {
		t.Errorf("%d events for 4 deliveries", len(events))
	}
}

func TestEventsPageBackwards(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := open(t, config(t, c))
	for i := range 5 {
		must(t, s.AddEvent(t.Context(), api.Event{Kind: "core", Text: fmt.Sprint(i)}))
	}
	first, err := s.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 2}})
	must(t, err)
	second, err := s.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 2, Before: first[1].ID}})
	must(t, err)
	var texts []string
	for _, e := range append(first, second...) {
		texts = append(texts, e.Text)
	}
	if diff := cmp.Diff([]string{"4", "3", "2", "1"}, texts); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestUnknownServersAreNotFound(t *testing.T) {
	t.Parallel()
	s := open(t, config(t, newClock()))
	servers, err := s.Servers(t.Context())
	must(t, err)
	if diff := cmp.Diff([]store.Server{}, servers); diff != "" {
		t.Errorf("servers (-want +got):\n%s", diff)
	}
	if _, err := s.AdmitKey(t.Context(), "nobody"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an unknown key: %v", err)
	}
	if _, err := s.NextEpoch(t.Context(), "nobody"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an unknown server: %v", err)
	}
}
