package auth_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/fleet"
)

// keys is a table of API keys.
type keys struct {
	hashes map[string][32]byte
	used   int
}

func (k *keys) KeyHash(_ context.Context, id string) (string, [32]byte, error) {
	hash, ok := k.hashes[id]
	if !ok {
		return "", hash, errors.New("not found")
	}
	return "ada", hash, nil
}

func (k *keys) KeyUsed(context.Context, string, time.Time) error {
	k.used++
	return nil
}

type fixture struct {
	guard *auth.Guard
	keys  *keys
	id    string
	key   fleet.Secret
	now   time.Time
	log   strings.Builder
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{now: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
	id, key, hash := auth.NewKey()
	f.id, f.key, f.keys = id, key, &keys{hashes: map[string][32]byte{id: hash}}
	var err error
	f.guard, err = auth.New(auth.Config{
		Keys: f.keys, Logger: slog.New(slog.NewTextHandler(&f.log, nil)), Now: func() time.Time { return f.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func request(header, value string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	if header != "" {
		r.Header.Set(header, value)
	}
	return r
}

func TestAValidKeyOpensByEitherHeader(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, r := range []*http.Request{
		request("Authorization", "Bearer "+f.key.Reveal()),
		request("Authorization", "bearer "+f.key.Reveal()),
		request("X-API-Key", f.key.Reveal()),
	} {
		var actor auth.Actor
		h := f.guard.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { actor = auth.ActorOf(r.Context()) }),
			func(_ http.ResponseWriter, _ *http.Request, err error) { t.Error(err) })
		h.ServeHTTP(httptest.NewRecorder(), r)
		if want := (auth.Actor{ID: f.id, Name: "ada", Remote: "192.0.2.1"}); actor != want {
			t.Errorf("actor %v, want %v", actor, want)
		}
	}
	if f.keys.used != 1 {
		t.Errorf("three uses within a minute were noted %d times", f.keys.used)
	}
}

func TestAKeyMayComeInTwoParts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	key := f.key.Reveal()
	secret := strings.Split(key, "_")[2]
	twoHeaders := request("X-API-Key", "vk1_"+f.id)
	twoHeaders.Header.Set("X-API-Secret", secret)
	for name, r := range map[string]*http.Request{
		"id:secret":        request("Authorization", "Bearer "+f.id+":"+secret),
		"prefix_id:secret": request("Authorization", "Bearer vk1_"+f.id+":"+secret),
		"id:whole key":     request("Authorization", "Bearer "+f.id+":"+key),
		"two headers":      twoHeaders,
	} {
		if actor, err := f.guard.Check(r); err != nil || actor.ID != f.id {
			t.Errorf("%s: %v, %v", name, actor, err)
		}
	}
	otherID, other, _ := auth.NewKey()
	for name, r := range map[string]*http.Request{
		"another's id":     request("Authorization", "Bearer "+otherID+":"+key),
		"another's secret": request("Authorization", "Bearer "+f.id+":"+strings.Split(other.Reveal(), "_")[2]),
		"no secret":        request("Authorization", "Bearer "+f.id+":"),
		"key twice":        request("Authorization", "Bearer "+key+":"+key),
	} {
		if _, err := f.guard.Check(r); err == nil {
			t.Errorf("%s: let in", name)
		}
		f.now = f.now.Add(time.Minute)
	}
}

func TestA01EverythingElseIsRefusedAlike(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	otherID, otherKey, _ := auth.NewKey()
	key := f.key.Reveal()
	last := strings.TrimRight(key, "abcdefghijklmnopqrstuvwxyz234567")
	wrongSecret := last + strings.Split(otherKey.Reveal(), "_")[2]
	cases := map[string]*http.Request{
		"no key":               request("", ""),
		"empty bearer":         request("Authorization", "Bearer "),
		"basic":                request("Authorization", "Basic "+key),
		"unknown id":           request("X-API-Key", strings.Replace(key, f.id, otherID, 1)),
		"wrong secret":         request("X-API-Key", wrongSecret),
		"upper case":           request("X-API-Key", strings.ToUpper(key)),
		"truncated":            request("X-API-Key", key[:len(key)-1]),
		"trailing data":        request("X-API-Key", key+"a"),
		"line break inside":    request("X-API-Key", key[:20]+"\n"+key[20:]),
		"another version":      request("X-API-Key", strings.Replace(key, "vk1", "vk2", 1)),
		"in the query only":    httptest.NewRequest(http.MethodGet, "/?key="+key, http.NoBody),
		"both headers":         request("X-API-Key", key),
		"two of one header":    request("X-API-Key", key),
		"two spaces":           request("Authorization", "Bearer  "+key),
		"non-canonical base32": request("X-API-Key", key[:len(key)-1]+"7"),
	}
	cases["both headers"].Header.Set("Authorization", "Bearer "+key)
	cases["two of one header"].Header.Add("X-API-Key", key)
	for name, r := range cases {
		if _, err := f.guard.Check(r); err == nil {
			t.Errorf("%s: let in", name)
		}
		f.now = f.now.Add(time.Minute)
	}
	if secret := strings.Split(key, "_")[2]; strings.Contains(f.log.String(), secret) {
		t.Error("the log holds a secret")
	}
}

func TestL05FailuresAreLimitedPerRealPeer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	fail := func(peer string) error {
		r := request("X-API-Key", "nonsense")
		r.RemoteAddr = peer
		r.Header.Set("X-Forwarded-For", fmt.Sprintf("10.0.0.%d", time.Now().Nanosecond()%250))
		_, err := f.guard.Check(r)
		return err
	}
	for i := range 5 {
		if err := fail("192.0.2.1:1000"); !errors.Is(err, auth.ErrUnauthorized) {
			t.Errorf("failure %d: %v", i+1, err)
		}
	}
	if err := fail("192.0.2.1:2000"); !errors.Is(err, auth.ErrTooMany) {
		t.Errorf("failure 6: %v", err)
	}
	if err := fail("[fe80::1%eth0]:2000"); !errors.Is(err, auth.ErrUnauthorized) {
		t.Errorf("another peer: %v", err)
	}
	valid := request("X-API-Key", f.key.Reveal())
	valid.RemoteAddr = "192.0.2.1:3000"
	if _, err := f.guard.Check(valid); err != nil {
		t.Errorf("a valid key behind the same address: %v", err)
	}
	f.now = f.now.Add(time.Minute)
	if err := fail("192.0.2.1:1000"); !errors.Is(err, auth.ErrUnauthorized) {
		t.Errorf("a minute later: %v", err)
	}
}

func TestTheLimiterHasATotalAndBoundedMemory(t *testing.T) {
	t.Parallel()
	l := auth.NewLimiter(func() (int, int) { return 1, 20_000 }, time.Minute)
	now := time.Unix(0, 0)
	for i := range 20_000 {
		if !l.Allow(fmt.Sprint(i), now) {
			t.Fatalf("event %d refused", i)
		}
	}
	if l.Allow("one more", now) {
		t.Error("the total is not a limit")
	}
	if !l.Allow("one more", now.Add(-time.Hour)) {
		t.Error("a clock set back locks out")
	}
}

func TestAKeyNeverPrints(t *testing.T) {
	t.Parallel()
	_, key, _ := auth.NewKey()
	if s := fmt.Sprintf("%v %+v %#v %q %x", key, key, key, key, key); strings.Contains(s, "vk1") {
		t.Errorf("printed as %s", s)
	}
}

func FuzzParseKey(f *testing.F) {
	_, key, _ := auth.NewKey()
	f.Add(key.Reveal())
	f.Add("vk1__")
	f.Fuzz(func(t *testing.T, s string) {
		id, _, err := auth.ParseKey(s)
		if err == nil && (!strings.HasPrefix(s, "vk1_"+id+"_") || len(s) != 4+13+1+52) {
			t.Errorf("%q is not canonical", s)
		}
	})
}
