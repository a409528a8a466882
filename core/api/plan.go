package api

import (
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// PlanRequest asks what applying a sync would do.
type PlanRequest struct {
	// Only narrows the plan to these stacks ("web") and resources ("procedure/nightly"), also
	// by pattern ("variable/DB_*"); empty means all.
	Only []string `json:"only,omitempty" maxItems:"10000"`
	// Forced stacks are planned for even when they look right.
	Forced []string `json:"forced,omitempty" maxItems:"10000"`
	// Refresh asks the agents to read their engines afresh first.
	Refresh bool `json:"refresh,omitempty"`
	// OverrideWindow plans outside of sync windows that let people.
	OverrideWindow bool `json:"override_window,omitempty"`
}

// PlanResult is a plan with the warnings and notes of its source. A source with errors
// has no plan: the answer is then an Error with CodeInvalid and the diagnostics.
type PlanResult struct {
	Plan        plan.Plan         `json:"plan"`
	Diagnostics fleet.Diagnostics `json:"diagnostics,omitempty"`
}

// UploadRequest plans for a directory that is not, or not yet, in Git. Nothing of it is
// stored.
type UploadRequest struct {
	// Sync is whose place the directory takes: its inventory and policy hold. Empty is
	// right when there is exactly one sync, or none.
	Sync string `json:"sync,omitempty"`
	// Only narrows the plan to these stacks; empty means all.
	Only []string `json:"only,omitempty" maxItems:"10000"`
	// Files are the directory's regular files by slash separated path.
	Files map[string]UploadFile `json:"files"`
}

// UploadFile is one file of an uploaded directory.
type UploadFile struct {
	// Data travels as base64.
	Data       []byte `json:"data"`
	Executable bool   `json:"executable,omitempty"`
}

// ApplyRequest makes a sync's commit so.
type ApplyRequest struct {
	// Saved is a plan to carry out as it is: ops whose stack or commit moved since are
	// stale and do not run.
	Saved *plan.Plan `json:"saved,omitempty"`
	// Only and Forced make a fresh plan, as in PlanRequest.
	Only   []string `json:"only,omitempty" maxItems:"10000"`
	Forced []string `json:"forced,omitempty" maxItems:"10000"`
	// Approved are the ids of the gates consented to.
	Approved []string `json:"approved,omitempty" maxItems:"10000"`
	// OverrideWindow goes outside of sync windows that let people; Reason says why.
	OverrideWindow bool   `json:"override_window,omitempty"`
	Reason         string `json:"reason,omitempty" maxLength:"1000"`
}

// DeployRequest applies one stack even when it looks right or its release is remembered
// as bad.
type DeployRequest struct {
	Approved []string `json:"approved,omitempty" maxItems:"10000"`
	// OverrideWindow and Reason are as in ApplyRequest.
	OverrideWindow bool   `json:"override_window,omitempty"`
	Reason         string `json:"reason,omitempty" maxLength:"1000"`
}

// ApplyEventKind says which fields of an ApplyEvent are set.
type ApplyEventKind string

// The kinds of event, in the order they come. A stream ends with one EventDone or
// EventError; one that ends without has been cut off.
const (
	EventPlan     ApplyEventKind = "plan"     // Run and Plan: what will be done
	EventStarted  ApplyEventKind = "started"  // Op
	EventProgress ApplyEventKind = "progress" // Op and Progress
	EventEnded    ApplyEventKind = "ended"    // Op and Result
	EventDone     ApplyEventKind = "done"     // Run, Done
	EventError    ApplyEventKind = "error"    // Error
)

// ApplyEvent is one line of an apply's stream.
type ApplyEvent struct {
	Kind ApplyEventKind `json:"kind"`
	At   time.Time      `json:"at,omitzero"`
	Run  string         `json:"run,omitempty"`
	// Op is the id of a plan.Op.
	Op       string          `json:"op,omitempty"`
	Plan     *plan.Plan      `json:"plan,omitempty"`
	Progress *fleet.Progress `json:"progress,omitempty"`
	Result   *Op             `json:"result,omitempty"`
	Done     *RunResult      `json:"done,omitempty"`
	Error    *Error          `json:"error,omitempty"`
}

// OpStatus is how an op ended; empty while it runs.
type OpStatus string

// The ways an op, or a whole run, ends.
const (
	OpRunning     OpStatus = "running"
	OpSucceeded   OpStatus = "succeeded"
	OpRolledBack  OpStatus = "rolled_back"
	OpFailed      OpStatus = "failed"
	OpSkipped     OpStatus = "skipped"
	OpStale       OpStatus = "stale"
	OpCanceled    OpStatus = "canceled"
	OpInterrupted OpStatus = "interrupted" // core stopped before the outcome was known
)

// RunResult is how a run ended.
type RunResult struct {
	Run    string    `json:"run"`
	Status OpStatus  `json:"status"`
	Ops    []Op      `json:"ops"`
	Ended  time.Time `json:"ended,omitzero"`
}

// Op is one op as the journal has it.
type Op struct {
	// Seq numbers the ops of a journal in the order they were recorded; see Page.
	Seq     int64        `json:"seq,omitempty"`
	Run     string       `json:"run"`
	ID      string       `json:"id"`
	Sync    string       `json:"sync"`
	Kind    plan.OpKind  `json:"kind"`
	Stack   string       `json:"stack"`
	Server  string       `json:"server"`
	Commit  fleet.Commit `json:"commit,omitzero"`
	Release fleet.Digest `json:"release,omitempty"`
	Trigger string       `json:"trigger"`
	Actor   string       `json:"actor"`
	Status  OpStatus     `json:"status"`
	Reason  string       `json:"reason,omitempty"`
	Hint    string       `json:"hint,omitempty"`
	Causes  []plan.Cause `json:"causes,omitempty"`
	// Outcome is what the agent answered; zero for an op that never reached one.
	Outcome fleet.Outcome `json:"outcome,omitzero"`
	Started time.Time     `json:"started,omitzero"`
	Ended   time.Time     `json:"ended,omitzero"`
}
