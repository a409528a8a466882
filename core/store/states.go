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

// keepStates records how the stacks of a sync are, for those that changed. The caller holds
// the lock of the states, and drops them when its transaction fails.
func (s *Store) keepStates(ctx context.Context, tx *sql.Tx, sync string, p plan.Plan) error {
	if s.states.last == nil {
		last, err := lastStates(ctx, tx)
		if err != nil {
			return err
		}
		s.states.last = last
	}
	now := s.clock()
	present := map[stackPlace]bool{}
	for i := range p.Stacks {
		at := stackPlace{p.Stacks[i].Stack, p.Stacks[i].Server}
		present[at] = true
		if err := s.keepState(ctx, tx, now, sync, p.Commit.ID, &p.Stacks[i]); err != nil {
			return err
		}
	}
	for at, last := range s.states.last {
		if last.Source == sync && !present[at] && last.Sync != "" {
			gone := api.PastStack{Name: at.stack, Server: at.server, Since: now, Source: sync, Text: "no longer there"}
			if err := putState(ctx, tx, gone); err != nil {
				return err
			}
			delete(s.states.last, at)
		}
	}
	return nil
}

func (s *Store) keepState(ctx context.Context, tx *sql.Tx, now time.Time, sync, commit string, state *plan.StackState) error {
	at := stackPlace{state.Stack, state.Server}
	last, ok := s.states.last[at]
	if ok && last.Source != sync {
		last, ok = api.PastStack{}, false
	}
	next := api.PastStack{
		Name: state.Stack, Server: state.Server, Since: now, Source: sync, Sync: state.Sync, Health: state.Health, Text: state.Text,
		// What runs is what was deployed last, until it is as Git says again.
		Commit: last.Commit, Release: last.Release,
	}
	if state.Sync == fleet.Synced {
		next.Commit = commit
	}
	if ok && last.Sync == next.Sync && last.Health == next.Health && last.Text == next.Text && last.Commit == next.Commit {
		return nil
	}
	if state.Sync == fleet.Synced {
		var err error
		if next.Release, err = lastRelease(ctx, tx, at); err != nil {
			return err
		}
	}
	s.states.last[at] = next
	return putState(ctx, tx, next)
}

// lastStates are the last states of all stacks that are there.
func lastStates(ctx context.Context, tx *sql.Tx) (map[stackPlace]api.PastStack, error) {
	all, err := list(ctx, tx, scanState, "SELECT "+stateColumns+` FROM stack_states AS t
		WHERE at = (SELECT max(at) FROM stack_states WHERE stack = t.stack AND server = t.server) AND sync_state <> ''`)
	if err != nil {
		return nil, err
	}
	last := make(map[stackPlace]api.PastStack, len(all))
	for _, state := range all {
		last[stackPlace{state.Name, state.Server}] = state
	}
	return last, nil
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
