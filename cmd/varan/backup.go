package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/internal/atomicfile"
)

func (a *app) backupCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Back up core: its database and its keys, in one encrypted file",
		Long: `Back up core: its database and its keys, in one file that is encrypted for the age recipients of
the setting backup.recipients. Core keeps it in the directory of backup.dir, or gives it to
you with --out. The procedure Backup Core Database does this every night at 01:00.`,
		Example: "  varan backup\n  varan backup --out core.tar.gz.age\n  varan backup --out - | ssh vault 'cat > core.tar.gz.age'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			var made api.Backup
			if out == "" {
				made, err = client.MakeBackup(cmd.Context(), func(text string) { fmt.Fprintln(a.stderr, printable(text)) })
			} else {
				made, err = a.exportBackup(cmd.Context(), client, out)
			}
			switch {
			case err != nil:
				return err
			case out == "-":
				return nil
			case a.json:
				return a.printJSON(made)
			}
			fmt.Fprintf(a.stdout, "%s  %d bytes  SHA-256 %s\n", printable(firstOf(out, made.Name)), made.Bytes, made.SHA256)
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "write the backup to this file, or to standard output with -, instead of having core keep it")
	cmd.AddCommand(a.backupListCommand(), a.backupVerifyCommand())
	return cmd
}

// exportBackup writes a backup to a file that is there whole or not at all.
func (a *app) exportBackup(ctx context.Context, client *api.Client, out string) (made api.Backup, err error) {
	if out == "-" {
		return client.ExportBackup(ctx, a.stdout)
	}
	f, err := os.CreateTemp(filepath.Dir(out), "."+filepath.Base(out)+".*.partial")
	if err != nil {
		return made, fmt.Errorf("create the backup's file: %w", err)
	}
	made, err = client.ExportBackup(ctx, f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = atomicfile.On{FS: atomicfile.OS{}}.Rename(f.Name(), out)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error is the one that tells
	}
	return made, err
}

func (a *app) backupListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the backups that core keeps, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			list, err := client.ListBackups(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(list)
			}
			t := table{head: []string{"BACKUP", "MADE", "BECAUSE", "BYTES", "SHA-256"}}
			for _, b := range list.Backups {
				t.add(b.Name, b.Created.Local().Format(time.DateTime), because(b.Reason), fmt.Sprint(b.Bytes), firstOf(b.SHA256, "-"))
			}
			if len(list.Backups) > 0 {
				t.write(a.stdout, styleFor(a.stdout))
			}
			fmt.Fprintf(a.stderr, "%s in %s on core's host, of which %d are kept\n", plural(len(list.Backups), "backup"), list.Dir, list.Keep)
			if len(list.Recipients) == 0 {
				fmt.Fprintln(a.stderr, "none is made: backup.recipients is empty. varan key age generate --file backup.key prints one")
			}
			return nil
		},
	}
}

func because(reason string) string {
	if reason == api.BackupKeys {
		return "keys changed"
	}
	return "asked for"
}

func (a *app) backupVerifyCommand() *cobra.Command {
	var identity string
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Check a backup, down to the database in it, and say what is inside",
		Long: `Check a backup: that the identity opens it, that no byte of it changed, and that its database
is whole. It needs no core. FILE is - for standard input.`,
		Example: "  varan backup verify varan-20261125-010000.tar.gz.age --identity backup.key",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, key, err := a.openBackup(args[0], identity)
			if err != nil {
				return err
			}
			defer func() { _ = from.Close() }()
			contents, err := core.VerifyBackup(cmd.Context(), from, key, "")
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(contents)
			}
			printContents(a.stdout, &contents)
			fmt.Fprintln(a.stdout, "the backup is whole")
			return nil
		},
	}
	cmd.Flags().StringVar(&identity, "identity", "", "file of the age identity that opens it")
	return cmd
}

// openBackup opens a backup and reads the identity for it.
func (a *app) openBackup(name, identity string) (io.ReadCloser, []byte, error) {
	if identity == "" {
		return nil, nil, exit.Usagef("--identity names the file of the age identity that opens the backup")
	}
	key, err := os.ReadFile(identity)
	if err != nil {
		return nil, nil, &exit.Error{Code: exit.Config, Err: fmt.Errorf("read the identity: %w", err)}
	}
	if name == "-" {
		return io.NopCloser(a.stdin), key, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, &exit.Error{Code: exit.Config, Err: fmt.Errorf("open the backup: %w", err)}
	}
	return f, key, nil
}

func printContents(w io.Writer, c *api.BackupContents) {
	fmt.Fprintf(w, "made       %s by varan %s\ncore       %s\nschema     %d\nAPI keys   %s\n",
		c.Created.Local().Format(time.DateTime), printable(c.Program), printable(c.Core), c.Schema, printable(strings.Join(c.APIKeys, ", ")))
	var files, rows []string
	for _, f := range c.Files {
		files = append(files, f.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Rows)) {
		if n := c.Rows[name]; n > 0 {
			rows = append(rows, fmt.Sprintf("%s %d", name, n))
		}
	}
	fmt.Fprintf(w, "files      %s\nrows       %s\n", strings.Join(files, ", "), printable(strings.Join(rows, ", ")))
	if len(c.Servers) == 0 {
		fmt.Fprintln(w, "servers    none")
		return
	}
	t := table{head: []string{"SERVER", "KEY", "FINGERPRINT", "SINCE"}}
	for _, k := range c.Servers {
		t.add(printable(k.Server), k.State, k.Fingerprint, k.Since.Local().Format(time.DateTime))
	}
	t.write(w, styleFor(w))
}

func (a *app) restoreCommand() *cobra.Command {
	var dir, identity string
	var yes bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a core's data directory of a backup",
		Long: `Make a core's data directory of a backup. The directory must be empty or not there. Nothing is
left in it when the restore fails, and core does not start in it when the restore was killed.

What happened since the backup is not in it: keys of servers and API keys that were revoked
since are accepted again, and newer ones are not known. They are shown before anything is
put in place, and --yes, or a yes at the terminal, says that you looked. FILE is - for
standard input.`,
		Example: "  varan restore varan-20261125-010000.tar.gz.age --identity backup.key --dir /var/lib/varan",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, key, err := a.openBackup(args[0], identity)
			if err != nil {
				return err
			}
			defer func() { _ = from.Close() }()
			contents, err := core.Restore(cmd.Context(), core.RestoreConfig{
				From: from, Identity: key, Dir: dir,
				Confirm: func(c api.BackupContents) error { return a.confirmRestore(cmd.Context(), &c, yes) },
			})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{"dir": dir, "backup": contents})
			}
			fmt.Fprintf(a.stdout, "restored into %s; next: varan core --dir %s\n", dir, dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", envOr("VARAN_DIR", defaultCoreDir()), "core's data directory ($VARAN_DIR)")
	cmd.Flags().StringVar(&identity, "identity", "", "file of the age identity that opens the backup")
	cmd.Flags().BoolVar(&yes, "yes", false, "accept that what happened since the backup is not known")
	return cmd
}

func (a *app) confirmRestore(ctx context.Context, c *api.BackupContents, yes bool) error {
	printContents(a.stderr, c)
	fmt.Fprintf(a.stderr, `
Not known is what happened after %s:
- these keys of servers, and these API keys, are accepted, also those that were revoked since;
- servers that joined, and keys that were changed since, are refused: varan onboarding-key create --rekey SERVER;
- onboarding keys are revoked, %d that were open among them.
`, c.Created.Local().Format(time.DateTime), c.OnboardingKeys)
	switch {
	case yes:
		return nil
	case !a.interactive():
		return &exit.Error{Code: exit.Failed, Err: errors.New("not restored: nobody said that these keys are the right ones"), Hint: "look at them, and say --yes"}
	}
	return a.ask(ctx, "Restore?", "not restored")
}
