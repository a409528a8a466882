package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"
	_ "time/tzdata" // maintenance windows name zones, and a container may have no zone files

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/logging"
	"github.com/varanhq/varan/cmd/internal/settingflags"
	"github.com/varanhq/varan/core"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/internal/lowmem"
	"github.com/varanhq/varan/internal/settings"
)

//go:generate go test -count=1 -run TestTheReferenceOfSettingsIsCurrent . -update-docs

// coreFlags are what core and its subcommands are told.
type coreFlags struct{ *settingflags.Flags }

// load reads the settings of a core.
func (f coreFlags) load() (*core.Settings, *settings.Values, error) {
	s := &core.Settings{}
	values, err := f.Load(s)
	return s, values, err
}

func (a *app) coreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "core",
		Short: "Run the core: pulls Git, plans, and serves the API, webhooks and agents",
		Long: `Run the core. It serves the API, the webhooks and the agents' connections on one HTTP
port. The first signal drains; a second one exits at once.

Flags win over the environment, that over the file of --config, and that over defaults.`,
		Example: "  varan core init\n  varan core --listen 0.0.0.0:9120\n  varan core --config core.toml --print-config",
		Args:    cobra.NoArgs,
	}
	f := coreFlags{settingflags.Register(cmd.Flags(), cmd.PersistentFlags(), settingflags.Config{
		Table: &core.Settings{}, Variable: "VARAN_CORE_CONFIG", Path: "/etc/varan/core.toml",
		Defaults: map[string]string{"dir": defaultCoreDir()}, Shared: []string{"dir"},
	})}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.runCore(cmd, f) }
	cmd.AddCommand(a.coreInitCommand(f), a.coreReloadCommand(), a.coreSettingsCommand())
	return cmd
}

func (a *app) runCore(cmd *cobra.Command, f coreFlags) error {
	s, values, err := f.load()
	if err != nil {
		return err
	}
	if printed, err := f.Print(a.stdout, values, a.json); printed {
		return err
	}
	level := &slog.LevelVar{}
	level.Set(s.Log.SlogLevel())
	logger := logging.New(a.stderr, s.Log.Format, level)
	tuneMemory()
	go lowmem.Keep(cmd.Context(), trimEvery)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	return core.Run(cmd.Context(), core.Config{
		Settings: s,
		Origins:  values,
		Reload:   f.load,
		Hangups:  hangups,
		Logger:   logger,
		LogLevel: level,
		Ready: func(addr net.Addr) {
			logger.Info("serving", slog.String("addr", addr.String()), slog.String("dir", s.Dir))
			if s.AddrFile == "" {
				return
			}
			if err := atomicfile.Write(s.AddrFile, []byte(addr.String()+"\n"), 0o644); err != nil {
				logger.Error("write the address file", slog.Any("err", err))
			}
		},
	})
}

// trimEvery is how often an idle core gives back the memory of its last burst.
const trimEvery = time.Minute

// tuneMemory trades a little CPU for a small core: most of its garbage comes in bursts
// when Compose files are loaded. GOGC and GOMEMLIMIT still win.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

func (a *app) coreInitCommand(f coreFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Create the data directory, the keys and the administrator's API key",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, _, err := f.load()
			if err != nil {
				return err
			}
			key, err := core.Init(cmd.Context(), s.Dir)
			if err != nil {
				return err
			}
			return a.printNewKey(s.Dir, key)
		},
	}
}

func (a *app) printNewKey(dir string, key fleet.Secret) error {
	if a.json {
		return a.printJSON(map[string]string{"dir": dir, "api_key": key.Reveal()})
	}
	fmt.Fprintf(a.stderr, "core initialised in %s\nadministrator's API key, shown this one time:\n", dir)
	fmt.Fprintln(a.stdout, key.Reveal())
	fmt.Fprintf(a.stderr, "next: varan core --dir %s   and, in another terminal:   varan login\n", dir)
	return nil
}

// defaultCoreDir is the system's place for root and the user's own otherwise.
func defaultCoreDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/varan"
	}
	if state := os.Getenv("XDG_STATE_HOME"); state != "" {
		return filepath.Join(state, "varan")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "varan-data"
	}
	return filepath.Join(home, ".local", "state", "varan")
}

func envOr(name, fallback string) string { return firstOf(os.Getenv(name), fallback) }
