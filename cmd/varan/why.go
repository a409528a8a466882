package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/reconciler/plan"
)

func (a *app) whyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "why STACK[@SERVER] | why KIND/NAME",
		Short: "Explain a stack, server, sync or procedure: what led to it, what it waits for, what to do next",
		Long: `Explain why a stack runs what it runs, why it changed or why it does not: which commit, file,
field, service and host, and the records that led to it, from the container's change to the
push, the schedule or the person. It explains servers, syncs and procedures as well.`,
		Example: `  varan why web
  varan why web@edge-1
  varan why server/edge-1
  varan why sync/home
  varan why procedure/nightly`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			why, err := client.Why(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if a.json {
				err = a.printJSON(why)
			} else {
				a.printWhy(why)
			}
			if err == nil && !why.Known {
				err = &exit.Error{Code: exit.Failed} // the answer says so, and what is meant instead
			}
			return err
		},
	}
}

func (a *app) printWhy(why api.Why) {
	s := styleFor(a.stdout)
	head := s.bold(why.Name)
	switch {
	case why.Kind != "stack" && why.Kind != "":
		head = why.Kind + " " + head
	case why.Server != "":
		head += " on " + s.bold(why.Server)
	}
	if why.Known && why.Kind != "procedure" {
		head += "  " + s.sync(why.Sync) + " / " + s.health(why.Health)
	}
	fmt.Fprintf(a.stdout, "%s\n%s\n", head, printable(why.Summary))
	a.printWhyFacts(s, why)
	for i, d := range worthSaying(why) {
		if i == 0 {
			fmt.Fprintln(a.stdout)
		}
		line := "  " + printable(d.Text)
		if p := d.Origin.String(); p != "" {
			line += "  " + s.dim(printable(p))
		}
		fmt.Fprintln(a.stdout, line)
	}
	if len(why.Good) > 0 {
		a.printBecause(s, "what was tried last", why.Because)
		a.printBecause(s, "what led to what runs", why.Good)
	} else {
		a.printBecause(s, "what led to it", why.Because)
	}
	for i, next := range why.Next {
		if i == 0 {
			fmt.Fprintf(a.stdout, "\n%s\n", s.bold("next"))
		}
		fmt.Fprintln(a.stdout, "  "+printable(next))
	}
}

// printBecause prints a record and what led to it.
func (a *app) printBecause(s style, title string, chain []api.Event) {
	for i := range chain {
		if i == 0 {
			fmt.Fprintf(a.stdout, "\n%s\n", s.bold(title))
		}
		arrow := "  "
		if i > 0 {
			arrow = "  <- "
		}
		a.printLink(s, &chain[i], arrow, "")
	}
}

// worthSaying leaves out the facts that the lines above them already told: the one that
// gave the summary, the last op, and what is told once more for its service.
func worthSaying(why api.Why) []api.WhyDetail {
	type field struct{ kind, service, name string }
	told := map[field]bool{}
	blocked := slices.ContainsFunc(why.Details, func(d api.WhyDetail) bool { return d.Kind == "blocked" })
	return slices.DeleteFunc(slices.Clone(why.Details), func(d api.WhyDetail) bool {
		f := field{d.Kind, d.Service, d.Field}
		again := f.name != "" && told[f]
		told[f] = true
		ofService := d.Service == "" && strings.HasPrefix(d.Field, "services.")
		return strings.HasPrefix(why.Summary, d.Text) || d.Kind == "last" && why.LastOp != nil ||
			d.Kind == "bad" && blocked || ofService || again
	})
}

func (a *app) printWhyFacts(s style, why api.Why) {
	if !why.Known {
		return
	}
	facts := [][2]string{
		{"declared", printable(why.Origin.String())},
		{"desired", commitLine(why.Desired.Short(), why.Desired.Subject, why.Desired.ID)},
		{"running", commitLine(why.Running.Short(), why.Running.Subject, why.Running.ID)},
	}
	if op := why.LastOp; op != nil {
		text := fmt.Sprintf("%s, %s, %s ago, by %s", op.ID, opStatus(s, op.Status),
			ago(firstTime(op.Ended, op.Started), time.Now()), by(op))
		if op.Reason != "" {
			text += ": " + printable(op.Reason)
		}
		facts = append(facts, [2]string{"last op", text})
	}
	fmt.Fprintln(a.stdout)
	for _, f := range facts {
		if f[1] != "" {
			fmt.Fprintf(a.stdout, "  %-9s %s\n", s.dim(f[0]), f[1])
		}
	}
}

func commitLine(short, subject, id string) string {
	if id == "" {
		return ""
	}
	return short + " " + printable(subject)
}

func firstTime(times ...time.Time) time.Time {
	for _, t := range times {
		if !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}

func (a *app) diffCommand() *cobra.Command {
	var from, to, sync string
	cmd := &cobra.Command{
		Use:   "diff [STACK]",
		Short: "Show field by field how a stack differs from what Git says, or two commits from each other",
		Example: `  varan diff web
  varan diff --from 1a2b3c4d --to 5e6f7a8b
  varan diff web --from 1a2b3c4d`,
		Args: func(cmd *cobra.Command, args []string) error {
			if from != "" {
				return cobra.MaximumNArgs(1)(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if from == "" && (to != "" || sync != "") {
				return exit.Usagef("--to and --sync go with --from")
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			if from != "" {
				return a.compare(cmd, client, comparisonOf{sync, from, to, args})
			}
			diff, err := client.Diff(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(diff)
			}
			p := plan.Plan{
				Sync: diff.Source, Commit: diff.Desired,
				Ops: diff.Ops, Blocked: diff.Blocked, Gates: diff.Gates, Notices: diff.Notices,
			}
			if p.Empty() && len(p.Notices) == 0 {
				fmt.Fprintf(a.stdout, "%s runs exactly what %s says.\n", diff.Stack, diff.Desired.Short())
				return nil
			}
			p.Totals = plan.Count(p)
			if err := p.Render(a.stdout, a.renderOptions(true)); err != nil {
				return fmt.Errorf("write the diff: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "compare from this commit, by the beginning of its id")
	cmd.Flags().StringVar(&to, "to", "", "compare to this commit; without it, to the one in force")
	cmd.Flags().StringVar(&sync, "sync", "", "the sync whose commits they are, when there are several")
	return cmd
}

// comparisonOf is what varan diff --from compares.
type comparisonOf struct {
	sync, from, to string
	args           []string
}

func (a *app) compare(cmd *cobra.Command, client *api.Client, of comparisonOf) error {
	var named []string
	if of.sync != "" {
		named = []string{of.sync}
	}
	sync, err := soleSync(cmd, client, named)
	if err != nil {
		return err
	}
	stack := ""
	if len(of.args) == 1 {
		stack = of.args[0]
	}
	result, err := client.Compare(cmd.Context(), sync, of.from, of.to, stack)
	if err != nil {
		return a.withDiagnostics(err)
	}
	if a.json {
		return a.printJSON(result)
	}
	if result.Plan.Empty() {
		fmt.Fprintf(a.stdout, "%s and %s say the same.\n", result.From.Short(), result.To.Short())
		return nil
	}
	fmt.Fprintf(a.stdout, "from %s to %s:\n", commitLine(result.From.Short(), result.From.Subject, result.From.ID),
		commitLine(result.To.Short(), result.To.Subject, result.To.ID))
	if err := result.Plan.Render(a.stdout, a.renderOptions(true)); err != nil {
		return fmt.Errorf("write the diff: %w", err)
	}
	return nil
}

func (a *app) logsCommand() *cobra.Command {
	var req api.LogsRequest
	var deploy string
	cmd := &cobra.Command{
		Use:   "logs STACK [SERVICE]",
		Short: "Show the logs of a stack's containers, or what was said while it was deployed",
		Long: `Show the logs of a stack's containers; with --json, one JSON object a line.
With --deploy it is what was said while something was done to a stack.`,
		Example: `  varan logs web -f
  varan logs web api --tail 20
  varan logs --deploy '0197c1e0-4f1b-7c3e-a2b1-000000000000/update web@alpha'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if deploy != "" {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.RangeArgs(1, 2)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			if deploy != "" {
				return a.showOpLog(cmd.Context(), client, deploy, req.Follow)
			}
			if len(args) == 2 {
				req.Service = args[1]
			}
			s := styleFor(a.stdout)
			return client.Logs(cmd.Context(), args[0], req, func(line api.LogLine) error {
				return a.printLogLine(s, line, req.Timestamps)
			})
		},
	}
	cmd.Flags().StringVar(&deploy, "deploy", "", "what was said while this op was done: RUN/OP, as varan history show prints them")
	cmd.Flags().BoolVarP(&req.Follow, "follow", "f", false, "keep showing new lines")
	cmd.Flags().IntVar(&req.Tail, "tail", 100, "lines of each container to start with; -1 shows all")
	cmd.Flags().BoolVarP(&req.Timestamps, "timestamps", "t", false, "show when each line was written")
	cmd.Flags().StringVar(&req.Server, "server", "", "the server, when several run the stack")
	return cmd
}

// showOpLog prints what was said while an op was done.
func (a *app) showOpLog(ctx context.Context, client *api.Client, name string, follow bool) error {
	run, op, ok := strings.Cut(name, "/")
	if !ok || run == "" || op == "" {
		return exit.Usagef("--deploy wants RUN/OP, as varan history show prints them, not %q", name)
	}
	return client.OpLog(ctx, run, op, follow, func(line api.OpLogLine) error {
		if a.json {
			if err := json.NewEncoder(a.stdout).Encode(line); err != nil {
				return fmt.Errorf("write the log: %w", err)
			}
			return nil
		}
		return a.printOpLogLine(styleFor(a.stdout), line)
	})
}

func (a *app) printOpLogLine(s style, line api.OpLogLine) error {
	at := "        "
	if !line.At.IsZero() {
		at = line.At.Local().Format(time.TimeOnly)
	}
	text := s.dim(at) + " "
	if about := strings.TrimSpace(line.Phase + " " + line.Service); about != "" {
		text += s.cyan(printable(about))
		if line.Text != "" {
			text += ": "
		}
	}
	if _, err := fmt.Fprintln(a.stdout, text+printable(line.Text)); err != nil {
		return fmt.Errorf("write the log: %w", err)
	}
	return nil
}

func (a *app) printLogLine(s style, line api.LogLine, timestamps bool) error {
	if a.json {
		if err := json.NewEncoder(a.stdout).Encode(line); err != nil {
			return fmt.Errorf("write the log: %w", err)
		}
		return nil
	}
	prefix := s.cyan(line.Service) + " | "
	if timestamps {
		prefix += s.dim(line.Time.UTC().Format(time.RFC3339Nano)) + " "
	}
	if _, err := fmt.Fprintln(a.stdout, prefix+printable(line.Text)); err != nil {
		return fmt.Errorf("write the log: %w", err)
	}
	return nil
}
