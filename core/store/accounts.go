package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

// SetAccount creates or replaces an account.
func (s *Store) SetAccount(ctx context.Context, id api.AccountID, spec api.AccountSpec) (api.Account, error) {
	plain, err := json.Marshal(spec)
	if err != nil {
		return api.Account{}, fmt.Errorf("encode account %s: %w", id, err)
	}
	account := api.Account{
		AccountID: id, HasToken: spec.Token != "", HasSSHKey: spec.SSHKey != "", Updated: timeOf(stamp(s.clock())),
	}
	_, err = s.exec(ctx, `INSERT INTO accounts (kind, domain, username, has_token, has_key, sealed, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (kind, domain, username) DO UPDATE
		SET has_token = excluded.has_token, has_key = excluded.has_key, sealed = excluded.sealed,
		updated_at = excluded.updated_at`,
		id.Kind, id.Domain, id.Username, account.HasToken, account.HasSSHKey,
		s.sealer.seal(accountAt(id), plain), stamp(account.Updated))
	if err != nil {
		return account, fmt.Errorf("set account %s: %w", id, err)
	}
	return account, nil
}

// DeleteAccount removes an account.
func (s *Store) DeleteAccount(ctx context.Context, id api.AccountID) error {
	err := oneRow(s.exec(ctx, "DELETE FROM accounts WHERE kind = $1 AND domain = $2 AND username = $3",
		id.Kind, id.Domain, id.Username))
	if err != nil {
		return fmt.Errorf("delete account %s: %w", id, err)
	}
	return nil
}

// Accounts lists the accounts, without what opens them.
func (s *Store) Accounts(ctx context.Context) ([]api.Account, error) {
	accounts, err := list(ctx, s.reader, func(row scanner) (a api.Account, err error) {
		err = row.Scan(&a.Kind, &a.Domain, &a.Username, &a.HasToken, &a.HasSSHKey, stampColumn{&a.Updated})
		return a, err
	}, "SELECT kind, domain, username, has_token, has_key, updated_at FROM accounts ORDER BY kind, domain, username")
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return accounts, nil
}

// RevealAccount is what opens an account. Only who logs in with it needs that.
func (s *Store) RevealAccount(ctx context.Context, id api.AccountID) (api.AccountSpec, error) {
	var (
		spec   api.AccountSpec
		sealed []byte
	)
	_, err := found(struct{}{}, s.reader.QueryRowContext(ctx,
		"SELECT sealed FROM accounts WHERE kind = $1 AND domain = $2 AND username = $3",
		id.Kind, id.Domain, id.Username).Scan(&sealed))
	var plain []byte
	if err == nil {
		plain, err = s.sealer.open(accountAt(id), sealed)
	}
	if err == nil {
		err = json.Unmarshal(plain, &spec)
	}
	if err != nil {
		return api.AccountSpec{}, fmt.Errorf("read account %s: %w", id, err)
	}
	return spec, nil
}

// RegistryLogin is the token of an account at an image registry; ok is false when core has
// none.
func (s *Store) RegistryLogin(ctx context.Context, account fleet.RegistryAccount) (token fleet.Secret, ok bool, err error) {
	spec, err := s.RevealAccount(ctx, api.AccountID{
		Kind: api.AccountRegistry, Domain: account.Registry, Username: account.Account,
	})
	if errors.Is(err, ErrNotFound) {
		return fleet.Secret{}, false, nil
	}
	return spec.Token.Secret(), err == nil, err
}

func accountAt(id api.AccountID) place {
	return place{table: "accounts", column: "sealed", row: id.Kind + "\x00" + id.Domain + "\x00" + id.Username}
}
