package store

import (
	"cmp"
	"context"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/network"
)

// maxTokenFailures revokes an onboarding key that somebody is trying out (rule O11).
const maxTokenFailures = 50

// AddOnboardingKey records an onboarding key by the hash of its secret. Its limits are
// fixed here and never change (rule O04).
func (s *Store) AddOnboardingKey(ctx context.Context, key api.OnboardingKey, hash [32]byte) error {
	tags, err := encode(key.Tags)
	if err != nil {
		return err
	}
	cidrs, err := encode(key.CIDRs)
	if err != nil {
		return err
	}
	_, err = s.exec(ctx, `INSERT INTO onboarding_keys
		(id, name, hash, last4, server_glob, rekey, tags, tier, uses, max_uses, failures, revoked, created_at, expires_at,
		cidrs, copy_server, template, approval, created_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, 0, FALSE, $10, $11, $12, $13, $14, $15, $16)`,
		key.ID, key.Name, hash[:], key.Last4, key.ServerGlob, key.Rekey, tags, string(key.Tier),
		key.MaxUses, stamp(key.Created), stamp(key.Expires), cidrs, key.CopyServer, key.Template, key.Approval, key.CreatedBy)
	if err != nil {
		return fmt.Errorf("add onboarding key %q: %w", key.Name, err)
	}
	return nil
}

// OnboardingKeys lists the onboarding keys, newest first.
func (s *Store) OnboardingKeys(ctx context.Context) ([]api.OnboardingKey, error) {
	return s.onboardingKeys(ctx, "TRUE")
}

// TriedKeys lists those with which agents were refused by a limit of the key.
func (s *Store) TriedKeys(ctx context.Context) ([]api.OnboardingKey, error) {
	keys, err := s.tried.get(ctx, s, table{}, func(ctx context.Context) ([]api.OnboardingKey, error) {
		return s.onboardingKeys(ctx, "failures > 0")
	})
	return slices.Clone(keys), err
}

func (s *Store) onboardingKeys(ctx context.Context, condition string) ([]api.OnboardingKey, error) {
	keys, err := list(ctx, s.reader, func(row scanner) (k api.OnboardingKey, err error) {
		err = row.Scan(&k.ID, &k.Name, &k.Last4, &k.ServerGlob, &k.Rekey, jsonColumn{&k.Tags}, &k.Tier,
			&k.Uses, &k.MaxUses, &k.Failures, &k.Revoked, stampColumn{&k.Created}, stampColumn{&k.Expires},
			jsonColumn{&k.CIDRs}, &k.CopyServer, &k.Template, &k.Approval, &k.CreatedBy)
		return k, err
	}, `SELECT id, name, last4, server_glob, rekey, tags, tier, uses, max_uses, failures, revoked, created_at, expires_at,
		cidrs, copy_server, template, approval, created_by FROM onboarding_keys WHERE `+condition+` ORDER BY created_at DESC, id`)
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
	// RemoteAddr is the address that the agent connects from; zero when it is not known.
	RemoteAddr netip.Addr
}

// Onboard spends one use of an onboarding key and registers the server with its key, in
// one transaction. Every refusal is ErrOnboarding, and an event with its true reason. An
// agent that did not hear the answer may ask again with the same key. ErrPending says that
// the server is registered, but must be approved before it may connect.
func (s *Store) Onboard(ctx context.Context, join Joining) error {
	var refused error
	err := s.write(ctx, func(tx *sql.Tx) error {
		now, err := s.now(ctx, tx)
		if err != nil {
			return err
		}
		// A refusal commits too: it counts the failure.
		if refused, err = s.onboard(ctx, tx, now, join); err != nil || !errors.Is(refused, ErrOnboarding) {
			return err
		}
		return s.addRefusal(ctx, tx, now, fmt.Sprintf(
			"agent from %s with onboarding key %s as %q: %v", addrText(join.RemoteAddr), join.Token, join.Server, refused))
	})
	if err = errors.Join(err, refused); err != nil {
		return fmt.Errorf("onboard server %q with key %s: %w", join.Server, join.Token, err)
	}
	return nil
}

// addRefusal records a refusal, of equal ones one an hour: an agent that is refused asks
// again for as long as it runs.
func (s *Store) addRefusal(ctx context.Context, tx *sql.Tx, now time.Time, text string) error {
	var told bool
	row := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM events
		WHERE id > (SELECT max(id) FROM events) - $1 AND text = $2 AND at > $3)`, lastEvents, text, stamp(now.Add(-time.Hour)))
	if err := row.Scan(&told); err != nil || told {
		return err
	}
	return s.addEvent(ctx, tx, api.Event{At: now, Kind: "onboarding", Text: text})
}

// lastEvents is how far back an equal refusal is looked for.
const lastEvents = 500

func addrText(addr netip.Addr) string { return cmp.Or(plainAddr(addr), "an unknown address") }

// plainAddr is empty for an address that is not known.
func plainAddr(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	return addr.Unmap().String()
}

// onboard returns why the agent is refused, and apart from that what failed.
func (s *Store) onboard(ctx context.Context, tx *sql.Tx, now time.Time, join Joining) (refused, err error) {
	if !fleet.ValidServerName(join.Server) {
		return fmt.Errorf("%w: no server can have that name", ErrOnboarding), nil
	}
	var (
		key  api.OnboardingKey
		hash []byte
	)
	row := tx.QueryRowContext(ctx, `SELECT id, hash, server_glob, rekey, tags, tier, max_uses, cidrs, template, approval
		FROM onboarding_keys WHERE id = $1`, join.Token)
	err = row.Scan(&key.ID, &hash, &key.ServerGlob, &key.Rekey, jsonColumn{&key.Tags}, &key.Tier, &key.MaxUses,
		jsonColumn{&key.CIDRs}, &key.Template, &key.Approval)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("%w: no such key", ErrOnboarding), nil
	case err != nil:
		return nil, err
	}
	if subtle.ConstantTimeCompare(hash, join.Hash[:]) != 1 {
		return fmt.Errorf("%w: wrong secret", ErrOnboarding), s.failed(ctx, tx, now, join)
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
	var rejected bool
	row = tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM rejected_agents WHERE public_key = $1)", join.PublicKey)
	if err := row.Scan(&rejected); err != nil {
		return nil, err
	}
	switch reason := outside(key, join); {
	case reason != "":
		return fmt.Errorf("%w: %s", ErrOnboarding, reason), s.failed(ctx, tx, now, join)
	case rejected:
		return fmt.Errorf("%w: this agent was rejected", ErrOnboarding), nil
	}
	return s.consume(ctx, tx, now, key, join)
}

// outside says which limit of its key an agent is outside of; empty when it is within all.
func outside(key api.OnboardingKey, join Joining) string {
	if key.Rekey != "" && key.Rekey != join.Server {
		return fmt.Sprintf("the key is for server %q only", key.Rekey)
	}
	if ok, err := path.Match(key.ServerGlob, join.Server); err != nil || !ok {
		return fmt.Sprintf("the name does not match %q", key.ServerGlob)
	}
	inside := func(cidr string) bool {
		prefix, err := network.Parse(cidr)
		return err == nil && network.Contain([]netip.Prefix{prefix}, join.RemoteAddr)
	}
	if len(key.CIDRs) > 0 && !slices.ContainsFunc(key.CIDRs, inside) {
		return "the address is not in " + strings.Join(key.CIDRs, ", ")
	}
	return ""
}

// failed counts an attempt that a key's limits refuse, and ends a key that somebody is
// trying out.
func (s *Store) failed(ctx context.Context, tx *sql.Tx, now time.Time, join Joining) error {
	var failures int
	row := tx.QueryRowContext(ctx, `UPDATE onboarding_keys SET failures = failures + 1
		WHERE id = $1 AND NOT revoked AND expires_at > $2 AND uses < max_uses RETURNING failures`, join.Token, stamp(now))
	err := row.Scan(&failures)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // it opens nothing any more
	}
	if err != nil || failures < maxTokenFailures {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE onboarding_keys SET revoked = TRUE WHERE id = $1", join.Token); err != nil {
		return err
	}
	return s.addEvent(ctx, tx, api.Event{At: now, Kind: "onboarding", Text: fmt.Sprintf(
		"onboarding key %s revoked by itself after %d failed attempts", join.Token, failures)})
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
func (s *Store) consume(
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
	done := "joined"
	if key.Rekey != "" {
		done = "has a new key: it joined again"
		n, err = affected(tx.ExecContext(ctx, "UPDATE servers SET core_key = '', disabled = FALSE WHERE name = $1", join.Server))
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
	text := fmt.Sprintf("server %s with onboarding key %s from %s", done, key.ID, addrText(join.RemoteAddr))
	if key.Rekey == "" && waits(key) {
		text += " and waits for approval"
		refused = ErrPending
	}
	return refused, s.addEvent(ctx, tx, api.Event{At: now, Kind: "server", Server: join.Server, Text: text})
}

// waits reports whether who joins with a key waits for approval. With a reusable one that
// is always so: it may spread (rule O07).
func waits(key api.OnboardingKey) bool { return key.Approval || key.MaxUses > 1 }

func insertServer(ctx context.Context, tx *sql.Tx, now time.Time, key api.OnboardingKey, join Joining) (int64, error) {
	tags, err := encode(key.Tags)
	if err != nil {
		return 0, err
	}
	// A conflict is a server of that name, in any case (rule O06).
	return affected(tx.ExecContext(ctx, `INSERT INTO servers
		(name, tags, tier, pending, disabled, epoch, onboarded_at, core_key, template, onboarding_key, remote_addr)
		VALUES ($1, $2, $3, $4, FALSE, 0, $5, '', $6, $7, $8) ON CONFLICT DO NOTHING`,
		join.Server, tags, string(key.Tier), waits(key), stamp(now), key.Template, key.ID, plainAddr(join.RemoteAddr)))
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
	// Template is the resource file with the one [[server]] whose settings this one has as
	// long as no commit declares it; empty when it has none.
	Template string
	// OnboardingKey is the id of the key it joined with, and RemoteAddr where it came from.
	OnboardingKey, RemoteAddr string
}

// Servers lists the servers that joined, by name, pending and disabled ones included.
func (s *Store) Servers(ctx context.Context) ([]Server, error) { return s.serversThat(ctx, "TRUE") }

// PendingServers lists those that wait for approval.
func (s *Store) PendingServers(ctx context.Context) ([]Server, error) {
	servers, err := s.pending.get(ctx, s, table{}, func(ctx context.Context) ([]Server, error) {
		return s.serversThat(ctx, "s.pending")
	})
	return slices.Clone(servers), err
}

func (s *Store) serversThat(ctx context.Context, condition string) ([]Server, error) {
	servers, err := list(ctx, s.reader, func(row scanner) (v Server, err error) {
		err = row.Scan(&v.Name, &v.PublicKey, jsonColumn{&v.Tags}, &v.Tier, &v.Pending, &v.Disabled, stampColumn{&v.OnboardedAt},
			&v.Template, &v.OnboardingKey, &v.RemoteAddr)
		return v, err
	}, `SELECT s.name, k.public_key, s.tags, s.tier, s.pending, s.disabled, s.onboarded_at,
		s.template, s.onboarding_key, s.remote_addr
		FROM servers s JOIN keys k ON k.server = s.name AND k.state = 'current' WHERE `+condition+` ORDER BY s.name`)
	if err != nil {
		return nil, fmt.Errorf("list servers: %w", err)
	}
	return servers, nil
}

// AdmittedServers lists the names of the servers that do not wait for approval.
func (s *Store) AdmittedServers(ctx context.Context) ([]string, error) {
	names, err := list(ctx, s.reader, func(row scanner) (name string, err error) {
		err = row.Scan(&name)
		return name, err
	}, "SELECT name FROM servers WHERE NOT pending ORDER BY name")
	if err != nil {
		return nil, fmt.Errorf("list servers: %w", err)
	}
	return names, nil
}

// NextEpoch numbers a new session of a server. Numbers never repeat, also over restarts.
func (s *Store) NextEpoch(ctx context.Context, server string) (uint64, error) {
	var epoch uint64
	row := s.writer.QueryRowContext(ctx, "UPDATE servers SET epoch = epoch + 1 WHERE name = $1 RETURNING epoch", server)
	_, err := found(struct{}{}, row.Scan(&epoch))
	s.writes.Add(1)
	if err != nil {
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

// RejectServer turns a pending server away: its name is free again, and its agent cannot
// join with the same key. One that is not pending is ErrExists: it takes part already.
func (s *Store) RejectServer(ctx context.Context, name string) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		var publicKey string
		var pending bool
		row := tx.QueryRowContext(ctx, `SELECT k.public_key, s.pending FROM servers s
			JOIN keys k ON k.server = s.name AND k.state = 'current' WHERE s.name = $1`, name)
		if _, err := found(struct{}{}, row.Scan(&publicKey, &pending)); err != nil {
			return err
		}
		if !pending {
			return fmt.Errorf("it was approved: %w", ErrExists)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO rejected_agents (public_key, server, rejected_at) VALUES ($1, $2, $3)
			ON CONFLICT DO NOTHING`, publicKey, name, stamp(s.clock())); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM servers WHERE name = $1", name)
		return err
	})
	if err != nil {
		return fmt.Errorf("reject server %q: %w", name, err)
	}
	return nil
}

// AcceptServerKey makes a key the only one of a server's agent, because somebody who compared
// it says so. A server that did not join has joined by that. ErrExists says that the key
// belongs to another server, or the name to one that differs in case.
func (s *Store) AcceptServerKey(ctx context.Context, name, publicKey string) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		now, err := s.now(ctx, tx)
		if err != nil {
			return err
		}
		n, err := affected(tx.ExecContext(ctx, "UPDATE servers SET core_key = '', pending = FALSE, disabled = FALSE WHERE name = $1", name))
		if err == nil && n == 0 {
			n, err = affected(tx.ExecContext(ctx, `INSERT INTO servers (name, tags, tier, pending, epoch, disabled, onboarded_at, core_key)
				VALUES ($1, '[]', $2, FALSE, 0, FALSE, $3, '') ON CONFLICT DO NOTHING`, name, string(fleet.TierTrusted), stamp(now)))
		}
		if err == nil && n == 1 {
			n, err = onlyKey(ctx, tx, now, Joining{Server: name, PublicKey: publicKey})
		}
		if err == nil && n == 0 {
			err = ErrExists
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("accept the key of server %q: %w", name, err)
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
