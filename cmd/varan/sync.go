package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
)

func (a *app) syncCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "sync", Short: "Git sources: add, list, run and remove them"}
	cmd.AddCommand(a.syncAddCommand(), a.syncListCommand(), a.syncShowCommand(), a.syncRunCommand(), a.syncRemoveCommand())
	return cmd
}

type syncFlags struct {
	spec                                                api.SyncSpec
	interval                                            time.Duration
	passwordFile, sshKey, sshPassphrase, knownHosts, ca string
	webhookSecretFile, allowedSigners, pgpKeys          string
}

func (a *app) syncAddCommand() *cobra.Command {
	var f syncFlags
	cmd := &cobra.Command{
		Use:   "add NAME URL",
		Short: "Add a Git source",
		Long: `Add a Git source. Credentials are read from files, never from arguments, and are sealed
in core's store. The answer holds the webhook's paths and its secret, shown this one time.`,
		Example: `  varan sync add fleet https://github.com/me/fleet.git --auto-apply
  varan sync add fleet git@git.example.com:me/fleet.git --ssh-key ~/.ssh/deploy --known-hosts known_hosts`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.spec.Name, f.spec.URL = args[0], args[1]
			return a.addSync(cmd, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.spec.Branch, "branch", "main", "branch to follow")
	flags.StringArrayVar(&f.spec.Paths, "path", nil, "resource file or folder in the repository (repeatable; default all)")
	flags.StringArrayVar(&f.spec.MatchTags, "match-tag", nil, "only resources that carry this tag (repeatable)")
	flags.DurationVar(&f.interval, "interval", time.Minute, "time between polls")
	flags.BoolVar(&f.spec.AutoApply, "auto-apply", false, "apply every commit without asking")
	flags.BoolVar(&f.spec.Delete, "delete", false, "remove stacks that leave Git")
	flags.BoolVar(&f.spec.SelfHeal, "self-heal", false, "repair what drifts from the last applied commit")
	flags.IntVar(&f.spec.MaxRemovals, "max-removals", 3, "removals in one plan that need no consent")
	flags.StringVar(&f.spec.Credentials.Username, "username", "", "user name for HTTP(S)")
	flags.StringVar(&f.passwordFile, "password-file", "", "file with a token or password for HTTP(S)")
	flags.StringVar(&f.sshKey, "ssh-key", "", "file with a private key for SSH")
	flags.StringVar(&f.sshPassphrase, "ssh-passphrase-file", "", "file with the private key's passphrase")
	flags.StringVar(&f.knownHosts, "known-hosts", "", "file that pins the SSH host keys")
	flags.StringVar(&f.ca, "ca-file", "", "PEM file of a private certificate authority")
	flags.StringVar(&f.spec.Credentials.Proxy, "proxy", "", "HTTP proxy for this source")
	flags.StringVar(&f.spec.Signatures.Require, "require-signatures", "",
		"believe only signed commits: head (the one that is applied) or all (since the last believed one)")
	flags.StringVar(&f.allowedSigners, "allowed-signers", "", "file with the SSH keys that may sign, as of ssh-keygen(1)")
	flags.StringVar(&f.pgpKeys, "pgp-keys", "", "file with the OpenPGP keys that may sign, armored")
	flags.StringVar(&f.webhookSecretFile, "webhook-secret-file", "", "file with the webhook's secret (default: made up)")
	return cmd
}

// read fills the credentials from the files that the flags name.
func (f *syncFlags) read() error {
	f.spec.IntervalSeconds = int(f.interval / time.Second)
	c := &f.spec.Credentials
	var text struct{ knownHosts, ca, signers, pgp api.WriteOnly }
	for path, to := range map[string]*api.WriteOnly{
		f.passwordFile:      &c.Password,
		f.sshKey:            &c.SSHKey,
		f.sshPassphrase:     &c.SSHPassphrase,
		f.knownHosts:        &text.knownHosts,
		f.ca:                &text.ca,
		f.allowedSigners:    &text.signers,
		f.pgpKeys:           &text.pgp,
		f.webhookSecretFile: &f.spec.WebhookSecret,
	} {
		if path == "" {
			continue
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return &exit.Error{Code: exit.Config, Err: fmt.Errorf("read a credential: %w", err)}
		}
		*to = api.WriteOnly(raw)
	}
	c.Password = api.WriteOnly(strings.TrimSpace(string(c.Password)))
	c.SSHPassphrase = api.WriteOnly(strings.TrimRight(string(c.SSHPassphrase), "\r\n"))
	f.spec.WebhookSecret = api.WriteOnly(strings.TrimSpace(string(f.spec.WebhookSecret)))
	c.KnownHosts, c.CA = string(text.knownHosts), string(text.ca)
	f.spec.Signatures.AllowedSigners, f.spec.Signatures.PGPKeys = string(text.signers), string(text.pgp)
	return nil
}

func (a *app) addSync(cmd *cobra.Command, f syncFlags) error {
	if err := f.read(); err != nil {
		return err
	}
	client, err := a.client()
	if err != nil {
		return err
	}
	created, err := client.AddSync(cmd.Context(), f.spec)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(created)
	}
	fmt.Fprintf(a.stdout, "added sync %s: %s, branch %s\n", created.Sync.Name, created.Sync.URL, created.Sync.Branch)
	for _, kind := range slices.Sorted(maps.Keys(created.WebhookPaths)) {
		fmt.Fprintf(a.stdout, "webhook for %s: %s%s\n", kind, client.BaseURL, created.WebhookPaths[kind])
	}
	fmt.Fprintf(a.stdout, "webhook secret, shown this one time: %s\n", string(created.WebhookSecret))
	if !created.Sync.AutoApply {
		fmt.Fprintf(a.stderr, "next: varan plan %s, then varan apply %s\n", created.Sync.Name, created.Sync.Name)
	}
	return nil
}

func (a *app) syncListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the Git sources",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			return listed(a, client.Syncs, cmd, func(s style, v []api.Sync) { a.printSyncs(s, v, time.Now()) })
		},
	}
}

func (a *app) syncShowCommand() *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "A Git source, its settings, and what of it is pending",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			sync, err := client.Sync(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			pending, planned, err := pendingOf(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(struct {
					Sync    api.Sync       `json:"sync"`
					Pending api.PlanResult `json:"pending"`
				}{sync, pending})
			}
			s := styleFor(a.stdout)
			a.printSyncLine(s, sync, time.Now())
			a.printSyncSettings(sync)
			if !planned {
				return nil
			}
			fmt.Fprintln(a.stdout)
			if err := pending.Plan.Render(a.stdout, a.renderOptions(verbose)); err != nil {
				return fmt.Errorf("write the plan: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "also list what does not change")
	return cmd
}

// pendingOf is the pending plan of a sync; planned is false when none has been made yet.
func pendingOf(ctx context.Context, client *api.Client, name string) (pending api.PlanResult, planned bool, err error) {
	pending, err = client.Pending(ctx, name)
	if refusal, ok := errors.AsType[*api.Error](err); ok && refusal.Code == api.CodeUnavailable {
		return pending, false, nil
	}
	return pending, err == nil, err
}

func (a *app) printSyncSettings(y api.Sync) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(a.stdout, "  %-13s %s\n", name, printable(value))
		}
	}
	line("repository", y.URL)
	line("declared by", y.DeclaredBy)
	line("paths", strings.Join(y.Paths, ", "))
	line("match tags", strings.Join(y.MatchTags, ", "))
	line("every", (time.Duration(y.IntervalSeconds) * time.Second).String())
	line("signatures", y.Signatures.Require)
	line("settings", fmt.Sprintf("auto-apply %t, delete %t, self-heal %t, max-removals %d", y.AutoApply, y.Delete, y.SelfHeal, y.MaxRemovals))
}

func (a *app) syncRunCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run NAME",
		Short: "Look at a Git source now, as a webhook would make it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			run, err := client.RunSync(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(run)
			}
			if run.Coalesced {
				fmt.Fprintf(a.stdout, "sync %s was already about to run; this request is part of it\n", run.Sync)
			} else {
				fmt.Fprintf(a.stdout, "sync %s runs\n", run.Sync)
			}
			return nil
		},
	}
}

func (a *app) syncRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Forget a Git source; what it deployed stays",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			if err := client.RemoveSync(cmd.Context(), args[0]); err != nil {
				return listHint(cmd, err)
			}
			return a.done("removed sync %s; its stacks keep running", args[0])
		},
	}
}

// done prints one line, or an empty object for programs.
func (a *app) done(format string, args ...any) error {
	if a.json {
		return a.printJSON(struct{}{})
	}
	fmt.Fprintf(a.stdout, format+"\n", args...)
	return nil
}

// soleSync picks the sync a command means when none is named.
func soleSync(cmd *cobra.Command, client *api.Client, args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	syncs, err := client.Syncs(cmd.Context())
	if err != nil {
		return "", err
	}
	switch len(syncs) {
	case 0:
		return "", &exit.Error{
			Code: exit.Config, Err: errors.New("core has no sync yet"), Hint: "varan sync add NAME URL",
		}
	case 1:
		return syncs[0].Name, nil
	}
	names := make([]string, len(syncs))
	for i := range syncs {
		names[i] = syncs[i].Name
	}
	return "", exit.Usagef("which sync? there are %s", strings.Join(names, ", "))
}
