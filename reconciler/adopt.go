package reconciler

import (
	"context"
	"log/slog"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// adoptable lists the stacks that already run just as the plan's commit says, and that no
// sync is recorded to own: the record was lost, or another core brought them up. Unowned
// they would be left alone for good once they leave Git.
func adoptable(in plan.Input, p plan.Plan) []plan.Owned {
	owned := map[place]bool{}
	for _, o := range in.Inventory {
		owned[place{o.Server, o.Stack}] = true
	}
	var found []plan.Owned
	for _, s := range p.Stacks {
		if _, foreign := in.Foreign[s.Stack]; foreign || s.Sync != fleet.Synced || owned[place{s.Server, s.Stack}] {
			continue
		}
		if stack, ok := in.Desired.Stack(s.Stack); ok && stack.Server == s.Server {
			found = append(found, plan.Owned{
				Stack: s.Stack, Server: s.Server, Project: stack.Release.Project, Kind: stack.Kind, After: stack.After,
			})
		}
	}
	return found
}

// adopt records what is adoptable. A failure is tried again with the next pass.
func (w *watch) adopt(ctx context.Context, in plan.Input, p plan.Plan) {
	found := adoptable(in, p)
	if len(found) == 0 {
		return
	}
	if err := w.r.cfg.Journal.Adopt(ctx, w.name, found); err != nil {
		w.r.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "stacks not adopted",
			slog.String("sync", w.name), slog.Any("err", err))
	}
}
