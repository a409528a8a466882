package core

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/internal/diskspace"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

// diskReserve is as much as the database's journal grows to before it is written over: with
// it, deleting works on a disk that others filled to the last byte.
const diskReserve = 4 << 20

// guardDisk makes the guard of the disk that the data directory is on.
func (c *core) guardDisk() error {
	dir, err := filepath.Abs(c.settings().Dir)
	if err != nil {
		return fmt.Errorf("resolve the data directory: %w", err)
	}
	c.disk = diskspace.New(diskspace.Config{
		Dir: dir, Reserve: diskReserve, Statfs: c.cfg.Statfs,
		Limit: func() diskspace.Limit {
			limits := &c.settings().Limits
			return diskspace.Limit{Percent: limits.FreePercent, MiB: limits.FreeMiB}
		},
	})
	return nil
}

// diskChanged tells that the disk became nearly full, or has everything go on that waited for
// room on it.
func (c *core) diskChanged(ctx context.Context, text string, low bool) {
	event := api.Event{Kind: "core", Status: "recovered", Text: "there is room on core's disk again: all goes on"}
	if low {
		event.Status, event.Text = "low", "core's disk is nearly full, nothing new begins: "+text
		c.cfg.Logger.LogAttrs(ctx, slog.LevelError, "disk nearly full, nothing new begins", slog.String("free", text))
	} else {
		c.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "there is room on the disk again")
	}
	c.record(ctx, event)
	for _, status := range c.reconciler.Statuses() {
		if low {
			c.reconciler.Recheck("core", status.Sync)
		} else {
			c.reconciler.Poke(status.Sync, reconciler.TriggerManual, "core")
		}
	}
}

// warnings are sentences about core itself, for whoever looks at its status.
func (c *core) warnings() []string {
	var list []string
	if text, low := c.disk.Low(); low {
		list = append(list, "core's disk is nearly full: "+text+". Nothing new begins until there is room; deleting, revoking and suspending work.")
	}
	if text := c.clockText(); text != "" {
		list = append(list, text+".")
	}
	return list
}

// controls are what people decided, and what core's disk allows.
type controls struct {
	*store.Store
	core *core
}

// Control implements reconciler.Controls.
func (c controls) Control(ctx context.Context, name string) (plan.Control, error) {
	control, err := c.Store.Control(ctx, name)
	_, control.LowDisk = c.core.disk.Low()
	return control, err
}
