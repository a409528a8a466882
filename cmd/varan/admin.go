package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
)

// removal is a subcommand that removes one named thing.
func (a *app) removal(use, short string, remove func(*api.Client, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			if err := remove(client, cmd.Context(), args[0]); err != nil {
				return listHint(cmd, err)
			}
			return a.done("%s %s", past(cmd.Name()), args[0])
		},
	}
}

// past is what a verb of these commands is when it is done.
func past(verb string) string {
	if strings.HasSuffix(verb, "e") {
		return verb + "d"
	}
	return verb + "ed"
}

// listHint points at the list of names when one was not found.
func listHint(cmd *cobra.Command, err error) error {
	refusal, ok := errors.AsType[*api.Error](err)
	if !ok || refusal.Code != api.CodeNotFound || refusal.Hint != "" {
		return err
	}
	return &exit.Error{Code: exit.Failed, Err: err, Hint: "varan " + cmdPath(cmd.Parent()) + " list"}
}

func (a *app) serverCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "server", Short: "Servers: list, approve, accept, reject and remove them"}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "List the servers", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				client, err := a.client()
				if err != nil {
					return err
				}
				return listed(a, client.Servers, cmd, func(s style, v []api.Server) { a.printServers(s, v, time.Now()) })
			},
		},
		&cobra.Command{
			Use:   "approve NAME",
			Short: "Let a server that joined with a reusable key take part",
			Args:  cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				client, err := a.client()
				if err != nil {
					return err
				}
				if err := client.ApproveServer(cmd.Context(), args[0]); err != nil {
					return listHint(cmd, err)
				}
				return a.done("approved %s", args[0])
			},
		},
		a.acceptCommand(),
		a.removal("reject NAME", "Turn a server away that waits for approval; its agent cannot join with its key again",
			(*api.Client).RejectServer),
		a.removal("disable NAME", "End a server's session and refuse its key until it is enabled", (*api.Client).DisableServer),
		a.removal("enable NAME", "Accept the key of a disabled server again", (*api.Client).EnableServer),
		a.removal("remove NAME", "Revoke a server's key and forget it; its containers stay",
			(*api.Client).RemoveServer),
	)
	return cmd
}

func (a *app) apiKeyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "api-key", Short: "API keys: create, list and remove them"}
	create := &cobra.Command{
		Use: "create NAME", Short: "Create an API key, shown this one time", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			created, err := client.CreateKey(cmd.Context(), api.KeySpec{Name: args[0]})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(created)
			}
			fmt.Fprintln(a.stdout, string(created.Secret))
			return nil
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "List the API keys", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			return listed(a, client.Keys, cmd, func(s style, keys []api.Key) {
				t := table{head: []string{"ID", "NAME", "CREATED", "LAST USED"}}
				for _, k := range keys {
					t.add(k.ID, k.Name, k.Created.Local().Format(time.DateTime), strings.TrimSuffix(ago(k.LastUsed, time.Now())+" ago", "- ago"))
				}
				t.write(a.stdout, s)
			})
		},
	}
	cmd.AddCommand(create, list, a.removal("remove ID", "Revoke an API key", (*api.Client).DeleteKey))
	return cmd
}
