package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

func (a *app) statusCommand() *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "The whole fleet on two axes: is it what Git says, and is it well",
		Example: `  varan status
  varan status --at "yesterday 18:00"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			then, err := when("at", at, time.Now())
			if err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			if at != "" {
				return a.showPast(cmd, client, then)
			}
			status, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(status)
			}
			a.printStatus(status, time.Now())
			return nil
		},
	}
	cmd.Flags().StringVar(&at, "at", "", "how the stacks were at this time: a date, 18:00, \"yesterday 18:00\", or how long ago (2h, 7d)")
	return cmd
}

// showPast prints how the stacks were at a time.
func (a *app) showPast(cmd *cobra.Command, client *api.Client, at time.Time) error {
	past, err := client.StatusAt(cmd.Context(), at)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(past)
	}
	if len(past.Stacks) == 0 {
		text := "nothing was there yet"
		if past.From.IsZero() || past.From.After(at) {
			text = "nothing is known of that time"
			if !past.From.IsZero() {
				text += "; the oldest that is known is of " + past.From.Local().Format(time.DateTime)
			}
		}
		fmt.Fprintln(a.stderr, text)
		return nil
	}
	s := styleFor(a.stdout)
	t := table{head: []string{"STACK", "SERVER", "SYNC", "HEALTH", "COMMIT", "RELEASE", "SINCE", "NOTE"}}
	for _, p := range past.Stacks {
		t.add(p.Name, p.Server, s.sync(p.Sync), s.health(p.Health), orDash(commitText(fleet.Commit{ID: p.Commit})),
			orDash(p.Release.Short()), p.Since.Local().Format(time.DateTime), printable(p.Text))
	}
	t.write(a.stdout, s)
	return nil
}

func (a *app) printStatus(status api.Status, now time.Time) {
	s := styleFor(a.stdout)
	for _, warning := range status.Warnings {
		fmt.Fprintln(a.stdout, s.red("warning:"), printable(warning))
	}
	if len(status.Servers)+len(status.Syncs) == 0 {
		fmt.Fprintln(a.stdout, "Nothing here yet. Add a source with `varan sync add NAME URL`, "+
			"and a server with `varan onboarding-key create`.")
		return
	}
	for _, sync := range status.Syncs {
		a.printSyncLine(s, sync, now)
	}
	if len(status.Syncs) > 0 {
		fmt.Fprintln(a.stdout)
	}
	a.printServers(s, status.Servers, now)
	if len(status.Stacks) > 0 {
		fmt.Fprintln(a.stdout)
		a.printStacks(s, status.Stacks, now)
	}
	if len(status.Suspensions)+len(status.Rollouts) > 0 {
		fmt.Fprintln(a.stdout)
	}
	for i := range status.Rollouts {
		a.printRollout(s, &status.Rollouts[i])
	}
	for _, u := range status.Suspensions {
		fmt.Fprintf(a.stdout, "%s %s  %s\n", s.bold("suspended"), printable(u.Resource()), s.yellow(printable(u.Who())))
	}
}

func (a *app) printSyncLine(s style, sync api.Sync, now time.Time) {
	state := sync.State
	line := fmt.Sprintf("%s %s  %s@%s", s.bold("sync"), sync.Name, sync.Branch, orDash(commitText(state.Commit)))
	switch {
	case state.Error != "":
		line += "  " + s.red(printable(state.Error))
	case state.Diagnostics.HasErrors():
		line += "  " + s.red("stalled: the configuration is invalid")
		if state.Good.ID != "" {
			line += ", running " + state.Good.Short()
		}
	case state.Blocked+state.Pending+state.Unrecorded > 0:
		line += "  " + s.yellow(pendingText(state)) + s.dim("  varan sync show "+sync.Name)
	default:
		line += "  " + s.dim("checked "+ago(state.Checked, now)+" ago")
	}
	fmt.Fprintln(a.stdout, line)
	for _, d := range state.Diagnostics {
		if d.Severity == fleet.SeverityError {
			fmt.Fprintf(a.stdout, "  %s\n", printable(d.String()))
		}
	}
}

// pendingText is "2 pending, 1 blocked, 3 resources to record".
func pendingText(state api.SyncState) string {
	text := fmt.Sprintf("%d pending, %d blocked", state.Pending, state.Blocked)
	if state.Unrecorded > 0 {
		text += ", " + plural(state.Unrecorded, "resource") + " to record"
	}
	return text
}

func (a *app) printServers(s style, servers []api.Server, now time.Time) {
	t := table{head: []string{"SERVER", "AGENT", "TIER", "STACKS", "SYNC", "HEALTH", "REPORTED", "ENGINE", "NOTE"}}
	for _, server := range servers {
		agent := s.green("online")
		switch {
		case server.Pending:
			agent = s.yellow("pending")
		case !server.Online:
			agent = s.red("offline")
		}
		t.add(server.Name, agent, string(server.Tier), fmt.Sprint(server.Stacks), s.sync(server.Sync),
			s.health(server.Health), ago(server.LastSeen, now), orDash(server.Agent.Engine), printable(server.Text))
	}
	t.write(a.stdout, s)
}

func (a *app) printStacks(s style, stacks []api.Stack, now time.Time) {
	t := table{head: []string{"STACK", "SERVER", "SYNC", "HEALTH", "COMMIT", "DEPLOYED", "CONTAINERS", "NOTE"}}
	for _, stack := range stacks {
		t.add(stack.Name, stack.Server, s.sync(stack.Sync), s.health(stack.Health), orDash(commitText(stack.Commit)),
			ago(stack.DeployedAt, now), containersText(stack.Containers), printable(stack.Text))
	}
	t.write(a.stdout, s)
}

func commitText(c fleet.Commit) string {
	if c.ID == "" {
		return ""
	}
	return c.Short()
}

// containersText is "2/3 running", or "-" when there are none.
func containersText(containers []fleet.Container) string {
	if len(containers) == 0 {
		return "-"
	}
	running := 0
	for i := range containers {
		if containers[i].State == fleet.StateRunning {
			running++
		}
	}
	return fmt.Sprintf("%d/%d running", running, len(containers))
}

func (a *app) printContainers(s style, stacks []api.Stack) {
	t := table{head: []string{"CONTAINER", "STACK", "SERVICE", "SERVER", "STATE", "HEALTH", "PORTS", "IMAGE"}}
	for _, stack := range stacks {
		for i := range stack.Containers {
			c := &stack.Containers[i]
			t.add(c.Name, stack.Name, c.Service, stack.Server, string(c.State), string(c.Health),
				orDash(portsText(c.Ports)), c.Image)
		}
	}
	t.write(a.stdout, s)
}

func portsText(ports []fleet.Port) string {
	text := ""
	for _, p := range ports {
		if text != "" {
			text += " "
		}
		text += fmt.Sprintf("%s:%d->%d/%s", p.HostIP, p.Host, p.Target, p.Protocol)
	}
	return text
}
