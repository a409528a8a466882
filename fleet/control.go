package fleet

import "time"

// WindowKind says whether a window lets deploys through or keeps them back.
type WindowKind string

// The kinds of sync window.
const (
	WindowAllow WindowKind = "allow"
	WindowDeny  WindowKind = "deny"
)

// SyncWindow is a time in which a sync may, or may not, change what runs.
type SyncWindow struct {
	Kind WindowKind `json:"kind"`
	// Schedule says when it opens, in English or cron; Duration how long it then stays open.
	Schedule string        `json:"schedule"`
	Duration time.Duration `json:"duration"`
	// Timezone is an IANA name; empty is UTC.
	Timezone string `json:"timezone,omitempty"`
	// Stacks and Servers are names or patterns, Tags and ServerTags tags that the stack or the
	// server has all of. Lists that are empty do not narrow it; of the others each must fit.
	Stacks     []string `json:"stacks,omitempty"`
	Tags       []string `json:"tags,omitempty"`
	Servers    []string `json:"servers,omitempty"`
	ServerTags []string `json:"server_tags,omitempty"`
	// Manual lets a person deploy against the window who asks for just that.
	Manual bool     `json:"manual,omitempty"`
	Origin Position `json:"origin,omitzero"`
}

// Limits bound what one plan may change without consent. Zero is no limit.
type Limits struct {
	Stacks     int `json:"stacks,omitempty"`
	Servers    int `json:"servers,omitempty"`
	Containers int `json:"containers,omitempty"`
	Removals   int `json:"removals,omitempty"`
}

// RolloutFailure says what becomes of a rollout of which too much failed.
type RolloutFailure string

// What a failed rollout does.
const (
	// RolloutStop leaves what was deployed as it is and deploys nothing more.
	RolloutStop RolloutFailure = "stop"
	// RolloutRollback also puts back what ran before on the servers that were done.
	RolloutRollback RolloutFailure = "rollback"
)

// Rollout says how a stack on several servers moves from one release to the next.
type Rollout struct {
	// Batch is how many servers are deployed at a time; with Percent a share of them all.
	Batch   int  `json:"batch,omitempty"`
	Percent bool `json:"percent,omitempty"`
	// Canary are the servers of the first batch, Order those that come next.
	Canary []string `json:"canary,omitempty"`
	Order  []string `json:"order,omitempty"`
	// MaxFailures is how many servers may fail before it stops.
	MaxFailures int `json:"max_failures,omitempty"`
	// Pause is the time between two batches.
	Pause     time.Duration  `json:"pause,omitempty"`
	OnFailure RolloutFailure `json:"on_failure,omitempty"`
}
