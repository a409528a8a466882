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
func words[T ~string](status T) string { return strings.ReplaceAll(string(status), "_", " ") }

// by says what set something going and who: "webhook", or "manual admin".
func by(op *api.Op) string {
	switch {
	case op.Actor == op.Trigger:
		return op.Trigger
	case op.Trigger == "manual" && op.Actor != "":
		return op.Actor
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
