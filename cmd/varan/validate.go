package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/git"
	"github.com/varanhq/varan/sync/render"
	"github.com/varanhq/varan/sync/rules"
)

func (a *app) validateCommand() *cobra.Command {
	var strict, lenient bool
	var paths []string
	cmd := &cobra.Command{
		Use:   "validate [DIR]",
		Short: "Check resource files and Compose files, offline",
		Long: `Check resource files and Compose files, offline. What may live only in core (variables and
secrets set there, servers that joined by themselves) is a note, not an error.`,
		Example: "  varan validate\n  varan validate --json fleet/",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			output, err := renderTree(cmd.Context(), dir, render.Input{ResourcePaths: paths, Lenient: lenient})
			if err != nil {
				return err
			}
			return a.reportValidation(output, strict)
		},
	}
	cmd.Flags().BoolVar(&strict, "strict", false, "treat warnings as errors")
	cmd.Flags().BoolVar(&lenient, "lenient", false, "treat unknown keys as warnings")
	cmd.Flags().StringArrayVar(&paths, "path", nil, "resource file or folder in DIR (repeatable; default all)")
	return cmd
}

// validation is the result of validate for programs.
type validation struct {
	Valid       bool              `json:"valid"`
	Servers     int               `json:"servers"`
	Stacks      int               `json:"stacks"`
	Diagnostics fleet.Diagnostics `json:"diagnostics"`
}

func (a *app) reportValidation(output render.Output, strict bool) error {
	counts := countSeverities(output.Diagnostics)
	valid := counts[fleet.SeverityError] == 0 && (!strict || counts[fleet.SeverityWarning] == 0)
	if a.json {
		v := validation{
			Valid: valid, Servers: len(output.Desired.Servers), Stacks: len(output.Desired.Stacks),
			Diagnostics: output.Diagnostics,
		}
		if v.Diagnostics == nil {
			v.Diagnostics = fleet.Diagnostics{}
		}
		if err := a.printJSON(v); err != nil {
			return err
		}
	} else {
		shown, left := rules.Brief(output.Diagnostics)
		printDiagnostics(a.stdout, shown)
		if left > 0 {
			fmt.Fprintf(a.stdout, "%s on hardening and portability; --json lists them\n", plural(left, "warning"))
		}
		if valid {
			fmt.Fprintf(a.stdout, "%s %s and %s, valid (%s, %s)\n", styleFor(a.stdout).green("ok"),
				plural(len(output.Desired.Servers), "server"), plural(len(output.Desired.Stacks), "stack"),
				plural(counts[fleet.SeverityWarning], "warning"), plural(counts[fleet.SeverityNote], "note"))
		}
	}
	if !valid {
		return &exit.Error{Code: exit.Config, Err: invalid(output.Diagnostics)}
	}
	return nil
}

func countSeverities(ds fleet.Diagnostics) map[fleet.Severity]int {
	counts := map[fleet.Severity]int{}
	for i := range ds {
		counts[ds[i].Severity]++
	}
	return counts
}

func invalid(ds fleet.Diagnostics) error {
	counts := countSeverities(ds)
	return fmt.Errorf("the configuration is invalid: %s, %s",
		plural(counts[fleet.SeverityError], "error"), plural(counts[fleet.SeverityWarning], "warning"))
}

// plural is "1 stack" or "2 stacks".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// printDiagnostics shows each finding on a line, with its hint below.
func printDiagnostics(w io.Writer, ds fleet.Diagnostics) {
	s := styleFor(w)
	for _, d := range ds {
		word := d.Severity.String()
		switch d.Severity {
		case fleet.SeverityError:
			word = s.red(word)
		case fleet.SeverityWarning:
			word = s.yellow(word)
		case fleet.SeverityNote:
			word = s.cyan(word)
		}
		position := d.Position.String()
		if position != "" {
			position = s.bold(printable(position)) + ": "
		}
		fmt.Fprintf(w, "%s%s: %s %s\n", position, word, printable(d.Message), s.dim("["+d.Rule+"]"))
		if d.Hint != "" {
			fmt.Fprintf(w, "  hint: %s\n", printable(d.Hint))
		}
	}
}

func renderDir(ctx context.Context, dir string) (render.Output, error) {
	return renderTree(ctx, dir, render.Input{})
}

// renderTree runs core's own pipeline over a directory. The digest key is made up: it
// only hides values, and nothing is compared with another run.
func renderTree(ctx context.Context, dir string, input render.Input) (render.Output, error) {
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
	files, err := (&tierFiles{}).keyFiles()
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
