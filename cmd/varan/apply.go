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
	"github.com/varanhq/varan/reconciler/plan"
)

type applyFlags struct {
	only    []string
	approve []string
	yes     bool
	windowFlags
}

// windowFlags are a wish to work outside of sync windows.
type windowFlags struct {
	override bool
	reason   string
}

func (f *windowFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.override, "override-window", false, "also outside of sync windows that let people; needs --reason")
	cmd.Flags().StringVar(&f.reason, "reason", "", "with --override-window: why, for everybody who wonders")
}

func (f *windowFlags) check() error {
	if f.override == (f.reason != "") {
		return nil
	}
	return exit.Usagef("--override-window and --reason go together")
}

func (a *app) applyCommand() *cobra.Command {
	var f applyFlags
	cmd := &cobra.Command{
		Use:   "apply [SYNC | PLAN-FILE]",
		Short: "Make the fleet what a sync's commit says, or carry out a saved plan",
		Long: `Make the fleet what a sync's commit says. On a terminal the plan is shown first and you
are asked; --yes skips the question.

With a file that "varan plan --out" wrote, exactly that plan is carried out: a stack whose
commit or containers moved since is refused, the others go on.

--only narrows it to what is named: "web" or "stack/web", and by kind what core keeps, such as
"procedure/nightly" or "variable/DB_*".`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.apply(cmd, f, args) },
	}
	cmd.Flags().StringArrayVar(&f.only, "only", nil, "only this stack, or resource as kind/name; patterns too (repeatable)")
	cmd.Flags().StringArrayVar(&f.approve, "approve", nil, "consent to this gate of the plan (repeatable)")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	f.add(cmd)
	return cmd
}

func (a *app) apply(cmd *cobra.Command, f applyFlags, args []string) error {
	if err := f.check(); err != nil {
		return err
	}
	client, err := a.client()
	if err != nil {
		return err
	}
	req := api.ApplyRequest{Only: f.only, Approved: f.approve, OverrideWindow: f.override, Reason: f.reason}
	if len(args) > 0 && isFile(args[0]) {
		return a.applySaved(cmd.Context(), client, req, args[0])
	}
	sync, err := soleSync(cmd, client, args)
	if err != nil {
		return err
	}
	if !f.yes && !a.json && a.interactive() {
		// What was shown is what is applied: the plan on the screen is the saved one.
		result, err := client.Plan(cmd.Context(), sync, api.PlanRequest{Only: f.only, OverrideWindow: f.override})
		if err != nil {
			return a.withDiagnostics(err)
		}
		if err := checkOnly(result.Plan); err != nil {
			return err
		}
		if err := a.showPlan(result, planFlags{}); err != nil {
			return err
		}
		if len(result.Plan.Ops)+len(result.Plan.Resources) == 0 {
			return blockedError(result.Plan.Blocked)
		}
		if err := a.confirm(cmd.Context(), "Apply this plan?"); err != nil {
			return err
		}
		req.Saved = &result.Plan
	}
	err = a.stream(func(each func(api.ApplyEvent) error) (api.RunResult, error) {
		return client.Apply(cmd.Context(), sync, req, each)
	})
	if refusal, ok := errors.AsType[*api.Error](err); ok && refusal.Code == api.CodeNotFound && len(args) > 0 {
		return &exit.Error{
			Code: exit.Failed, Err: fmt.Errorf("there is neither a sync nor a plan file %q", args[0]), Hint: refusal.Hint,
		}
	}
	return err
}

// applySaved carries out the plan in a file.
func (a *app) applySaved(ctx context.Context, client *api.Client, req api.ApplyRequest, file string) error {
	saved, err := readPlan(file)
	if err != nil {
		return err
	}
	req.Saved = &saved
	return a.stream(func(each func(api.ApplyEvent) error) (api.RunResult, error) {
		return client.Apply(ctx, saved.Sync, req, each)
	})
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func (a *app) interactive() bool {
	in, ok := a.stdin.(*os.File)
	return ok && term.IsTerminal(int(in.Fd())) && columns(a.stdout) > 0
}

func (a *app) confirm(ctx context.Context, question string) error {
	return a.ask(ctx, question, "not applied")
}

// ask waits for a person's yes; without it nothing is done, which refused says.
func (a *app) ask(ctx context.Context, question, refused string) error {
	fmt.Fprintf(a.stderr, "%s Only \"yes\" is taken as one: ", question)
	answer, err := answered(ctx, func() (string, error) { return bufio.NewReader(a.stdin).ReadString('\n') })
	if ctx.Err() != nil {
		fmt.Fprintln(a.stderr)
		return ctx.Err()
	}
	if err != nil || strings.TrimSpace(answer) != "yes" {
		return &exit.Error{Code: exit.Failed, Err: errors.New(refused)}
	}
	return nil
}

// answered reads from a person until ctx ends: a signal must not wait for a key.
func answered[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() { // ends with the process when nobody answers
		value, err := read()
		done <- answer{value, err}
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

func (a *app) deployCommand() *cobra.Command {
	var approve []string
	var window windowFlags
	cmd := &cobra.Command{
		Use:   "deploy STACK",
		Short: "Deploy one stack now, even if it looks right or its release failed before",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := window.check(); err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			req := api.DeployRequest{Approved: approve, OverrideWindow: window.override, Reason: window.reason}
			return a.stream(func(each func(api.ApplyEvent) error) (api.RunResult, error) {
				return client.Deploy(cmd.Context(), args[0], req, each)
			})
		},
	}
	cmd.Flags().StringArrayVar(&approve, "approve", nil, "consent to this gate of the plan (repeatable)")
	window.add(cmd)
	return cmd
}

// runReport is the end of a run for programs: also what its plan could not do.
type runReport struct {
	api.RunResult

	Blocked []plan.Blocked `json:"blocked,omitempty"`
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
	if len(result.Ops) == 0 {
		if err := checkOnly(view.plan); err != nil {
			return err
		}
	}
	if a.json {
		err = a.printJSON(runReport{result, view.plan.Blocked})
	} else {
		err = view.summary(result)
	}
	if err != nil {
		return err
	}
	if err := resultError(result); err != nil {
		return err
	}
	if err := blockedError(view.plan.Blocked); err != nil {
		return err
	}
	return blockedResource(view.plan)
}

// blockedResource is blockedError for what core keeps.
func blockedResource(p plan.Plan) error {
	for _, c := range p.Resources {
		if c.Blocked != "" {
			return &exit.Error{
				Code: exit.Failed, Err: fmt.Errorf("blocked: %s: %s", c.Resource(), printable(c.Blocked)),
				Hint: firstOf(c.Hint, "declare it in one sync only, or rename one of the two"),
			}
		}
	}
	return nil
}

// resultError is what a run's end means for the exit code.
func resultError(result api.RunResult) error {
	e := &exit.Error{Code: exit.Failed}
	switch result.Status {
	case api.OpSucceeded:
		return nil
	case api.OpRolledBack:
		e.Err = errors.New("a deploy failed and was rolled back")
	case api.OpFailed:
		e.Err = errors.New("a deploy failed")
	case api.OpStale:
		e.Err = errors.New("a stack moved since the plan was made and was left alone")
		e.Hint = "make a new plan: varan plan --out FILE"
	case api.OpSkipped:
		e.Err = errors.New("not all of it was done")
		e.Hint = "varan plan shows what waits for approval"
	case api.OpCanceled, api.OpInterrupted, api.OpRunning:
		e.Err = fmt.Errorf("the run was %s before its end", words(result.Status))
		e.Hint = "varan status shows how far it came"
	}
	for i := range result.Ops {
		if hint := result.Ops[i].Hint; hint != "" {
			e.Hint = hint
			break
		}
	}
	return e
}

// blockedError keeps a run that could not do all of its plan from looking like success.
// What waits for a host alone, of containers or of Git, is unreachable; a host that was disabled is as it should be.
func blockedError(blocked []plan.Blocked) error {
	e := &exit.Error{Code: exit.Unreachable}
	first, count := -1, 0
	for i := range blocked {
		switch blocked[i].Reason {
		case plan.BlockDisabled:
			continue
		case plan.BlockOffline, plan.BlockUnknown, plan.BlockEngine, plan.BlockDependency, plan.BlockSource:
		case plan.BlockRollout:
			continue // its turn comes
		case plan.BlockBad, plan.BlockForeign, plan.BlockBusy, plan.BlockPolicy,
			plan.BlockHeld, plan.BlockLoop, plan.BlockSuspended, plan.BlockWindow, plan.BlockDisk:
			e.Code = exit.Failed
		}
		count++
		if first < 0 {
			first = i
		}
	}
	if count == 0 {
		return nil
	}
	b := &blocked[first]
	e.Err = fmt.Errorf("blocked: %s on %s: %s", b.Op.Stack, b.Op.Server, printable(b.Text))
	if count > 1 {
		e.Err = fmt.Errorf("%w, and %d more", e.Err, count-1)
	}
	e.Hint = firstOf(b.Hint, "varan why "+b.Op.Stack)
	return e
}

// checkOnly refuses names that the plan knows nothing of: most likely a typing error.
func checkOnly(p plan.Plan) error {
	if len(p.Unmatched) == 0 {
		return nil
	}
	name, what, list := p.Unmatched[0], "stack", "stacks"
	if kind, rest, ok := strings.Cut(name, "/"); ok {
		name, what, list = rest, kind, strings.TrimSuffix(kind, "s")+"s"
	}
	return &exit.Error{
		Code: exit.Failed, Err: fmt.Errorf("there is no %s %q in %s", what, name, firstOf(p.Sync, "the plan")),
		Hint: "varan get " + list,
	}
}
