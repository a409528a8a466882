package auth_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/fleet"
)

// counting is a store of keys that counts how often it is asked.
type counting struct {
	mu     sync.Mutex
	hashes map[string][32]byte
	asked  int
	ask    func() // called in between, if set
}

func (c *counting) KeyHash(_ context.Context, id string) (string, [32]byte, error) {
	c.mu.Lock()
	c.asked++
	hash, ok := c.hashes[id]
	c.mu.Unlock()
	if c.ask != nil {
		c.ask()
	}
	if !ok {
		return "", hash, errors.New("not found")
	}
	return "ada", hash, nil
}

func (*counting) KeyUsed(context.Context, string, time.Time) error { return nil }

func (c *counting) add() fleet.Secret {
	id, key, hash := auth.NewKey()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hashes[id] = hash
	return key
}

func (c *counting) remove(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.hashes, id)
}

func newCounting(tb testing.TB) (*counting, *auth.Guard, *time.Time) {
	tb.Helper()
	store, now := &counting{hashes: map[string][32]byte{}}, time.Unix(1e9, 0)
	guard, err := auth.New(auth.Config{
		Keys: store, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return now },
		Failures: func() (int, int) { return 1e6, 1e6 },
	})
	if err != nil {
		tb.Fatal(err)
	}
	return store, guard, &now
}

func check(guard *auth.Guard, key fleet.Secret) error {
	_, err := guard.Check(request("X-API-Key", key.Reveal()))
	return err
}

func keyID(key fleet.Secret) string {
	id, _, _ := auth.ParseKey(key.Reveal())
	return id
}

func TestA025HotKeysAreAskedForOnce(t *testing.T) {
	t.Parallel()
	store, guard, now := newCounting(t)
	key := store.add()
	for range 100 {
		if err := check(guard, key); err != nil {
			t.Fatal(err)
		}
	}
	if store.asked != 1 {
		t.Errorf("the store was asked %d times within a second", store.asked)
	}
	*now = now.Add(time.Second)
	if err := check(guard, key); err != nil || store.asked != 2 {
		t.Errorf("a second later: %v, asked %d times", err, store.asked)
	}
	// The wrong secret for a key that is remembered opens nothing.
	_, other, _ := auth.NewKey()
	wrong := "vk1_" + keyID(key) + "_" + other.Reveal()[18:]
	if err := check(guard, fleet.NewSecret(wrong)); err == nil {
		t.Error("a wrong secret opened")
	}
}

func TestA025ManyKeysDoNotChangeAVerdict(t *testing.T) {
	t.Parallel()
	store, guard, _ := newCounting(t)
	keys := make([]fleet.Secret, 3000) // three times what is remembered
	for i := range keys {
		keys[i] = store.add()
	}
	for range 2 {
		for i, key := range keys {
			if err := check(guard, key); err != nil {
				t.Fatalf("key %d: %v", i, err)
			}
			_, unknown, _ := auth.NewKey()
			if check(guard, unknown) == nil {
				t.Fatal("an unknown key opened")
			}
		}
	}
}

func TestA002ANewKeyOpensWithinASecond(t *testing.T) {
	t.Parallel()
	store, guard, now := newCounting(t)
	key := store.add()
	hash := store.hashes[keyID(key)]
	store.remove(keyID(key))
	if check(guard, key) == nil {
		t.Fatal("a key that is not there opened")
	}
	store.hashes[keyID(key)] = hash
	*now = now.Add(time.Second)
	if err := check(guard, key); err != nil {
		t.Errorf("a second after it was added: %v", err)
	}
}

func TestA003ARevokedKeyOpensNothingAndItsRequestsEnd(t *testing.T) {
	t.Parallel()
	store, guard, _ := newCounting(t)
	key, other := store.add(), store.add()
	started, ended := make(chan struct{}), make(chan struct{})
	handler := guard.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete { // the request that revokes its own key goes on
			store.remove(keyID(key))
			guard.Revoked(r.Context(), keyID(key))
			if r.Context().Err() != nil {
				t.Error("the request that revoked was ended")
			}
			return
		}
		close(started)
		<-r.Context().Done()
		close(ended)
	}), func(_ http.ResponseWriter, _ *http.Request, err error) { t.Error(err) })
	go handler.ServeHTTP(httptest.NewRecorder(), request("X-API-Key", key.Reveal()))
	<-started
	revoke := request("X-API-Key", key.Reveal())
	revoke.Method = http.MethodDelete
	handler.ServeHTTP(httptest.NewRecorder(), revoke)
	<-ended
	if check(guard, key) == nil {
		t.Error("a revoked key opened")
	}
	if err := check(guard, other); err != nil {
		t.Errorf("another key: %v", err)
	}
}

func TestA026ARevocationBeatsAnAnswerOnItsWay(t *testing.T) {
	t.Parallel()
	store, guard, _ := newCounting(t)
	key := store.add()
	store.ask = func() { // the key goes between the store's answer and the verdict
		store.ask = nil
		store.remove(keyID(key))
		guard.Revoked(t.Context(), keyID(key))
	}
	_ = check(guard, key)
	if check(guard, key) == nil {
		t.Error("the answer from before the revocation was kept")
	}
}

func TestA023AReloadForgets(t *testing.T) {
	t.Parallel()
	store, guard, _ := newCounting(t)
	key := store.add()
	_ = check(guard, key)
	store.remove(keyID(key)) // by somebody who told nobody
	guard.Reload()
	if check(guard, key) == nil {
		t.Error("the key still opens")
	}
}

func TestA016LimitsChangeWithoutLosingTheCount(t *testing.T) {
	t.Parallel()
	allowed := 3
	l := auth.NewLimiter(func() (int, int) { return allowed, 100 }, time.Minute)
	now := time.Unix(1e9, 0)
	passed := func(tries int) (n int) {
		for range tries {
			if l.Allow("a", now) {
				n++
			}
		}
		return n
	}
	if n := passed(4); n != 3 {
		t.Errorf("%d of 4 passed a limit of 3", n)
	}
	allowed = 5
	if n := passed(4); n != 2 {
		t.Errorf("%d more passed when the limit became 5", n)
	}
	allowed = 1
	if l.Allow("a", now) || !l.Allow("b", now) || l.Allow("b", now) {
		t.Error("a lower limit does not hold at once")
	}
}
