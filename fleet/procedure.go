package fleet

import (
	"fmt"
	"strings"
	"time"
)

// Procedure is a [[procedure]]: stages that run one after the other. What is in a stage runs
// at the same time.
type Procedure struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Tags        []string `json:"tags,omitempty"`
	// Inputs are what whoever starts a run may say of it.
	Inputs []Input `json:"inputs,omitempty"`
	Stages []Stage `json:"stages"`
	// FailureAlert asks for an alert when a run fails.
	FailureAlert bool `json:"failure_alert,omitempty"`
	// Webhook lets a webhook run it that proves to know WebhookSecret, or core's own where
	// it has none.
	Webhook       bool   `json:"webhook,omitempty"`
	WebhookSecret Secret `json:"-"`
	// Timetable is when it runs by itself.
	Timetable Timetable `json:"timetable,omitzero"`
	// Origin is where it is declared.
	Origin Position `json:"origin,omitzero"`
}

// Timetable is when something runs by itself; never, without a Schedule.
type Timetable struct {
	// Schedule is in the Format English or Cron, and in the Zone, or in core's without one.
	Schedule string `json:"schedule,omitempty"`
	Format   string `json:"format,omitempty"`
	Zone     string `json:"timezone,omitempty"`
	Enabled  bool   `json:"enabled,omitempty"`
	// Alert asks for an alert at each run.
	Alert bool `json:"alert,omitempty"`
	// Missed and Overlap say what becomes of times that passed unseen, and of one at which an
	// earlier run is not over.
	Missed  MissedPolicy  `json:"missed,omitempty"`
	Overlap OverlapPolicy `json:"overlap,omitempty"`
	// Jitter is how much later than the schedule says it may run.
	Jitter time.Duration `json:"jitter,omitempty"`
}

// MissedPolicy is what becomes of times that passed while core did not run.
type MissedPolicy string

// The policies. However many times were missed, MissedRunOnce makes up for them with one run.
const (
	MissedRunOnce MissedPolicy = "run_once"
	MissedSkip    MissedPolicy = "skip"
)

// OverlapPolicy is what becomes of a time at which an earlier run is not over.
type OverlapPolicy string

// The policies. Of runs that are queued at most one waits.
const (
	OverlapSkip  OverlapPolicy = "skip"
	OverlapQueue OverlapPolicy = "queue"
)

// Stage is executions that run at the same time, or an approval that is waited for. All
// executions run to their end.
type Stage struct {
	Name    string `json:"name"`
	Enabled bool   `json:"enabled"`
	Policy
	// Approval makes the run wait until somebody approves: one of Approvers, or anybody when
	// there are none. Such a stage has no executions.
	Approval   bool        `json:"approval,omitempty"`
	Approvers  []string    `json:"approvers,omitempty"`
	Executions []Execution `json:"executions"`
}

// Execution is one thing that a stage runs, by Komodo's name for it.
type Execution struct {
	Type    string `json:"type"`
	Enabled bool   `json:"enabled"`
	Policy
	Params []Param  `json:"params,omitempty"`
	Origin Position `json:"origin,omitzero"`
}

// Policy says when a stage or an execution runs, and what becomes of its failures. The zero
// value is what Komodo does.
type Policy struct {
	// When is empty for success, and for an execution for what its stage says.
	When When `json:"when,omitempty"`
	// Timeout bounds a stage as a whole, an execution at each attempt; zero is no bound.
	Timeout Duration `json:"timeout,omitempty"`
	// Retries is how often what failed is tried again, the first time after RetryDelay.
	Retries    int      `json:"retries,omitempty"`
	RetryDelay Duration `json:"retry_delay,omitempty"`
	// ContinueOnError keeps a failure from being one of the stage or the run.
	ContinueOnError bool `json:"continue_on_error,omitempty"`
}

// When is the state of a run in which something of it runs.
type When string

// The states. A run has failed once a stage has.
const (
	WhenSuccess When = "success"
	WhenFailure When = "failure"
	WhenAlways  When = "always"
)

// Holds reports whether something runs now that the run has failed, or has not.
func (w When) Holds(failed bool) bool {
	switch w {
	case WhenAlways:
		return true
	case WhenFailure:
		return failed
	case WhenSuccess:
	}
	return !failed
}

// Duration is a time.Duration that is text such as "1m30s" in JSON.
type Duration time.Duration

// String is like "1m30s".
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("read a duration: %w", err)
	}
	*d = Duration(parsed)
	return nil
}

// RefusedExecution says why an execution that Komodo has is never run; empty for those that are.
func RefusedExecution(typ string) string {
	switch strings.TrimPrefix(typ, "Batch") {
	case "CommitSync":
		return "Git is never written to, only read; varan export writes what core has as files"
	case "RunBuild", "CancelBuild", "BuildRepo", "CancelRepoBuild":
		return "images are built in CI, or by a stack whose Compose file says how; there are no builders"
	case "RunAction", "CancelAction":
		return "scripts are not run in core"
	case "RemoveSwarmNodes", "UpdateSwarmNode", "RemoveSwarmStacks", "RemoveSwarmServices", "CreateSwarmConfig", "RotateSwarmConfig",
		"RemoveSwarmConfigs", "CreateSwarmSecret", "RotateSwarmSecret", "RemoveSwarmSecrets":
		return "swarms are not managed, only Docker hosts"
	}
	return ""
}

// Param is a parameter of an execution. Which field holds the value depends on its kind.
type Param struct {
	Name string   `json:"name"`
	Text string   `json:"text,omitempty"`
	List []string `json:"list,omitempty"`
	Int  int      `json:"int,omitempty"`
	Bool bool     `json:"bool,omitempty"`
	// As is what Text is to become once the inputs are in it; empty for text.
	As ParamForm `json:"as,omitempty"`
}

// ParamForm is what a parameter that is written with inputs is to become.
type ParamForm string

// The forms of parameters besides text.
const (
	ParamInt    ParamForm = "int"
	ParamBool   ParamForm = "bool"
	ParamStack  ParamForm = "stack"  // a stack's name as stacks are called
	ParamObject ParamForm = "object" // JSON, with the inputs in its strings
)

// Param is the parameter of that name; zero when it is not given.
func (e *Execution) Param(name string) Param {
	for _, p := range e.Params {
		if p.Name == name {
			return p
		}
	}
	return Param{}
}

// Text is the text of a parameter; empty when it is not given.
func (e *Execution) Text(name string) string { return e.Param(name).Text }

// List is the list of a parameter; nil when it is not given.
func (e *Execution) List(name string) []string { return e.Param(name).List }

// Int is the number of a parameter; 0 when it is not given.
func (e *Execution) Int(name string) int { return e.Param(name).Int }

// Bool is the flag of a parameter; false when it is not given.
func (e *Execution) Bool(name string) bool { return e.Param(name).Bool }
