package agentcmd

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/agent/policy"
	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/fleet"
)

// newPolicy holds the commands about what this host lets core do.
func newPolicy(std IO) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "What this host lets core do: check and show its policy file",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return &exit.Error{Code: exit.Usage, Err: errors.New(cmd.CommandPath() + " needs a subcommand"), Hint: cmd.CommandPath() + " --help"}
		},
	}
	check := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Say whether a policy file is one that the agent would start with",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path := append(args, policy.DefaultPath)[0]
			if _, err := policy.Load(path); err != nil {
				return explainPolicy(err)
			}
			fmt.Fprintf(std.Stdout, "ok %s\n", path)
			return nil
		},
	}
	show := &cobra.Command{
		Use:   "show [FILE]",
		Short: "Show what a policy file comes to, without its secrets",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := append(args, policy.DefaultPath)[0]
			p, err := policy.Load(path)
			if errors.Is(err, fs.ErrNotExist) && len(args) == 0 {
				p, path, err = policy.Policy{}, "", nil // what an agent makes of that
			}
			if err != nil {
				return explainPolicy(err)
			}
			view := viewOf(path, p)
			if inherited, err := cmd.Flags().GetBool("json"); err == nil && inherited {
				encoder := json.NewEncoder(std.Stdout)
				encoder.SetIndent("", "  ")
				return encoder.Encode(view)
			}
			view.print(std)
			return nil
		},
	}
	cmd.AddCommand(check, show)
	return cmd
}

// policyView is a policy without secrets.
type policyView struct {
	File              string     `json:"file"`
	Tier              fleet.Tier `json:"tier"`
	HostCommands      bool       `json:"host_commands"`
	Terminals         bool       `json:"terminals"`
	Tunnels           []string   `json:"tunnels"`
	AllowedRegistries []string   `json:"allowed_registries"`
	Signers           []string   `json:"signers"`
	HostDirectories   []string   `json:"host_directories"`
	RepoDirectory     string     `json:"repo_directory"`
	SecretsOnDisk     bool       `json:"secrets_on_disk"`
	Secrets           []string   `json:"secrets"`
	Accounts          []string   `json:"accounts"`
}

func viewOf(path string, p policy.Policy) policyView {
	v := policyView{
		File: path, Tier: p.Tier, HostCommands: p.HostCommands, Tunnels: []string{},
		AllowedRegistries: append([]string{}, p.AllowedRegistries...), HostDirectories: append([]string{}, p.HostDirectories...),
		Signers: append([]string{}, p.Signers.Names()...), RepoDirectory: p.RepoDirectory, SecretsOnDisk: p.SecretsOnDisk,
		Secrets: append([]string{}, slices.Sorted(maps.Keys(p.Secrets))...), Accounts: []string{},
	}
	for _, r := range p.Registries {
		v.Accounts = append(v.Accounts, r.Username+"@"+r.Domain)
	}
	return v
}

func (v policyView) print(std IO) {
	yes := map[bool]string{true: "yes", false: "no"}
	list := func(of []string, none string) string { return cmp.Or(strings.Join(of, ", "), none) }
	for _, row := range [][2]string{
		{"file", cmp.Or(v.File, "none: what needs no policy is allowed")},
		{"tier", cmp.Or(string(v.Tier), "as core says")},
		{"images from", list(v.AllowedRegistries, "anywhere")},
		{"commits signed by", list(v.Signers, "anybody or nobody")},
		{"commands of stacks", yes[v.HostCommands]},
		{"terminals", yes[v.Terminals]},
		{"tunnels", list(v.Tunnels, "none")},
		{"directories of the host", list(v.HostDirectories, "none")},
		{"directory of repos", cmp.Or(v.RepoDirectory, "the agent's own")},
		{"secrets on disk", yes[v.SecretsOnDisk]},
		{"secrets of this host", list(v.Secrets, "none")},
		{"registry accounts", list(v.Accounts, "none")},
	} {
		fmt.Fprintf(std.Stdout, "%-24s %s\n", row[0], row[1])
	}
}
