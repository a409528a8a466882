package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/sync/sops"
)

func (a *app) secretRekeyCommand() *cobra.Command {
	var keys fileKeys
	var dry, rotate bool
	cmd := &cobra.Command{
		Use:   "rekey [PATH...]",
		Short: "Encrypt files again for the recipients that .sops.yaml names now",
		Long: `Encrypt all encrypted files below PATH (default: here) again where they are not encrypted
for exactly the recipients that .sops.yaml names now. They get a new data key. Whoever was
removed has seen the old values all the same: change those, too.`,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{"."}
			}
			r := &rekeying{keys: &keys, dry: dry, rotate: rotate}
			return a.reportRekey(r, r.run(args))
		},
	}
	keys.register(cmd)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only list what would change")
	cmd.Flags().BoolVar(&rotate, "rotate", false, "new data keys also for files whose recipients are right")
	return cmd
}

// rekeyed is what became of a file.
type rekeyed struct {
	File    string           `json:"file"`
	Action  string           `json:"action"`
	Added   []sops.Recipient `json:"added,omitempty"`
	Removed []sops.Recipient `json:"removed,omitempty"`
	Error   string           `json:"error,omitempty"`
}

type rekeying struct {
	keys        *fileKeys
	dry, rotate bool
	files       []rekeyed
	failed      int
}

// run goes through all files. One that cannot be done does not stop the others.
func (r *rekeying) run(paths []string) error {
	for _, start := range paths {
		err := filepath.WalkDir(start, func(name string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.IsDir() && entry.Name() == ".git":
				return fs.SkipDir
			case !entry.Type().IsRegular():
				return nil
			}
			return r.file(name)
		})
		if err != nil {
			return &exit.Error{Code: exit.Config, Err: fmt.Errorf("look for encrypted files: %w", err)}
		}
	}
	return nil
}

// maxSecretFile is beyond what any encrypted file may have.
const maxSecretFile = 4 << 20

func (r *rekeying) file(name string) error {
	info, err := os.Stat(name)
	if err != nil || info.Size() > maxSecretFile {
		return err //nolint:wrapcheck // of the walk
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return err //nolint:wrapcheck // of the walk
	}
	file, bad := sops.Read(name, data)
	if file == nil && bad == nil {
		return nil
	}
	out := rekeyed{File: name}
	if bad != nil {
		err = diagnosed(bad)
	} else {
		err = r.one(file, name, &out)
	}
	if err != nil {
		out.Action, out.Error = "failed", err.Error()
		r.failed++
	}
	r.files = append(r.files, out)
	return nil
}

func (r *rekeying) one(file *sops.File, name string, out *rekeyed) error {
	to, rule, err := creationRule(name)
	if errors.Is(err, sops.ErrNoRule) {
		out.Action = "no rule"
		return nil
	}
	if err != nil {
		return err
	}
	var differs bool
	if out.Added, out.Removed, differs = file.Differs(to, rule); !differs && !r.rotate {
		out.Action = "unchanged"
		return nil
	}
	opened, err := r.keys.openSecret(name)
	if err != nil {
		return err
	}
	known, err := r.keys.publicKeys()
	if err != nil {
		return err
	}
	sealed, err := opened.Rekey(to, rule, known, time.Now())
	if err != nil {
		return err
	}
	if out.Action = "would be rekeyed"; r.dry {
		return nil
	}
	out.Action = "rekeyed"
	return writeSecret(name, sealed)
}

func (a *app) reportRekey(r *rekeying, err error) error {
	if err != nil {
		return err
	}
	if a.json {
		if r.files == nil {
			r.files = []rekeyed{}
		}
		if err := a.printJSON(map[string]any{"files": r.files, "dry_run": r.dry}); err != nil {
			return err
		}
	} else {
		for _, f := range r.files {
			a.printRekeyed(f)
		}
		if len(r.files) == 0 {
			fmt.Fprintln(a.stdout, "no encrypted file")
		}
	}
	if r.failed > 0 {
		return &exit.Error{Code: exit.Config, Err: fmt.Errorf("%s could not be rekeyed", plural(r.failed, "file"))}
	}
	return nil
}

func (a *app) printRekeyed(f rekeyed) {
	fmt.Fprintf(a.stdout, "%s: %s\n", printable(f.File), f.Action)
	for _, who := range f.Added {
		fmt.Fprintf(a.stdout, "  + %s\n", printable(who.String()))
	}
	for _, who := range f.Removed {
		fmt.Fprintf(a.stdout, "  - %s\n", printable(who.String()))
	}
	if f.Error != "" {
		fmt.Fprintf(a.stdout, "  %s\n", printable(f.Error))
	}
}
