package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

func (a *app) secretCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Secret values that live in core, and encrypted files in Git",
		Long: `Secret values. set, list and remove are for values of [[NAME]], which live in core, sealed.
edit, encrypt, decrypt and rekey are for files in Git, encrypted in the format of SOPS for
age and PGP keys; they need no core.`,
	}
	set := a.valueCommand(true)
	set.Example = `  varan secret set DB_PASSWORD
  varan secret set EDGE_TOKEN --tag scope:untrusted --server edge-1 < token`
	var plain bool
	set.Flags().BoolVar(&plain, "plain", false, "store it as a variable that may be shown")
	_ = set.Flags().MarkHidden("plain") // varan variable set does that
	cmd.AddCommand(set, a.valuesCommand(), a.removal("remove NAME", "Remove a value", (*api.Client).DeleteVariable))
	cmd.AddCommand(a.secretFileCommands()...)
	return cmd
}

func (a *app) variableCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "variable",
		Short: "Plain values that live in core: set, list and delete them",
	}
	set := a.valueCommand(false)
	set.Example = `  echo example.com | varan variable set DOMAIN
  varan variable set REGION --stack web --stack api --description "where it runs"`
	cmd.AddCommand(set, a.valuesCommand(), a.removal("delete NAME", "Delete a value", (*api.Client).DeleteVariable))
	return cmd
}

// valueCommand sets a variable. Its value is read, never an argument: secret or not, that
// keeps the two commands alike and values out of histories.
func (a *app) valueCommand(secret bool) *cobra.Command {
	var spec api.VariableSpec
	set := &cobra.Command{
		Use:   "set NAME",
		Short: "Set a value from the terminal or standard input",
		Long: `Set a value from the terminal (without echo) or standard input.

Resource files use it as [[NAME]], Compose files as ${NAME}. The flags narrow where it may be
used; using it elsewhere is an error. A secret is for trusted servers unless it is tagged
scope:untrusted or scope:all, any other value is for all unless it is tagged scope:trusted.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return &exit.Error{
					Code: exit.Usage, Err: errors.New("a value is never an argument: others could see it"),
					Hint: "varan " + cmdPath(cmd) + " " + args[0] + " asks for it, or reads standard input",
				}
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			value, err := a.readSecret(cmd.Context(), "value of "+args[0]+": ")
			if err != nil {
				return err
			}
			spec.Value, spec.Secret = api.WriteOnly(value.Reveal()), secret
			if plain, err := cmd.Flags().GetBool("plain"); err == nil && plain {
				spec.Secret = false
			}
			if _, err := client.SetVariable(cmd.Context(), args[0], spec); err != nil {
				return err
			}
			return a.done("set %s", args[0])
		},
	}
	flags := set.Flags()
	flags.StringVar(&spec.Description, "description", "", "what it is for")
	flags.StringArrayVar(&spec.Tags, "tag", nil, "tag, such as scope:trusted (repeatable)")
	flags.StringArrayVar(&spec.Servers, "server", nil, "only on this server (repeatable)")
	flags.StringArrayVar(&spec.ServerTags, "server-tag", nil, "only on servers with this tag (repeatable)")
	flags.StringArrayVar(&spec.Stacks, "stack", nil, "only in this stack (repeatable)")
	return set
}

func (a *app) valuesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the names; a secret's value cannot be read back",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			return listed(a, client.Variables, cmd, a.printVariables)
		},
	}
}

func (a *app) printVariables(s style, variables []api.Variable) {
	t := table{head: []string{"NAME", "VALUE", "UPDATED", "FOR", "DESCRIPTION"}}
	for i := range variables {
		v := &variables[i]
		value := printable(v.Value)
		if v.Secret {
			value = s.dim(fleet.Secret{}.String())
		}
		t.add(v.Name, value, v.Updated.Local().Format(time.DateTime), orDash(printable(scopeText(v.Scope))), printable(v.Description))
	}
	t.write(a.stdout, s)
}

// scopeText is what narrows a variable: "scope:trusted, stacks web api".
func scopeText(scope fleet.Scope) string {
	parts := append([]string{}, scope.Tags...)
	for _, list := range []struct {
		word  string
		names []string
	}{{"servers", scope.Servers}, {"server tags", scope.ServerTags}, {"stacks", scope.Stacks}} {
		if len(list.names) > 0 {
			parts = append(parts, list.word+" "+strings.Join(list.names, " "))
		}
	}
	return strings.Join(parts, ", ")
}

func (a *app) accountCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "account",
		Short: "Accounts at Git hosts and image registries: set, list and delete them",
	}
	var key, passphrase, knownHosts string
	set := &cobra.Command{
		Use:   "set git|registry HOST USER",
		Short: "Set the token or key of an account, from the terminal or standard input",
		Long: `Set the token of an account, read from the terminal (without echo) or standard input, or its
SSH key, read from a file. Both are sealed in core and cannot be read back.

Resource files name the account: git_account with git_provider, registry_account with
registry_provider.`,
		Example: `  varan account set git github.com ada < token
  varan account set git git.example.com deploy --ssh-key ~/.ssh/deploy --known-hosts known_hosts
  varan account set registry ghcr.io ada < token`,
		Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			id := api.AccountID{Kind: args[0], Domain: args[1], Username: args[2]}
			spec, err := a.accountSpec(cmd, id, key, passphrase, knownHosts)
			if err != nil {
				return err
			}
			if _, err := client.SetAccount(cmd.Context(), id, spec); err != nil {
				return err
			}
			return a.done("set %s", id)
		},
	}
	set.Flags().StringVar(&key, "ssh-key", "", "file with a private key for SSH, instead of a token")
	set.Flags().StringVar(&passphrase, "ssh-passphrase-file", "", "file with the private key's passphrase")
	set.Flags().StringVar(&knownHosts, "known-hosts", "", "file that pins the SSH host keys")
	list := &cobra.Command{
		Use: "list", Short: "List the accounts", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			return listed(a, client.Accounts, cmd, a.printAccounts)
		},
	}
	remove := &cobra.Command{
		Use: "delete git|registry HOST USER", Short: "Delete an account", Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			id := api.AccountID{Kind: args[0], Domain: args[1], Username: args[2]}
			if err := client.DeleteAccount(cmd.Context(), id); err != nil {
				return listHint(cmd, err)
			}
			return a.done("deleted %s", id)
		},
	}
	cmd.AddCommand(set, list, remove)
	return cmd
}

func (a *app) accountSpec(cmd *cobra.Command, id api.AccountID, key, passphrase, knownHosts string) (api.AccountSpec, error) {
	var spec api.AccountSpec
	if key == "" {
		token, err := a.readSecret(cmd.Context(), fmt.Sprintf("token of %s: ", id))
		spec.Token = api.WriteOnly(token.Reveal())
		return spec, err
	}
	var hosts api.WriteOnly
	for _, file := range []struct {
		path string
		to   *api.WriteOnly
	}{{key, &spec.SSHKey}, {passphrase, &spec.SSHPassphrase}, {knownHosts, &hosts}} {
		if file.path == "" {
			continue
		}
		raw, err := os.ReadFile(file.path)
		if err != nil {
			return spec, &exit.Error{Code: exit.Config, Err: fmt.Errorf("read a credential: %w", err)}
		}
		*file.to = api.WriteOnly(raw)
	}
	spec.SSHPassphrase = api.WriteOnly(strings.TrimRight(string(spec.SSHPassphrase), "\r\n"))
	spec.KnownHosts = string(hosts)
	return spec, nil
}

func (a *app) printAccounts(s style, accounts []api.Account) {
	t := table{head: []string{"KIND", "HOST", "USER", "OPENS WITH", "UPDATED"}}
	for _, v := range accounts {
		with := "token"
		if v.HasSSHKey {
			with = "SSH key"
		}
		t.add(v.Kind, v.Domain, v.Username, with, v.Updated.Local().Format(time.DateTime))
	}
	t.write(a.stdout, s)
}
