package spec

import "github.com/varanhq/varan/fleet"

// Build is a [[build]] table. It is kept and not acted on.
type Build struct {
	Common
	Config BuildConfig

	marks
}

// BuildConfig is [build.config].
type BuildConfig struct {
	Builder              string   `key:"builder" old:"builder_id" doc:"Name of the builder."`
	Version              string   `key:"version" form:"version" default:"0.0.0" doc:"Version of the image."`
	AutoIncrementVersion bool     `key:"auto_increment_version" default:"true" doc:"Count the patch version up on each build."`
	ImageName            string   `key:"image_name" doc:"Name of the image; empty is the build's name."`
	ImageTag             string   `key:"image_tag" doc:"Word added to the image's tags."`
	IncludeLatestTag     bool     `key:"include_latest_tag" default:"true" doc:"Push the tag latest."`
	IncludeVersionTags   bool     `key:"include_version_tags" default:"true" doc:"Push tags for the version and its parts."`
	IncludeCommitTag     bool     `key:"include_commit_tag" default:"true" doc:"Push a tag for the commit."`
	Links                []string `key:"links" doc:"Quick links."`
	LinkedRepo           string   `key:"linked_repo" old:"linked_repo_id,repo_id" doc:"Repo resource that holds the files."`
	GitSource
	Webhook
	FilesOnHost      bool            `key:"files_on_host" doc:"The files are on the builder already."`
	BuildPath        string          `key:"build_path" default:"." doc:"Directory to build in."`
	DockerfilePath   string          `key:"dockerfile_path" default:"Dockerfile" doc:"The Dockerfile, relative to build_path."`
	ImageRegistry    []ImageRegistry `key:"image_registry" alias:"image_registries" doc:"Where to push: one table, or a list of them."`
	SkipSecretInterp bool            `key:"skip_secret_interp" doc:"Leave [[NAME]] as it is written."`
	UseBuildx        bool            `key:"use_buildx" doc:"Build with buildx."`
	ExtraArgs        []string        `key:"extra_args" doc:"More arguments for the build."`
	PreBuild         SystemCommand   `key:"pre_build" doc:"Command to run before the build."`
	Dockerfile       string          `key:"dockerfile" form:"file" doc:"The Dockerfile itself, instead of a file."`
	BuildArgs        []EnvVar        `key:"build_args" doc:"Build arguments: KEY = value lines."`
	SecretArgs       []EnvVar        `key:"secret_args" doc:"Secrets of the build: KEY = value lines."`
	Labels           []EnvVar        `key:"labels" form:"labels" doc:"Labels of the image: KEY = value lines."`
}

// ImageRegistry is where a build is pushed.
type ImageRegistry struct {
	Domain       string `key:"domain" doc:"Domain of the registry."`
	Account      string `key:"account" doc:"Account to push with."`
	Organization string `key:"organization" doc:"Organization to push under, instead of the account."`
}

// Builder is a [[builder]] table. It is kept and not acted on.
type Builder struct {
	Common
	Config BuilderConfig `key:"config" doc:"What builds: {type, params}."`

	marks
}

// BuilderConfig is the config of a builder: {type, params}. The fields below Type belong
// to one type or two.
type BuilderConfig struct {
	// Type is "Url", "Server" or "Aws"; empty when nothing was said.
	Type string `key:"type" doc:"Url, Server or Aws."`

	Address            string       `key:"address" default:"https://periphery:8120" doc:"Address of the builder's agent."`
	PeripheryPublicKey string       `key:"periphery_public_key" doc:"Public key of the builder's agent."`
	InsecureTLS        bool         `key:"insecure_tls" default:"true" doc:"Do not check the builder's certificate."`
	Passkey            fleet.Secret `key:"passkey" doc:"Deprecated way of proving who core is."`
	Servers            []string     `key:"servers" alias:"server" old:"server_id,server_ids" doc:"Servers to build on."`
	Region             string       `key:"region" default:"us-east-1" doc:"Region of the instances."`
	InstanceType       string       `key:"instance_type" default:"c5.2xlarge" doc:"Type of the instances."`
	VolumeGB           int          `key:"volume_gb" default:"20" doc:"Size of the volume."`
	AMI                string       `key:"ami_id" doc:"Machine image to start from."`
	Subnet             string       `key:"subnet_id" doc:"Subnet of the instances."`
	KeyPairName        string       `key:"key_pair_name" doc:"Key pair of the instances."`
	AssignPublicIP     bool         `key:"assign_public_ip" doc:"Give instances a public address."`
	UsePublicIP        bool         `key:"use_public_ip" doc:"Reach instances by their public address."`
	SecurityGroups     []string     `key:"security_group_ids" doc:"Security groups of the instances."`
	UserData           string       `key:"user_data" doc:"Script that instances run at their start."`
	Port               int          `key:"port" default:"8120" doc:"Port of the agent on the instances."`
	UseHTTPS           bool         `key:"use_https" default:"true" doc:"Reach the agent over https."`
	GitProviders       []Provider   `key:"git_providers" doc:"Git accounts the image has."`
	ImageRegistries    []Provider   `key:"image_registries" old:"docker_registries" doc:"Registry accounts the image has."`
	Secrets            []string     `key:"secrets" doc:"Names of the secrets the image has."`
	Pos                fleet.Position

	_ struct{} `retired:"github_accounts,docker_accounts" doc:"write git_providers and image_registries"`
}

// Provider is the accounts that a builder has at a Git host or registry.
type Provider struct {
	Domain        string            `key:"domain" doc:"Domain of the provider."`
	HTTPS         bool              `key:"https" default:"true" doc:"Reach it over https."`
	Accounts      []ProviderAccount `key:"accounts" doc:"Accounts there."`
	Organizations []string          `key:"organizations" doc:"Organizations there."`
}

// ProviderAccount is an account at a provider.
type ProviderAccount struct {
	Username string       `key:"username" short:"true" doc:"Name of the account."`
	Token    fleet.Secret `key:"token" doc:"Token of the account."`
}
