package core

import (
	"context"

	"github.com/varanhq/varan/reconciler/plan"
	"github.com/varanhq/varan/wire"
)

// rests are the stacks that people suspended on a server: its agent must not put them back
// while core is away.
func (c *core) rests(ctx context.Context, server string) ([]wire.Rest, error) {
	suspended, err := c.store.Suspensions(ctx)
	if err != nil {
		return nil, err
	}
	var list []wire.Rest
	for _, s := range suspended {
		switch {
		case s.Kind == plan.KindProcedure:
		case s.Kind == plan.KindServer && s.Name == server:
			list = append(list, wire.Rest{Until: s.Until})
		case s.Kind == plan.KindServer:
		case s.Kind == plan.KindSync:
			for _, stack := range c.stacksOn(s.Name, server) {
				list = append(list, wire.Rest{Stack: stack, Until: s.Until})
			}
		case s.Server == "" || s.Server == server:
			list = append(list, wire.Rest{Stack: s.Name, Until: s.Until})
		}
	}
	return list, nil
}

// stacksOn are the stacks that a sync has on a server.
func (c *core) stacksOn(sync, server string) []string {
	desired, _ := c.source.Desired(sync)
	var names []string
	for i := range desired.Stacks {
		if s := &desired.Stacks[i]; s.Server == server {
			names = append(names, s.Name)
		}
	}
	return names
}
