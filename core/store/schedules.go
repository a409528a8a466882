package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/reconciler/procedure"
)

var _ procedure.Marks = (*Store)(nil)

// Marks says how far the schedules have been followed.
func (s *Store) Marks(ctx context.Context) ([]procedure.Mark, error) {
	marks, err := list(ctx, s.reader, func(row scanner) (m procedure.Mark, err error) {
		err = row.Scan(&m.Procedure, &m.Expression, stampColumn{&m.At}, &m.Run, stampColumn{&m.Due}, &m.Skipped, &m.Unbegun)
		return m, err
	}, `SELECT procedure, expression, mark, run, due, skipped, EXISTS (
			SELECT 1 FROM procedure_runs r WHERE r.id = schedules.run
			AND (r.status = $1 OR r.status = $2 AND r.reason LIKE $3)
			AND NOT EXISTS (SELECT 1 FROM procedure_steps WHERE procedure_steps.run = r.id AND started_at <> 0))
		FROM schedules ORDER BY procedure`,
		string(procedure.StatusInterrupted), string(procedure.StatusCanceled), "%"+procedure.ReasonShutdown)
	if err != nil {
		return nil, fmt.Errorf("read the schedules' marks: %w", err)
	}
	return marks, nil
}

// SetMarks sets marks and forgets those of the procedures that are gone.
func (s *Store) SetMarks(ctx context.Context, marks []procedure.Mark, gone []string) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		for _, m := range marks {
			if err := putMark(ctx, tx, m); err != nil {
				return err
			}
		}
		for _, name := range gone {
			if _, err := tx.ExecContext(ctx, "DELETE FROM schedules WHERE procedure = $1", name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record the schedules' marks: %w", err)
	}
	return nil
}

// SkipTime sets a mark and tells why there is no run.
func (s *Store) SkipTime(ctx context.Context, m procedure.Mark, reason string) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := putMark(ctx, tx, m); err != nil {
			return err
		}
		return s.addEvent(ctx, tx, api.Event{
			Kind: "schedule", Actor: procedure.ScheduleActor, Status: string(procedure.StatusSkipped),
			Text: fmt.Sprintf("procedure %s not run by its schedule: %s", m.Procedure, reason),
		})
	})
	if err != nil {
		return fmt.Errorf("record a time of procedure %q without a run: %w", m.Procedure, err)
	}
	return nil
}

func putMark(ctx context.Context, tx *sql.Tx, m procedure.Mark) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO schedules (procedure, expression, mark, run, due, skipped)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (procedure) DO UPDATE SET expression = excluded.expression, mark = excluded.mark, run = excluded.run,
		due = excluded.due, skipped = excluded.skipped`, m.Procedure, m.Expression, stamp(m.At), m.Run, stamp(m.Due), m.Skipped)
	return err
}

// claim records with the begin of a run that the time it is for is dealt with.
func claim(ctx context.Context, tx *sql.Tx, run procedure.Run) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO schedules (procedure, expression, mark, run, due, skipped)
		VALUES ($1, $2, $3, $4, $3, 0)
		ON CONFLICT (procedure) DO UPDATE SET expression = excluded.expression, mark = max(schedules.mark, excluded.mark),
		run = excluded.run, due = excluded.due`, run.Procedure, run.Fire.Expression, stamp(run.Fire.Due), run.ID)
	return err
}

// begun is what the history says of the begin of a run.
func begun(run procedure.Run) api.Event {
	e := api.Event{
		At: run.Created, Kind: "procedure", Actor: run.Actor, Run: run.ID, Status: string(run.Status), Cause: run.Cause,
		Text: fmt.Sprintf("%s begun, %s", runName(run), askedBy(run.Trigger, run.Actor)),
	}
	if run.Parent != "" {
		e.Text = runName(run) + " begun by another procedure"
	}
	if f := run.Fire; f != nil {
		e.Kind, e.Text = "schedule", fmt.Sprintf("%s begun by its schedule, due %s", runName(run), f.Due.Format("2006-01-02 15:04:05 MST"))
		if f.Missed > 0 {
			e.Text += fmt.Sprintf("; it stands for %d earlier times", f.Missed)
		}
	}
	return e
}

// OwnProcedure is a procedure that core has of its own.
type OwnProcedure struct {
	Name string
	// TOML is the resource file that declares it.
	TOML    string
	Enabled bool
}

// OwnProcedures lists the procedures that core has of its own.
func (s *Store) OwnProcedures(ctx context.Context) ([]OwnProcedure, error) {
	own, err := list(ctx, s.reader, func(row scanner) (p OwnProcedure, err error) {
		err = row.Scan(&p.Name, &p.TOML, &p.Enabled)
		return p, err
	}, "SELECT name, toml, enabled FROM core_procedures ORDER BY name")
	if err != nil {
		return nil, fmt.Errorf("read core's own procedures: %w", err)
	}
	return own, nil
}

// RemoveOwnProcedure removes one of them for good.
func (s *Store) RemoveOwnProcedure(ctx context.Context, name, actor string) error {
	return s.changeOwn(ctx, name, actor, "removed", "DELETE FROM core_procedures WHERE name = $1", name)
}

// EnableOwnProcedure switches the schedule of one of them on or off.
func (s *Store) EnableOwnProcedure(ctx context.Context, name, actor string, enabled bool) error {
	what := "disabled"
	if enabled {
		what = "enabled"
	}
	return s.changeOwn(ctx, name, actor, what, "UPDATE core_procedures SET enabled = $2 WHERE name = $1", name, enabled)
}

func (s *Store) changeOwn(ctx context.Context, name, actor, what, query string, args ...any) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := oneRow(affected(tx.ExecContext(ctx, query, args...))); err != nil {
			return err
		}
		return s.addEvent(ctx, tx, api.Event{Kind: "schedule", Actor: actor, Text: fmt.Sprintf("core's own procedure %s %s", name, what)})
	})
	if err != nil {
		return fmt.Errorf("change core's own procedure %q: %w", name, err)
	}
	return nil
}
