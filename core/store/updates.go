package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/varanhq/varan/core/api"
)

// Updates is what is known of newer images, by stack, server and service.
func (s *Store) Updates(ctx context.Context) ([]api.Update, error) {
	updates, err := s.updates.get(ctx, s, table{}, s.readUpdates)
	if err != nil {
		return nil, fmt.Errorf("list image updates: %w", err)
	}
	return slices.Clone(updates), nil
}

func (s *Store) readUpdates(ctx context.Context) ([]api.Update, error) {
	return list(ctx, s.reader, func(row scanner) (u api.Update, err error) {
		err = row.Scan(jsonColumn{&u})
		return u, err
	}, "SELECT data FROM image_updates ORDER BY stack, server, service")
}

// PutUpdates replaces what is known of a stack on a server, and records events with it.
func (s *Store) PutUpdates(ctx context.Context, stack, server string, updates []api.Update, events []api.Event) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM image_updates WHERE stack = $1 AND server = $2", stack, server)
		if err != nil {
			return err
		}
		for i := range updates {
			u := &updates[i]
			data, err := encode(u)
			if err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, `INSERT INTO image_updates (stack, server, service, state, data, checked_at)
				VALUES ($1, $2, $3, $4, $5, $6)`, stack, server, u.Service, string(u.State), data, stamp(u.Checked))
			if err != nil {
				return err
			}
		}
		for _, event := range events {
			if err := s.addEvent(ctx, tx, event); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record the image updates of %s on %s: %w", stack, server, err)
	}
	return nil
}
