// Package store is core's durable memory: SQLite in one file. It implements the small
// interfaces that the reconciler, the hub and the web handlers declare, and knows none of
// them by more than their values.
//
// There is one writing connection, so that writes queue in Go instead of failing as busy,
// and a few reading ones. Every commit is on disk before a method returns: the process may
// be killed at any time. Secrets are sealed before they reach SQL, tokens are hashed.
package store

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/reconciler/plan"
)

// Errors that callers branch on.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
	ErrLastKey  = errors.New("it is the last API key")
	// ErrOnboarding is every refusal to let an agent join. The peer is told no more; what
	// wraps it is for the log.
	ErrOnboarding = errors.New("onboarding refused")
	// ErrPending says that a server joined with a reusable key and nobody approved it yet.
	ErrPending = errors.New("the server waits for approval")
)

//go:embed migrations/*.sql
var migrations embed.FS

// Config says where the database is and how to seal.
type Config struct {
	// Path of the database file; required.
	Path string
	// SealKey is 32 random bytes kept outside the database; required.
	SealKey []byte
	// Now is the clock; optional, default time.Now. Elapsed is one that nobody sets; optional,
	// default the monotonic one with the default clock, and none with another.
	Now     func() time.Time
	Elapsed func() time.Duration
}

// Store is the database. Its methods are safe for concurrent use.
type Store struct {
	path   string
	writer *sql.DB
	reader *sql.DB
	sealer sealer
	clock  func() time.Time
	// ratchet is the clock that expiry is judged by.
	ratchet *ratchet

	// writes counts what was committed. What is asked for all the time is kept until it moves.
	writes    atomic.Uint64
	pending   memo[table, []Server]
	tried     memo[table, []api.OnboardingKey]
	updates   memo[table, []api.Update]
	suspended memo[table, []plan.Suspension]
	// These are by sync.
	syncs    memo[string, api.Sync]
	owned    memo[string, []owned]
	holds    memo[string, []plan.Hold]
	rollouts memo[string, []plan.Rollout]

	states states

	mu sync.Mutex
	// records are kept by sync; generation counts how often they were dropped.
	records    map[string]records
	generation int
	webhooks   webhooks
}

// Open opens or creates the database, brings its schema up to date, and marks what was
// running when the last process ended as interrupted.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	seal, err := newSealer(cfg.SealKey)
	if err != nil {
		return nil, err
	}
	// SQLite gives its journal and shared memory the permissions of the database.
	f, err := os.OpenFile(cfg.Path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create the database: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("create the database: %w", err)
	}
	s := &Store{path: cfg.Path, sealer: seal, clock: cfg.Now, records: map[string]records{}, ratchet: newRatchet(cfg.Now, cfg.Elapsed)}
	if s.clock == nil {
		s.clock = time.Now
	}
	// The mode takes effect in a new database, and in an old one once it is vacuumed.
	if s.writer, err = connect(cfg.Path, 1, "_txlock=immediate&_pragma=auto_vacuum(incremental)"); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.writer.Close())
	}
	if s.reader, err = connect(cfg.Path, 2, "_pragma=query_only(1)"); err != nil {
		return nil, errors.Join(err, s.writer.Close())
	}
	return s, nil
}

// Close checkpoints and closes the database.
func (s *Store) Close() error {
	if err := errors.Join(s.reader.Close(), s.writer.Close()); err != nil {
		return fmt.Errorf("close the database: %w", err)
	}
	return nil
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.reader.PingContext(ctx); err != nil {
		return fmt.Errorf("ask the database: %w", err)
	}
	return nil
}

// connect opens a pool. The page cache is small: the working set is, and every connection
// has its own.
func connect(path string, conns int, extra string) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("resolve the database's path: %w", err)
	}
	dsn := (&url.URL{Scheme: "file", Path: abs}).String() + "?" + extra +
		"&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)" +
		"&_pragma=foreign_keys(1)&_pragma=cache_size(-512)&_pragma=journal_size_limit(4194304)"
	connector, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	db := sql.OpenDB(statements{connector})
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// prepare migrates and settles what a killed process left behind.
func (s *Store) prepare(ctx context.Context) error {
	if err := s.migrate(ctx, migrations); err != nil {
		return err
	}
	if err := s.chain(ctx); err != nil {
		return err
	}
	if err := s.loadClock(ctx); err != nil {
		return err
	}
	return s.interrupt(ctx)
}

// migrate applies the numbered files that the database has not seen, each in its own
// transaction together with its number.
func (s *Store) migrate(ctx context.Context, files fs.FS) error {
	names, err := fs.Glob(files, "migrations/*.sql") // sorted: the numbers have leading zeros
	if err != nil {
		return fmt.Errorf("list migrations: %w", err)
	}
	var have int
	if err := s.writer.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if have > len(names) {
		return fmt.Errorf("the database has schema version %d, this program knows %d: it was written by a newer release",
			have, len(names))
	}
	for i, name := range names[have:] {
		script, err := fs.ReadFile(files, name)
		if err != nil {
			return fmt.Errorf("read migration %s: %w", name, err)
		}
		// The version is part of the transaction; PRAGMA takes no parameters.
		version := fmt.Sprintf("PRAGMA user_version = %d", have+i+1)
		err = s.write(ctx, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, string(script)); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, version)
			return err
		})
		if err != nil {
			return fmt.Errorf("apply migration %s: %w", name, err)
		}
	}
	return nil
}

// write runs f in one transaction on the writing connection.
func (s *Store) write(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback() // the first error is the one that tells
		return err
	}
	err = tx.Commit()
	s.writes.Add(1) // also after an error, which need not mean that nothing was written
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// exec runs one statement as its own transaction and returns the number of rows it changed.
func (s *Store) exec(ctx context.Context, query string, args ...any) (int64, error) {
	result, err := s.writer.ExecContext(ctx, query, args...)
	s.writes.Add(1)
	return affected(result, err)
}

// affected is the number of rows a statement changed.
func affected(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// oneRow turns "nothing changed" into ErrNotFound.
func oneRow(n int64, err error) error {
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// scanner is what *sql.Row and *sql.Rows share.
type scanner interface{ Scan(dest ...any) error }

// querier is a reading connection, or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// list collects the rows of a query.
func list[T any](ctx context.Context, db querier, scan func(scanner) (T, error), query string, args ...any) (out []T, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	out = []T{}
	for rows.Next() {
		value, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, value)
	}
	return out, rows.Err()
}

// found turns SQL's "no rows" into ErrNotFound.
func found[T any](value T, err error) (T, error) {
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return value, err
}

// stamp is a time as the database keeps it.
func stamp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// timeOf is the time of a stamp.
func timeOf(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// stampColumn scans a stamp into a time.
type stampColumn struct{ into *time.Time }

// Scan implements sql.Scanner.
func (c stampColumn) Scan(v any) error {
	ns, ok := v.(int64)
	if !ok {
		return fmt.Errorf("a time column holds %T", v)
	}
	*c.into = timeOf(ns)
	return nil
}

// jsonColumn scans a JSON column into the value it points to.
type jsonColumn struct{ into any }

// Scan implements sql.Scanner.
func (c jsonColumn) Scan(v any) error {
	switch v := v.(type) {
	case string:
		return json.Unmarshal([]byte(v), c.into)
	case []byte:
		return json.Unmarshal(v, c.into)
	default:
		return fmt.Errorf("a JSON column holds %T", v)
	}
}

// encode is v as a JSON column keeps it. The values are ours and always encode.
func encode(v any) (string, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode %T: %w", v, err)
	}
	return string(raw), nil
}
