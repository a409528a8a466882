package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/varanhq/varan/cmd/internal/exit"
)

// demoPIDs is the file in a demo's directory that names its processes, the demo's own
// first. It is what a later demo knows an earlier one by.
const demoPIDs = "pids"

// demoKept is the file that tells a demo that was kept from one that was killed.
const demoKept = "kept"

// remember writes down which processes the demo consists of.
func (p *demoProcesses) remember() error {
	pids := []string{strconv.Itoa(os.Getpid())}
	for _, proc := range p.started {
		pids = append(pids, strconv.Itoa(proc.cmd.Process.Pid))
	}
	err := os.WriteFile(filepath.Join(p.dir, demoPIDs), []byte(strings.Join(pids, "\n")), 0o600)
	if err != nil {
		return fmt.Errorf("note the demo's processes: %w", err)
	}
	return nil
}

// sweep removes what a demo left that was kept, or killed before it could clean up, and
// reports whether there was one. One that still plays is not disturbed; one that was kept
// ends only when that is asked for.
func (d *demo) sweep(ctx context.Context, kept bool) (bool, error) {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), demoDirs+"*"))
	if err != nil {
		return false, fmt.Errorf("look for earlier demos: %w", err)
	}
	found := false
	for _, dir := range dirs {
		raw, err := os.ReadFile(filepath.Join(dir, demoPIDs))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("look at an earlier demo: %w", err)
		}
		pids := strings.Fields(string(raw))
		children := pids[min(1, len(pids)):]
		_, err = os.Stat(filepath.Join(dir, demoKept))
		wasKept := err == nil
		switch {
		case len(pids) > 0 && isDemo(pids[0], "varan demo"):
			return false, &exit.Error{
				Code: exit.Failed, Err: fmt.Errorf("another demo is playing (process %s)", pids[0]), Hint: "wait for its end",
			}
		case wasKept && !kept && anyAlive(children, dir):
			return false, &exit.Error{
				Code: exit.Failed, Err: errors.New("an earlier demo was kept and still runs"), Hint: "varan demo --stop ends it",
			}
		}
		found = true
		endAll(ctx, children, dir)
		if err := os.RemoveAll(dir); err != nil {
			return false, fmt.Errorf("remove an earlier demo: %w", err)
		}
	}
	if err := d.removeAll(ctx); err != nil {
		return found, fmt.Errorf("remove what an earlier demo left: %w", err)
	}
	return found, nil
}

// keep marks the demo as one that a later demo must not end unasked, and lets git commit
// in its repository where no name is configured.
func (d *demo) keep() error {
	config, err := os.OpenFile(filepath.Join(d.repo(), ".git", "config"), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("configure the demo's repository: %w", err)
	}
	_, err = config.WriteString("[user]\n\tname = Varan\n\temail = demo@localhost\n")
	err = errors.Join(err, config.Close(), os.WriteFile(filepath.Join(d.dir, demoKept), nil, 0o600))
	if err != nil {
		return fmt.Errorf("mark the demo as kept: %w", err)
	}
	return nil
}

// stopKept is `varan demo --stop`.
func (d *demo) stopKept(ctx context.Context) error {
	found, err := d.sweep(ctx, true)
	if err != nil {
		return err
	}
	if found {
		fmt.Fprintln(d.out, "The demo is stopped; its containers, networks, image and files are removed.")
	} else {
		fmt.Fprintln(d.out, "No demo was left.")
	}
	return nil
}

// isDemo reports whether a process lives and its command line holds a text: numbers of
// processes are used again.
func isDemo(pid, text string) bool {
	raw, err := os.ReadFile("/proc/" + filepath.Base(pid) + "/cmdline")
	return err == nil && strings.Contains(" "+string(bytes.ReplaceAll(raw, []byte{0}, []byte{' '})), text)
}

func anyAlive(pids []string, dir string) bool {
	for _, pid := range pids {
		if isDemo(pid, dir) {
			return true
		}
	}
	return false
}

// endAll ends an earlier demo's processes: politely, and after ten seconds for good.
func endAll(ctx context.Context, pids []string, dir string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	signalAll(pids, dir, syscall.SIGTERM)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for anyAlive(pids, dir) {
		select {
		case <-ctx.Done():
			signalAll(pids, dir, syscall.SIGKILL)
			return
		case <-ticker.C:
		}
	}
}

func signalAll(pids []string, dir string, signal os.Signal) {
	for _, pid := range pids {
		number, err := strconv.Atoi(pid)
		if err != nil || !isDemo(pid, dir) {
			continue
		}
		if process, err := os.FindProcess(number); err == nil {
			_ = process.Signal(signal) // it may have ended meanwhile
		}
	}
}
