package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/core/api"
)

// listed fetches a list and prints it as JSON or by show.
func listed[T any](a *app, list func(context.Context) ([]T, error), cmd *cobra.Command, show func(style, []T)) error {
	values, err := list(cmd.Context())
	if err != nil {
		return err
	}
	if a.json {
		if values == nil {
			values = []T{}
		}
		return a.printJSON(values)
	}
	if len(values) == 0 {
		fmt.Fprintln(a.stderr, "none yet")
		return nil
	}
	show(styleFor(a.stdout), values)
	return nil
}

func (a *app) historyCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "history [STACK]",
		Short: "What was done to a stack, or everything that happened, newest first",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			page := api.Page{Limit: limit}
			if len(args) == 0 {
				events := func(ctx context.Context) ([]api.Event, error) { return client.Events(ctx, page) }
				return listed(a, events, cmd, a.printEvents)
			}
			ops := func(ctx context.Context) ([]api.Op, error) { return client.History(ctx, args[0], page) }
			return listed(a, ops, cmd, a.printOps)
		},
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 20, "how many")
	return cmd
}

func (a *app) printEvents(s style, events []api.Event) {
	t := table{head: []string{"WHEN", "KIND", "OF", "BY", "WHAT"}}
	for _, e := range events {
		actor := e.Actor
		if e.Kind == "op" {
			actor = "" // the run that it was part of; its own line says who began it
		}
		t.add(e.At.Local().Format(time.DateTime), e.Kind, orDash(firstOf(e.Stack, e.Server, e.Sync)), orDash(actor),
			printable(e.Text))
	}
	t.write(a.stdout, s)
}

func (a *app) printOps(s style, ops []api.Op) {
	t := table{head: []string{"WHEN", "OP", "SERVER", "RESULT", "TOOK", "COMMIT", "BY", "REASON"}}
	for i := range ops {
		op := &ops[i]
		took := "-"
		if !op.Ended.IsZero() {
			took = op.Ended.Sub(op.Started).Round(100 * time.Millisecond).String()
		}
		t.add(op.Started.Local().Format(time.DateTime), string(op.Kind), op.Server, opStatus(s, op.Status), took,
			orDash(commitText(op.Commit)), by(op), printable(op.Reason))
	}
	t.write(a.stdout, s)
}

func opStatus(s style, status api.OpStatus) string {
	switch status {
	case api.OpSucceeded:
		return s.green(words(status))
	case api.OpFailed, api.OpRolledBack:
		return s.red(words(status))
	case api.OpRunning, api.OpSkipped, api.OpStale, api.OpCanceled, api.OpInterrupted:
	}
	return s.yellow(words(status))
}

// words is a status as people write it: "rolled back".
func words(status api.OpStatus) string { return strings.ReplaceAll(string(status), "_", " ") }

// by says what set something going and who: "webhook", or "manual admin".
func by(op *api.Op) string {
	if op.Actor == op.Trigger {
		return op.Trigger
	}
	return strings.TrimSpace(op.Trigger + " " + op.Actor)
}

func (a *app) printSyncs(s style, syncs []api.Sync, now time.Time) {
	t := table{head: []string{"SYNC", "BRANCH", "COMMIT", "EVERY", "AUTO-APPLY", "DELETE", "SELF-HEAL", "CHECKED", "PHASE", "URL"}}
	for i := range syncs {
		y := &syncs[i]
		t.add(y.Name, y.Branch, orDash(commitText(y.State.Commit)),
			(time.Duration(y.IntervalSeconds) * time.Second).String(),
			fmt.Sprint(y.AutoApply), fmt.Sprint(y.Delete), fmt.Sprint(y.SelfHeal),
			ago(y.State.Checked, now), orDash(y.State.Phase), y.URL)
	}
	t.write(a.stdout, s)
}
