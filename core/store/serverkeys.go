package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/reconciler/procedure"
)

const (
	// RotationTime is how long a change of a server's key may take. What was not done by then
	// has not happened, and the next attempt begins anew.
	RotationTime = 10 * time.Minute
	// KeyGrace is how long an agent may still say with its old key that it has the new one.
	KeyGrace = 24 * time.Hour
)

// Errors about the keys of servers.
var (
	// ErrDisabled says that a server's key is refused because somebody disabled the server.
	ErrDisabled = errors.New("the server is disabled")
	// ErrNoRotation says that no change of the server's key with that id is under way.
	ErrNoRotation = errors.New("no such change of keys is under way")
)

// KeyState is what a key of a server is good for.
type KeyState string

// The states. A server has at most one key in each.
const (
	KeyCurrent KeyState = "current"
	// KeyNext is accepted, and becomes current when the agent first shows it.
	KeyNext KeyState = "next"
	// KeyRetired was current until the next one came.
	KeyRetired KeyState = "retired"
)

// ServerKey is one key of a server.
type ServerKey struct {
	Server    string
	PublicKey string
	State     KeyState
	Since     time.Time
}

// Admitted is what the owner of a key may do.
type Admitted struct {
	Server string
	// Retired keys are good for nothing but to confirm the newer one.
	Retired bool
	// Replaced is the key whose place the one shown took at this moment.
	Replaced string
	// Emergency says that the replaced key is refused from now on.
	Emergency bool
}

// AdmitKey finds the server whose agent shows the key. A next key takes its place by that. It
// is ErrNotFound for a key nobody has, ErrPending or ErrDisabled for a server that must not
// connect.
func (s *Store) AdmitKey(ctx context.Context, publicKey string) (a Admitted, err error) {
	a, state, err := s.admit(ctx, s.reader, publicKey, s.keyTime(s.Clock().Now))
	if err == nil && state == KeyNext {
		err = s.write(ctx, func(tx *sql.Tx) error {
			now, err := s.now(ctx, tx)
			if err != nil {
				return err
			}
			if a, state, err = s.admit(ctx, tx, publicKey, s.keyTime(now)); err != nil || state != KeyNext {
				return err
			}
			return s.promote(ctx, tx, now, &a, publicKey)
		})
	}
	if err != nil {
		return Admitted{}, fmt.Errorf("find the server of an agent's key: %w", err)
	}
	return a, nil
}

// queryer is what a pool and a transaction share.
type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// admit looks a key up. One whose time is over counts as not there.
func (*Store) admit(ctx context.Context, from queryer, publicKey string, now time.Time) (a Admitted, state KeyState, err error) {
	var pending, disabled bool
	var since, started time.Time
	row := from.QueryRowContext(ctx, `SELECT k.server, k.state, k.since, s.pending, s.disabled,
			coalesce(r.started_at, 0), coalesce(r.emergency, FALSE)
		FROM keys k JOIN servers s ON s.name = k.server LEFT JOIN rotations r ON r.server = k.server
		WHERE k.public_key = $1`, publicKey)
	err = row.Scan(&a.Server, &state, stampColumn{&since}, &pending, &disabled, stampColumn{&started}, &a.Emergency)
	_, err = found(struct{}{}, err)
	switch {
	case err != nil:
	case pending:
		err = ErrPending
	case disabled:
		err = ErrDisabled
	case state == KeyRetired && !now.Before(since.Add(KeyGrace)):
		err = fmt.Errorf("%w: the key was replaced at %s", ErrNotFound, since.Format(time.RFC3339))
	case state == KeyNext && !now.Before(started.Add(RotationTime)):
		err = fmt.Errorf("%w: the key was proposed in a change of keys that was not finished in time", ErrNotFound)
	}
	a.Retired = state == KeyRetired
	a.Emergency = a.Emergency && state == KeyNext
	return a, state, err
}

// promote gives a next key the place of the current one (R5).
func (s *Store) promote(ctx context.Context, tx *sql.Tx, now time.Time, a *Admitted, publicKey string) error {
	var actor, run string
	row := tx.QueryRowContext(ctx, "DELETE FROM rotations WHERE server = $1 RETURNING actor, run", a.Server)
	if err := row.Scan(&actor, &run); err != nil {
		return err
	}
	row = tx.QueryRowContext(ctx, "SELECT public_key FROM keys WHERE server = $1 AND state = 'current'", a.Server)
	if err := row.Scan(&a.Replaced); err != nil {
		return err
	}
	steps := []string{
		"DELETE FROM keys WHERE server = $1 AND state = 'retired' AND since <= $2",
		"UPDATE keys SET state = 'retired', since = $2 WHERE server = $1 AND state = 'current'",
		"UPDATE keys SET state = 'current', since = $2 WHERE server = $1 AND state = 'next'",
	}
	text := "agent's key replaced; the old one is good for nothing more"
	if a.Emergency {
		steps = append(steps, "DELETE FROM keys WHERE server = $1 AND state = 'retired' AND since <= $2")
		text = "agent's key replaced in an emergency; the old one is refused from now on"
	}
	for _, step := range steps {
		if _, err := tx.ExecContext(ctx, step, a.Server, stamp(now)); err != nil {
			return err
		}
	}
	return s.addEvent(ctx, tx, api.Event{
		At: now, Kind: "key", Server: a.Server, Actor: actor, Run: run, Text: text + "; the new one is " + publicKey,
	})
}

// StartRotation begins a change of a server's key and returns its id (R1): id, or that of the
// one that is under way. An emergency makes that one an emergency too.
func (s *Store) StartRotation(ctx context.Context, server, id, actor string, emergency bool) (string, error) {
	err := s.write(ctx, func(tx *sql.Tx) error {
		now, err := s.now(ctx, tx)
		if err != nil {
			return err
		}
		var pending, disabled bool
		row := tx.QueryRowContext(ctx, "SELECT pending, disabled FROM servers WHERE name = $1", server)
		switch _, err := found(struct{}{}, row.Scan(&pending, &disabled)); {
		case err != nil:
			return err
		case pending:
			return ErrPending
		case disabled:
			return ErrDisabled
		}
		open, err := openRotation(ctx, tx, server, s.keyTime(now))
		switch {
		case err == nil:
			id = open
			_, err = tx.ExecContext(ctx, "UPDATE rotations SET emergency = emergency OR $1 WHERE server = $2", emergency, server)
			return err
		case !errors.Is(err, ErrNoRotation):
			return err
		}
		if err := endRotation(ctx, tx, server); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM keys WHERE state = 'retired' AND since <= $1", stamp(s.keyTime(now).Add(-KeyGrace))); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO rotations (server, id, emergency, actor, run, started_at) VALUES ($1, $2, $3, $4, $5, $6)",
			server, id, emergency, actor, procedure.RunOf(ctx), stamp(now))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("begin to change the key of server %q: %w", server, err)
	}
	return id, nil
}

func openRotation(ctx context.Context, from queryer, server string, now time.Time) (string, error) {
	var id string
	row := from.QueryRowContext(ctx, "SELECT id FROM rotations WHERE server = $1 AND started_at > $2", server, stamp(now.Add(-RotationTime)))
	err := row.Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoRotation
	}
	return id, err
}

// endRotation forgets a change of keys and the key that was proposed in it.
func endRotation(ctx context.Context, tx *sql.Tx, server string) error {
	for _, step := range []string{
		"DELETE FROM rotations WHERE server = $1", "DELETE FROM keys WHERE server = $1 AND state = 'next'",
	} {
		if _, err := tx.ExecContext(ctx, step, server); err != nil {
			return err
		}
	}
	return nil
}

// OpenRotation is the id of the change of a server's key that is under way, or ErrNoRotation.
func (s *Store) OpenRotation(ctx context.Context, server string) (string, error) {
	id, err := openRotation(ctx, s.reader, server, s.keyTime(s.Clock().Now))
	if err != nil {
		return "", fmt.Errorf("look for a change of the key of server %q: %w", server, err)
	}
	return id, nil
}

// AbandonRotation ends a change of a server's key that failed. Nothing has changed then.
func (s *Store) AbandonRotation(ctx context.Context, server, id string) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		open, err := openRotation(ctx, tx, server, time.Time{})
		if errors.Is(err, ErrNoRotation) || err == nil && open != id {
			return nil
		}
		if err != nil {
			return err
		}
		return endRotation(ctx, tx, server)
	})
	if err != nil {
		return fmt.Errorf("give up changing the key of server %q: %w", server, err)
	}
	return nil
}

// ProposeKey accepts the key that an agent wants to change to, beside its current one (R3). The
// same one again changes nothing; another one takes its place, as the agent knows what is on
// its disk.
func (s *Store) ProposeKey(ctx context.Context, server, id, publicKey string) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		now, err := s.now(ctx, tx)
		if err != nil {
			return err
		}
		open, err := openRotation(ctx, tx, server, s.keyTime(now))
		if err == nil && open != id {
			err = ErrNoRotation
		}
		if err != nil {
			return err
		}
		var owner string
		var state KeyState
		err = tx.QueryRowContext(ctx, "SELECT server, state FROM keys WHERE public_key = $1", publicKey).Scan(&owner, &state)
		switch {
		case err == nil && owner == server && state == KeyNext:
			return nil
		case err == nil:
			return fmt.Errorf("%w: it is a %s key of server %q", ErrExists, state, owner)
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM keys WHERE server = $1 AND state = 'next'", server); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO keys (public_key, server, state, since) VALUES ($1, $2, 'next', $3)",
			publicKey, server, stamp(now))
		return err
	})
	if err != nil {
		return fmt.Errorf("accept the next key of server %q: %w", server, err)
	}
	return nil
}

// ConfirmKey ends the grace of a server's old key: the agent has the new one in its place (R8).
func (s *Store) ConfirmKey(ctx context.Context, server string) error {
	if _, err := s.exec(ctx, "DELETE FROM keys WHERE server = $1 AND state = 'retired'", server); err != nil {
		return fmt.Errorf("end the grace of the old key of server %q: %w", server, err)
	}
	return nil
}

// CurrentKey is the key that a server's agent is expected to show.
func (s *Store) CurrentKey(ctx context.Context, server string) (key string, err error) {
	row := s.reader.QueryRowContext(ctx, "SELECT public_key FROM keys WHERE server = $1 AND state = 'current'", server)
	if _, err = found(struct{}{}, row.Scan(&key)); err != nil {
		return "", fmt.Errorf("find the key of server %q: %w", server, err)
	}
	return key, nil
}

// ServerKeys lists the keys of all servers, by server and state.
func (s *Store) ServerKeys(ctx context.Context) ([]ServerKey, error) {
	keys, err := list(ctx, s.reader, func(row scanner) (k ServerKey, err error) {
		err = row.Scan(&k.Server, &k.PublicKey, &k.State, stampColumn{&k.Since})
		return k, err
	}, `SELECT server, public_key, state, since FROM keys
		WHERE NOT (state = 'retired' AND since <= $1) ORDER BY server, state`, stamp(s.clock().Add(-KeyGrace)))
	if err != nil {
		return nil, fmt.Errorf("list the servers' keys: %w", err)
	}
	return keys, nil
}

// SetServerDisabled refuses a server's key, or accepts it again.
func (s *Store) SetServerDisabled(ctx context.Context, name string, disabled bool) error {
	if err := oneRow(s.exec(ctx, "UPDATE servers SET disabled = $1 WHERE name = $2", disabled, name)); err != nil {
		return fmt.Errorf("change server %q: %w", name, err)
	}
	return nil
}

// PinnedCoreKey records the newest key of core that an agent is known to pin.
func (s *Store) PinnedCoreKey(ctx context.Context, server, fingerprint string) error {
	_, err := s.exec(ctx, "UPDATE servers SET core_key = $1 WHERE name = $2 AND core_key <> $1", fingerprint, server)
	if err != nil {
		return fmt.Errorf("record the core key that server %q pins: %w", server, err)
	}
	return nil
}

// WithoutCoreKey lists the servers whose agents are not known to pin that key of core. Those
// that must not connect are left out.
func (s *Store) WithoutCoreKey(ctx context.Context, fingerprint string) ([]string, error) {
	names, err := list(ctx, s.reader, func(row scanner) (name string, err error) {
		err = row.Scan(&name)
		return name, err
	}, "SELECT name FROM servers WHERE core_key <> $1 AND NOT pending AND NOT disabled ORDER BY name", fingerprint)
	if err != nil {
		return nil, fmt.Errorf("list the servers without core's new key: %w", err)
	}
	return names, nil
}

// SetCoreKeyChanged records when core last changed its key, CoreKeyChanged returns it; zero for
// never.
func (s *Store) SetCoreKeyChanged(ctx context.Context, at time.Time) error {
	_, err := s.exec(ctx, `INSERT INTO meta (name, value) VALUES ('core_key_changed', $1)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, stamp(at))
	if err != nil {
		return fmt.Errorf("record the change of core's key: %w", err)
	}
	return nil
}

// CoreKeyChanged is SetCoreKeyChanged's other half.
func (s *Store) CoreKeyChanged(ctx context.Context) (at time.Time, err error) {
	err = s.reader.QueryRowContext(ctx, "SELECT value FROM meta WHERE name = 'core_key_changed'").Scan(stampColumn{&at})
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	if err != nil {
		return at, fmt.Errorf("read when core's key was changed: %w", err)
	}
	return at, nil
}

// OnboardingKeysBefore counts the onboarding keys from before that moment that an agent may
// still join with.
func (s *Store) OnboardingKeysBefore(ctx context.Context, at time.Time) (n int, err error) {
	row := s.reader.QueryRowContext(ctx, `SELECT count(*) FROM onboarding_keys
		WHERE created_at < $1 AND expires_at > $2 AND NOT revoked AND uses < max_uses`, stamp(at), stamp(s.clock()))
	if err := row.Scan(&n); err != nil {
		return 0, fmt.Errorf("count the onboarding keys: %w", err)
	}
	return n, nil
}
