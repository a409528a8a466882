// Package reconciler drives a fleet towards what Git says: wake, load, plan, execute,
// record. It declares the small interfaces it needs; core wires the real ones in. It
// knows nothing of Git, sockets, SQL or Docker.
package reconciler

import (
	"context"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// Source loads what the head of a sync's branch desires. An unchanged head must cost
// next to nothing. Calls for one sync never overlap.
type Source interface {
	Load(ctx context.Context, sync string) (Loaded, error)
}

// Loaded is one reading of a sync.
type Loaded struct {
	Desired fleet.Desired
	// Diagnostics with errors stall the sync at its last good commit; Desired is then
	// not to be used.
	Diagnostics fleet.Diagnostics
	// Content serves the blobs that Desired's releases name. It stays valid as long as
	// it is referenced, later loads notwithstanding.
	Content Content
	// Policy is the sync's own policy.
	Policy plan.Policy
	// AutoApply is false for a sync that only plans.
	AutoApply bool
}

// Content gives the content of a blob by digest.
type Content interface {
	Blob(ctx context.Context, digest fleet.Digest) ([]byte, error)
}

// Fleet is the way to the agents.
type Fleet interface {
	// Observed is the last report of every registered server, connected or not.
	Observed() fleet.Observed
	// Refresh asks the connected servers named (all when empty) to read their engines
	// afresh, waits for the answers within ctx, and returns what is then observed.
	Refresh(ctx context.Context, servers []string) fleet.Observed
	// Dispatch sends an order and waits for its outcome, across reconnects. The error is
	// for orders that never reached the agent.
	Dispatch(ctx context.Context, order fleet.Order, content Content, progress func(fleet.Progress)) (fleet.Outcome, error)
}

// Journal is the durable record. Everything is recorded before it is done.
type Journal interface {
	// Inventory is what the sync owns; Foreign what the other syncs own, stack to sync.
	Inventory(ctx context.Context, sync string) (owned []plan.Owned, foreign map[string]string, err error)
	// Records are what the sync's last applied commit declared, and the other syncs that own
	// resources, by id. Record makes changes of them, with what desired says of each; it
	// fails when another sync came first.
	Records(ctx context.Context, sync string) (own []fleet.Resource, foreign map[string]string, err error)
	Record(ctx context.Context, run Run, desired fleet.Desired, changes []plan.ResourceChange) error
	// Adopt makes the sync the owner of stacks that run as it says and that nobody owns.
	Adopt(ctx context.Context, sync string, stacks []plan.Owned) error
	// Planned records that a pass found a plan, or states of stacks, that differ from those
	// before, and what woke it.
	Planned(ctx context.Context, sync string, trigger Trigger, actor string, p plan.Plan) error
	// Begin records a run with its plan before anything is executed.
	Begin(ctx context.Context, run Run) error
	// OpStarted and OpEnded record one op; OpEnded is called only for ops that were
	// started, the results of the others come with End. OpEnded also keeps the inventory:
	// a successful create, update or heal owns (with the op's StackAfter as Owned.After), a
	// successful remove disowns.
	OpStarted(ctx context.Context, run, order string, op plan.Op) error
	OpEnded(ctx context.Context, run string, op plan.Op, result OpResult) error
	// End closes a run.
	End(ctx context.Context, run string, result RunResult) error
}
