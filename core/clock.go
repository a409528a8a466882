package core

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/varanhq/varan/core/api"
)

const (
	// clockKeptEvery is how often the time is remembered for the next start.
	clockKeptEvery = 10 * time.Minute
	// behindFrom is from where on a clock that was set back is told of.
	behindFrom = time.Minute
)

// clockText says what is the matter with the clock of core's host; empty when nothing is. The
// words stay the same as long as it lasts.
func (c *core) clockText() string {
	clock := c.store.Clock()
	switch behind := clock.Behind(); {
	case clock.Jump > 0:
		return fmt.Sprintf("core's clock went forward by %s at once: it was set, or the host slept. "+
			"Onboarding keys expire by it, keys of agents do not for a day", clock.Jump.Round(time.Minute))
	case behind > behindFrom:
		return fmt.Sprintf("core's clock was set back by %s: what had expired stays expired, "+
			"and times of expiry are counted from where the clock was", behind.Round(time.Minute))
	}
	return ""
}

// watchHost looks at the disk and the clock of core's host until ctx ends, tells of what is the
// matter with them, and has go on what waited for that.
func (c *core) watchHost(ctx context.Context) {
	ticker := time.NewTicker(c.settings().Alerts.Every)
	defer ticker.Stop()
	full, odd := false, false
	kept := time.Now()
	for {
		if text, low := c.disk.Low(); low != full {
			full = low
			c.diskChanged(ctx, text, low)
		}
		if text := c.clockText(); (text != "") != odd {
			odd = text != ""
			c.clockChanged(ctx, text)
		}
		select {
		case <-ticker.C:
			if time.Since(kept) >= clockKeptEvery {
				c.keepClock(ctx)
				kept = time.Now()
			}
		case <-ctx.Done():
			c.keepClock(context.WithoutCancel(ctx))
			return
		}
	}
}

func (c *core) keepClock(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	if err := c.store.KeepClock(ctx); err != nil && ctx.Err() == nil {
		c.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "the time was not recorded", slog.Any("err", err))
	}
}

func (c *core) clockChanged(ctx context.Context, text string) {
	event := api.Event{Kind: "core", Status: "clock", Text: text}
	if text == "" {
		event.Text = "core's clock is as it was expected to be again"
	}
	c.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "the clock of this host changed", slog.String("text", event.Text))
	c.record(ctx, event)
	c.keepClock(ctx)
	c.hub.Refresh(ctx, nil) // how far the agents' clocks are off is another question now
}
