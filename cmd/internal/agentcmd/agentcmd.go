// Package agentcmd is the agent's command line. Both binaries have it: the whole program
// as a subcommand, the small one as all it can do.
package agentcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/agent/docker"
	"github.com/varanhq/varan/agent/docker/worker"
	"github.com/varanhq/varan/agent/policy"
	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/cmd/internal/logging"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/buildinfo"
	"github.com/varanhq/varan/internal/lowmem"
)

// workerName is the hidden subcommand that the agent runs itself as.
const workerName = "compose-worker"

// IO is where the commands write.
type IO struct {
	Stdout, Stderr io.Writer
}

type flags struct {
	cores              []string
	connectAs          string
	onboardingKey      string
	onboardingKeyFile  string
	corePublicKeys     []string
	dir                string
	caFile             string
	insecureSkipVerify bool
	proxy              string
	dockerHost         string
	policy             string
	secretsFile        string
	stableFor          time.Duration
	parallel           int
	drain              time.Duration
	logFormat          string
	logLevel           string
}

// New is the command that runs an agent until a signal ends it.
func New(std IO) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent on a Docker host",
		Long: `Run the agent on a Docker host. It dials core, opens no port, and keeps the
connection. The first start needs an onboarding key, made by "varan onboarding-key
create" on core; it is used once and carries the fingerprint of the one core that the
agent will believe. Later starts need neither.

A key in the arguments shows in the process list: prefer --onboarding-key-file or
VARAN_ONBOARDING_KEY.`,
		Example: `  VARAN_ONBOARDING_KEY=vo1_... varan agent --core wss://varan.example.com
  varan agent --core ws://10.0.0.5:9120 --connect-as 'web-$(hostname)'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), f, std.Stderr) },
	}
	fs := cmd.Flags()
	fs.StringArrayVar(&f.cores, "core", nil, "address of core; several are tried in turn ($VARAN_CORE_ADDRESS)")
	fs.StringVar(&f.connectAs, "connect-as", "",
		"name of the server to serve; $(hostname) stands for the host name, which is also the default ($VARAN_CONNECT_AS)")
	fs.StringVar(&f.onboardingKey, "onboarding-key", "", "key for the first start ($VARAN_ONBOARDING_KEY)")
	fs.StringVar(&f.onboardingKeyFile, "onboarding-key-file", "", "file that holds it ($VARAN_ONBOARDING_KEY_FILE)")
	fs.StringArrayVar(&f.corePublicKeys, "core-public-key", nil,
		"key that core must show: base64, PEM or file:/path; repeatable ($VARAN_CORE_PUBLIC_KEY)")
	fs.StringVar(&f.dir, "dir", "", "state directory ($VARAN_AGENT_DIR; default "+defaultDir()+")")
	fs.StringVar(&f.caFile, "ca-file", "", "further certificate authorities for wss:// ($VARAN_CA_FILE)")
	fs.BoolVar(&f.insecureSkipVerify, "insecure-skip-verify", false,
		"accept any TLS certificate; core is still authenticated, by its key ($VARAN_INSECURE_SKIP_VERIFY)")
	fs.StringVar(&f.proxy, "proxy", "", "HTTP proxy to reach core through (default from the environment)")
	fs.StringVar(&f.dockerHost, "docker-host", "", "address of the Docker Engine (default $DOCKER_HOST or the local socket)")
	fs.StringVar(&f.policy, "policy", "", "what this host lets core do ($VARAN_AGENT_POLICY; default "+policy.DefaultPath+", if it is there)")
	fs.StringVar(&f.secretsFile, "secrets-file", "",
		"further secrets that never leave this host, as lines NAME = \"value\" ($VARAN_AGENT_SECRETS_FILE)")
	fs.DurationVar(&f.stableFor, "stable-for", time.Second, "how long a new container must run before it counts as running")
	fs.IntVar(&f.parallel, "parallel", 4, "how many stacks are changed at a time")
	fs.DurationVar(&f.drain, "drain", 30*time.Second, "how long to wait at shutdown for work that is under way")
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	return cmd
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

func run(ctx context.Context, f flags, stderr io.Writer) error {
	logger, err := logging.New(stderr, f.logFormat, f.logLevel)
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // the agent shares its host with other people's workloads
	}
	cfg, err := f.config(logger)
	if err != nil {
		return explain(err)
	}
	self, err := selfPath()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	allowed, err := f.loadPolicy()
	if err != nil {
		return explainPolicy(err)
	}
	engine, err := docker.New(docker.Config{
		Policy:    allowed,
		Server:    cfg.Server,
		Dir:       cfg.Dir,
		Worker:    []string{self, workerName},
		Host:      f.dockerHost,
		Version:   cfg.Version,
		Parallel:  f.parallel,
		StableFor: f.stableFor,
		Logger:    logger,
	})
	if err != nil {
		return &exit.Error{Code: exit.Config, Err: err, Hint: "check --dir and --docker-host"}
	}
	cfg.Engine, cfg.LocalSecrets, cfg.HostCommands = engine, engine.LocalSecrets(), allowed.HostCommands
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

// config reads what flags left open from the environment. Komodo's names work too, so
// that its periphery can be replaced in place.
func (f *flags) config(logger *slog.Logger) (agent.Config, error) {
	cfg := agent.Config{
		Cores:              orList(f.cores, "VARAN_CORE_ADDRESS", "PERIPHERY_CORE_ADDRESS", "PERIPHERY_CORE_ADDRESSES"),
		CorePublicKeys:     orList(f.corePublicKeys, "VARAN_CORE_PUBLIC_KEY", "PERIPHERY_CORE_PUBLIC_KEYS"),
		CAFile:             or(f.caFile, "VARAN_CA_FILE"),
		InsecureSkipVerify: f.insecureSkipVerify,
		Proxy:              or(f.proxy, "VARAN_PROXY"),
		Logger:             logger,
		Version:            buildinfo.Version(),
		Drain:              f.drain,
	}
	if text := or("", "VARAN_INSECURE_SKIP_VERIFY", "PERIPHERY_CORE_TLS_INSECURE_SKIP_VERIFY"); text != "" {
		skip, err := strconv.ParseBool(text)
		if err != nil {
			return agent.Config{}, exit.Usagef("VARAN_INSECURE_SKIP_VERIFY is neither true nor false")
		}
		cfg.InsecureSkipVerify = cfg.InsecureSkipVerify || skip
	}
	dir := or(f.dir, "VARAN_AGENT_DIR")
	if dir == "" {
		dir = defaultDir()
	}
	var err error
	if cfg.Dir, err = filepath.Abs(dir); err != nil {
		return agent.Config{}, fmt.Errorf("state directory: %w", err)
	}
	if cfg.OnboardingToken, err = f.token(logger); err != nil {
		return agent.Config{}, err
	}
	cfg.Server, err = agent.ServerName(cfg.Dir, or(f.connectAs, "VARAN_CONNECT_AS", "PERIPHERY_CONNECT_AS"))
	return cfg, err
}

// token reads the onboarding key from wherever it is.
func (f *flags) token(logger *slog.Logger) (fleet.Secret, error) {
	if text := or(f.onboardingKey, "VARAN_ONBOARDING_KEY", "PERIPHERY_ONBOARDING_KEY"); text != "" {
		return fleet.NewSecret(text), nil
	}
	path := or(f.onboardingKeyFile, "VARAN_ONBOARDING_KEY_FILE", "PERIPHERY_ONBOARDING_KEY_FILE")
	if path == "" {
		return fleet.Secret{}, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		// Deleting the file once it was used is good practice.
		logger.Warn("the onboarding key file does not exist", slog.String("path", path))
		return fleet.Secret{}, nil
	}
	if err != nil {
		return fleet.Secret{}, &exit.Error{Code: exit.Config, Err: fmt.Errorf("read the onboarding key: %w", err)}
	}
	return fleet.NewSecret(strings.TrimSpace(string(text))), nil
}

// loadPolicy reads what this host lets core do. Without a file that is nothing special.
func (f *flags) loadPolicy() (policy.Policy, error) {
	path := or(f.policy, "VARAN_AGENT_POLICY")
	p, err := policy.Load(cmp.Or(path, policy.DefaultPath))
	if path == "" && errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return p, fmt.Errorf("policy: %w", err)
	}
	if path := or(f.secretsFile, "VARAN_AGENT_SECRETS_FILE"); path != "" {
		if err := p.LoadSecrets(path); err != nil {
			return p, fmt.Errorf("secrets file: %w", err)
		}
	}
	return p, nil
}

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

// or is value, or the first of the variables that is set.
func or(value string, variables ...string) string {
	for _, name := range variables {
		if value == "" {
			value = os.Getenv(name)
		}
	}
	return value
}

// orList is or for a list, which variables hold separated by commas.
func orList(values []string, variables ...string) []string {
	if len(values) > 0 {
		return values
	}
	var list []string
	for value := range strings.SplitSeq(or("", variables...), ",") {
		if value = strings.TrimSpace(value); value != "" {
			list = append(list, value)
		}
	}
	return list
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
