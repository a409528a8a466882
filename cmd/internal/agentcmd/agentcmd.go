// Package agentcmd is the agent's command line. Both binaries have it: the whole program
// as a subcommand, the small one as all it can do.
package agentcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/agent/docker"
	"github.com/varanhq/varan/agent/docker/worker"
	"github.com/varanhq/varan/agent/policy"
	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/cmd/internal/logging"
	"github.com/varanhq/varan/cmd/internal/settingflags"
	"github.com/varanhq/varan/internal/buildinfo"
	"github.com/varanhq/varan/internal/lowmem"
	"github.com/varanhq/varan/internal/settings"
)

// workerName is the hidden subcommand that the agent runs itself as.
const workerName = "compose-worker"

// IO is where the commands write.
type IO struct {
	Stdout, Stderr io.Writer
}

// New is the command that runs an agent until a signal ends it.
func New(std IO) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent on a Docker host",
		Long: `Run the agent on a Docker host. It dials core, opens no port, and keeps the
connection; with --listen core dials it. The first start needs an onboarding key, made by "varan onboarding-key
create" on core; it is used once and carries the fingerprint of the one core that the
agent will believe. Later starts need neither.

Flags win over the environment, that over the file of --config, and that over defaults.
A key in the arguments shows in the process list: prefer --onboarding-key-file or
VARAN_ONBOARDING_KEY.`,
		Example: `  VARAN_ONBOARDING_KEY=vo1_... varan agent --core wss://varan.example.com
  varan agent --core ws://10.0.0.5:9120 --connect-as 'web-$(hostname)'
  varan agent --listen '[::]:8120' --allowed-ip 10.0.0.0/8 --core-public-key MCowBQ...
  varan agent --config agent.toml --print-config`,
		Args: noArgs,
	}
	f := settingflags.Register(cmd.Flags(), cmd.Flags(), settingflags.Config{
		Table: &Settings{}, Variable: "VARAN_AGENT_CONFIG", Path: "/etc/varan/agent.toml",
		Defaults: map[string]string{"dir": defaultDir()}, Ignored: ignoredKeys(),
	})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return load(cmd, f, std) }
	cmd.AddCommand(newInstall(std), newUninstall(std), newPolicy(std))
	return cmd
}

// Run is the program varan-agent with its surroundings as parameters; it returns the exit
// code.
func Run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return exit.Run("varan-agent", stderr, func() error {
		ctx, stop := exit.Signals(context.Background())
		defer stop()
		root := NewRoot(IO{Stdout: stdout, Stderr: stderr})
		root.Version = buildinfo.String()
		root.SetIn(stdin)
		root.SetArgs(args)
		return root.ExecuteContext(ctx)
	})
}

// NewRoot is New as a program of its own.
func NewRoot(std IO) *cobra.Command {
	root := New(std)
	root.Use = "varan-agent"
	root.Example = strings.ReplaceAll(root.Example, "varan agent", root.Use)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetOut(std.Stdout)
	root.SetErr(std.Stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &exit.Error{Code: exit.Usage, Err: err, Hint: cmd.CommandPath() + " --help"}
	})
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(NewWorker())
	return root
}

// NewWorker is the hidden command that the agent starts for each change. It speaks JSON
// on its standard streams and is of no use to people.
func NewWorker() *cobra.Command {
	return &cobra.Command{
		Use:    workerName,
		Hidden: true,
		Args:   noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if code := worker.Main(cmd.Context(), os.Stdin, os.Stdout); code != exit.OK {
				return &exit.Error{Code: code}
			}
			return nil
		},
	}
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return &exit.Error{
		Code: exit.Usage,
		Err:  fmt.Errorf("unexpected argument %q", args[0]),
		Hint: cmd.CommandPath() + " --help",
	}
}

// load reads the settings, and runs an agent by them.
func load(cmd *cobra.Command, f *settingflags.Flags, std IO) error {
	s := &Settings{}
	values, err := f.Load(s)
	if err != nil {
		return err
	}
	asJSON, _ := cmd.Flags().GetBool("json") // the small binary has no such flag
	if printed, err := f.Print(std.Stdout, values, asJSON); printed {
		return err
	}
	logger := logging.New(std.Stderr, s.Log.Format, logging.Level(s.Log.Level))
	warnIgnored(cmd.Context(), logger, values.Ignored())
	return run(cmd.Context(), s, values.Origin("onboarding_key"), logger)
}

func run(ctx context.Context, s *Settings, key settings.Origin, logger *slog.Logger) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // the agent shares its host with other people's workloads
	}
	cfg, err := s.config(logger)
	if err != nil {
		return explain(err)
	}
	if key.Missing && !agent.Registered(cfg.Dir) {
		logger.WarnContext(ctx, "the onboarding key file does not exist", slog.String("named_by", key.String()), slog.String("file", key.File))
	}
	cfg.ForgetToken = forgetToken(key)
	self, err := selfPath()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	allowed, err := s.loadPolicy()
	if err != nil {
		return explainPolicy(err)
	}
	engine, err := docker.New(docker.Config{
		Policy:    allowed,
		Server:    cfg.Server,
		Dir:       cfg.Dir,
		Worker:    []string{self, workerName},
		Host:      s.DockerHost,
		Version:   cfg.Version,
		Parallel:  s.Parallel,
		StableFor: s.StableFor,
		Logger:    logger,
	})
	if err != nil {
		return &exit.Error{Code: exit.Config, Err: err, Hint: "check --dir and --docker-host"}
	}
	cfg.Engine, cfg.LocalSecrets, cfg.HostCommands = engine, engine.LocalSecrets(), allowed.HostCommands
	cfg.Tier, cfg.AllowedRegistries = allowed.Tier, allowed.AllowedRegistries
	if !allowed.Signers.Empty() {
		cfg.Verify = allowed.Signers.Verify
	}
	a, err := agent.New(cfg)
	if err != nil {
		return explain(err)
	}
	logger.InfoContext(ctx, "agent started", slog.String("server", cfg.Server), slog.String("dir", cfg.Dir), slog.String("version", cfg.Version))
	go lowmem.Keep(ctx, trimEvery)
	return explain(a.Run(ctx))
}

// trimEvery is how often an idle agent gives back the memory of its last burst.
const trimEvery = time.Minute

func explainPolicy(err error) error {
	out := &exit.Error{Code: exit.Config, Err: err, Hint: "the agent does not start with a policy that it cannot read"}
	if fault, ok := errors.AsType[*policy.Error](err); ok && fault.Hint != "" {
		out.Hint = fault.Hint
	}
	return out
}

// explain gives the agent's errors their exit codes.
func explain(err error) error {
	if fault, ok := errors.AsType[*agent.ConfigError](err); ok {
		return &exit.Error{Code: exit.Config, Err: err, Hint: fault.Hint}
	}
	return err
}

// defaultDir is the system's place for root and the user's own otherwise.
func defaultDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/varan-agent"
	}
	if state := os.Getenv("XDG_STATE_HOME"); state != "" {
		return filepath.Join(state, "varan-agent")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "varan-agent-data"
	}
	return filepath.Join(home, ".local", "state", "varan-agent")
}

// selfPath names this very program, also after its file was replaced by an update: agent
// and worker must be of one version.
func selfPath() (string, error) {
	const link = "/proc/self/exe"
	if runtime.GOOS == "linux" {
		if _, err := os.Stat(link); err == nil {
			return link, nil
		}
	}
	return os.Executable()
}
