package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

// Planned implements reconciler.Journal: it tells the history of a commit that a sync had not
// read before, and of a plan in which there is something to do, and keeps how each stack is.
func (s *Store) Planned(ctx context.Context, sync string, trigger reconciler.Trigger, actor string, p plan.Plan) error {
	s.states.mu.Lock()
	defer s.states.mu.Unlock()
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := s.keepStates(ctx, tx, sync, p); err != nil {
			return fmt.Errorf("keep the stacks' states: %w", err)
		}
		cause, err := s.causeOfPlan(ctx, tx, reconciler.Run{Sync: sync, Trigger: trigger, Actor: actor, Plan: p})
		if err != nil {
			return err
		}
		commit, text, err := s.lastPlanned(ctx, tx, sync)
		if err != nil {
			return err
		}
		if commit != p.Commit.ID && p.Commit.ID != "" {
			if cause, err = s.putEvent(ctx, tx, api.Event{
				Kind: "sync", Sync: sync, Actor: actor, Commit: p.Commit.ID, Cause: cause,
				Text: fmt.Sprintf("commit %s (%s) was read, %s", p.Commit.Short(), about(p.Commit), askedBy(trigger, actor)),
			}); err != nil {
				return err
			}
		}
		now := "plan for commit " + p.Commit.Short() + ": " + totals(p.Totals)
		if p.Empty() || now == text {
			return nil
		}
		return s.addEvent(ctx, tx, api.Event{
			Kind: "plan", Sync: sync, Actor: actor, Commit: p.Commit.ID, Cause: cause, Text: now, Data: map[string]string{"plan": p.ID},
		})
	})
	if err != nil {
		s.states.last = nil
		return fmt.Errorf("record the plan of sync %q: %w", sync, err)
	}
	return nil
}

// about is a commit's subject and author, without the address of the latter.
func about(c fleet.Commit) string {
	if c.Subject == "" {
		return "no subject"
	}
	text := fmt.Sprintf("%q", c.Subject)
	if name, _, _ := strings.Cut(c.Author, " <"); name != "" {
		text += " by " + name
	}
	return text
}

// lastPlanned is the last commit that a sync read, and what its last plan said.
func (*Store) lastPlanned(ctx context.Context, tx *sql.Tx, sync string) (commit, text string, err error) {
	row := tx.QueryRowContext(ctx, `SELECT
		coalesce((SELECT source_commit FROM events WHERE sync = $1 AND sync <> '' AND kind = 'sync' AND source_commit <> ''
			ORDER BY at DESC, id DESC LIMIT 1), ''),
		coalesce((SELECT text FROM events WHERE sync = $1 AND sync <> '' AND kind = 'plan' ORDER BY at DESC, id DESC LIMIT 1), '')`, sync)
	err = row.Scan(&commit, &text)
	return commit, text, err
}

// causeOfPlan is the number of the record that led to a plan of a sync: the one that tells of
// its commit, or the delivery or the decision that woke it if that is newer; zero when nothing
// is known.
func (s *Store) causeOfPlan(ctx context.Context, tx *sql.Tx, run reconciler.Run) (int64, error) {
	return s.newestCause(ctx, tx, run, "sync", "sync")
}

// causeOfRun is the same for a run. It may be a plan of its commit, or the begin of the
// procedure's run that asked for it.
func (s *Store) causeOfRun(ctx context.Context, tx *sql.Tx, run reconciler.Run) (int64, error) {
	if run.Parent != "" {
		if id, err := beginOf(ctx, tx, run.Parent); err != nil || id != 0 {
			return id, err
		}
	}
	return s.newestCause(ctx, tx, run, "sync", "plan")
}

func (s *Store) newestCause(ctx context.Context, tx *sql.Tx, run reconciler.Run, kind, other string) (id int64, err error) {
	row := tx.QueryRowContext(ctx, `SELECT coalesce(max(id), 0) FROM (
		SELECT id FROM events WHERE sync = $1 AND sync <> '' AND kind IN ($4, $5) AND source_commit = $2 AND source_commit <> ''
			AND id > (SELECT head_id - 10000 FROM event_chain)
		UNION ALL
		SELECT id FROM (SELECT id FROM events WHERE $3 AND sync = $1 AND sync <> '' AND kind = 'webhook' ORDER BY at DESC, id DESC LIMIT 1))`,
		run.Sync, run.Plan.Commit.ID, run.Trigger == reconciler.TriggerWebhook, kind, other)
	if err = row.Scan(&id); err != nil || run.Trigger != reconciler.TriggerManual {
		return id, err
	}
	decided, err := s.decision(ctx, tx, run)
	return max(id, decided), err
}

// decidedWithin is how soon after what a person decides work is taken to follow from it.
const decidedWithin = time.Minute

// decision is the number of the record of what a person decided last about what they ask for:
// a rollback, the end of a suspension. It is zero when they only ask.
func (s *Store) decision(ctx context.Context, tx *sql.Tx, run reconciler.Run) (int64, error) {
	decisions, err := list(ctx, tx, func(row scanner) (e api.Event, err error) {
		err = row.Scan(&e.ID, &e.Sync, &e.Stack, &e.Server)
		return e, err
	}, `SELECT id, sync, stack, server FROM events WHERE actor = $1 AND actor <> '' AND at >= $2 AND kind = $3
		ORDER BY at DESC, id DESC LIMIT 20`, run.Actor, stamp(s.clock().Add(-decidedWithin)), eventControl)
	if err != nil {
		return 0, err
	}
	ops := slices.Clone(run.Plan.Ops)
	for i := range run.Plan.Blocked {
		ops = append(ops, run.Plan.Blocked[i].Op)
	}
	for _, d := range decisions {
		if d.Stack == "" && d.Server == "" && d.Sync == run.Sync {
			return d.ID, nil
		}
		concerned := func(op plan.Op) bool {
			return d.Stack+d.Server != "" && (d.Stack == "" || d.Stack == op.Stack) && (d.Server == "" || d.Server == op.Server)
		}
		if slices.ContainsFunc(ops, concerned) {
			return d.ID, nil
		}
	}
	return 0, nil
}

// beginOf is the number of the record that tells of the begin of a run; zero when it is gone.
func beginOf(ctx context.Context, tx *sql.Tx, run string) (id int64, err error) {
	err = tx.QueryRowContext(ctx, "SELECT coalesce(min(id), 0) FROM events WHERE run = $1 AND run <> ''", run).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("find what began run %s: %w", run, err)
	}
	return id, nil
}
