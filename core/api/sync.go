package api

import (
	"time"

	"github.com/varanhq/varan/fleet"
)

// Sync is a Git source of resource files.
type Sync struct {
	Name   string `json:"name"`
	URL    string `json:"url"`
	Branch string `json:"branch"`
	// Paths are the resource files and folders; empty means the whole tree.
	Paths           []string `json:"paths,omitempty"`
	MatchTags       []string `json:"match_tags,omitempty"`
	IntervalSeconds int      `json:"interval_seconds"`
	AutoApply       bool     `json:"auto_apply"`
	Delete          bool     `json:"delete"`
	SelfHeal        bool     `json:"self_heal"`
	MaxRemovals     int      `json:"max_removals"`
	// Signatures are what commits must prove.
	Signatures fleet.SignaturePolicy `json:"signatures,omitzero"`
	Created    time.Time             `json:"created"`
	// DeclaredBy is the sync whose files declare this one; empty for one added by hand.
	DeclaredBy string `json:"declared_by,omitempty"`
	// Declared is what they say, also when a sync declares itself; zero when none does.
	Declared fleet.SyncSpec `json:"declared,omitzero"`
	State    SyncState      `json:"state"`
}

// SyncState is how a sync is doing.
type SyncState struct {
	// Phase is "idle", "loading", "applying", "stalled" by an invalid commit, or "failing"
	// to read the source.
	Phase string `json:"phase"`
	// Commit is the head as last read; Good the last commit without errors.
	Commit      fleet.Commit      `json:"commit,omitzero"`
	Good        fleet.Commit      `json:"good,omitzero"`
	Error       string            `json:"error,omitempty"`
	Diagnostics fleet.Diagnostics `json:"diagnostics,omitempty"`
	Checked     time.Time         `json:"checked,omitzero"`
	NextPoll    time.Time         `json:"next_poll,omitzero"`
	// Pending counts the ops of the last plan that did not run; Blocked those that cannot.
	// Unrecorded counts its changes of what core keeps.
	Pending    int    `json:"pending"`
	Blocked    int    `json:"blocked"`
	Unrecorded int    `json:"unrecorded,omitempty"`
	LastRun    string `json:"last_run,omitempty"`
}

// SyncSpec creates a sync.
type SyncSpec struct {
	Name string `json:"name" maxLength:"63"`
	URL  string `json:"url" maxLength:"2048"`
	// Branch defaults to "main".
	Branch    string   `json:"branch,omitempty" maxLength:"255"`
	Paths     []string `json:"paths,omitempty" maxItems:"100"`
	MatchTags []string `json:"match_tags,omitempty" maxItems:"100"`
	// IntervalSeconds between polls; zero means 60, at least 5.
	IntervalSeconds int  `json:"interval_seconds,omitempty" minimum:"0" maximum:"604800"`
	AutoApply       bool `json:"auto_apply,omitempty"`
	Delete          bool `json:"delete,omitempty"`
	SelfHeal        bool `json:"self_heal,omitempty"`
	// MaxRemovals in one plan without consent; zero means 3.
	MaxRemovals int `json:"max_removals,omitempty" minimum:"0"`
	// Signatures are what commits must prove; the zero value believes all.
	Signatures fleet.SignaturePolicy `json:"signatures,omitzero"`
	// WebhookSecret is made up when empty, and returned this one time.
	WebhookSecret WriteOnly      `json:"webhook_secret,omitempty" maxLength:"1024"`
	Credentials   GitCredentials `json:"credentials,omitzero"`
}

// GitCredentials open a repository. They are sealed in the store and never returned.
type GitCredentials struct {
	Username      string    `json:"username,omitempty"`
	Password      WriteOnly `json:"password,omitempty"`
	SSHKey        WriteOnly `json:"ssh_key,omitempty"`
	SSHPassphrase WriteOnly `json:"ssh_passphrase,omitempty"`
	// KnownHosts pins SSH host keys in OpenSSH's format.
	KnownHosts string `json:"known_hosts,omitempty"`
	// CA is a PEM bundle trusted for this source only.
	CA    string `json:"ca,omitempty"`
	Proxy string `json:"proxy,omitempty"`
}

// SyncCreated answers a creation. The secret is not shown again.
type SyncCreated struct {
	Sync          Sync      `json:"sync"`
	WebhookSecret WriteOnly `json:"webhook_secret"`
	// WebhookPaths are what to enter at the Git host, by its kind.
	WebhookPaths map[string]string `json:"webhook_paths"`
}

// SyncRun answers a request to run a sync now.
type SyncRun struct {
	Sync string `json:"sync"`
	// Coalesced is set when a pass was already waiting and serves this request too.
	Coalesced bool `json:"coalesced"`
}

// Accepted answers a webhook: what will happen, and why.
type Accepted struct {
	Accepted bool `json:"accepted"`
	// Sync or Procedure is what it is about.
	Sync      string `json:"sync,omitempty"`
	Procedure string `json:"procedure,omitempty"`
	// Action is "sync", "refresh", "run" or "none".
	Action string `json:"action"`
	Reason string `json:"reason"`
}
