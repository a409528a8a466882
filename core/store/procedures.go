package store

import (
	"cmp"
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
	inputs, err := encode(run.Inputs)
	if err != nil {
		return err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO procedure_runs
			(id, procedure, parent, trigger_kind, actor, status, reason, stages, created_at, started_at, ended_at,
			inputs, parent_step, failure_alert)
			VALUES ($1, $2, $3, $4, $5, $6, '', $7, $8, 0, 0, $9, $10, $11)`,
			run.ID, run.Procedure, run.Parent, string(run.Trigger), run.Actor, string(run.Status), stages, stamp(run.Created),
			inputs, run.ParentStep, run.FailureAlert)
		if err != nil {
			return err
		}
		if run.Fire != nil {
			if err := claim(ctx, tx, run); err != nil {
				return err
			}
		}
		told := begun(run)
		if run.Parent != "" {
			if told.Cause, err = beginOf(ctx, tx, run.Parent); err != nil {
				return err
			}
		}
		return s.addEvent(ctx, tx, told)
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

// StageStarted records the steps of a stage before any of them begins. A run with one that
// waits for an approval waits too.
func (s *Store) StageStarted(ctx context.Context, run string, steps []procedure.Step) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		for i := range steps {
			if err := putStep(ctx, tx, run, &steps[i]); err != nil {
				return err
			}
			if steps[i].Status != procedure.StatusWaiting {
				continue
			}
			if err := s.waits(ctx, tx, run, &steps[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record a stage of run %s: %w", run, err)
	}
	return nil
}

// waits marks a run that waits for an approval. When it did before, it is no news.
func (s *Store) waits(ctx context.Context, tx *sql.Tx, run string, step *procedure.Step) error {
	n, err := affected(tx.ExecContext(ctx, "UPDATE procedure_runs SET status = $1 WHERE id = $2 AND status <> $1",
		string(procedure.StatusWaiting), run))
	if err != nil || n == 0 {
		return err
	}
	var name string
	if err := tx.QueryRowContext(ctx, "SELECT procedure FROM procedure_runs WHERE id = $1", run).Scan(&name); err != nil {
		return err
	}
	text := "procedure " + name + " waits for an approval"
	if step.Target != "" {
		text += " by " + step.Target
	}
	return s.addEvent(ctx, tx, api.Event{At: step.Started, Kind: "procedure", Text: text + " (run " + run + ")", Run: run})
}

// StepStarted records a step before it is done.
func (s *Store) StepStarted(ctx context.Context, run string, step procedure.Step) error {
	return s.recordStep(ctx, run, &step, func(*sql.Tx) error { return nil })
}

// StepEnded records what became of a step.
func (s *Store) StepEnded(ctx context.Context, run string, step procedure.Step) error {
	return s.recordStep(ctx, run, &step, func(tx *sql.Tx) error {
		// What waited for an approval goes on.
		_, err := tx.ExecContext(ctx, "UPDATE procedure_runs SET status = $1 WHERE id = $2 AND status = $3",
			string(procedure.StatusRunning), run, string(procedure.StatusWaiting))
		if err != nil {
			return err
		}
		var text string
		switch {
		case step.Stack != "":
			text = fmt.Sprintf("%s %s@%s: %s", step.Type, step.Stack, step.Server, step.Status)
		case step.Type == "Approval":
			text = fmt.Sprintf("run %s %s", run, cmp.Or(step.Text, string(step.Status)))
		default:
			return nil
		}
		if step.Reason != "" {
			text += ": " + step.Reason
		}
		return s.addEvent(ctx, tx, api.Event{
			At: step.Ended, Kind: "procedure", Stack: step.Stack, Server: step.Server, Text: text,
			Run: run, Status: string(step.Status), DurationMS: took(step.Started, step.Ended),
		})
	})
}

func (s *Store) recordStep(ctx context.Context, run string, p *procedure.Step, also func(tx *sql.Tx) error) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := putStep(ctx, tx, run, p); err != nil {
			return err
		}
		return also(tx)
	})
	if err != nil {
		return fmt.Errorf("record step %d of run %s: %w", p.Number, run, err)
	}
	return nil
}

func putStep(ctx context.Context, tx *sql.Tx, run string, p *procedure.Step) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO procedure_steps
		(run, number, stage, execution, target, stack, server, status, reason, text, made_run, log, started_at, ended_at, attempts, may_fail)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
		ON CONFLICT (run, number) DO UPDATE SET status = excluded.status, reason = excluded.reason, text = excluded.text,
		made_run = excluded.made_run, log = excluded.log, started_at = excluded.started_at, ended_at = excluded.ended_at,
		attempts = excluded.attempts`,
		run, p.Number, p.Stage, p.Type, p.Target, p.Stack, p.Server, string(p.Status), p.Reason, p.Text, p.Run, p.Log,
		stamp(p.Started), stamp(p.Ended), p.Attempts, p.MayFail)
	return err
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

const procedureRunColumns = `id, procedure, parent, trigger_kind, actor, status, reason, stages, created_at, started_at, ended_at,
	inputs`

func scanProcedureRun(row scanner) (r api.ProcedureRun, err error) {
	err = row.Scan(&r.ID, &r.Procedure, &r.Parent, &r.Trigger, &r.Actor, &r.Status, &r.Reason, jsonColumn{&r.Stages},
		stampColumn{&r.Created}, stampColumn{&r.Started}, stampColumn{&r.Ended}, jsonColumn{&r.Inputs})
	return r, err
}

// OpenProcedures are the runs without an end, with their steps.
func (s *Store) OpenProcedures(ctx context.Context) ([]procedure.Run, error) {
	runs, err := openProcedures(ctx, s.reader)
	if err != nil {
		return nil, fmt.Errorf("list the runs without an end: %w", err)
	}
	return runs, nil
}

func openProcedures(ctx context.Context, q querier) ([]procedure.Run, error) {
	runs, err := list(ctx, q, func(row scanner) (r procedure.Run, err error) {
		err = row.Scan(&r.ID, &r.Procedure, &r.Parent, &r.Trigger, &r.Actor, &r.Status, &r.Reason, jsonColumn{&r.Stages},
			stampColumn{&r.Created}, stampColumn{&r.Started}, stampColumn{&r.Ended}, jsonColumn{&r.Inputs},
			&r.ParentStep, &r.FailureAlert)
		return r, err
	}, "SELECT "+procedureRunColumns+", parent_step, failure_alert FROM procedure_runs WHERE ended_at = 0 ORDER BY id")
	if err != nil {
		return nil, err
	}
	for i := range runs {
		steps, err := list(ctx, q, scanStep, stepsOfRun, runs[i].ID)
		if err != nil {
			return nil, err
		}
		for _, p := range steps {
			runs[i].Steps = append(runs[i].Steps, procedure.Step{
				Number: p.Number, Stage: p.Stage, Type: p.Type, Target: p.Target, Stack: p.Stack, Server: p.Server,
				Status: procedure.Status(p.Status), Attempts: p.Attempts, MayFail: p.MayFail, Reason: p.Reason, Text: p.Text,
				Run: p.Run, Log: p.Log, Started: p.Started, Ended: p.Ended,
			})
		}
	}
	return runs, nil
}

// interruptProcedures marks the runs that a killed process left running, but for those that
// the next one goes on with.
func interruptProcedures(ctx context.Context, tx *sql.Tx, now int64) error {
	open, err := openProcedures(ctx, tx)
	if err != nil {
		return err
	}
	goesOn := procedure.Resumable(open)
	for i := range open {
		if goesOn[open[i].ID] {
			continue
		}
		for _, query := range []string{
			`UPDATE procedure_steps SET status = 'interrupted', reason = 'core stopped before the outcome was known', ended_at = $1
				WHERE run = $2 AND ended_at = 0`,
			`UPDATE procedure_runs SET status = 'interrupted', reason = 'core stopped before it ended; run it again if it is still due',
				ended_at = $1 WHERE id = $2`,
		} {
			if _, err := tx.ExecContext(ctx, query, now, open[i].ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// ProcedureRuns lists runs, newest first, without their steps: of one procedure, or of all
// when it is empty; from before the run with that id when it is not; or only those that wait for an approval.
func (s *Store) ProcedureRuns(ctx context.Context, name, before string, waiting bool, limit int) ([]api.ProcedureRun, error) {
	runs, err := list(ctx, s.reader, scanProcedureRun, "SELECT "+procedureRunColumns+` FROM procedure_runs
		WHERE ($1 = '' OR procedure = $1) AND ($2 = '' OR id < $2) AND (NOT $3 OR status = 'waiting')
		ORDER BY id DESC LIMIT $4`, name, before, waiting, limit)
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
		run.Steps, err = list(ctx, s.reader, scanStep, stepsOfRun, id)
	}
	if err != nil {
		return run, fmt.Errorf("read run %q: %w", id, err)
	}
	return run, nil
}

const stepsOfRun = `SELECT number, stage, execution, target, stack, server, status, reason, text, made_run, log, started_at, ended_at,
	attempts, may_fail FROM procedure_steps WHERE run = $1 ORDER BY number`

func scanStep(row scanner) (p api.ProcedureStep, err error) {
	err = row.Scan(&p.Number, &p.Stage, &p.Type, &p.Target, &p.Stack, &p.Server, &p.Status, &p.Reason, &p.Text, &p.Run, &p.Log,
		stampColumn{&p.Started}, stampColumn{&p.Ended}, &p.Attempts, &p.MayFail)
	return p, err
}
