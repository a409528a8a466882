package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/audit"
	"github.com/varanhq/varan/reconciler/procedure"
)

const eventColumns = `id, at, recorded_at, kind, sync, stack, server, actor, text, cause, run, op, source_commit, status,
	duration_ms, remote, listener, data, hash`

// maxEventText bounds what one record says; what quotes a program's output can be long.
const maxEventText = 8 << 10

// AddEvent appends to the history.
func (s *Store) AddEvent(ctx context.Context, event api.Event) error {
	err := s.write(ctx, func(tx *sql.Tx) error { return s.addEvent(ctx, tx, event) })
	if err != nil {
		return fmt.Errorf("record an event: %w", err)
	}
	return nil
}

// addEvent is AddEvent as part of a transaction: what happened and its record are stored
// together or not at all.
func (s *Store) addEvent(ctx context.Context, tx *sql.Tx, e api.Event) error {
	_, err := s.putEvent(ctx, tx, e)
	return err
}

// putEvent appends to the history and returns the number of the record.
func (s *Store) putEvent(ctx context.Context, tx *sql.Tx, e api.Event) (id int64, err error) {
	e.Recorded = s.clock()
	if e.At.IsZero() {
		e.At = e.Recorded
	}
	if len(e.Text) > maxEventText {
		e.Text = e.Text[:maxEventText] + " ..."
	}
	if e.Run == "" { // what a procedure has done is of its run
		e.Run = procedure.RunOf(ctx)
	}
	if e.Cause == 0 && e.Run != "" {
		if e.Cause, err = beginOf(ctx, tx, e.Run); err != nil {
			return 0, err
		}
	}
	head, err := markOf(tx.QueryRowContext(ctx, "SELECT head_id, head_hash FROM event_chain"))
	if err != nil {
		return 0, fmt.Errorf("find the newest record: %w", err)
	}
	e.ID = head.ID + 1
	// What is hashed is what reading the row gives.
	e.At, e.Recorded = timeOf(stamp(e.At)), timeOf(stamp(e.Recorded))
	e = audit.Clean(e)
	link := audit.Link(head.Hash, audit.StubOf(e))
	data, err := encodeData(e.Data)
	if err != nil {
		return 0, err
	}
	if _, err = tx.ExecContext(ctx, "INSERT INTO events ("+eventColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`,
		e.ID, stamp(e.At), stamp(e.Recorded), e.Kind, e.Sync, e.Stack, e.Server, e.Actor, e.Text, e.Cause, e.Run, e.Op,
		e.Commit, e.Status, e.DurationMS, e.Remote, e.Listener, data, link[:]); err != nil {
		return 0, err
	}
	_, err = tx.ExecContext(ctx, "UPDATE event_chain SET head_id = $1, head_hash = $2", e.ID, link[:])
	return e.ID, err
}

// encodeData is like encode, but empty when there is nothing.
func encodeData(data map[string]string) (string, error) {
	if len(data) == 0 {
		return "", nil
	}
	return encode(data)
}

func scanEvent(row scanner) (e api.Event, err error) {
	var data string
	var link []byte
	err = row.Scan(&e.ID, stampColumn{&e.At}, stampColumn{&e.Recorded}, &e.Kind, &e.Sync, &e.Stack, &e.Server, &e.Actor, &e.Text,
		&e.Cause, &e.Run, &e.Op, &e.Commit, &e.Status, &e.DurationMS, &e.Remote, &e.Listener, &data, &link)
	if err == nil && data != "" {
		err = jsonColumn{&e.Data}.Scan(data)
	}
	e.Hash = fmt.Sprintf("%x", link)
	return e, err
}

func markOf(row scanner) (m audit.Mark, err error) {
	var raw []byte
	err = row.Scan(&m.ID, &raw)
	copy(m.Hash[:], raw)
	return m, err
}

// Events lists the records that a filter chooses, newest first by when they happened.
func (s *Store) Events(ctx context.Context, f api.EventFilter) ([]api.Event, error) {
	where, args := conditions(f)
	args = append(args, f.Limit)
	events, err := list(ctx, s.reader, scanEvent, fmt.Sprintf("SELECT %s FROM events WHERE %s ORDER BY at DESC, id DESC LIMIT $%d",
		eventColumns, strings.Join(where, " AND "), len(args)), args...)
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	return events, nil
}

// conditions are those of a filter. They repeat what partial indexes are made for, so that
// these are used. The field that chooses most comes first, and a plus keeps the indexes of the
// others from being taken: SQLite would have to guess.
func conditions(f api.EventFilter) (where []string, args []any) {
	where = []string{"1 = 1"}
	add := func(condition string, values ...any) {
		numbers := make([]any, len(values))
		for i, value := range values {
			args = append(args, value)
			numbers[i] = fmt.Sprintf("$%d", len(args))
		}
		where = append(where, fmt.Sprintf(condition, numbers...))
	}
	indexed := ""
	for _, field := range []struct{ column, value string }{
		{"run", f.Run}, {"stack", f.Stack}, {"server", f.Server}, {"actor", f.Actor}, {"sync", f.Sync},
	} {
		if field.value != "" {
			add(indexed+field.column+" = %s AND "+indexed+field.column+" <> ''", field.value)
			indexed = "+"
		}
	}
	if len(f.Kinds) > 0 {
		marks := strings.TrimSuffix(strings.Repeat("%s, ", len(f.Kinds)), ", ")
		kinds := make([]any, len(f.Kinds))
		for i, kind := range f.Kinds {
			kinds[i] = kind
		}
		add(indexed+"kind IN ("+marks+")", kinds...)
	}
	if !f.Since.IsZero() {
		add("at >= %s", stamp(f.Since))
	}
	if !f.Until.IsZero() {
		add("at < %s", stamp(f.Until))
	}
	if f.Before != 0 {
		add("(at, id) < ((SELECT at FROM events WHERE id = %s), %s)", f.Before, f.Before)
	}
	return where, args
}

// Event returns one record.
func (s *Store) Event(ctx context.Context, id int64) (api.Event, error) {
	e, err := found(scanEvent(s.reader.QueryRowContext(ctx, "SELECT "+eventColumns+" FROM events WHERE id = $1", id)))
	if err != nil {
		return e, fmt.Errorf("read record %d: %w", id, err)
	}
	return e, nil
}

// Effects lists what a record led to: those that name it as their cause, and, of a record
// that belongs to a run, those of that run that came after; oldest first.
func (s *Store) Effects(ctx context.Context, e api.Event, limit int) ([]api.Event, error) {
	events, err := list(ctx, s.reader, scanEvent, "SELECT "+eventColumns+` FROM events WHERE id IN (
		SELECT id FROM events WHERE cause = $1 AND cause <> 0 UNION
		SELECT id FROM events WHERE run = $2 AND run <> '' AND id > $1 AND $3) ORDER BY id LIMIT $4`,
		e.ID, e.Run, e.Kind != "op", limit)
	if err != nil {
		return nil, fmt.Errorf("read what record %d led to: %w", e.ID, err)
	}
	return events, nil
}

// chain gives the records of an older database their hashes, once.
func (s *Store) chain(ctx context.Context) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		var one int
		err := tx.QueryRowContext(ctx, "SELECT one FROM event_chain").Scan(&one)
		if err == nil || !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		return s.chainOld(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("chain the history: %w", err)
	}
	return nil
}

func (s *Store) chainOld(ctx context.Context, tx *sql.Tx) error {
	old, err := list(ctx, tx, scanEvent, "SELECT "+eventColumns+" FROM events ORDER BY id")
	if err != nil {
		return err
	}
	var base, head audit.Mark
	if len(old) > 0 {
		base.ID = old[0].ID - 1
	}
	head = base
	for _, e := range old {
		e.Recorded = e.At
		link := audit.Link(head.Hash, audit.StubOf(audit.Clean(e)))
		if _, err := tx.ExecContext(ctx, "UPDATE events SET recorded_at = at, hash = $1 WHERE id = $2", link[:], e.ID); err != nil {
			return err
		}
		head = audit.Mark{ID: e.ID, Hash: link}
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO event_chain (one, base_id, base_hash, head_id, head_hash)
		VALUES (1, $1, $2, $3, $4)`, base.ID, base.Hash[:], head.ID, head.Hash[:]); err != nil {
		return err
	}
	if base.ID == 0 {
		return nil
	}
	// Older releases kept the newest 20,000 records and nothing of those before.
	checkpoint := audit.Checkpoint(nil, base.ID)
	checkpoint.Text = fmt.Sprintf("the %d oldest records were deleted by an earlier release", base.ID)
	audit.Rebase(&checkpoint, base)
	return s.addEvent(ctx, tx, checkpoint)
}
