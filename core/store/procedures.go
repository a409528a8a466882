package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/reconciler/procedure"
)

// keepProcedureRuns is how many runs of procedures stay.
const keepProcedureRuns = 2000

var _ procedure.Journal = (*Store)(nil)

// BeginProcedure records a run that waits for its turn.
func (s *Store) BeginProcedure(ctx context.Context, run procedure.Run) error {
	stages, err := encode(run.Stages)
	if err != nil {
		return err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO procedure_runs
			(id, procedure, parent, trigger_kind, actor, status, reason, stages, created_at, started_at, ended_at)
			VALUES ($1, $2, $3, $4, $5, $6, '', $7, $8, 0, 0)`,
			run.ID, run.Procedure, run.Parent, string(run.Trigger), run.Actor, string(run.Status), stages, stamp(run.Created))
		if err != nil {
			return err
		}
		return s.addEvent(ctx, tx, api.Event{
			At: run.Created, Kind: "procedure", Actor: run.Actor, Run: run.ID, Status: string(run.Status), Text: fmt.Sprintf("%s begun by %s", runName(run), run.Trigger),
		})
	})
	if err != nil {
		return fmt.Errorf("record run %s of a procedure: %w", run.ID, err)
	}
	return nil
}

// runName is a run as the history calls it.
func runName(run procedure.Run) string {
	switch {
	case run.Procedure != "":
		return "procedure " + run.Procedure
	case len(run.Stages) > 0:
		return "execution " + run.Stages[0].Name
	}
	return "run " + run.ID
}

// ProcedureStarted records that a run has its turn.
func (s *Store) ProcedureStarted(ctx context.Context, run string, at time.Time) error {
	err := oneRow(s.exec(ctx, "UPDATE procedure_runs SET status = $1, started_at = $2 WHERE id = $3",
		string(procedure.StatusRunning), stamp(at), run))
	if err != nil {
		return fmt.Errorf("record the start of run %s: %w", run, err)
	}
	return nil
}

// StepStarted records a step before it is done.
func (s *Store) StepStarted(ctx context.Context, run string, step procedure.Step) error {
	return s.putStep(ctx, run, step, false)
}

// StepEnded records what became of a step.
func (s *Store) StepEnded(ctx context.Context, run string, step procedure.Step) error {
	return s.putStep(ctx, run, step, step.Stack != "")
}

func (s *Store) putStep(ctx context.Context, run string, p procedure.Step, tell bool) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO procedure_steps
			(run, number, stage, execution, target, stack, server, status, reason, text, made_run, log, started_at, ended_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
			ON CONFLICT (run, number) DO UPDATE SET status = excluded.status, reason = excluded.reason, text = excluded.text,
			made_run = excluded.made_run, log = excluded.log, ended_at = excluded.ended_at`,
			run, p.Number, p.Stage, p.Type, p.Target, p.Stack, p.Server, string(p.Status), p.Reason, p.Text, p.Run, p.Log,
			stamp(p.Started), stamp(p.Ended))
		if err != nil || !tell {
			return err
		}
		text := fmt.Sprintf("%s %s@%s: %s", p.Type, p.Stack, p.Server, p.Status)
		if p.Reason != "" {
			text += ": " + p.Reason
		}
		return s.addEvent(ctx, tx, api.Event{At: p.Ended, Kind: "procedure", Stack: p.Stack, Server: p.Server, Text: text,
			Run: run, Status: string(p.Status), DurationMS: took(p.Started, p.Ended)})
	})
	if err != nil {
		return fmt.Errorf("record step %d of run %s: %w", p.Number, run, err)
	}
	return nil
}

// EndProcedure closes a run.
func (s *Store) EndProcedure(ctx context.Context, run procedure.Run) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := oneRow(affected(tx.ExecContext(ctx, "UPDATE procedure_runs SET status = $1, reason = $2, ended_at = $3 WHERE id = $4",
			string(run.Status), run.Reason, stamp(run.Ended), run.ID))); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM procedure_runs WHERE ended_at <> 0
			AND id < (SELECT id FROM procedure_runs ORDER BY id DESC LIMIT 1 OFFSET $1)
			AND id NOT IN (SELECT max(id) FROM procedure_runs GROUP BY procedure)`, keepProcedureRuns)
		if err != nil {
			return err
		}
		text := runName(run) + " " + string(run.Status)
		if run.Reason != "" {
			text += ": " + run.Reason
		}
		return s.addEvent(ctx, tx, api.Event{
			At: run.Ended, Kind: "procedure", Actor: run.Actor, Text: text, Run: run.ID, Status: string(run.Status),
			DurationMS: took(run.Created, run.Ended),
		})
	})
	if err != nil {
		return fmt.Errorf("record the end of run %s of a procedure: %w", run.ID, err)
	}
	return nil
}

const procedureRunColumns = `id, procedure, parent, trigger_kind, actor, status, reason, stages, created_at, started_at, ended_at`

func scanProcedureRun(row scanner) (r api.ProcedureRun, err error) {
	err = row.Scan(&r.ID, &r.Procedure, &r.Parent, &r.Trigger, &r.Actor, &r.Status, &r.Reason, jsonColumn{&r.Stages},
		stampColumn{&r.Created}, stampColumn{&r.Started}, stampColumn{&r.Ended})
	return r, err
}

// ProcedureRuns lists runs, newest first, without their steps: of one procedure, or of all
// when it is empty; from before the run with that id when it is not.
func (s *Store) ProcedureRuns(ctx context.Context, name, before string, limit int) ([]api.ProcedureRun, error) {
	runs, err := list(ctx, s.reader, scanProcedureRun, "SELECT "+procedureRunColumns+` FROM procedure_runs
		WHERE ($1 = '' OR procedure = $1) AND ($2 = '' OR id < $2) ORDER BY id DESC LIMIT $3`, name, before, limit)
	if err != nil {
		return nil, fmt.Errorf("list the runs of procedures: %w", err)
	}
	return runs, nil
}

// LastProcedureRuns are the newest runs of all procedures, by name.
func (s *Store) LastProcedureRuns(ctx context.Context) (map[string]api.ProcedureRun, error) {
	runs, err := list(ctx, s.reader, scanProcedureRun, "SELECT "+procedureRunColumns+` FROM procedure_runs
		WHERE id IN (SELECT max(id) FROM procedure_runs WHERE procedure <> '' GROUP BY procedure)`)
	if err != nil {
		return nil, fmt.Errorf("list the last runs of procedures: %w", err)
	}
	byName := map[string]api.ProcedureRun{}
	for _, r := range runs {
		byName[r.Procedure] = r
	}
	return byName, nil
}

// ProcedureRun returns a run with its steps.
func (s *Store) ProcedureRun(ctx context.Context, id string) (api.ProcedureRun, error) {
	row := s.reader.QueryRowContext(ctx, "SELECT "+procedureRunColumns+" FROM procedure_runs WHERE id = $1", id)
	run, err := found(scanProcedureRun(row))
	if err == nil {
		run.Steps, err = list(ctx, s.reader, scanStep, `SELECT number, stage, execution, target, stack, server, status, reason,
			text, made_run, log, started_at, ended_at FROM procedure_steps WHERE run = $1 ORDER BY number`, id)
	}
	if err != nil {
		return run, fmt.Errorf("read run %q: %w", id, err)
	}
	return run, nil
}

func scanStep(row scanner) (p api.ProcedureStep, err error) {
	err = row.Scan(&p.Number, &p.Stage, &p.Type, &p.Target, &p.Stack, &p.Server, &p.Status, &p.Reason, &p.Text, &p.Run, &p.Log,
		stampColumn{&p.Started}, stampColumn{&p.Ended})
	return p, err
}
