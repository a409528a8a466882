package fleet

import (
	"cmp"
	"slices"
	"time"
)

// Resource is one declared thing of any kind, as a plan compares it and core keeps it: a
// record. What it holds beyond the record, such as a stack's release, is elsewhere.
type Resource struct {
	// Kind is the singular name of its TOML table: "stack", "resource_sync", "variable".
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Fields are what differs from the defaults, sorted by path: "config.server", "tags".
	// A secret is a keyed hash.
	Fields []Field `json:"fields,omitempty"`
	// Origin is where it is declared.
	Origin Position `json:"origin,omitzero"`
}

// ID is "stack/web".
func (r Resource) ID() string { return r.Kind + "/" + r.Name }

// Field is the value at a path; zero when it is the default.
func (r Resource) Field(path string) Field {
	i, ok := slices.BinarySearchFunc(r.Fields, path, func(f Field, path string) int { return cmp.Compare(f.Path, path) })
	if !ok {
		return Field{}
	}
	return r.Fields[i]
}

// Scope says where a variable may be used besides what its tier allows. Lists that are
// empty do not narrow it; of those that are not, each must fit.
type Scope struct {
	// Tags are those of the variable: scope:trusted, scope:untrusted and scope:all count.
	Tags []string `json:"tags,omitempty"`
	// Servers and Stacks are names; ServerTags are tags of which the server has all.
	Servers    []string `json:"servers,omitempty"`
	ServerTags []string `json:"server_tags,omitempty"`
	Stacks     []string `json:"stacks,omitempty"`
}

// Variable is a variable that a sync declares, for the other syncs.
type Variable struct {
	Name   string `json:"name"`
	Value  Secret `json:"-"`
	Secret bool   `json:"secret,omitempty"`
	Scope  Scope  `json:"scope,omitzero"`
}

// Repository names a repository by parts, without credentials.
type Repository struct {
	// Name is that of the [[repo]] that declares it; empty for one that a resource names.
	Name string `json:"name,omitempty"`
	// Provider is a host such as "github.com"; Repo is "owner/name" on it.
	Provider string `json:"provider,omitempty"`
	Repo     string `json:"repo,omitempty"`
	HTTPS    bool   `json:"https,omitempty"`
	// Branch and Commit say which state; an empty Commit is the head of Branch.
	Branch string `json:"branch,omitempty"`
	Commit string `json:"commit,omitempty"`
	// Account chooses the credentials that core keeps; empty is none.
	Account string `json:"account,omitempty"`
}

// Hook is what a webhook to a resource is checked against.
type Hook struct {
	// Kind and Name are of the resource: a stack or a repo.
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Branch is the one that a push must be to; empty is that of the sync.
	Branch string `json:"branch,omitempty"`
	// Secret is the resource's own; empty is core's default.
	Secret Secret `json:"-"`
	// Force deploys although nothing changed.
	Force bool `json:"force,omitempty"`
}

// SignaturePolicy says which commits of a sync are believed. The zero value believes all.
type SignaturePolicy struct {
	// Require is empty, SignaturesHead or SignaturesAll.
	Require string `json:"require,omitempty" enum:",head,all"`
	// AllowedSigners are SSH keys as of ssh-keygen(1), PGPKeys armored public keys.
	AllowedSigners string `json:"allowed_signers,omitempty"`
	PGPKeys        string `json:"pgp_keys,omitempty"`
}

// What a SignaturePolicy can require: a signature of the commit that is applied, or of every
// commit since the last that was believed.
const (
	SignaturesHead = "head"
	SignaturesAll  = "all"
)

// SyncSpec is a sync as a [[resource_sync]] table declares it.
type SyncSpec struct {
	Name        string     `json:"name,omitempty"`
	Description string     `json:"description,omitempty"`
	Tags        []string   `json:"tags,omitempty"`
	Repository  Repository `json:"repository,omitzero"`
	// HostDir is a directory on core's host, FileContents a resource file; either takes the
	// place of the repository.
	HostDir      bool   `json:"host_dir,omitempty"`
	FileContents string `json:"file_contents,omitempty"`

	ResourcePaths []string `json:"resource_paths,omitempty"`
	MatchTags     []string `json:"match_tags,omitempty"`
	// SkipResources, SkipVariables and SkipUserGroups leave these out.
	SkipResources  bool `json:"skip_resources,omitempty"`
	SkipVariables  bool `json:"skip_variables,omitempty"`
	SkipUserGroups bool `json:"skip_user_groups,omitempty"`

	// Signatures are what commits must prove.
	Signatures SignaturePolicy `json:"signatures,omitzero"`

	// What is nil or zero is not declared: a sync that declares itself keeps what it has.
	Delete      *bool         `json:"delete,omitempty"`
	AutoApply   *bool         `json:"auto_apply,omitempty"`
	SelfHeal    *bool         `json:"self_heal,omitempty"`
	Interval    time.Duration `json:"interval,omitempty"`
	MaxRemovals int           `json:"max_removals,omitempty"`
	// Windows are when the sync may change what runs, Limits how much of it without consent.
	Windows []SyncWindow `json:"windows,omitempty"`
	Limits  Limits       `json:"limits,omitzero"`

	// QuietPending causes no alert when changes wait (pending_alert = false).
	QuietPending bool `json:"quiet_pending,omitempty"`
	// NoWebhook refuses webhooks. An empty WebhookSecret is core's default.
	NoWebhook     bool   `json:"no_webhook,omitempty"`
	WebhookSecret Secret `json:"-"`
	// Origin is where the sync is declared.
	Origin Position `json:"origin,omitzero"`
}
