//go:build linux

package crash_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/core"
	"github.com/varanhq/varan/core/api"
)

// kept is how many backups core keeps in the scenario, all of which are there before it.
const kept = 2

// withBackups gives core a recipient, and two backups of other days.
func withBackups(l *lab) {
	recipient := l.recipient()
	l.env = []string{"VARAN_BACKUP_RECIPIENTS=" + recipient, "VARAN_BACKUP_KEEP=2"}
	dir := filepath.Join(l.template, "core", "backups")
	name := l.makeBackup()
	content, err := os.ReadFile(filepath.Join(dir, name))
	must(l.t, err)
	sum := sha256.Sum256(content)
	for _, day := range []string{"20260101", "20260102"} {
		old := filepath.Join(dir, "varan-"+day+"-010000.tar.gz.age")
		must(l.t, os.WriteFile(old, content, 0o600))
		must(l.t, os.WriteFile(old+".sha256", []byte(hex.EncodeToString(sum[:])+"  "+filepath.Base(old)+"\n"), 0o600))
	}
	must(l.t, os.Remove(filepath.Join(dir, name)))
	must(l.t, os.Remove(filepath.Join(dir, name+".sha256")))
}

// withLostCore leaves of core only a backup, and the file that opens it.
func withLostCore(l *lab) {
	recipient := l.recipient()
	l.env = []string{"VARAN_BACKUP_RECIPIENTS=" + recipient}
	name := l.makeBackup()
	must(l.t, os.Rename(filepath.Join(l.template, "core", "backups", name), filepath.Join(l.template, "core.age")))
	must(l.t, os.RemoveAll(filepath.Join(l.template, "core")))
}

func (l *lab) recipient() string {
	l.t.Helper()
	l.identity = filepath.Join(l.t.TempDir(), "backup.key")
	out, err := exec.CommandContext(l.t.Context(), l.bin, "key", "age", "generate", "--file", l.identity).Output()
	must(l.t, err)
	return strings.TrimSpace(string(out))
}

// makeBackup has the core of the template make one.
func (l *lab) makeBackup() string {
	l.t.Helper()
	y := &try{lab: l, dir: l.template, names: map[string]func(){}}
	y.core = l.start(untraced, y.coreArgs(), l.env)
	defer y.close()
	if !y.ready(l.t.Context()) {
		l.t.Fatalf("core does not serve: %s", y.core.log.String())
	}
	made, err := y.client().MakeBackup(l.t.Context(), func(string) {})
	must(l.t, err)
	return made.Name
}

// workBackup makes two backups right after one another, so that old ones go; the second as the
// procedure does it.
func workBackup(ctx context.Context, y *try) {
	if !y.ready(ctx) {
		return
	}
	made, err := y.client().MakeBackup(ctx, func(string) {})
	if err != nil {
		return
	}
	y.promised = append(y.promised, func(ctx context.Context) error { return y.lists(ctx, made.Name) })
	_, _ = y.client().RunProcedure(ctx, "Backup Core Database", api.RunRequest{}, func(api.ProcedureEvent) error { return nil })
}

// lists wants a backup to be listed.
func (y *try) lists(ctx context.Context, name string) error {
	list, err := y.client().ListBackups(ctx)
	if err == nil && !slices.ContainsFunc(list.Backups, func(b api.Backup) bool { return b.Name == name }) {
		y.violated("backup %s was made and is not among %+v", name, list.Backups)
	}
	return err
}

func (y *try) listed(ctx context.Context, name string) bool {
	list, err := y.client().ListBackups(ctx)
	return err != nil || slices.ContainsFunc(list.Backups, func(b api.Backup) bool { return b.Name == name })
}

// checkBackup wants every backup that is listed to be whole, and never fewer than are to be kept.
func checkBackup(y *try) {
	y.await("the head runs", y.deployed)
	y.checkBackups(y.t.Context())
	made, err := y.client().MakeBackup(y.t.Context(), func(string) {})
	if err != nil {
		y.violated("no backup can be made any more: %v", err)
		return
	}
	if err := y.lists(y.t.Context(), made.Name); err != nil {
		y.violated("list backups: %v", err)
	}
	y.checkBackups(y.t.Context())
	var names []string
	y.await("nothing but backups and their sums is left", func(context.Context) bool {
		names = nil
		entries, err := os.ReadDir(filepath.Join(y.dir, "core", "backups"))
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return err == nil && len(names) == 2*kept
	})
	if len(names) != 2*kept {
		y.t.Logf("there are %q", names)
	}
}

func (y *try) checkBackups(ctx context.Context) {
	list, err := y.client().ListBackups(ctx)
	if err != nil || len(list.Backups) < kept {
		y.violated("%d backups are left, of %d to keep: %v", len(list.Backups), kept, err)
	}
	identity, err := os.ReadFile(y.identity)
	must(y.t, err)
	for _, b := range list.Backups {
		content, err := os.ReadFile(filepath.Join(list.Dir, b.Name))
		if errors.Is(err, fs.ErrNotExist) && !y.listed(ctx, b.Name) {
			continue // a run that was begun anew has made another, and removed this one
		}
		sum := sha256.Sum256(content)
		if err != nil || hex.EncodeToString(sum[:]) != b.SHA256 {
			y.violated("backup %s does not have the sum %q: %v", b.Name, b.SHA256, err)
		}
		if _, err := core.VerifyBackup(ctx, bytes.NewReader(content), identity, y.t.TempDir()); err != nil {
			y.violated("backup %s is not whole: %v", b.Name, err)
		}
	}
}

func (y *try) restoreArgs() []string {
	return []string{
		"restore", filepath.Join(y.dir, "core.age"), "--identity", y.identity, "--dir", filepath.Join(y.dir, "core"), "--yes",
	}
}

// finishRestore does what somebody does whose restore was killed: starts core, and restores once
// more if core does not start. What core says then must be understood.
func (y *try) finishRestore() {
	y.t.Helper()
	y.core = y.start(untraced, y.coreArgs(), y.lab.env)
	ctx, cancel := context.WithTimeout(y.t.Context(), back)
	defer cancel()
	dead := false
	serves := poll(ctx, func(ctx context.Context) bool {
		select {
		case <-y.core.dead:
			dead = true
		default:
		}
		return dead || y.client().Ready(ctx) == nil
	})
	switch {
	case dead:
	case serves:
		y.core.stop()
		return
	default:
		y.violated("core neither serves nor ends: %s", y.core.log.String())
		y.core.stop()
		return
	}
	if text := y.core.log.String(); !strings.Contains(text, "varan restore") && !strings.Contains(text, "varan core init") {
		y.violated("core does not say what to do: %s", text)
	}
	again := y.start(untraced, y.restoreArgs(), nil)
	select {
	case <-again.dead:
	case <-time.After(back):
		again.stop()
	}
	if !again.status.Exited() || again.status.ExitStatus() != 0 {
		y.violated("it cannot be restored again: %v %s", again.status, again.log.String())
	}
}
