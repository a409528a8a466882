package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

type stackPlace struct{ stack, server string }

const stateColumns = "stack, server, at, sync, sync_state, health, source_commit, release_sum, text"

func scanState(row scanner) (p api.PastStack, err error) {
	err = row.Scan(&p.Name, &p.Server, stampColumn{&p.Since}, &p.Source, &p.Sync, &p.Health, &p.Commit, &p.Release, &p.Text)
	return p, err
}

// keepStates records how the stacks of a sync are, for those that changed.
func (s *Store) keepStates(ctx context.Context, tx *sql.Tx, sync string, p plan.Plan) error {
	known, err := s.knownStates(ctx, tx, sync)
	if err != nil {
		return err
	}
	now := s.clock()
	present := map[stackPlace]bool{}
	for _, state := range p.Stacks {
		at := stackPlace{state.Stack, state.Server}
		present[at] = true
		last, ok := known[at]
		next := api.PastStack{
			Name: state.Stack, Server: state.Server, Since: now, Source: sync, Sync: state.Sync, Health: state.Health, Text: state.Text,
			// What runs is what was deployed last, until it is as Git says again.
			Commit: last.Commit, Release: last.Release,
		}
		if state.Sync == fleet.Synced {
			next.Commit = p.Commit.ID
			if next.Release, err = lastRelease(ctx, tx, at); err != nil {
				return err
			}
		}
		if ok && last.Sync == next.Sync && last.Health == next.Health && last.Text == next.Text && last.Commit == next.Commit {
			continue
		}
		if err := putState(ctx, tx, next); err != nil {
			return err
		}
	}
	for at, last := range known {
		if !present[at] && last.Sync != "" {
			if err := putState(ctx, tx, api.PastStack{Name: at.stack, Server: at.server, Since: now, Source: sync, Text: "no longer there"}); err != nil {
				return err
			}
		}
	}
	return nil
}

// knownStates are the last states of the stacks that a sync had.
func (*Store) knownStates(ctx context.Context, tx *sql.Tx, sync string) (known map[stackPlace]api.PastStack, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT "+stateColumns+` FROM stack_states AS t WHERE sync = $1
		AND at = (SELECT max(at) FROM stack_states WHERE stack = t.stack AND server = t.server)`, sync)
	if err != nil {
		return nil, err
	}
	defer func() { err = closing(rows, err) }()
	known = map[stackPlace]api.PastStack{}
	for rows.Next() {
		state, err := scanState(rows)
		if err != nil {
			return nil, err
		}
		known[stackPlace{state.Name, state.Server}] = state
	}
	return known, rows.Err()
}

func lastRelease(ctx context.Context, tx *sql.Tx, at stackPlace) (release fleet.Digest, err error) {
	row := tx.QueryRowContext(ctx, `SELECT coalesce((SELECT release_sum FROM ops WHERE stack = $1 AND server = $2
		AND status = 'succeeded' AND release_sum <> '' ORDER BY seq DESC LIMIT 1), '')`, at.stack, at.server)
	err = row.Scan(&release)
	return release, err
}

func putState(ctx context.Context, tx *sql.Tx, p api.PastStack) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO stack_states ("+stateColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (stack, server, at) DO UPDATE SET sync = excluded.sync, sync_state = excluded.sync_state, health = excluded.health,
		source_commit = excluded.source_commit, release_sum = excluded.release_sum, text = excluded.text`,
		p.Name, p.Server, stamp(p.Since), p.Source, string(p.Sync), string(p.Health), p.Commit, string(p.Release), p.Text)
	return err
}

// StatesAt is how every stack was at a time, by server and name, of those that were there.
func (s *Store) StatesAt(ctx context.Context, at time.Time) ([]api.PastStack, error) {
	states, err := list(ctx, s.reader, scanState, "SELECT "+stateColumns+` FROM stack_states AS t
		WHERE at = (SELECT max(at) FROM stack_states WHERE stack = t.stack AND server = t.server AND at <= $1) AND sync_state <> ''
		ORDER BY server, stack`, stamp(at))
	if err != nil {
		return nil, fmt.Errorf("read how the fleet was: %w", err)
	}
	return states, nil
}

// FirstState is the time of the oldest state that is kept; zero when there is none.
func (s *Store) FirstState(ctx context.Context) (at time.Time, err error) {
	row := s.reader.QueryRowContext(ctx, "SELECT coalesce(min(at), 0) FROM stack_states")
	if err := row.Scan(stampColumn{&at}); err != nil {
		return at, fmt.Errorf("read how the fleet was: %w", err)
	}
	return at, nil
}

// pruneStates deletes states that were replaced before a time.
func pruneStates(ctx context.Context, tx *sql.Tx, before time.Time) (int64, error) {
	return affected(tx.ExecContext(ctx, `DELETE FROM stack_states WHERE (stack, server, at) IN (
		SELECT stack, server, at FROM stack_states AS t WHERE at < $1 AND (sync_state = '' OR EXISTS (
			SELECT 1 FROM stack_states WHERE stack = t.stack AND server = t.server AND at > t.at AND at < $1)) LIMIT $2)`,
		stamp(before), pruneBatch))
}
