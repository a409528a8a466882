package spec

import (
	"time"

	"github.com/varanhq/varan/fleet"
)

// The struct tags below are the one table that decoding, defaults, notes, export and the
// JSON Schema are made from:
//
//	key      the TOML key; a field without one is not part of the file
//	alias    other spellings of the key, separated by commas
//	old      spellings of older versions, accepted with a note
//	retired  on a field named _: a key of older versions that means nothing now
//	default  the value when the key is absent; the zero value when there is no tag
//	enum     the allowed words, separated by commas
//	form     "file": text that ends in exactly one newline
//	         "labels": entries whose names may be anything
//	         "version": 1.2.3, or a table of its parts
//	         "share": a number, or a text such as "25%"
//	         "pairs": entries of LOCAL = CONTAINER
//	later    "true": parsed and typed, but nothing acts on it yet
//	moot     why the field has no meaning here
//	hoist    "true": may also be written inside the config table
//	short    "true": a plain string stands for a table with this field
//	doc      what the field means, for people
//
// The fields of an embedded struct are fields of the struct around it. A field Pos is
// set to where the table starts.

// Resources is what files declare, by type. The structs are copies; slices inside them
// may be shared with a Cache and are read-only.
type Resources struct {
	Servers     []Server
	Stacks      []Stack
	Deployments []Deployment
	Repos       []Repo
	Builds      []Build
	Builders    []Builder
	Procedures  []Procedure
	Actions     []Action
	Alerters    []Alerter
	Swarms      []Swarm
	Syncs       []ResourceSync
	Variables   []Variable
	UserGroups  []UserGroup
}

// File is what one resource file declares. It is read-only: a Cache may share it.
type File struct {
	Resources
	// References are the names in double brackets anywhere in the file, sorted.
	References []string
}

// Declarations is what a tree declares, in the order of its files.
type Declarations struct {
	Resources
	// Files are the resource files read, in order.
	Files []string
	// References are the names in double brackets in all of them, sorted.
	References []string
	// ID names what was read and how: equal ids, equal declarations. Empty when that is not
	// known without reading.
	ID string
}

// Common is what resources of most types have beside their config.
type Common struct {
	Name        string   `key:"name" doc:"Name of the resource, unique in its type."`
	Description string   `key:"description" doc:"Free text for people."`
	Template    bool     `key:"template" doc:"A blueprint to copy: it is checked, and otherwise left alone."`
	Tags        []string `key:"tags" doc:"Words to group and filter by."`
}

// GitSource is a place in a Git repository.
type GitSource struct {
	GitProvider string `key:"git_provider" default:"github.com" doc:"Host of the repository."`
	GitHTTPS    bool   `key:"git_https" default:"true" doc:"Clone over https rather than http."`
	GitAccount  string `key:"git_account" doc:"Account to clone with; core has its token."`
	Repo        string `key:"repo" doc:"Repository that holds the files, owner/name. Empty: the one that declares the resource."`
	Branch      string `key:"branch" default:"main" doc:"Branch of the repository."`
	Commit      string `key:"commit" doc:"Commit to stay at."`
}

// Webhook is how a Git host wakes a resource.
type Webhook struct {
	WebhookEnabled bool         `key:"webhook_enabled" default:"true" doc:"Let a webhook wake the resource."`
	WebhookSecret  fleet.Secret `key:"webhook_secret" doc:"Secret of the resource's own webhook."`
}

// Timetable is when something runs by itself.
type Timetable struct {
	ScheduleFormat   string        `key:"schedule_format" default:"English" enum:"English,Cron" doc:"How the schedule is written."`
	Schedule         string        `key:"schedule" doc:"When to run: words such as 'every day at 03:00', or cron with five fields, or six beginning with seconds."`
	ScheduleEnabled  bool          `key:"schedule_enabled" default:"true" doc:"Whether the schedule counts."`
	ScheduleTimezone string        `key:"schedule_timezone" doc:"Time zone name of the schedule; empty is core's."`
	ScheduleAlert    bool          `key:"schedule_alert" default:"true" doc:"Alert when the schedule runs."`
	ScheduleMissed   string        `key:"schedule_missed" default:"run_once" enum:"run_once,skip" doc:"What becomes of times that passed while core did not run: one run for all, or none."`
	ScheduleOverlap  string        `key:"schedule_overlap" default:"skip" enum:"skip,queue" doc:"What becomes of a time at which the run before is not over."`
	ScheduleJitter   time.Duration `key:"schedule_jitter" doc:"How much later it may run, such as 10m: each procedure has a delay of its own below it."`
	FailureAlert     bool          `key:"failure_alert" default:"true" doc:"Alert when a run fails."`
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

// Target is a resource of some type.
type Target struct {
	Type string `key:"type" enum:"System,Swarm,Server,Stack,Deployment,Build,Repo,Procedure,Action,Builder,Alerter,ResourceSync,ServerTemplate" doc:"Type of the resource."`
	ID   string `key:"id" alias:"name" doc:"Name of the resource."`
	Pos  fleet.Position
}

// EnvVar is one entry of an environment, or one label.
type EnvVar struct {
	Name  string
	Value string
	// Pos is where the entry starts, inside a multi-line string too.
	Pos fleet.Position
}

// EnvFile is an entry of additional_env_files: a path, or a table.
type EnvFile struct {
	Path  string `key:"path" short:"true" doc:"Path relative to run_directory."`
	Track bool   `key:"track" default:"true" doc:"Read the file and react to its changes."`
}

// ConfigFile is an entry of config_files: a path, or a table.
type ConfigFile struct {
	Path     string   `key:"path" short:"true" doc:"Path relative to run_directory."`
	Services []string `key:"services" alias:"service" doc:"Services that use the file; empty is all."`
	Requires string   `key:"requires" alias:"req" default:"None" enum:"None,Restart,Redeploy" doc:"What a change of the file asks for."`
}

// SystemCommand is a command to run beside something else.
type SystemCommand struct {
	Path      string `key:"path" doc:"Directory to run in."`
	Command   string `key:"command" doc:"One command a line."`
	ShellMode bool   `key:"shell_mode" doc:"Run the whole text through a shell."`
}
