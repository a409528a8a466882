package hub

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/varanhq/varan/wire"
)

// restWithin bounds the wait for an agent to write down what to leave alone.
const restWithin = 30 * time.Second

// TellRests tells every connected agent anew what it must leave alone. It does not wait for
// them: one that does not hear it is told when it connects.
func (h *Hub) TellRests(ctx context.Context) {
	h.mu.Lock()
	var sessions []*session
	for _, srv := range h.servers {
		if srv.session != nil {
			sessions = append(sessions, srv.session)
		}
	}
	h.mu.Unlock()
	for _, s := range sessions {
		h.tellRests(ctx, s, true)
	}
}

// tellRests tells one agent. Where there is nothing to say, one that was never told anything
// is spared the message.
func (h *Hub) tellRests(ctx context.Context, s *session, always bool) {
	if h.cfg.Rests == nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	h.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, restWithin)
		defer cancel()
		// One after the other, so that what was read last is what the agent hears last.
		s.telling.Lock()
		defer s.telling.Unlock()
		list, err := h.cfg.Rests(ctx, s.server)
		if err == nil && (always || len(list) > 0) {
			err = s.peer.Call(ctx, wire.VerbRest, wire.Rests{List: list}, nil)
		}
		switch {
		case err == nil, errors.Is(err, wire.ErrClosed):
		case isCode(err, wire.CodeUnknownVerb): // an older agent does not repair anything by itself
		default:
			h.log.LogAttrs(ctx, slog.LevelWarn, "an agent was not told what to leave alone",
				slog.String("host", s.server), slog.Any("err", err))
		}
	})
}
