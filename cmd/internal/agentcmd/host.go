package agentcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/agent/install"
	"github.com/varanhq/varan/agent/policy"
	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/fleet"
)

// installFlags are those of install and uninstall.
type installFlags struct {
	install.Options
	root    string
	keyFile string
	noStart bool
}

// newInstall is the command that makes an agent of this host.
func newInstall(std IO) *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install this program as a service of this host, or bring the one there up to date",
		Long: `Install this program as the agent of this host: the program in /usr/local/bin, a hardened
systemd unit, /etc/varan/agent.toml and a policy file. What is there already and is as it should
be stays untouched, so that running it again is harmless; a configuration is never overwritten.

The onboarding key is read from VARAN_ONBOARDING_KEY or a file, "-" for standard input. It is
never an argument, because arguments show in the list of processes.`,
		Example: `  VARAN_ONBOARDING_KEY=vo1_... varan agent install --core https://varan.example.com
  varan agent install`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, err := f.host()
			if err != nil {
				return err
			}
			if f.Token, err = f.token(cmd.InOrStdin()); err != nil {
				return err
			}
			if f.Program, err = programPath(); err != nil {
				return err
			}
			report, err := host.Install(cmd.Context(), f.Options)
			printReport(std.Stdout, report, "wrote")
			if err != nil {
				return explainInstall(err)
			}
			switch {
			case report.Started:
				fmt.Fprintln(std.Stdout, "started varan-agent.service; its log: journalctl -u varan-agent")
			case host.Systemctl == nil:
				fmt.Fprintf(std.Stdout, "no service manager is used here; run the agent with\n\n  %s\n\n", report.Command)
			case len(report.Changed) == 0:
				fmt.Fprintln(std.Stdout, "everything is as it should be")
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Core, "core", "", "address of core, for a new configuration")
	flags.StringVar(&f.ConnectAs, "connect-as", "", "name of the server to serve, for a new configuration (default the host name)")
	flags.StringVar(&f.CAFile, "ca-file", "", "further certificate authorities for core's address")
	flags.BoolVar(&f.InsecureSkipVerify, "insecure-skip-verify", false, "accept any TLS certificate; core is still authenticated, by its key")
	flags.StringVar(&f.keyFile, "onboarding-key-file", "", `file with the onboarding key, "-" for standard input`)
	flags.BoolVar(&f.noStart, "no-service", false, "make no systemd unit, and start nothing")
	flags.StringVar(&f.root, "root", "", "install below this directory instead of on the running system")
	return cmd
}

// newUninstall is the command that undoes install.
func newUninstall(std IO) *cobra.Command {
	var f installFlags
	var purge bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove the agent that install made; containers run on",
		Long: `Stop the agent and remove its program and its unit, and nothing that install did not make.
Containers run on, and files that they mount stay. Core still knows the server:
"varan server remove NAME" makes it forget it.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, err := f.host()
			if err != nil {
				return err
			}
			report, err := host.Uninstall(cmd.Context(), purge)
			printReport(std.Stdout, report, "removed")
			if err != nil {
				return explainInstall(err)
			}
			fmt.Fprintln(std.Stdout, "containers run on; on core, varan server remove NAME forgets the server")
			return nil
		},
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "remove configuration, policy, keys and state too")
	cmd.Flags().StringVar(&f.root, "root", "", "uninstall below this directory instead of from the running system")
	return cmd
}

// host is the one to work on.
func (f *installFlags) host() (*install.Host, error) {
	if runtime.GOOS != "linux" {
		return nil, &exit.Error{Code: exit.Usage, Err: errors.New("agents are installed on Linux only")}
	}
	host := &install.Host{Root: "/"}
	if f.root != "" {
		root, err := filepath.Abs(f.root)
		if err != nil {
			return nil, fmt.Errorf("find the root: %w", err)
		}
		host.Root = root
	} else if os.Geteuid() != 0 {
		return nil, &exit.Error{Code: exit.Usage, Err: errors.New("only root can do that"), Hint: "put sudo before it"}
	}
	if f.noStart {
		return host, nil
	}
	// What systemd itself goes by.
	if _, err := os.Lstat(filepath.Join(host.Root, "run", "systemd", "system")); err == nil {
		host.Systemctl = systemctl
	}
	return host, nil
}

func systemctl(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput() //nolint:gosec // no shell, and the arguments are the installer's own
	if said := strings.TrimSpace(string(out)); err != nil && said != "" {
		return fmt.Errorf("systemctl %s: %w: %s", args[0], err, said)
	}
	if err != nil {
		return fmt.Errorf("systemctl %s: %w", args[0], err)
	}
	return nil
}

// maxToken is far above the length of an onboarding key.
const maxToken = 4 << 10

// token reads the onboarding key; there need not be one.
func (f *installFlags) token(stdin io.Reader) (fleet.Secret, error) {
	var text []byte
	var err error
	switch f.keyFile {
	case "":
		text = []byte(os.Getenv("VARAN_ONBOARDING_KEY"))
	case "-":
		text, err = io.ReadAll(io.LimitReader(stdin, maxToken))
	default:
		text, err = os.ReadFile(f.keyFile)
	}
	if err != nil {
		return fleet.Secret{}, &exit.Error{Code: exit.Config, Err: fmt.Errorf("read the onboarding key: %w", err)}
	}
	return fleet.NewSecret(strings.TrimSpace(string(text))), nil
}

// programPath is the file of this very program.
func programPath() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	return path, nil
}

func printReport(w io.Writer, report install.Report, verb string) {
	for _, p := range report.Changed {
		fmt.Fprintf(w, "%s %s\n", verb, p)
	}
	for _, p := range report.Kept {
		fmt.Fprintf(w, "kept %s\n", p)
	}
}

func explainInstall(err error) error {
	if fault, ok := errors.AsType[*install.Error](err); ok {
		return &exit.Error{Code: exit.Config, Err: err, Hint: fault.Hint}
	}
	if _, ok := errors.AsType[*policy.Error](err); ok {
		return explainPolicy(err)
	}
	return err
}
