package spec

import "github.com/varanhq/varan/fleet"

// The struct tags below are the one table that decoding, defaults, notes and the JSON
// Schema are made from:
//
//	key      the TOML key; a field without one is not part of the file
//	alias    a second spelling of the key
//	default  the value when the key is absent; the zero value when there is no tag
//	enum     the allowed words, separated by commas
//	form     "file": text that ends in exactly one newline
//	later    "true": parsed and typed, but nothing acts on it yet
//	hoist    "true": may also be written inside the config table
//	doc      what the field means, for people

// File is what one resource file declares. It is read-only: a Cache may share it.
type File struct {
	Servers   []Server
	Stacks    []Stack
	Variables []Variable
	Syncs     []ResourceSync
	Others    []Other
}

// Declarations is what a tree declares, in the order of its files. The structs are
// copies; slices inside them may be shared with a Cache and are read-only.
type Declarations struct {
	Servers   []Server
	Stacks    []Stack
	Variables []Variable
	Syncs     []ResourceSync
	Others    []Other
	// Files are the resource files read, in order.
	Files []string
}

// Other is a resource of a type that is known but not acted on yet.
type Other struct {
	// Type is the singular table name, such as "procedure".
	Type string
	Name string
	Pos  fleet.Position
}

// Server is a [[server]] table.
//
// Komodo's default for `enabled` is false, which fits a server that core dials. Here a
// server is dialed by its agent and usually has no `address`: then an absent `enabled`
// counts as true, and a note with the rule server-enabled-default says so. With an
// address, the default stays false. An explicit value is always taken.
type Server struct {
	Name        string   `key:"name" doc:"Name of the server; agents connect under it."`
	Description string   `key:"description" doc:"Free text for people."`
	Template    bool     `key:"template" later:"true" doc:"A blueprint to copy, not a real server."`
	Tags        []string `key:"tags" doc:"Words to group by. trusted, untrusted, tier:trusted and tier:untrusted set the tier."`
	Config      ServerConfig

	marks
}

// ServerConfig is [server.config].
type ServerConfig struct {
	Address         string       `key:"address" later:"true" doc:"Address at which core would reach the agent. Empty: the agent dials core."`
	InsecureTLS     bool         `key:"insecure_tls" default:"true" later:"true" doc:"Do not check the certificate when core dials the agent."`
	ExternalAddress string       `key:"external_address" doc:"Address shown in links."`
	Region          string       `key:"region" later:"true" doc:"A label for people."`
	Enabled         bool         `key:"enabled" doc:"Whether the server takes part. Absent counts as true unless address is set."`
	Tier            fleet.Tier   `key:"tier" default:"trusted" enum:"trusted,untrusted" doc:"How far the server is trusted with secrets and settings."`
	AutoRotateKeys  bool         `key:"auto_rotate_keys" default:"true" later:"true" doc:"Take part when all server keys are rotated."`
	Passkey         fleet.Secret `key:"passkey" later:"true" doc:"Deprecated way of proving who the agent is."`
	IgnoreMounts    []string     `key:"ignore_mounts" later:"true" doc:"Mounts left out of disk statistics."`
	AutoPrune       bool         `key:"auto_prune" default:"true" later:"true" doc:"Remove unused images every day."`
	Links           []string     `key:"links" doc:"Quick links."`
	StatsMonitoring bool         `key:"stats_monitoring" default:"true" later:"true" doc:"Record system statistics."`

	SendUnreachableAlerts     bool    `key:"send_unreachable_alerts" default:"true" later:"true" doc:"Alert when the server cannot be reached."`
	SendCPUAlerts             bool    `key:"send_cpu_alerts" default:"true" later:"true" doc:"Alert on processor load."`
	SendMemAlerts             bool    `key:"send_mem_alerts" default:"true" later:"true" doc:"Alert on memory use."`
	SendDiskAlerts            bool    `key:"send_disk_alerts" default:"true" later:"true" doc:"Alert on disk use."`
	SendVersionMismatchAlerts bool    `key:"send_version_mismatch_alerts" default:"true" later:"true" doc:"Alert when the agent's version differs from core's."`
	CPUWarning                float64 `key:"cpu_warning" default:"90" later:"true" doc:"Percent of processor load that warns."`
	CPUCritical               float64 `key:"cpu_critical" default:"99" later:"true" doc:"Percent of processor load that is critical."`
	MemWarning                float64 `key:"mem_warning" default:"75" later:"true" doc:"Percent of memory that warns."`
	MemCritical               float64 `key:"mem_critical" default:"95" later:"true" doc:"Percent of memory that is critical."`
	DiskWarning               float64 `key:"disk_warning" default:"75" later:"true" doc:"Percent of a disk that warns."`
	DiskCritical              float64 `key:"disk_critical" default:"95" later:"true" doc:"Percent of a disk that is critical."`

	MaintenanceWindows []MaintenanceWindow `key:"maintenance_windows" later:"true" doc:"Times without alerts."`
}

// MaintenanceWindow is a time during which alerts are held back.
type MaintenanceWindow struct {
	Name            string `key:"name" doc:"Name of the window."`
	Description     string `key:"description" doc:"Free text for people."`
	ScheduleType    string `key:"schedule_type" default:"Daily" enum:"Daily,Weekly,OneTime" doc:"How the window repeats."`
	DayOfWeek       string `key:"day_of_week" doc:"Day of a weekly window."`
	Date            string `key:"date" doc:"Date of a one-time window, YYYY-MM-DD."`
	Hour            int    `key:"hour" doc:"Hour at which it starts."`
	Minute          int    `key:"minute" doc:"Minute at which it starts."`
	DurationMinutes int    `key:"duration_minutes" doc:"How long it lasts."`
	Timezone        string `key:"timezone" doc:"Time zone name; empty is core's."`
	Enabled         bool   `key:"enabled" default:"true" doc:"Whether the window counts."`
}

// Stack is a [[stack]] table.
type Stack struct {
	Name        string   `key:"name" doc:"Name of the stack, and of its Compose project unless project_name is set."`
	Description string   `key:"description" doc:"Free text for people."`
	Template    bool     `key:"template" doc:"A blueprint to copy: it is checked, never deployed."`
	Tags        []string `key:"tags" doc:"Words to group and filter by."`
	Deploy      bool     `key:"deploy" hoist:"true" doc:"Start the stack again when someone stopped it."`
	After       []string `key:"after" hoist:"true" doc:"Stacks that must have been deployed successfully before this one."`
	Config      StackConfig

	marks
}

// StackConfig is [stack.config].
type StackConfig struct {
	Swarm       string   `key:"swarm" alias:"swarm_id" later:"true" doc:"Swarm to deploy on."`
	Server      string   `key:"server" alias:"server_id" doc:"Name of the server to deploy on."`
	Links       []string `key:"links" doc:"Quick links."`
	ProjectName string   `key:"project_name" doc:"Compose project name; empty is the stack's name."`
	AutoPull    bool     `key:"auto_pull" default:"true" doc:"Ask the registry for newer images on each deploy."`
	RunBuild    bool     `key:"run_build" doc:"Build services that have a build section before they start."`

	PollForUpdates         bool     `key:"poll_for_updates" later:"true" doc:"Look for newer image digests."`
	AutoUpdate             bool     `key:"auto_update" later:"true" doc:"Deploy again when an image digest is newer."`
	AutoUpdateAllServices  bool     `key:"auto_update_all_services" later:"true" doc:"Let an update deploy the whole stack again."`
	AutoUpdateSkipServices []string `key:"auto_update_skip_services" later:"true" doc:"Services left out of updates."`

	DestroyBeforeDeploy bool `key:"destroy_before_deploy" doc:"Take the stack down before it is brought up."`
	SkipSecretInterp    bool `key:"skip_secret_interp" doc:"Leave [[NAME]] as it is written."`

	LinkedRepo   string `key:"linked_repo" later:"true" doc:"Repo resource that holds the files."`
	GitProvider  string `key:"git_provider" default:"github.com" later:"true" doc:"Host of the repository."`
	GitHTTPS     bool   `key:"git_https" default:"true" later:"true" doc:"Clone over https rather than http."`
	GitAccount   string `key:"git_account" later:"true" doc:"Account to clone with."`
	Repo         string `key:"repo" later:"true" doc:"Repository that holds the files, owner/name. Empty: the one that declares the stack."`
	Branch       string `key:"branch" default:"main" later:"true" doc:"Branch of the repository."`
	Commit       string `key:"commit" later:"true" doc:"Commit to stay at."`
	ClonePath    string `key:"clone_path" later:"true" doc:"Directory to clone into."`
	Reclone      bool   `key:"reclone" later:"true" doc:"Clone afresh rather than pull."`
	FilesOnHost  bool   `key:"files_on_host" later:"true" doc:"The files are on the server already."`
	RunDirectory string `key:"run_directory" doc:"Directory Compose runs in, relative to the repository."`

	WebhookEnabled     bool         `key:"webhook_enabled" default:"true" later:"true" doc:"Let a webhook deploy the stack."`
	WebhookSecret      fleet.Secret `key:"webhook_secret" later:"true" doc:"Secret of the stack's own webhook."`
	WebhookForceDeploy bool         `key:"webhook_force_deploy" later:"true" doc:"Let the webhook deploy even when nothing changed."`

	FilePaths          []string     `key:"file_paths" doc:"Compose files, relative to run_directory; later ones override. Empty: compose.yaml."`
	EnvFilePath        string       `key:"env_file_path" default:".env" doc:"Where environment is written, relative to run_directory."`
	AdditionalEnvFiles []EnvFile    `key:"additional_env_files" later:"true" doc:"More env files to pass to Compose."`
	ConfigFiles        []ConfigFile `key:"config_files" later:"true" doc:"More files whose change asks for a reaction."`

	SendAlerts       bool   `key:"send_alerts" default:"true" later:"true" doc:"Alert on the stack's state."`
	RegistryProvider string `key:"registry_provider" later:"true" doc:"Registry to log in to."`
	RegistryAccount  string `key:"registry_account" later:"true" doc:"Account to log in with."`

	PreDeploy  SystemCommand `key:"pre_deploy" later:"true" doc:"Command to run before a deploy."`
	PostDeploy SystemCommand `key:"post_deploy" later:"true" doc:"Command to run after a deploy."`

	ExtraArgs                []string `key:"extra_args" later:"true" doc:"More arguments for up."`
	BuildExtraArgs           []string `key:"build_extra_args" later:"true" doc:"More arguments for build."`
	ComposeCmdWrapper        string   `key:"compose_cmd_wrapper" later:"true" doc:"Command around Compose; holds [[COMPOSE_COMMAND]]."`
	ComposeCmdWrapperInclude []string `key:"compose_cmd_wrapper_include" later:"true" doc:"Subcommands that are wrapped."`

	IgnoreServices []string `key:"ignore_services" doc:"Services left out of the stack's health."`
	FileContents   string   `key:"file_contents" form:"file" doc:"The Compose file itself, instead of files."`
	Environment    []EnvVar `key:"environment" doc:"Variables for Compose: KEY = value lines, a list of KEY=value, or of {variable, value}."`
}

// EnvVar is one entry of an environment.
type EnvVar struct {
	Name  string
	Value string
	// Pos is where the entry starts, inside a multi-line string too.
	Pos fleet.Position
}

// EnvFile is an entry of additional_env_files: a path, or a table.
type EnvFile struct {
	Path  string `key:"path" doc:"Path relative to run_directory."`
	Track bool   `key:"track" default:"true" doc:"Read the file and react to its changes."`
}

// ConfigFile is an entry of config_files: a path, or a table.
type ConfigFile struct {
	Path     string   `key:"path" doc:"Path relative to run_directory."`
	Services []string `key:"services" alias:"service" doc:"Services that use the file; empty is all."`
	Requires string   `key:"requires" alias:"req" default:"None" enum:"None,Restart,Redeploy" doc:"What a change of the file asks for."`
}

// SystemCommand is a command to run beside a deploy.
type SystemCommand struct {
	Path      string `key:"path" doc:"Directory to run in."`
	Command   string `key:"command" doc:"One command a line."`
	ShellMode bool   `key:"shell_mode" doc:"Run the whole text through a shell."`
}

// Variable is a [[variable]] table.
type Variable struct {
	Name        string   `key:"name" doc:"Name, used as [[NAME]]."`
	Description string   `key:"description" doc:"Free text for people."`
	Tags        []string `key:"tags" doc:"scope:trusted or scope:untrusted narrows where the variable may be used."`
	// Value is hidden whether or not the variable is declared secret.
	Value    fleet.Secret `key:"value" doc:"The value."`
	IsSecret bool         `key:"is_secret" doc:"Never show the value."`

	marks
}

// ResourceSync is a [[resource_sync]] table.
type ResourceSync struct {
	Name        string   `key:"name" doc:"Name of the sync."`
	Description string   `key:"description" doc:"Free text for people."`
	Template    bool     `key:"template" later:"true" doc:"A blueprint to copy."`
	Tags        []string `key:"tags" doc:"Words to group and filter by."`
	Config      ResourceSyncConfig

	marks
}

// ResourceSyncConfig is [resource_sync.config].
type ResourceSyncConfig struct {
	LinkedRepo        string       `key:"linked_repo" later:"true" doc:"Repo resource that holds the files."`
	GitProvider       string       `key:"git_provider" default:"github.com" later:"true" doc:"Host of the repository."`
	GitHTTPS          bool         `key:"git_https" default:"true" later:"true" doc:"Clone over https rather than http."`
	Repo              string       `key:"repo" later:"true" doc:"Repository that holds the files, owner/name."`
	Branch            string       `key:"branch" default:"main" later:"true" doc:"Branch of the repository."`
	Commit            string       `key:"commit" later:"true" doc:"Commit to stay at."`
	GitAccount        string       `key:"git_account" later:"true" doc:"Account to clone with."`
	WebhookEnabled    bool         `key:"webhook_enabled" default:"true" later:"true" doc:"Let a webhook wake the sync."`
	WebhookSecret     fleet.Secret `key:"webhook_secret" later:"true" doc:"Secret of the sync's own webhook."`
	FilesOnHost       bool         `key:"files_on_host" later:"true" doc:"The files are on core's host."`
	ResourcePath      []string     `key:"resource_path" later:"true" doc:"Files and directories to read; empty is the whole tree."`
	Managed           bool         `key:"managed" later:"true" doc:"Write changes made elsewhere back to the file."`
	Delete            bool         `key:"delete" later:"true" doc:"Remove what left the files."`
	IncludeResources  bool         `key:"include_resources" default:"true" later:"true" doc:"Read resources."`
	MatchTags         []string     `key:"match_tags" later:"true" doc:"Read only resources that carry all of these tags."`
	IncludeVariables  bool         `key:"include_variables" later:"true" doc:"Read variables."`
	IncludeUserGroups bool         `key:"include_user_groups" later:"true" doc:"Read user groups."`
	PendingAlert      bool         `key:"pending_alert" default:"true" later:"true" doc:"Alert when changes wait."`
	FileContents      string       `key:"file_contents" form:"file" later:"true" doc:"The resource file itself, instead of files."`
}
