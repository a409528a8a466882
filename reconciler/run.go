package reconciler

import (
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// Trigger says what woke a sync.
type Trigger string

// The triggers.
const (
	TriggerPoll    Trigger = "poll"    // the sync's own interval
	TriggerWebhook Trigger = "webhook" // a Git host said so
	TriggerManual  Trigger = "manual"  // a person or a script, through the API
	TriggerReport  Trigger = "report"  // an agent reported a change
	TriggerResult  Trigger = "result"  // an order ended
	TriggerStart   Trigger = "start"   // core started
	TriggerTime    Trigger = "time"    // a window, a suspension or a pause of a rollout ended
	// TriggerSchedule is a time of a procedure's schedule.
	TriggerSchedule Trigger = "schedule"
)

// Run is one execution of one plan.
type Run struct {
	// ID is unique and sorts by time.
	ID      string  `json:"id"`
	Sync    string  `json:"sync"`
	Trigger Trigger `json:"trigger"`
	// Actor is who asked: "webhook", "poll" or the name of an API key.
	Actor string `json:"actor"`
	// Parent is the run of a procedure that asked for this one.
	Parent string    `json:"parent,omitempty"`
	Plan   plan.Plan `json:"plan"`
	// Approved are the ids of the gates a person consented to.
	Approved []string  `json:"approved,omitempty"`
	Started  time.Time `json:"started"`
}

// OpStatus is how an op of a run ended.
type OpStatus string

// The ways an op ends.
const (
	OpSucceeded  OpStatus = "succeeded"
	OpRolledBack OpStatus = "rolled_back"
	OpFailed     OpStatus = "failed"
	// OpSkipped: something it comes after did not succeed, or a gate is closed.
	OpSkipped OpStatus = "skipped"
	// OpStale: what was observed moved since the plan was made (saved plans only).
	OpStale OpStatus = "stale"
	// OpCanceled: core shut down or a newer commit superseded it before it started.
	OpCanceled OpStatus = "canceled"
)

// OpResult is the recorded end of one op.
type OpResult struct {
	Op      string        `json:"op"`
	Status  OpStatus      `json:"status"`
	Reason  string        `json:"reason,omitempty"`
	Outcome fleet.Outcome `json:"outcome,omitzero"`
	Ended   time.Time     `json:"ended"`
}

// RunResult is the recorded end of a run.
type RunResult struct {
	Status OpStatus   `json:"status"`
	Ops    []OpResult `json:"ops"`
	Ended  time.Time  `json:"ended"`
}
