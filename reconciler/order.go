package reconciler

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// OrderRequest asks for one order to one stack on one server, outside of any plan: to stop
// it, say. It is for whoever keeps a record of its own.
type OrderRequest struct {
	// Kind is any but OrderApply, OrderRemove and OrderUpdate, which only follow from a plan.
	Kind          fleet.OrderKind
	Sync          string
	Stack, Server string
	Services      []string
	StopSeconds   int
	// StopSignal is what asks the containers to stop; empty is their own.
	StopSignal string
	// Run is what an OrderRun runs.
	Run *fleet.OneOff
	// Timeout bounds the order on the agent; zero leaves that to the agent.
	Timeout time.Duration
	// Watch is called with the progress, one at a time; optional. It must not block for long.
	Watch func(fleet.Progress)
}

// Order gives an order and waits for its outcome. It takes its turn among the orders of
// runs. An error says that it was not carried out; when ctx ends first, what has started is
// seen to its end by the agent.
func (r *Reconciler) Order(ctx context.Context, req OrderRequest) (fleet.Outcome, error) {
	if req.Kind == fleet.OrderApply || req.Kind == fleet.OrderRemove || req.Kind == fleet.OrderUpdate {
		return fleet.Outcome{}, fmt.Errorf("an order of the kind %s needs a plan", req.Kind)
	}
	l, ok := r.find(req.Sync)
	if !ok {
		return fleet.Outcome{}, fmt.Errorf("%s %s: %w", req.Kind, req.Stack, ErrUnknownSync)
	}
	order, content, err := l.direct(ctx, req)
	if err != nil {
		return fleet.Outcome{}, err
	}
	type ending struct {
		outcome fleet.Outcome
		err     error
	}
	done := make(chan ending, 1)
	err = r.spawn(ctx, func(running, work context.Context) {
		starting, cancel := context.WithCancel(running)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		outcome, err := r.give(starting, work, order, content, req.Watch)
		done <- ending{outcome, err}
	})
	if err != nil {
		return fleet.Outcome{}, fmt.Errorf("%s %s: %w", req.Kind, req.Stack, err)
	}
	select {
	case end := <-done:
		return end.outcome, end.err
	case <-ctx.Done():
		return fleet.Outcome{}, fmt.Errorf("wait for the outcome of %s %s: %w", req.Kind, req.Stack, ctx.Err())
	}
}

// direct makes the order, from what is desired.
func (l *loop) direct(ctx context.Context, req OrderRequest) (fleet.Order, Content, error) {
	l.mu.Lock()
	good := l.good
	l.mu.Unlock()
	if good == nil {
		read, err := l.read(ctx)
		if err != nil {
			return fleet.Order{}, nil, err
		}
		if read.Diagnostics.HasErrors() {
			return fleet.Order{}, nil, read.Diagnostics
		}
		good = &read
	}
	i := slices.IndexFunc(good.Desired.Stacks, func(s fleet.Stack) bool { return s.Name == req.Stack && s.Server == req.Server })
	if i < 0 {
		return fleet.Order{}, nil, fmt.Errorf("commit %s of sync %s declares no stack %s on server %s",
			good.Desired.Commit.Short(), req.Sync, req.Stack, req.Server)
	}
	release := good.Desired.Stacks[i].Release
	order := fleet.Order{
		ID: uuid.Must(uuid.NewV7()).String(), Kind: req.Kind, Stack: req.Stack, Server: req.Server,
		Project: release.Project, Services: req.Services, StopSeconds: req.StopSeconds,
		StopSignal: req.StopSignal, Run: req.Run, Timeout: req.Timeout,
		Tier: tierOf(good.Desired, req.Server),
	}
	if req.Kind == fleet.OrderPull {
		order.Release = release
	} else if report, ok := l.r.cfg.Fleet.Observed()[req.Server].Stack(req.Stack); ok && report.Project != "" {
		order.Project = report.Project // what runs, should the project's name be about to change
	}
	return order, good.Content, nil
}

// tierOf is what a release for a server was made for.
func tierOf(desired fleet.Desired, server string) fleet.Tier {
	for i := range desired.Servers {
		if desired.Servers[i].Name == server && desired.Servers[i].Tier == fleet.TierUntrusted {
			return fleet.TierUntrusted
		}
	}
	return ""
}

// give waits for the order's turn and sends it.
func (r *Reconciler) give(
	starting, work context.Context, order fleet.Order, content Content, watch func(fleet.Progress),
) (fleet.Outcome, error) {
	turn, err := r.stacks.acquire(starting, order.Stack+"@"+order.Server)
	if err != nil {
		return fleet.Outcome{}, fmt.Errorf("wait for the turn of %s: %w", order.Stack, err)
	}
	defer turn()
	slot, err := r.servers.acquire(starting, order.Server)
	if err != nil {
		return fleet.Outcome{}, fmt.Errorf("wait for the turn of %s: %w", order.Server, err)
	}
	defer slot()
	if watch == nil {
		watch = func(fleet.Progress) {}
	}
	before, _ := r.cfg.Fleet.Observed()[order.Server].Stack(order.Stack)
	outcome, err := r.cfg.Fleet.Dispatch(work, order, content, watch)
	if err != nil {
		return outcome, err
	}
	if order.Kind != fleet.OrderPull && order.Kind != fleet.OrderRun && outcome.Status == fleet.OutcomeSucceeded {
		// The next plan must see it, or it would repair what was just done.
		r.seen(work, order, plan.Fingerprint(before))
	}
	r.PokeServer(order.Server, []string{order.Stack})
	return outcome, nil
}

// seen waits a bounded time until what is observed is no longer as it was.
func (r *Reconciler) seen(work context.Context, order fleet.Order, before string) {
	report, _ := r.cfg.Fleet.Observed()[order.Server].Stack(order.Stack)
	if plan.Fingerprint(report) != before {
		return
	}
	ctx, cancel := context.WithTimeout(work, min(r.cfg.Refresh, 5*time.Second))
	defer cancel()
	r.cfg.Fleet.Refresh(ctx, []string{order.Server})
}
