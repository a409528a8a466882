package store_test

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
)

func TestAccountsAreSealedAndWriteOnly(t *testing.T) {
	t.Parallel()
	c := newClock()
	cfg := config(t, c)
	s := open(t, cfg)
	registry := api.AccountID{Kind: api.AccountRegistry, Domain: "ghcr.io", Username: "ada"}
	git := api.AccountID{Kind: api.AccountGit, Domain: "github.com", Username: "ada"}
	_, err := s.SetAccount(t.Context(), registry, api.AccountSpec{Token: "canary-1"})
	must(t, err)
	_, err = s.SetAccount(t.Context(), git, api.AccountSpec{SSHKey: "canary-2", KnownHosts: "hosts"})
	must(t, err)
	accounts, err := s.Accounts(t.Context())
	must(t, err)
	want := []api.Account{
		{AccountID: git, HasSSHKey: true, Updated: c.now}, {AccountID: registry, HasToken: true, Updated: c.now},
	}
	if diff := cmp.Diff(want, accounts); diff != "" {
		t.Errorf("accounts (-want +got):\n%s", diff)
	}
	token, ok, err := s.RegistryLogin(t.Context(), fleet.RegistryAccount{Registry: "ghcr.io", Account: "ada"})
	if err != nil || !ok || token.Reveal() != "canary-1" {
		t.Errorf("login %v, %v", ok, err)
	}
	if _, ok, err := s.RegistryLogin(t.Context(), fleet.RegistryAccount{Registry: "github.com", Account: "ada"}); ok || err != nil {
		t.Errorf("an account of another kind opens a registry: %v, %v", ok, err)
	}
	must(t, s.DeleteAccount(t.Context(), git))
	if err := s.DeleteAccount(t.Context(), git); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deleting twice: %v", err)
	}
	must(t, s.Close())
	raw, err := os.ReadFile(cfg.Path)
	must(t, err)
	if bytes.Contains(raw, []byte("canary")) {
		t.Error("the database holds a token in the clear")
	}
}
