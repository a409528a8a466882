package registry_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/update/registry"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/imageregistry"
)

const secret = "s3cr3t-of-the-account"

// clock is a time that tests move.
type clock struct{ since atomic.Int64 }

func (c *clock) Now() time.Time {
	return time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC).Add(time.Duration(c.since.Load()))
}
func (c *clock) pass(d time.Duration) { c.since.Add(int64(d)) }

func refused(t *testing.T, err error) *registry.Error {
	t.Helper()
	fault, ok := errors.AsType[*registry.Error](err)
	if !ok {
		t.Fatalf("%v is no *registry.Error", err)
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("the password is in %q", err)
	}
	return fault
}

func TestADigestIsAskedForWithOneHeadAndKeptForAWhile(t *testing.T) {
	t.Parallel()
	store, time10 := imageregistry.Open(t), &clock{}
	first := store.Push("team/app:1", imageregistry.Image{Mark: "one", Index: true})
	client := registry.New(registry.Config{Now: time10.Now})
	img := registry.Image{Ref: store.Host + "/team/app:1"}
	digest := func() string {
		t.Helper()
		got, err := client.Digest(t.Context(), img)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := digest(); got != first {
		t.Errorf("%s, want that of the index, %s", got, first)
	}
	if got := store.Asked(); !cmp.Equal(got, []string{"GET /v2/", "HEAD /v2/team/app/manifests/1"}) {
		t.Errorf("asked %q", got)
	}
	second := store.Push("team/app:1", imageregistry.Image{Mark: "two"})
	if got := digest(); got != first || len(store.Asked()) > 0 {
		t.Error("it was asked again at once")
	}
	time10.pass(11 * time.Minute)
	if got := digest(); got != second {
		t.Errorf("after a while %s, want %s", got, second)
	}
}

func TestTheDetailsAreThoseOfThePlatform(t *testing.T) {
	t.Parallel()
	store := imageregistry.Open(t)
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	client := registry.New(registry.Config{})
	for ref, index := range map[string]bool{"app:index": true, "app:plain": false} {
		img := registry.Image{Ref: store.Host + "/" + ref}
		digest := store.Push(ref, imageregistry.Image{Mark: ref, Created: made, Index: index})
		got, err := client.Details(t.Context(), img, digest, "linux", runtime.GOARCH)
		if err != nil || len(got.Manifests) != 1 || len(got.Configs) != 1 || !got.Created.Equal(made) {
			t.Errorf("%s: %+v, %v", ref, got, err)
		}
		if index == (got.Manifests[0] == digest) {
			t.Errorf("%s: the manifest is %s, the tag stands for %s", ref, got.Manifests[0], digest)
		}
		store.Asked()
		if _, err := client.Details(t.Context(), img, digest, "linux", runtime.GOARCH); err != nil || len(store.Asked()) > 0 {
			t.Errorf("%s: a digest was looked at twice, %v", ref, err)
		}
		_, err = client.Details(t.Context(), img, digest, "linux", "mips")
		if index && !strings.Contains(refused(t, err).Message, "not for linux/mips") {
			t.Errorf("for a platform that is not there: %v", err)
		}
	}
	digest := store.Push("app:old", imageregistry.Image{Created: time.Unix(0, 0)})
	got, err := client.Details(t.Context(), registry.Image{Ref: store.Host + "/app:old"}, digest, "linux", runtime.GOARCH)
	if err != nil || !got.Created.IsZero() {
		t.Errorf("an image of 1970: %+v, %v", got, err)
	}
}

func TestTagsAreListed(t *testing.T) {
	t.Parallel()
	store := imageregistry.Open(t)
	for _, tag := range []string{"1.4.1", "1.4.2", "latest"} {
		store.Push("app:"+tag, imageregistry.Image{Mark: tag})
	}
	tags, err := registry.New(registry.Config{}).Tags(t.Context(), registry.Image{Ref: store.Host + "/app:1.4.1"})
	slices.Sort(tags)
	if want := []string{"1.4.1", "1.4.2", "latest"}; err != nil || !cmp.Equal(tags, want) {
		t.Errorf("%q, %v; want %q", tags, err, want)
	}
}

func TestTheAccountOfTheStackOrOfTheRegistryOpensIt(t *testing.T) {
	t.Parallel()
	store := imageregistry.Open(t)
	digest := store.Push("app:1", imageregistry.Image{})
	store.Before(func(w http.ResponseWriter, r *http.Request) bool {
		if user, password, ok := r.BasicAuth(); ok && (user == "ci" || user == "deploy") && password == secret {
			return false
		}
		w.Header().Set("Www-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	accounts := map[string]string{"ci": secret, "deploy": secret, "wrong": "not " + secret}
	ask := func(account string, other bool) (asked []string, digest string, err error) {
		client := registry.New(registry.Config{Credentials: func(_ context.Context, host, name string) (registry.Credentials, bool, error) {
			asked = append(asked, host+"/"+name)
			if name == "" && other {
				name = "deploy"
			}
			password, ok := accounts[name]
			return registry.Credentials{Username: name, Password: fleet.NewSecret(password)}, ok, nil
		}})
		at := fleet.RegistryAccount{Registry: store.Host, Account: account}
		if account == "elsewhere" {
			at.Registry = "ghcr.io"
		}
		digest, err = client.Digest(t.Context(), registry.Image{Ref: store.Host + "/app:1", Account: at})
		return asked, digest, err
	}
	if asked, got, err := ask("ci", false); got != digest || err != nil || asked[0] != store.Host+"/ci" {
		t.Errorf("with the stack's account: %q, %s, %v", asked, got, err)
	}
	if asked, got, err := ask("elsewhere", true); got != digest || err != nil || asked[0] != store.Host+"/" {
		t.Errorf("with an account of another registry: %q, %s, %v", asked, got, err)
	}
	_, _, err := ask("", false)
	if got := refused(t, err).Message; !strings.Contains(got, "varan account set registry") {
		t.Errorf("without an account: %s", got)
	}
	_, _, err = ask("wrong", false)
	if got := refused(t, err).Message; !strings.Contains(got, "refuses the account") {
		t.Errorf("with a wrong one: %s", got)
	}
}

func TestARegistryThatHasEnoughIsLeftAloneForAsLongAsItSays(t *testing.T) {
	t.Parallel()
	store, now := imageregistry.Open(t), &clock{}
	digest := store.Push("app:1", imageregistry.Image{})
	client := registry.New(registry.Config{Now: now.Now})
	img := registry.Image{Ref: store.Host + "/app:1"}
	store.Before(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/" {
			return false
		}
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	_, err := client.Digest(t.Context(), img)
	if got := refused(t, err); !got.Wait.Equal(now.Now().Add(2*time.Minute)) || !strings.Contains(got.Message, "too many requests") {
		t.Errorf("%+v", got)
	}
	store.Before(nil)
	store.Asked()
	if _, err := client.Digest(t.Context(), img); err == nil || len(store.Asked()) > 0 {
		t.Errorf("it was asked again: %v", err)
	}
	now.pass(2 * time.Minute)
	if got, err := client.Digest(t.Context(), img); got != digest || err != nil {
		t.Errorf("after that time: %s, %v", got, err)
	}
}

func TestTheLastPullsOfALimitAreLeftToDeploys(t *testing.T) {
	t.Parallel()
	store, now := imageregistry.Open(t), &clock{}
	store.Push("app:1", imageregistry.Image{})
	client := registry.New(registry.Config{Now: now.Now})
	store.Before(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Ratelimit-Limit", "100;w=21600")
		w.Header().Set("Ratelimit-Remaining", "7;w=21600")
		return false
	})
	img := registry.Image{Ref: store.Host + "/app:1"}
	// What was heard with the login already counts.
	_, err := client.Digest(t.Context(), img)
	if got := refused(t, err); !strings.Contains(got.Message, "7 more pulls") || !got.Wait.Equal(now.Now().Add(time.Hour)) {
		t.Errorf("%+v", got)
	}
}

func TestABudgetIsForEachRegistryAndFillsAgain(t *testing.T) {
	t.Parallel()
	one, two, now := imageregistry.Open(t), imageregistry.Open(t), &clock{}
	client := registry.New(registry.Config{Now: now.Now, Budget: func() int { return 3 }})
	for _, store := range []*imageregistry.Store{one, two} {
		for _, tag := range []string{"a", "b", "c", "d"} {
			store.Push("app:"+tag, imageregistry.Image{Mark: tag})
		}
	}
	ask := func(store *imageregistry.Store, tag string) error {
		_, err := client.Digest(t.Context(), registry.Image{Ref: store.Host + "/app:" + tag})
		return err
	}
	for _, tag := range []string{"a", "b", "c"} {
		if err := ask(one, tag); err != nil {
			t.Fatal(err)
		}
	}
	if got := refused(t, ask(one, "d")); !strings.Contains(got.Message, "budget of 3") || !got.Wait.Equal(now.Now().Add(20*time.Minute)) {
		t.Errorf("%+v", got)
	}
	if err := ask(two, "d"); err != nil {
		t.Errorf("the budget of one registry is that of another: %v", err)
	}
	now.pass(20 * time.Minute)
	if err := ask(one, "d"); err != nil {
		t.Errorf("after twenty minutes: %v", err)
	}
}

func TestQuestionsWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	store := imageregistry.Open(t)
	store.Push("app:1", imageregistry.Image{})
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	client := registry.New(registry.Config{})
	for ref, want := range map[string]string{
		store.Host + "/app:2":                              "no such image or tag",
		store.Host + "/none:1":                             "no such image or tag",
		strings.TrimPrefix(gone.URL, "http://") + "/app:1": "cannot be reached from core",
		"App:1":            "no name of an image",
		"10.1.2.3:5/app:1": "updates.insecure_registries",
	} {
		_, err := client.Digest(t.Context(), registry.Image{Ref: ref})
		if got := refused(t, err).Message; !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", ref, got, want)
		}
	}
	store.Before(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	_, err := registry.New(registry.Config{}).Digest(t.Context(), registry.Image{Ref: store.Host + "/app:1"})
	if got := refused(t, err).Message; !strings.Contains(got, "502 Bad Gateway") {
		t.Errorf("a registry out of order: %s", got)
	}
}

func TestWhoLeavesDoesNotWaitForASlowRegistry(t *testing.T) {
	t.Parallel()
	store := imageregistry.Open(t)
	asked := make(chan struct{})
	store.Before(func(_ http.ResponseWriter, r *http.Request) bool {
		close(asked)
		<-r.Context().Done()
		return true
	})
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		<-asked
		leave()
	}()
	if _, err := registry.New(registry.Config{}).Digest(ctx, registry.Image{Ref: store.Host + "/app:1"}); !errors.Is(err, context.Canceled) {
		t.Errorf("err %v", err)
	}
}

func TestARegistryWithACertificateOfOnesOwn(t *testing.T) {
	t.Parallel()
	store := imageregistry.Open(t)
	digest := store.Push("app:1", imageregistry.Image{})
	target, err := url.Parse("http://" + store.Host)
	if err != nil {
		t.Fatal(err)
	}
	tls := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(target))
	t.Cleanup(tls.Close)
	img := registry.Image{Ref: strings.TrimPrefix(tls.URL, "https://") + "/app:1"}
	_, err = registry.New(registry.Config{Transport: &http.Transport{}}).Digest(t.Context(), img)
	if err == nil {
		t.Error("a certificate that nobody vouches for was believed")
	}
	roots := x509.NewCertPool()
	roots.AddCert(tls.Certificate())
	got, err := registry.New(registry.Config{Transport: tls.Client().Transport}).Digest(t.Context(), img)
	if err != nil || got != digest {
		t.Errorf("%s, %v", got, err)
	}
}

func TestReferences(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]string{"nginx": "latest", "ghcr.io/me/app:1.2": "1.2", "localhost:5000/app": "latest", "App": ""} {
		if got := registry.Tag(ref); got != want {
			t.Errorf("%s: %q, want %q", ref, got, want)
		}
	}
	if registry.Pinned("nginx:1") || !registry.Pinned("nginx:1@sha256:"+strings.Repeat("a", 64)) {
		t.Error("what is pinned is not told from what is not")
	}
}
