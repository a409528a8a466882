package fleet

import (
	"fmt"
	"time"
)

// OrderKind is what an agent is asked to do with one stack.
type OrderKind string

// The kinds of order. Each is idempotent: doing it twice is doing it once.
const (
	// OrderApply makes the host run Release, or puts the last good one back.
	OrderApply OrderKind = "apply"
	// OrderHeal puts back what is missing of Release, the last good one, with what is on the
	// host. Agents give it to themselves while core is away; it does nothing where core has
	// ordered something else since.
	OrderHeal OrderKind = "heal"
	// OrderAdopt takes over the Compose project that runs under Release's name, if each of
	// its containers is what the release asks for: nothing is recreated. An apply does the
	// same where it meets such a project.
	OrderAdopt OrderKind = "adopt"
	// OrderRemove takes the stack down. Named volumes stay unless Volumes is set.
	OrderRemove OrderKind = "remove"
	// OrderRestart restarts Services (all when empty) without recreating them.
	OrderRestart OrderKind = "restart"
	// OrderStop stops Services (all when empty); the stack stays stopped.
	OrderStop OrderKind = "stop"
	// OrderStart starts what OrderStop stopped.
	OrderStart OrderKind = "start"
	// OrderPause freezes Services (all when empty); the stack stays so until OrderUnpause.
	OrderPause   OrderKind = "pause"
	OrderUnpause OrderKind = "unpause"
	// OrderDown takes Services (all when empty) down and remembers the stack: it stays
	// down until somebody deploys it. Volumes and what a rollback needs are kept.
	OrderDown OrderKind = "down"
	// OrderPull fetches the images of Release and touches no container.
	OrderPull OrderKind = "pull"
	// OrderUpdate fetches the images of Services (all when empty) and applies Release, which
	// runs already, so that what has a newer image is recreated. When that does not go well,
	// the images that ran are put back; the release is none the worse for it.
	OrderUpdate OrderKind = "update"
	// OrderRun runs one more container of a service, as OneOff says, to its end. The id of
	// the order is on the container: it is never run twice.
	OrderRun OrderKind = "run"
)

// OneOff is a container that runs once, of a service of what a host runs. What is empty is
// as the service has it.
type OneOff struct {
	Service string `json:"service"`
	// Command and Entrypoint are arguments, which no shell reads.
	Command    []string          `json:"command,omitempty"`
	Entrypoint []string          `json:"entrypoint,omitempty"`
	Env        map[string]string `json:"env,omitempty"`
	WorkDir    string            `json:"workdir,omitempty"`
	User       string            `json:"user,omitempty"`
	// NoDeps leaves what the service depends on as it is; else it is started.
	NoDeps bool `json:"no_deps,omitempty"`
	// ServicePorts publishes the service's ports.
	ServicePorts bool `json:"service_ports,omitempty"`
	// Detach does not wait for the end. The engine removes the container then.
	Detach bool `json:"detach,omitempty"`
	// Pull fetches the service's image first.
	Pull bool `json:"pull,omitempty"`
}

// Order is one piece of work for one stack on one server.
type Order struct {
	// ID is unique over the life of the core; an agent that sees it again answers
	// with the outcome it recorded.
	ID      string    `json:"id"`
	Kind    OrderKind `json:"kind"`
	Stack   string    `json:"stack"`
	Server  string    `json:"server"`
	Project string    `json:"project"`
	// Tier is what core takes the server for: its release and its secrets are for that. An
	// agent whose host says that it is less refuses the release. Empty is TierTrusted.
	Tier Tier `json:"tier,omitempty"`
	// Release is set for OrderApply, OrderAdopt, OrderPull and OrderUpdate only.
	Release Release `json:"release,omitzero"`
	// Services narrows every kind but OrderApply and OrderRemove.
	Services []string `json:"services,omitempty"`
	// Run is set for OrderRun only.
	Run *OneOff `json:"run,omitempty"`
	// StopSeconds is how long a container may take to stop before it is killed; zero
	// leaves that to its own setting.
	StopSeconds int `json:"stop_seconds,omitempty"`
	// StopSignal asks containers to stop where an OrderStop or OrderDown stops them; empty is
	// their own.
	StopSignal string `json:"stop_signal,omitempty"`
	// Volumes also removes named volumes; only ever set by a person's explicit consent.
	Volumes bool `json:"volumes,omitempty"`
	// RecreateVolumes names volumes whose data may be destroyed because their
	// definition changed; only ever set by a person's explicit consent.
	RecreateVolumes []string `json:"recreate_volumes,omitempty"`
	// KeepImages takes the images that are on the host and asks registries only for others: the
	// release is an earlier one, and is to run as it did.
	KeepImages bool `json:"keep_images,omitempty"`
	// SelfHeal has the agent keep the release running by itself while core is away.
	SelfHeal bool `json:"self_heal,omitempty"`
	// Force applies a release although it is remembered as bad.
	Force bool `json:"force,omitempty"`
	// Timeout bounds the whole order on the agent; zero means ten minutes.
	Timeout time.Duration `json:"timeout,omitempty"`
}

// OutcomeStatus is how an order ended.
type OutcomeStatus string

// The ways an order ends.
const (
	// OutcomeSucceeded: the host runs what was asked.
	OutcomeSucceeded OutcomeStatus = "succeeded"
	// OutcomeRolledBack: the release failed and the last good one runs again.
	OutcomeRolledBack OutcomeStatus = "rolled_back"
	// OutcomeFailed: the order failed and there was nothing to go back to, or going
	// back failed too. Nothing was touched when Untouched is set.
	OutcomeFailed OutcomeStatus = "failed"
	// OutcomeCanceled: a person or a shutdown stopped it before anything was touched.
	OutcomeCanceled OutcomeStatus = "canceled"
)

// Outcome is the result of an order.
type Outcome struct {
	Order  string        `json:"order"`
	Stack  string        `json:"stack"`
	Status OutcomeStatus `json:"status"`
	// Reason is a sentence for people; empty on success.
	Reason string `json:"reason,omitempty"`
	// Hint says what to do next; may be empty.
	Hint string `json:"hint,omitempty"`
	// Untouched is set when no container was touched (a missing image, say).
	Untouched bool `json:"untouched,omitempty"`
	// Heal is set for an OrderHeal: core did not give that order. Dropped is how many older
	// ones were never told, because there were too many to keep.
	Heal    bool `json:"heal,omitempty"`
	Dropped int  `json:"dropped,omitempty"`
	// Retryable failures (engine away, registry timeout, core restarted) do not make
	// the release bad; the reconciler tries again with backoff.
	Retryable bool `json:"retryable,omitempty"`
	// Recreated, Started and Removed list the services whose containers changed.
	Recreated []string  `json:"recreated,omitempty"`
	Started   []string  `json:"started,omitempty"`
	Removed   []string  `json:"removed,omitempty"`
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	// Log is the tail of what the engine and the failing containers said, redacted
	// of nothing: a container's own log may hold what it chose to print. At most 64 KiB.
	Log string `json:"log,omitempty"`
}

// Err is nil on success, else an error with the reason.
func (o Outcome) Err() error {
	if o.Status == OutcomeSucceeded {
		return nil
	}
	return fmt.Errorf("%s %s: %s", o.Stack, o.Status, o.Reason)
}

// Phase is a step of an order, as progress shows it.
type Phase string

// The phases of an apply, in order. Rollback follows a failed verdict.
const (
	PhaseQueued   Phase = "queued"
	PhaseFiles    Phase = "files"
	PhasePull     Phase = "pull"
	PhaseBuild    Phase = "build"
	PhaseUp       Phase = "up"
	PhaseVerdict  Phase = "verdict"
	PhaseRollback Phase = "rollback"
	PhaseRemove   Phase = "remove"
	PhaseDone     Phase = "done"
)

// Progress is one line of news about a running order.
type Progress struct {
	Order   string `json:"order"`
	Stack   string `json:"stack"`
	Phase   Phase  `json:"phase"`
	Service string `json:"service,omitempty"`
	// Text is like "pulling layer 3 of 7" or "waiting for health check".
	Text string `json:"text,omitempty"`
	// Percent is 0 to 100; -1 when unknown.
	Percent int       `json:"percent"`
	At      time.Time `json:"at,omitzero"`
}
