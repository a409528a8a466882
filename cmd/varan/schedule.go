package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet/schedule"
)

// dateTime is how times of schedules are shown: with the day, and the distance to UTC.
const dateTime = "Mon 2006-01-02 15:04:05 -07:00"

func (a *app) schedulesCommand() *cobra.Command {
	var next int
	cmd := &cobra.Command{
		Use: "schedules", Short: "Show when procedures run by themselves", Args: cobra.NoArgs,
		Example: "  varan schedules\n  varan schedules --next 5 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			list := func(ctx context.Context) ([]api.Schedule, error) { return client.Schedules(ctx, next) }
			return listed(a, list, cmd, a.printSchedules)
		},
	}
	cmd.Flags().IntVarP(&next, "next", "n", 1, "how many of the next times of each, up to 100")
	return cmd
}

func (a *app) printSchedules(s style, v []api.Schedule) {
	t := table{head: []string{"PROCEDURE", "SCHEDULE", "ZONE", "NEXT RUN", "LAST RUN", "RESULT", "FROM"}}
	for i := range v {
		c := &v[i]
		last, result := "-", "-"
		if c.LastRun != nil {
			last, result = c.LastRun.Created.Local().Format(time.DateTime), runStatus(s, c.LastRun.Status)
		}
		next := nextRuns(c)
		t.add(c.Procedure, printable(c.Expression), c.Timezone, next[0], last, result, c.Source)
		for _, more := range next[1:] {
			t.add("", "", "", more, "", "", "")
		}
	}
	t.write(a.stdout, s)
}

func nextRuns(c *api.Schedule) []string {
	var next []string
	for _, n := range c.Next {
		text := n.At.Format(dateTime)
		if n.Note != "" {
			text += " (" + n.Note + ")"
		}
		next = append(next, text)
	}
	switch {
	case c.Error != "":
		return []string{"never: " + printable(c.Error)}
	case !c.Enabled:
		return []string{"switched off"}
	case len(next) == 0:
		return []string{"-"}
	}
	return next
}

func (a *app) scheduleCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "schedule", Short: "What schedules mean"}
	cmd.AddCommand(a.scheduleExplainCommand())
	return cmd
}

// explainFlags choose how a schedule is read.
type explainFlags struct {
	format, zone, after string
	next                int
}

func (a *app) scheduleExplainCommand() *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain EXPRESSION",
		Short: "Say in words and dates what a schedule means",
		Long: `Say in words and dates what a schedule means, without a core. Where the clocks change, it is
said which of the times that concerns.`,
		Example: `  varan schedule explain "Every day at 06:00" --timezone Europe/Berlin
  varan schedule explain "0 0 6 * * MON" --format cron --next 10`,
		Args: cobra.MinimumNArgs(1),
		// Words are words, with quotes around them or without.
		RunE: func(_ *cobra.Command, args []string) error { return a.explainSchedule(strings.Join(args, " "), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "", "english or cron (default: whichever it is)")
	flags.StringVar(&f.zone, "timezone", envOr("VARAN_TIMEZONE", "UTC"), "time zone of the IANA ($VARAN_TIMEZONE)")
	flags.StringVar(&f.after, "after", "", "date, or time as in RFC 3339, from which to look (default now)")
	flags.IntVarP(&f.next, "next", "n", 5, "how many of the next times")
	return cmd
}

// explainedSchedule is the result of schedule explain for programs.
type explainedSchedule struct {
	Expression string        `json:"expression"`
	Format     string        `json:"format"`
	Timezone   string        `json:"timezone"`
	Words      string        `json:"words"`
	Notes      []string      `json:"notes,omitempty"`
	Next       []api.NextRun `json:"next"`
}

func (a *app) explainSchedule(text string, f explainFlags) error {
	if f.next < 0 || f.next > 1000 {
		return exit.Usagef("--next is a number up to 1000")
	}
	format, err := scheduleFormat(f.format, text)
	if err != nil {
		return err
	}
	s, err := schedule.Parse(format, text, f.zone)
	if err != nil {
		return scheduleFault(text, err)
	}
	at := time.Now()
	if f.after != "" {
		if at, err = time.ParseInLocation(time.DateOnly, f.after, s.Zone()); err != nil {
			at, err = time.Parse(time.RFC3339, f.after)
		}
		if err != nil {
			return exit.Usagef("%q is neither a date nor a time as in RFC 3339", f.after)
		}
	}
	out := explainedSchedule{Expression: text, Format: format, Timezone: f.zone, Words: s.Words(), Next: []api.NextRun{}}
	if s.Hasty() {
		out.Notes = append(out.Notes, "a procedure starts at most once a minute: the times in between are left out")
	}
	if s.Clockwork() {
		out.Notes = append(out.Notes, "it names no hour, so it goes on evenly when the clocks change")
	}
	for range f.next {
		next, ok := s.Next(at)
		if !ok {
			break
		}
		out.Next = append(out.Next, api.NextRun{At: next, Note: s.Note(next)})
		at = next
	}
	if a.json {
		return a.printJSON(out)
	}
	fmt.Fprintf(a.stdout, "%s, %s time\n", out.Words, out.Timezone)
	for _, note := range out.Notes {
		fmt.Fprintf(a.stdout, "  %s\n", note)
	}
	for _, next := range out.Next {
		line := "  " + next.At.Format(dateTime)
		if next.Note != "" {
			line += "  " + next.Note
		}
		fmt.Fprintln(a.stdout, line)
	}
	return nil
}

// scheduleFormat is the format of Parse that a person means.
func scheduleFormat(format, text string) (string, error) {
	switch strings.ToLower(format) {
	case "english":
		return schedule.English, nil
	case "cron":
		return schedule.Cron, nil
	case "":
		if strings.ContainsAny(text, "*?") || !strings.ContainsAny(strings.ToLower(text), "abcdefghijklmnopqrstuvwxyz") {
			return schedule.Cron, nil
		}
		return schedule.English, nil
	}
	return "", exit.Usagef("there is no format %q; write english or cron", format)
}

// scheduleFault points at what is wrong in a schedule.
func scheduleFault(text string, err error) error {
	var fault *schedule.Error
	if !errors.As(err, &fault) {
		return err
	}
	if fault.Zone {
		return &exit.Error{Code: exit.Config, Err: fault, Hint: fault.Hint}
	}
	offset := min(fault.Offset, len(text))
	pointed := fmt.Errorf("%s, at character %d\n  %s\n  %s^", fault.Message, len([]rune(text[:offset]))+1,
		cmp.Or(printable(text), `""`), strings.Repeat(" ", len([]rune(text[:offset]))))
	return &exit.Error{Code: exit.Config, Err: pointed, Hint: fault.Hint}
}

// procedureOwnCommands change the procedures that core has of its own.
func (a *app) procedureOwnCommands() []*cobra.Command {
	change := func(use, short, done string, do func(context.Context, *api.Client, string) error) *cobra.Command {
		return &cobra.Command{
			Use: use + " PROCEDURE", Short: short, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				client, err := a.client()
				if err != nil {
					return err
				}
				if err := do(cmd.Context(), client, args[0]); err != nil {
					return err
				}
				return a.done("procedure %s %s", args[0], done)
			},
		}
	}
	enable := func(on bool) func(context.Context, *api.Client, string) error {
		return func(ctx context.Context, c *api.Client, name string) error {
			_, err := c.EnableProcedure(ctx, name, on)
			return err
		}
	}
	return []*cobra.Command{
		change("enable", "Switch the schedule of one of core's own procedures on", "runs by its schedule", enable(true)),
		change("disable", "Switch the schedule of one of core's own procedures off", "runs by hand only", enable(false)),
		change("remove", "Remove one of core's own procedures for good", "removed",
			func(ctx context.Context, c *api.Client, name string) error { return c.RemoveProcedure(ctx, name) }),
	}
}
