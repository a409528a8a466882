package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/sync/sops"
)

// fileKeys are the flags of commands that work on encrypted files.
type fileKeys struct {
	age, pgp []string
	macOnly  bool
}

func (k *fileKeys) register(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&k.age, "age-key-file", nil,
		"file of age identities, or an SSH key (repeatable; also $SOPS_AGE_KEY_FILE, $SOPS_AGE_KEY, ~/.config/sops/age/keys.txt)")
	cmd.Flags().StringArrayVar(&k.pgp, "pgp-key-file", nil,
		"armoured PGP key: private to decrypt, public to encrypt (repeatable)")
	cmd.Flags().BoolVar(&k.macOnly, "allow-mac-only-encrypted", false,
		"open files whose plain values can be changed unseen")
}

func (k *fileKeys) identities() (*sops.Identities, error) { return userIdentities(k.age, k.pgp) }

func (k *fileKeys) options() sops.Options { return sops.Options{MACOnlyEncrypted: k.macOnly} }

func (k *fileKeys) publicKeys() (*sops.PublicKeys, error) {
	known := &sops.PublicKeys{}
	for _, name := range k.pgp {
		data, err := os.ReadFile(name)
		if err == nil {
			err = known.Add(data)
		}
		if err != nil {
			return nil, &exit.Error{Code: exit.Config, Err: fmt.Errorf("key file %s: %w", name, err)}
		}
	}
	return known, nil
}

func (a *app) secretFileCommands() []*cobra.Command {
	return []*cobra.Command{a.secretEditCommand(), a.secretEncryptCommand(), a.secretDecryptCommand(), a.secretRekeyCommand()}
}

// diagnosed is a diagnostic as the error of a command.
func diagnosed(d *fleet.Diagnostic) error {
	return &exit.Error{Code: exit.Config, Err: fmt.Errorf("%s: %s [%s]", d.Position, d.Message, d.Rule), Hint: d.Hint}
}

// openSecret reads and decrypts a file.
func (k *fileKeys) openSecret(name string) (*sops.Opened, error) {
	file, err := readSecret(name)
	if err != nil {
		return nil, err
	}
	ids, err := k.identities()
	if err != nil {
		return nil, err
	}
	opened, bad := file.Open(ids, k.options())
	if bad != nil {
		if bad.Rule == "sops-key" {
			bad.Hint = "name your private key: --age-key-file FILE, or SOPS_AGE_KEY_FILE"
		}
		return nil, diagnosed(bad)
	}
	return opened, nil
}

func readSecret(name string) (*sops.File, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, &exit.Error{Code: exit.Config, Err: fmt.Errorf("read the file: %w", err)}
	}
	file, bad := sops.Read(name, data)
	if bad != nil {
		return nil, diagnosed(bad)
	}
	if file == nil {
		return nil, &exit.Error{Code: exit.Config, Err: fmt.Errorf("%s is not encrypted", name), Hint: "varan secret encrypt " + name}
	}
	return file, nil
}

// writeSecret replaces a file and keeps its mode.
func writeSecret(name string, data []byte) error {
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(name); err == nil {
		mode = info.Mode().Perm()
	}
	return atomicfile.Write(name, data, mode)
}

// creationRule is what the nearest .sops.yaml above a file says of it.
func creationRule(name string) ([]sops.Recipient, sops.Rule, error) {
	path, err := filepath.Abs(name)
	if err != nil {
		return nil, sops.Rule{}, fmt.Errorf("find %s: %w", name, err)
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		config := filepath.Join(dir, sops.ConfigName)
		data, err := os.ReadFile(config)
		if errors.Is(err, fs.ErrNotExist) {
			if dir == filepath.Dir(dir) {
				return nil, sops.Rule{}, fmt.Errorf("there is no %s here or above", sops.ConfigName)
			}
			continue
		}
		if err != nil {
			return nil, sops.Rule{}, fmt.Errorf("read the rules: %w", err)
		}
		rules, err := sops.ParseConfig(data)
		if err != nil {
			return nil, sops.Rule{}, fmt.Errorf("%s: %w", config, err)
		}
		below, err := filepath.Rel(dir, path)
		if err != nil {
			return nil, sops.Rule{}, fmt.Errorf("find %s: %w", name, err)
		}
		to, rule, err := rules.For(filepath.ToSlash(below))
		if err != nil {
			return nil, sops.Rule{}, fmt.Errorf("%s: %w", config, err)
		}
		return to, rule, nil
	}
}

const ruleHint = "creation_rules of .sops.yaml say for whom files are encrypted; core's recipients: varan key age show"

func (a *app) secretDecryptCommand() *cobra.Command {
	var keys fileKeys
	cmd := &cobra.Command{
		Use:   "decrypt FILE",
		Short: "Print an encrypted file in plain text",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			opened, err := keys.openSecret(args[0])
			if err != nil {
				return err
			}
			if _, err := a.stdout.Write(opened.Data); err != nil {
				return fmt.Errorf("write the plain text: %w", err)
			}
			return nil
		},
	}
	keys.register(cmd)
	return cmd
}

func (a *app) secretEncryptCommand() *cobra.Command {
	var keys fileKeys
	var age, pgp []string
	cmd := &cobra.Command{
		Use:     "encrypt FILE",
		Short:   "Encrypt a file in place, for the recipients that .sops.yaml names",
		Example: "  varan secret encrypt web/secrets.env\n  varan secret encrypt --age age1... web/token.txt",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			name := args[0]
			data, err := os.ReadFile(name)
			if err != nil {
				return &exit.Error{Code: exit.Config, Err: fmt.Errorf("read the file: %w", err)}
			}
			to, rule := recipients(age, pgp), sops.Rule{}
			if len(to) == 0 {
				if to, rule, err = creationRule(name); err != nil {
					return &exit.Error{Code: exit.Config, Err: err, Hint: ruleHint}
				}
			}
			if err := keys.encryptTo(name, data, to, rule); err != nil {
				return err
			}
			return a.done("encrypted %s for %s", name, listRecipients(to))
		},
	}
	keys.register(cmd)
	cmd.Flags().StringSliceVar(&age, "age", nil, "age recipient instead of those of .sops.yaml (repeatable)")
	cmd.Flags().StringSliceVar(&pgp, "pgp", nil, "PGP fingerprint instead of those of .sops.yaml (repeatable)")
	return cmd
}

func recipients(age, pgp []string) []sops.Recipient {
	var to []sops.Recipient
	for _, id := range age {
		to = append(to, sops.Recipient{Kind: sops.KindAge, ID: id})
	}
	for _, id := range pgp {
		to = append(to, sops.Recipient{Kind: sops.KindPGP, ID: id})
	}
	return to
}

func listRecipients(to []sops.Recipient) string {
	words := make([]string, len(to))
	for i, r := range to {
		words[i] = r.String()
	}
	return strings.Join(words, ", ")
}

func (k *fileKeys) encryptTo(name string, data []byte, to []sops.Recipient, rule sops.Rule) error {
	known, err := k.publicKeys()
	if err != nil {
		return err
	}
	sealed, err := sops.Encrypt(name, sops.FormatOf(name), data, to, rule, known, time.Now())
	if err != nil {
		return &exit.Error{Code: exit.Config, Err: err}
	}
	return writeSecret(name, sealed)
}
