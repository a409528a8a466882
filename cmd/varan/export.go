package main

import (
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/internal/didyoumean"
	"github.com/varanhq/varan/sync/render"
	"github.com/varanhq/varan/sync/spec"
)

// exportFlags choose what is exported, and where to.
type exportFlags struct {
	out     string
	types   []string
	names   []string
	paths   []string
	lenient bool
	live    bool
}

func (a *app) exportCommand() *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:   "export [DIR]",
		Short: "Write resource files in their shortest form",
		Long: `Write what the resource files of a directory declare as one file: sorted, references by name,
and of each resource no more than what differs from the defaults. Reading the file gives the same
resources. Values of secrets are left out; comments are not kept.

With --from-core it is what core holds: what the applied commits of all syncs declare, and the
variables that were set in core.`,
		Example: "  varan export > resources.toml\n  varan export komodo/ --type stack --name 'media-*'\n  varan export --from-core --type variable",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.live {
				if len(args) > 0 || len(f.paths) > 0 {
					return exit.Usagef("--from-core takes no directory and no --path")
				}
				return a.exportCore(cmd, f)
			}
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			return a.export(dir, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.out, "out", "o", "", "file to write instead of standard output")
	flags.StringArrayVar(&f.types, "type", nil, "only resources of this type, such as stack (repeatable)")
	flags.StringArrayVar(&f.names, "name", nil, "only resources of this name: a wildcard, or \\a regular expression\\ (repeatable)")
	flags.StringArrayVar(&f.paths, "path", nil, "resource file or folder in DIR (repeatable; default all)")
	flags.BoolVar(&f.live, "from-core", false, "export what core holds instead of a directory")
	flags.BoolVar(&f.lenient, "lenient", false, "treat unknown keys as warnings, and leave them out")
	return cmd
}

// exported is the result of export for programs.
type exported struct {
	Resources int    `json:"resources"`
	TOML      string `json:"toml"`
}

func (a *app) export(dir string, f exportFlags) error {
	keep, err := f.filter()
	if err != nil {
		return err
	}
	decls, findings, err := loadResources(dir, spec.Options{ResourcePaths: f.paths, Offline: true, Lenient: f.lenient})
	if err != nil {
		return err
	}
	if findings.HasErrors() {
		printDiagnostics(a.stderr, slices.DeleteFunc(findings, func(d fleet.Diagnostic) bool { return d.Severity == fleet.SeverityNote }))
		return &exit.Error{Code: exit.Config, Err: invalid(findings)}
	}
	return a.writeExport(decls, keep, f)
}

// exportCore is export for what core holds.
func (a *app) exportCore(cmd *cobra.Command, f exportFlags) error {
	keep, err := f.filter()
	if err != nil {
		return err
	}
	client, err := a.client()
	if err != nil {
		return err
	}
	held, err := client.Export(cmd.Context())
	if err != nil {
		return err
	}
	file, findings := spec.ParseFile("core.toml", []byte(held.TOML))
	if findings.HasErrors() {
		return fmt.Errorf("read what core holds: %w", findings)
	}
	return a.writeExport(spec.Declarations{Resources: file.Resources}, keep, f)
}

func (a *app) writeExport(decls spec.Declarations, keep func(kind, name string) bool, f exportFlags) error {
	decls.Resources = decls.Select(keep)
	text := spec.Export(decls)
	switch {
	case f.out != "":
		if err := atomicfile.Write(f.out, text, 0o644); err != nil {
			return fmt.Errorf("write the export: %w", err)
		}
		fmt.Fprintf(a.stderr, "%s in %s\n", plural(decls.Len(), "resource"), f.out)
		return nil
	case a.json:
		return a.printJSON(exported{Resources: decls.Len(), TOML: string(text)})
	}
	if _, err := a.stdout.Write(text); err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	return nil
}

// filter is what the flags keep.
func (f exportFlags) filter() (keep func(kind, name string) bool, err error) {
	kinds := map[string]bool{}
	for _, name := range f.types {
		kind, ok := spec.KindOf(strings.ToLower(name))
		if !ok {
			hint := "one of " + strings.Join(spec.Kinds(), ", ")
			if near := didyoumean.Word(name, spec.Kinds()); near != "" {
				hint = "did you mean " + near + "?"
			}
			return nil, &exit.Error{Code: exit.Usage, Err: fmt.Errorf("there is no resource type %q", name), Hint: hint}
		}
		kinds[kind] = true
	}
	var patterns []spec.Pattern
	for _, text := range f.names {
		p, err := spec.ParsePattern(text)
		if err != nil {
			return nil, &exit.Error{Code: exit.Usage, Err: fmt.Errorf("the pattern %q: %w", text, err)}
		}
		patterns = append(patterns, p)
	}
	return func(kind, name string) bool {
		return (len(kinds) == 0 || kinds[kind]) &&
			(len(patterns) == 0 || slices.ContainsFunc(patterns, func(p spec.Pattern) bool { return p.Match(name) }))
	}, nil
}

// loadResources reads the resource files of a directory, and nothing they refer to.
func loadResources(dir string, options spec.Options) (spec.Declarations, fleet.Diagnostics, error) {
	tree, err := render.DirTree(dir)
	if err != nil {
		return spec.Declarations{}, nil, &exit.Error{Code: exit.Config, Err: fmt.Errorf("read %s: %w", dir, err)}
	}
	if closer, ok := fs.FS(tree).(io.Closer); ok {
		defer func() { _ = closer.Close() }()
	}
	decls, findings := spec.Load(tree, options)
	return decls, findings, nil
}
