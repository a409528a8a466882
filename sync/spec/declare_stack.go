package spec

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/varanhq/varan/fleet"
)

// Ordered is what stacks and deployments have beside Common.
type Ordered struct {
	Deploy bool     `key:"deploy" hoist:"true" doc:"Start it again when someone stopped it."`
	After  []string `key:"after" hoist:"true" doc:"Stacks and deployments that must have been deployed successfully before this one."`
}

// Stack is a [[stack]] table.
type Stack struct {
	Common
	Ordered
	Config StackConfig

	marks
}

// StackConfig is [stack.config].
type StackConfig struct {
	Swarm       string    `key:"swarm" old:"swarm_id" later:"true" doc:"Swarm to deploy on."`
	Server      string    `key:"server" old:"server_id" doc:"Name of the server to deploy on."`
	Servers     []string  `key:"servers" old:"server_ids" doc:"Names of the servers to deploy on, in place of one server."`
	ServerTags  []string  `key:"server_tags" doc:"Deploy on every server that carries all of these tags."`
	Rollout     Rollout   `key:"rollout" doc:"How a stack on several servers moves from one release to the next; all at once without it."`
	Overlays    []Overlay `key:"overlay" alias:"overlays" doc:"What differs on some of the servers."`
	Links       []string  `key:"links" doc:"Quick links."`
	ProjectName string    `key:"project_name" doc:"Compose project name; empty is the stack's name."`
	AutoPull    bool      `key:"auto_pull" default:"true" doc:"Ask the registry for newer images on each deploy."`
	RunBuild    bool      `key:"run_build" doc:"Build services that have a build section before they start."`
	Profiles    []string  `key:"profiles" doc:"Compose profiles to enable."`

	PollForUpdates         bool     `key:"poll_for_updates" doc:"Look for newer image digests, and tell of them."`
	AutoUpdate             bool     `key:"auto_update" doc:"Deploy services again when the digest of their image is newer."`
	AutoUpdateAllServices  bool     `key:"auto_update_all_services" doc:"Let an update of one service renew the images of all."`
	AutoUpdateSkipServices []string `key:"auto_update_skip_services" doc:"Services left out of updates."`
	Updates
	UpdatePolicy []EnvVar `key:"update_policy" form:"labels" doc:"Newer tags to tell of, SERVICE = POLICY lines: a range of versions such as ~1.4, or a regular expression between slashes."`

	DestroyBeforeDeploy bool `key:"destroy_before_deploy" doc:"Take the stack down before it is brought up."`
	SkipSecretInterp    bool `key:"skip_secret_interp" doc:"Leave [[NAME]] as it is written."`
	InterpolateFiles    bool `key:"interpolate_files" doc:"Replace [[NAME]] in Compose files and config files from Git too."`

	LinkedRepo string `key:"linked_repo" old:"linked_repo_id,repo_id" doc:"Repo resource that holds the files."`
	GitSource
	ClonePath    string `key:"clone_path" moot:"core reads repositories, hosts clone nothing" doc:"Directory to clone into."`
	Reclone      bool   `key:"reclone" moot:"core reads repositories, hosts clone nothing" doc:"Clone afresh rather than pull."`
	FilesOnHost  bool   `key:"files_on_host" doc:"The files are on the server already."`
	RunDirectory string `key:"run_directory" doc:"Directory Compose runs in, relative to the repository."`

	Webhook
	WebhookForceDeploy bool `key:"webhook_force_deploy" doc:"Let the webhook deploy even when nothing changed."`

	FilePaths          []string     `key:"file_paths" doc:"Compose files, relative to run_directory; later ones override. Empty: compose.yaml."`
	EnvFilePath        string       `key:"env_file_path" default:".env" doc:"Where environment is written, relative to run_directory."`
	AdditionalEnvFiles []EnvFile    `key:"additional_env_files" doc:"More env files to pass to Compose."`
	ConfigFiles        []ConfigFile `key:"config_files" doc:"More files whose change asks for a reaction."`

	SendAlerts       bool   `key:"send_alerts" default:"true" doc:"Alert on the stack's state."`
	RegistryProvider string `key:"registry_provider" doc:"Registry to log in to."`
	RegistryAccount  string `key:"registry_account" doc:"Account to log in with; core has its token."`

	PreDeploy  SystemCommand `key:"pre_deploy" doc:"Command to run on the host before a deploy."`
	PostDeploy SystemCommand `key:"post_deploy" doc:"Command to run on the host after a deploy."`

	ExtraArgs                []string `key:"extra_args" doc:"More arguments for up."`
	BuildExtraArgs           []string `key:"build_extra_args" doc:"More arguments for build."`
	ComposeCmdWrapper        string   `key:"compose_cmd_wrapper" doc:"Refused: Compose runs inside the agent, and no command goes around it."`
	ComposeCmdWrapperInclude []string `key:"compose_cmd_wrapper_include" moot:"compose_cmd_wrapper is not supported" doc:"Subcommands that would be wrapped."`

	IgnoreServices []string `key:"ignore_services" doc:"Services left out of the stack's health."`
	FileContents   string   `key:"file_contents" form:"file" doc:"The Compose file itself, instead of files."`
	Environment    []EnvVar `key:"environment" doc:"Variables for Compose: KEY = value lines, a list of KEY=value, or of {variable, value}."`
}

// Placed reports whether the stack is for any server.
func (c *StackConfig) Placed() bool {
	return c.Server != "" || len(c.Servers)+len(c.ServerTags) > 0
}

// Rollout is [stack.config.rollout].
type Rollout struct {
	// Batch is a number, or a share such as "25%".
	Batch       string        `key:"batch" form:"share" doc:"Servers that are deployed at a time: a number, or a share of all such as 25%. Empty is one, if anything else of the rollout is said."`
	Canary      []string      `key:"canary" doc:"Names of the servers that go first, all together."`
	Order       []string      `key:"order" doc:"Names of the servers that go next, in this order; the others follow by name."`
	MaxFailures int           `key:"max_failures" doc:"Servers that may fail before it stops."`
	Pause       time.Duration `key:"pause" doc:"Time between two batches, such as 10m."`
	OnFailure   string        `key:"on_failure" default:"stop" enum:"stop,rollback" doc:"What is done when it stops: nothing more, or what was done is put back too."`
}

// Declared reports whether the stack has a rollout.
func (r *Rollout) Declared() bool {
	return r.Batch != "" || len(r.Canary)+len(r.Order) > 0 || r.MaxFailures > 0 || r.Pause > 0 || r.OnFailure == "rollback"
}

// Size is the batch as a number, and whether it is a share in percent.
func (r *Rollout) Size() (n int, percent bool, err error) {
	text, percent := strings.CutSuffix(strings.TrimSpace(r.Batch), "%")
	if text == "" && !percent {
		return 1, false, nil
	}
	n, err = strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n < 1 || percent && n > 100 {
		return 0, percent, fmt.Errorf("%q is neither a number from 1 nor a share from 1%% to 100%%", r.Batch)
	}
	return n, percent, nil
}

// Overlay is one [[stack.config.overlay]]: what differs on some servers of a stack.
type Overlay struct {
	Servers     []string `key:"servers" doc:"Names of the servers it is for."`
	ServerTags  []string `key:"server_tags" doc:"It is for every server that carries all of these tags."`
	FilePaths   []string `key:"file_paths" doc:"Compose files after those of the stack."`
	Environment []EnvVar `key:"environment" doc:"Variables over those of the stack."`
	Profiles    []string `key:"profiles" doc:"Compose profiles beside those of the stack."`
	ProjectName string   `key:"project_name" doc:"Compose project name on these servers."`
	Pos         fleet.Position
}

// Updates are settings of image updates that stacks and deployments share.
type Updates struct {
	UpdateMinAge time.Duration `key:"update_min_age" doc:"How old a newer image must be before it is deployed, such as 12h or 3-day."`
}

// Deployment is a [[deployment]] table: one container.
type Deployment struct {
	Common
	Ordered
	Config DeploymentConfig

	marks
}

// DeploymentConfig is [deployment.config].
type DeploymentConfig struct {
	Swarm                string `key:"swarm" old:"swarm_id" later:"true" doc:"Swarm to deploy on."`
	Server               string `key:"server" old:"server_id" doc:"Name of the server to deploy on."`
	CustomName           string `key:"custom_name" doc:"Name of the container; empty is the deployment's name."`
	Image                Image  `key:"image" doc:"What to run: an image, or the result of a build."`
	ImageRegistryAccount string `key:"image_registry_account" doc:"Account to log in to the registry with; core has its token."`
	SkipSecretInterp     bool   `key:"skip_secret_interp" doc:"Leave [[NAME]] as it is written."`
	RedeployOnBuild      bool   `key:"redeploy_on_build" later:"true" doc:"Deploy again after the build has run."`
	PollForUpdates       bool   `key:"poll_for_updates" doc:"Look for a newer image digest, and tell of it."`
	AutoUpdate           bool   `key:"auto_update" doc:"Deploy again when the image digest is newer."`
	Updates
	UpdatePolicy       string   `key:"update_policy" doc:"Newer tags to tell of: a range of versions such as ~1.4, or a regular expression between slashes."`
	SendAlerts         bool     `key:"send_alerts" default:"true" doc:"Alert on the container's state."`
	Links              []string `key:"links" doc:"Quick links."`
	Network            string   `key:"network" default:"host" doc:"Network to join: host, bridge, none, or the name of one."`
	Restart            string   `key:"restart" default:"no" enum:"no,on-failure,always,unless-stopped" doc:"When Docker starts the container again."`
	Command            string   `key:"command" doc:"Arguments after the image."`
	Replicas           int      `key:"replicas" default:"1" later:"true" doc:"Number of tasks in a swarm."`
	TerminationSignal  string   `key:"termination_signal" default:"SIGTERM" enum:"SIGHUP,SIGINT,SIGQUIT,SIGTERM" doc:"Signal that stops the container."`
	TerminationTimeout int      `key:"termination_timeout" default:"10" doc:"Seconds until the container is killed."`
	ExtraArgs          []string `key:"extra_args" doc:"More arguments, as of docker run."`
	TermSignalLabels   []EnvVar `key:"term_signal_labels" form:"labels" later:"true" doc:"What the signals mean, for people."`
	Ports              []Pair   `key:"ports" doc:"Ports, HOST:CONTAINER a line."`
	Volumes            []Pair   `key:"volumes" doc:"Mounts, HOST:CONTAINER a line."`
	Environment        []EnvVar `key:"environment" doc:"Variables of the container: KEY = value lines, a list of KEY=value, or of {variable, value}."`
	Labels             []EnvVar `key:"labels" form:"labels" doc:"Labels of the container: KEY = value lines."`
}

// Image is what a deployment runs: {type, params}.
type Image struct {
	// Type is "Image" or "Build"; empty when nothing was said.
	Type    string `key:"type" doc:"Image or Build."`
	Image   string `key:"image" doc:"Image reference."`
	Build   string `key:"build" old:"build_id" doc:"Name of the build."`
	Version string `key:"version" form:"version" default:"0.0.0" doc:"Version of the build; 0.0.0 is the latest."`
	Pos     fleet.Position
}

// Pair is one entry of ports or volumes.
type Pair struct {
	Local     string `key:"local" doc:"What is on the host."`
	Container string `key:"container" doc:"What is in the container."`
	Pos       fleet.Position
}

// Repo is a [[repo]] table.
type Repo struct {
	Common
	Config RepoConfig

	marks
}

// RepoConfig is [repo.config].
type RepoConfig struct {
	Server  string `key:"server" old:"server_id" doc:"Server to put the files on; empty is none."`
	Builder string `key:"builder" old:"builder_id" later:"true" doc:"Builder that builds from the repository."`
	GitSource
	Path             string        `key:"path" doc:"Directory on the server; empty is one of the agent's."`
	OnClone          SystemCommand `key:"on_clone" doc:"Command to run on the host after the files are there first."`
	OnPull           SystemCommand `key:"on_pull" doc:"Command to run on the host after the files changed."`
	Links            []string      `key:"links" doc:"Quick links."`
	Environment      []EnvVar      `key:"environment" doc:"Variables written to env_file_path."`
	EnvFilePath      string        `key:"env_file_path" default:".env" doc:"Where environment is written, relative to the repository."`
	SkipSecretInterp bool          `key:"skip_secret_interp" doc:"Leave [[NAME]] as it is written."`
	Webhook
}
