// Command varan is the whole program: the core, the agent and the command line that
// people and scripts use. This file maps errors to exit codes; each command lives in a
// file of its own.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/agentcmd"
	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/internal/buildinfo"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main with its surroundings as parameters.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if filepath.Base(os.Args[0]) == agentName {
		return agentcmd.Run(args, stdin, stdout, stderr)
	}
	return exit.Run("varan", stderr, func() error {
		ctx, stop := exit.Signals(context.Background())
		defer stop()
		root := newRoot(stdin, stdout, stderr)
		root.SetArgs(args)
		cmd, err := root.ExecuteContextC(ctx)
		return explain(cmd, err)
	})
}

// agentName is what hosts call the agent's program. Core gives them its own where it has no
// smaller one: under that name it is nothing but the agent.
const agentName = "varan-agent"

func newRoot(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	app := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:   "varan",
		Short: "GitOps for fleets of Docker Compose hosts",
		Long: `Varan makes Docker Compose hosts run what Git says, and explains every step.

A core pulls resource files and Compose files from Git, plans, and hands the work to
agents that dialled out to it. Start with "varan demo".`,
		Version:       buildinfo.String(), // also as a command, with --json
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &exit.Error{Code: exit.Usage, Err: err, Hint: "varan help " + cmdPath(cmd)}
	})
	app.connectionFlags(root)
	root.AddGroup(
		&cobra.Group{ID: groupStart, Title: "Start here:"},
		&cobra.Group{ID: groupFiles, Title: "Work on resource files:"},
		&cobra.Group{ID: groupLook, Title: "See what is, what was and what would be:"},
		&cobra.Group{ID: groupAct, Title: "Act on the fleet:"},
		&cobra.Group{ID: groupSetUp, Title: "Set up a core:"},
		&cobra.Group{ID: groupRun, Title: "Run the processes:"},
	)
	root.AddCommand(app.commands()...)
	for _, c := range root.Commands() {
		requireSubcommand(c)
	}
	return root
}

// The groups of the help page.
const (
	groupStart = "start"
	groupFiles = "files"
	groupLook  = "look"
	groupAct   = "act"
	groupSetUp = "set-up"
	groupRun   = "run"
)

// requireSubcommand makes a command that only holds others a usage error on its own,
// instead of a help page with exit code 0 that a script would take for success.
func requireSubcommand(c *cobra.Command) {
	for _, sub := range c.Commands() {
		requireSubcommand(sub)
	}
	if c.HasSubCommands() && c.RunE == nil && c.Run == nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return &exit.Error{
				Code: exit.Usage,
				Err:  errors.New(cmd.CommandPath() + " needs a subcommand"),
				Hint: "varan help " + cmdPath(cmd),
			}
		}
	}
}

func unknownCommand(cmd *cobra.Command, arg string) error {
	hint := "varan help " + cmdPath(cmd)
	if near := cmd.SuggestionsFor(arg); len(near) > 0 {
		hint = "did you mean " + near[0] + "?"
	}
	return &exit.Error{Code: exit.Usage, Err: errors.New("unknown command " + arg), Hint: hint}
}

// cmdPath is a command's path without the program's name.
func cmdPath(cmd *cobra.Command) string {
	if !cmd.HasParent() {
		return ""
	}
	path := cmd.Name()
	for p := cmd.Parent(); p != nil && p.HasParent(); p = p.Parent() {
		path = p.Name() + " " + path
	}
	return path
}

// explain gives the errors of the API and of cobra their exit codes and hints.
func explain(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*exit.Error](err); ok {
		return err
	}
	if errors.Is(err, api.ErrUnreachable) {
		return &exit.Error{
			Code: exit.Unreachable,
			Err:  err,
			Hint: "is the core running, and is --core (or VARAN_CORE) its address?",
		}
	}
	if errors.Is(err, api.ErrCutOff) {
		return &exit.Error{Code: exit.Unreachable, Err: err, Hint: "what core had begun goes on: varan status"}
	}
	if refusal, ok := errors.AsType[*api.Error](err); ok {
		return explainRefusal(err, refusal)
	}
	if isCobraUsage(err) {
		return &exit.Error{Code: exit.Usage, Err: err, Hint: strings.TrimSpace("varan help " + cmdPath(cmd))}
	}
	return err
}

func explainRefusal(err error, refusal *api.Error) error {
	e := &exit.Error{Code: exit.Failed, Err: err, Hint: refusal.Hint}
	switch refusal.Code {
	case api.CodeInvalid:
		e.Code = exit.Config
	case api.CodeUnavailable:
		e.Code = exit.Unreachable
	case api.CodeUnauthorized:
		e.Hint = "varan login, or set VARAN_API_KEY" // core's own hint is for HTTP clients
	case api.CodeBadRequest, api.CodeForbidden, api.CodeNotFound, api.CodeConflict, api.CodeTooLarge,
		api.CodeRateLimited, api.CodeInternal, api.CodeNoRoom:
	}
	return e
}
