package store_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/audit"
	"github.com/varanhq/varan/core/store"
)

// verify exports the chain as lines of JSON and verifies these, as whoever has the file does.
func verify(tb testing.TB, s *store.Store, since, until time.Time, kept *audit.Hash) audit.Report {
	tb.Helper()
	v := audit.NewVerifier(kept)
	must(tb, s.ExportAudit(tb.Context(), since, until, func(line audit.Line) error {
		text, err := json.Marshal(line)
		must(tb, err)
		v.Read(text)
		return nil
	}))
	return v.End()
}

func fullEvent(i int) api.Event {
	return api.Event{
		Kind: []string{"op", "webhook", "login"}[i%3], Sync: "main", Stack: "web", Server: "alpha", Actor: "ada",
		Text: fmt.Sprintf("record %d\xff", i), Cause: 1, Run: "r", Op: "update web@alpha", Commit: "abc", Status: "failed",
		DurationMS: 12, Remote: "192.0.2.1", Listener: "main", Data: map[string]string{"a": "b", "c": "d"},
	}
}

// eventColumns are the columns of the table of records, with their types.
func eventColumns(t *testing.T, db *sql.DB) map[string]string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT name, type FROM pragma_table_info('events')")
	must(t, err)
	defer func() { must(t, rows.Close()) }()
	columns := map[string]string{}
	for rows.Next() {
		var name, kind string
		must(t, rows.Scan(&name, &kind))
		columns[name] = kind
	}
	must(t, rows.Err())
	return columns
}

func TestAnyChangedColumnBreaksTheChainWhereItIs(t *testing.T) {
	t.Parallel()
	cfg := config(t, newClock())
	s := open(t, cfg)
	for i := range 5 {
		must(t, s.AddEvent(t.Context(), fullEvent(i)))
	}
	if got := verify(t, s, time.Time{}, time.Time{}, nil); got.Break != nil || got.Records != 5 || !got.Whole {
		t.Fatalf("an untouched chain: %+v, %+v", got, got.Break)
	}
	db, err := sql.Open("sqlite", cfg.Path)
	must(t, err)
	defer func() { _ = db.Close() }()
	columns := eventColumns(t, db)
	if len(columns) != 19 {
		t.Fatalf("columns: %v", columns)
	}
	for name, kind := range columns {
		change := map[string]string{
			"TEXT": name + " || 'x'", "BIGINT": name + " + 1", "INTEGER": name + " + 100", "BLOB": "x'" + strings.Repeat("00", 32) + "'",
		}[kind]
		if name == "data" {
			change = `'{"a":"b","c":"e"}'`
		}
		before := fmt.Sprintf("CREATE TEMP TABLE kept AS SELECT * FROM events; UPDATE events SET %s = %s WHERE id = 3", name, change)
		conn, err := db.Conn(t.Context())
		must(t, err)
		_, err = conn.ExecContext(t.Context(), before)
		must(t, err)
		got := verify(t, s, time.Time{}, time.Time{}, nil)
		if got.Break == nil || got.Break.ID != 3 {
			t.Errorf("%s = %s: %+v", name, change, got.Break)
		}
		_, err = conn.ExecContext(t.Context(), "DELETE FROM events; INSERT INTO events SELECT * FROM kept; DROP TABLE kept")
		must(t, err)
		must(t, conn.Close())
	}
	if got := verify(t, s, time.Time{}, time.Time{}, nil); got.Break != nil {
		t.Errorf("after all was put back: %+v", got.Break)
	}
}

func TestDeletedAndInsertedRecordsAreFound(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		query string
		id    int64
	}{
		"one of the middle": {"DELETE FROM events WHERE id = 3", 3},
		"the first":         {"DELETE FROM events WHERE id = 1", 1},
		"the last":          {"DELETE FROM events WHERE id = 5", 5},
		"all":               {"DELETE FROM events", 1},
		"two swapped":       {"UPDATE events SET id = CASE id WHEN 2 THEN 30 ELSE 2 END WHERE id IN (2, 3); UPDATE events SET id = 3 WHERE id = 30", 2},
		"one more": {`INSERT INTO events SELECT 6, at, kind, sync, stack, server, actor, text, recorded_at, cause, run, op,
			source_commit, status, duration_ms, remote, listener, data, hash FROM events WHERE id = 5`, 6},
		"one behind a made up stub": {`INSERT INTO event_stubs SELECT id, kind, recorded_at, hash FROM events WHERE id = 5;
			DELETE FROM events WHERE id = 5`, 6},
		"the first, with the beginning moved": {`UPDATE event_chain SET base_id = 1, base_hash = (SELECT hash FROM events WHERE id = 1);
			DELETE FROM events WHERE id = 1`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, newClock())
			s := open(t, cfg)
			for i := range 5 {
				must(t, s.AddEvent(t.Context(), fullEvent(i)))
			}
			db, err := sql.Open("sqlite", cfg.Path)
			must(t, err)
			defer func() { _ = db.Close() }()
			_, err = db.ExecContext(t.Context(), tc.query)
			must(t, err)
			got := verify(t, s, time.Time{}, time.Time{}, nil)
			if got.Break == nil || got.Break.ID != tc.id {
				t.Errorf("broken at %+v, want %d", got.Break, tc.id)
			}
		})
	}
}

func TestDeletingWhatIsOldKeepsTheChainWhole(t *testing.T) {
	t.Parallel()
	clock := newClock()
	cfg := config(t, clock)
	s := open(t, cfg)
	start := clock.Now()
	for i := range 12 {
		must(t, s.AddEvent(t.Context(), fullEvent(i)))
		clock.now = clock.now.Add(time.Hour)
	}
	kept, err := s.AuditHead(t.Context())
	must(t, err)

	deleted, err := s.PruneEvents(t.Context(), map[string]time.Time{"webhook": start.Add(8 * time.Hour), "login": start})
	must(t, err)
	if deleted != 3 {
		t.Errorf("deleted %d", deleted)
	}
	got := verify(t, s, time.Time{}, time.Time{}, &kept.Hash)
	want := audit.Report{First: 1, Last: 13, Records: 13, Deleted: 3, Head: got.Head, Whole: true, Kept: got.Kept}
	if diff := cmp.Diff(want, got); diff != "" || !*got.Kept {
		t.Errorf("after the first (-want +got):\n%s", diff)
	}

	// A record that no checkpoint allowed to go is missed, though a stub stands for it.
	db, err := sql.Open("sqlite", cfg.Path)
	must(t, err)
	defer func() { _ = db.Close() }()
	e, err := s.Event(t.Context(), 3)
	must(t, err)
	stub := audit.StubOf(e)
	tx, err := db.BeginTx(t.Context(), nil)
	must(t, err)
	_, err = tx.ExecContext(t.Context(), "INSERT INTO event_stubs VALUES ($1, $2, $3, $4)", stub.ID, stub.Kind, stub.Recorded.UnixNano(), stub.Rest[:])
	must(t, err)
	_, err = tx.ExecContext(t.Context(), "DELETE FROM events WHERE id = 3")
	must(t, err)
	must(t, tx.Commit())
	if got := verify(t, s, time.Time{}, time.Time{}, nil); got.Break == nil || got.Break.ID != 3 {
		t.Errorf("a stub for what was not due: %+v", got.Break)
	}
	if _, err := s.PruneEvents(t.Context(), map[string]time.Time{"login": start.Add(3 * time.Hour)}); err != nil {
		t.Fatal(err)
	}

	// When nothing is left of the beginning, the chain begins later.
	all := clock.Now().Add(time.Hour)
	clock.now = clock.now.Add(400 * 24 * time.Hour)
	for range 2 {
		_, err = s.PruneEvents(t.Context(), map[string]time.Time{"webhook": all, "login": all, "op": all, "checkpoint": all})
		must(t, err)
		must(t, s.AddEvent(t.Context(), api.Event{Kind: "core", Text: "on"}))
	}
	got = verify(t, s, time.Time{}, time.Time{}, &kept.Hash)
	if got.Break != nil || !got.Whole || got.First < 12 || *got.Kept {
		t.Errorf("after all: %+v, %+v", got, got.Break)
	}
	must(t, s.Close())
	s = open(t, cfg)
	if again := verify(t, s, time.Time{}, time.Time{}, nil); again.Head != got.Head {
		t.Errorf("after a restart: %+v, %+v", again, again.Break)
	}
}

func TestAPartOfTheChainVerifiesAlone(t *testing.T) {
	t.Parallel()
	clock := newClock()
	s := open(t, config(t, clock))
	start := clock.Now()
	for i := range 10 {
		must(t, s.AddEvent(t.Context(), fullEvent(i)))
		clock.now = clock.now.Add(time.Hour)
	}
	got := verify(t, s, start.Add(3*time.Hour), start.Add(7*time.Hour), nil)
	if got.Break != nil || got.First != 4 || got.Last != 7 || got.Whole {
		t.Errorf("got %+v, %+v", got, got.Break)
	}
}
