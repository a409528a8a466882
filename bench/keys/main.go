// Command keys measures what a core costs that knows very many keys: its start, its memory,
// and the check of a key, beside the same core with a single one.
package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // to fill the store faster than core would

	"github.com/varanhq/varan/core"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/backoff"
)

// The goals, for 100,000 keys of each kind.
const (
	startGoal  = 2 * time.Second
	memoryGoal = 32 << 20
)

// settle is how long a core is left alone before its memory is read: it gives back what its
// start needed within a second, and looks after its servers every fifteen.
const settle = 20 * time.Second

const lookups = 2000

func main() {
	keys := flag.Int("keys", 100_000, "how many API keys, and how many servers with a key")
	bin := flag.String("bin", os.Getenv("VARAN_BIN"), "the varan binary (default $VARAN_BIN)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *bin, *keys)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "keys:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin string, keys int) error {
	dir, err := os.MkdirTemp("", "varan-keys-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	data := filepath.Join(dir, "data")
	admin, err := core.Init(ctx, data)
	if err != nil {
		return err
	}
	few, err := measure(ctx, bin, dir, []fleet.Secret{admin})
	if err != nil {
		return err
	}
	callers, err := fill(ctx, data, keys, addCaller)
	if err != nil {
		return err
	}
	some := make([]fleet.Secret, len(callers))
	for i, key := range callers {
		some[i] = fleet.NewSecret(key)
	}
	many, err := measure(ctx, bin, dir, some)
	if err != nil {
		return err
	}
	agents, err := fill(ctx, data, keys, addAgent)
	if err != nil {
		return err
	}
	servers, err := measure(ctx, bin, dir, some)
	if err != nil {
		return err
	}
	admitted, err := admit(ctx, data, agents)
	if err != nil {
		return err
	}
	printTable(os.Stdout, keys, []figures{few, many, servers}, admitted)
	return nil
}

// figures are those of one core.
type figures struct {
	start         time.Duration
	memory, peak  int64
	first, cached time.Duration
}

// measure starts a core and shows it keys.
func measure(ctx context.Context, bin, dir string, keys []fleet.Secret) (f figures, err error) {
	addr := filepath.Join(dir, "addr")
	_ = os.Remove(addr)
	log, err := os.Create(filepath.Join(dir, "core.log"))
	if err != nil {
		return f, fmt.Errorf("create a log: %w", err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.CommandContext(ctx, bin, "core", "--dir", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--addr-file", addr, "--log-level", "error") //nolint:gosec // the program that is measured is the one that the flag names
	cmd.Stdout, cmd.Stderr = log, log
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return f, fmt.Errorf("start core: %w", err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		err = errors.Join(err, cmd.Wait())
	}()
	var base string
	for base == "" {
		if text, err := os.ReadFile(addr); err == nil && len(text) > 0 {
			base = "http://" + strings.TrimSpace(string(text))
		}
		if time.Since(begin) > time.Minute {
			return f, errors.New("core does not start")
		}
		if err := backoff.Pause(ctx, time.Millisecond); err != nil {
			return f, err
		}
	}
	if _, err := get(ctx, base+"/readyz", fleet.Secret{}); err != nil {
		return f, err
	}
	f.start = time.Since(begin)
	if f.first, err = show(ctx, base, keys); err != nil {
		return f, err
	}
	if f.cached, err = show(ctx, base, keys[len(keys)-1:]); err != nil {
		return f, err
	}
	if err := backoff.Pause(ctx, settle); err != nil {
		return f, err
	}
	f.memory, f.peak, err = memory(cmd.Process.Pid)
	return f, err
}

// show asks with keys in turn, and returns the median.
func show(ctx context.Context, base string, keys []fleet.Secret) (time.Duration, error) {
	took := make([]time.Duration, lookups)
	for i := range took {
		var err error
		if took[i], err = get(ctx, base+"/api/v1/version", keys[i%len(keys)]); err != nil {
			return 0, err
		}
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

func get(ctx context.Context, url string, key fleet.Secret) (time.Duration, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	if key.Reveal() != "" {
		r.Header.Set("Authorization", "Bearer "+key.Reveal())
	}
	begin := time.Now()
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = answer.Body.Close() }()
	_, err = io.Copy(io.Discard, answer.Body)
	if answer.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", url, answer.Status)
	}
	return time.Since(begin), err
}

// memory is what a process has resident, and had at its peak.
func memory(pid int) (now, peak int64, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		switch name {
		case "VmRSS":
			now = kib << 10
		case "VmHWM":
			peak = kib << 10
		}
	}
	return now, peak, nil
}

// fill puts keys in the store, and returns some of them.
func fill(ctx context.Context, data string, n int, add func(ctx context.Context, tx *sql.Tx, i int) (string, error)) (some []string, err error) {
	db, err := sql.Open("sqlite", filepath.Join(data, "varan.db"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	every := max(1, n/lookups)
	for i := range n {
		key, err := add(ctx, tx, i)
		if err != nil {
			return nil, fmt.Errorf("fill the store: %w", err)
		}
		if i%every == 0 {
			some = append(some, key)
		}
	}
	return some, tx.Commit()
}

func addCaller(ctx context.Context, tx *sql.Tx, _ int) (string, error) {
	id, key, hash := auth.NewKey()
	_, err := tx.ExecContext(ctx, "INSERT INTO api_keys (id, name, hash, created_at, last_used_at) VALUES ($1, $2, $3, $4, $4)",
		id, "key-"+id, hash[:], time.Now().UnixNano())
	return key.Reveal(), err
}

func addAgent(ctx context.Context, tx *sql.Tx, i int) (string, error) {
	var raw [32]byte
	_, _ = rand.Read(raw[:])
	server, key, now := fmt.Sprintf("host-%06d", i), base64.StdEncoding.EncodeToString(raw[:]), time.Now().UnixNano()
	_, err := tx.ExecContext(ctx, `INSERT INTO servers (name, tags, tier, pending, disabled, epoch, onboarded_at, core_key)
		VALUES ($1, '[]', 'trusted', $3, $3, 1, $2, '')`, server, now, false)
	if err == nil {
		_, err = tx.ExecContext(ctx, "INSERT INTO keys (public_key, server, state, since) VALUES ($1, $2, 'current', $3)", key, server, now)
	}
	return key, err
}

// admit looks agents up as the handshake does, and returns the median.
func admit(ctx context.Context, data string, agents []string) (_ time.Duration, err error) {
	text, err := os.ReadFile(filepath.Join(data, "keys", "seal.key"))
	if err != nil {
		return 0, err
	}
	seal, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, err
	}
	s, err := store.Open(ctx, store.Config{Path: filepath.Join(data, "varan.db"), SealKey: seal})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	took := make([]time.Duration, len(agents))
	for i, key := range agents {
		begin := time.Now()
		if _, err := s.AdmitKey(ctx, key); err != nil {
			return 0, err
		}
		took[i] = time.Since(begin)
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

func printTable(w io.Writer, keys int, cores []figures, admitted time.Duration) {
	mib := func(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
	ms := func(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }
	verdict := func(ok bool) string {
		if ok {
			return "met"
		}
		return "missed"
	}
	row := func(what string, cell func(figures) string, goal, met string) {
		fmt.Fprintf(w, "| %s |", what)
		for _, f := range cores {
			fmt.Fprintf(w, " %s |", cell(f))
		}
		fmt.Fprintf(w, " %s | %s |\n", goal, met)
	}
	first, last := cores[0], cores[len(cores)-1]
	fmt.Fprintf(w, "%d keys of each kind, %s, %d cores\n\n", keys, runtime.Version(), runtime.NumCPU())
	fmt.Fprintln(w, "| what | one API key | many | and as many servers | goal | |\n|---|---|---|---|---|---|")
	row("start until the first answer", func(f figures) string { return ms(f.start) }, "2 s", verdict(last.start <= startGoal))
	row("resident memory, idle", func(f figures) string { return mib(f.memory) }, "+32 MiB", verdict(last.memory-first.memory <= memoryGoal))
	row("the same at its peak", func(f figures) string { return mib(f.peak) }, "-", "")
	row("request with a key not seen before, median", func(f figures) string { return ms(f.first) }, "-", "")
	row("request with a key just seen, median", func(f figures) string { return ms(f.cached) }, "-", "")
	fmt.Fprintf(w, "| an agent's key looked up, median | - | - | %s | - | |\n", ms(admitted))
}
