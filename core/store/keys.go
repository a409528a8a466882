package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/varanhq/varan/core/api"
)

// AddKey records an API key by the hash of its secret.
func (s *Store) AddKey(ctx context.Context, id, name string, hash [32]byte) (api.Key, error) {
	now := s.clock()
	_, err := s.exec(ctx, "INSERT INTO api_keys (id, name, hash, created_at, last_used_at) VALUES ($1, $2, $3, $4, 0)",
		id, name, hash[:], stamp(now))
	if err != nil {
		return api.Key{}, fmt.Errorf("add API key %q: %w", name, err)
	}
	return api.Key{ID: id, Name: name, Created: timeOf(stamp(now))}, nil
}

// Keys lists the API keys, oldest first.
func (s *Store) Keys(ctx context.Context) ([]api.Key, error) {
	keys, err := list(ctx, s.reader, func(row scanner) (k api.Key, err error) {
		err = row.Scan(&k.ID, &k.Name, stampColumn{&k.Created}, stampColumn{&k.LastUsed})
		return k, err
	}, "SELECT id, name, created_at, last_used_at FROM api_keys ORDER BY created_at, id")
	if err != nil {
		return nil, fmt.Errorf("list API keys: %w", err)
	}
	return keys, nil
}

// KeyHash returns the name and hash of an API key.
func (s *Store) KeyHash(ctx context.Context, id string) (name string, hash [32]byte, err error) {
	var raw []byte
	row := s.reader.QueryRowContext(ctx, "SELECT name, hash FROM api_keys WHERE id = $1", id)
	if _, err := found(struct{}{}, row.Scan(&name, &raw)); err != nil {
		return "", hash, fmt.Errorf("read API key %q: %w", id, err)
	}
	copy(hash[:], raw)
	return name, hash, nil
}

// KeyUsed records when an API key was last used.
func (s *Store) KeyUsed(ctx context.Context, id string, at time.Time) error {
	if _, err := s.exec(ctx, "UPDATE api_keys SET last_used_at = $1 WHERE id = $2", stamp(at), id); err != nil {
		return fmt.Errorf("note the use of API key %q: %w", id, err)
	}
	return nil
}

// DeleteKey revokes an API key, and the onboarding keys that were made with it: nobody can
// let servers in beyond his own time (rule O04). ErrLastKey protects the last one: without any, nobody
// could make another.
func (s *Store) DeleteKey(ctx context.Context, id string) error {
	var n int64
	err := s.write(ctx, func(tx *sql.Tx) (err error) {
		n, err = affected(tx.ExecContext(ctx, "DELETE FROM api_keys WHERE id = $1 AND (SELECT count(*) FROM api_keys) > 1", id))
		if err != nil || n == 0 {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE onboarding_keys SET revoked = TRUE WHERE created_by = $1 AND uses < max_uses", id)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete API key %q: %w", id, err)
	}
	if n == 1 {
		return nil
	}
	if _, _, err := s.KeyHash(ctx, id); err != nil {
		return err
	}
	return fmt.Errorf("delete API key %q: %w", id, ErrLastKey)
}
