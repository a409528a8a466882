package compose

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/varanhq/varan/fleet"
)

// Tree is the content of one commit or directory. Paths are slash separated and
// relative to its root, as in io/fs. Stat must not follow symbolic links.
type Tree interface {
	fs.FS
	fs.ReadDirFS
	fs.ReadFileFS
	fs.StatFS
	// ObjectID names the content of a file or directory: equal ids, equal content.
	ObjectID(name string) (string, error)
}

// Variable is one entry of a stack's environment, or a variable it may use.
type Variable struct {
	Name  string
	Value string
	// Secret values never appear in a field, a label, a diagnostic or a plain digest.
	Secret bool
	// Expand says that Value refers to other variables as ${NAME}, and that $$ is a dollar
	// sign in it, as in an environment file.
	Expand bool
	// Refused says why the variable is not for this stack or server. It has no value then,
	// and using it is an error with this message and the rule "variable-scope".
	Refused string
	// Origin is where the variable is declared.
	Origin fleet.Position
}

// Decrypter opens encrypted files of a tree, in memory. It is bound to the identities of
// one tier.
type Decrypter interface {
	// Decrypt opens a file. ok is false for a file that is not encrypted, which is most.
	// fault says what is wrong, without a secret: why an encrypted file cannot be opened, or
	// that one in plain text looks like a mistake.
	Decrypt(name string, data []byte) (plain Plaintext, ok bool, fault *fleet.Diagnostic)
}

// Plaintext is a decrypted file.
type Plaintext struct {
	Data []byte
	// Values are the decrypted values in it: each is a secret.
	Values []string
	// Names are the variables of an environment file whose values were encrypted.
	Names []string
	// Locked says that the file could not be opened here, and Data is a stand-in in which
	// every encrypted value is a zero, or false. What it leads to may not be so.
	Locked bool
	// Public content holds no secret: it is released like a file that was never encrypted.
	Public bool
}

// Request says which stack to load, from where, and for whom.
type Request struct {
	// Tree is required; everything is read from it.
	Tree Tree
	// Repository names the repository that Tree is of when that is not the one of the stack's
	// declaration: it is put before the paths of findings.
	Repository string
	// Stack, Server and Project are required names.
	Stack, Server, Project string
	// Origin is where the stack is declared: for findings no Compose file explains.
	Origin fleet.Position
	// Settings are where its settings are declared; zero ones stand for Origin.
	Settings Settings
	// Tier is that of the server; empty means trusted.
	Tier fleet.Tier
	// RunDirectory is a directory in Tree; empty means its root.
	RunDirectory string
	// FilePaths are the Compose files, later ones override; empty means the one file
	// that has a usual name.
	FilePaths []string
	// MoreFilePaths are Compose files after these, or after the inline one.
	MoreFilePaths []string
	// FileContents is a Compose file given inline instead of by FilePaths.
	FileContents string
	// FileContentsOrigin is where the string FileContents begins.
	FileContentsOrigin fleet.Position
	// Environment is the stack's own environment, already interpolated.
	Environment []Variable
	// Variables are what ${NAME} can stand for when neither Environment nor an environment
	// file of the run directory says it: those of core and of the whole tree. Result.Variables
	// are the names that counted.
	Variables Pool `json:"-"`
	// LocalSecrets are those of the server's agent. A name that nothing else gives a value
	// to stands for the secret's token, which the agent replaces.
	LocalSecrets []fleet.LocalSecret
	// Offline says that Variables and LocalSecrets are not known, so that a variable without
	// a value may have one: that is a note instead of an error.
	Offline bool
	// Decrypter opens the encrypted files of the stack; nil when there are no identities.
	Decrypter Decrypter
	// HostDir is the absolute directory of the host that RunDirectory is a view of, for a
	// stack whose files are there already: no file is put into the release, and relative
	// paths become paths below HostDir. Empty for a stack whose files are delivered.
	HostDir string
	// AdditionalEnvFiles are read before Environment; later ones win.
	AdditionalEnvFiles []EnvFile
	// ConfigFiles are put into the release whether or not something mounts them.
	ConfigFiles []ConfigFile
	// ExtraArgs and BuildExtraArgs are more arguments for up and build.
	ExtraArgs, BuildExtraArgs []string
	// PreDeploy and PostDeploy run on the host around a deploy.
	PreDeploy, PostDeploy Hook
	// FirstDeploy runs before PostDeploy after the first deploy of a checkout.
	FirstDeploy Hook
	// InterpolateFiles replaces [[NAME]] in Compose files and config files of the tree; nil
	// leaves it as it is.
	InterpolateFiles func(file, text string) Interpolated `json:"-"`
	// Secrets are values that FileContents may hold beside those of Environment.
	Secrets []string
	// EnvFilePath is where Environment is written on the host; empty means ".env".
	EnvFilePath string
	// Profiles are the Compose profiles to enable, beside those that COMPOSE_PROFILES names.
	Profiles []string
	// Key is the HMAC key for content that may hold secrets. Required.
	Key []byte
	// Options go into the release as they are.
	Options fleet.ReleaseOptions
	// Commit goes into the release; no digest covers it.
	Commit fleet.Commit
	// Lenient makes undefined variables blank with a warning, as Compose does.
	Lenient bool
}

// Result is a loaded stack.
type Result struct {
	Release fleet.Release
	// Content has a blob for every digest the release names.
	Content map[fleet.Digest]Blob
	// Dependencies are the paths in the tree that decided the result, sorted, those
	// that were looked for and not found included.
	Dependencies []string
	// Variables are the names that were looked for in Request.Variables and LocalSecrets,
	// sorted, those that are not there included: with the same values for them, the result
	// is the same.
	Variables []string
	// Claims are what the stack takes of its server.
	Claims Claims
	// Advice are warnings about what works and could be better: rules that a repository
	// may make errors of, or leave out.
	Advice fleet.Diagnostics
}

// Blob is content of a release: generated, or a file of the tree.
type Blob struct {
	// Path is the file in the tree; empty for generated content.
	Path string
	// Size is the number of bytes.
	Size int64
	// data is generated content. It may hold secrets.
	data []byte
}

// Bytes returns the content. tree may be a later one in which Path is unchanged.
func (b Blob) Bytes(tree fs.ReadFileFS) ([]byte, error) {
	if b.Path == "" {
		return b.data, nil
	}
	data, err := tree.ReadFile(b.Path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", b.Path, err)
	}
	return data, nil
}

// Load resolves one stack. The result has a release when no diagnostic is an error, but
// for a stack that cannot be resolved offline; otherwise it says only what it depends on,
// and advice.
func Load(ctx context.Context, req Request) (Result, fleet.Diagnostics) {
	l := newLoad(req)
	release, ok := l.run(ctx)
	l.forgive()
	if l.guessed {
		l.advice = nil // it would be about the stand-ins of what is encrypted
	}
	result := Result{
		Dependencies: slices.Sorted(maps.Keys(l.deps)), Variables: l.env.pool.names(), Advice: l.advice.Sort(),
	}
	result.Claims.Paths = l.claims.Paths
	if ok {
		result.Release, result.Content, result.Claims = release, l.content, l.claims
	}
	return result, l.findings.Sort()
}

func newLoad(req Request) *load {
	l := &load{
		req:     req,
		dir:     cleanDir(req.RunDirectory),
		base:    ".",
		deps:    map[string]bool{},
		sources: map[string]*source{},
		bases:   map[string][]serviceRef{},
		content: map[fleet.Digest]Blob{},
		files:   map[string]fleet.File{},
		texts:   map[string]content{},
		unknown: map[string]bool{},
		plain:   map[string]Plaintext{},
		faulted: map[string]bool{},
		kept:    map[string]bool{},
	}
	l.seal = newSealer(req.Key)
	l.env = scope{pool: newPool(&l.req, l.seal)}
	return l
}

// load is the state of one Load.
type load struct {
	req Request
	dir string
	// base is the directory, relative to dir, that paths in the Compose files start from:
	// that of the first one.
	base string
	// findings grow up to maxFindings.
	findings fleet.Diagnostics
	// advice is kept apart: there is much of it, and it must crowd out nothing.
	advice fleet.Diagnostics
	// subject is the service that is being looked at.
	subject string
	claims  Claims
	deps    map[string]bool
	// sources are the Compose files read, by path relative to the run directory.
	sources map[string]*source
	// mains are the documents of the files asked for, lowest precedence first;
	// included those of the files they include.
	mains, included []*layer
	// bases are what each service extends, nearest first.
	bases map[string][]serviceRef
	// includeEnv are the environment files that include reads.
	includeEnv map[string][]byte
	env        scope
	envFile    generatedFile
	seal       *sealer
	content    map[fleet.Digest]Blob
	// texts are the text files read, files those of the release; both by path relative to
	// the run directory. mounted is the size of all files.
	texts   map[string]content
	files   map[string]fleet.File
	mounted int64
	args    arguments
	// unknown are variables that have no value here and may have one in core.
	unknown map[string]bool
	// configPaths are the files and directories in which [[NAME]] may be replaced.
	configPaths []string
	// plain are the encrypted files that were opened, and faulted those something was said
	// about already, by path relative to the run directory.
	plain   map[string]Plaintext
	faulted map[string]bool
	// secretModel says that one of them is not only passed on.
	secretModel bool
	// guessed says that the model is made of stand-ins for what could not be opened.
	guessed bool
	// asIs leaves encrypted files as they are: into an image goes no secret. kept are the
	// files that were taken so.
	asIs bool
	kept map[string]bool
}

// generatedFile is the environment file written for the stack.
type generatedFile struct {
	path string
	data []byte
}

// run does the steps in order; each needs the one before to have found no error.
func (l *load) run(ctx context.Context) (fleet.Release, bool) {
	if !l.checkRequest() {
		return fleet.Release{}, false
	}
	mains := l.mainPaths()
	l.prepareEnvironment()
	l.parseArguments()
	l.readMains(mains)
	if l.findings.HasErrors() {
		return fleet.Release{}, false
	}
	l.followReferences()
	l.checkSources()
	l.checkPortability()
	if l.findings.HasErrors() {
		return fleet.Release{}, false
	}
	mark := len(l.findings)
	release, ok := l.resolve(ctx)
	if !ok && l.guessed {
		l.doubt(mark)
	}
	return release, ok
}

// resolve makes a release of files that passed on their own.
func (l *load) resolve(ctx context.Context) (fleet.Release, bool) {
	project := l.loadProject(ctx)
	if project == nil || l.findings.HasErrors() {
		return fleet.Release{}, false
	}
	l.rescale(project)
	l.resolveEnvironments(project)
	l.resolveLabels(project)
	l.resolveObjects(project)
	l.checkPolicy(project)
	l.checkHardening(project)
	l.claims = l.claim(project)
	used := l.resolvePaths(ctx, project)
	l.claims.Paths = hostPaths(project)
	if l.findings.HasErrors() {
		return fleet.Release{}, false
	}
	release, err := l.release(project, used)
	if err != nil {
		l.fail("compose-invalid", l.req.Origin, err.Error(), "")
		return fleet.Release{}, false
	}
	return release, !l.findings.HasErrors()
}

// Settings are the places of a stack's settings that can be at fault.
type Settings struct {
	RunDirectory, FilePaths, EnvFilePath, ProjectName fleet.Position
	ExtraArgs, BuildExtraArgs, PreDeploy, PostDeploy  fleet.Position
	FirstDeploy                                       fleet.Position
}

// setting is the place of a setting, or of the stack when the setting is left at its default.
func (l *load) setting(place fleet.Position) fleet.Position { return cmp.Or(place, l.req.Origin) }

func (l *load) checkRequest() bool {
	if l.dir == "" {
		l.fail("path-outside", l.setting(l.req.Settings.RunDirectory),
			fmt.Sprintf("run directory %q is not inside the repository", l.req.RunDirectory),
			"give a path relative to the root of the repository")
		return false
	}
	if !validProject(l.req.Project) {
		l.fail("project-name", l.setting(l.req.Settings.ProjectName),
			fmt.Sprintf("project name %q is not one Compose accepts", l.req.Project),
			"use lower-case letters, digits, - and _, and begin with a letter or digit")
		return false
	}
	if l.req.HostDir != "" && !l.checkHostDir() {
		return false
	}
	if l.dir == "." {
		return true
	}
	info, err := l.req.Tree.Stat(l.dir)
	if err != nil || !info.IsDir() {
		// Otherwise it says nothing that the files in it do not.
		l.deps[l.dir] = true
	}
	switch {
	case err != nil:
		l.fail("file-not-found", l.setting(l.req.Settings.RunDirectory), fmt.Sprintf("run directory %q does not exist", l.dir),
			"run_directory is relative to the root of the repository")
	case !info.IsDir():
		l.fail("not-a-directory", l.setting(l.req.Settings.RunDirectory), fmt.Sprintf("run directory %q is not a directory", l.dir), "")
	default:
		return true
	}
	return false
}

// checkHostDir judges the directory of a stack whose files are on the host.
func (l *load) checkHostDir() bool {
	dir, pos := l.req.HostDir, l.setting(l.req.Settings.RunDirectory)
	if !path.IsAbs(dir) || path.Clean(dir) != dir {
		l.fail("path-outside", pos, fmt.Sprintf("%q is not an absolute path", dir), "")
		return false
	}
	if danger := dangerousPath(dir, false); danger != "" {
		l.risky("dangerous-host-path", pos, fmt.Sprintf("the files of the stack are in %s, %s", dir, danger))
	}
	return !l.findings.HasErrors()
}

// maxFindings bounds what one stack reports; nobody reads more.
const maxFindings = 100

func (l *load) add(severity fleet.Severity, rule string, pos fleet.Position, message, hint string) {
	if len(l.findings) >= maxFindings {
		// An error must never be lost to a crowd of warnings.
		if severity != fleet.SeverityError || l.findings.HasErrors() {
			return
		}
	}
	l.findings = append(l.findings, fleet.Diagnostic{
		Rule: rule, Severity: severity, Position: pos,
		Message: l.seal.redact(message), Hint: l.seal.redact(hint), Stack: l.req.Stack, Service: l.subject,
	})
}

// advise warns about what is common and worth improving.
func (l *load) advise(rule string, pos fleet.Position, message, hint string) {
	l.advice = append(l.advice, fleet.Diagnostic{
		Rule: rule, Severity: fleet.SeverityWarning, Position: pos,
		Message: l.seal.redact(message), Hint: l.seal.redact(hint), Stack: l.req.Stack, Service: l.subject,
	})
}

func (l *load) fail(rule string, pos fleet.Position, message, hint string) {
	l.add(fleet.SeverityError, rule, pos, message, hint)
}

func (l *load) note(rule string, pos fleet.Position, message, hint string) {
	l.add(fleet.SeverityNote, rule, pos, message, hint)
}

func (l *load) warn(rule string, pos fleet.Position, message, hint string) {
	l.add(fleet.SeverityWarning, rule, pos, message, hint)
}

// show is a path relative to the run directory as people know it.
func (l *load) show(rel string) string {
	name := path.Join(cmp.Or(l.req.HostDir, l.dir), rel)
	if l.req.Repository != "" {
		return l.req.Repository + ": " + name
	}
	return name
}

// cleanDir is the run directory as io/fs wants it, or "" when it leaves the tree.
func cleanDir(dir string) string {
	clean := path.Clean(dir)
	if dir == "" {
		return "."
	}
	if !fs.ValidPath(clean) {
		return ""
	}
	return clean
}

// serviceNames are the names of the services, sorted: map order decides nothing.
func serviceNames(project *types.Project) []string { return sortedKeys(project.Services) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
