package store

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/reconciler/plan"
)

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func openTest(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "varan.db"), SealKey: bytes.Repeat([]byte{7}, SealKeySize)})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// asked is what an idle core asks for all the time.
func asked(ctx context.Context, s *Store) (err error) {
	for _, ask := range []func() error{
		func() error { _, err := s.PendingServers(ctx); return err },
		func() error { _, err := s.TriedKeys(ctx); return err },
		func() error { _, err := s.Updates(ctx); return err },
		func() error { _, err := s.Control(ctx, "main"); return err },
		func() error { _, _, err := s.Inventory(ctx, "main"); return err },
		func() error { _, err := s.Sync(ctx, "main"); return err },
	} {
		if err := ask(); err != nil {
			return err
		}
	}
	return nil
}

func TestWhatNothingWasWrittenSinceIsNotReadAgain(t *testing.T) {
	t.Parallel()
	s := openTest(t)
	must(t, s.AddSync(t.Context(), api.SyncSpec{Name: "main", URL: "https://git.example/a.git"}))
	must(t, asked(t.Context(), s))
	must(t, s.reader.Close())
	must(t, asked(t.Context(), s)) // from memory, or there would be an error
	must(t, s.AddEvent(t.Context(), api.Event{Kind: "sync", Text: "anything at all"}))
	if asked(t.Context(), s) == nil {
		t.Error("what was kept outlived a write")
	}
}

func TestEveryWayToWriteEndsWhatIsKept(t *testing.T) {
	t.Parallel()
	s := openTest(t)
	must(t, s.write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `INSERT INTO servers (name, tags, tier, pending, epoch, disabled, onboarded_at, core_key)
			VALUES ('alpha', '[]', 'trusted', TRUE, 0, FALSE, 0, '')`)
		return err
	}))
	for name, write := range map[string]func() error{
		"a transaction": func() error { return s.Suspend(t.Context(), plan.Suspension{Kind: plan.KindServer, Name: "alpha"}) },
		"a statement":   func() error { return s.ApproveServer(t.Context(), "alpha") },
		"a new session": func() error { _, err := s.NextEpoch(t.Context(), "alpha"); return err },
	} {
		before := s.writes.Load()
		must(t, write())
		if s.writes.Load() == before {
			t.Errorf("%s is not counted", name)
		}
	}
}

func TestAReadingThatFailedIsNotKept(t *testing.T) {
	t.Parallel()
	s := openTest(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.PendingServers(ctx); err == nil {
		t.Fatal("read by somebody who went away")
	}
	_, err := s.PendingServers(t.Context())
	must(t, err)
}

// numbers runs one query, and for each of its rows the same one again.
func numbers(ctx context.Context, db querier, depth int) (got []int, err error) {
	rows, err := db.QueryContext(ctx, "SELECT value FROM (SELECT 1 AS value UNION SELECT 2 UNION SELECT 3) WHERE value <= $1", depth)
	if err != nil {
		return nil, err
	}
	defer func() { err = closing(rows, err) }()
	for rows.Next() {
		var n int
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		got = append(got, n)
		if depth > 1 {
			below, err := numbers(ctx, db, depth-1)
			if err != nil {
				return nil, err
			}
			got = append(got, below...)
		}
	}
	return got, rows.Err()
}

func TestAStatementMayRunWhileItsRowsAreRead(t *testing.T) {
	t.Parallel()
	s := openTest(t)
	for range 2 { // compiled, and from what is kept
		must(t, s.write(t.Context(), func(tx *sql.Tx) error {
			got, err := numbers(t.Context(), tx, 3)
			if diff := cmp.Diff([]int{1, 1, 1, 2, 1, 2, 1, 1, 2, 1, 3, 1, 1, 2, 1}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			return err
		}))
	}
}

func TestManyStatementsAndThoseThatFail(t *testing.T) {
	t.Parallel()
	s := openTest(t)
	for i := range 3 * maxStatements {
		var got int
		must(t, s.writer.QueryRowContext(t.Context(), fmt.Sprintf("SELECT %d", i)).Scan(&got))
		if got != i {
			t.Fatalf("%d for %d", got, i)
		}
	}
	held, err := s.writer.Conn(t.Context())
	must(t, err)
	must(t, held.Raw(func(raw any) error {
		if c, ok := raw.(*conn); !ok || len(c.idle) > maxStatements {
			t.Errorf("%T keeps more than %d statements", raw, maxStatements)
		}
		return nil
	}))
	must(t, held.Close())

	insert := func(name string) error {
		_, err := s.exec(t.Context(), "INSERT INTO meta (name, value) VALUES ($1, 1)", name)
		return err
	}
	must(t, insert("a"))
	if insert("a") == nil {
		t.Fatal("the same name twice")
	}
	must(t, insert("b"))
	if _, err := s.exec(t.Context(), "SELECT nonsense FROM nowhere"); err == nil {
		t.Error("nonsense was run")
	}
	// A statement outlives a change of the schema.
	must(t, s.write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "ALTER TABLE meta ADD COLUMN more TEXT")
		return err
	}))
	must(t, insert("c"))
}
