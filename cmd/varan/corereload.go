package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/core/api"
)

func (a *app) coreReloadCommand() *cobra.Command {
	var spec api.ReloadSpec
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have a running core read its settings again",
		Long: `Have a running core read its settings again, as SIGHUP does. Either all that changed is
applied, or nothing is: not when the file has a fault, and not when a setting changed that
needs a restart. Core never reads the file on its own.`,
		Example: "  varan core reload\n  varan core reload --only limits,auth",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			result, err := client.Reload(cmd.Context(), spec)
			if err != nil {
				return err
			}
			return a.printReloaded(result)
		},
	}
	cmd.Flags().StringSliceVar(&spec.Only, "only", nil, "apply these settings, or tables of settings, alone; auth also forgets what is known of keys")
	return cmd
}

func (a *app) printReloaded(result api.Reloaded) error {
	if a.json {
		return a.printJSON(result)
	}
	for _, change := range result.Changed {
		fmt.Fprintf(a.stdout, "%s: %s -> %s\n", change.Key, change.Old, change.New)
	}
	for _, name := range result.Certificates {
		fmt.Fprintf(a.stdout, "%s: certificate read again\n", name)
	}
	if len(result.Changed) == 0 {
		fmt.Fprintln(a.stderr, "reloaded: no setting has changed")
	}
	return nil
}

func (a *app) coreSettingsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "settings",
		Short: "Show the settings of a running core, with where they come from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			list, err := client.Settings(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(list)
			}
			t := table{head: []string{"SETTING", "RELOAD", "FROM", "VALUE"}}
			for _, s := range list {
				reload := "static"
				if s.Dynamic {
					reload = "dynamic"
				}
				t.add(s.Key, reload, s.Origin, s.Value) // the value last: lists can be long
			}
			t.write(a.stdout, styleFor(a.stdout))
			return nil
		},
	}
}
