package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/reconciler/plan"
)

func (a *app) rollbackCommand() *cobra.Command {
	var req api.RollbackRequest
	var yes bool
	cmd := &cobra.Command{
		Use:   "rollback STACK[@SERVER] | rollback --sync SYNC --to COMMIT",
		Short: "Go back to an earlier release, and hold the present one back",
		Long: `Go back to the last good release of a stack, or to that of a commit. The plan is shown first;
--yes skips the question.

The release that is left is held back on these servers until a commit changes the stack, or
until "varan release STACK". Meanwhile the earlier one is kept up and healed like any other.

With --sync every stack of the sync goes back to what it was at a commit. Stacks that did not
exist there stay as they are.`,
		Example: `  varan rollback web --reason "checkout is broken"
  varan rollback web@edge-1 --to 3f9c2a1e
  varan rollback --sync home --to 3f9c2a1e`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				req.Stack, req.Server, _ = strings.Cut(args[0], "@")
			}
			if (req.Stack == "") == (req.Sync == "") {
				return exit.Usagef("name either a stack or, with --sync, a sync")
			}
			return a.rollback(cmd, req, yes)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&req.Sync, "sync", "", "all stacks of this sync; needs --to")
	flags.StringVar(&req.To, "to", "", "go back to this commit; its first digits will do if it was deployed")
	flags.StringVar(&req.Reason, "reason", "", "why, for everybody who wonders")
	flags.StringArrayVar(&req.Approved, "approve", nil, "consent to this gate of the plan (repeatable)")
	flags.BoolVar(&req.OverrideWindow, "override-window", false, "also outside of sync windows that let people; needs --reason")
	flags.BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) rollback(cmd *cobra.Command, req api.RollbackRequest, yes bool) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	shown, err := client.PlanRollback(cmd.Context(), req)
	if err != nil {
		return a.withDiagnostics(err)
	}
	if !a.json {
		if err := a.showRollback(shown); err != nil {
			return err
		}
		if !yes && a.interactive() {
			if err := a.confirm(cmd.Context(), "Roll back?"); err != nil {
				return err
			}
		}
	}
	return a.stream(func(each func(api.ApplyEvent) error) (api.RunResult, error) {
		return client.Rollback(cmd.Context(), req, each)
	})
}

func (a *app) showRollback(shown api.RollbackPlan) error {
	if err := shown.Plan.Render(a.stdout, a.renderOptions(false)); err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	fmt.Fprintln(a.stdout)
	for _, h := range shown.Holds {
		fmt.Fprintf(a.stdout, "%s@%s goes back to %s; commit %s is held back there\n", h.Stack, h.Server,
			orDash(commitLine(h.To.Short(), h.To.Subject, h.To.ID)), h.Commit.Short())
	}
	for _, left := range shown.Left {
		fmt.Fprintln(a.stdout, printable(left))
	}
	return nil
}

func (a *app) releaseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "release STACK[@SERVER]",
		Short: "Let a stack go on that a rollback or a loop of deploys holds back",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			stack, server, _ := strings.Cut(args[0], "@")
			released, err := client.Release(cmd.Context(), stack, server)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(released)
			}
			for _, h := range released.Holds {
				fmt.Fprintf(a.stdout, "released %s@%s: commit %s may be deployed there\n", h.Stack, h.Server, h.Commit.Short())
			}
			for _, sync := range slices.Sorted(maps.Keys(released.Applies)) {
				if released.Applies[sync] {
					fmt.Fprintf(a.stdout, "sync %s deploys it now, by itself: varan why %s says how that goes\n", sync, args[0])
				} else {
					fmt.Fprintf(a.stdout, "sync %s does not apply by itself: varan apply %s\n", sync, sync)
				}
			}
			for i := range released.Rollouts {
				fmt.Fprintf(a.stdout, "the rollout of %s goes on: %s\n", released.Rollouts[i].Stack, released.Rollouts[i].Text())
			}
			return nil
		},
	}
}

func (a *app) suspendCommand() *cobra.Command {
	var until, reason string
	var list bool
	cmd := &cobra.Command{
		Use:   "suspend RESOURCE | suspend --list",
		Short: "Keep Varan's hands off a stack, a server, a sync or a procedure",
		Long: `Keep Varan's hands off a resource: meanwhile nothing of it is deployed, healed, removed or
run. A suspension with --until ends by itself.`,
		Example: `  varan suspend web@edge-1 --until 2h --reason "disk is being replaced"
  varan suspend server/edge-1 --until 2026-12-24T18:00
  varan suspend sync/home
  varan suspend procedure/nightly
  varan suspend --list`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			if list || len(args) == 0 {
				if !list {
					return exit.Usagef("name what to suspend, or ask for --list")
				}
				return listed(a, client.Suspensions, cmd, a.printSuspensions)
			}
			req := api.SuspendRequest{Resource: args[0], Reason: reason}
			if req.Until, req.Seconds, err = untilWhen(until, time.Local); err != nil {
				return err
			}
			done, err := client.Suspend(cmd.Context(), req)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(done)
			}
			fmt.Fprintf(a.stdout, "%s: %s\n", printable(done.Resource()), printable(done.Text()))
			return nil
		},
	}
	cmd.Flags().StringVar(&until, "until", "", "when it ends by itself: a time, or how long from now, such as 90m")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for everybody who wonders")
	cmd.Flags().BoolVar(&list, "list", false, "list what is suspended")
	return cmd
}

// untilWhen reads a time or a duration. Durations are counted by core's clock.
func untilWhen(text string, zone *time.Location) (at time.Time, seconds int64, err error) {
	if text == "" {
		return at, 0, nil
	}
	if d, ok := span(text); ok {
		if d < time.Second {
			return at, 0, exit.Usagef("%s is no time to come", text)
		}
		return at, int64(d / time.Second), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, zone); err == nil {
			return at, 0, nil
		}
	}
	return at, 0, &exit.Error{
		Code: exit.Usage, Err: fmt.Errorf("%q is neither a time nor a duration", text),
		Hint: "write it like 90m, 2h, 7d, 2026-12-24T18:00 or 2026-12-24T18:00:00Z",
	}
}

func (a *app) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resume RESOURCE",
		Short: "End a suspension",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			was, err := client.Resume(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.done("resumed %s", was.Resource())
		},
	}
}

func (a *app) printSuspensions(s style, list []plan.Suspension) {
	t := table{head: []string{"RESOURCE", "UNTIL", "BY", "SINCE", "REASON"}}
	for _, u := range list {
		until := "resumed"
		if !u.Until.IsZero() {
			until = u.Until.Local().Format(time.DateTime)
		}
		t.add(printable(u.Resource()), until, printable(u.By), ago(u.At, time.Now()), orDash(printable(u.Reason)))
	}
	t.write(a.stdout, s)
}

func (a *app) rolloutCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "rollout [STACK [pause|resume|abort]]",
		Short: "How far stacks on several servers are, batch by batch; pause, resume, abort",
		Long: `How far a stack with [stack.config.rollout] is on its servers. pause keeps the next servers
back until resume; abort gives the rollout up and leaves what was done as it is. resume also
lets one go on that stopped at a failure: what failed until then is excused.`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			if len(args) == 2 {
				done, err := client.Rollout(cmd.Context(), args[0], api.RolloutRequest{Action: args[1], Reason: reason})
				if err != nil {
					return err
				}
				return a.showRollouts([]plan.Rollout{done})
			}
			all, err := client.Rollouts(cmd.Context())
			if err != nil {
				return err
			}
			if len(args) == 1 {
				for i := range all {
					if all[i].Stack == args[0] {
						return a.showRollouts(all[i : i+1])
					}
				}
				return &exit.Error{Code: exit.Failed, Err: errors.New("stack " + args[0] + " has no rollout"), Hint: "varan rollout"}
			}
			return a.showRollouts(all)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for everybody who wonders")
	return cmd
}

func (a *app) showRollouts(all []plan.Rollout) error {
	if a.json {
		return a.printJSON(all)
	}
	if len(all) == 0 {
		fmt.Fprintln(a.stderr, "no rollout yet: stacks with [stack.config.rollout] go out in batches")
		return nil
	}
	s := styleFor(a.stdout)
	for i := range all {
		r := &all[i]
		a.printRollout(s, r)
		if len(all) > 1 {
			continue
		}
		for n, batch := range r.Batches {
			fmt.Fprintf(a.stdout, "  batch %d\n", n+1)
			for _, server := range batch {
				fmt.Fprintf(a.stdout, "    %s  %s\n", server, serverState(s, r, n, server))
			}
		}
	}
	return nil
}

// printRollout writes the one line of a rollout.
func (a *app) printRollout(s style, r *plan.Rollout) {
	status := strings.ReplaceAll(string(r.Status), "_", " ")
	switch r.Status {
	case plan.RolloutDone:
		status = s.green(status)
	case plan.RolloutFailed, plan.RolloutRolledBack:
		status = s.red(status)
	case plan.RolloutRunning, plan.RolloutPaused, plan.RolloutAborted:
		status = s.yellow(status)
	}
	line := fmt.Sprintf("%s %s  to %s  %s: %s", s.bold("rollout"), r.Stack, r.Commit.Short(), status, r.Text())
	if r.Status == plan.RolloutRunning && !r.Next.IsZero() && r.Next.After(time.Now()) {
		line += "; the next batch begins at " + r.Next.Local().Format(time.DateTime)
	}
	if r.Reason != "" {
		line += ": " + printable(r.Reason)
	}
	fmt.Fprintln(a.stdout, line)
}

func serverState(s style, r *plan.Rollout, batch int, server string) string {
	switch {
	case slices.Contains(r.Failed, server):
		return s.red("failed")
	case slices.Contains(r.Done, server):
		return s.green("done")
	case batch == r.Batch && r.Status == plan.RolloutRunning:
		return s.yellow("its turn")
	}
	return s.dim("waits")
}
