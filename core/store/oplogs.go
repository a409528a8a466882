package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/varanhq/varan/core/api"
)

// closing closes rows and keeps the error that tells more.
func closing(rows *sql.Rows, err error) error { return errors.Join(err, rows.Close()) }

// AddOpLog appends lines to the log of an op. Parts of one log come in order.
func (s *Store) AddOpLog(ctx context.Context, run, op string, lines []api.OpLogLine) error {
	encoded, err := encode(lines)
	if err != nil {
		return err
	}
	_, err = s.exec(ctx, `INSERT INTO op_logs (run, op, seq, at, lines)
		SELECT $1, $2, coalesce(max(seq), 0) + 1, $3, $4 FROM op_logs WHERE run = $1 AND op = $2`, run, op, stamp(s.clock()), encoded)
	if err != nil {
		return fmt.Errorf("record what %q of run %s said: %w", op, run, err)
	}
	return nil
}

// OpLog returns the next part of an op's log after the one with that number, and its own
// number; ok is false when there is none yet.
func (s *Store) OpLog(ctx context.Context, run, op string, after int64) (lines []api.OpLogLine, seq int64, ok bool, err error) {
	row := s.reader.QueryRowContext(ctx, "SELECT seq, lines FROM op_logs WHERE run = $1 AND op = $2 AND seq > $3 ORDER BY seq LIMIT 1",
		run, op, after)
	err = row.Scan(&seq, jsonColumn{&lines})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, after, false, nil
	}
	if err != nil {
		return nil, after, false, fmt.Errorf("read what %q of run %s said: %w", op, run, err)
	}
	return lines, seq, true, nil
}

// PruneLogs deletes the logs from before a time, and states of stacks that were replaced
// before the other, a bounded number in each transaction. A zero time keeps all.
func (s *Store) PruneLogs(ctx context.Context, logs, states time.Time) error {
	steps := []func(tx *sql.Tx) (int64, error){
		func(tx *sql.Tx) (int64, error) {
			return affected(tx.ExecContext(ctx, `DELETE FROM op_logs WHERE (run, op, seq) IN
				(SELECT run, op, seq FROM op_logs WHERE at < $1 LIMIT $2)`, stamp(logs), pruneBatch))
		},
		func(tx *sql.Tx) (int64, error) { return pruneStates(ctx, tx, states) },
	}
	for _, step := range steps {
		for n := int64(pruneBatch); n == pruneBatch; {
			err := s.write(ctx, func(tx *sql.Tx) (err error) {
				n, err = step(tx)
				return err
			})
			if err != nil {
				return fmt.Errorf("delete old logs: %w", err)
			}
		}
	}
	return nil
}

// Shrink gives back to the file system what deleting freed, once it is a notable part of the
// file, and a little at a time.
func (s *Store) Shrink(ctx context.Context) error {
	var mode, free, all int64
	for _, pragma := range []struct {
		name string
		into *int64
	}{{"auto_vacuum", &mode}, {"freelist_count", &free}, {"page_count", &all}} {
		if err := s.writer.QueryRowContext(ctx, "PRAGMA "+pragma.name).Scan(pragma.into); err != nil {
			return fmt.Errorf("read the size of the database: %w", err)
		}
	}
	const (
		incremental  = 2
		smallestPart = 10
		step         = 1000
	)
	if mode != incremental || free < step || free < all/smallestPart {
		return nil
	}
	for ; free > 0; free -= step {
		if err := s.freePages(ctx, step); err != nil {
			return fmt.Errorf("shrink the database: %w", err)
		}
	}
	return nil
}

// freePages gives up to so many unused pages back.
func (s *Store) freePages(ctx context.Context, pages int) (err error) {
	rows, err := s.writer.QueryContext(ctx, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", pages))
	if err != nil {
		return err
	}
	defer func() { err = closing(rows, err) }()
	for rows.Next() { // the rows have to be read for the pages to be freed
	}
	return rows.Err()
}
