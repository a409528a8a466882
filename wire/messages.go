package wire

import (
	"time"

	"github.com/varanhq/varan/fleet"
)

// Version is the protocol both ends must speak. History:
//
//	1  2026-11  hello, report, apply, blobs, progress, result, observe, logs, cancel, host,
//	            registry, files, projects, rotate, rotate_propose, rotate_confirm, core_key: a
//	            side without one answers unknown_verb
const Version = 1

// MinVersion is the oldest protocol a core still accepts.
const MinVersion = 1

// Verb names a request. The comment after each says who sends it and what is answered.
type Verb string

// The verbs of version 1.
const (
	VerbHello    Verb = "hello"    // agent: Hello -> Welcome; the first request of a session
	VerbReport   Verb = "report"   // agent: Report -> nothing
	VerbBlobs    Verb = "blobs"    // agent: BlobsRequest -> a byte stream of blobs, in the order asked
	VerbProgress Verb = "progress" // agent: fleet.Progress, no answer
	VerbResult   Verb = "result"   // agent: fleet.Outcome -> nothing; repeated until answered
	VerbApply    Verb = "apply"    // core: OrderRequest -> Accepted, once the order is in the journal
	VerbCancel   Verb = "cancel"   // core: CancelRequest -> nothing
	VerbObserve  Verb = "observe"  // core: nothing -> Report, read afresh from the engine
	VerbLogs     Verb = "logs"     // core: LogsRequest -> a byte stream of log lines
	VerbHost     Verb = "host"     // core: HostRequest -> HostResult, when it is done
	VerbRegistry Verb = "registry" // agent: RegistryRequest -> Logins
	VerbFiles    Verb = "files"    // core: FilesRequest -> a byte stream of HostFile values
	VerbProjects Verb = "projects" // core: nothing -> Projects

	VerbRotate        Verb = "rotate"         // core: RotateStart -> nothing, once the next key is on the agent's disk
	VerbRotatePropose Verb = "rotate_propose" // agent: RotateProposed -> RotateAccepted, once both keys are accepted
	VerbRotateConfirm Verb = "rotate_confirm" // agent: RotateConfirmed -> RotateDone, once the old key is refused
	VerbCoreKey       Verb = "core_key"       // core: CoreKeys -> nothing, once the agent pins them durably

	VerbCommit Verb = "commit" // agent: CommitRequest -> CommitObject, for a host that wants signed commits
	VerbRest   Verb = "rest"   // core: Rests -> nothing, once they are on the agent's disk
)

// CommitRequest asks for the commit that an order's release is of.
type CommitRequest struct {
	Order string `json:"order"`
}

// CommitObject is a Git commit as it is signed and stored.
type CommitObject struct {
	Raw []byte `json:"raw"`
}

// Rests are what an agent must leave alone, in place of what it was told before.
type Rests struct {
	List []Rest `json:"list,omitempty"`
}

// Rest keeps an agent from putting a stack back by itself while core is away.
type Rest struct {
	// Stack is empty for all of them.
	Stack string `json:"stack,omitempty"`
	// Until is when that ends; zero is when core says so.
	Until time.Time `json:"until,omitzero"`
}

// Join is the JSON payload of a handshake whose purpose is to onboard. Only the core
// that the token's fingerprint names can read it. The session that follows is an
// ordinary one and begins with Hello.
type Join struct {
	// Token is the whole onboarding token, as OnboardingToken.Reveal gives it.
	Token string `json:"token"`
	// Server is the name the agent wants to take.
	Server string `json:"server"`
}

// Hello opens a session.
type Hello struct {
	Version int `json:"version"`
	// Server is the name the agent wants to serve. Core compares it with the name its
	// key belongs to and closes on a mismatch (rule N04).
	Server string          `json:"server"`
	Agent  fleet.AgentInfo `json:"agent"`
	// Running lists the orders in the journal that have no outcome yet.
	Running []string `json:"running,omitempty"`
	// Resting is set when the agent was told to leave stacks alone, which core may have
	// taken back since.
	Resting bool `json:"resting,omitempty"`
}

// Welcome answers Hello.
type Welcome struct {
	Version int    `json:"version"`
	Core    string `json:"core"`
	Server  string `json:"server"`
	// Epoch numbers this session; orders carry it and an agent refuses stale ones.
	Epoch uint64 `json:"epoch"`
	// Time is core's clock, to show the skew.
	Time time.Time `json:"time"`
	// Rotation is the id of the change of the agent's key that is under way, if there is one.
	Rotation string `json:"rotation,omitempty"`
	// Retired says that the key shown was replaced: the session is good for nothing but
	// RotateConfirmed, and has no epoch.
	Retired bool `json:"retired,omitempty"`
}

// Report carries what an agent observes.
type Report struct {
	Agent fleet.AgentInfo `json:"agent"`
	// Full reports replace everything known of the server; others only the stacks named.
	Full   bool                `json:"full"`
	Stacks []fleet.StackReport `json:"stacks,omitempty"`
	// Gone are stacks of which nothing is left on the host.
	Gone []string `json:"gone,omitempty"`
	// Time is the agent's clock, to show the skew.
	Time time.Time `json:"time,omitzero"`
}

// OrderRequest asks an agent for work.
type OrderRequest struct {
	Epoch uint64      `json:"epoch"`
	Order fleet.Order `json:"order"`
}

// Accepted says the order is in the agent's journal: it will be done, or its failure
// reported, whatever happens to the link.
type Accepted struct {
	// Outcome is set when the agent had finished this order before.
	Outcome *fleet.Outcome `json:"outcome,omitempty"`
}

// CancelRequest withdraws an order that has not touched a container yet.
type CancelRequest struct {
	Order string `json:"order"`
}

// HostRequest asks an agent for work on its engine that is not about a stack.
type HostRequest struct {
	Epoch uint64         `json:"epoch"`
	Task  fleet.HostTask `json:"task"`
}

// HostResult says in words what a host task did.
type HostResult struct {
	Text string `json:"text"`
}

// BlobsRequest asks for content. The answer's stream holds, for each digest in turn,
// an eight byte big-endian length and the content.
type BlobsRequest struct {
	// Order must be running on this session; its release must name every digest.
	Order   string         `json:"order"`
	Digests []fleet.Digest `json:"digests"`
}

// LogsRequest asks for the logs of a stack.
type LogsRequest struct {
	Stack string `json:"stack"`
	// Service is one service; empty means all.
	Service string `json:"service,omitempty"`
	Follow  bool   `json:"follow,omitempty"`
	// Tail is how many lines of each container to start with; zero means 100, -1 all.
	Tail       int  `json:"tail,omitempty"`
	Timestamps bool `json:"timestamps,omitempty"`
}

// LogLine is one line of a log stream; the stream is JSON lines.
type LogLine struct {
	Service   string    `json:"service"`
	Container string    `json:"container"`
	Stderr    bool      `json:"stderr,omitempty"`
	Time      time.Time `json:"time,omitzero"`
	Text      string    `json:"text"`
}

// RegistryRequest asks for what an order may pull with.
type RegistryRequest struct {
	// Order must be running on this session; the account is the one its release names.
	Order string `json:"order"`
}

// Logins answers RegistryRequest. The agent keeps them in memory, for that order only.
type Logins struct {
	Logins []Login `json:"logins,omitempty"`
}

// Login is one account at an image registry, with its password in the clear: Noise
// encrypts every byte of the link.
type Login struct {
	// Registry is a host such as "ghcr.io"; "docker.io" is Docker Hub.
	Registry string `json:"registry"`
	Username string `json:"username"`
	Password string `json:"password"`
}

// String leaves the password out.
func (l Login) String() string { return l.Username + "@" + l.Registry }

// GoString leaves the password out.
func (l Login) GoString() string { return l.String() }

// Limits on the files of a host that one FilesRequest may read.
const (
	MaxHostFiles     = 2_000
	MaxHostFile      = 4 << 20
	MaxHostFilesSize = 32 << 20
)

// FilesRequest asks for files of the host. The agent's policy says which directories
// core may read at all.
type FilesRequest struct {
	// Dir is an absolute directory of the host.
	Dir string `json:"dir"`
	// Files are paths below it, slash separated. A directory stands for all regular files
	// below it.
	Files []string `json:"files"`
}

// HostFile is one file of a host; the stream is JSON lines. What was asked for and is not
// there comes as Missing, so that its absence is an answer.
type HostFile struct {
	Path    string `json:"path"`
	Mode    uint32 `json:"mode,omitempty"`
	Content []byte `json:"content,omitempty"`
	Missing bool   `json:"missing,omitempty"`
}

// Projects lists the Compose projects that run on a host, whoever started them.
type Projects struct {
	Projects []Project `json:"projects"`
	// Loose are the containers that belong to no project and are not Varan's; sorted by name.
	Loose []ProjectContainer `json:"loose,omitempty"`
}

// Project is one Compose project, as its containers' labels tell it; sorted by name.
type Project struct {
	Name string `json:"name"`
	// Server and Stack are whose it is; empty when Varan did not make or adopt it.
	Server string `json:"server,omitempty"`
	Stack  string `json:"stack,omitempty"`
	// WorkingDir and ConfigFiles are where Compose was run, and with what.
	WorkingDir  string             `json:"working_dir,omitempty"`
	ConfigFiles []string           `json:"config_files,omitempty"`
	EnvFiles    []string           `json:"env_files,omitempty"`
	Containers  []ProjectContainer `json:"containers"`
}

// ProjectContainer is one container of a Project; sorted by name.
type ProjectContainer struct {
	ID      string               `json:"id"`
	Name    string               `json:"name"`
	Service string               `json:"service"`
	Image   string               `json:"image"`
	ImageID string               `json:"image_id"`
	State   fleet.ContainerState `json:"state"`
	// ConfigHash is what Compose recorded of the service the container was made from.
	ConfigHash string `json:"config_hash,omitempty"`
}
