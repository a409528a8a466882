package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/varanhq/varan/core/alert"
	"github.com/varanhq/varan/core/api"
)

// keepAlerts is how many alerts stay besides the open ones, keepAlertsFor how long.
const (
	keepAlerts    = 10_000
	keepAlertsFor = 90 * 24 * time.Hour
)

var _ alert.Store = (*Store)(nil)

const alertColumns = "id, dedup, kind, level, target_kind, target, server, text, data, opened_at, resolved_at"

func scanAlert(row scanner) (a alert.Alert, err error) {
	err = row.Scan(&a.ID, &a.Key, &a.Type, &a.Level, &a.Target.Kind, &a.Target.Name, &a.Server, &a.Text, jsonColumn{&a.Data},
		stampColumn{&a.At}, stampColumn{&a.Resolved})
	return a, err
}

// OpenAlert records a matter, unless one with its key is open.
func (s *Store) OpenAlert(ctx context.Context, a alert.Alert) (opened bool, err error) {
	data, err := encode(a.Data)
	if err != nil {
		return false, err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		n, err := affected(tx.ExecContext(ctx, `INSERT INTO alerts
			(dedup, kind, level, target_kind, target, server, text, data, opened_at, resolved_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING`,
			a.Key, string(a.Type), string(a.Level), a.Target.Kind, a.Target.Name, a.Server, a.Text, data, stamp(a.At), stamp(a.Resolved)))
		if err != nil || n == 0 {
			return err
		}
		opened = true
		if _, err := tx.ExecContext(ctx, `DELETE FROM alerts WHERE resolved_at <> 0 AND (opened_at < $1 OR id <=
			(SELECT max(id) - $2 FROM alerts))`, stamp(s.clock().Add(-keepAlertsFor)), keepAlerts); err != nil {
			return err
		}
		return s.addEvent(ctx, tx, api.Event{At: a.At, Kind: "alert", Server: a.Server, Text: string(a.Level) + ": " + a.Text})
	})
	if err != nil {
		return false, fmt.Errorf("record an alert: %w", err)
	}
	return opened, nil
}

// ResolveAlert closes the matter with that key.
func (s *Store) ResolveAlert(ctx context.Context, key string, at time.Time) (a alert.Alert, ok bool, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		row := tx.QueryRowContext(ctx, "UPDATE alerts SET resolved_at = $1 WHERE dedup = $2 AND resolved_at = 0 RETURNING "+alertColumns,
			stamp(at), key)
		var err error
		if a, err = scanAlert(row); errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		ok = true
		return s.addEvent(ctx, tx, api.Event{At: at, Kind: "alert", Server: a.Server, Text: "over: " + a.Text})
	})
	if err != nil {
		return a, false, fmt.Errorf("record the end of an alert: %w", err)
	}
	return a, ok, nil
}

// OpenAlerts are the keys of all matters that are not over.
func (s *Store) OpenAlerts(ctx context.Context) ([]string, error) {
	keys, err := list(ctx, s.reader, func(row scanner) (key string, err error) {
		err = row.Scan(&key)
		return key, err
	}, "SELECT dedup FROM alerts WHERE resolved_at = 0")
	if err != nil {
		return nil, fmt.Errorf("list open alerts: %w", err)
	}
	return keys, nil
}

// Alerts lists alerts, newest first, from before the one with that id if it is not zero;
// only those that are not over when open is set.
func (s *Store) Alerts(ctx context.Context, open bool, before int64, limit int) ([]api.Alert, error) {
	alerts, err := list(ctx, s.reader, func(row scanner) (api.Alert, error) {
		a, err := scanAlert(row)
		return api.Alert{
			ID: a.ID, Type: a.Type, Level: string(a.Level), Target: a.Target, Server: a.Server, Text: a.Text, Data: a.Data,
			At: a.At, Resolved: a.Resolved,
		}, err
	}, "SELECT "+alertColumns+` FROM alerts WHERE ($1 = 0 OR id < $1) AND (NOT $2 OR resolved_at = 0)
		ORDER BY id DESC LIMIT $3`, before, open, limit)
	if err != nil {
		return nil, fmt.Errorf("list alerts: %w", err)
	}
	return alerts, nil
}
