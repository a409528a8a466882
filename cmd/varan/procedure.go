package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

func (a *app) runCommand() *cobra.Command {
	var (
		execution string
		follow    bool
	)
	cmd := &cobra.Command{
		Use:   "run PROCEDURE | run --execution TYPE [NAME=VALUE...]",
		Short: "Run a procedure, or a single execution",
		Long: `Run a procedure, or a single execution. The stages are shown as they run; the run goes on
when you leave. With --follow=false the command ends once the run is on record.

Lists in the parameters of an execution are separated by commas.`,
		Example: `  varan run nightly
  varan run --execution DeployStack stack=web
  varan run --execution BatchPullStack pattern='web-*'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("follow") && a.json {
				follow = true
			}
			return a.run(cmd, execution, !follow, args)
		},
	}
	cmd.Flags().StringVar(&execution, "execution", "", "run this execution instead of a procedure")
	cmd.Flags().BoolVar(&follow, "follow", true, "show what happens until the run ends")
	return cmd
}

func (a *app) run(cmd *cobra.Command, execution string, detach bool, args []string) error {
	params, err := runArguments(execution, args)
	if err != nil {
		return err
	}
	client, err := a.client()
	if err != nil {
		return err
	}
	view := &runView{liveBlock: newLiveBlock(a, a.json || detach), quiet: a.json || detach}
	var run api.ProcedureRun
	if execution != "" {
		run, err = client.RunExecution(cmd.Context(), api.ExecutionRequest{Type: execution, Params: params, Detach: detach}, view.event)
	} else {
		run, err = client.RunProcedure(cmd.Context(), args[0], api.RunRequest{Detach: detach}, view.event)
	}
	view.erase()
	if err != nil {
		return a.stillRuns(view, err)
	}
	return a.ranTo(run, detach)
}

// runArguments checks the arguments of run and reads the parameters among them.
func runArguments(execution string, args []string) (map[string]string, error) {
	if execution == "" {
		if len(args) != 1 {
			return nil, exit.Usagef("which procedure? give one name, or --execution TYPE")
		}
		return nil, nil //nolint:nilnil // a procedure has no parameters
	}
	params := map[string]string{}
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok || name == "" {
			return nil, exit.Usagef("%q is not NAME=VALUE", arg)
		}
		params[name] = value
	}
	return params, nil
}

// stillRuns says that a run goes on which somebody stopped to watch.
func (a *app) stillRuns(view *runView, err error) error {
	if view.id != "" && errors.Is(err, context.Canceled) {
		fmt.Fprintf(a.stderr, "run %s goes on: varan procedure show %s\n", view.id, view.id)
	}
	return err
}

// ranTo prints the result of a run.
func (a *app) ranTo(run api.ProcedureRun, detach bool) error {
	switch {
	case a.json:
		if err := a.printJSON(run); err != nil {
			return err
		}
	case detach:
		fmt.Fprintf(a.stdout, "run %s is on its way: varan procedure show %s\n", run.ID, run.ID)
	default:
		counts := map[api.ProcedureStatus]int{}
		for _, s := range run.Steps {
			counts[s.Status]++
		}
		fmt.Fprintf(a.stdout, "%s %s: %d of %d executions succeeded in %s.\n", cmp.Or(run.Procedure, "Execution"), run.Status,
			counts[api.ProcedureSucceeded], len(run.Steps), took(run.Started, run.Ended))
	}
	if detach || run.Status == api.ProcedureSucceeded {
		return nil
	}
	return &exit.Error{
		Code: exit.Failed, Err: fmt.Errorf("run %s %s: %s", run.ID, run.Status, cmp.Or(printable(run.Reason), "nothing more is known")),
		Hint: "varan procedure show " + run.ID,
	}
}

func took(from, to time.Time) string {
	if from.IsZero() || to.IsZero() {
		return "-"
	}
	return to.Sub(from).Round(100 * time.Millisecond).String()
}

// runView shows a run as a tree: a line for each stage, and below it one for each step that
// ended; on a terminal also those that run.
type runView struct {
	liveBlock
	quiet   bool
	id      string
	running []liveStep
}

type liveStep struct {
	number int
	text   string
	news   string
}

func (v *runView) event(e api.ProcedureEvent) error {
	v.id = cmp.Or(v.id, e.ID)
	if v.quiet {
		return nil
	}
	v.erase()
	switch {
	case e.Kind == "queued":
		v.running = []liveStep{{number: -1, text: "waits for its turn"}}
	case e.Kind == "started":
		v.running = nil
	case e.Kind == "stage":
		fmt.Fprintf(v.out, "%s\n", v.style.bold(printable(cmp.Or(e.Text, fmt.Sprintf("Stage %d", e.Stage+1)))))
	case e.Step == nil:
	case e.Kind == "step_started":
		v.running = append(v.running, liveStep{number: e.Step.Number, text: stepName(e.Step)})
	case e.Kind == "progress":
		for i := range v.running {
			if v.running[i].number == e.Step.Number {
				v.running[i].news = printable(e.Text)
			}
		}
	case e.Kind == "step_ended":
		for i := range v.running {
			if v.running[i].number == e.Step.Number {
				v.running = append(v.running[:i], v.running[i+1:]...)
				break
			}
		}
		printStep(v.out, v.style, e.Step)
	}
	v.draw()
	return nil
}

func stepName(s *api.ProcedureStep) string {
	return printable(strings.TrimSpace(s.Type + " " + s.Target))
}

// printStep writes how a step ended, with its reason on a line of its own.
func printStep(w io.Writer, s style, step *api.ProcedureStep) {
	mark := s.yellow("–")
	switch step.Status {
	case api.ProcedureSucceeded:
		mark = s.green("✓")
	case api.ProcedureFailed:
		mark = s.red("✗")
	case api.ProcedureQueued, api.ProcedureRunning, api.ProcedureCanceled, api.ProcedureInterrupted:
	}
	line := fmt.Sprintf("  %s %s", mark, stepName(step))
	if step.Text != "" {
		line += "  " + s.dim(printable(step.Text))
	}
	fmt.Fprintf(w, "%s  %s\n", line, s.dim(took(step.Started, step.Ended)))
	if step.Reason != "" {
		fmt.Fprintf(w, "      %s\n", printable(step.Reason))
	}
}

func (v *runView) draw() {
	lines := make([]string, len(v.running))
	for i, step := range v.running {
		lines[i] = strings.TrimRight(fmt.Sprintf("  … %s  %s", step.text, step.news), " ")
	}
	v.liveBlock.draw(lines)
}

func (a *app) procedureCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "procedure", Short: "Procedures and their runs"}
	cmd.AddCommand(a.procedureListCommand(), a.procedureShowCommand(), a.procedureRunsCommand(), a.procedureCancelCommand())
	return cmd
}

func (a *app) procedureListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the procedures", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			return listed(a, client.Procedures, cmd, func(s style, v []api.Procedure) {
				t := table{head: []string{"NAME", "STAGES", "LAST RUN", "RESULT", "FROM", "DESCRIPTION"}}
				for i := range v {
					when, result := "-", "-"
					if run := v[i].LastRun; run != nil {
						when, result = run.Created.Local().Format(time.DateTime), runStatus(s, run.Status)
					}
					t.add(v[i].Name, fmt.Sprint(len(v[i].Stages)), when, result, v[i].Source, printable(v[i].Description))
				}
				t.write(a.stdout, s)
			})
		},
	}
}

func runStatus(s style, status api.ProcedureStatus) string {
	switch status {
	case api.ProcedureSucceeded:
		return s.green(string(status))
	case api.ProcedureFailed:
		return s.red(string(status))
	case api.ProcedureQueued, api.ProcedureRunning, api.ProcedureCanceled, api.ProcedureInterrupted:
	}
	return s.yellow(string(status))
}

func (a *app) procedureRunsCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "runs [PROCEDURE]", Short: "List runs, newest first", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			name := strings.Join(args, "")
			runs := func(ctx context.Context) ([]api.ProcedureRun, error) { return client.ProcedureRuns(ctx, name, limit) }
			return listed(a, runs, cmd, func(s style, v []api.ProcedureRun) {
				t := table{head: []string{"WHEN", "PROCEDURE", "RESULT", "TOOK", "BY", "RUN", "REASON"}}
				for _, run := range v {
					name := run.Procedure
					if name == "" && len(run.Stages) > 0 {
						name = run.Stages[0].Name
					}
					t.add(run.Created.Local().Format(time.DateTime), name, runStatus(s, run.Status), took(run.Started, run.Ended),
						run.Actor, run.ID, printable(run.Reason))
				}
				t.write(a.stdout, s)
			})
		},
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 20, "how many")
	return cmd
}

func (a *app) procedureShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show PROCEDURE | show RUN", Short: "Show a procedure's stages, or what a run did", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			p, err := client.Procedure(cmd.Context(), args[0])
			if err == nil {
				return a.showProcedure(p)
			}
			run, missing := client.ProcedureRun(cmd.Context(), args[0])
			if missing != nil {
				return err // about procedures: it knows which names are near
			}
			return a.showRun(run)
		},
	}
}

func (a *app) showProcedure(p api.Procedure) error {
	if a.json {
		return a.printJSON(p)
	}
	s := styleFor(a.stdout)
	fmt.Fprintf(a.stdout, "%s  %s\n", s.bold(p.Name), s.dim(fmt.Sprintf("sync %s, %s", p.Source, p.Origin)))
	if p.Description != "" {
		fmt.Fprintln(a.stdout, printable(p.Description))
	}
	for i, stage := range p.Stages {
		fmt.Fprintln(a.stdout, s.bold(printable(cmp.Or(stage.Name, fmt.Sprintf("Stage %d", i+1))))+offText(s, stage.Enabled))
		for k := range stage.Executions {
			x := &stage.Executions[k]
			fmt.Fprintf(a.stdout, "  %s%s\n", strings.TrimSpace(x.Type+" "+paramsText(x)), offText(s, x.Enabled))
		}
	}
	if p.LastRun != nil {
		fmt.Fprintf(a.stdout, "last run %s: %s (varan procedure show %s)\n", p.LastRun.Created.Local().Format(time.DateTime),
			runStatus(s, p.LastRun.Status), p.LastRun.ID)
	}
	return nil
}

func offText(s style, enabled bool) string {
	if enabled {
		return ""
	}
	return "  " + s.dim("switched off")
}

func paramsText(x *fleet.Execution) string {
	parts := make([]string, 0, len(x.Params))
	for _, p := range x.Params {
		value := cmp.Or(p.Text, strings.Join(p.List, ","))
		switch {
		case value != "":
		case p.Int != 0:
			value = fmt.Sprint(p.Int)
		default:
			value = fmt.Sprint(p.Bool)
		}
		parts = append(parts, p.Name+"="+printable(value))
	}
	return strings.Join(parts, " ")
}

func (a *app) showRun(run api.ProcedureRun) error {
	if a.json {
		return a.printJSON(run)
	}
	s := styleFor(a.stdout)
	fmt.Fprintf(a.stdout, "%s  %s  %s\n", s.bold(cmp.Or(run.Procedure, "execution")), runStatus(s, run.Status),
		s.dim(fmt.Sprintf("run %s, by %s at %s, %s", run.ID, run.Actor, run.Created.Local().Format(time.DateTime), took(run.Started, run.Ended))))
	if run.Reason != "" {
		fmt.Fprintf(a.stdout, "  %s\n", printable(run.Reason))
	}
	stage := -1
	for i := range run.Steps {
		step := &run.Steps[i]
		if step.Stage != stage && step.Stage < len(run.Stages) {
			stage = step.Stage
			fmt.Fprintln(a.stdout, s.bold(printable(cmp.Or(run.Stages[stage].Name, fmt.Sprintf("Stage %d", stage+1)))))
		}
		printStep(a.stdout, s, step)
		for line := range strings.Lines(step.Log) {
			fmt.Fprintf(a.stdout, "      %s\n", s.dim(printable(strings.TrimRight(line, "\n"))))
		}
	}
	return nil
}

func (a *app) procedureCancelCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cancel PROCEDURE | cancel RUN", Short: "End runs after the stage they are in", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			canceled, err := client.CancelProcedure(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(canceled)
			}
			if canceled.Runs == 0 {
				return &exit.Error{Code: exit.Failed, Err: fmt.Errorf("nothing of %q runs or waits", args[0]), Hint: "varan procedure runs"}
			}
			return a.done("%d runs of %s end after their stage", canceled.Runs, args[0])
		},
	}
}
