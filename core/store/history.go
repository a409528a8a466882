package store

import (
	"context"
	"fmt"

	"github.com/varanhq/varan/core/api"
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
