package api

import (
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// Status is the whole fleet on one page.
type Status struct {
	Servers []Server `json:"servers"`
	Stacks  []Stack  `json:"stacks"`
	Syncs   []Sync   `json:"syncs"`
	// Suspensions are those in force, Rollouts those that are not done.
	Suspensions []plan.Suspension `json:"suspensions,omitempty"`
	Rollouts    []plan.Rollout    `json:"rollouts,omitempty"`
	// Warnings are sentences about core itself: that its disk is nearly full.
	Warnings []string `json:"warnings,omitempty"`
}

// Server is a Docker host as core knows it.
type Server struct {
	Name string     `json:"name"`
	Tags []string   `json:"tags,omitempty"`
	Tier fleet.Tier `json:"tier"`
	// Online says whether its agent is connected.
	Online bool `json:"online"`
	// Pending servers joined with a reusable token and wait for approval.
	Pending bool `json:"pending,omitempty"`
	// Disabled servers joined, and their key is refused until somebody enables them.
	Disabled bool `json:"disabled,omitempty"`
	// Declared says whether a sync declares it; Enabled means something only then.
	Declared bool            `json:"declared"`
	Enabled  bool            `json:"enabled"`
	Agent    fleet.AgentInfo `json:"agent,omitzero"`
	// PublicKey is the agent's key; empty for a server that is only declared.
	PublicKey   string    `json:"public_key,omitempty"`
	OnboardedAt time.Time `json:"onboarded_at,omitzero"`
	// OnboardingKey is the id of the key it joined with, RemoteAddr where it came from.
	OnboardingKey string `json:"onboarding_key,omitempty"`
	RemoteAddr    string `json:"remote_addr,omitempty"`
	// Dial is there for a server that core dials.
	Dial *Dial `json:"dial,omitempty"`
	// LastSeen is the time of the last report, or of the disconnect.
	LastSeen time.Time `json:"last_seen,omitzero"`
	// ClockSkewMS is how many milliseconds the agent's clock is ahead of core's.
	ClockSkewMS int64 `json:"clock_skew_ms,omitempty"`
	// Sync and Health sum up the server's stacks: the worst of each axis.
	Sync   fleet.SyncState   `json:"sync"`
	Health fleet.HealthState `json:"health"`
	// Text says in a few words why it is not Synced and Healthy.
	Text   string `json:"text,omitempty"`
	Stacks int    `json:"stacks"`
}

// Dial is what became of dialling the agent at a server's address.
type Dial struct {
	Address string `json:"address"`
	Text    string `json:"text"`
	// AttemptedKey is the key that an agent there showed and core did not know as the server's.
	AttemptedKey         string `json:"attempted_public_key,omitempty"`
	AttemptedFingerprint string `json:"attempted_fingerprint,omitempty"`
}

// AcceptKey is the key that a server's agent is to be known by.
type AcceptKey struct {
	PublicKey string `json:"public_key" doc:"base64 or PEM, as the agent logs it at its first start"`
}

// Stack is one stack on the two axes.
type Stack struct {
	Name   string            `json:"name"`
	Server string            `json:"server"`
	Origin fleet.Position    `json:"origin,omitzero"`
	Source string            `json:"source,omitempty"`
	Sync   fleet.SyncState   `json:"sync"`
	Health fleet.HealthState `json:"health"`
	Text   string            `json:"text,omitempty"`
	// Commit is what runs; zero when nothing deployed by us does.
	Commit     fleet.Commit      `json:"commit,omitzero"`
	DeployedAt time.Time         `json:"deployed_at,omitzero"`
	Containers []fleet.Container `json:"containers,omitempty"`
}

// Diff is what applying would change in one stack.
type Diff struct {
	Stack   string       `json:"stack"`
	Server  string       `json:"server"`
	Source  string       `json:"source"`
	Desired fleet.Commit `json:"desired"`
	Running fleet.Commit `json:"running,omitzero"`
	// Ops are the plan's ops for the stack: none when nothing differs, two when it moves.
	Ops     []plan.Op      `json:"ops"`
	Blocked []plan.Blocked `json:"blocked,omitempty"`
	Gates   []plan.Gate    `json:"gates,omitempty"`
	Notices []plan.Notice  `json:"notices,omitempty"`
}

// Why explains one stack, server, sync or procedure. It always has a Summary.
type Why struct {
	// Kind is "stack", "server", "sync" or "procedure".
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Known is false when there is none of that name; Closest then holds similar names.
	Known   bool              `json:"known"`
	Closest []string          `json:"closest,omitempty"`
	Server  string            `json:"server,omitempty"`
	Source  string            `json:"source,omitempty"`
	Origin  fleet.Position    `json:"origin,omitzero"`
	Sync    fleet.SyncState   `json:"sync"`
	Health  fleet.HealthState `json:"health"`
	// Summary is the answer in one sentence.
	Summary string       `json:"summary"`
	Desired fleet.Commit `json:"desired,omitzero"`
	Running fleet.Commit `json:"running,omitzero"`
	// Details are the facts behind the summary, the most telling first.
	Details []WhyDetail `json:"details,omitempty"`
	// LastOp is the last thing done to the stack.
	LastOp *Op `json:"last_op,omitempty"`
	// Because are the newest record of a change and what led to it, the first cause last: of a
	// container, its op, the run of a commit, a procedure, its schedule. Good are the same of the
	// newest that succeeded, when that is another.
	Because []Event `json:"because,omitempty"`
	Good    []Event `json:"good,omitempty"`
	// Next says what to do, each a sentence or a command.
	Next []string `json:"next,omitempty"`
}

// WhyDetail is one fact: what, where it runs, and where it was written.
type WhyDetail struct {
	// Kind is a plan.CauseKind or "bad", "blocked", "gate", "notice", "last", "container",
	// "invalid", "error", "suspended", "update", "elsewhere", "server", "stack", "due", "poll", "run",
	// "schedule" or "skipped".
	Kind    string `json:"kind"`
	Service string `json:"service,omitempty"`
	Action  string `json:"action,omitempty"`
	Field   string `json:"field,omitempty"`
	// Text is the whole fact as a sentence.
	Text   string         `json:"text"`
	Origin fleet.Position `json:"origin,omitzero"`
}

// LogLine is one line of a stack's logs.
type LogLine struct {
	Service   string    `json:"service"`
	Container string    `json:"container"`
	Stderr    bool      `json:"stderr,omitempty"`
	Time      time.Time `json:"time,omitzero"`
	Text      string    `json:"text"`
	// Error ends a stream that broke; nothing else is set then.
	Error *Error `json:"error,omitempty"`
}

// LogsRequest narrows a stream of logs.
type LogsRequest struct {
	// Server is needed only when several servers run the stack.
	Server  string
	Service string
	Follow  bool
	// Tail is how many lines of each container to start with; zero means 100, -1 all.
	Tail       int
	Timestamps bool
}
