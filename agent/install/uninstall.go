package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Uninstall stops the agent and removes its program and its unit. Configuration, policy and
// state stay for a later installation, unless purge says otherwise. Containers run on, and
// so do the files that they mount stay in any case.
func (h *Host) Uninstall(ctx context.Context, purge bool) (Report, error) {
	made, err := h.manifest()
	if err != nil {
		return Report{}, err
	}
	if len(made.Files) == 0 {
		return Report{}, &Error{"there is no agent here that `varan-agent install` made", ""}
	}
	var report Report
	if h.Systemctl != nil && h.exists(unitPath) {
		if err := h.Systemctl(ctx, "disable", "--now", "--quiet", unitName); err != nil {
			return report, fmt.Errorf("stop the service: %w", err)
		}
	}
	r := remover{host: h, made: made, report: &report}
	r.ours(unitPath)
	r.ours(programPath)
	if h.Systemctl != nil && len(report.Changed) > 0 {
		if err := h.Systemctl(ctx, "daemon-reload"); err != nil {
			return report, fmt.Errorf("have systemd forget the unit: %w", err)
		}
	}
	if !purge {
		for _, p := range []string{configPath, policyPath, stateDir} {
			if h.exists(p) {
				report.Kept = append(report.Kept, p+": for a later installation; --purge removes it")
			}
		}
		return report, r.err
	}
	for _, p := range []string{configPath, policyPath} {
		if _, ours := made.Files[p]; ours {
			r.remove(p) // also when it was edited: that is what purge says
		} else if h.exists(p) {
			report.Kept = append(report.Kept, p+": it was there before")
		}
	}
	r.state()
	r.emptyDir("/etc/varan")
	return report, r.err
}

// remover removes until something cannot be removed.
type remover struct {
	host   *Host
	made   manifest
	report *Report
	err    error
}

// ours removes a file if it is still what was installed.
func (r *remover) ours(p string) {
	sum, ours := r.made.Files[p]
	if r.err != nil || !r.host.exists(p) {
		return
	}
	content, err := os.ReadFile(r.host.path(p))
	if err != nil || !ours || digest(content) != sum {
		r.report.Kept = append(r.report.Kept, p+": it is not what was installed")
		return
	}
	r.remove(p)
}

func (r *remover) remove(p string) {
	if r.err != nil {
		return
	}
	err := os.Remove(r.host.path(p))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		r.err = fmt.Errorf("remove %s: %w", p, err)
	default:
		r.report.Changed = append(r.report.Changed, p)
	}
}

// mounted are the directories of the state that running containers can have mounted.
var mounted = []string{"stacks", "repos", "secrets"}

// state removes what the agent keeps, but for files that containers may have mounted.
func (r *remover) state() {
	if r.err != nil {
		return
	}
	entries, err := os.ReadDir(r.host.path(stateDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.err = fmt.Errorf("read the agent's state: %w", err)
		return
	}
	for _, entry := range entries {
		p := filepath.Join(stateDir, entry.Name())
		if slices.Contains(mounted, entry.Name()) {
			r.emptyDir(p)
			if r.host.exists(p) {
				r.report.Kept = append(r.report.Kept, p+": containers may have files of it mounted")
			}
			continue
		}
		if err := os.RemoveAll(r.host.path(p)); err != nil {
			r.err = fmt.Errorf("remove the agent's state: %w", err)
			return
		}
	}
	r.emptyDir(stateDir)
	if !r.host.exists(stateDir) {
		r.report.Changed = append(r.report.Changed, stateDir)
	}
}

// emptyDir removes a directory if nothing is in it.
func (r *remover) emptyDir(p string) { _ = os.Remove(r.host.path(p)) }
