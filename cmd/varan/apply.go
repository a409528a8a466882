package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
)

type applyFlags struct {
	only    []string
	approve []string
	yes     bool
}

func (a *app) applyCommand() *cobra.Command {
	var f applyFlags
	cmd := &cobra.Command{
		Use:   "apply [SYNC | PLAN-FILE]",
		Short: "Make the fleet what a sync's commit says, or carry out a saved plan",
		Long: `Make the fleet what a sync's commit says. On a terminal the plan is shown first and you
are asked; --yes skips the question.

With a file that "varan plan --out" wrote, exactly that plan is carried out: a stack whose
commit or containers moved since is refused, the others go on.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.apply(cmd, f, args) },
	}
	cmd.Flags().StringArrayVar(&f.only, "only", nil, "only this stack (repeatable)")
	cmd.Flags().StringArrayVar(&f.approve, "approve", nil, "consent to this gate of the plan (repeatable)")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) apply(cmd *cobra.Command, f applyFlags, args []string) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	req := api.ApplyRequest{Only: f.only, Approved: f.approve}
	if len(args) > 0 && isFile(args[0]) {
		saved, err := readPlan(args[0])
		if err != nil {
			return err
		}
		req.Saved = &saved
		return a.stream(func(each func(api.ApplyEvent) error) (api.RunResult, error) {
			return client.Apply(cmd.Context(), saved.Sync, req, each)
		})
	}
	sync, err := a.soleSync(cmd, client, args)
	if err != nil {
		return err
	}
	if !f.yes && !a.json && a.interactive() {
		// What was shown is what is applied: the plan on the screen is the saved one.
		result, err := client.Plan(cmd.Context(), sync, api.PlanRequest{Only: f.only})
		if err != nil {
			return a.withDiagnostics(err)
		}
		if err := a.showPlan(result, planFlags{}); err != nil || len(result.Plan.Ops) == 0 {
			return err
		}
		if err := a.confirm("Apply this plan?"); err != nil {
			return err
		}
		req.Saved = &result.Plan
	}
	return a.stream(func(each func(api.ApplyEvent) error) (api.RunResult, error) {
		return client.Apply(cmd.Context(), sync, req, each)
	})
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func (a *app) interactive() bool {
	in, ok := a.stdin.(*os.File)
	return ok && term.IsTerminal(int(in.Fd())) && styleIsTerminal(a.stdout)
}

func (a *app) confirm(question string) error {
	fmt.Fprintf(a.stderr, "%s Only \"yes\" is taken as one: ", question)
	answer, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil || strings.TrimSpace(answer) != "yes" {
		return &exit.Error{Code: exit.Failed, Err: errors.New("not applied")}
	}
	return nil
}

func (a *app) deployCommand() *cobra.Command {
	var approve []string
	cmd := &cobra.Command{
		Use:   "deploy STACK",
		Short: "Deploy one stack now, even if it looks right or its release failed before",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			return a.stream(func(each func(api.ApplyEvent) error) (api.RunResult, error) {
				return client.Deploy(cmd.Context(), args[0], api.DeployRequest{Approved: approve}, each)
			})
		},
	}
	cmd.Flags().StringArrayVar(&approve, "approve", nil, "consent to this gate of the plan (repeatable)")
	return cmd
}

// stream runs an apply and shows its events as they come.
func (a *app) stream(run func(each func(api.ApplyEvent) error) (api.RunResult, error)) error {
	view := newProgressView(a)
	result, err := run(view.event)
	view.close()
	if err != nil {
		if errors.Is(err, context.Canceled) {
			fmt.Fprintln(a.stderr, "no longer watching; what was started goes on in core (varan status)")
		}
		return a.withDiagnostics(err)
	}
	if a.json {
		if err := a.printJSON(result); err != nil {
			return err
		}
	} else {
		view.summary(result)
	}
	return resultError(result)
}

// resultError is what a run's end means for the exit code.
func resultError(result api.RunResult) error {
	switch result.Status {
	case api.OpSucceeded:
		return nil
	case api.OpRunning, api.OpRolledBack, api.OpFailed, api.OpSkipped, api.OpStale, api.OpCanceled, api.OpInterrupted:
	}
	e := &exit.Error{Code: exit.Failed, Err: fmt.Errorf("the run %s", strings.ReplaceAll(string(result.Status), "_", " "))}
	for i := range result.Ops {
		if hint := result.Ops[i].Hint; hint != "" {
			e.Hint = hint
			break
		}
	}
	return e
}
