package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/internal/buildinfo"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which build this is",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.printJSON(map[string]string{
					"version": buildinfo.Version(), "commit": buildinfo.Commit(),
					"go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
				})
			}
			fmt.Fprintf(a.stdout, "varan %s\n", buildinfo.String())
			return nil
		},
	}
}

func (a *app) keyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Core's own key, by which agents know it, and its age identities"}
	cmd.AddCommand(a.ageKeyCommand())
	cmd.AddCommand(&cobra.Command{
		Use:   "show",
		Short: "Show core's public key and its fingerprint",
		Long: `Show core's public key and its fingerprint. An onboarding key carries the
fingerprint, and the agent remembers the key. Where core got a new key, or none may be
learned from the first connection, tell agents with --core-public-key.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			core, err := client.Version(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]string{
					"core": client.BaseURL, "public_key": core.PublicKey, "fingerprint": core.Fingerprint,
				})
			}
			fmt.Fprintf(a.stdout, "public key   %s\nfingerprint  %s\n", core.PublicKey, core.Fingerprint)
			return nil
		},
	})
	return cmd
}
