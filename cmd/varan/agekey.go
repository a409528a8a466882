package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/sops"
)

func (a *app) ageKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "age",
		Short: "The age identities with which core opens encrypted files",
		Long: `The age identities with which core opens encrypted files. There is one set for the files
of trusted servers, and one for those that untrusted servers may get: what is encrypted for
the first alone never reaches an untrusted server. Put the recipients into .sops.yaml.`,
	}
	cmd.AddCommand(a.ageGenerateCommand(), a.ageShowCommand())
	return cmd
}

func (a *app) ageGenerateCommand() *cobra.Command {
	var dir, tier, file string
	var add bool
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Make an identity in core's data directory, or in a file, and print its recipient",
		Example: `  varan key age generate
  varan key age generate --tier untrusted
  varan key age generate --file ~/.config/sops/age/keys.txt`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if tier != string(fleet.TierTrusted) && tier != string(fleet.TierUntrusted) {
				return exit.Usagef("--tier is trusted or untrusted")
			}
			path := firstOf(file, core.AgeKeyFile(dir, fleet.Tier(tier)))
			recipient, err := core.GenerateAge(path, add, time.Now())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]string{"file": path, "recipient": recipient})
			}
			fmt.Fprintln(a.stdout, recipient)
			fmt.Fprintf(a.stderr, "in %s; keep a copy of it in a safe place. A core that runs reads it when it starts\n", path)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", envOr("VARAN_DIR", defaultCoreDir()), "core's data directory ($VARAN_DIR)")
	cmd.Flags().StringVar(&tier, "tier", string(fleet.TierTrusted), "trusted or untrusted")
	cmd.Flags().StringVar(&file, "file", "", "another file, such as your own")
	cmd.Flags().BoolVar(&add, "add", false, "add to the identities that are there, to change keys")
	return cmd
}

// ageRecipient is one line of show.
type ageRecipient struct {
	Tier      string `json:"tier,omitempty"`
	Recipient string `json:"recipient"`
	File      string `json:"file"`
}

func (a *app) ageShowCommand() *cobra.Command {
	var dir, file string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the recipients of the identities, for .sops.yaml",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			found, err := listAge(dir, file)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(found)
			}
			t := table{head: []string{"TIER", "RECIPIENT", "FILE"}}
			for _, r := range found {
				t.add(r.Tier, r.Recipient, r.File)
			}
			t.write(a.stdout, styleFor(a.stdout))
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", envOr("VARAN_DIR", defaultCoreDir()), "core's data directory ($VARAN_DIR)")
	cmd.Flags().StringVar(&file, "file", "", "another file, such as your own")
	return cmd
}

func listAge(dir, file string) ([]ageRecipient, error) {
	files := []ageRecipient{{File: file}}
	if file == "" {
		files = nil
		for _, tier := range []fleet.Tier{fleet.TierTrusted, fleet.TierUntrusted} {
			files = append(files, ageRecipient{Tier: string(tier), File: core.AgeKeyFile(dir, tier)})
		}
	}
	var found []ageRecipient
	for _, from := range files {
		data, err := os.ReadFile(from.File)
		if file == "" && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		ids := &sops.Identities{}
		if err == nil {
			err = ids.AddAge(data)
		}
		if err != nil {
			return nil, &exit.Error{Code: exit.Config, Err: fmt.Errorf("key file %s: %w", from.File, err)}
		}
		for _, r := range ids.Recipients() {
			found = append(found, ageRecipient{from.Tier, r.ID, from.File})
		}
	}
	if len(found) == 0 {
		return nil, &exit.Error{
			Code: exit.Config, Err: errors.New("there is no age identity in " + dir), Hint: "varan key age generate --dir " + dir,
		}
	}
	return found, nil
}
