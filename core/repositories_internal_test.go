package core

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/internal/testutil/gitserver"
	"github.com/varanhq/varan/sync/git"
	"github.com/varanhq/varan/sync/render"
)

// newTestSource is a source over an empty store.
func newTestSource(t *testing.T) *source {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{
		Path: filepath.Join(t.TempDir(), "varan.db"), SealKey: bytes.Repeat([]byte{7}, store.SealKeySize),
	})
	if err != nil {
		t.Fatal(err)
	}
	src := newSource(s, git.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}, []byte("key"))
	t.Cleanup(func() {
		src.Close()
		_ = s.Close()
	})
	return src
}

// refTo names a test server's repository by parts.
func refTo(srv *gitserver.Server) render.RepositoryRef {
	host := strings.TrimSuffix(strings.TrimPrefix(srv.URL(), "http://"), "/repo.git")
	return render.RepositoryRef{Provider: host, Repo: "repo", Branch: "main"}
}

func TestARepositoryIsFetchedOnceARenderAndAskedOnceWhileUnchanged(t *testing.T) {
	t.Parallel()
	src, srv := newTestSource(t), gitserver.New(t)
	first := srv.Commit(map[string]string{"compose.yaml": "one"}, "one")
	ref := refTo(srv)
	opened := src.checkouts("main")
	for range 3 {
		checkout, err := opened.Repository(t.Context(), ref)
		if err != nil || checkout.Commit.ID != first {
			t.Fatalf("commit %s, %v", checkout.Commit.ID, err)
		}
	}
	if n := srv.Requests()["git-upload-pack"]; n != 1 {
		t.Errorf("three stacks made %d fetches", n)
	}
	last, mirrors := opened.asked()
	src.mirrors.settle("main", mirrors)

	unchanged := src.checkouts("main").look(t.Context(), last)
	if requests := srv.Requests(); requests["info/refs"] != 1 || requests["git-upload-pack"] != 0 {
		t.Errorf("an unchanged repository cost %v", requests)
	}
	srv.Commit(map[string]string{"compose.yaml": "two"}, "two")
	next := src.checkouts("main")
	changed := next.look(t.Context(), last)
	for what, id := range changed {
		if id == unchanged[what] {
			t.Errorf("%s did not follow the branch", what)
		}
	}
	// What no render asks for any more is let go.
	_, mirrors = next.asked()
	src.mirrors.settle("main", mirrors)
	if len(src.mirrors.open) != 0 {
		t.Errorf("%d mirrors stay open", len(src.mirrors.open))
	}
}

func TestARepositoryThatDoesNotAnswerStandsAsItWasRead(t *testing.T) {
	t.Parallel()
	src, srv := newTestSource(t), gitserver.New(t)
	first := srv.Commit(map[string]string{"a": "x"}, "one")
	if _, err := src.checkouts("main").Repository(t.Context(), refTo(srv)); err != nil {
		t.Fatal(err)
	}
	srv.RequireBasic("ada", "now-private")
	again := src.checkouts("main")
	checkout, err := again.Repository(t.Context(), refTo(srv))
	if err != nil || checkout.Commit.ID != first || len(again.stale) != 1 {
		t.Errorf("commit %s, %v, %v", checkout.Commit.ID, err, again.stale)
	}
}

func TestAnAccountOpensARepository(t *testing.T) {
	t.Parallel()
	src, srv := newTestSource(t), gitserver.New(t)
	srv.Commit(map[string]string{"a": "x"}, "one")
	srv.RequireBasic("ada", "canary-5")
	ref := refTo(srv)
	if _, err := src.checkouts("main").Repository(t.Context(), ref); !errors.Is(err, git.ErrAuth) {
		t.Errorf("without an account: %v", err)
	}
	ref.Account = "ada"
	_, err := src.checkouts("main").Repository(t.Context(), ref)
	var refusal *api.Error
	if !errors.As(err, &refusal) || !strings.Contains(refusal.Hint, "varan account set git "+ref.Provider) {
		t.Errorf("an account that core does not have: %v", err)
	}
	id := api.AccountID{Kind: api.AccountGit, Domain: ref.Provider, Username: "ada"}
	if _, err := src.store.SetAccount(t.Context(), id, api.AccountSpec{Token: "canary-5"}); err != nil {
		t.Fatal(err)
	}
	if _, err := src.checkouts("main").Repository(t.Context(), ref); err != nil {
		t.Errorf("with the account: %v", err)
	}
	if _, err := src.store.SetAccount(t.Context(), id, api.AccountSpec{Token: "canary-6"}); err != nil {
		t.Fatal(err)
	}
	if _, err := src.checkouts("other").Repository(t.Context(), ref); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("with a wrong token: %v", err)
	}
}

func TestAccountsWithAKeyAreUsedOverSSH(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	id := api.AccountID{Kind: api.AccountGit, Domain: "git.example.com", Username: "deploy"}
	if _, err := src.store.SetAccount(t.Context(), id, api.AccountSpec{SSHKey: "key", KnownHosts: "hosts"}); err != nil {
		t.Fatal(err)
	}
	for want, ref := range map[string]render.RepositoryRef{
		"ssh://git@git.example.com/me/app.git":  {Provider: "git.example.com", Repo: "me/app", HTTPS: true, Account: "deploy"},
		"https://git.example.com/me/app.git":    {Provider: "git.example.com", Repo: "me/app", HTTPS: true},
		"http://git.example.com/me/app.git":     {Provider: "git.example.com", Repo: "me/app.git"},
		"https://github.com/me/app.git":         {Repo: "/me/app/"[1:], HTTPS: true},
		"https://elsewhere.example.com/me/else": {Repo: "https://elsewhere.example.com/me/else", HTTPS: true},
	} {
		at, err := src.locate(t.Context(), ref)
		if err != nil || at.url != want {
			t.Errorf("%+v is at %s, %v, want %s", ref, at.url, err, want)
		}
	}
}
