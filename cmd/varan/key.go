package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/internal/keyfile"
	"github.com/varanhq/varan/wire/noise"
)

func (a *app) keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "key",
		Aliases: []string{"keys"},
		Short:   "Keys by which core and agents know each other, and core's age identities",
	}
	cmd.AddCommand(a.keyShowCommand(), a.keyRotateCommand(), a.keyVerifyCommand(), a.keyGenerateCommand(), a.ageKeyCommand())
	return cmd
}

func (a *app) keyShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show [SERVER]",
		Short: "Show the public keys of core, or of a server's agent",
		Long: `Show core's public key and its fingerprint, or the keys of a server's agent. An onboarding
key carries core's fingerprint, and the agent remembers the key. While core changes its key
there are two. Where none may be learned from an onboarding key, tell agents with
--core-public-key.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			keys, err := client.FleetKeys(cmd.Context())
			switch {
			case err != nil:
				return err
			case len(args) == 1:
				return a.showAgentKeys(keys, args[0])
			case a.json:
				return a.printJSON(map[string]any{
					"core": client.BaseURL, "public_key": keys.Core[0].PublicKey, "fingerprint": keys.Core[0].Fingerprint, "keys": keys.Core,
				})
			}
			fmt.Fprintf(a.stdout, "public key   %s\nfingerprint  %s\n", keys.Core[0].PublicKey, keys.Core[0].Fingerprint)
			for _, key := range keys.Core[1:] {
				fmt.Fprintf(a.stdout, "\n%s\npublic key   %s\nfingerprint  %s\n", key.State, key.PublicKey, key.Fingerprint)
			}
			for _, key := range keys.Core {
				if len(key.Without) > 0 {
					fmt.Fprintf(a.stdout, "\nwithout the newest one: %s\n", strings.Join(key.Without, ", "))
				}
			}
			return nil
		},
	}
}

func (a *app) showAgentKeys(keys api.FleetKeys, server string) error {
	found := []api.AgentKey{}
	for _, key := range keys.Servers {
		if key.Server == server {
			found = append(found, key)
		}
	}
	switch {
	case len(found) == 0:
		return noSuchServer(server)
	case a.json:
		return a.printJSON(found)
	}
	s := styleFor(a.stdout)
	t := table{head: []string{"STATE", "PUBLIC KEY", "FINGERPRINT", "SINCE"}}
	for _, key := range found {
		t.add(key.State, key.PublicKey, key.Fingerprint, key.Since.Local().Format(time.DateTime))
	}
	t.write(a.stdout, s)
	return nil
}

func noSuchServer(name string) error {
	return &exit.Error{Code: exit.Failed, Err: fmt.Errorf("no server %q has joined", name), Hint: "varan server list"}
}

func (a *app) keyRotateCommand() *cobra.Command {
	var req api.KeyRotation
	cmd := &cobra.Command{
		Use:   "rotate SERVER | rotate --all | rotate --core",
		Short: "Change the key of a server's agent, of all agents, or of core",
		Long: `Change the key of a server's agent, of all agents, or of core. Nobody is locked out: an agent
makes its next key itself, and both are accepted until it has come back with the new one.
Servers whose agents are not connected are left out and listed.

Core's own key is changed once all connected agents have pinned the next one; agents that
are away are answered with the old one until they have it.

--emergency is for a key that somebody else may have: the old one is refused at the moment
the agent has the new one.`,
		Example: "  varan key rotate web-1\n  varan key rotate --all\n  varan key rotate --core\n  varan key rotate --emergency web-1",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				req.Server = args[0]
			}
			if err := checkRotation(req); err != nil {
				return err
			}
			return a.rotateKeys(cmd, req)
		},
	}
	cmd.Flags().BoolVar(&req.All, "all", false, "all servers that do not say auto_rotate_keys = false")
	cmd.Flags().BoolVar(&req.Core, "core", false, "core's own key")
	cmd.Flags().BoolVar(&req.Force, "force", false, "with --core: also when agents do not take the new key")
	cmd.Flags().BoolVar(&req.Emergency, "emergency", false, "with SERVER: refuse the old key at once")
	return cmd
}

func checkRotation(req api.KeyRotation) error {
	chosen := 0
	for _, given := range []bool{req.Server != "", req.All, req.Core} {
		if given {
			chosen++
		}
	}
	switch {
	case chosen != 1:
		return exit.Usagef("whose key? give one of SERVER, --all and --core")
	case req.Force && !req.Core:
		return exit.Usagef("--force goes with --core")
	case req.Emergency && req.Server == "":
		return exit.Usagef("--emergency goes with SERVER")
	}
	return nil
}

func (a *app) rotateKeys(cmd *cobra.Command, req api.KeyRotation) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	s := styleFor(a.stderr)
	report, err := client.RotateKeys(cmd.Context(), req, func(r api.KeyResult) {
		if !a.json {
			fmt.Fprintf(a.stderr, "%s %s  %s\n", keyMark(s, r.Status), printable(r.Server), s.dim(printable(r.Text)))
		}
	})
	if report.Results != nil {
		if printErr := a.printRotation(req, &report, err); printErr != nil {
			return printErr
		}
	}
	if n := report.Count(api.KeyFailed); err == nil && n > 0 && !req.Core {
		err = &exit.Error{
			Code: exit.Failed, Err: fmt.Errorf("%s not changed; the old ones stay good", plural(n, "key")), Hint: "varan history --kind key",
		}
	}
	if err == nil && req.Server != "" && report.Count(api.KeySkipped) > 0 {
		err = &exit.Error{
			Code: exit.Unreachable, Err: fmt.Errorf("the agent of server %s is not connected: its key was not changed", req.Server),
			Hint: "varan server list",
		}
	}
	return err
}

func (a *app) printRotation(req api.KeyRotation, report *api.KeyReport, err error) error {
	if a.json {
		return a.printJSON(report)
	}
	s := styleFor(a.stdout)
	t := table{head: []string{"SERVER", "RESULT", "WHY"}}
	for i := range report.Results {
		r := &report.Results[i]
		t.add(r.Server, keyMark(s, r.Status)+" "+string(r.Status), printable(r.Text))
	}
	if len(report.Results) > 0 {
		t.write(a.stdout, s)
	}
	fmt.Fprintf(a.stdout, "%d rotated, %d skipped, %d failed\n",
		report.Count(api.KeyRotated), report.Count(api.KeySkipped), report.Count(api.KeyFailed))
	if req.Core && err == nil {
		fmt.Fprintf(a.stdout, "core's new key\npublic key   %s\nfingerprint  %s\n", report.PublicKey, report.Fingerprint)
	}
	return nil
}

func keyMark(s style, status api.KeyStatus) string {
	switch status {
	case api.KeyRotated:
		return s.green("✓")
	case api.KeyFailed:
		return s.red("✗")
	case api.KeySkipped:
	}
	return s.yellow("–")
}

func (a *app) keyGenerateCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Make a key pair as core and agents use it",
		Long: `Make an X25519 key pair as core and agents use it. The private key is PKCS#8 in PEM, which
openssl reads. With --out it is written to a file that only you can read, and the public key
is printed; without it the private key itself is printed.`,
		Example: "  varan key generate --out agent.key\n  openssl pkey -in agent.key -pubout",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if out != "" {
				return a.generateKeyFile(out)
			}
			key, err := noise.GenerateKey()
			if err != nil {
				return err
			}
			text, err := key.PEM()
			if err != nil {
				return err
			}
			public := key.Public()
			if a.json {
				return a.printJSON(map[string]string{
					"private_key": string(text), "public_key": public.String(), "fingerprint": public.Fingerprint().String(),
				})
			}
			fmt.Fprint(a.stdout, string(text))
			fmt.Fprintf(a.stderr, "public key   %s\nfingerprint  %s\n", public, public.Fingerprint())
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file for the private key; it must not exist")
	return cmd
}

func (a *app) generateKeyFile(path string) error {
	key, created, err := keyfile.LoadOrCreate(path)
	if err == nil && !created {
		err = fmt.Errorf("%s exists: it is left as it is", path)
	}
	if err != nil {
		return &exit.Error{Code: exit.Failed, Err: err, Hint: "name a new file in a directory that nobody else may write to"}
	}
	return a.printPublic(map[string]string{"file": path}, key.Public())
}

// printPublic prints a public key and what is said about it.
func (a *app) printPublic(about map[string]string, key noise.PublicKey) error {
	if a.json {
		about["public_key"], about["fingerprint"] = key.String(), key.Fingerprint().String()
		return a.printJSON(about)
	}
	fmt.Fprintf(a.stdout, "public key   %s\nfingerprint  %s\n", key, key.Fingerprint())
	return nil
}

func (a *app) keyVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE|SERVER",
		Short: "Say what core accepts a key file for, or whether a server's agent shows the key that core expects",
		Long: `Say what core knows a key as. FILE is a private or a public key, in PEM or as base64; only its
public half is compared, here, and nothing of it is sent. For SERVER the key that its
connected agent has shown is compared with the one that core expects. It is an error when
core knows the key as nothing that is in use.`,
		Example: "  varan key verify /var/lib/varan-agent/keys/agent.key\n  varan key verify web-1",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, isFile, err := readAnyKey(args[0])
			if err != nil {
				return &exit.Error{Code: exit.Config, Err: err, Hint: "a key is PKCS#8 or SPKI in PEM, or one line of base64"}
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			keys, err := client.FleetKeys(cmd.Context())
			if err != nil {
				return err
			}
			if isFile {
				return a.verifyFile(args[0], file, keys)
			}
			return a.verifyServer(args[0], keys)
		},
	}
}

// readAnyKey reads the public half of a key in a file; there need not be a file of that name.
func readAnyKey(path string) (key noise.PublicKey, isFile bool, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(path, `/\.`) {
		return key, false, nil
	}
	if err != nil {
		return key, true, err
	}
	if private, err := noise.ParsePrivateKey(text); err == nil {
		return private.Public(), true, nil
	}
	key, err = noise.ParsePublicKey(string(text))
	return key, true, err
}

func (a *app) verifyFile(path string, key noise.PublicKey, keys api.FleetKeys) error {
	use := ""
	for _, known := range keys.Core {
		if known.PublicKey == key.String() {
			use = "core's " + known.State + " key"
		}
	}
	useless := false
	for _, known := range keys.Servers {
		if known.PublicKey == key.String() {
			use = known.State + " key of server " + known.Server
			useless = known.State == "retired"
		}
	}
	about := map[string]string{"file": path, "known_as": use}
	if err := a.printPublic(about, key); err != nil {
		return err
	}
	switch {
	case use == "":
		return &exit.Error{Code: exit.Failed, Err: errors.New("core does not know this key"), Hint: "varan key show"}
	case useless:
		return &exit.Error{Code: exit.Failed, Err: fmt.Errorf("it is a %s: it opens no session any more", use)}
	case !a.json:
		fmt.Fprintf(a.stdout, "known as     %s\n", use)
	}
	return nil
}

func (a *app) verifyServer(server string, keys api.FleetKeys) error {
	for _, known := range keys.Servers {
		if known.Server != server || known.State != "current" {
			continue
		}
		if a.json {
			if err := a.printJSON(known); err != nil {
				return err
			}
		} else {
			fmt.Fprintf(a.stdout, "public key   %s\nfingerprint  %s\n", known.PublicKey, known.Fingerprint)
		}
		if !known.Shown {
			return &exit.Error{
				Code: exit.Failed, Err: fmt.Errorf("no agent of server %s is connected with this key", server),
				Hint: "on its host: varan key verify /var/lib/varan-agent/keys/agent.key",
			}
		}
		if !a.json {
			fmt.Fprintln(a.stdout, "its agent is connected with this key")
		}
		return nil
	}
	return noSuchServer(server)
}
