package store_test

import (
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/varanhq/varan/core/api"
)

// benchRows is a year of a busy fleet.
const benchRows = 1_000_000

// BenchmarkEvents lists the history of a million records by different filters, and adds to it.
// p95-ms is to stay below 300.
func BenchmarkEvents(b *testing.B) {
	c := newClock()
	cfg := config(b, c)
	s := open(b, cfg)
	db, err := sql.Open("sqlite", cfg.Path)
	must(b, err)
	defer func() { _ = db.Close() }()
	first := c.now.Add(-benchRows * 30 * time.Second)
	_, err = db.ExecContext(b.Context(), `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
		INSERT INTO events (id, at, recorded_at, kind, sync, stack, server, actor, text, run, hash)
		SELECT i, $2 + i * 30000000000, $2 + i * 30000000000,
			CASE i % 10 WHEN 0 THEN 'webhook' WHEN 1 THEN 'login' WHEN 2 THEN 'run' WHEN 3 THEN 'plan' ELSE 'op' END,
			'sync' || (i % 5), CASE WHEN i % 3 = 0 THEN '' ELSE 'stack' || (i % 1000) END, 'server' || (i % 50), 'actor' || (i % 20),
			'update stack@server: succeeded; due because service app: image changed from 1 to 2', 'run' || (i / 8), randomblob(32)
		FROM n`, benchRows, first.UnixNano())
	must(b, err)
	_, err = db.ExecContext(b.Context(), "UPDATE event_chain SET head_id = $1", benchRows)
	must(b, err)
	page := api.Page{Limit: 50}
	for name, f := range map[string]api.EventFilter{
		"newest":           {Page: page},
		"deep page":        {Page: api.Page{Limit: 50, Before: benchRows / 2}},
		"stack":            {Page: page, Stack: "stack7"},
		"kind":             {Page: page, Kinds: []string{"login", "webhook"}},
		"rare together":    {Page: page, Stack: "stack7", Kinds: []string{"login"}, Server: "server7"},
		"nothing together": {Page: page, Sync: "sync1", Actor: "actor2", Kinds: []string{"op"}},
		"old period":       {Page: page, Since: first.Add(24 * time.Hour), Until: first.Add(48 * time.Hour), Sync: "sync1"},
		"run":              {Page: page, Run: "run77"},
	} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				_, err := s.Events(b.Context(), f)
				must(b, err)
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
		})
	}
	b.Run("add", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			must(b, s.AddEvent(b.Context(), api.Event{Kind: "op", Stack: "web", Server: "alpha", Text: fmt.Sprint(i), Run: "run77"}))
		}
	})
}
