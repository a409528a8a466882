package reconciler

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/varanhq/varan/reconciler/plan"
)

// UpdateRequest asks for newer images of a stack that runs as it is declared.
type UpdateRequest struct {
	Sync, Stack, Server string
	// Causes say which services have a newer image, and which.
	Causes map[string]plan.Cause
	// All renews the images of all services, not only of those.
	All bool
	// Actor and Parent are as in ApplyRequest.
	Actor, Parent string
	// Watch is as in ApplyRequest.
	Watch func(Event)
}

// Update brings newer images to a stack on one server. It is a run like any other: it is on
// record, takes its turn, is rolled back when it does not go well, and what keeps a deploy
// from being done keeps it from being done too. That is an ErrKeptBack.
func (r *Reconciler) Update(ctx context.Context, req UpdateRequest) (Run, OpResult, error) {
	l, ok := r.find(req.Sync)
	if !ok {
		return Run{}, OpResult{}, fmt.Errorf("update %s: %w", req.Stack, ErrUnknownSync)
	}
	loaded, err := l.read(ctx)
	if err != nil {
		return Run{}, OpResult{}, err
	}
	l.noticed(loaded)
	if loaded.Diagnostics.HasErrors() {
		return Run{}, OpResult{}, loaded.Diagnostics
	}
	in, err := r.input(ctx, req.Sync, &loaded, loaded.Policy)
	if err != nil {
		return Run{}, OpResult{}, err
	}
	in.Observed = r.refresh(ctx, []string{req.Server})
	images, whyNot := plan.ForImages(in, req.Stack, req.Server, req.Causes)
	if whyNot != "" {
		return Run{}, OpResult{}, fmt.Errorf("update %s on %s: %w: %s", req.Stack, req.Server, ErrKeptBack, whyNot)
	}
	run := Run{Sync: req.Sync, Trigger: TriggerManual, Actor: req.Actor, Parent: req.Parent, Plan: images}
	e := l.prepare(run, &loaded, &in, ApplyRequest{Watch: req.Watch})
	// A deploy that gets its turn first must not be undone.
	e.images, e.verify = []string{}, true
	if !req.All {
		e.images = slices.Sorted(maps.Keys(req.Causes))
	}
	run, result, err := r.await(ctx, e)
	if err != nil {
		return run, OpResult{}, err
	}
	return run, result.Ops[0], nil
}
