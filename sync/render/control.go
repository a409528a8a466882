package render

import (
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/spec"
)

// rolloutOf is how a stack on several servers is deployed; nil is on all at once. A batch
// that cannot be read was told when the file was.
func rolloutOf(r *spec.Rollout) *fleet.Rollout {
	if !r.Declared() {
		return nil
	}
	size, percent, err := r.Size()
	if err != nil {
		size, percent = 1, false
	}
	return &fleet.Rollout{
		Batch: size, Percent: percent, Canary: r.Canary, Order: r.Order,
		MaxFailures: r.MaxFailures, Pause: r.Pause, OnFailure: fleet.RolloutFailure(r.OnFailure),
	}
}

// windowOf is a sync window as plans have it.
func windowOf(w *spec.SyncWindow) fleet.SyncWindow {
	return fleet.SyncWindow{
		Kind: fleet.WindowKind(w.Kind), Schedule: w.Schedule, Duration: w.Duration, Timezone: w.Timezone,
		Stacks: w.Stacks, Tags: w.Tags, Servers: w.Servers, ServerTags: w.ServerTags, Manual: w.Manual, Origin: w.Pos,
	}
}
