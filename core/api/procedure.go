package api

import (
	"time"

	"github.com/varanhq/varan/fleet"
)

// Procedure is a declared procedure with its last run.
type Procedure struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Tags        []string `json:"tags,omitempty"`
	// Inputs are what a run of it may be told.
	Inputs []fleet.Input `json:"inputs,omitempty"`
	Stages []fleet.Stage `json:"stages"`
	// Timetable is when it runs by itself.
	Timetable fleet.Timetable `json:"timetable,omitzero"`
	// Source is the sync that declares it, or OwnSource.
	Source string         `json:"source"`
	Origin fleet.Position `json:"origin,omitzero"`
	// Webhook says whether a webhook can run it: it needs a secret, of its own or core's.
	Webhook bool          `json:"webhook"`
	LastRun *ProcedureRun `json:"last_run,omitempty"`
}

// ProcedureStatus is how far a run or a step is, or how it ended.
type ProcedureStatus string

// The statuses. ProcedureInterrupted: core stopped before the end was known.
const (
	ProcedureQueued      ProcedureStatus = "queued"
	ProcedureRunning     ProcedureStatus = "running"
	ProcedureWaiting     ProcedureStatus = "waiting" // for an approval
	ProcedureSucceeded   ProcedureStatus = "succeeded"
	ProcedureFailed      ProcedureStatus = "failed"
	ProcedureCanceled    ProcedureStatus = "canceled"
	ProcedureInterrupted ProcedureStatus = "interrupted"
)

// ProcedureRun is one run of a procedure, or of a single execution.
type ProcedureRun struct {
	ID string `json:"id"`
	// Procedure is empty for a single execution.
	Procedure string `json:"procedure,omitempty"`
	// Parent is the run whose execution started this one.
	Parent  string          `json:"parent,omitempty"`
	Trigger string          `json:"trigger"`
	Actor   string          `json:"actor"`
	Status  ProcedureStatus `json:"status"`
	Reason  string          `json:"reason,omitempty"`
	// Inputs are what this run was told, with the defaults of what it was not.
	Inputs map[string]string `json:"inputs,omitempty"`
	Stages []fleet.Stage     `json:"stages"`
	// Steps are left out of lists.
	Steps   []ProcedureStep `json:"steps,omitempty"`
	Created time.Time       `json:"created"`
	Started time.Time       `json:"started,omitzero"`
	Ended   time.Time       `json:"ended,omitzero"`
}

// ProcedureStep is one execution on one target.
type ProcedureStep struct {
	Number int `json:"number"`
	// Stage is the index of its stage.
	Stage  int             `json:"stage"`
	Type   string          `json:"type"`
	Target string          `json:"target,omitempty"`
	Stack  string          `json:"stack,omitempty"`
	Server string          `json:"server,omitempty"`
	Status ProcedureStatus `json:"status"`
	// Attempts counts how often it was begun. MayFail keeps its failure from being the run's.
	Attempts int  `json:"attempts,omitempty"`
	MayFail  bool `json:"may_fail,omitempty"`
	// Reason says why it did not succeed, Text what it did.
	Reason string `json:"reason,omitempty"`
	Text   string `json:"text,omitempty"`
	// Run is the run of a sync or a procedure that it made.
	Run     string    `json:"run,omitempty"`
	Log     string    `json:"log,omitempty"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
}

// RunRequest starts a procedure.
type RunRequest struct {
	// Inputs are for those that the procedure declares.
	Inputs map[string]string `json:"inputs,omitempty" maxProperties:"64"`
	// Detach ends the answer once the run is on record.
	Detach bool `json:"detach,omitempty"`
}

// ExecutionRequest runs a single execution.
type ExecutionRequest struct {
	// Type is like "DeployStack", Params its parameters; lists are separated by commas.
	Type   string            `json:"type" maxLength:"64"`
	Params map[string]string `json:"params,omitempty"`
	Detach bool              `json:"detach,omitempty"`
}

// ProcedureEvent is one line of the answer to running a procedure.
type ProcedureEvent struct {
	// Kind is "queued", "started", "stage", "step_started", "progress", "step_ended", "waiting", "ended"
	// or, last in place of "ended", "error".
	Kind string    `json:"kind"`
	At   time.Time `json:"at"`
	// ID is that of the run.
	ID    string         `json:"id,omitempty"`
	Stage int            `json:"stage"`
	Text  string         `json:"text,omitempty"`
	Step  *ProcedureStep `json:"step,omitempty"`
	Run   *ProcedureRun  `json:"run,omitempty"`
	Error *Error         `json:"error,omitempty"`
}

// Canceled says how many runs will start no further stage.
type Canceled struct {
	Runs int `json:"runs"`
}

// DecisionRequest approves or rejects a run that waits.
type DecisionRequest struct {
	Approve bool `json:"approve"`
	// Reason is kept with the decision; optional.
	Reason string `json:"reason,omitempty" maxLength:"1000"`
}
