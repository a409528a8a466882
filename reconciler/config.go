package reconciler

import (
	"errors"
	"log/slog"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// Errors that callers branch on.
var (
	// ErrUnknownSync: no sync of that name was added.
	ErrUnknownSync = errors.New("unknown sync")
	// ErrStopped: Run has returned, or the sync was removed.
	ErrStopped = errors.New("reconciler stopped")
	// ErrKeptBack: something keeps a stack from being updated now.
	ErrKeptBack = errors.New("kept back")
)

// Config wires a Reconciler.
type Config struct {
	// Source, Fleet, Journal and Logger are required.
	Source  Source
	Fleet   Fleet
	Journal Journal
	Logger  *slog.Logger
	// Controls remember what people decided; optional, without it nobody decides anything.
	Controls Controls
	// Past reads earlier commits; optional, without it only what agents have can be put back.
	Past Past
	// PerServer is how many orders may be in flight to one server at a time; optional,
	// default 64. The agent throttles its engine itself: this bounds what is queued there.
	PerServer int
	// Drain is how long Run waits for orders in flight once its context ended; optional,
	// default 10 s. Agents finish what they have accepted either way.
	Drain time.Duration
	// Refresh bounds the wait for fresh observations; optional, default 10 s.
	Refresh time.Duration
}

func (c Config) withDefaults() Config {
	if c.Controls == nil {
		c.Controls = undecided{}
	}
	if c.PerServer <= 0 {
		c.PerServer = 64
	}
	if c.Drain <= 0 {
		c.Drain = 10 * time.Second
	}
	if c.Refresh <= 0 {
		c.Refresh = 10 * time.Second
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Source == nil:
		return errors.New("reconciler: Config.Source is required")
	case c.Fleet == nil:
		return errors.New("reconciler: Config.Fleet is required")
	case c.Journal == nil:
		return errors.New("reconciler: Config.Journal is required")
	case c.Logger == nil:
		return errors.New("reconciler: Config.Logger is required")
	}
	return nil
}

// SyncSettings describe a sync to watch.
type SyncSettings struct {
	Name string
	// Interval between looks at the source; default 60 s, spread by a tenth either way.
	Interval time.Duration
}

// PlanRequest asks what would be done.
type PlanRequest struct {
	Sync string
	// Only narrows the plan to these stacks; Forced plans them although they look right.
	Only, Forced []string
	// Refresh has the agents read their engines first.
	Refresh bool
	// Desired is compared instead of the head of the sync; the sync need not exist then.
	Desired *Loaded
	// Holds are planned with as if they were on record.
	Holds []plan.Hold
	// Override plans for a person who works outside the sync windows.
	Override *plan.Override
}

// ApplyRequest asks for work to be done now, whether or not the sync applies by itself.
type ApplyRequest struct {
	Sync string
	// Saved is applied as far as it still holds; the rest of it ends stale. Nil applies
	// a plan computed on the spot.
	Saved *plan.Plan
	// Only and Forced are as in PlanRequest; with Saved they are not used.
	Only, Forced []string
	// StopSeconds is how long a container may take to stop before it is killed; zero leaves
	// that to its own setting.
	StopSeconds int
	// Approved are ids of gates, or plan.KeepApproval of one.
	Approved []string
	// Override goes outside of sync windows that let people.
	Override *plan.Override
	// Actor is the name of the person or key that asked, Parent the run of a procedure that did.
	Actor, Parent string
	// Watch is called with the events of this run, one at a time; optional. It must not
	// block for long.
	Watch func(Event)
}

// Phase is what a sync is doing.
type Phase string

// The phases of a sync.
const (
	PhaseIdle     Phase = "idle"
	PhaseLoading  Phase = "loading"
	PhaseApplying Phase = "applying"
	// PhaseStalled: the head of the branch is invalid; the last good commit stays in force.
	PhaseStalled Phase = "stalled"
	// PhaseFailing: the source or the journal does not answer; it is tried again.
	PhaseFailing Phase = "failing"
)

// SyncStatus is what is known of a sync.
type SyncStatus struct {
	Sync  string `json:"sync"`
	Phase Phase  `json:"phase"`
	// Head is the last commit read, Good the last valid one.
	Head fleet.Commit `json:"head,omitzero"`
	Good fleet.Commit `json:"good,omitzero"`
	// Error is the last failure to load or to plan; empty when the last try worked.
	Error string `json:"error,omitempty"`
	// Diagnostics belong to Head.
	Diagnostics fleet.Diagnostics `json:"diagnostics,omitempty"`
	// Plan is the last one of a pass; Planned tells whether there was any.
	Plan    plan.Plan `json:"plan,omitzero"`
	Planned bool      `json:"planned"`
	// Run is the last run begun; Result is nil while it goes on.
	Run    *Run       `json:"run,omitempty"`
	Result *RunResult `json:"result,omitempty"`
	// AutoApply is what the source said last.
	AutoApply bool      `json:"auto_apply"`
	NextPoll  time.Time `json:"next_poll,omitzero"`
	LastPass  time.Time `json:"last_pass,omitzero"`
	// Passes count looks at the source and the plan that follows; Checks count plans
	// after a report or a result, which do not look at the source.
	Passes uint64 `json:"passes"`
	Checks uint64 `json:"checks"`
}

// EventKind says what happened.
type EventKind string

// The kinds of event.
const (
	EventPlan       EventKind = "plan"        // a pass found a plan that differs from the last
	EventRunStarted EventKind = "run_started" // the run is recorded and about to start
	EventOpStarted  EventKind = "op_started"
	EventProgress   EventKind = "progress"
	EventOpEnded    EventKind = "op_ended"
	EventRunEnded   EventKind = "run_ended"
	EventStatus     EventKind = "status" // a sync stalled, failed or recovered
	// EventHeld: a stack that deploys do not make as it should be is left alone from now on.
	EventHeld EventKind = "held"
	// EventRollout: a rollout began, moved on or ended.
	EventRollout EventKind = "rollout"
)

// Event is one piece of news.
type Event struct {
	Kind EventKind `json:"kind"`
	At   time.Time `json:"at"`
	Sync string    `json:"sync"`
	// Run is empty for plan and status events.
	Run    string `json:"run,omitempty"`
	Op     string `json:"op,omitempty"`
	Stack  string `json:"stack,omitempty"`
	Server string `json:"server,omitempty"`
	// Text says why a status changed.
	Text string `json:"text,omitempty"`
	// Plan is set for EventPlan and EventRunStarted.
	Plan     *plan.Plan      `json:"plan,omitempty"`
	Progress *fleet.Progress `json:"progress,omitempty"`
	// Result is set for EventOpEnded, RunResult for EventRunEnded.
	Result    *OpResult  `json:"result,omitempty"`
	RunResult *RunResult `json:"run_result,omitempty"`
}
