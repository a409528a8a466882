package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
)

// acceptCommand has core know the agent of a server by a key that a person compared.
func (a *app) acceptCommand() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "accept NAME",
		Short: "Show the key of an agent that core dials and does not know, or accept one",
		Long: `Core dials the agents of servers that have an address. It knows a server by the key of
its agent; without --public-key this shows the key that the agent at the address last showed.
Compare it with the one on the host, which the agent logs when it starts to listen, and
accept it with --public-key. That also gives a server that joined another key; the one
before is refused from then on.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			if key != "" {
				if err := client.AcceptServerKey(cmd.Context(), args[0], key); err != nil {
					return listHint(cmd, err)
				}
				return a.done("accepted the key of %s", args[0])
			}
			server, err := client.Server(cmd.Context(), args[0])
			if err != nil {
				return listHint(cmd, err)
			}
			return a.printAttempt(server)
		},
	}
	cmd.Flags().StringVar(&key, "public-key", "", "key to accept, as the agent logs it")
	return cmd
}

func (a *app) printAttempt(server api.Server) error {
	if server.Dial == nil {
		return &exit.Error{
			Code: exit.Failed, Err: fmt.Errorf("core does not dial server %s: no commit gives it an address, or it is disabled", server.Name),
			Hint: "varan server accept " + server.Name + " --public-key KEY accepts a key all the same",
		}
	}
	if a.json {
		return a.printJSON(server.Dial)
	}
	fmt.Fprintf(a.stdout, "%s: %s\n", server.Dial.Address, server.Dial.Text)
	if server.Dial.AttemptedKey == "" {
		return nil
	}
	fmt.Fprintf(a.stdout, "its key         %s\nits fingerprint %s\n", server.Dial.AttemptedKey, server.Dial.AttemptedFingerprint)
	fmt.Fprintf(a.stderr, "compare it with the key on the host, and then: varan server accept %s --public-key %s\n", server.Name, server.Dial.AttemptedKey)
	return nil
}
