package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/varanhq/varan/core/api"
)

// Snapshot is what there is to say of a copy of the database.
type Snapshot struct {
	// Schema is the version of its schema, Rows how many each table has.
	Schema int
	Rows   map[string]int64
	// Servers are their keys, APIKeys the names of the API keys, Onboarding the onboarding
	// keys with which somebody could still join.
	Servers    []ServerKey
	APIKeys    []string
	Onboarding int
}

// SchemaVersion is the newest schema that this program knows.
func SchemaVersion() int {
	names, _ := fs.Glob(migrations, "migrations/*.sql") // the pattern is good
	return len(names)
}

// Snapshot copies the database, as it is at one moment, to a new file. Writers do not wait.
func (s *Store) Snapshot(ctx context.Context, path string) (snapshot Snapshot, err error) {
	// SQLite takes an empty file for a new one, and keeps its permissions.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return snapshot, fmt.Errorf("create the copy of the database: %w", err)
	}
	if err := f.Close(); err != nil {
		return snapshot, fmt.Errorf("create the copy of the database: %w", err)
	}
	db, err := connect(s.path, 1, "_pragma=query_only(0)")
	if err != nil {
		return snapshot, err
	}
	_, err = db.ExecContext(ctx, "VACUUM INTO $1", path)
	if err = errors.Join(err, db.Close()); err != nil {
		return snapshot, fmt.Errorf("copy the database: %w", err)
	}
	return Inspect(ctx, path)
}

// Inspect checks that a copy of a database is whole, and reads what is in it. It changes
// nothing. Its schema must be known: it may be older, but not newer.
func Inspect(ctx context.Context, path string) (out Snapshot, err error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return out, fmt.Errorf("resolve the database's path: %w", err)
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: abs}).String()+"?mode=ro&immutable=1&_pragma=query_only(1)")
	if err != nil {
		return out, fmt.Errorf("open the database: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&out.Schema); err != nil {
		return out, fmt.Errorf("read the schema's version: %w", err)
	}
	if newest := SchemaVersion(); out.Schema < 1 || out.Schema > newest {
		return out, fmt.Errorf("the database has schema version %d, this program knows 1 to %d", out.Schema, newest)
	}
	if err := intact(ctx, db); err != nil {
		return out, err
	}
	if out.Rows, err = countRows(ctx, db); err != nil {
		return out, err
	}
	err = out.people(ctx, db)
	return out, err
}

// intact has SQLite check every page and reference.
func intact(ctx context.Context, db *sql.DB) error {
	faults, err := list(ctx, db, scanText, "PRAGMA integrity_check(10)")
	if err != nil {
		return fmt.Errorf("check the database: %w", err)
	}
	if len(faults) != 1 || faults[0] != "ok" {
		return fmt.Errorf("the database is damaged: %s", strings.Join(faults, "; "))
	}
	return nil
}

func scanText(row scanner) (text string, err error) {
	err = row.Scan(&text)
	return text, err
}

func countRows(ctx context.Context, db *sql.DB) (map[string]int64, error) {
	tables, err := list(ctx, db, scanText, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	rows := make(map[string]int64, len(tables))
	for _, table := range tables {
		var n int64
		// A name takes no parameter; quoted it can be nothing but a name.
		query := `SELECT count(*) FROM "` + strings.ReplaceAll(table, `"`, `""`) + `"`
		if err := db.QueryRowContext(ctx, query).Scan(&n); err != nil {
			return nil, fmt.Errorf("count the rows of %s: %w", table, err)
		}
		rows[table] = n
	}
	return rows, nil
}

// people reads who may come in.
func (v *Snapshot) people(ctx context.Context, db *sql.DB) (err error) {
	query := "SELECT server, public_key, state, since FROM keys ORDER BY server, state"
	if _, ok := v.Rows["keys"]; !ok {
		query = "SELECT name, public_key, 'current', onboarded_at FROM servers ORDER BY name"
	}
	v.Servers, err = list(ctx, db, func(row scanner) (k ServerKey, err error) {
		err = row.Scan(&k.Server, &k.PublicKey, &k.State, stampColumn{&k.Since})
		return k, err
	}, query)
	if err != nil {
		return fmt.Errorf("list the keys of servers: %w", err)
	}
	if v.APIKeys, err = list(ctx, db, scanText, "SELECT name FROM api_keys ORDER BY created_at, id"); err != nil {
		return fmt.Errorf("list API keys: %w", err)
	}
	row := db.QueryRowContext(ctx, "SELECT count(*) FROM onboarding_keys WHERE NOT revoked AND uses < max_uses AND expires_at > $1", stamp(time.Now()))
	if err := row.Scan(&v.Onboarding); err != nil {
		return fmt.Errorf("count onboarding keys: %w", err)
	}
	return nil
}

// Restored makes a database that comes from a backup fit to go on with: onboarding keys may have
// been used up since, so that none of them is good any more. The event says who did that.
func (s *Store) Restored(ctx context.Context, event api.Event) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE onboarding_keys SET revoked = TRUE WHERE NOT revoked"); err != nil {
			return err
		}
		return s.addEvent(ctx, tx, event)
	})
	if err != nil {
		return fmt.Errorf("prepare the restored database: %w", err)
	}
	return nil
}

// Admissions is a text that changes whenever it changes who may connect.
func (s *Store) Admissions(ctx context.Context) (string, error) {
	lines, err := list(ctx, s.reader, scanText, `SELECT 'k ' || server || ' ' || state || ' ' || public_key FROM keys WHERE state <> 'next'
		UNION ALL SELECT 's ' || name || ' ' || pending || ' ' || disabled FROM servers
		UNION ALL SELECT 'a ' || id FROM api_keys ORDER BY 1`)
	if err != nil {
		return "", fmt.Errorf("read who may connect: %w", err)
	}
	return strings.Join(lines, "\n"), nil
}
