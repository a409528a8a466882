package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

// keepRuns is how many runs stay in the journal, besides the last of every stack.
const keepRuns = 2000

// owned is a stack with the sync that owns it.
type owned struct {
	plan.Owned
	sync string
}

// Inventory is what the sync owns, and what the other syncs that still exist do.
func (s *Store) Inventory(ctx context.Context, sync string) ([]plan.Owned, map[string]string, error) {
	entries, err := s.owned.get(ctx, s, sync, func(ctx context.Context) ([]owned, error) {
		return list(ctx, s.reader, func(row scanner) (e owned, err error) {
			err = row.Scan(&e.Stack, &e.Server, &e.Project, jsonColumn{&e.After}, &e.Kind, &e.sync)
			return e, err
		}, `SELECT stack, server, project, stack_after, kind, sync FROM inventory
			WHERE sync = $1 OR sync IN (SELECT name FROM syncs) ORDER BY stack, server`, sync)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read the inventory of sync %q: %w", sync, err)
	}
	own, foreign := []plan.Owned{}, map[string]string{}
	for _, e := range entries {
		if e.sync == sync {
			own = append(own, e.Owned)
		} else {
			foreign[e.Stack] = e.sync
		}
	}
	return own, foreign, nil
}

// Begin records a run with its plan.
func (s *Store) Begin(ctx context.Context, run reconciler.Run) error {
	commit, err := encode(run.Plan.Commit)
	if err != nil {
		return err
	}
	whole, err := encode(run.Plan)
	if err != nil {
		return err
	}
	approved, err := encode(run.Approved)
	if err != nil {
		return err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO runs
			(id, sync, trigger_kind, actor, source_commit, plan, approved, status, started_at, ended_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0)`,
			run.ID, run.Sync, string(run.Trigger), run.Actor, commit, whole, approved,
			string(api.OpRunning), stamp(run.Started))
		if err != nil {
			return err
		}
		cause, err := s.causeOfRun(ctx, tx, run)
		if err != nil {
			return fmt.Errorf("find what led to it: %w", err)
		}
		return s.addEvent(ctx, tx, api.Event{
			At: run.Started, Kind: "run", Sync: run.Sync, Actor: run.Actor, Run: run.ID, Commit: run.Plan.Commit.ID,
			Status: string(api.OpRunning), Cause: cause,
			Text: fmt.Sprintf("commit %s (%s) is applied, %s: %s",
				run.Plan.Commit.Short(), about(run.Plan.Commit), askedBy(run.Trigger, run.Actor), totals(run.Plan.Totals)),
		})
	})
	if err != nil {
		return fmt.Errorf("record run %s: %w", run.ID, err)
	}
	return nil
}

func totals(t plan.Totals) string {
	var parts []string
	for _, part := range []struct {
		count int
		text  string
	}{
		{t.Create, "to create"},
		{t.Update, "to update"},
		{t.Heal, "to heal"},
		{t.Restart, "to restart"},
		{t.Remove, "to remove"},
		{t.Blocked, "blocked"},
		{t.Resources, "resources to record"},
	} {
		if part.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.count, part.text))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "nothing to do")
}

// askedBy says who or what set work going.
func askedBy(trigger reconciler.Trigger, actor string) string {
	switch trigger {
	case reconciler.TriggerManual:
		return "asked for by " + cmp.Or(actor, "somebody")
	case reconciler.TriggerPoll:
		return "found by polling"
	case reconciler.TriggerWebhook:
		return "after a webhook"
	case reconciler.TriggerReport:
		return "after a report of " + actor
	case reconciler.TriggerResult:
		return "after what was done before"
	case reconciler.TriggerStart:
		return "when core started"
	case reconciler.TriggerTime:
		return "when its time came"
	case reconciler.TriggerSchedule:
		return "by a schedule"
	}
	return "by " + string(trigger)
}

// OpStarted records that an order is about to be sent.
func (s *Store) OpStarted(ctx context.Context, run, order string, op plan.Op) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		return insertOp(ctx, tx, run, order, op, reconciler.OpResult{Status: reconciler.OpStatus(api.OpRunning)}, stamp(s.clock()))
	})
	if err != nil {
		return fmt.Errorf("record the start of %q in run %s: %w", op.ID, run, err)
	}
	return nil
}

// OpEnded records how an op ended, also of one that never started, and what the sync owns
// since.
func (s *Store) OpEnded(ctx context.Context, run string, op plan.Op, result reconciler.OpResult) error {
	outcome, err := encode(result.Outcome)
	if err != nil {
		return err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		n, err := affected(tx.ExecContext(ctx, `UPDATE ops SET status = $1, reason = $2, outcome = $3, ended_at = $4
			WHERE run = $5 AND id = $6`,
			string(result.Status), cmp.Or(result.Reason, result.Outcome.Reason), outcome, stamp(result.Ended), run, op.ID))
		if err == nil && n == 0 {
			err = insertOp(ctx, tx, run, "", op, result, 0)
		}
		if err != nil {
			return err
		}
		var sync string
		if err := tx.QueryRowContext(ctx, "SELECT sync FROM runs WHERE id = $1", run).Scan(&sync); err != nil {
			return err
		}
		return s.settle(ctx, tx, settled{
			sync: sync, run: run, id: op.ID, kind: op.Kind, cause: cause(op),
			Owned: plan.Owned{
				Stack: op.Stack, Server: op.Server, Project: op.Project, Kind: op.StackKind, After: op.StackAfter,
			},
			status: api.OpStatus(result.Status), outcome: result.Outcome,
			reason: cmp.Or(result.Reason, result.Outcome.Reason),
		})
	})
	if err != nil {
		return fmt.Errorf("record the end of %q in run %s: %w", op.ID, run, err)
	}
	return nil
}

// End closes a run.
func (s *Store) End(ctx context.Context, run string, result reconciler.RunResult) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := oneRow(affected(tx.ExecContext(ctx, "UPDATE runs SET status = $1, ended_at = $2 WHERE id = $3",
			string(result.Status), stamp(result.Ended), run))); err != nil {
			return err
		}
		if err := s.tellEnd(ctx, tx, run, result); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM runs WHERE status <> 'running'
			AND id < (SELECT id FROM runs ORDER BY id DESC LIMIT 1 OFFSET $1)
			AND id NOT IN (SELECT run FROM ops WHERE seq IN (SELECT max(seq) FROM ops GROUP BY stack, server))`, keepRuns)
		return err
	})
	if err != nil {
		return fmt.Errorf("record the end of run %s: %w", run, err)
	}
	return nil
}

// tellEnd tells the history how a run ended.
func (s *Store) tellEnd(ctx context.Context, tx *sql.Tx, run string, result reconciler.RunResult) error {
	var started time.Time
	var commit fleet.Commit
	e := api.Event{Kind: "run", Run: run, At: result.Ended, Status: string(result.Status)}
	row := tx.QueryRowContext(ctx, "SELECT sync, actor, source_commit, started_at FROM runs WHERE id = $1", run)
	if err := row.Scan(&e.Sync, &e.Actor, jsonColumn{&commit}, stampColumn{&started}); err != nil {
		return err
	}
	e.Commit, e.DurationMS = commit.ID, took(started, result.Ended)
	counts := map[reconciler.OpStatus]int{}
	for _, op := range result.Ops {
		counts[op.Status]++
	}
	e.Text = fmt.Sprintf("commit %s was applied", commit.Short())
	if result.Status != reconciler.OpSucceeded {
		e.Text = fmt.Sprintf("applying commit %s ended: %s", commit.Short(), words(string(result.Status)))
	}
	between := ": "
	for _, status := range slices.Sorted(maps.Keys(counts)) {
		e.Text += fmt.Sprintf("%s%d %s", between, counts[status], words(string(status)))
		between = ", "
	}
	return s.addEvent(ctx, tx, e)
}

// words is a status as people write it.
func words(status string) string { return strings.ReplaceAll(status, "_", " ") }

// RecordOutcome records the outcome of an order that nobody waits for any more: core was
// restarted while the agent worked. An order we never sent is no error.
func (s *Store) RecordOutcome(ctx context.Context, server string, outcome fleet.Outcome) error {
	encoded, err := encode(outcome)
	if err != nil {
		return err
	}
	if outcome.Heal {
		return s.recordHeal(ctx, server, outcome)
	}
	status := api.OpStatus(outcome.Status)
	err = s.write(ctx, func(tx *sql.Tx) error {
		op := settled{Owned: plan.Owned{Server: server}, status: status, outcome: outcome, reason: outcome.Reason}
		// Only what has no outcome yet: results repeat until the agent hears an answer.
		row := tx.QueryRowContext(ctx, `UPDATE ops SET status = $1, reason = $2, outcome = $3, ended_at = $4
			WHERE order_id = $5 AND server = $6 AND status IN ('running', 'interrupted')
			RETURNING run, id, kind, stack, project, stack_after`,
			string(status), outcome.Reason, encoded, stamp(outcome.EndedAt), outcome.Order, server)
		err := row.Scan(&op.run, &op.id, &op.kind, &op.Stack, &op.Project, jsonColumn{&op.After})
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := tx.QueryRowContext(ctx, "SELECT sync FROM runs WHERE id = $1", op.run).Scan(&op.sync); err != nil {
			return err
		}
		return s.settle(ctx, tx, op)
	})
	if err != nil {
		return fmt.Errorf("record the outcome of order %s: %w", outcome.Order, err)
	}
	return nil
}

// settled is an op that ended.
type settled struct {
	plan.Owned
	sync, run, id string

	kind plan.OpKind
	// cause is why the op was due; empty when only its outcome is known.
	cause   string
	status  api.OpStatus
	reason  string
	outcome fleet.Outcome
}

// Adopt implements reconciler.Journal.
func (s *Store) Adopt(ctx context.Context, sync string, stacks []plan.Owned) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		for _, o := range stacks {
			if err := own(ctx, tx, settled{Owned: o, sync: sync}); err != nil {
				return err
			}
			event := api.Event{
				Kind: "sync", Sync: sync, Stack: o.Stack, Server: o.Server, Actor: "core",
				Text: fmt.Sprintf("%s already runs on %s as declared; sync %s owns it now", o.Stack, o.Server, sync),
			}
			if err := s.addEvent(ctx, tx, event); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("adopt stacks for sync %q: %w", sync, err)
	}
	return nil
}

// settle keeps the inventory and tells the history. A failed create owns too, unless
// nothing was touched: what it left behind must not become nobody's.
func (s *Store) settle(ctx context.Context, tx *sql.Tx, op settled) error {
	var err error
	switch {
	case op.kind == plan.OpRemove && op.status == api.OpSucceeded:
		_, err = tx.ExecContext(ctx, "DELETE FROM inventory WHERE stack = $1 AND server = $2 AND sync = $3",
			op.Stack, op.Server, op.sync)
	case op.kind != plan.OpRemove && touched(op):
		err = own(ctx, tx, op)
	}
	if err != nil {
		return fmt.Errorf("keep the inventory: %w", err)
	}
	text := fmt.Sprintf("%s %s@%s: %s", op.kind, op.Stack, op.Server,
		words(string(op.status)))
	if op.reason != "" {
		text += ": " + op.reason
	}
	if op.cause != "" {
		text += "; due because " + op.cause
	}
	var actor string
	var commit fleet.Commit
	var started, ended time.Time
	row := tx.QueryRowContext(ctx, `SELECT r.actor, r.source_commit, o.started_at, o.ended_at
		FROM ops o JOIN runs r ON r.id = o.run WHERE o.run = $1 AND o.id = $2`, op.run, op.id)
	if err := row.Scan(&actor, jsonColumn{&commit}, stampColumn{&started}, stampColumn{&ended}); err != nil {
		return fmt.Errorf("find who asked for run %s: %w", op.run, err)
	}
	return s.addEvent(ctx, tx, api.Event{
		At: ended, Kind: "op", Sync: op.sync, Stack: op.Stack, Server: op.Server, Actor: actor, Text: text,
		Run: op.run, Op: op.id, Commit: commit.ID, Status: string(op.status), DurationMS: took(started, ended),
	})
}

// took is how long something lasted, in milliseconds; zero when it never began.
func took(started, ended time.Time) int64 {
	if started.IsZero() || ended.Before(started) {
		return 0
	}
	return ended.Sub(started).Milliseconds()
}

func own(ctx context.Context, tx *sql.Tx, op settled) error {
	after, err := encode(op.After)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO inventory (stack, server, project, stack_after, kind, sync)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (stack, server) DO UPDATE
		SET project = excluded.project, stack_after = excluded.stack_after, sync = excluded.sync,
		kind = CASE WHEN excluded.kind = '' THEN inventory.kind ELSE excluded.kind END`,
		op.Stack, op.Server, op.Project, after, string(op.Kind), op.sync)
	return err
}

// cause is the most telling reason of an op.
func cause(op plan.Op) string {
	for _, change := range op.Services {
		for _, c := range change.Causes {
			return "service " + change.Service + ": " + c.String()
		}
	}
	for _, c := range op.Causes {
		return c.String()
	}
	return ""
}

func touched(op settled) bool {
	switch op.status {
	case api.OpSucceeded, api.OpRolledBack:
		return true
	case api.OpFailed:
		return op.outcome.Order != "" && !op.outcome.Untouched
	case api.OpRunning, api.OpSkipped, api.OpStale, api.OpCanceled, api.OpInterrupted:
		return false
	}
	return false
}

func insertOp(
	ctx context.Context, tx *sql.Tx, run, order string, op plan.Op, result reconciler.OpResult, started int64,
) error {
	causes, err := encode(allCauses(op))
	if err != nil {
		return err
	}
	after, err := encode(op.StackAfter)
	if err != nil {
		return err
	}
	outcome, err := encode(result.Outcome)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO ops (run, id, order_id, kind, stack, server, project, release_sum,
		stack_after, causes, status, reason, outcome, started_at, ended_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
		run, op.ID, order, string(op.Kind), op.Stack, op.Server, op.Project, string(op.Release), after, causes,
		string(result.Status), cmp.Or(result.Reason, result.Outcome.Reason), outcome, started, stamp(result.Ended))
	return err
}

// allCauses are the op's own and those of its services.
func allCauses(op plan.Op) []plan.Cause {
	causes := append([]plan.Cause{}, op.Causes...)
	for _, change := range op.Services {
		causes = append(causes, change.Causes...)
	}
	return causes
}

// interrupt marks what a killed process left running. The agents may well have gone on:
// RecordOutcome hears of it, and the next pass looks at what runs.
func (s *Store) interrupt(ctx context.Context) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		now := stamp(s.clock())
		for _, query := range []string{
			`UPDATE ops SET status = 'interrupted', reason = 'core stopped before the outcome was known', ended_at = $1
				WHERE run IN (SELECT id FROM runs WHERE status = 'running') AND status = 'running'`,
			"UPDATE runs SET status = 'interrupted', ended_at = $1 WHERE status = 'running'",
		} {
			if _, err := tx.ExecContext(ctx, query, now); err != nil {
				return err
			}
		}
		return interruptProcedures(ctx, tx, now)
	})
	if err != nil {
		return fmt.Errorf("mark interrupted runs: %w", err)
	}
	return nil
}
