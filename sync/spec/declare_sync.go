package spec

import (
	"time"

	"github.com/varanhq/varan/fleet"
)

// Variable is a [[variable]] table.
type Variable struct {
	Name        string   `key:"name" doc:"Name, used as [[NAME]]."`
	Description string   `key:"description" doc:"Free text for people."`
	Tags        []string `key:"tags" doc:"scope:trusted, scope:untrusted or scope:all says on which tier the variable may be used."`
	Servers     []string `key:"servers" doc:"Names of the only servers it may be used on."`
	ServerTags  []string `key:"server_tags" doc:"It may only be used on servers that carry all of these tags."`
	Stacks      []string `key:"stacks" doc:"Names of the only stacks it may be used in."`
	// Value is hidden whether or not the variable is declared secret.
	Value    fleet.Secret `key:"value" doc:"The value."`
	IsSecret bool         `key:"is_secret" doc:"Never show the value."`

	marks
}

// ResourceSync is a [[resource_sync]] table.
type ResourceSync struct {
	Common
	Config ResourceSyncConfig

	marks
}

// ResourceSyncConfig is [resource_sync.config].
type ResourceSyncConfig struct {
	LinkedRepo string `key:"linked_repo" old:"linked_repo_id,repo_id" doc:"Repo resource that holds the files."`
	GitSource
	Webhook
	FilesOnHost       bool          `key:"files_on_host" doc:"The files are on core's host."`
	ResourcePath      []string      `key:"resource_path" doc:"Files and directories to read; empty is the whole tree."`
	Managed           bool          `key:"managed" doc:"As delete. Nothing is written back to the file."`
	Delete            bool          `key:"delete" doc:"Remove what left the files."`
	IncludeResources  bool          `key:"include_resources" default:"true" doc:"Read resources."`
	MatchTags         []string      `key:"match_tags" doc:"Read only resources that carry all of these tags."`
	IncludeVariables  bool          `key:"include_variables" doc:"Read variables."`
	IncludeUserGroups bool          `key:"include_user_groups" doc:"Read user groups."`
	PendingAlert      bool          `key:"pending_alert" default:"true" doc:"Alert when changes wait."`
	FileContents      string        `key:"file_contents" form:"file" doc:"The resource file itself, instead of files."`
	AutoApply         bool          `key:"auto_apply" doc:"Apply every commit without asking."`
	SelfHeal          bool          `key:"self_heal" doc:"Repair what drifts from the last applied commit."`
	Interval          time.Duration `key:"interval" default:"1m" doc:"Time between two looks at the repository, such as 5m or 1-hr."`
	Signatures        string        `key:"signatures" enum:"head,all" doc:"Believe only signed commits: the one that is applied, or all since the last that was believed."`
	AllowedSigners    string        `key:"allowed_signers" form:"file" doc:"SSH keys that may sign commits, as an allowed_signers file of ssh-keygen."`
	PGPKeys           string        `key:"pgp_keys" form:"file" doc:"OpenPGP keys that may sign commits, armored."`
	MaxRemovals       int           `key:"max_removals" default:"3" doc:"Removals in one plan that need no consent."`
	Windows           []SyncWindow  `key:"window" alias:"windows" doc:"Times in which the sync may, or may not, change what runs."`
	Limits            SyncLimits    `key:"limits" doc:"How much one plan may change without consent."`
}

// SyncWindow is one [[resource_sync.config.window]].
type SyncWindow struct {
	Kind       string        `key:"kind" default:"allow" enum:"allow,deny" doc:"Whether deploys go while it is open, or do not."`
	Schedule   string        `key:"schedule" doc:"When it opens, such as every day at 02:00, or as cron."`
	Duration   time.Duration `key:"duration" doc:"How long it stays open, such as 2h."`
	Timezone   string        `key:"timezone" doc:"Time zone name; empty is UTC."`
	Stacks     []string      `key:"stacks" doc:"Names or wildcards of the only stacks it is about."`
	Tags       []string      `key:"tags" doc:"It is only about stacks that carry all of these tags."`
	Servers    []string      `key:"servers" doc:"Names or wildcards of the only servers it is about."`
	ServerTags []string      `key:"server_tags" doc:"It is only about servers that carry all of these tags."`
	Manual     bool          `key:"manual" doc:"Let a person go against it with --override-window."`
	Pos        fleet.Position
}

// SyncLimits is [resource_sync.config.limits]. Zero is no limit.
type SyncLimits struct {
	Stacks     int `key:"stacks" doc:"Stacks that one plan may change."`
	Servers    int `key:"servers" doc:"Servers on which one plan may change something."`
	Containers int `key:"containers" doc:"Containers that one plan may create, recreate or remove."`
	Removals   int `key:"removals" doc:"Stacks that one plan may remove, moves included."`
}

// UserGroup is a [[user_group]] table.
type UserGroup struct {
	Name        string           `key:"name" doc:"Name of the group."`
	Everyone    bool             `key:"everyone" doc:"Every user is in the group."`
	Users       []string         `key:"users" doc:"Names of the users in the group."`
	All         []TypePermission `key:"all" doc:"Permissions on all resources of a type: a table of levels by type."`
	Permissions []Permission     `key:"permissions" doc:"Permissions on resources, by name, wildcard, or a regular expression between backslashes."`

	marks
}

// TypePermission is what a group may do to all resources of a type.
type TypePermission struct {
	// Type is a resource type as a Target has it.
	Type     string   `key:"type" doc:"Type of the resources."`
	Level    string   `key:"level" short:"true" default:"None" enum:"None,Read,Execute,Write" doc:"What the group may do."`
	Specific []string `key:"specific" doc:"More that the group may do: Logs, Inspect, Terminal, Attach, Processes."`
	Pos      fleet.Position
}

// Permission is what a group may do to some resources of a type.
type Permission struct {
	Target   Target   `key:"target" doc:"The resources: {type, id}."`
	Level    string   `key:"level" default:"None" enum:"None,Read,Execute,Write" doc:"What the group may do."`
	Specific []string `key:"specific" doc:"More that the group may do: Logs, Inspect, Terminal, Attach, Processes."`
	Pos      fleet.Position
}

// Alerter is an [[alerter]] table.
type Alerter struct {
	Common
	Config AlerterConfig

	marks
}

// AlerterConfig is [alerter.config].
type AlerterConfig struct {
	Enabled            bool                `key:"enabled" doc:"Whether alerts are sent."`
	Endpoint           Endpoint            `key:"endpoint" doc:"Where alerts go: {type, params}."`
	AlertTypes         []string            `key:"alert_types" doc:"Types of the alerts to send; empty is all."`
	Resources          []Target            `key:"resources" doc:"Only alerts about these resources; empty is all."`
	ExceptResources    []Target            `key:"except_resources" doc:"No alerts about these resources."`
	MaintenanceWindows []MaintenanceWindow `key:"maintenance_windows" doc:"Times without alerts."`
}

// Endpoint is where an alerter sends: {type, params}.
type Endpoint struct {
	// Type is "Custom", "Slack", "Discord", "Ntfy" or "Pushover"; empty when nothing was said.
	Type string `key:"type" doc:"Custom, Slack, Discord, Ntfy or Pushover."`
	// URL often holds a token.
	URL   fleet.Secret `key:"url" doc:"Address to send to; [[NAME]] in it is replaced."`
	Email string       `key:"email" doc:"Address that ntfy sends mail to."`
	Pos   fleet.Position
}
