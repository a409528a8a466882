package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
)

func (a *app) runCommand() *cobra.Command {
	var (
		execution string
		follow    bool
		inputs    []string
	)
	cmd := &cobra.Command{
		Use:   "run PROCEDURE [--input NAME=VALUE...] | run --execution TYPE [NAME=VALUE...]",
		Short: "Run a procedure, or a single execution",
		Long: `Run a procedure, or a single execution. The stages are shown as they run; the run goes on
when you leave. With --follow=false the command ends once the run is on record.

A value that begins with @ is read from that file: --input NOTES=@notes.txt.

Lists in the parameters of an execution are separated by commas.`,
		Example: `  varan run nightly
  varan run release --input VERSION=1.4.2 --input WHERE=staging
  varan run --execution DeployStack stack=web
  varan run --execution BatchPullStack pattern='web-*'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("follow") && a.json {
				follow = true
			}
			return a.run(cmd, asked{execution: execution, detach: !follow, inputs: inputs, args: args})
		},
	}
	cmd.Flags().StringVar(&execution, "execution", "", "run this execution instead of a procedure")
	cmd.Flags().StringArrayVarP(&inputs, "input", "i", nil, "an input of the procedure, NAME=VALUE; may be repeated")
	cmd.Flags().BoolVar(&follow, "follow", true, "show what happens until the run ends")
	return cmd
}

// asked is what the arguments and flags of run say.
type asked struct {
	execution    string
	detach       bool
	inputs, args []string
}

func (a *app) run(cmd *cobra.Command, ask asked) error {
	execution, detach, args := ask.execution, ask.detach, ask.args
	params, err := runArguments(execution, args)
	if err != nil {
		return err
	}
	inputs, err := runInputs(ask)
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
		run, err = client.RunProcedure(cmd.Context(), args[0], api.RunRequest{Inputs: inputs, Detach: detach}, view.event)
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

// runInputs reads the inputs, from files where they begin with @.
func runInputs(ask asked) (map[string]string, error) {
	if ask.execution != "" && len(ask.inputs) > 0 {
		return nil, exit.Usagef("an execution has parameters, and no --input: write them as NAME=VALUE")
	}
	inputs := map[string]string{}
	for _, text := range ask.inputs {
		name, value, ok := strings.Cut(text, "=")
		if _, twice := inputs[name]; !ok || name == "" || twice {
			return nil, exit.Usagef("--input %q is not NAME=VALUE, or given twice", text)
		}
		if path, ok := strings.CutPrefix(value, "@"); ok {
			content, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("read the input %s: %w", name, err)
			}
			value = string(content)
		}
		inputs[name] = value
	}
	return inputs, nil
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
	// now is the time at core, of the last event.
	now time.Time
}

type liveStep struct {
	number int
	text   string
	news   string
	since  time.Time
}

func byText(approvers string) string {
	if approvers == "" {
		return ""
	}
	return " by " + printable(approvers)
}

func (v *runView) event(e api.ProcedureEvent) error {
	v.id = cmp.Or(v.id, e.ID)
	if v.quiet {
		return nil
	}
	v.erase()
	v.now = e.At
	switch {
	case e.Kind == "queued":
		v.running = []liveStep{{number: -1, text: "waits for its turn"}}
	case e.Kind == "started":
		v.running = nil
	case e.Kind == "stage":
		fmt.Fprintf(v.out, "%s\n", v.style.bold(printable(cmp.Or(e.Text, fmt.Sprintf("Stage %d", e.Stage+1)))))
	case e.Step == nil:
	case e.Kind == "waiting":
		fmt.Fprintf(v.out, "  %s waits for an approval%s: varan procedure approve %s\n", v.style.yellow("⏸"), byText(e.Step.Target), e.ID)
	case e.Kind == "step_started":
		v.running = append(v.running, liveStep{number: e.Step.Number, text: stepName(e.Step), since: e.At})
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
		if step.MayFail {
			mark = s.yellow("!")
		}
	case api.ProcedureWaiting:
		mark = s.yellow("⏸")
	case api.ProcedureQueued, api.ProcedureRunning, api.ProcedureCanceled, api.ProcedureInterrupted:
	}
	line := fmt.Sprintf("  %s %s", mark, stepName(step))
	if step.Text != "" {
		line += "  " + s.dim(printable(step.Text))
	}
	if step.Attempts > 1 {
		line += "  " + s.dim(fmt.Sprintf("attempt %d", step.Attempts))
	}
	fmt.Fprintf(w, "%s  %s\n", line, s.dim(took(step.Started, step.Ended)))
	if step.Reason != "" {
		fmt.Fprintf(w, "      %s\n", printable(step.Reason))
	}
}

func (v *runView) draw() {
	lines := make([]string, len(v.running))
	for i, step := range v.running {
		lines[i] = strings.TrimRight(fmt.Sprintf("  … %s  %s  %s", step.text, step.news, took(step.since, v.now)), " -")
	}
	v.liveBlock.draw(lines)
}
