package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/didyoumean"
	"github.com/varanhq/varan/sync/spec"
	"github.com/varanhq/varan/sync/takeover"
)

// importFlags say where imported files go.
type importFlags struct {
	out                       string
	dryRun, force, setSecrets bool
}

func (a *app) importCommand() *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import SERVER [PROJECT ...]",
		Short: "Write resource files for Compose projects that run on a server",
		Long: `Write a stack for each Compose project that runs on a server and is not Varan's yet, with its
files below stacks/, and the declarations in stacks.toml. Nothing on the server is touched: the
projects are taken over as they are when the files are committed and applied.

Values that look like secrets are not written. They become variables such as [[WEB_PASSWORD]];
--set-secrets puts their values into core. Files stay on the host when containers mount what is
beside them, and when the policy of the host does not let core read them.`,
		Example: "  varan import alpha --dry-run\n  varan import alpha web db --out fleet/ --set-secrets",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.importProjects(cmd.Context(), args[0], args[1:], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.out, "out", "o", ".", "directory of the repository to write to")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would be written, and write nothing")
	flags.BoolVar(&f.force, "force", false, "overwrite files that exist with other content")
	flags.BoolVar(&f.setSecrets, "set-secrets", false, "set the secrets that are found in core, for their stacks alone")
	return cmd
}

// imported is the result of import for programs.
type imported struct {
	Server   string            `json:"server"`
	Projects []importedProject `json:"projects"`
	// Loose are containers that belong to no Compose project: they are left alone.
	Loose []string `json:"loose,omitempty"`
	// Files are those written, or with DryRun those that would be.
	Files  []string `json:"files"`
	DryRun bool     `json:"dry_run,omitempty"`
}

type importedProject struct {
	Project string `json:"project"`
	// Stack is empty when the project is not imported; Notes say why.
	Stack       string   `json:"stack,omitempty"`
	FilesOnHost bool     `json:"files_on_host,omitempty"`
	Secrets     []string `json:"secrets,omitempty"`
	Notes       []string `json:"notes,omitempty"`
	// failed projects were to be imported.
	failed bool
}

func (a *app) importProjects(ctx context.Context, server string, names []string, f importFlags) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	list, err := client.Projects(ctx, server)
	if err != nil {
		return err
	}
	chosen, err := chooseProjects(list.Projects, server, names)
	if err != nil {
		return err
	}
	w, err := openOut(f)
	if err != nil {
		return err
	}
	i := &importer{client: client, server: server, out: w}
	i.result = imported{Server: server, Projects: []importedProject{}, Files: []string{}, DryRun: f.dryRun}
	for _, c := range list.Loose {
		i.result.Loose = append(i.result.Loose, c.Name)
	}
	for n := range chosen {
		if err := i.project(ctx, &chosen[n], len(names) > 0); err != nil {
			return err
		}
	}
	if i.result.Files, err = w.write(i.declare(), f); err != nil {
		return err
	}
	if f.setSecrets && !f.dryRun {
		if err := i.setSecrets(ctx); err != nil {
			return err
		}
	}
	return a.reportImport(i, f)
}

// chooseProjects are those named, or all.
func chooseProjects(all []api.HostProject, server string, names []string) ([]api.HostProject, error) {
	if len(names) == 0 {
		return all, nil
	}
	var chosen []api.HostProject
	var known []string
	for _, p := range all {
		known = append(known, p.Name)
	}
	for _, name := range names {
		at := slices.Index(known, name)
		if at < 0 {
			hint := "without names all are imported; --dry-run lists them"
			if near := didyoumean.Word(name, known); near != "" {
				hint = "did you mean " + near + "?"
			}
			return nil, &exit.Error{Code: exit.Usage, Err: fmt.Errorf("no Compose project %q is on %s", name, server), Hint: hint}
		}
		chosen = append(chosen, all[at])
	}
	return chosen, nil
}

// importer gathers what is to be written.
type importer struct {
	client  *api.Client
	server  string
	out     *outTree
	stacks  []spec.Stack
	secrets []stackSecret
	result  imported
}

// stackSecret is a secret with the stack that needs it.
type stackSecret struct {
	takeover.Secret
	stack string
}

// project imports one project. named says that a person asked for it.
func (i *importer) project(ctx context.Context, p *api.HostProject, named bool) error {
	row := importedProject{Project: p.Name}
	skip := func(note string, failed bool) error {
		row.Notes, row.failed = append(row.Notes, note), failed
		i.result.Projects = append(i.result.Projects, row)
		return nil
	}
	if p.Managed() {
		return skip("is stack "+p.Stack+" of Varan already", named)
	}
	stack, declared := i.out.nameFor(p.Name, i.server)
	if declared != nil {
		return skip("is declared already at "+declared.String(), named)
	}
	files, err := i.client.ProjectFiles(ctx, i.server, p.Name)
	if err != nil {
		return err
	}
	if len(files.Diagnostics) > 0 {
		return skip("Varan would refuse it: "+files.Diagnostics[0].String(), true)
	}
	if files.Dir == "" || len(files.ComposeFiles) == 0 {
		return skip("its containers do not say from which files they were made", true)
	}
	converted := takeover.Convert(hostProject(files, i.server, stack), path.Join(i.out.prefix, "stacks", stack))
	row.Stack, row.FilesOnHost = converted.Stack.Name, converted.Stack.Config.FilesOnHost
	row.Notes = converted.Notes
	i.stacks = append(i.stacks, converted.Stack)
	for _, file := range converted.Files {
		if err := i.out.add(path.Join("stacks", stack), file); err != nil {
			return err
		}
	}
	for _, s := range converted.Secrets {
		row.Secrets = append(row.Secrets, s.Name)
		i.secrets = append(i.secrets, stackSecret{s, stack})
	}
	i.result.Projects = append(i.result.Projects, row)
	return nil
}

func hostProject(files api.ProjectFiles, server, stack string) takeover.Project {
	p := takeover.Project{
		Name: files.Project, Stack: stack, Server: server, Dir: files.Dir,
		ComposeFiles: files.ComposeFiles, EnvFiles: files.EnvFiles, Mounts: files.Mounts,
	}
	for _, r := range files.Refused {
		p.Refused = r.Path + ": " + r.Reason
		break
	}
	for _, f := range files.Files {
		p.Files = append(p.Files, takeover.File{Path: f.Path, Mode: f.Mode, Content: f.Content})
	}
	return p
}

// declare is what stacks.toml gets: the stacks, and the server unless it is declared.
func (i *importer) declare() []byte {
	if len(i.stacks) == 0 {
		return nil
	}
	d := spec.Declarations{Resources: spec.Resources{Stacks: i.stacks}}
	known := func(s spec.Server) bool { return s.Name == i.server }
	if !slices.ContainsFunc(i.out.declared.Servers, known) {
		d.Servers = []spec.Server{takeover.Server(i.server)}
	}
	return spec.Export(d)
}

// setSecrets puts the values into core, and leaves alone what is there.
func (i *importer) setSecrets(ctx context.Context) error {
	if len(i.secrets) == 0 {
		return nil
	}
	known, err := i.client.Variables(ctx)
	if err != nil {
		return err
	}
	host, err := i.client.Server(ctx, i.server)
	if err != nil {
		return err
	}
	i.secrets = slices.DeleteFunc(i.secrets, func(s stackSecret) bool {
		return slices.ContainsFunc(known, func(v api.Variable) bool { return v.Name == s.Name })
	})
	for _, s := range i.secrets {
		value := api.VariableSpec{Value: api.WriteOnly(s.Value.Reveal()), Secret: true, Description: "imported from " + i.server}
		value.Servers, value.Stacks = []string{i.server}, []string{s.stack}
		if host.Tier == fleet.TierUntrusted {
			value.Tags = []string{"scope:untrusted"}
		}
		if _, err := i.client.SetVariable(ctx, s.Name, value); err != nil {
			return fmt.Errorf("set %s: %w", s.Name, err)
		}
	}
	return nil
}

// resourceFile is where import declares.
const resourceFile = "stacks.toml"

// outTree is the directory that is written to.
type outTree struct {
	dir string
	// prefix is dir in the repository; empty at its root.
	prefix   string
	declared spec.Declarations
	names    map[string]bool
	files    []takeover.File
}

// openOut reads what the repository around the directory declares.
func openOut(f importFlags) (*outTree, error) {
	dir, err := filepath.Abs(f.out)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", f.out, err)
	}
	w := &outTree{dir: dir, names: map[string]bool{}}
	root := repositoryOf(dir)
	if rel, err := filepath.Rel(root, dir); err == nil && rel != "." {
		w.prefix = filepath.ToSlash(rel)
	}
	if _, err := os.Stat(root); os.IsNotExist(err) {
		return w, nil
	}
	declared, findings, err := loadResources(root, spec.Options{Offline: true, Lenient: true})
	if err != nil {
		return nil, err
	}
	if findings = slices.DeleteFunc(findings, func(d fleet.Diagnostic) bool { return d.Severity != fleet.SeverityError }); len(findings) > 0 {
		return nil, &exit.Error{
			Code: exit.Config, Err: fmt.Errorf("what %s declares cannot be read: %w", root, findings), Hint: "varan validate " + root,
		}
	}
	w.declared = declared
	for n := range declared.Stacks {
		w.names[declared.Stacks[n].Name] = true
	}
	return w, nil
}

// repositoryOf is the Git repository that a directory is in, or the directory.
func repositoryOf(dir string) string {
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, ".git")); err == nil {
			return at
		}
		if at == filepath.Dir(at) {
			return dir
		}
	}
}

// nameFor chooses the name of a project's stack, or finds where it is declared already.
// A project that another server has too is called after its server.
func (w *outTree) nameFor(project, server string) (name string, declared *fleet.Position) {
	for n := range w.declared.Stacks {
		s := &w.declared.Stacks[n]
		theirs := firstOf(s.Config.ProjectName, s.Name)
		if theirs == project && (s.Config.Server == server || slices.Contains(s.Config.Servers, server)) {
			at := s.At("name")
			return "", &at
		}
	}
	name = takeover.StackName(project)
	if w.names[name] {
		name = takeover.StackName(project + "-" + server)
	}
	w.names[name] = true
	return name, nil
}

// add takes a file of a host. Its path is the agent's word, and is not trusted.
func (w *outTree) add(dir string, f takeover.File) error {
	if !fs.ValidPath(f.Path) || strings.ContainsAny(f.Path, "\\\x00") || slices.Contains(strings.Split(f.Path, "/"), ".git") {
		return fmt.Errorf("the host names a file %q, which is no path inside its project", f.Path)
	}
	f.Path = path.Join(dir, f.Path)
	w.files = append(w.files, f)
	return nil
}

// write puts everything in its place, or nothing: a file that exists with other content
// stops it unless forced. The declarations are added to those that are there.
func (w *outTree) write(declarations []byte, f importFlags) ([]string, error) {
	files := slices.Clone(w.files)
	if len(declarations) > 0 {
		before, err := os.ReadFile(filepath.Join(w.dir, resourceFile))
		if err != nil && !os.IsNotExist(err) {
			return nil, fmt.Errorf("read %s: %w", resourceFile, err)
		}
		if len(before) > 0 {
			declarations = slices.Concat([]byte(strings.TrimRight(string(before), "\n")+"\n\n"), declarations)
		}
		files = append(files, takeover.File{Path: resourceFile, Mode: 0o644, Content: declarations})
	}
	names := []string{}
	for _, file := range files {
		names = append(names, file.Path)
		there, err := os.ReadFile(filepath.Join(w.dir, filepath.FromSlash(file.Path)))
		if err == nil && file.Path != resourceFile && string(there) != string(file.Content) && !f.force {
			return nil, &exit.Error{
				Code: exit.Config, Err: fmt.Errorf("%s exists with other content; nothing was written", file.Path),
				Hint: "--force overwrites it, --out writes elsewhere",
			}
		}
	}
	if f.dryRun || len(files) == 0 {
		return names, nil
	}
	if err := os.MkdirAll(w.dir, 0o755); err != nil { //nolint:gosec // a repository is for everyone to read
		return nil, fmt.Errorf("make %s: %w", w.dir, err)
	}
	root, err := os.OpenRoot(w.dir)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", w.dir, err)
	}
	defer func() { _ = root.Close() }()
	for _, file := range files {
		if err := writeBelow(root, file); err != nil {
			return nil, fmt.Errorf("write %s: %w", file.Path, err)
		}
	}
	return names, nil
}

// writeBelow follows no symbolic link out of the directory.
func writeBelow(root *os.Root, f takeover.File) error {
	if dir := path.Dir(f.Path); dir != "." {
		if err := root.MkdirAll(filepath.FromSlash(dir), 0o755); err != nil {
			return err
		}
	}
	mode := fs.FileMode(0o644)
	if f.Mode&0o111 != 0 {
		mode = 0o755
	}
	return root.WriteFile(filepath.FromSlash(f.Path), f.Content, mode)
}

// reportImport says what came of it, and what to do next.
func (a *app) reportImport(i *importer, f importFlags) error {
	failed := 0
	for n := range i.result.Projects {
		if i.result.Projects[n].failed {
			failed++
		}
	}
	if a.json {
		if err := a.printJSON(i.result); err != nil {
			return err
		}
	} else {
		a.printImport(i, f)
	}
	if failed > 0 {
		return fmt.Errorf("%s not imported", plural(failed, "project"))
	}
	return nil
}

func (a *app) printImport(i *importer, f importFlags) {
	s := styleFor(a.stdout)
	t := table{head: []string{"PROJECT", "STACK", "FILES", "NOTE"}}
	for n := range i.result.Projects {
		p := &i.result.Projects[n]
		where := "-"
		switch {
		case p.FilesOnHost:
			where = "on the host"
		case p.Stack != "":
			where = "in Git"
		}
		t.add(printable(p.Project), orDash(p.Stack), where, printable(strings.Join(p.Notes, "; ")))
	}
	for _, name := range i.result.Loose {
		t.add(printable(name), "-", "-", "not a Compose project: left alone")
	}
	if len(t.rows) == 0 {
		fmt.Fprintln(a.stderr, "no Compose project runs on "+i.server)
		return
	}
	t.write(a.stdout, s)
	verb := "wrote"
	if f.dryRun {
		verb = "would write"
	}
	for _, name := range i.result.Files {
		fmt.Fprintf(a.stderr, "%s %s\n", verb, printable(path.Join(filepath.ToSlash(f.out), name)))
	}
	if len(i.result.Files) == 0 || f.dryRun {
		return
	}
	if f.setSecrets {
		fmt.Fprintf(a.stderr, "set %s in core\n", plural(len(i.secrets), "secret"))
	}
	fmt.Fprintln(a.stderr, "next:")
	for _, secret := range i.secrets {
		if !f.setSecrets {
			fmt.Fprintf(a.stderr, "  varan secret set %s --stack %s < value\n", secret.Name, secret.stack)
		}
	}
	fmt.Fprintf(a.stderr, "  git add %s && git commit && git push\n", printable(f.out))
	fmt.Fprintln(a.stderr, "  varan plan      # says which projects are taken over as they run")
	fmt.Fprintln(a.stderr, "  varan apply")
}
