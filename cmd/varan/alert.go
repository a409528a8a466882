package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/core/api"
)

func (a *app) alerterCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "alerter", Short: "Where alerts are sent"}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "List the alerters", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				client, err := a.client()
				if err != nil {
					return err
				}
				return listed(a, client.Alerters, cmd, func(s style, v []api.Alerter) {
					t := table{head: []string{"NAME", "ENABLED", "TYPE", "ALERTS", "DECLARED"}}
					for _, alerter := range v {
						enabled, types := "no", "all"
						if alerter.Enabled {
							enabled = "yes"
						}
						if len(alerter.Types) > 0 {
							types = strings.Join(alerter.Types, ", ")
						}
						t.add(alerter.Name, enabled, alerter.Type, types, alerter.Origin.String())
					}
					t.write(a.stdout, s)
				})
			},
		},
		&cobra.Command{
			Use: "test NAME", Short: "Send a test alert, and say what became of it", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				client, err := a.client()
				if err != nil {
					return err
				}
				if err := client.TestAlerter(cmd.Context(), args[0]); err != nil {
					return err
				}
				return a.done("the endpoint of %s took a test alert", args[0])
			},
		})
	return cmd
}

func (a *app) alertCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "alert", Short: "What people were told"}
	var (
		open  bool
		limit int
	)
	list := &cobra.Command{
		Use: "list", Short: "List alerts, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			alerts := func(ctx context.Context) ([]api.Alert, error) { return client.Alerts(ctx, open, limit) }
			return listed(a, alerts, cmd, a.printAlerts)
		},
	}
	list.Flags().BoolVar(&open, "open", false, "only what is the matter now")
	list.Flags().IntVarP(&limit, "limit", "n", 20, "how many")
	cmd.AddCommand(list)
	return cmd
}

func (a *app) printAlerts(s style, alerts []api.Alert) {
	t := table{head: []string{"WHEN", "LEVEL", "ALERT", "ABOUT", "OVER", "WHAT"}}
	for i := range alerts {
		alert := &alerts[i]
		level := alert.Level
		switch level {
		case "CRITICAL":
			level = s.red(level)
		case "WARNING":
			level = s.yellow(level)
		}
		over := "-"
		if !alert.Resolved.IsZero() {
			over = alert.Resolved.Local().Format(time.DateTime)
		}
		t.add(alert.At.Local().Format(time.DateTime), level, string(alert.Type), orDash(alert.Target.Name), over, printable(alert.Text))
	}
	t.write(a.stdout, s)
}
