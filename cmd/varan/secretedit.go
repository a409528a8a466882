package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/internal/memdir"
)

func (a *app) secretEditCommand() *cobra.Command {
	var keys fileKeys
	cmd := &cobra.Command{
		Use:   "edit FILE",
		Short: "Edit an encrypted file, or make one, with $EDITOR",
		Long: `Edit an encrypted file with $VISUAL or $EDITOR. The plain text is in a file in memory that
only you can read, for as long as the editor runs. The file is encrypted again for the
same recipients; values that did not change stay as they are, and so does the whole file
when none did. A file that is not there is made as .sops.yaml says.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
				return a.createSecret(cmd.Context(), name, &keys)
			}
			opened, err := keys.openSecret(name)
			if err != nil {
				return err
			}
			changed := false
			err = a.edit(cmd.Context(), name, opened.Data, func(edited []byte) error {
				if bytes.Equal(edited, opened.Data) {
					return nil
				}
				sealed, err := opened.Update(edited, time.Now())
				if err != nil {
					return err
				}
				changed = true
				return writeSecret(name, sealed)
			})
			switch {
			case err != nil:
				return err
			case !changed:
				return a.done("nothing changed in %s", name)
			}
			return a.done("encrypted %s", name)
		},
	}
	keys.register(cmd)
	return cmd
}

// createSecret is edit for a file that is not there.
func (a *app) createSecret(ctx context.Context, name string, keys *fileKeys) error {
	to, rule, err := creationRule(name)
	if err != nil {
		return &exit.Error{Code: exit.Config, Err: fmt.Errorf("%s is not there and cannot be made: %w", name, err), Hint: ruleHint}
	}
	made := false
	err = a.edit(ctx, name, nil, func(edited []byte) error {
		if len(bytes.TrimSpace(edited)) == 0 {
			return nil
		}
		made = true
		return keys.encryptTo(name, edited, to, rule)
	})
	switch {
	case err != nil:
		return err
	case !made:
		return a.done("nothing was written; %s is not made", name)
	}
	return a.done("encrypted %s for %s", name, listRecipients(to))
}

// edit runs the editor on plain text and hands over what it left, until that is accepted.
func (a *app) edit(ctx context.Context, name string, plain []byte, accept func([]byte) error) (err error) {
	dir, inMemory, err := privateDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if !inMemory {
		fmt.Fprintln(a.stderr, "warning: this system has no directory in memory; the plain text is on its disk while you edit")
	}
	temp := filepath.Join(dir, filepath.Base(name))
	if err := os.WriteFile(temp, plain, 0o600); err != nil {
		return fmt.Errorf("write the plain text: %w", err)
	}
	for {
		if err := a.runEditor(ctx, temp); err != nil {
			return err
		}
		edited, err := os.ReadFile(temp)
		if err != nil {
			return fmt.Errorf("read the edited text: %w", err)
		}
		refused := accept(edited)
		if refused == nil {
			return nil
		}
		if !a.again(refused) {
			return &exit.Error{Code: exit.Config, Err: refused, Hint: "the file is as it was"}
		}
	}
}

// again asks a person whether to go back to the editor with what it left.
func (a *app) again(refused error) bool {
	f, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return false
	}
	fmt.Fprintf(a.stderr, "%v\nEnter edits it again, Ctrl-D gives up: ", refused)
	var one [1]byte
	for {
		n, err := a.stdin.Read(one[:])
		if err != nil || n == 0 {
			return false
		}
		if one[0] == '\n' {
			return true
		}
	}
}

func (a *app) runEditor(ctx context.Context, file string) error {
	editor := firstOf(os.Getenv("VISUAL"), os.Getenv("EDITOR"), "vi")
	// As git and crontab have it: the variable may hold arguments.
	shell := exec.CommandContext(ctx, "sh", "-c", editor+` "$1"`, editor, file) //nolint:gosec // the user's own editor
	if runtime.GOOS == "windows" {
		shell = exec.CommandContext(ctx, "cmd", "/c", editor, file) //nolint:gosec // the user's own editor
	}
	shell.Stdin, shell.Stdout, shell.Stderr = a.stdin, a.stdout, a.stderr
	if err := shell.Run(); err != nil {
		return &exit.Error{Code: exit.Failed, Err: fmt.Errorf("the editor %s ended badly: %w", editor, err), Hint: "the file is as it was"}
	}
	return nil
}

// privateDir makes a directory for plain text, in memory where the system can do that.
func privateDir() (dir string, inMemory bool, err error) {
	if dir, err = memdir.New("varan-edit-"); err == nil {
		return dir, true, nil
	}
	if dir, err = os.MkdirTemp("", "varan-edit-"); err != nil {
		return "", false, fmt.Errorf("make a private directory: %w", err)
	}
	return dir, false, nil
}
