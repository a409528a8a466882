package procedure

import (
	"context"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
)

// Status is how far a run or a step is, or how it ended.
type Status string

// The statuses. StatusInterrupted is only ever set by whoever finds a record that a process
// left behind: nothing is run a second time by itself.
const (
	StatusQueued      Status = "queued"
	StatusRunning     Status = "running"
	StatusWaiting     Status = "waiting" // for an approval
	StatusSucceeded   Status = "succeeded"
	StatusFailed      Status = "failed"
	StatusCanceled    Status = "canceled"
	StatusSkipped     Status = "skipped"
	StatusInterrupted Status = "interrupted"
)

// Run is one run of a procedure, or of a single execution.
type Run struct {
	// ID is unique and sorts by time.
	ID string `json:"id"`
	// Procedure is the name; empty for a single execution.
	Procedure string `json:"procedure,omitempty"`
	// Parent is the run whose execution started this one.
	Parent  string             `json:"parent,omitempty"`
	Trigger reconciler.Trigger `json:"trigger"`
	Actor   string             `json:"actor"`
	Status  Status             `json:"status"`
	// Reason is a sentence; empty on success.
	Reason string `json:"reason,omitempty"`
	// Inputs are what this run was told, with the defaults of what it was not.
	Inputs map[string]string `json:"inputs,omitempty"`
	// ParentStep is the number of the step of Parent that this run is.
	ParentStep int `json:"parent_step,omitempty"`
	// Fire is the time that the run is for, when it is one of a schedule.
	Fire *Fire `json:"fire,omitempty"`
	// Cause is the number of the record in the history that led to it, of a delivery say.
	Cause int64 `json:"cause,omitempty"`
	// FailureAlert is what the procedure says about a run that fails.
	FailureAlert bool `json:"failure_alert,omitempty"`
	// Stages are what is run, as it was declared when the run began.
	Stages  []fleet.Stage `json:"stages"`
	Steps   []Step        `json:"steps"`
	Created time.Time     `json:"created"`
	Started time.Time     `json:"started,omitzero"`
	Ended   time.Time     `json:"ended,omitzero"`
}

// Step is one execution on one target: a batch is a step for each resource.
type Step struct {
	// Number is unique in its run and counts from 1.
	Number int `json:"number"`
	// Stage is the index of its stage.
	Stage int    `json:"stage"`
	Type  string `json:"type"`
	// Target is what it is about: "web", or "web@alpha" where there are several.
	Target string `json:"target,omitempty"`
	// Stack and Server are set when it is about one.
	Stack  string `json:"stack,omitempty"`
	Server string `json:"server,omitempty"`
	Status Status `json:"status"`
	// Attempts counts how often it was begun. MayFail keeps its failure from being the run's.
	Attempts int  `json:"attempts,omitempty"`
	MayFail  bool `json:"may_fail,omitempty"`
	// Reason says why it did not succeed, Text what it did.
	Reason string `json:"reason,omitempty"`
	Text   string `json:"text,omitempty"`
	// Run is the run of a sync or procedure that it made.
	Run string `json:"run,omitempty"`
	// Log is the tail of what the engine said when it failed.
	Log     string    `json:"log,omitempty"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
}

// EventKind says what happened in a run.
type EventKind string

// The kinds of event.
const (
	EventQueued      EventKind = "queued"  // on record, and waits for its turn
	EventStarted     EventKind = "started" // Run is set
	EventStage       EventKind = "stage"   // a stage begins
	EventStepStarted EventKind = "step_started"
	EventProgress    EventKind = "progress" // Text is the news of a step
	EventStepEnded   EventKind = "step_ended"
	EventWaiting     EventKind = "waiting" // Step is the approval
	EventEnded       EventKind = "ended"   // Run is set, with all its steps
)

// Event is one piece of news of a run.
type Event struct {
	Kind EventKind `json:"kind"`
	At   time.Time `json:"at"`
	// ID is that of the run.
	ID    string `json:"id"`
	Stage int    `json:"stage"`
	Text  string `json:"text,omitempty"`
	Step  *Step  `json:"step,omitempty"`
	Run   *Run   `json:"run,omitempty"`
}

// Request asks for a run. Exactly one of Procedure and Execution is set.
type Request struct {
	Procedure string
	Execution *fleet.Execution
	// Inputs are for the procedure's.
	Inputs  map[string]string
	Trigger reconciler.Trigger
	// Actor is the name of the person, key or host that asked.
	Actor string
	// Fire is the time of a schedule that the run is for.
	Fire *Fire
	// Cause is the number of the record in the history that led to it; zero when none did.
	Cause int64
	// Coalesce lets a run of the same procedure that still waits for its turn stand for
	// this one too.
	Coalesce bool
	// Watch is called with the events of this run, one at a time; optional. It must not block.
	Watch func(Event)
}

// Journal is the durable record of runs. What has no end in it when a process begins was
// interrupted, but for what Resumable chooses.
type Journal interface {
	// BeginProcedure records a run that waits for its turn, and with it that the time it is for
	// is dealt with; ProcedureStarted that it has it.
	BeginProcedure(ctx context.Context, run Run) error
	ProcedureStarted(ctx context.Context, run string, at time.Time) error
	// StageStarted records the steps of a stage before any of them begins. One that waits makes
	// its run wait, until it ends.
	StageStarted(ctx context.Context, run string, steps []Step) error
	// StepStarted records a step before it is done; StepEnded its end, or one that never began.
	StepStarted(ctx context.Context, run string, step Step) error
	StepEnded(ctx context.Context, run string, step Step) error
	EndProcedure(ctx context.Context, run Run) error
	// OpenProcedures are the runs without an end, with their steps.
	OpenProcedures(ctx context.Context) ([]Run, error)
}

// Catalog is what can be run and on what, at one moment.
type Catalog struct {
	Procedures []fleet.Procedure
	// Suspended says of procedures that people suspended by whom and why.
	Suspended map[string]string
	// Stacks are those of all syncs and kinds, one for each server.
	Stacks  []Target
	Syncs   []string
	Servers []string
}

// Target is a stack, deployment or repo on a server.
type Target struct {
	Name, Server, Sync string
	Kind               fleet.Kind
	Tags               []string
}
