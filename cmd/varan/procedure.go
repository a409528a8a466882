package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/settings"
)

func (a *app) procedureCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "procedure", Short: "Procedures and their runs"}
	cmd.AddCommand(a.procedureListCommand(), a.procedureShowCommand(), a.procedureRunsCommand(), a.procedureCancelCommand(),
		a.decideCommand("approve", "Let a run that waits for an approval go on", true),
		a.decideCommand("reject", "Fail a run that waits for an approval", false))
	cmd.AddCommand(a.procedureOwnCommands()...)
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
	case api.ProcedureQueued, api.ProcedureRunning, api.ProcedureWaiting, api.ProcedureCanceled, api.ProcedureInterrupted:
	}
	return s.yellow(string(status))
}

func (a *app) procedureRunsCommand() *cobra.Command {
	var (
		limit   int
		waiting bool
	)
	cmd := &cobra.Command{
		Use: "runs [PROCEDURE]", Short: "List runs, newest first", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			name := strings.Join(args, "")
			runs := func(ctx context.Context) ([]api.ProcedureRun, error) {
				return client.ProcedureRuns(ctx, name, limit, waiting)
			}
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
	cmd.Flags().BoolVar(&waiting, "waiting", false, "only those that wait for an approval")
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
	for i := range p.Inputs {
		fmt.Fprintf(a.stdout, "  --input %s\n", inputText(s, &p.Inputs[i]))
	}
	for i, stage := range p.Stages {
		line := s.bold(printable(cmp.Or(stage.Name, fmt.Sprintf("Stage %d", i+1)))) + policyText(s, &stage.Policy) + offText(s, stage.Enabled)
		if stage.Approval {
			line += "  waits for an approval" + byText(strings.Join(stage.Approvers, ", "))
		}
		fmt.Fprintln(a.stdout, line)
		for k := range stage.Executions {
			x := &stage.Executions[k]
			fmt.Fprintf(a.stdout, "  %s%s%s\n", strings.TrimSpace(x.Type+" "+paramsText(x)), policyText(s, &x.Policy), offText(s, x.Enabled))
		}
	}
	if t := p.Timetable; t.Schedule != "" {
		fmt.Fprintf(a.stdout, "schedule: %s%s (varan schedules)\n", printable(t.Schedule), offText(s, t.Enabled))
	}
	if p.LastRun != nil {
		fmt.Fprintf(a.stdout, "last run %s: %s (varan procedure show %s)\n", p.LastRun.Created.Local().Format(time.DateTime),
			runStatus(s, p.LastRun.Status), p.LastRun.ID)
	}
	return nil
}

// inputText is an input as --input takes it, with what it may be.
func inputText(s style, in *fleet.Input) string {
	line := in.Name + "=" + printable(in.Default)
	notes := []string{printable(in.Description)}
	if in.Required {
		notes = append(notes, "required")
	}
	if len(in.Options) > 0 {
		notes = append(notes, "one of "+printable(strings.Join(in.Options, ", ")))
	}
	return line + "  " + s.dim(strings.TrimPrefix(strings.Join(notes, "; "), "; "))
}

// policyText says what is not the default.
func policyText(s style, p *fleet.Policy) string {
	var parts []string
	if p.When != "" {
		parts = append(parts, "on "+string(p.When))
	}
	if p.Timeout > 0 {
		parts = append(parts, "within "+settings.Short(time.Duration(p.Timeout)))
	}
	if p.Retries > 0 {
		parts = append(parts, fmt.Sprintf("%d retries", p.Retries))
	}
	if p.ContinueOnError {
		parts = append(parts, "may fail")
	}
	if len(parts) == 0 {
		return ""
	}
	return "  " + s.dim(strings.Join(parts, ", "))
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
	for _, name := range slices.Sorted(maps.Keys(run.Inputs)) {
		fmt.Fprintf(a.stdout, "  %s=%s\n", name, printable(shortened(run.Inputs[name])))
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

// shortened is a value that a line has room for.
func shortened(text string) string {
	const most = 200
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + fmt.Sprintf("... (%d bytes)", len(text))
	}
	return text
}

func (a *app) decideCommand(verb, short string, approve bool) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: verb + " RUN | " + verb + " PROCEDURE", Short: short, Args: cobra.ExactArgs(1),
		Example: "  varan procedure " + verb + " release --reason 'seen on staging'",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			run, err := client.DecideProcedure(cmd.Context(), args[0], api.DecisionRequest{Approve: approve, Reason: reason})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(run)
			}
			return a.done("run %s of %s goes on: %s", run.ID, run.Procedure, map[bool]string{true: "approved", false: "rejected"}[approve])
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; kept with the run")
	return cmd
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
