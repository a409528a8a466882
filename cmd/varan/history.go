package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
)

// historyFlags are those that choose records.
type historyFlags struct {
	filter       api.EventFilter
	since, until string
}

func (f *historyFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.filter.Kinds, "kind", nil, "only these kinds, such as op,login,webhook (repeatable)")
	flags.StringVar(&f.filter.Server, "server", "", "only what is about this server")
	flags.StringVar(&f.filter.Sync, "sync", "", "only what is about this sync")
	flags.StringVar(&f.filter.Actor, "actor", "", "only what this person, key or program did")
	flags.StringVar(&f.filter.Run, "run", "", "only what belongs to this run")
	flags.StringVar(&f.since, "since", "", "only from then on: a time, or how long ago (2h, 7d, \"yesterday 18:00\")")
	flags.StringVar(&f.until, "until", "", "only before then")
	flags.Int64Var(&f.filter.Before, "before", 0, "only what comes after this record in the list, to page through it")
	flags.IntVarP(&f.filter.Limit, "limit", "n", 20, "how many, at most 500")
}

// choose reads the times.
func (f *historyFlags) choose(now time.Time) (err error) {
	if f.filter.Since, err = when("since", f.since, now); err != nil {
		return err
	}
	f.filter.Until, err = when("until", f.until, now)
	return err
}

func (a *app) historyCommand() *cobra.Command {
	var f historyFlags
	cmd := &cobra.Command{
		Use:   "history [STACK]",
		Short: "What happened, to a stack or at all, newest first",
		Example: `  varan history
  varan history web --since 7d
  varan history --kind login,key --until yesterday
  varan history show 1204`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.choose(time.Now()); err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				f.filter.Stack = args[0]
			}
			events := func(ctx context.Context) ([]api.Event, error) { return client.Events(ctx, f.filter) }
			return listed(a, events, cmd, a.printEvents)
		},
	}
	f.register(cmd)
	cmd.AddCommand(a.historyShowCommand())
	return cmd
}

func (a *app) historyShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show one record: what led to it, what it led to, and what was said while it was done",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || id < 1 {
				return exit.Usagef("%q is no number of a record: varan history lists them", args[0])
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			chain, err := client.Event(cmd.Context(), id)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(chain)
			}
			a.printChain(styleFor(a.stdout), chain)
			if chain.OpRecord == nil {
				return nil
			}
			fmt.Fprintf(a.stdout, "\n%s\n", styleFor(a.stdout).bold("log"))
			return client.OpLog(cmd.Context(), chain.Event.Run, chain.Event.Op, false, func(line api.OpLogLine) error {
				return a.printOpLogLine(styleFor(a.stdout), line)
			})
		},
	}
}

func (a *app) printChain(s style, chain api.EventChain) {
	e := &chain.Event
	for i := range chain.Causes {
		a.printLink(s, &chain.Causes[i], indent(i), "")
	}
	a.printLink(s, e, indent(len(chain.Causes)), "  <- this one")
	facts := [][2]string{
		{"recorded", lateText(e)},
		{"by", e.Actor},
		{"from", strings.TrimSpace(e.Remote + " " + e.Listener)},
		{"commit", e.Commit},
		{"run", e.Run},
		{"op", e.Op},
		{"status", strings.ReplaceAll(e.Status, "_", " ")},
		{"took", tookText(e.DurationMS)},
	}
	for _, key := range slices.Sorted(maps.Keys(e.Data)) {
		facts = append(facts, [2]string{key, e.Data[key]})
	}
	facts = append(facts, [2]string{"hash", e.Hash})
	fmt.Fprintln(a.stdout)
	for _, f := range facts {
		if f[1] != "" {
			fmt.Fprintf(a.stdout, "  %-9s %s\n", s.dim(f[0]), printable(f[1]))
		}
	}
	if op := chain.OpRecord; op != nil {
		for _, cause := range op.Causes {
			fmt.Fprintf(a.stdout, "  %-9s %s\n", s.dim("because"), printable(cause.String()))
		}
		if changed := changedText(op.Outcome); changed != "" {
			fmt.Fprintf(a.stdout, "  %-9s %s\n", s.dim("changed"), printable(changed))
		}
		if op.Hint != "" {
			fmt.Fprintf(a.stdout, "  %-9s %s\n", s.dim("hint"), printable(op.Hint))
		}
	}
	if len(chain.Effects) > 0 {
		fmt.Fprintf(a.stdout, "\n%s\n", s.bold("then"))
		for i := range chain.Effects {
			a.printLink(s, &chain.Effects[i], indent(1), "")
		}
	}
}

// indent shows how far a record is from the first cause.
func indent(depth int) string { return strings.Repeat("  ", min(depth, 8)) }

// printLink prints one record of a chain of causes.
func (a *app) printLink(s style, e *api.Event, before, note string) {
	head := fmt.Sprintf("%s%d  %s  %s", before, e.ID, e.At.Local().Format(time.DateTime), e.Kind)
	if of := subject(e); of != "" {
		head += " " + of
	}
	fmt.Fprintf(a.stdout, "%s  %s%s\n", s.dim(head), s.ended(e.Status, printable(e.Text)), s.bold(note))
}

// lateText is when core heard of what happened, where that was notably later.
func lateText(e *api.Event) string {
	if e.Recorded.Sub(e.At) < time.Second {
		return ""
	}
	return fmt.Sprintf("%s, %s after it happened", e.Recorded.Local().Format(time.DateTime), e.Recorded.Sub(e.At).Round(time.Second))
}

func (a *app) printEvents(s style, events []api.Event) {
	t := table{head: []string{"ID", "WHEN", "KIND", "OF", "BY", "TOOK", "WHAT"}}
	for i := range events {
		e := &events[i]
		t.add(s.dim(fmt.Sprint(e.ID)), e.At.Local().Format(time.DateTime), e.Kind, orDash(subject(e)), orDash(printable(e.Actor)),
			orDash(tookText(e.DurationMS)), s.ended(e.Status, printable(e.Text)))
	}
	t.write(a.stdout, s)
}

// subject is what a record is about: "web@alpha", or the narrowest thing that it names.
func subject(e *api.Event) string {
	if e.Stack != "" && e.Server != "" {
		return e.Stack + "@" + e.Server
	}
	return firstOf(e.Stack, e.Server, e.Sync)
}

func tookText(ms int64) string {
	if ms == 0 {
		return ""
	}
	d := time.Duration(ms) * time.Millisecond
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

// ended colours what ended badly.
func (s style) ended(status, text string) string {
	switch status {
	case "failed", "rolled_back", "refused":
		return s.red(text)
	case "interrupted", "canceled", "skipped", "stale":
		return s.yellow(text)
	}
	return text
}
