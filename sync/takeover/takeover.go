// Package takeover turns a Compose project that runs on a host into files of a repository
// that declare the same, so that its containers can be taken over as they are. Passwords
// and keys do not get into the files: each becomes a secret to set in core.
package takeover

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/leak"
	"github.com/varanhq/varan/sync/spec"
)

// Project is what is known of a Compose project on a host.
type Project struct {
	// Name is that of the project, Server the host.
	Name, Server string
	// Stack is the name of the stack it becomes; empty means StackName of Name.
	Stack string
	// Dir is the absolute directory of the host that other paths are relative to.
	Dir string
	// ComposeFiles and EnvFiles are what Compose was given; no EnvFiles stand for ".env".
	ComposeFiles, EnvFiles []string
	Files                  []File
	// Mounts are the paths below Dir that containers mount or images are built from.
	Mounts []string
	// Refused says why the files could not be read; empty when they could.
	Refused string
}

// File is one file: of the host as it is, or of the repository as it is to be.
type File struct {
	Path    string
	Mode    uint32
	Content []byte
}

// Secret is a value that the files only name.
type Secret struct {
	Name  string
	Value fleet.Secret
}

// Result is what declares the project.
type Result struct {
	Stack spec.Stack
	// Files are relative to the stack's run directory.
	Files   []File
	Secrets []Secret
	// Notes say in sentences why the stack is declared as it is, and what to do.
	Notes []string
}

// Convert makes a stack of a project. Its files go to runDirectory of the repository; they
// stay on the host, where the stack then reads them, when moving them would give containers
// other mounts, or when they cannot be had.
func Convert(p Project, runDirectory string) Result {
	c := &conversion{p: p, taken: map[string]string{}}
	c.out.Stack = defaults("stack").Stacks[0]
	c.out.Stack.Name = cmp.Or(p.Stack, StackName(p.Name))
	if c.out.Stack.Name != p.Name {
		c.out.Stack.Config.ProjectName = p.Name
	}
	config := &c.out.Stack.Config
	// Compose pulls nothing that is there, and a newer image would be another container.
	config.Server, config.AutoPull = p.Server, false
	if len(p.ComposeFiles) != 1 || p.ComposeFiles[0] != "compose.yaml" {
		config.FilePaths = p.ComposeFiles
	}
	switch {
	case p.Refused != "":
		c.onHost("its files cannot be read: "+p.Refused,
			"let core read them: add "+p.Dir+" to host_directories in the policy of the host and restart the agent")
		return c.out
	case len(p.Mounts) > 0:
		c.onHost("its containers mount or are built from "+strings.Join(shorten(p.Mounts), ", ")+" of "+p.Dir,
			"to have the files in Git later, move them there and take files_on_host out: what mounts them is then recreated once")
		return c.out
	}
	config.RunDirectory = runDirectory
	if reason := c.toGit(); reason != "" {
		c.out.Files, c.out.Secrets, config.Environment, config.AdditionalEnvFiles = nil, nil, nil, nil
		c.onHost(reason, "to have the files in Git, put what is secret into variables first")
	}
	return c.out
}

// Server is the declaration of a server.
func Server(name string) spec.Server {
	s := defaults("server").Servers[0]
	s.Name = name
	return s
}

// defaults is a resource with nothing but defaults.
func defaults(kind string) spec.File {
	file, findings := spec.ParseFile("", []byte("[["+kind+"]]\nname = \"x\"\n"))
	if findings.HasErrors() {
		panic("takeover: no more than a name is needed: " + findings.Error())
	}
	return file
}

// conversion is one Convert.
type conversion struct {
	p   Project
	out Result
	// taken maps names of secrets to their values.
	taken map[string]string
}

// onHost declares a stack whose files stay where they are.
func (c *conversion) onHost(why, then string) {
	config := &c.out.Stack.Config
	config.FilesOnHost, config.RunDirectory = true, c.p.Dir
	for _, name := range c.p.EnvFiles {
		config.AdditionalEnvFiles = append(config.AdditionalEnvFiles, spec.EnvFile{Path: name, Track: true})
	}
	c.out.Notes = append(c.out.Notes, "the files stay on the host, since "+why, then)
}

// toGit takes the files over, without secrets. It returns why it could not.
func (c *conversion) toGit() (reason string) {
	config := &c.out.Stack.Config
	for _, f := range c.p.Files {
		switch {
		case f.Path == ".env" && len(c.p.EnvFiles) == 0:
			if reason = c.environment(f); reason != "" {
				return reason
			}
			continue
		case isYAML(f.Path):
			f.Content, reason = c.composeFile(f)
		default:
			f.Content, reason = c.envFile(f)
		}
		if reason != "" {
			return reason
		}
		if kind, _ := leak.Find(string(f.Content)); kind != "" {
			return f.Path + " holds " + kind
		}
		c.out.Files = append(c.out.Files, f)
	}
	for _, name := range c.p.EnvFiles {
		config.AdditionalEnvFiles = append(config.AdditionalEnvFiles, spec.EnvFile{Path: name, Track: true})
	}
	slices.SortFunc(c.out.Secrets, func(a, b Secret) int { return strings.Compare(a.Name, b.Name) })
	return ""
}

// secret gives a value a name in core: that of the stack and the variable's.
func (c *conversion) secret(variable, value string) string {
	base := identifier(c.out.Stack.Name + "_" + variable)
	name := base
	for n := 2; c.taken[name] != "" && c.taken[name] != value; n++ {
		name = fmt.Sprintf("%s_%d", base, n)
	}
	if c.taken[name] == "" {
		c.taken[name] = value
		c.out.Secrets = append(c.out.Secrets, Secret{Name: name, Value: fleet.NewSecret(value)})
	}
	return name
}

// isSecret judges a value that is not to be expanded any more: signs that would make it a
// placeholder elsewhere are part of it.
func isSecret(name, value string) bool {
	plain := strings.Map(func(r rune) rune {
		if strings.ContainsRune("$<>{}[]", r) {
			return 'x'
		}
		return r
	}, value)
	kind, _ := leak.Find(value)
	return kind != "" || leak.Password(name, plain)
}

// StackName makes a name that Compose takes for a project as well.
func StackName(project string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '-'
	}, strings.ToLower(project))
	return strings.Trim(name, "-_")
}

// identifier makes the name of a variable.
func identifier(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(text))
}

func isYAML(name string) bool {
	ext := path.Ext(name)
	return ext == ".yaml" || ext == ".yml"
}

// shorten keeps a list of paths to a line.
func shorten(paths []string) []string {
	const few = 3
	if len(paths) <= few {
		return paths
	}
	return append(slices.Clone(paths[:few]), fmt.Sprintf("%d more", len(paths)-few))
}
