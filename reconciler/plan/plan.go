// Package plan computes what has to be done so that a fleet becomes what a commit
// says. It is pure: the same input always gives the same plan, byte for byte, whether
// it runs in core, in the CLI or in CI.
package plan

import (
	"time"

	"github.com/varanhq/varan/fleet"
)

// Input is everything a plan depends on.
type Input struct {
	Desired  fleet.Desired
	Observed fleet.Observed
	// Inventory is what this sync created before: only these may it remove.
	Inventory []Owned
	// Foreign maps a stack name to the other sync that owns it.
	Foreign map[string]string
	// Records are what core keeps of what this sync's last applied commit declared, and
	// ForeignRecords the other syncs that own resources, by id ("variable/DOMAIN").
	Records        []fleet.Resource
	ForeignRecords map[string]string
	// Elsewhere are stacks of other syncs that this one's come after, by name, and what those
	// come after in turn.
	Elsewhere map[string][]Elsewhere
	Control   Control
	Policy    Policy
	Now       time.Time
}

// Owned is one stack that a sync brought up on a server.
type Owned struct {
	Stack   string `json:"stack"`
	Server  string `json:"server"`
	Project string `json:"project"`
	// Kind is what the stack was declared as; empty means a stack.
	Kind fleet.Kind `json:"kind,omitempty"`
	// After is what the stack declared when it was last applied, so that removals can
	// go in reverse order although Git no longer says it.
	After []string `json:"after,omitempty"`
}

// Policy is what a sync allows.
type Policy struct {
	// Delete removes stacks that left Git. Without it they are reported as orphans. A
	// stack that moved to another server is taken down on the old one either way.
	Delete bool
	// SelfHeal makes ops out of drift. Without it drift is only reported.
	SelfHeal bool
	// MaxRemovals is how many stacks one plan may remove without consent; default 3,
	// negative for none. Moves do not count.
	MaxRemovals int
	// Forced stacks are applied even when they look right or are remembered as bad:
	// a person asked for them.
	Forced []string
	// Only narrows the plan to these stacks and resources, see Selects; empty means all.
	Only []string
	// Windows are when work may be done; Override is a person's wish to do it all the same.
	Windows  []Window
	Override *Override
	// Limits are how much one plan may change without consent.
	Limits fleet.Limits
}

// Plan is an ordered list of work with the reason for each piece of it. It is a plain
// value: it can be stored, shown, compared and approved later.
type Plan struct {
	// ID is a digest of what the plan would do: its time and Stacks are left out, so that
	// the same work found twice has the same ID.
	ID     string       `json:"id"`
	Sync   string       `json:"sync"`
	Commit fleet.Commit `json:"commit"`
	Time   time.Time    `json:"time"`
	// Ops are in dependency order: each comes after everything in its After.
	Ops     []Op      `json:"ops"`
	Blocked []Blocked `json:"blocked,omitempty"`
	Gates   []Gate    `json:"gates,omitempty"`
	// Resources are the changes of what core keeps, in the order they are recorded.
	Resources []ResourceChange `json:"resources,omitempty"`
	// Unmatched are the parts of Policy.Only that name nothing.
	Unmatched []string `json:"unmatched,omitempty"`
	// Notices are facts worth knowing that need no work: orphans, drift that is only
	// reported, a stack someone stopped.
	Notices []Notice `json:"notices,omitempty"`
	Totals  Totals   `json:"totals"`
	// Stacks is one line per desired, orphaned or blocked stack, sorted by server and
	// name, unchanged ones included.
	Stacks []StackState `json:"stacks"`
	// Rollouts are how far stacks on several servers are.
	Rollouts []Rollout `json:"rollouts,omitempty"`
	// Recheck is when the plan may be another although nothing happened: a window opens, a
	// suspension ends. Zero is never.
	Recheck time.Time `json:"recheck,omitzero"`
}

// Empty reports whether there is nothing to do, blocked work included.
func (p Plan) Empty() bool { return len(p.Ops)+len(p.Blocked)+len(p.Resources) == 0 }

// OpKind is what an op does to its stack.
type OpKind string

// The kinds of op.
const (
	OpCreate  OpKind = "create"  // nothing of the stack runs there yet
	OpUpdate  OpKind = "update"  // the release differs from the one that runs
	OpHeal    OpKind = "heal"    // the release is right, what runs is not
	OpRestart OpKind = "restart" // config_files ask for a restart only
	OpRemove  OpKind = "remove"  // the stack left Git, or moved to another server
)

// Op is one order for one stack on one server.
type Op struct {
	// ID is derived from the address: "update web@alpha".
	ID      string       `json:"id"`
	Kind    OpKind       `json:"kind"`
	Stack   string       `json:"stack"`
	Server  string       `json:"server"`
	Project string       `json:"project"`
	Release fleet.Digest `json:"release,omitempty"`
	// StackKind is what the stack was declared as; empty means a stack.
	StackKind fleet.Kind `json:"stack_kind,omitempty"`
	// After lists ids of ops that must succeed first.
	After []string `json:"after,omitempty"`
	// StackAfter names the stacks the stack declares to come after; an inventory keeps
	// it as Owned.After.
	StackAfter []string        `json:"stack_after,omitempty"`
	Services   []ServiceChange `json:"services,omitempty"`
	// Causes say why the op exists at all, the most telling first.
	Causes []Cause `json:"causes"`
	// Gates lists ids of gates that must be approved before the op may run.
	Gates []string `json:"gates,omitempty"`
	// Expect is the fingerprint of the stack as it was observed. A saved plan applies
	// only where it is still the same.
	Expect string         `json:"expect"`
	Origin fleet.Position `json:"origin,omitzero"`
}

// Action is what happens to one service's containers.
type Action string

// The actions, with the sign each is shown by.
const (
	ActionCreate   Action = "create"   // +
	ActionRecreate Action = "recreate" // -/+
	ActionStart    Action = "start"    // ~
	ActionRestart  Action = "restart"  // ~
	ActionScale    Action = "scale"    // ~
	ActionRemove   Action = "remove"   // -
	ActionKeep     Action = "keep"     // =
)

// Sign is the mark an action is shown by: "+", "-/+", "~", "-" or "=".
func (a Action) Sign() string {
	switch a {
	case ActionCreate:
		return "+"
	case ActionRecreate:
		return "-/+"
	case ActionStart, ActionRestart, ActionScale:
		return "~"
	case ActionRemove:
		return "-"
	case ActionKeep:
		return "="
	}
	return "?"
}

// ServiceChange is what an op does to one service.
type ServiceChange struct {
	Service string  `json:"service"`
	Action  Action  `json:"action"`
	Causes  []Cause `json:"causes,omitempty"`
	// Create, Recreate and Remove count its containers.
	Create   int `json:"create,omitempty"`
	Recreate int `json:"recreate,omitempty"`
	Remove   int `json:"remove,omitempty"`
}

// CauseKind classifies a cause for programs; people read Cause.String.
type CauseKind string

// The kinds of cause.
const (
	CauseNew        CauseKind = "new"        // not on the server yet
	CauseField      CauseKind = "field"      // a field of the service differs from the release that runs
	CauseDrift      CauseKind = "drift"      // the live container differs from what was deployed
	CauseMissing    CauseKind = "missing"    // a container that should be there is not
	CauseNotRunning CauseKind = "notrunning" // a container that should run does not
	CauseUnhealthy  CauseKind = "unhealthy"  // its health check fails
	CauseUnknown    CauseKind = "unknown"    // no record of what was deployed; the digest differs
	CauseScale      CauseKind = "scale"      // too few or too many containers
	CauseLeftGit    CauseKind = "leftgit"    // no longer declared
	CauseMoved      CauseKind = "moved"      // declared on another server now
	CauseForced     CauseKind = "forced"     // a person asked for it
	CauseOptions    CauseKind = "options"    // only deploy options or files differ
	CauseAdopt      CauseKind = "adopt"      // its Compose project runs there, started by somebody else
	CauseImage      CauseKind = "image"      // the tag of its image stands for a newer one
	CauseSource     CauseKind = "source"     // the files are of another commit of another repository
	CauseRollback   CauseKind = "rollback"   // it goes back to an earlier release
)

// Cause is one reason. From and To are empty when Secret is set: the value changed and
// that is all that may be said.
type Cause struct {
	Kind  CauseKind `json:"kind"`
	Field string    `json:"field,omitempty"`
	From  string    `json:"from,omitempty"`
	To    string    `json:"to,omitempty"`
	// Secret hides From and To.
	Secret bool `json:"secret,omitempty"`
	// Origin is the place that says To.
	Origin fleet.Position `json:"origin,omitzero"`
	// Text completes causes that no field explains.
	Text string `json:"text,omitempty"`
}

// BlockReason says why work cannot be done now.
type BlockReason string

// The reasons for blocked work.
const (
	BlockOffline    BlockReason = "offline"    // the server's agent is not connected
	BlockUnknown    BlockReason = "unknown"    // no agent ever joined under that name
	BlockDisabled   BlockReason = "disabled"   // the server is declared with enabled = false
	BlockDependency BlockReason = "dependency" // something it comes after is blocked
	BlockBad        BlockReason = "bad"        // this release failed there before
	BlockForeign    BlockReason = "foreign"    // another sync owns the stack
	BlockBusy       BlockReason = "busy"       // the agent works on this stack right now
	BlockEngine     BlockReason = "engine"     // the agent is there, its Docker is not
	BlockPolicy     BlockReason = "policy"     // the stack's commands may not run on that host
	BlockSource     BlockReason = "source"     // the stack's files cannot be read at this time
	BlockHeld       BlockReason = "held"       // a rollback went back to an earlier release
	BlockLoop       BlockReason = "loop"       // deploying it again and again changes nothing
	BlockSuspended  BlockReason = "suspended"  // a person suspended it
	BlockWindow     BlockReason = "window"     // no sync window is open
	BlockRollout    BlockReason = "rollout"    // other servers come first
	BlockDisk       BlockReason = "disk"       // a disk is nearly full, core's or the server's
)

// Blocked is an op that cannot run now.
type Blocked struct {
	Op     Op          `json:"op"`
	Reason BlockReason `json:"reason"`
	// Text is a sentence with the particulars; Hint says what to do.
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
}

// GateKind is what a gate guards.
type GateKind string

// The kinds of gate.
const (
	GateRemovals GateKind = "removals" // more removals than the policy lets pass
	GateEmpty    GateKind = "empty"    // the source holds no stack at all, but did before
	GateVolume   GateKind = "volume"   // a volume's definition changed: its data would be lost
	GateLimits   GateKind = "limits"   // more would change than the sync's limits let pass
)

// Gate is consent that a person must give. Without it the ops that name it do not run:
// a gated volume is never destroyed, and its stack never half applied, unasked. A
// volume's gate also opens by KeepApproval, which applies the rest and keeps the data.
type Gate struct {
	// ID is like "volume db/data@alpha" or "removals".
	ID   string   `json:"id"`
	Kind GateKind `json:"kind"`
	// Volume is set for GateVolume only.
	Volume string   `json:"volume,omitempty"`
	Text   string   `json:"text"`
	Ops    []string `json:"ops"`
}

// KeepApproval is the consent that opens a volume's gate without destroying its data:
// the stack is applied and the volume stays as it was made.
func KeepApproval(gate string) string { return "keep " + gate }

// Notice is something worth knowing that needs no work.
type Notice struct {
	// Stack is a stack's name, or "procedure/nightly" for a resource that is on no server.
	Stack  string `json:"stack"`
	Server string `json:"server"`
	// Kind is "orphan", "drift", "stopped" or "undeclared".
	Kind string `json:"kind"`
	Text string `json:"text"`
}

// Totals count what a plan does; the last line of its rendering.
type Totals struct {
	Create    int `json:"create"`
	Update    int `json:"update"`
	Heal      int `json:"heal"`
	Restart   int `json:"restart"`
	Remove    int `json:"remove"`
	Blocked   int `json:"blocked"`
	Unchanged int `json:"unchanged"`
	// Resources count the changes of what core keeps.
	Resources int `json:"resources,omitempty"`
	// Containers count what happens one level below.
	ContainersCreate   int `json:"containers_create"`
	ContainersRecreate int `json:"containers_recreate"`
	ContainersRemove   int `json:"containers_remove"`
}

// StackState is one stack on the two axes.
type StackState struct {
	Stack  string            `json:"stack"`
	Server string            `json:"server"`
	Sync   fleet.SyncState   `json:"sync"`
	Health fleet.HealthState `json:"health"`
	// Text says in a few words why it is not Synced and Healthy.
	Text string `json:"text,omitempty"`
}
