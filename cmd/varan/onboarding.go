package main

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

func (a *app) onboardingCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "onboarding-key",
		Aliases: []string{"onboarding-keys"},
		Short:   "Keys that let new agents join",
	}
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
	cmd.AddCommand(a.onboardingCreateCommand(), list, a.removal("revoke ID", "End a key; servers that joined with it stay",
		(*api.Client).RevokeOnboardingKey))
	return cmd
}

func (a *app) onboardingCreateCommand() *cobra.Command {
	var spec api.OnboardingSpec
	var expires lifetime
	var tier string
	create := &cobra.Command{
		Use:   "create",
		Short: "Create a key, shown this one time, and the line that installs an agent with it",
		Long: `Create a key that lets new agents join, and print the line that installs one on a new host.

What the key allows is fixed when it is made: for which names, from which networks, how often and
how long, and what the servers that join are: their tags, the highest tier they can have, and the
configuration of another server that they start with.

Agents that join with a key for more than one use wait for: varan server approve NAME`,
		Example: `  varan onboarding-key create --server web-1
  varan onboarding-key create --server 'edge-*' --uses 10 --expires 7d --tags edge --copy-server edge-template
  varan onboarding-key create --rekey web-1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOnboarding(spec, time.Duration(expires), tier); err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			spec.TTLSeconds, spec.Tier = int(time.Duration(expires)/time.Second), fleet.Tier(tier)
			if !cmd.Flags().Changed("server") {
				spec.ServerGlob = ""
			}
			created, err := client.CreateOnboardingKey(cmd.Context(), spec)
			if err != nil {
				return err
			}
			return a.printOnboarding(client, created)
		},
	}
	flags := create.Flags()
	flags.StringVar(&spec.ServerGlob, "server", "*", "names an agent may take, such as web-1 or edge-*")
	flags.StringVar(&spec.Name, "name", "", "a name for the list of keys")
	flags.StringSliceVar(&spec.Tags, "tags", nil, "tags of the servers that join")
	flags.StringVar(&spec.CopyServer, "copy-server", "", "declared server, or template, whose configuration they start with")
	flags.StringVar(&tier, "tier", "", "highest tier of the servers that join: trusted or untrusted")
	flags.IntVar(&spec.MaxUses, "uses", 1, "how many agents may join with it, at most 100")
	flags.Var(&expires, "expires", "how long it is good for, such as 30m, 24h or 7d, the most (default 1h)")
	flags.StringSliceVar(&spec.CIDRs, "cidr", nil, "networks that agents may come from, such as 10.0.0.0/8")
	flags.BoolVar(&spec.Approval, "approval", false, "let servers wait for approval also when the key is for one")
	flags.StringVar(&spec.Rekey, "rekey", "", "the one existing server whose agent's key is replaced, within 15 minutes")
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		switch name {
		case "tag":
			name = "tags"
		case "ttl":
			name = "expires"
		}
		return pflag.NormalizedName(name)
	})
	return create
}

// lifetime is a duration that may be given in days.
type lifetime time.Duration

// String implements pflag.Value; zero leaves it to core.
func (l *lifetime) String() string {
	if *l == 0 {
		return ""
	}
	return time.Duration(*l).String()
}

// Set implements pflag.Value.
func (l *lifetime) Set(text string) error {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n > 1_000 {
			return fmt.Errorf("%q is no number of days", days)
		}
		*l = lifetime(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	d, err := time.ParseDuration(text)
	if err == nil && d < time.Second {
		err = fmt.Errorf("%s is too short", d)
	}
	*l = lifetime(d)
	return err
}

// Type implements pflag.Value.
func (*lifetime) Type() string { return "duration" }

// checkOnboarding refuses what core would, in the words of the flags.
func checkOnboarding(spec api.OnboardingSpec, expires time.Duration, tier string) error {
	switch {
	case spec.MaxUses < 1 || spec.MaxUses > 100:
		return exit.Usagef("--uses is from 1 to 100")
	case expires < 0 || expires > 7*24*time.Hour:
		return exit.Usagef("--expires is at most 7d")
	case spec.Rekey != "" && expires > 15*time.Minute:
		return exit.Usagef("--expires is at most 15m for a key that replaces another")
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
	fmt.Fprintf(a.stderr, "good until %s, for %s. On the new host:\n\n  curl -fsSL %s/install.sh | VARAN_ONBOARDING_KEY=%s sh -s -- --connect-as %s\n\n"+
		"or, without installing anything there:\n\n  VARAN_ONBOARDING_KEY=%s varan agent --core %s --connect-as %s\n\n",
		created.Key.Expires.Local().Format(time.DateTime), plural(created.Key.MaxUses, "agent"), client.BaseURL, key, name,
		key, client.BaseURL, name)
	switch {
	case loopback(client.BaseURL):
		fmt.Fprintln(a.stderr, "from another machine, put the address there by which it reaches this core")
	case strings.HasPrefix(client.BaseURL, "http://"):
		fmt.Fprintln(a.stderr, "this core is reached without TLS: whoever is in between can change the script; agents themselves are safe")
	}
	if created.Key.Approval {
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
	t := table{head: []string{"ID", "NAME", "ENDS WITH", "SERVERS", "FROM", "TIER", "TAGS", "COPIES", "USED", "EXPIRES", "STATE"}}
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
		if k.Failures > 0 {
			state += s.yellow(fmt.Sprintf(", %d refused", k.Failures))
		}
		servers := k.ServerGlob
		if k.Rekey != "" {
			servers += " (new key)"
		}
		t.add(k.ID, orDash(k.Name), k.Last4, servers, orDash(strings.Join(k.CIDRs, " ")), string(k.Tier), orDash(strings.Join(k.Tags, " ")),
			orDash(k.CopyServer), fmt.Sprintf("%d/%d", k.Uses, k.MaxUses), k.Expires.Local().Format(time.DateTime), state)
	}
	t.write(a.stdout, s)
}
