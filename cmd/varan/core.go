package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"
	_ "time/tzdata" // maintenance windows name zones, and a container may have no zone files

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/cmd/internal/logging"
	"github.com/varanhq/varan/core"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/internal/lowmem"
)

type coreFlags struct {
	dir        string
	listen     string
	localRoots []string
	addrFile   string
	logFormat  string
	logLevel   string
	keyFiles   tierFiles
	hookSecret string
}

func (a *app) coreCommand() *cobra.Command {
	var f coreFlags
	cmd := &cobra.Command{
		Use:   "core",
		Short: "Run the core: pulls Git, plans, and serves the API, webhooks and agents",
		Long: `Run the core. It serves the API, the webhooks and the agents' connections on one HTTP
port. The first signal drains; a second one exits at once.`,
		Example: "  varan core init\n  varan core --listen 0.0.0.0:9120",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.runCore(cmd, f) },
	}
	cmd.PersistentFlags().StringVar(&f.dir, "dir", envOr("VARAN_DIR", defaultCoreDir()), "data directory ($VARAN_DIR)")
	cmd.Flags().StringVar(&f.listen, "listen", envOr("VARAN_LISTEN", "127.0.0.1:9120"), "address to serve on ($VARAN_LISTEN)")
	cmd.Flags().StringArrayVar(&f.localRoots, "local-root", nil,
		"directory below which repositories on this disk may be used as sources (repeatable)")
	cmd.Flags().StringVar(&f.addrFile, "addr-file", "", "write the address that is served to this file once it is")
	cmd.Flags().StringVar(&f.logFormat, "log-format", "text", "text or json")
	cmd.Flags().StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	f.keyFiles.register(cmd.Flags())
	cmd.Flags().StringVar(&f.hookSecret, "webhook-secret-file", os.Getenv("VARAN_WEBHOOK_SECRET_FILE"),
		"file with the secret for webhooks of declared resources that have none ($VARAN_WEBHOOK_SECRET_FILE)")
	cmd.AddCommand(a.coreInitCommand(&f))
	return cmd
}

func (a *app) runCore(cmd *cobra.Command, f coreFlags) error {
	logger, err := logging.New(a.stderr, f.logFormat, f.logLevel)
	if err != nil {
		return err
	}
	hookSecret, err := readHookSecret(f.hookSecret)
	if err != nil {
		return err
	}
	keyFiles, err := f.keyFiles.keyFiles()
	if err != nil {
		return err
	}
	tuneMemory()
	go lowmem.Keep(cmd.Context(), trimEvery)
	return core.Run(cmd.Context(), core.Config{
		DataDir:    f.dir,
		Listen:     f.listen,
		LocalRoots: f.localRoots,
		HookSecret: hookSecret,
		KeyFiles:   keyFiles,
		Logger:     logger,
		Ready: func(addr net.Addr) {
			logger.Info("serving", slog.String("addr", addr.String()), slog.String("dir", f.dir))
			if f.addrFile == "" {
				return
			}
			if err := atomicfile.Write(f.addrFile, []byte(addr.String()+"\n"), 0o644); err != nil {
				logger.Error("write the address file", slog.Any("err", err))
			}
		},
	})
}

// readHookSecret reads the default secret of webhooks; there need not be one.
func readHookSecret(path string) (fleet.Secret, error) {
	if path == "" {
		return fleet.Secret{}, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return fleet.Secret{}, &exit.Error{Code: exit.Config, Err: fmt.Errorf("read the webhook secret: %w", err)}
	}
	secret := strings.TrimSpace(string(raw))
	if len(secret) < 8 {
		return fleet.Secret{}, &exit.Error{Code: exit.Config, Err: fmt.Errorf("the webhook secret in %s is shorter than 8 characters", path)}
	}
	return fleet.NewSecret(secret), nil
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

func (a *app) coreInitCommand(f *coreFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Create the data directory, the keys and the administrator's API key",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := core.Init(cmd.Context(), f.dir)
			if err != nil {
				return err
			}
			return a.printNewKey(f.dir, key)
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
