package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/cmd/internal/findings"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/buildinfo"
	"github.com/varanhq/varan/internal/didyoumean"
	"github.com/varanhq/varan/sync/git"
	"github.com/varanhq/varan/sync/render"
	"github.com/varanhq/varan/sync/spec"
)

type validateFlags struct {
	format    string
	output    string
	core      string
	sync      string
	stdinName string
	paths     []string
	strict    bool
	lenient   bool
	verbose   bool
	stdin     bool
}

// askedCore is what --core means without an address: the core that is known anyway.
const askedCore = "known"

func (a *app) validateCommand() *cobra.Command {
	var f validateFlags
	cmd := &cobra.Command{
		Use:   "validate [PATH ...]",
		Short: "Check resource files and Compose files, offline",
		Long: `Check resource files and Compose files, offline. A PATH is a directory, or one file for an
editor. What may live only in core (variables and secrets set there, servers that joined by
themselves) is a note, not an error; with --core it is checked.

Each finding names its rule: varan explain RULE says why it matters. How severe rules are,
the file .varan.toml of the repository decides.

Exit codes: 0 when nothing is wrong, warnings included; 4 when something is, with --strict
a warning too.`,
		Example: `  varan validate
  varan validate fleet/ --format github --strict
  varan validate --format sarif --output varan.sarif
  varan validate stacks.toml --format json
  varan validate --core`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.validate(cmd.Context(), f, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "", "text, json, github, sarif or junit (default text)")
	flags.StringVarP(&f.output, "output", "o", "", "write to this file as well as a summary to the terminal")
	flags.BoolVar(&f.strict, "strict", false, "treat warnings as errors")
	flags.BoolVar(&f.lenient, "lenient", false, "treat unknown keys as warnings")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "also list notes, and hardening and portability one by one")
	flags.StringArrayVar(&f.paths, "path", nil, "resource file or folder in the directory (repeatable; default all)")
	flags.StringVar(&f.core, "core", "", "check against core's servers, variables and accounts; --core=URL names it")
	flags.Lookup("core").NoOptDefVal = askedCore
	flags.StringVar(&f.sync, "sync", "", "with --core: the sync whose place the directory takes")
	flags.BoolVar(&f.stdin, "stdin", false, "check one file, read from standard input")
	flags.StringVar(&f.stdinName, "stdin-filename", "stdin.toml", "with --stdin: the name of the file")
	return cmd
}

func (a *app) validate(ctx context.Context, f validateFlags, args []string) error {
	format, err := a.validateFormat(f.format)
	if err != nil {
		return err
	}
	// --core URL, as the flag of all other commands is written.
	if f.core == askedCore && len(args) > 0 && strings.Contains(args[0], "://") {
		f.core, args = args[0], args[1:]
	}
	if len(args) == 0 && !f.stdin {
		args = []string{"."}
	}
	report, err := a.examine(ctx, f, args)
	if err != nil {
		return err
	}
	if f.strict {
		for i := range report.Diagnostics {
			if report.Diagnostics[i].Severity == fleet.SeverityWarning {
				report.Diagnostics[i].Severity = fleet.SeverityError
			}
		}
	}
	report.Diagnostics = report.Diagnostics.Sort()
	if err := a.writeReport(report, format, f); err != nil {
		return err
	}
	if report.Diagnostics.HasErrors() {
		return &exit.Error{Code: exit.Config, Err: invalid(report.Diagnostics)}
	}
	return nil
}

func (a *app) validateFormat(written string) (findings.Format, error) {
	if written == "" {
		if a.json {
			return findings.JSON, nil
		}
		return findings.Text, nil
	}
	var known []string
	for _, format := range findings.Formats() {
		if string(format) == written {
			return format, nil
		}
		known = append(known, string(format))
	}
	hint := "use " + strings.Join(known, ", ")
	if near := didyoumean.Word(written, known); near != "" {
		hint = "did you mean " + near + "?"
	}
	return "", &exit.Error{Code: exit.Usage, Err: fmt.Errorf("there is no format %q", written), Hint: hint}
}

// examine looks at everything that is named.
func (a *app) examine(ctx context.Context, f validateFlags, args []string) (findings.Report, error) {
	report := findings.Report{Version: buildinfo.Version(), Root: findings.Root(".")}
	var err error
	switch {
	case f.stdin && (len(args) > 0 || f.core != ""):
		err = exit.Usagef("--stdin checks one file on its own")
	case f.stdin:
		var data []byte
		if data, err = io.ReadAll(io.LimitReader(a.stdin, maxEdited+1)); err != nil {
			return report, fmt.Errorf("read standard input: %w", err)
		}
		err = addFile(ctx, &report, f.stdinName, data, f.lenient)
	case f.core != "" && f.lenient:
		err = exit.Usagef("--core checks as core would, which is not --lenient")
	case f.core != "":
		err = a.examineWithCore(ctx, &report, f, args)
	default:
		for i, arg := range args {
			if err = addPath(ctx, &report, f, arg, i == 0); err != nil {
				break
			}
		}
	}
	return report, err
}

// addPath adds what was found in a directory or a file. The first one says which
// repository it is about.
func addPath(ctx context.Context, report *findings.Report, f validateFlags, arg string, first bool) error {
	info, err := os.Stat(arg)
	if err != nil {
		return &exit.Error{Code: exit.Config, Err: fmt.Errorf("read %s: %w", arg, plainPathError(err))}
	}
	if first {
		report.Root = rootOf(arg, info)
	}
	if info.IsDir() {
		output, err := renderTree(ctx, arg, render.Input{ResourcePaths: f.paths, Lenient: f.lenient})
		if err == nil {
			addTree(report, arg, output)
		}
		return err
	}
	data, err := readEdited(arg, info)
	if err != nil {
		return err
	}
	return addFile(ctx, report, filepath.ToSlash(arg), data, f.lenient)
}

func rootOf(arg string, info fs.FileInfo) string {
	if !info.IsDir() {
		arg = filepath.Dir(arg)
	}
	return findings.Root(arg)
}

func plainPathError(err error) error {
	if perr, ok := errors.AsType[*fs.PathError](err); ok {
		return perr.Err
	}
	return err
}

// addTree adds what was found in a directory.
func addTree(report *findings.Report, dir string, output render.Output) {
	report.Servers += len(output.Desired.Servers)
	report.Stacks += len(output.Desired.Stacks)
	countOthers(report, &output.Declarations.Resources)
	report.Diagnostics = append(report.Diagnostics, findings.Within(filepath.ToSlash(dir), output.Diagnostics)...)
	files := slices.Clone(output.Declarations.Files)
	for _, stack := range output.Desired.Stacks {
		for _, service := range stack.Release.Services {
			for _, field := range service.Fields {
				if field.Origin.File != "" {
					files = append(files, field.Origin.File)
				}
			}
		}
	}
	slices.Sort(files)
	for _, file := range slices.Compact(files) {
		report.Files = append(report.Files, filepath.ToSlash(filepath.Join(dir, filepath.FromSlash(file))))
	}
}

// countOthers counts what is neither a server nor runs on one.
func countOthers(report *findings.Report, r *spec.Resources) {
	if report.Others == nil {
		report.Others = map[string]int{}
	}
	for kind, n := range map[string]int{
		"procedure": len(r.Procedures), "alerter": len(r.Alerters), "sync": len(r.Syncs), "variable": len(r.Variables),
		"build": len(r.Builds), "builder": len(r.Builders), "action": len(r.Actions), "swarm": len(r.Swarms), "user group": len(r.UserGroups),
	} {
		if n > 0 {
			report.Others[kind] += n
		}
	}
}

// examineWithCore has core look at a directory: with its servers, variables and accounts,
// and without changing anything.
func (a *app) examineWithCore(ctx context.Context, report *findings.Report, f validateFlags, args []string) error {
	if f.core != askedCore {
		a.core = f.core
	}
	if len(args) != 1 || len(f.paths) > 0 {
		return exit.Usagef("--core checks one directory, with the paths of its sync")
	}
	dir := args[0]
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return &exit.Error{Code: exit.Config, Err: fmt.Errorf("there is no directory %s", dir)}
	}
	report.Root = findings.Root(dir)
	client, err := a.client()
	if err != nil {
		return err
	}
	files, err := api.Pack(os.DirFS(dir))
	if err != nil {
		return &exit.Error{Code: exit.Config, Err: err}
	}
	result, err := client.PlanUpload(ctx, api.UploadRequest{Sync: f.sync, Files: files})
	found := result.Diagnostics
	if err != nil {
		refusal, ok := errors.AsType[*api.Error](err)
		if !ok || len(refusal.Diagnostics) == 0 {
			return err
		}
		found = refusal.Diagnostics
	}
	// What is declared is counted here: core's answer is about what is wrong.
	output, err := renderDir(ctx, dir)
	if err != nil {
		return err
	}
	output.Diagnostics = found
	addTree(report, dir, output)
	return nil
}

// validation is the result of validate for programs.
type validation struct {
	Valid   bool `json:"valid"`
	Servers int  `json:"servers"`
	Stacks  int  `json:"stacks"`
	// Others count what else is declared, by kind.
	Others map[string]int `json:"others,omitempty"`
	findings.Counts
	Diagnostics fleet.Diagnostics `json:"diagnostics"`
}

// writeReport writes to standard output, or to a file and a summary to standard output.
func (a *app) writeReport(report findings.Report, format findings.Format, f validateFlags) error {
	if f.output == "" {
		return writeFormat(a.stdout, report, format, f.verbose)
	}
	file, err := os.Create(f.output)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	err = writeFormat(file, report, format, f.verbose)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write the report %s: %w", f.output, err)
	}
	if format != findings.Text {
		return writeFormat(a.stdout, report, findings.Text, f.verbose)
	}
	return nil
}

func writeFormat(w io.Writer, report findings.Report, format findings.Format, verbose bool) error {
	switch format {
	case findings.JSON:
		v := validation{
			Valid: !report.Diagnostics.HasErrors(), Servers: report.Servers, Stacks: report.Stacks, Others: report.Others,
			Counts: findings.Count(report.Diagnostics), Diagnostics: report.Diagnostics,
		}
		if v.Diagnostics == nil {
			v.Diagnostics = fleet.Diagnostics{}
		}
		return writeJSON(w, v)
	case findings.GitHub:
		if err := report.WriteGitHub(w); err != nil {
			return err
		}
		summarise(w, report)
		return nil
	case findings.SARIF:
		return report.WriteSARIF(w)
	case findings.JUnit:
		return report.WriteJUnit(w)
	case findings.Text:
	}
	printFindings(w, report.Diagnostics, verbose)
	summarise(w, report)
	return nil
}

// summarise is the last line for people. What is invalid is said on standard error.
func summarise(w io.Writer, report findings.Report) {
	if report.Diagnostics.HasErrors() {
		return
	}
	counts := findings.Count(report.Diagnostics)
	fmt.Fprintf(w, "%s %s, valid (%s, %s)\n", styleFor(w).green("ok"), declaredText(report),
		plural(counts.Warnings, "warning"), plural(counts.Notes, "note"))
}

// declaredText counts what is declared: servers and stacks also when there are none, unless
// there is something else.
func declaredText(report findings.Report) string {
	var parts []string
	if report.Servers+report.Stacks > 0 || len(report.Others) == 0 {
		parts = []string{plural(report.Servers, "server"), plural(report.Stacks, "stack")}
	}
	for _, kind := range slices.Sorted(maps.Keys(report.Others)) {
		parts = append(parts, plural(report.Others[kind], kind))
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return strings.Join(parts[:len(parts)-1], ", ") + " and " + parts[len(parts)-1]
}

func renderDir(ctx context.Context, dir string) (render.Output, error) {
	return renderTree(ctx, dir, render.Input{})
}

// renderTree runs core's own pipeline over a directory. The digest key is made up: it
// only hides values, and nothing is compared with another run.
func renderTree(ctx context.Context, dir string, input render.Input) (render.Output, error) {
	// The process ends right after: memory it may have, time it should not take.
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(256 << 20)
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails, as its documentation says
	tree, err := render.DirTree(dir)
	if err != nil {
		return render.Output{}, &exit.Error{Code: exit.Config, Err: fmt.Errorf("read %s: %w", dir, err)}
	}
	if closer, ok := fs.FS(tree).(io.Closer); ok {
		defer func() { _ = closer.Close() }()
	}
	input.Sync, input.Tree, input.Offline = "local", tree, true
	if input.Repository, err = git.Origin(dir); err != nil {
		return render.Output{}, &exit.Error{Code: exit.Config, Err: err}
	}
	files, err := tierKeyFiles()
	if err != nil {
		return render.Output{}, err
	}
	ring, err := localKeyring(files)
	if err != nil {
		return render.Output{}, err
	}
	input.Decrypter, input.Identities = ring.For, ring.Identities()
	output, err := render.New(render.Config{Key: key}).Render(ctx, input)
	if err != nil {
		return render.Output{}, fmt.Errorf("read %s: %w", dir, err)
	}
	return output, nil
}
