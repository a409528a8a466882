package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/reconciler/plan"
)

type planFlags struct {
	dir      string
	sync     string
	out      string
	only     []string
	refresh  bool
	detailed bool
	verbose  bool
}

func (a *app) planCommand() *cobra.Command {
	var f planFlags
	cmd := &cobra.Command{
		Use:   "plan [SYNC]",
		Short: "Show what applying would do, and why",
		Long: `Show what applying would do, and why. Nothing is changed.

With --dir a local directory takes the place of the commit: core compares it with what
runs and stores nothing of it. Without a core it is compared with nothing.`,
		Example: `  varan plan
  varan plan --out fleet.plan && varan apply fleet.plan
  varan plan --dir . --detailed-exitcode`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			result, err := a.plan(cmd, f, args)
			if err != nil {
				return err
			}
			if err := checkOnly(result.Plan); err != nil {
				return err
			}
			return a.showPlan(result, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.dir, "dir", "", "plan for this directory instead of a commit")
	flags.StringVar(&f.sync, "sync", "", "with --dir: the sync whose place the directory takes")
	flags.StringVar(&f.out, "out", "", "also save the plan to this file, for varan apply FILE")
	flags.StringArrayVar(&f.only, "only", nil, "only this stack, or resource as kind/name; patterns too (repeatable)")
	flags.BoolVar(&f.refresh, "refresh", false, "have the agents read their engines afresh first")
	flags.BoolVar(&f.detailed, "detailed-exitcode", false, "exit with 2 when there is something to do")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "also list what does not change")
	return cmd
}

func (a *app) plan(cmd *cobra.Command, f planFlags, args []string) (api.PlanResult, error) {
	if f.dir != "" {
		if len(args) > 0 {
			return api.PlanResult{}, exit.Usagef("--dir takes the place of the sync's commit; name the sync with --sync")
		}
		return a.planDir(cmd.Context(), f)
	}
	client, err := a.client()
	if err != nil {
		return api.PlanResult{}, err
	}
	sync, err := soleSync(cmd, client, args)
	if err != nil {
		return api.PlanResult{}, err
	}
	result, err := client.Plan(cmd.Context(), sync, api.PlanRequest{Only: f.only, Refresh: f.refresh})
	return result, a.withDiagnostics(err)
}

// planDir plans for a directory: against live state when a core answers, else against
// nothing. Which of the two it was is always said.
func (a *app) planDir(ctx context.Context, f planFlags) (api.PlanResult, error) {
	if info, err := os.Stat(f.dir); err != nil || !info.IsDir() {
		return api.PlanResult{}, &exit.Error{Code: exit.Config, Err: fmt.Errorf("there is no directory %s", f.dir)}
	}
	if !a.hasCore() {
		fmt.Fprintln(a.stderr, "no core is known (varan login, --core or VARAN_CORE): comparing with nothing")
		return a.planOffline(ctx, f)
	}
	client, err := a.client()
	if err != nil {
		return api.PlanResult{}, err
	}
	files, err := api.Pack(os.DirFS(f.dir))
	if err != nil {
		return api.PlanResult{}, &exit.Error{Code: exit.Config, Err: err}
	}
	result, err := client.PlanUpload(ctx, api.UploadRequest{Sync: f.sync, Only: f.only, Files: files})
	return result, a.withDiagnostics(err)
}

// planOffline is the planner of core, run here on a directory and an empty fleet.
func (a *app) planOffline(ctx context.Context, f planFlags) (api.PlanResult, error) {
	output, err := renderDir(ctx, f.dir)
	if err != nil {
		return api.PlanResult{}, err
	}
	if output.Diagnostics.HasErrors() {
		printDiagnostics(a.stderr, worthTelling(output.Diagnostics, f.verbose))
		return api.PlanResult{}, &exit.Error{Code: exit.Config, Err: invalid(output.Diagnostics)}
	}
	now := time.Now()
	observed := fleet.Observed{}
	for i := range output.Desired.Stacks {
		name := output.Desired.Stacks[i].Server
		observed[name] = fleet.ServerReport{Server: name, Online: true, Received: now}
	}
	p := plan.Compute(plan.Input{
		Desired: output.Desired, Observed: observed, Policy: plan.Policy{Only: f.only}, Now: now,
	})
	return api.PlanResult{Plan: p, Diagnostics: output.Diagnostics}, nil
}

// withDiagnostics prints what a refusal for invalid files carries, so that the error
// itself can be one line.
func (a *app) withDiagnostics(err error) error {
	refusal, ok := errors.AsType[*api.Error](err)
	if !ok || len(refusal.Diagnostics) == 0 {
		return err
	}
	if a.json {
		if printErr := a.printJSON(refusal); printErr != nil {
			return errors.Join(err, printErr)
		}
	} else {
		printDiagnostics(a.stderr, worthTelling(refusal.Diagnostics, false))
	}
	return &exit.Error{Code: exit.Config, Err: invalid(refusal.Diagnostics)}
}

func (a *app) showPlan(result api.PlanResult, f planFlags) error {
	if f.out != "" {
		raw, err := json.Marshal(result.Plan)
		if err != nil {
			return fmt.Errorf("encode the plan: %w", err)
		}
		if err := atomicfile.Write(f.out, raw, 0o600); err != nil {
			return fmt.Errorf("save the plan: %w", err)
		}
	}
	if a.json {
		if err := a.printJSON(result); err != nil {
			return err
		}
	} else {
		printDiagnostics(a.stderr, worthTelling(result.Diagnostics, f.verbose))
		if err := result.Plan.Render(a.stdout, a.renderOptions(f.verbose)); err != nil {
			return fmt.Errorf("write the plan: %w", err)
		}
		if f.out != "" {
			fmt.Fprintf(a.stderr, "saved; apply exactly this with: varan apply %s\n", f.out)
		}
	}
	if f.detailed && !result.Plan.Empty() {
		return &exit.Error{Code: exit.Changes}
	}
	return nil
}

func (a *app) renderOptions(verbose bool) plan.RenderOptions {
	return plan.RenderOptions{Color: styleFor(a.stdout).on, Verbose: verbose, Width: columns(a.stdout)}
}

// readPlan reads a plan that `varan plan --out` wrote.
func readPlan(path string) (plan.Plan, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return plan.Plan{}, &exit.Error{Code: exit.Config, Err: fmt.Errorf("read the saved plan: %w", err)}
	}
	var p plan.Plan
	if err := json.Unmarshal(raw, &p); err != nil || p.ID == "" {
		return plan.Plan{}, &exit.Error{
			Code: exit.Config,
			Err:  fmt.Errorf("%s is not a saved plan", path),
			Hint: "write one with varan plan --out " + path,
		}
	}
	return p, nil
}
