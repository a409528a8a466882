package fleet

// Labels that agents put on the containers, networks and volumes they create.
// They identify; the agent's own journal is the record of what was deployed.
const (
	LabelServer  = "dev.varan.server"
	LabelStack   = "dev.varan.stack"
	LabelRelease = "dev.varan.release"
	LabelCommit  = "dev.varan.commit"
	// LabelOrder holds the id of the order that created the container.
	LabelOrder = "dev.varan.order"
	// LabelDigest holds Service.Digest. It takes part in Compose's own hash, so
	// Compose recreates exactly the services whose digest changed.
	LabelDigest = "dev.varan.digest"
)

// Release is all that one stack needs on its host, resolved by core. An agent
// never reads Git: it gets a release and the blobs its files name.
type Release struct {
	// Digest covers everything below but Commit, Source and the origins: two commits that
	// resolve to the same thing have the same release.
	Digest  Digest `json:"digest"`
	Stack   string `json:"stack"`
	Server  string `json:"server"`
	Project string `json:"project"`
	Commit  Commit `json:"commit"`
	// Source is where the files come from when that is not the tree of Commit.
	Source Source `json:"source,omitzero"`
	// Model is the digest of the blob with the resolved Compose model (YAML). Nothing
	// is left to interpolate in it, and paths inside the run directory are relative
	// ("./conf/app.toml"). It can hold secrets.
	Model Digest `json:"model"`
	// SecretModel says that values out of encrypted files are in the model, so that a host
	// keeps it in memory as it does with such files.
	SecretModel bool `json:"secret_model,omitempty"`
	// Services are sorted by name.
	Services []Service `json:"services"`
	// Volumes are the named volumes, sorted by name. Compose would destroy the data of
	// one whose definition changed, so a plan makes that a gate.
	Volumes []Volume `json:"volumes,omitempty"`
	// Files are placed in the run directory before anything starts; sorted by path.
	Files   []File         `json:"files,omitempty"`
	Options ReleaseOptions `json:"options,omitzero"`
}

// Source is the state of another repository that the files of a release were read from.
type Source struct {
	// Repository is like "github.com/me/other".
	Repository string `json:"repository,omitempty"`
	Commit     Commit `json:"commit,omitzero"`
}

// ReleaseOptions are the stack's deploy settings that the agent acts on.
type ReleaseOptions struct {
	// Pull asks the registry for newer images even when the tag is on the host (auto_pull).
	Pull bool `json:"pull,omitempty"`
	// Build builds services that have a build section before they start (run_build).
	Build bool `json:"build,omitempty"`
	// DestroyFirst takes the stack down before it is brought up (destroy_before_deploy).
	DestroyFirst bool `json:"destroy_first,omitempty"`
	// IgnoreServices are left out of the verdict.
	IgnoreServices []string `json:"ignore_services,omitempty"`
	// Dir is a directory of the host that is used in place of the agent's own run directory:
	// of a repo, or of a stack whose files are on the host already (files_on_host). That of a
	// repo may be relative: then it is below the agent's directory for repositories.
	// The agent's policy says which directories it lets core use.
	Dir string `json:"dir,omitempty"`
	// PreDeploy runs on the host before anything is touched and fails the deploy when it
	// fails; PostDeploy runs after a successful one. The agent's policy must allow it.
	PreDeploy  Command `json:"pre_deploy,omitzero"`
	PostDeploy Command `json:"post_deploy,omitzero"`
	// FirstDeploy runs before PostDeploy when the host had no release of this name yet: on_clone
	// of a repo, whose on_pull is PostDeploy.
	FirstDeploy Command `json:"first_deploy,omitzero"`
	// Up and BuildArgs are what extra_args and build_extra_args ask for.
	Up        UpOptions    `json:"up,omitzero"`
	BuildWith BuildOptions `json:"build_with,omitzero"`
	// Registry names the account to pull with; its password never is in a release.
	Registry RegistryAccount `json:"registry,omitzero"`
}

// Command is a command of a stack that runs on its host (Komodo's SystemCommand).
type Command struct {
	// Path is the directory it runs in, relative to the run directory.
	Path string `json:"path,omitempty"`
	// Script is the digest of a salted blob with the commands, which may hold secrets;
	// empty when there is nothing to run.
	Script Digest `json:"script,omitempty"`
	// Shell runs the whole script through a shell instead of line by line.
	Shell bool `json:"shell,omitempty"`
}

// UpOptions are the flags of `docker compose up` that a stack may ask for.
type UpOptions struct {
	ForceRecreate        bool `json:"force_recreate,omitempty"`
	NoRecreate           bool `json:"no_recreate,omitempty"`
	AlwaysRecreateDeps   bool `json:"always_recreate_deps,omitempty"`
	RenewAnonymousVolume bool `json:"renew_anon_volumes,omitempty"`
	NoDeps               bool `json:"no_deps,omitempty"`
	// TimeoutSeconds bounds how long a container may take to stop; zero is its own setting.
	TimeoutSeconds int `json:"timeout_seconds,omitempty"`
}

// BuildOptions are the flags of `docker compose build` that a stack may ask for.
type BuildOptions struct {
	NoCache bool              `json:"no_cache,omitempty"`
	Pull    bool              `json:"pull,omitempty"`
	Args    map[string]string `json:"args,omitempty"`
}

// RegistryAccount names an account at an image registry.
type RegistryAccount struct {
	// Registry is a host such as "ghcr.io".
	Registry string `json:"registry"`
	Account  string `json:"account"`
}

// Service is one resolved service of a release.
type Service struct {
	Name string `json:"name"`
	// Digest covers the resolved service and the content of every release file it mounts.
	Digest Digest `json:"digest"`
	// Restart covers the content of the files whose change asks for a restart only
	// (config_files with requires = "Restart"); Digest leaves them out. Empty when there
	// are none.
	Restart  Digest `json:"restart,omitempty"`
	Image    string `json:"image"`
	Replicas int    `json:"replicas"`
	// OneShot services do their work and exit 0; they are healthy when they did.
	OneShot   bool     `json:"one_shot,omitempty"`
	DependsOn []string `json:"depends_on,omitempty"`
	// Fields are the service flattened for comparison and explanation; sorted by path.
	Fields []Field `json:"fields,omitempty"`
}

// Field is one leaf of a resolved service. Exactly one of Value and Keyed is set.
type Field struct {
	// Path is like "image", "environment.LOG_LEVEL", "ports[0]" or "file ./conf/app.toml".
	Path string `json:"path"`
	// Value is shown to people.
	Value string `json:"value,omitempty"`
	// Keyed is a keyed hash of a value that must not be shown.
	Keyed string `json:"keyed,omitempty"`
	// Origin is where the value was written, as far as it is known.
	Origin Position `json:"origin,omitzero"`
}

// Same reports whether f and g hold the same value.
func (f Field) Same(g Field) bool { return f.Value == g.Value && f.Keyed == g.Keyed }

// Volume is a named volume of a release.
type Volume struct {
	// Name is the key in the Compose file; Docker's own name has the project in front.
	Name string `json:"name"`
	// Digest covers driver, options, labels and whether it is external.
	Digest Digest `json:"digest"`
	// Origin is where it is declared, as far as it is known.
	Origin Position `json:"origin,omitzero"`
}

// File is one file of a release, relative to the run directory on the host.
type File struct {
	// Path is clean, slash separated, and stays inside the run directory.
	Path string `json:"path"`
	// Mode holds the permission bits only: 0644 or 0755.
	Mode   uint32 `json:"mode"`
	Size   int64  `json:"size"`
	Digest Digest `json:"digest"`
	// Secret files are written 0600 whatever Mode says.
	Secret bool `json:"secret,omitempty"`
	// Salted files hold a decrypted secret. Their blob begins with one line that is not part
	// of the file, so that its digest, which is public, says nothing about the content; the
	// agent drops that line. They are kept in memory (tmpfs), and only linked to from the
	// run directory.
	Salted bool `json:"salted,omitempty"`
}

// Service returns the service of that name.
func (r Release) Service(name string) (Service, bool) {
	for i := range r.Services {
		if r.Services[i].Name == name {
			return r.Services[i], true
		}
	}
	return Service{}, false
}

// Blobs lists the digests of all content that the release needs, each once, in the order
// in which it names them.
func (r Release) Blobs() []Digest {
	out := make([]Digest, 0, len(r.Files)+1)
	seen := make(map[Digest]bool, len(r.Files)+1)
	add := func(d Digest) {
		if d != "" && !seen[d] {
			seen[d] = true
			out = append(out, d)
		}
	}
	add(r.Model)
	for i := range r.Files {
		add(r.Files[i].Digest)
	}
	add(r.Options.PreDeploy.Script)
	add(r.Options.FirstDeploy.Script)
	add(r.Options.PostDeploy.Script)
	return out
}

// Salted lists those of Blobs that must never be on a disk.
func (r Release) Salted() map[Digest]bool {
	out := map[Digest]bool{}
	if r.SecretModel {
		out[r.Model] = true
	}
	for i := range r.Files {
		if r.Files[i].Salted {
			out[r.Files[i].Digest] = true
		}
	}
	for _, d := range []Digest{r.Options.PreDeploy.Script, r.Options.FirstDeploy.Script, r.Options.PostDeploy.Script} {
		if d != "" {
			out[d] = true
		}
	}
	return out
}
