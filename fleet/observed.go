package fleet

import "time"

// Observed is the last that core heard of every server, by server name.
type Observed map[string]ServerReport

// ServerReport is what one agent said of its server, and whether it is connected.
type ServerReport struct {
	Server string `json:"server"`
	Online bool   `json:"online"`
	// Epoch numbers the session the report came over; a higher one is newer.
	Epoch uint64 `json:"epoch"`
	// Received is core's time of receipt, or of the disconnect when not online.
	Received time.Time `json:"received,omitzero"`
	// Skew is how far the agent's clock is ahead of core's, as far as a message on its way
	// lets that be told; negative when it is behind.
	Skew  time.Duration `json:"skew,omitempty"`
	Agent AgentInfo     `json:"agent,omitzero"`
	// Stacks are sorted by name: all that carry this server's label or are in the journal.
	Stacks []StackReport `json:"stacks,omitempty"`
}

// AgentInfo describes the agent and its engine.
type AgentInfo struct {
	Version  string `json:"version"`
	Hostname string `json:"hostname"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	// Engine is the Docker Engine's version; empty when it does not answer.
	Engine      string `json:"engine,omitempty"`
	EngineAPI   string `json:"engine_api,omitempty"`
	EngineError string `json:"engine_error,omitempty"`
	// LocalSecrets are the secrets that stay on this host, without their values; sorted by name.
	LocalSecrets []LocalSecret `json:"local_secrets,omitempty"`
	// HostCommands says that the agent's policy lets stacks run commands on the host.
	HostCommands bool `json:"host_commands,omitempty"`
	// Tier is the highest that the agent's policy lets its host be; empty leaves it to core.
	Tier Tier `json:"tier,omitempty"`
	// AllowedRegistries are where the policy lets images come from, as ImageAllowed reads
	// them; empty is anywhere.
	AllowedRegistries []string `json:"allowed_registries,omitempty"`
	// LowDisk says how full the disk with the agent's state is, when it is nearly full and
	// the agent takes no new orders; empty otherwise.
	LowDisk string `json:"low_disk,omitempty"`
	// Foreign are the Compose projects on the host that Varan neither made nor took over;
	// sorted by name.
	Foreign []ForeignProject `json:"foreign,omitempty"`
}

// ForeignProject is a Compose project that somebody else started.
type ForeignProject struct {
	Name string `json:"name"`
	// Services are those with a container; sorted.
	Services []string `json:"services,omitempty"`
}

// LocalSecret names a secret that only one agent knows.
type LocalSecret struct {
	Name string `json:"name"`
	// Version is a hash keyed by the agent; it changes with the value and says nothing of it.
	Version string `json:"version"`
}

// Stack returns the report of that stack.
func (r ServerReport) Stack(name string) (StackReport, bool) {
	for i := range r.Stacks {
		if r.Stacks[i].Stack == name {
			return r.Stacks[i], true
		}
	}
	return StackReport{}, false
}

// StackReport is one stack as it runs on a host.
type StackReport struct {
	Stack   string `json:"stack"`
	Project string `json:"project"`
	// Release is the last release that passed its verdict; zero when none did.
	// Its Services carry the fields a plan compares with. Files are left out.
	Release Release `json:"release,omitzero"`
	// DeployedAt is when that release passed.
	DeployedAt time.Time `json:"deployed_at,omitzero"`
	// Bad are releases that failed here and were rolled back, newest last.
	Bad []BadRelease `json:"bad,omitempty"`
	// Busy is the op the agent works on for this stack; empty when idle.
	Busy string `json:"busy,omitempty"`
	// Stopped is set when a person stopped the stack through Varan; it stays stopped.
	Stopped bool `json:"stopped,omitempty"`
	// Drift lists files of a repo that are not as they were placed.
	Drift []Drift `json:"drift,omitempty"`
	// SecretsGone is set when files that are kept in memory only went with a restart of the
	// host: only core can bring them back.
	SecretsGone bool        `json:"secrets_gone,omitempty"`
	Containers  []Container `json:"containers,omitempty"`
}

// BadRelease is a release that did not pass its verdict.
type BadRelease struct {
	Release Digest `json:"release"`
	Commit  string `json:"commit"`
	// Reason is a sentence: "service web: exited with code 1 three times in 4s".
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
	// RolledBack says whether the last good release runs again.
	RolledBack bool `json:"rolled_back"`
}

// ContainerState is Docker's word for a container's life.
type ContainerState string

// The states of a container, as Docker names them.
const (
	StateCreated    ContainerState = "created"
	StateRunning    ContainerState = "running"
	StatePaused     ContainerState = "paused"
	StateRestarting ContainerState = "restarting"
	StateRemoving   ContainerState = "removing"
	StateExited     ContainerState = "exited"
	StateDead       ContainerState = "dead"
)

// ContainerHealth is what a container's health check says.
type ContainerHealth string

// The outcomes of a health check; HealthNone when there is no check.
const (
	HealthNone      ContainerHealth = "none"
	HealthStarting  ContainerHealth = "starting"
	HealthHealthy   ContainerHealth = "healthy"
	HealthUnhealthy ContainerHealth = "unhealthy"
)

// Container is one live container of a stack, matched by label, never by name.
type Container struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Service string `json:"service"`
	Image   string `json:"image"`
	ImageID string `json:"image_id"`
	// ImageDigests are what registries call the image: digests of manifests or of indexes of
	// them, sorted. There are none for an image that was made on the host.
	ImageDigests []string        `json:"image_digests,omitempty"`
	State        ContainerState  `json:"state"`
	Health       ContainerHealth `json:"health"`
	// ExitCode means something only when State is exited.
	ExitCode     int       `json:"exit_code"`
	RestartCount int       `json:"restart_count"`
	StartedAt    time.Time `json:"started_at,omitzero"`
	// Digest is the LabelDigest the container carries.
	Digest Digest `json:"digest"`
	// Drift lists how the live container differs from what the agent deployed:
	// `docker update`, a container replaced by hand, a network taken away.
	Drift []Drift `json:"drift,omitempty"`
	Ports []Port  `json:"ports,omitempty"`
}

// Drift is one live setting that is not what was deployed.
type Drift struct {
	// Field is like "memory", "networks.default" or "environment.KEY".
	Field string `json:"field"`
	Want  string `json:"want,omitempty"`
	Have  string `json:"have,omitempty"`
}

// Port is a published port.
type Port struct {
	HostIP   string `json:"host_ip,omitempty"`
	Host     uint16 `json:"host"`
	Target   uint16 `json:"target"`
	Protocol string `json:"protocol"`
}
