package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/audit"
)

// AuditHead is the newest record's number and hash.
func (s *Store) AuditHead(ctx context.Context) (audit.Mark, error) {
	head, err := markOf(s.reader.QueryRowContext(ctx, "SELECT head_id, head_hash FROM event_chain"))
	if err != nil {
		return head, fmt.Errorf("find the newest record: %w", err)
	}
	return head, nil
}

// ExportAudit calls each with every line of an export of the chain, or of the part of it
// that was recorded from since to until, as of one moment. Zero times bound nothing.
func (s *Store) ExportAudit(ctx context.Context, since, until time.Time, each func(audit.Line) error) error {
	tx, err := s.reader.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("read the history: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // it only reads
	header := audit.Header{Format: audit.Format, Part: !since.IsZero() || !until.IsZero()}
	if header.Base, err = markOf(tx.QueryRowContext(ctx, "SELECT base_id, base_hash FROM event_chain")); err != nil {
		return fmt.Errorf("find the oldest record: %w", err)
	}
	if header.Head, err = markOf(tx.QueryRowContext(ctx, "SELECT head_id, head_hash FROM event_chain")); err != nil {
		return fmt.Errorf("find the newest record: %w", err)
	}
	w := walker{tx: tx, each: each, from: since, to: until, header: header}
	if err := w.walk(ctx); err != nil {
		return fmt.Errorf("read the history: %w", err)
	}
	return nil
}

// walker goes through the chain. It needs every record of it, because the hash of what is
// left of a deleted one is not stored.
type walker struct {
	tx       *sql.Tx
	each     func(audit.Line) error
	from, to time.Time
	header   audit.Header
	begun    bool
	// at is how far it is, and stub the next one.
	at   audit.Mark
	stub *audit.Stub
}

func (w *walker) walk(ctx context.Context) (err error) {
	stubs, err := w.tx.QueryContext(ctx, "SELECT id, kind, recorded_at, rest FROM event_stubs ORDER BY id")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stubs.Close()) }()
	events, err := w.tx.QueryContext(ctx, "SELECT "+eventColumns+" FROM events ORDER BY id")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, events.Close()) }()
	w.at = w.header.Base
	if w.stub, err = nextStub(stubs); err != nil {
		return err
	}
	for events.Next() {
		e, err := scanEvent(events)
		if err != nil {
			return err
		}
		if err := w.passEvent(&e, stubs); err != nil {
			return err
		}
	}
	if err := events.Err(); err != nil {
		return err
	}
	for w.stub != nil {
		if err := w.passStub(w.stub.Recorded, stubs); err != nil {
			return err
		}
	}
	if !w.begun {
		w.header.Base = w.at
		return w.each(audit.Line{Header: &w.header})
	}
	return nil
}

// passEvent goes past a record, and past the stubs before it.
func (w *walker) passEvent(e *api.Event, stubs *sql.Rows) error {
	for w.stub != nil && w.stub.ID < e.ID {
		if err := w.passStub(e.Recorded, stubs); err != nil {
			return err
		}
	}
	if err := w.line(e.Recorded, audit.Line{Event: e}); err != nil {
		return err
	}
	w.at.ID = e.ID
	if err := w.at.Hash.UnmarshalText([]byte(e.Hash)); err != nil {
		w.at.Hash = audit.Hash{} // a broken chain is exported as it is
	}
	return nil
}

// passStub goes past the next stub, which counts as recorded at that time.
func (w *walker) passStub(recorded time.Time, stubs *sql.Rows) (err error) {
	if err := w.line(recorded, audit.Line{Stub: w.stub}); err != nil {
		return err
	}
	w.at = audit.Mark{ID: w.stub.ID, Hash: audit.Link(w.at.Hash, *w.stub)}
	w.stub, err = nextStub(stubs)
	return err
}

// line hands a line on if it is wanted, after the header.
func (w *walker) line(recorded time.Time, line audit.Line) error {
	if !w.from.IsZero() && recorded.Before(w.from) && !w.begun || !w.to.IsZero() && !recorded.Before(w.to) {
		return nil
	}
	if !w.begun {
		w.begun = true
		w.header.Base = w.at
		if err := w.each(audit.Line{Header: &w.header}); err != nil {
			return err
		}
	}
	return w.each(line)
}

func nextStub(rows *sql.Rows) (*audit.Stub, error) {
	if !rows.Next() {
		return nil, rows.Err()
	}
	var stub audit.Stub
	var rest []byte
	if err := rows.Scan(&stub.ID, &stub.Kind, stampColumn{&stub.Recorded}, &rest); err != nil {
		return nil, err
	}
	copy(stub.Rest[:], rest)
	return &stub, nil
}

// pruneBatch is how many records one transaction deletes, so that none keeps others waiting.
const pruneBatch = 500

// PruneEvents deletes the records of each kind that were recorded before the time that goes
// with it, and says how many. The chain stays whole: see package audit.
func (s *Store) PruneEvents(ctx context.Context, before map[string]time.Time) (deleted int64, err error) {
	due := map[string]time.Time{}
	var records int64
	for kind, at := range before {
		if kind == audit.KindCheckpoint {
			continue // they go with the chain's beginning
		}
		var n int64
		row := s.reader.QueryRowContext(ctx, "SELECT count(*) FROM events WHERE kind = $1 AND at < $2 AND recorded_at < $2", kind, stamp(at))
		if err := row.Scan(&n); err != nil {
			return 0, fmt.Errorf("count old records: %w", err)
		}
		if n > 0 {
			due[kind], records = at, records+n
		}
	}
	if len(due) == 0 {
		return 0, nil
	}
	// The checkpoint comes first: what it allows can then be deleted in any number of steps.
	if err := s.AddEvent(ctx, audit.Checkpoint(due, records)); err != nil {
		return 0, err
	}
	for kind, at := range due {
		for n := int64(pruneBatch); n == pruneBatch; deleted += n {
			if n, err = s.pruneSome(ctx, kind, at); err != nil {
				return deleted, fmt.Errorf("delete old records: %w", err)
			}
		}
	}
	if err := s.rebase(ctx, before[audit.KindCheckpoint]); err != nil {
		return deleted, fmt.Errorf("shorten the chain: %w", err)
	}
	return deleted, nil
}

// pruneSome turns records into stubs.
func (s *Store) pruneSome(ctx context.Context, kind string, before time.Time) (n int64, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		old, err := list(ctx, tx, scanEvent, "SELECT "+eventColumns+` FROM events
			WHERE kind = $1 AND at < $2 AND recorded_at < $2 ORDER BY at LIMIT $3`, kind, stamp(before), pruneBatch)
		if err != nil {
			return err
		}
		for i := range old {
			stub := audit.StubOf(old[i])
			if _, err := tx.ExecContext(ctx, "INSERT INTO event_stubs (id, kind, recorded_at, rest) VALUES ($1, $2, $3, $4)",
				stub.ID, stub.Kind, stamp(stub.Recorded), stub.Rest[:]); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "DELETE FROM events WHERE id = $1", stub.ID); err != nil {
				return err
			}
		}
		n = int64(len(old))
		return nil
	})
	return n, err
}

// rebase lets go of the stubs before the first record that is still there, and of the
// checkpoints among them that were recorded before a time: what these answered for is gone
// with them.
func (s *Store) rebase(ctx context.Context, before time.Time) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		base, err := markOf(tx.QueryRowContext(ctx, "SELECT base_id, base_hash FROM event_chain"))
		if err != nil {
			return err
		}
		var first int64
		row := tx.QueryRowContext(ctx, "SELECT min(id) FROM events WHERE kind <> $1 OR recorded_at >= $2", audit.KindCheckpoint, stamp(before))
		if err := row.Scan(&first); err != nil {
			return err
		}
		to, err := s.follow(ctx, tx, base, first)
		if err != nil || to == base {
			return err
		}
		for _, query := range []string{"DELETE FROM event_stubs WHERE id <= $1", "DELETE FROM events WHERE id <= $1"} {
			if _, err := tx.ExecContext(ctx, query, to.ID); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, "UPDATE event_chain SET base_id = $1, base_hash = $2", to.ID, to.Hash[:]); err != nil {
			return err
		}
		checkpoint := audit.Checkpoint(nil, 0)
		checkpoint.Text = fmt.Sprintf("nothing is left of the records up to %d", to.ID)
		audit.Rebase(&checkpoint, to)
		return s.addEvent(ctx, tx, checkpoint)
	})
}

// follow goes along the chain from base to the record before first.
func (*Store) follow(ctx context.Context, tx *sql.Tx, base audit.Mark, first int64) (end audit.Mark, err error) {
	checkpoints, err := list(ctx, tx, scanEvent, "SELECT "+eventColumns+" FROM events WHERE id < $1 ORDER BY id", first)
	if err != nil {
		return base, err
	}
	stubs, err := tx.QueryContext(ctx, "SELECT id, kind, recorded_at, rest FROM event_stubs WHERE id < $1 ORDER BY id", first)
	if err != nil {
		return base, err
	}
	defer func() { err = closing(stubs, err) }()
	at := base
	for {
		stub, err := nextStub(stubs)
		if err != nil {
			return base, err
		}
		for len(checkpoints) > 0 && (stub == nil || checkpoints[0].ID < stub.ID) {
			at = audit.Mark{ID: checkpoints[0].ID, Hash: audit.Link(at.Hash, audit.StubOf(checkpoints[0]))}
			checkpoints = checkpoints[1:]
		}
		if stub == nil {
			return at, nil
		}
		at = audit.Mark{ID: stub.ID, Hash: audit.Link(at.Hash, *stub)}
	}
}
