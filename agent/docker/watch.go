package docker

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/backoff"
)

// gather is how long changes of a stack are gathered: a recreate makes a dozen events.
const gather = 50 * time.Millisecond

// watched are the actions that can change what Observe says. Health checks make three
// exec events each time, which are not among them.
func watched() []string {
	return []string{
		"create", "start", "die", "destroy", "stop", "kill", "oom", "pause", "unpause",
		"restart", "rename", "update", "health_status", "connect", "disconnect",
	}
}

// Watch implements agent.Engine. It returns only when ctx ends: an engine that goes away
// is waited for, and everything is read again when it is back.
func (e *Engine) Watch(ctx context.Context, changed func(stack string)) error {
	defer e.memory.listen(false)
	wait := backoff.Backoff{Base: 200 * time.Millisecond, Max: 5 * time.Second, Floor: 100 * time.Millisecond}
	for ctx.Err() == nil {
		began := time.Now()
		err := e.follow(ctx, changed)
		e.memory.listen(false)
		if ctx.Err() != nil {
			break
		}
		e.log.WarnContext(ctx, "engine events ended", slog.String("err", err.Error()))
		// The engine that comes back may be another version.
		e.conn.renew()
		changed("")
		if time.Since(began) > time.Minute {
			wait.Reset()
		}
		if wait.Wait(ctx) != nil {
			break
		}
	}
	return nil
}

// follow handles the events of one connection.
func (e *Engine) follow(ctx context.Context, changed func(stack string)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := e.conn.ping(ctx); err != nil {
		return err
	}
	cl, err := e.conn.api()
	if err != nil {
		return err
	}
	// No filter on our label: a network's events do not carry the container's labels.
	res := cl.Events(ctx, client.EventsListOptions{
		Filters: make(client.Filters).Add("type", "container", "network").Add("event", watched()...),
	})
	e.memory.listen(true)
	// Whatever happened until now was not seen.
	changed("")
	dirty := map[string]bool{}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case m := <-res.Messages:
			stack, ours := e.notice(&m)
			if !ours {
				continue
			}
			if len(dirty) == 0 {
				timer.Reset(gather)
			}
			dirty[stack] = true
		case <-timer.C:
			for _, stack := range keys(dirty) {
				changed(stack)
			}
			clear(dirty)
		case err := <-res.Err:
			return fmt.Errorf("read engine events: %w", err)
		}
	}
}

// notice forgets what an event makes untrue and tells whose it is.
func (e *Engine) notice(m *events.Message) (stack string, ours bool) {
	if m.Type == events.NetworkEventType {
		id := m.Actor.Attributes["container"]
		stack, ours = e.memory.stackOf(id)
		e.memory.forget(id)
		return stack, ours
	}
	if m.Actor.Attributes[fleet.LabelServer] != e.cfg.Server {
		stack, _, ours = e.states.adoption(m.Actor.ID)
		if ours {
			e.memory.forget(m.Actor.ID)
		}
		return stack, ours
	}
	e.memory.forget(m.Actor.ID)
	return m.Actor.Attributes[fleet.LabelStack], true
}
