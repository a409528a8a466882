package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
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
			return a.done("%sd %s", cmd.Name(), args[0])
		},
	}
}

// listHint points at the list of names when one was not found.
func listHint(cmd *cobra.Command, err error) error {
	refusal, ok := errors.AsType[*api.Error](err)
	if !ok || refusal.Code != api.CodeNotFound || refusal.Hint != "" {
		return err
	}
	return &exit.Error{Code: exit.Failed, Err: err, Hint: "varan " + cmdPath(cmd.Parent()) + " list"}
}

func (a *app) onboardingCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "onboarding-key",
		Aliases: []string{"onboarding-keys"},
		Short:   "Keys that let new agents join",
	}
	var spec api.OnboardingSpec
	var ttl time.Duration
	var tier string
	create := &cobra.Command{
		Use:   "create",
		Short: "Create a key, shown this one time",
		Example: `  varan onboarding-key create --server web-1
  varan onboarding-key create --server 'edge-*' --uses 10 --ttl 24h --tier untrusted`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOnboarding(spec, ttl, tier); err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			spec.TTLSeconds, spec.Tier = int(ttl/time.Second), fleet.Tier(tier)
			created, err := client.CreateOnboardingKey(cmd.Context(), spec)
			if err != nil {
				return err
			}
			return a.printOnboarding(client, created)
		},
	}
	create.Flags().StringVar(&spec.ServerGlob, "server", "*", "names an agent may take, such as web-1 or edge-*")
	create.Flags().StringVar(&spec.Name, "name", "", "a name for the list of keys")
	create.Flags().StringArrayVar(&spec.Tags, "tag", nil, "tag of the servers that join (repeatable)")
	create.Flags().StringVar(&tier, "tier", "", "highest tier of the servers that join: trusted or untrusted")
	create.Flags().IntVar(&spec.MaxUses, "uses", 1, "how many agents may join with it, at most 100")
	create.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long it is good for, at most 168h")
	create.Flags().StringVar(&spec.Rekey, "rekey", "", "the one existing server whose agent's key is replaced")
	list := &cobra.Command{
		Use: "list", Short: "List the keys", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			return listed(a, client.OnboardingKeys, cmd, a.printOnboardingKeys)
		},
	}
	cmd.AddCommand(create, list, a.removal("revoke ID", "End a key; servers that joined with it stay",
		(*api.Client).RevokeOnboardingKey))
	return cmd
}

// checkOnboarding refuses what core would, in the words of the flags.
func checkOnboarding(spec api.OnboardingSpec, ttl time.Duration, tier string) error {
	switch {
	case spec.MaxUses < 1 || spec.MaxUses > 100:
		return exit.Usagef("--uses is from 1 to 100")
	case ttl < time.Second || ttl > 7*24*time.Hour:
		return exit.Usagef("--ttl is from 1s to 168h")
	case tier != "" && tier != string(fleet.TierTrusted) && tier != string(fleet.TierUntrusted):
		return exit.Usagef("--tier is trusted or untrusted")
	}
	return nil
}

func (a *app) printOnboarding(client *api.Client, created api.OnboardingCreated) error {
	if a.json {
		return a.printJSON(created)
	}
	fmt.Fprintln(a.stdout, string(created.Token))
	// Where standard output is no terminal it is someone's file or variable, and what is
	// written beside it may be a log: there the command names a variable instead.
	key := `"$KEY"`
	if columns(a.stdout) > 0 {
		key = string(created.Token)
	}
	name := created.Key.ServerGlob
	if strings.ContainsAny(name, "*?[") {
		name = "'$(hostname)'" // the agent puts its host's name there, not the shell
	}
	fmt.Fprintf(a.stderr, "good until %s, for %s. On the new host:\n\n  VARAN_ONBOARDING_KEY=%s varan agent --core %s --connect-as %s\n\n",
		created.Key.Expires.Local().Format(time.DateTime), plural(created.Key.MaxUses, "agent"), key, client.BaseURL, name)
	if loopback(client.BaseURL) {
		fmt.Fprintln(a.stderr, "from another machine, put the address there by which it reaches this core")
	}
	if created.Key.MaxUses > 1 {
		fmt.Fprintln(a.stderr, "each server that joins with it waits for: varan server approve NAME")
	}
	return nil
}

// loopback reports whether an address means this machine only.
func loopback(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
}

func (a *app) printOnboardingKeys(s style, keys []api.OnboardingKey) {
	t := table{head: []string{"ID", "NAME", "ENDS WITH", "SERVERS", "TIER", "USED", "EXPIRES", "STATE"}}
	for i := range keys {
		k := &keys[i]
		state := s.green("open")
		switch {
		case k.Revoked:
			state = s.red("revoked")
		case k.Uses >= k.MaxUses:
			state = s.dim("used up")
		case time.Now().After(k.Expires):
			state = s.dim("expired")
		}
		t.add(k.ID, orDash(k.Name), k.Last4, k.ServerGlob, string(k.Tier), fmt.Sprintf("%d/%d", k.Uses, k.MaxUses),
			k.Expires.Local().Format(time.DateTime), state)
	}
	t.write(a.stdout, s)
}

func (a *app) serverCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "server", Short: "Servers: list, approve and remove them"}
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
