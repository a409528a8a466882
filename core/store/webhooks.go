package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"github.com/varanhq/varan/core/api"
)

const (
	// keepWebhooks and keepWebhooksFor bound the memory for replays.
	keepWebhooks    = 100_000
	keepWebhooksFor = 24 * time.Hour
)

// webhooks are the deliveries that wait to be recorded. Those that arrive while others are
// written share the next transaction: a flood of them costs few flushes to disk.
type webhooks struct {
	mu      sync.Mutex
	waiting []*webhookSeen
	writing bool
}

// webhookSeen is one of them. done is closed when record, replay and err say what became of it.
type webhookSeen struct {
	hash   string
	event  func(replay bool) api.Event
	record int64
	replay bool
	err    error
	done   chan struct{}
}

// WebhookSeen remembers a webhook by its hash and records what came of it in the same
// transaction. It returns the number of that record, and whether the same was seen in the last
// day.
func (s *Store) WebhookSeen(ctx context.Context, hash string, event func(replay bool) api.Event) (record int64, replay bool, err error) {
	w := &webhookSeen{hash: hash, event: event, done: make(chan struct{})}
	s.webhooks.mu.Lock()
	s.webhooks.waiting = append(s.webhooks.waiting, w)
	first := !s.webhooks.writing
	s.webhooks.writing = true
	s.webhooks.mu.Unlock()
	if first {
		go s.writeWebhooks(context.WithoutCancel(ctx)) // the others' deliveries too
	}
	<-w.done
	if w.err != nil {
		return 0, false, fmt.Errorf("record a webhook: %w", w.err)
	}
	return w.record, w.replay, nil
}

// writeWebhooks writes until none waits.
func (s *Store) writeWebhooks(ctx context.Context) {
	for {
		s.webhooks.mu.Lock()
		batch := s.webhooks.waiting
		s.webhooks.waiting = nil
		s.webhooks.writing = len(batch) > 0
		s.webhooks.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		err := s.write(ctx, func(tx *sql.Tx) error { return s.seeWebhooks(ctx, tx, batch) })
		for _, w := range batch {
			w.err = err
			close(w.done)
		}
	}
}

func (s *Store) seeWebhooks(ctx context.Context, tx *sql.Tx, batch []*webhookSeen) error {
	now := s.clock()
	fresh := false
	for _, w := range batch {
		n, err := affected(tx.ExecContext(ctx, `INSERT INTO webhooks_seen (hash, at) VALUES ($1, $2)
			ON CONFLICT (hash) DO UPDATE SET at = excluded.at WHERE at <= $3`,
			w.hash, stamp(now), stamp(now.Add(-keepWebhooksFor))))
		if err != nil {
			return err
		}
		w.replay = n == 0
		fresh = fresh || n > 0
		if w.record, err = s.putEvent(ctx, tx, w.event(w.replay)); err != nil {
			return err
		}
	}
	if !fresh {
		return nil
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM webhooks_seen WHERE at <= $1 OR at <
		(SELECT at FROM webhooks_seen ORDER BY at DESC LIMIT 1 OFFSET $2)`, stamp(now.Add(-keepWebhooksFor)), keepWebhooks)
	return err
}
