package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

// recordHeal tells the history, once, what an agent repaired while core was away.
func (s *Store) recordHeal(ctx context.Context, server string, outcome fleet.Outcome) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		var told bool
		row := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM events WHERE run = $1 AND run <> '' AND server = $2)", outcome.Order, server)
		if err := row.Scan(&told); err != nil || told {
			return err
		}
		return s.addEvent(ctx, tx, api.Event{
			At: outcome.EndedAt, Kind: "heal", Stack: outcome.Stack, Server: server, Actor: "agent", Run: outcome.Order,
			Status: string(outcome.Status), DurationMS: took(outcome.StartedAt, outcome.EndedAt), Text: healText(server, outcome),
		})
	})
	if err != nil {
		return fmt.Errorf("record a repair of stack %s: %w", outcome.Stack, err)
	}
	return nil
}

func healText(server string, o fleet.Outcome) string {
	text := fmt.Sprintf("while core was away, the agent of %s put %s back", server, o.Stack)
	if o.Status != fleet.OutcomeSucceeded {
		text = fmt.Sprintf("while core was away, the agent of %s could not put %s back: %s", server, o.Stack, o.Reason)
	}
	for _, part := range []struct {
		verb     string
		services []string
	}{{"started", o.Started}, {"recreated", o.Recreated}} {
		if len(part.services) > 0 {
			text += "; " + part.verb + " " + strings.Join(part.services, ", ")
		}
	}
	if o.Dropped > 0 {
		text += fmt.Sprintf("; %d earlier repairs are not told, they were too many to keep", o.Dropped)
	}
	return text
}
