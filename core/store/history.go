package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/varanhq/varan/core/api"
)

const (
	// keepWebhooks and keepWebhooksFor bound the memory for replays.
	keepWebhooks    = 100_000
	keepWebhooksFor = 24 * time.Hour
)

const opColumns = `o.seq, o.run, o.id, r.sync, o.kind, o.stack, o.server, r.source_commit, o.release_sum, r.trigger_kind,
	r.actor, o.status, o.reason, o.causes, o.outcome, o.started_at, o.ended_at`

// History lists the ops of a stack, newest first, from before the op with that sequence
// number if it is not zero.
func (s *Store) History(ctx context.Context, stack string, before int64, limit int) ([]api.Op, error) {
	ops, err := list(ctx, s.reader, scanOp, "SELECT "+opColumns+` FROM ops o JOIN runs r ON r.id = o.run
		WHERE o.stack = $1 AND ($2 = 0 OR o.seq < $2) ORDER BY o.seq DESC LIMIT $3`, stack, before, limit)
	if err != nil {
		return nil, fmt.Errorf("read the history of stack %q: %w", stack, err)
	}
	return ops, nil
}

// RunOps lists the ops of a run in the order they were recorded.
func (s *Store) RunOps(ctx context.Context, run string) ([]api.Op, error) {
	ops, err := list(ctx, s.reader, scanOp, "SELECT "+opColumns+` FROM ops o JOIN runs r ON r.id = o.run
		WHERE o.run = $1 ORDER BY o.seq`, run)
	if err != nil {
		return nil, fmt.Errorf("read the ops of run %q: %w", run, err)
	}
	return ops, nil
}

// Op returns one op of a run.
func (s *Store) Op(ctx context.Context, run, id string) (api.Op, error) {
	op, err := found(scanOp(s.reader.QueryRowContext(ctx, "SELECT "+opColumns+` FROM ops o JOIN runs r ON r.id = o.run
		WHERE o.run = $1 AND o.id = $2`, run, id)))
	if err != nil {
		return op, fmt.Errorf("read op %q of run %s: %w", id, run, err)
	}
	return op, nil
}

func scanOp(row scanner) (api.Op, error) {
	var o api.Op
	err := row.Scan(&o.Seq, &o.Run, &o.ID, &o.Sync, &o.Kind, &o.Stack, &o.Server, jsonColumn{&o.Commit}, &o.Release, &o.Trigger,
		&o.Actor, &o.Status, &o.Reason, jsonColumn{&o.Causes}, jsonColumn{&o.Outcome},
		stampColumn{&o.Started}, stampColumn{&o.Ended})
	o.Hint = o.Outcome.Hint
	return o, err
}

// WebhookSeen remembers a webhook by its hash and records what came of it in the same
// transaction. It reports whether the same was seen in the last day.
func (s *Store) WebhookSeen(ctx context.Context, hash string, event func(replay bool) api.Event) (replay bool, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		now := s.clock()
		n, err := affected(tx.ExecContext(ctx, `INSERT INTO webhooks_seen (hash, at) VALUES ($1, $2)
			ON CONFLICT (hash) DO UPDATE SET at = excluded.at WHERE at <= $3`,
			hash, stamp(now), stamp(now.Add(-keepWebhooksFor))))
		if err != nil {
			return err
		}
		replay = n == 0
		if !replay {
			if _, err := tx.ExecContext(ctx, `DELETE FROM webhooks_seen WHERE at <= $1 OR at <
				(SELECT at FROM webhooks_seen ORDER BY at DESC LIMIT 1 OFFSET $2)`,
				stamp(now.Add(-keepWebhooksFor)), keepWebhooks); err != nil {
				return err
			}
		}
		return s.addEvent(ctx, tx, event(replay))
	})
	if err != nil {
		return false, fmt.Errorf("record a webhook: %w", err)
	}
	return replay, nil
}
