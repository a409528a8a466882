// Package job holds the messages between the agent and its worker process: one request
// on the worker's standard input, and lines on its standard output of which the last is
// the result. It is what lets agent/docker start a worker without linking the Compose
// SDK that the worker is made of.
package job

import "time"

// Op is what a worker is asked to do.
type Op string

// The ops. Each is one call of the Compose SDK and is idempotent.
const (
	// Hash touches nothing: it tells what Compose would record of each service.
	Hash    Op = "hash"
	Pull    Op = "pull"
	Build   Op = "build"
	Up      Op = "up"
	Down    Op = "down"
	Restart Op = "restart"
	Stop    Op = "stop"
	Start   Op = "start"
	Pause   Op = "pause"
	Unpause Op = "unpause"
	// Run starts a container of a service and does not wait for it. It is the one op that is
	// not idempotent: who asks looks for the container first.
	Run Op = "run"
)

// Request is all that a worker knows: it reads no environment and no configuration of
// the project's own.
type Request struct {
	Op Op `json:"op"`
	// Host is the address of the Docker Engine.
	Host    string `json:"host"`
	Project string `json:"project"`
	// Dir is the absolute run directory, against which relative paths are resolved.
	Dir string `json:"dir,omitempty"`
	// Model is the absolute path of the resolved model. Without one, Down works from
	// what carries the project's label.
	Model string `json:"model,omitempty"`
	// OwnerLabels go onto containers, networks and volumes, ReleaseLabels onto containers
	// only. Neither takes part in Compose's hash.
	OwnerLabels   map[string]string `json:"owner_labels,omitempty"`
	ReleaseLabels map[string]string `json:"release_labels,omitempty"`
	// Images are what Pull pulls.
	Images []Image `json:"images,omitempty"`
	// Services narrows every op but Pull and Up; empty means all.
	Services []string `json:"services,omitempty"`
	// StopSeconds bounds how long a container may take to stop; zero is its own setting.
	StopSeconds int `json:"stop_seconds,omitempty"`
	// Only narrows the whole model to these services; empty means all.
	Only []string `json:"only,omitempty"`
	// Unlabelled are labels that Hash leaves out of the services.
	Unlabelled []string `json:"unlabelled,omitempty"`
	// Recreate lists services that Up recreates although their hash is the same.
	Recreate []string `json:"recreate,omitempty"`
	// RecreateVolumes lists volumes, by their key in the model, whose data Up may destroy.
	RecreateVolumes []string `json:"recreate_volumes,omitempty"`
	// Up and Build are flags that a stack asks for.
	UpFlags    UpFlags    `json:"up_flags,omitzero"`
	BuildFlags BuildFlags `json:"build_flags,omitzero"`
	// OneOff is what Run runs; OneOffLabels go onto its container instead of the others.
	OneOff       *OneOff           `json:"one_off,omitempty"`
	OneOffLabels map[string]string `json:"one_off_labels,omitempty"`
	// Logins are accounts at image registries. They come over standard input and go nowhere.
	Logins []Login `json:"logins,omitempty"`
	// Refresh makes Build pull newer base images.
	Refresh bool `json:"refresh,omitempty"`
	// Volumes makes Down remove named volumes.
	Volumes bool `json:"volumes,omitempty"`
	// Deadline ends the work wherever it is.
	Deadline time.Time `json:"deadline"`
}

// OneOff is a container to run once. What is empty is as the service has it.
type OneOff struct {
	Service      string            `json:"service"`
	Command      []string          `json:"command,omitempty"`
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Env          map[string]string `json:"env,omitempty"`
	WorkDir      string            `json:"workdir,omitempty"`
	User         string            `json:"user,omitempty"`
	NoDeps       bool              `json:"no_deps,omitempty"`
	ServicePorts bool              `json:"service_ports,omitempty"`
	// AutoRemove has the engine remove the container at its end.
	AutoRemove bool `json:"auto_remove,omitempty"`
}

// Image is one image to pull.
type Image struct {
	Ref      string `json:"ref"`
	Platform string `json:"platform,omitempty"`
}

// UpFlags are flags of `docker compose up`.
type UpFlags struct {
	ForceRecreate        bool `json:"force_recreate,omitempty"`
	AlwaysRecreateDeps   bool `json:"always_recreate_deps,omitempty"`
	RenewAnonymousVolume bool `json:"renew_anon_volumes,omitempty"`
}

// BuildFlags are flags of `docker compose build`.
type BuildFlags struct {
	NoCache bool              `json:"no_cache,omitempty"`
	Args    map[string]string `json:"args,omitempty"`
}

// Login is one account at an image registry.
type Login struct {
	Registry string `json:"registry"`
	Username string `json:"username"`
	Password string `json:"password"`
}

// String leaves the password out.
func (l Login) String() string { return l.Username + "@" + l.Registry }

// GoString leaves the password out.
func (l Login) GoString() string { return l.String() }

// Line is one line of a worker's output. Exactly one field is set.
type Line struct {
	Event    *Event    `json:"event,omitempty"`
	Question *Question `json:"question,omitempty"`
	Result   *Result   `json:"result,omitempty"`
}

// Event is one piece of progress.
type Event struct {
	// ID is like "Container web-api-1" or "Image app:1"; Parent is set for a layer.
	ID     string `json:"id"`
	Parent string `json:"parent,omitempty"`
	// Text is like "Starting" or "Pulled".
	Text    string `json:"text,omitempty"`
	Details string `json:"details,omitempty"`
	// Percent is 0 to 100; -1 when unknown.
	Percent int  `json:"percent"`
	Failed  bool `json:"failed,omitempty"`
}

// Question is something Compose asked and the answer it got.
type Question struct {
	Text   string `json:"text"`
	Answer bool   `json:"answer"`
}

// Result ends a worker's output.
type Result struct {
	// Error is empty on success.
	Error string `json:"error,omitempty"`
	// Images tells, for a pull, what went wrong with each image that was not pulled.
	Images map[string]string `json:"images,omitempty"`
	// Hashes are what Hash found, by service.
	Hashes map[string]string `json:"hashes,omitempty"`
}
