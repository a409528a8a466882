package core

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/internal/buildinfo"
)

// auditKinds are the kinds that are kept for longer, because they say who did what.
var auditKinds = map[string]bool{
	"account": true, "backup": true, "checkpoint": true, "config": true, "control": true, "key": true, "login": true,
	"onboarding": true, "server": true, "variable": true,
}

// pruneEvery is how often what is old is deleted; pruneAfter how long after the start first.
const (
	pruneEvery = 6 * time.Hour
	pruneAfter = time.Minute
)

// before is the time before which each kind goes.
func (r HistorySettings) before(now time.Time) map[string]time.Time {
	before := map[string]time.Time{}
	for kind := range api.EventKinds {
		keep := r.Events
		if auditKinds[kind] {
			keep = r.Audit
		}
		if keep > 0 {
			before[kind] = now.Add(-keep)
		}
	}
	return before
}

// ago is the time that long before now; zero for ever.
func ago(now time.Time, keep time.Duration) time.Time {
	if keep <= 0 {
		return time.Time{}
	}
	return now.Add(-keep)
}

// prune deletes what is old, until ctx ends.
func (c *core) prune(ctx context.Context) {
	timer := time.NewTimer(pruneAfter)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			timer.Reset(pruneEvery)
		}
		now, keep := time.Now(), c.settings().History
		records, err := c.store.PruneEvents(ctx, keep.before(now))
		if err == nil {
			err = c.store.PruneLogs(ctx, ago(now, keep.Logs), ago(now, keep.Events))
		}
		if err == nil {
			err = c.store.Shrink(ctx)
		}
		switch {
		case err != nil && ctx.Err() == nil:
			c.cfg.Logger.LogAttrs(ctx, slog.LevelError, "old records not deleted", slog.Any("err", err))
		case records > 0:
			c.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "old records deleted", slog.Int64("records", records))
		}
	}
}

// attempt records who came, and who was not let in.
func (c *core) attempt(ctx context.Context, a auth.Attempt) {
	e := api.Event{Kind: "login", Actor: a.Name, Remote: a.Remote, Listener: a.Listener}
	if a.Refused != "" {
		e.Status, e.Text = "refused", fmt.Sprintf("a request from %s was refused: %s", a.Remote, a.Refused)
	} else {
		e.Status, e.Text = "succeeded", fmt.Sprintf("API key %s (%s) came from %s, for the first time in a day", a.ID, a.Name, a.Remote)
	}
	c.record(context.WithoutCancel(ctx), e)
}

// lived records when core started, and, by what it returns, when it stopped.
func (c *core) lived(ctx context.Context, addr string) (stopped func()) {
	started := time.Now()
	c.record(ctx, api.Event{
		Kind: "core", Actor: "core", Text: fmt.Sprintf("core %s started, serving on %s", buildinfo.Version(), addr),
		Data: map[string]string{"go": runtime.Version()},
	})
	return func() {
		c.record(context.WithoutCancel(ctx), api.Event{
			Kind: "core", Actor: "core", Text: "core stopped", DurationMS: time.Since(started).Milliseconds(),
		})
	}
}
