package store

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

// maxTokenFailures revokes an onboarding key that somebody is guessing at (rule O11).
const maxTokenFailures = 50

// AddOnboardingKey records an onboarding key by the hash of its secret. Its limits are
// fixed here and never change (rule O04).
func (s *Store) AddOnboardingKey(ctx context.Context, key api.OnboardingKey, hash [32]byte) error {
	tags, err := encode(key.Tags)
	if err != nil {
		return err
	}
	_, err = s.exec(ctx, `INSERT INTO onboarding_keys
		(id, name, hash, last4, server_glob, rekey, tags, tier, uses, max_uses, failures, revoked, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, 0, FALSE, $10, $11)`,
		key.ID, key.Name, hash[:], key.Last4, key.ServerGlob, key.Rekey, tags, string(key.Tier),
		key.MaxUses, stamp(key.Created), stamp(key.Expires))
	if err != nil {
		return fmt.Errorf("add onboarding key %q: %w", key.Name, err)
	}
	return nil
}

// OnboardingKeys lists the onboarding keys, newest first.
func (s *Store) OnboardingKeys(ctx context.Context) ([]api.OnboardingKey, error) {
	keys, err := list(ctx, s.reader, func(row scanner) (k api.OnboardingKey, err error) {
		err = row.Scan(&k.ID, &k.Name, &k.Last4, &k.ServerGlob, &k.Rekey, jsonColumn{&k.Tags}, &k.Tier,
			&k.Uses, &k.MaxUses, &k.Revoked, stampColumn{&k.Created}, stampColumn{&k.Expires})
		return k, err
	}, `SELECT id, name, last4, server_glob, rekey, tags, tier, uses, max_uses, revoked, created_at, expires_at
		FROM onboarding_keys ORDER BY created_at DESC, id`)
	if err != nil {
		return nil, fmt.Errorf("list onboarding keys: %w", err)
	}
	return keys, nil
}

// RevokeOnboardingKey ends an onboarding key.
func (s *Store) RevokeOnboardingKey(ctx context.Context, id string) error {
	if err := oneRow(s.exec(ctx, "UPDATE onboarding_keys SET revoked = TRUE WHERE id = $1", id)); err != nil {
		return fmt.Errorf("revoke onboarding key %q: %w", id, err)
	}
	return nil
}

// Joining is an agent that wants to join with an onboarding key.
type Joining struct {
	// Token and Hash identify the onboarding key and prove its possession.
	Token string
	Hash  [32]byte
	// Server is the name asked for; PublicKey the key the agent proved to hold.
	Server    string
	PublicKey string
}

// Onboard spends one use of an onboarding key and registers the server with its key, in
// one transaction. Every refusal is ErrOnboarding. An agent that did not hear the answer
// may ask again with the same key. ErrPending says that the server is registered, but must
// be approved before it may connect.
func (s *Store) Onboard(ctx context.Context, join Joining) error {
	var refused error
	err := s.write(ctx, func(tx *sql.Tx) error {
		now, err := s.now(ctx, tx)
		if err != nil {
			return err
		}
		// A refusal commits too: it counts the failure.
		refused, err = onboard(ctx, tx, now, join)
		return err
	})
	if err = errors.Join(err, refused); err != nil {
		return fmt.Errorf("onboard server %q with key %s: %w", join.Server, join.Token, err)
	}
	return nil
}

// onboard returns why the agent is refused, and apart from that what failed.
func onboard(ctx context.Context, tx *sql.Tx, now time.Time, join Joining) (refused, err error) {
	var (
		key  api.OnboardingKey
		hash []byte
	)
	row := tx.QueryRowContext(ctx, "SELECT hash, server_glob, rekey, tags, tier, max_uses FROM onboarding_keys WHERE id = $1",
		join.Token)
	err = row.Scan(&hash, &key.ServerGlob, &key.Rekey, jsonColumn{&key.Tags}, &key.Tier, &key.MaxUses)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("%w: no such key", ErrOnboarding), nil
	case err != nil:
		return nil, err
	}
	if subtle.ConstantTimeCompare(hash, join.Hash[:]) != 1 {
		_, err := tx.ExecContext(ctx, `UPDATE onboarding_keys SET failures = failures + 1,
			revoked = revoked OR failures + 1 >= $1 WHERE id = $2`, maxTokenFailures, join.Token)
		return fmt.Errorf("%w: wrong secret", ErrOnboarding), err
	}
	again, pending, disabled, err := joined(ctx, tx, join)
	switch {
	case err != nil:
		return nil, err
	case disabled:
		return ErrDisabled, nil
	case pending:
		return ErrPending, nil
	case again:
		return nil, nil
	}
	if key.Rekey != "" && key.Rekey != join.Server {
		return fmt.Errorf("%w: the key is for server %q only", ErrOnboarding, key.Rekey), nil
	}
	if ok, err := path.Match(key.ServerGlob, join.Server); err != nil || !ok {
		return fmt.Errorf("%w: the name does not match %q", ErrOnboarding, key.ServerGlob), nil
	}
	return consume(ctx, tx, now, key, join)
}

// joined reports whether exactly this agent is registered already, and still pending or
// disabled.
func joined(ctx context.Context, tx *sql.Tx, join Joining) (again, pending, disabled bool, err error) {
	row := tx.QueryRowContext(ctx, `SELECT s.pending, s.disabled FROM servers s JOIN keys k ON k.server = s.name
		WHERE s.name = $1 AND k.public_key = $2 AND k.state = 'current'`, join.Server, join.PublicKey)
	err = row.Scan(&pending, &disabled)
	if errors.Is(err, sql.ErrNoRows) {
		return false, false, false, nil
	}
	return err == nil, pending, disabled, err
}

// consume takes one use and writes the server. The order does not matter for atomicity:
// it is one transaction, and a refused server rolls the use back with a savepoint.
func consume(
	ctx context.Context, tx *sql.Tx, now time.Time, key api.OnboardingKey, join Joining,
) (refused, err error) {
	if _, err := tx.ExecContext(ctx, "SAVEPOINT consume"); err != nil {
		return nil, err
	}
	n, err := affected(tx.ExecContext(ctx, `UPDATE onboarding_keys SET uses = uses + 1
		WHERE id = $1 AND hash = $2 AND NOT revoked AND expires_at > $3 AND uses < max_uses`,
		join.Token, join.Hash[:], stamp(now)))
	if err != nil {
		return nil, err
	}
	if n != 1 {
		return fmt.Errorf("%w: the key is spent, expired or revoked", ErrOnboarding), nil
	}
	if key.Rekey != "" {
		n, err = affected(tx.ExecContext(ctx, "UPDATE servers SET core_key = '' WHERE name = $1 AND NOT disabled", join.Server))
	} else {
		n, err = insertServer(ctx, tx, now, key, join)
	}
	if err == nil && n == 1 {
		n, err = onlyKey(ctx, tx, now, join)
	}
	if err != nil {
		return nil, err
	}
	if n != 1 {
		_, err := tx.ExecContext(ctx, "ROLLBACK TO consume")
		return fmt.Errorf("%w: %s", ErrOnboarding, occupied(key)), err
	}
	if key.Rekey == "" && reusable(key) {
		return ErrPending, nil
	}
	return nil, nil
}

// reusable keys may spread: who joins with one waits for approval (rule O07).
func reusable(key api.OnboardingKey) bool { return key.MaxUses > 1 }

func insertServer(ctx context.Context, tx *sql.Tx, now time.Time, key api.OnboardingKey, join Joining) (int64, error) {
	tags, err := encode(key.Tags)
	if err != nil {
		return 0, err
	}
	// A conflict is a server of that name, in any case (rule O06).
	return affected(tx.ExecContext(ctx, `INSERT INTO servers (name, tags, tier, pending, disabled, epoch, onboarded_at, core_key)
		VALUES ($1, $2, $3, $4, FALSE, 0, $5, '') ON CONFLICT DO NOTHING`,
		join.Server, tags, string(key.Tier), reusable(key), stamp(now)))
}

// onlyKey makes the agent's key the one of the server; a change that is under way is over. No
// row is changed when the key belongs to another server.
func onlyKey(ctx context.Context, tx *sql.Tx, now time.Time, join Joining) (int64, error) {
	if err := endRotation(ctx, tx, join.Server); err != nil {
		return 0, err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM keys WHERE server = $1", join.Server); err != nil {
		return 0, err
	}
	return affected(tx.ExecContext(ctx, `INSERT INTO keys (public_key, server, state, since)
		VALUES ($1, $2, 'current', $3) ON CONFLICT DO NOTHING`, join.PublicKey, join.Server, stamp(now)))
}

func occupied(key api.OnboardingKey) string {
	if key.Rekey != "" {
		return "the server does not exist, or the agent's key belongs to another"
	}
	return "the name or the agent's key is taken"
}

// now is the clock, never before what it showed when a token was last used: setting the
// clock back must not revive an expired one.
func (s *Store) now(ctx context.Context, tx *sql.Tx) (time.Time, error) {
	now := stamp(s.clock())
	err := tx.QueryRowContext(ctx, `INSERT INTO meta (name, value) VALUES ('clock', $1)
		ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value) RETURNING value`, now).Scan(&now)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the clock's high-water mark: %w", err)
	}
	return timeOf(now), nil
}

// Server is a server that joined.
type Server struct {
	Name string
	// PublicKey is the one in use.
	PublicKey string
	Tags      []string
	Tier      fleet.Tier
	Pending   bool
	// Disabled servers must not connect until somebody enables them.
	Disabled    bool
	OnboardedAt time.Time
}

// Servers lists the servers that joined, by name, pending and disabled ones included.
func (s *Store) Servers(ctx context.Context) ([]Server, error) {
	servers, err := list(ctx, s.reader, func(row scanner) (v Server, err error) {
		err = row.Scan(&v.Name, &v.PublicKey, jsonColumn{&v.Tags}, &v.Tier, &v.Pending, &v.Disabled, stampColumn{&v.OnboardedAt})
		return v, err
	}, `SELECT s.name, k.public_key, s.tags, s.tier, s.pending, s.disabled, s.onboarded_at
		FROM servers s JOIN keys k ON k.server = s.name AND k.state = 'current' ORDER BY s.name`)
	if err != nil {
		return nil, fmt.Errorf("list servers: %w", err)
	}
	return servers, nil
}

// NextEpoch numbers a new session of a server. Numbers never repeat, also over restarts.
func (s *Store) NextEpoch(ctx context.Context, server string) (uint64, error) {
	var epoch uint64
	row := s.writer.QueryRowContext(ctx, "UPDATE servers SET epoch = epoch + 1 WHERE name = $1 RETURNING epoch", server)
	if _, err := found(struct{}{}, row.Scan(&epoch)); err != nil {
		return 0, fmt.Errorf("number a session of server %q: %w", server, err)
	}
	return epoch, nil
}

// ApproveServer lets a pending server connect.
func (s *Store) ApproveServer(ctx context.Context, name string) error {
	if err := oneRow(s.exec(ctx, "UPDATE servers SET pending = FALSE WHERE name = $1", name)); err != nil {
		return fmt.Errorf("approve server %q: %w", name, err)
	}
	return nil
}

// RemoveServer revokes a server's key. The inventory stays: its containers do too.
func (s *Store) RemoveServer(ctx context.Context, name string) error {
	if err := oneRow(s.exec(ctx, "DELETE FROM servers WHERE name = $1", name)); err != nil {
		return fmt.Errorf("remove server %q: %w", name, err)
	}
	return nil
}
