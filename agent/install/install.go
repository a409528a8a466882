// Package install puts the agent on a host, as a program with a systemd unit, and takes it
// away again. It touches what it made and nothing else, and doing it twice is doing it once.
package install

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/varanhq/varan/agent/policy"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
)

// Where everything is, below the root.
const (
	programPath = "/usr/local/bin/varan-agent"
	configPath  = "/etc/varan/agent.toml"
	policyPath  = policy.DefaultPath
	unitPath    = "/etc/systemd/system/" + unitName
	stateDir    = "/var/lib/varan-agent"
	tokenPath   = stateDir + "/onboarding.key"
	// manifestPath lists what was made, so that it can be unmade.
	manifestPath = stateDir + "/install.json"

	unitName = "varan-agent.service"
)

// Host is where to install, and the ways to its service manager.
type Host struct {
	// Root is "/" but in tests and images.
	Root string
	// Systemctl runs the service manager; nil when the host has none, or must not be touched.
	Systemctl func(ctx context.Context, args ...string) error
}

// Options say what to install.
type Options struct {
	// Program is the file with the agent. Required.
	Program string
	// Core is the address of core, ConnectAs the name to serve there; for a new configuration.
	Core, ConnectAs string
	// InsecureSkipVerify and CAFile are for the TLS of core's address.
	InsecureSkipVerify bool
	CAFile             string
	// Token is the onboarding key; a host whose agent is registered needs none.
	Token fleet.Secret
}

// Report is what was done.
type Report struct {
	// Changed are the paths that were written or removed, Kept those that were there and are
	// left as they are, each with why.
	Changed, Kept []string
	// Started says that the service runs what is installed now; Command is how to run the
	// agent where there is no service manager.
	Started bool
	Command string
}

// Error is a fault that a person has to mend. Nothing was changed.
type Error struct{ Message, Hint string }

// Error is the message alone.
func (e *Error) Error() string { return e.Message }

// manifest is what an installation made, by path, with the sum of what it wrote.
type manifest struct {
	Files map[string]string `json:"files"`
}

func (h *Host) path(p string) string { return filepath.Join(h.Root, p) }

func (h *Host) exists(p string) bool {
	_, err := os.Lstat(h.path(p))
	return err == nil
}

// Install brings the host to what the options say. A configuration and a policy that are
// there are the host's own and stay as they are.
func (h *Host) Install(ctx context.Context, o Options) (Report, error) {
	program, err := os.ReadFile(o.Program)
	if err != nil {
		return Report{}, fmt.Errorf("read the agent's program: %w", err)
	}
	allowed, err := policy.Load(h.path(policyPath))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Report{}, fmt.Errorf("the policy of this host: %w", err)
	}
	registered := h.exists(stateDir + "/registration.json")
	if err := h.check(o, registered); err != nil {
		return Report{}, err
	}
	made, err := h.manifest()
	if err != nil {
		return Report{}, err
	}
	w := writer{host: h, made: made}
	w.dir("/etc/varan", 0o755)
	w.dir(stateDir, 0o700)
	w.file(programPath, program, 0o755)
	w.fresh(configPath, []byte(config(o)), 0o600)
	w.fresh(policyPath, []byte(policySample), 0o600)
	switch {
	case o.Token.IsEmpty():
	case registered:
		w.report.Kept = append(w.report.Kept, "the registration of this host: the onboarding key was not needed")
	default:
		w.file(tokenPath, []byte(o.Token.Reveal()+"\n"), 0o600)
	}
	if h.Systemctl != nil {
		w.file(unitPath, []byte(Unit(allowed)), 0o644)
	}
	w.save()
	if w.err != nil {
		return w.report, w.err
	}
	w.report.Command = programPath + " --config " + configPath
	if h.Systemctl == nil {
		return w.report, nil
	}
	return w.report, h.start(ctx, &w.report)
}

// check refuses what could only fail later.
func (h *Host) check(o Options, registered bool) error {
	configured := h.exists(configPath)
	switch {
	case !configured && o.Core == "":
		return &Error{"which core is the agent for?", "--core https://varan.example.com"}
	case !registered && o.Token.IsEmpty() && !h.exists(tokenPath) && !configured:
		return &Error{
			"there is no onboarding key",
			"varan onboarding-key create makes one; give it as VARAN_ONBOARDING_KEY or with --onboarding-key-file",
		}
	case strings.ContainsFunc(o.Core+o.ConnectAs+o.CAFile, func(r rune) bool { return !unicode.IsPrint(r) }):
		return &Error{"the address, the name or the path holds what cannot be printed", ""}
	}
	return nil
}

// start has the service run what is installed, and leaves one alone that does.
func (h *Host) start(ctx context.Context, report *Report) error {
	changed := func(paths ...string) bool {
		return slices.ContainsFunc(report.Changed, func(p string) bool { return slices.Contains(paths, p) })
	}
	if changed(unitPath) {
		if err := h.Systemctl(ctx, "daemon-reload"); err != nil {
			return fmt.Errorf("have systemd read the unit: %w", err)
		}
	}
	if h.Systemctl(ctx, "is-enabled", "--quiet", unitName) != nil {
		if err := h.Systemctl(ctx, "enable", "--quiet", unitName); err != nil {
			return fmt.Errorf("enable the service: %w", err)
		}
	}
	if changed(unitPath, programPath, configPath, tokenPath) || h.Systemctl(ctx, "is-active", "--quiet", unitName) != nil {
		if err := h.Systemctl(ctx, "restart", unitName); err != nil {
			return fmt.Errorf("start the service: %w", err)
		}
		report.Started = true
	}
	return nil
}

// config is a configuration for the options.
func config(o Options) string {
	var b strings.Builder
	b.WriteString("# Configuration of the Varan agent. `varan-agent --print-config` shows what is in force, and from where.\n")
	fmt.Fprintf(&b, "core = [%s]\n", toml(o.Core))
	if o.ConnectAs != "" {
		fmt.Fprintf(&b, "connect_as = %s\n", toml(o.ConnectAs))
	}
	if o.CAFile != "" {
		fmt.Fprintf(&b, "ca_file = %s\n", toml(o.CAFile))
	}
	if o.InsecureSkipVerify {
		b.WriteString("insecure_skip_verify = true\n")
	}
	fmt.Fprintf(&b, "dir = %s\n# Gone once the agent has joined.\nonboarding_key_file = %s\n", toml(stateDir), toml(tokenPath))
	return b.String()
}

// toml is a text as TOML has it: what Go escapes for JSON, TOML reads.
func toml(s string) string { return strconv.Quote(s) }

const policySample = `# What this host lets core do with it. Core cannot see or change this file, and whatever it asks
# for can only be less. Only root may write it. The agent reads it when it starts; run
# "varan-agent install" after a change, so that the service may do what is allowed here.
# "varan-agent policy check" says whether it is right.

# Take this host for no more than untrusted, whatever core says.
#tier = "untrusted"

# Let stacks run commands on the host (pre_deploy, post_deploy, and those of repos).
#host_commands = false

# Directories that core may name a place in for a stack or a repo, and whose files it may read.
#host_directories = ["/srv/stacks"]

# Where images may come from: a registry, or a part of one. Absent: from anywhere.
#allowed_registries = ["ghcr.io/acme", "docker.io/library/*"]

# Whose commits may be deployed here: SSH keys as of ssh-keygen(1), and OpenPGP keys as
# pgp_keys. Absent: anybody's.
#allowed_signers = "ada@example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAzcVVSVbPKzqQPmNqQ0MvG6mOFFvPFyDFhnGBGBQPHp"

# Secrets that never leave this host.
#[secret_files]
#DB_PASSWORD = "/etc/varan/db-password"

# Accounts at image registries.
#[[registry]]
#domain = "ghcr.io"
#username = "acme"
#password_file = "/etc/varan/ghcr-token"
`

func (h *Host) manifest() (manifest, error) {
	m := manifest{Files: map[string]string{}}
	text, err := os.ReadFile(h.path(manifestPath))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		return m, fmt.Errorf("read what was installed: %w", err)
	}
	if m.Files == nil {
		m.Files = map[string]string{}
	}
	return m, nil
}

// writer makes files until one cannot be made.
type writer struct {
	host   *Host
	made   manifest
	report Report
	dirty  bool
	err    error
}

func (w *writer) dir(p string, mode fs.FileMode) {
	if w.err != nil {
		return
	}
	if err := os.MkdirAll(w.host.path(p), mode); err != nil {
		w.err = fmt.Errorf("make %s: %w", p, err)
	}
}

// fresh is file for what is the host's own from then on.
func (w *writer) fresh(p string, content []byte, mode fs.FileMode) {
	if w.err == nil && w.host.exists(p) {
		if _, ours := w.made.Files[p]; !ours {
			w.report.Kept = append(w.report.Kept, p+": it was there before")
		}
		return
	}
	w.file(p, content, mode)
}

// file makes a file what it is to be, if it is not.
func (w *writer) file(p string, content []byte, mode fs.FileMode) {
	if w.err != nil {
		return
	}
	path, sum := w.host.path(p), digest(content)
	if w.made.Files[p] != sum {
		w.made.Files[p], w.dirty = sum, true
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm() == mode {
		if before, err := os.ReadFile(path); err == nil && bytes.Equal(before, content) {
			return
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // directories of the system, which all may read
		w.err = fmt.Errorf("make the directory of %s: %w", p, err)
		return
	}
	if err := atomicfile.Write(path, content, mode); err != nil {
		w.err = fmt.Errorf("write %s: %w", p, err)
		return
	}
	w.report.Changed = append(w.report.Changed, p)
}

// save records what was made, also after a failure: it is there.
func (w *writer) save() {
	if !w.dirty {
		return
	}
	text, err := json.MarshalIndent(w.made, "", "  ")
	if err == nil {
		err = atomicfile.Write(w.host.path(manifestPath), append(text, '\n'), 0o600)
	}
	if err != nil {
		w.err = errors.Join(w.err, fmt.Errorf("record what was installed: %w", err))
	}
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
