package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/varanhq/varan/cmd/internal/agentcmd"
	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
)

// defaultCore is where a core listens unless told otherwise.
const defaultCore = "http://127.0.0.1:9120"

// app is what every command shares: the streams and the way to core.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	core, profile  string
	json           bool
}

func (a *app) commands() []*cobra.Command {
	in := func(group string, cmds ...*cobra.Command) []*cobra.Command {
		for _, c := range cmds {
			c.GroupID = group
		}
		return cmds
	}
	var all []*cobra.Command
	all = append(all, in(groupStart, a.demoCommand(), a.loginCommand(), a.profileCommand(), a.versionCommand())...)
	all = append(all, in(groupFiles, a.validateCommand(), a.explainCommand(), a.exportCommand(), a.importCommand(), a.scheduleCommand())...)
	all = append(all, in(groupLook,
		a.statusCommand(), a.whyCommand(), a.planCommand(), a.diffCommand(), a.logsCommand(), a.historyCommand(), a.auditCommand(),
		a.updatesCommand(), a.alertCommand(), a.schedulesCommand(), a.getCommand())...)
	all = append(all, in(groupAct,
		a.applyCommand(), a.deployCommand(), a.runCommand(), a.procedureCommand(),
		a.rollbackCommand(), a.releaseCommand(), a.rolloutCommand(), a.suspendCommand(), a.resumeCommand())...)
	all = append(all, in(groupSetUp,
		a.syncCommand(), a.serverCommand(), a.onboardingCommand(), a.secretCommand(), a.variableCommand(), a.accountCommand(),
		a.alerterCommand(), a.apiKeyCommand(), a.keyCommand())...)
	all = append(all, in(groupRun, a.coreCommand(), a.backupCommand(), a.restoreCommand(), agentcmd.New(agentcmd.IO{Stdout: a.stdout, Stderr: a.stderr}))...)
	return append(all, agentcmd.NewWorker(), a.demoServiceCommand())
}

func (a *app) connectionFlags(root *cobra.Command) {
	root.PersistentFlags().StringVar(&a.core, "core", "",
		"address of the core (default $VARAN_CORE, then the one of varan login, then "+defaultCore+")")
	root.PersistentFlags().StringVar(&a.profile, "profile", "", "core to use, by the name of varan profile (default $VARAN_PROFILE)")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print results as JSON")
}

// login is what `varan login` keeps.
type login struct {
	Core string `json:"core"`
	Key  string `json:"key"`
}

func loginPath() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the configuration directory: %w", err)
	}
	return filepath.Join(dir, "varan", "login.json"), nil
}

func readLogin() (login, error) {
	path, err := loginPath()
	if err != nil {
		// A process without a home directory, in CI say, has no login.
		return login{}, nil //nolint:nilerr // the variables may still tell everything
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return login{}, nil
	}
	if err != nil {
		return login{}, fmt.Errorf("read the login: %w", err)
	}
	var l login
	if err := json.Unmarshal(raw, &l); err != nil {
		return login{}, &exit.Error{
			Code: exit.Config,
			Err:  fmt.Errorf("read the login %s: %w", path, err),
			Hint: "run varan login again",
		}
	}
	return l, nil
}

// hasCore reports whether the user named a core in any way.
func (a *app) hasCore() bool {
	saved, err := readLogin()
	return err == nil && firstOf(a.core, a.profile, os.Getenv("VARAN_PROFILE"), currentProfile(), os.Getenv("VARAN_CORE"), saved.Core, os.Getenv("VARAN_API_KEY"),
		os.Getenv("VARAN_API_KEY_FILE")) != ""
}

func sameCore(x, y string) bool { return baseURL(x) == baseURL(y) }

// baseURL adds the scheme that people leave out.
func baseURL(address string) string {
	address = strings.TrimRight(address, "/")
	if strings.Contains(address, "://") {
		return address
	}
	return "http://" + address
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func (a *app) loginCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "login",
		Short: "Remember a core and its API key for this user",
		Long: `Remember a core and its API key for this user. The key is read from the terminal
without echo, or from standard input; it is never an argument.`,
		Example: "  varan login --core https://varan.example.com",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := a.readSecret(cmd.Context(), "API key: ")
			if err != nil {
				return err
			}
			l := login{Core: baseURL(firstOf(a.core, os.Getenv("VARAN_CORE"), defaultCore)), Key: key.Reveal()}
			return a.saveLogin(cmd.Context(), l)
		},
	}
}

func (a *app) saveLogin(ctx context.Context, l login) error {
	client := newClient(l.Core, fleet.NewSecret(l.Key))
	version, err := client.Version(ctx)
	if err != nil {
		return err
	}
	path, err := loginPath()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the configuration directory: %w", err)
	}
	raw, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode the login: %w", err)
	}
	if err := atomicfile.Write(path, raw, 0o600); err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "logged in to %s (varan %s)\n", l.Core, version.Version)
	return nil
}

// readSecret reads one line without echo from a terminal, or all of a pipe.
func (a *app) readSecret(ctx context.Context, prompt string) (fleet.Secret, error) {
	if f, ok := a.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return a.askSecret(ctx, int(f.Fd()), prompt)
	}
	raw, err := io.ReadAll(io.LimitReader(a.stdin, 64<<10))
	if err != nil {
		return fleet.Secret{}, fmt.Errorf("read from standard input: %w", err)
	}
	value := strings.TrimRight(string(raw), "\r\n")
	if value == "" {
		return fleet.Secret{}, exit.Usagef("nothing on standard input")
	}
	return fleet.NewSecret(value), nil
}

// askSecret reads one line without echo, and leaves the terminal as it was when a signal
// comes first.
func (a *app) askSecret(ctx context.Context, fd int, prompt string) (fleet.Secret, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return fleet.Secret{}, fmt.Errorf("read from the terminal: %w", err)
	}
	fmt.Fprint(a.stderr, prompt)
	raw, err := answered(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
	fmt.Fprintln(a.stderr)
	switch {
	case ctx.Err() != nil:
		_ = term.Restore(fd, before)
		return fleet.Secret{}, ctx.Err()
	case err != nil:
		return fleet.Secret{}, fmt.Errorf("read from the terminal: %w", err)
	case len(raw) == 0:
		return fleet.Secret{}, exit.Usagef("nothing was entered")
	}
	return fleet.NewSecret(string(raw)), nil
}

// printJSON writes one result, indented.
func (a *app) printJSON(v any) error { return writeJSON(a.stdout, v) }

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// isCobraUsage recognises the errors that cobra itself makes of a wrong command line.
func isCobraUsage(err error) bool {
	text := err.Error()
	for _, prefix := range []string{"unknown command", "accepts ", "requires at least", "required flag", "unknown flag"} {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return false
}
