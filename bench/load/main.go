// Command load puts one real core under the load of a bad day, on one machine: all agents of a
// large fleet come back at once after core was killed, and a Git host floods it with webhooks.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/varanhq/varan/bench/internal/process"
	"github.com/varanhq/varan/core"
	"github.com/varanhq/varan/core/api"
)

func main() {
	bin := flag.String("bin", os.Getenv("VARAN_BIN"), "the varan binary (default $VARAN_BIN)")
	agents := flag.Int("agents", 2000, "how many agents connect; 0 leaves this part out")
	deliveries := flag.Int("deliveries", 10000, "how many webhooks are sent; 0 leaves this part out")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *bin, *agents, *deliveries)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, agents, deliveries int) error {
	if bin == "" {
		return errors.New("name the binary with -bin or VARAN_BIN")
	}
	if err := raiseFileLimit(); err != nil {
		return err
	}
	fmt.Printf("%s, %s, %d cores shared by core and its load, load average before: %s\n",
		time.Now().Format(time.DateOnly), runtime.Version(), runtime.NumCPU(), loadAverage())
	if agents > 0 {
		if err := measureStorms(ctx, bin, agents); err != nil {
			return fmt.Errorf("reconnect: %w", err)
		}
	}
	if deliveries > 0 {
		if err := measureFloods(ctx, bin, deliveries); err != nil {
			return fmt.Errorf("webhooks: %w", err)
		}
	}
	return nil
}

// instance is a core under load, in a directory of its own.
type instance struct {
	bin, dir string
	env      []string
	addr     string
	api      *api.Client
	proc     *process.Process
}

func newInstance(ctx context.Context, bin string, env ...string) (*instance, error) {
	dir, err := os.MkdirTemp("", "varan-load-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	c := &instance{bin: bin, dir: dir, env: env, addr: "127.0.0.1:0"}
	key, err := core.Init(ctx, filepath.Join(dir, "core"))
	if err != nil {
		return nil, fmt.Errorf("initialise core: %w", err)
	}
	c.api = &api.Client{Key: key}
	err = c.start(ctx)
	return c, err
}

// start starts core, at the same address as before, and waits until it serves.
func (c *instance) start(ctx context.Context) (err error) {
	file := filepath.Join(c.dir, "addr")
	_ = os.Remove(file)
	c.proc, err = process.Start(ctx, c.dir, "core", c.bin, c.env, "core", "--dir", filepath.Join(c.dir, "core"),
		"--listen", c.addr, "--addr-file", file, "--log-level", "error")
	if err != nil {
		return err
	}
	err = process.Until(ctx, time.Minute, "core to serve", func() bool {
		text, err := os.ReadFile(file)
		c.addr = strings.TrimSpace(string(text))
		return err == nil && c.addr != ""
	})
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(c.dir, "core.log"))
		return fmt.Errorf("%w\n%s", err, log)
	}
	c.api.BaseURL = "http://" + c.addr
	return nil
}

func (c *instance) close() {
	c.proc.Stop()
	_ = os.RemoveAll(c.dir)
}

// raiseFileLimit makes room for a connection per agent.
func raiseFileLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// quantile is the value below which a share q of the sorted values lie.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Round(100 * time.Microsecond)
}

func verdict(ok bool) string {
	if ok {
		return "met"
	}
	return "missed"
}

func mib(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }
