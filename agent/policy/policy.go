// Package policy reads what a host lets core do with it. The file belongs to the host:
// core cannot see or change it, and whatever core asks for can only narrow it.
package policy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/commitsig"
)

// DefaultPath is where the policy is unless the agent is told otherwise.
const DefaultPath = "/etc/varan/policy.toml"

// maxFile bounds the policy and each file that it names.
const maxFile = 1 << 20

// Policy is what core may ask of the host. The zero value allows what needs no policy:
// containers, in directories of the agent's own.
type Policy struct {
	// Tier is the highest that this host can be; empty leaves it to core.
	Tier fleet.Tier
	// AllowedRegistries are where images may come from; empty is anywhere. See fleet.ImageAllowed.
	AllowedRegistries []string
	// Signers are the keys whose commits alone may be deployed here; when it is empty, all
	// commits may be.
	Signers commitsig.Signers
	// HostCommands lets stacks run commands on the host (pre_deploy, post_deploy, and those
	// of repos).
	HostCommands bool
	// HostDirectories are absolute directories in which core may name a place for a repo or
	// a stack, and whose files it may read.
	HostDirectories []string
	// RepoDirectory is where repos go whose path is relative; empty for the agent's own.
	RepoDirectory string
	// SecretsOnDisk accepts that secret files are on a disk where the host has no file
	// system in memory.
	SecretsOnDisk bool
	// Secrets are known to this host alone, by name.
	Secrets map[string]fleet.Secret
	// Registries are accounts of this host at image registries.
	Registries []Registry
}

// Registry is an account at an image registry.
type Registry struct {
	Domain, Username string
	Password         fleet.Secret
}

// Error is a fault in a policy. It never holds a value of the file.
type Error struct {
	Pos     fleet.Position
	Message string
	Hint    string
}

// Error is the message with its position.
func (e *Error) Error() string { return e.Pos.String() + ": " + e.Message }

// document is the file as it is written.
type document struct {
	Tier              string            `toml:"tier"`
	AllowedRegistries []string          `toml:"allowed_registries"`
	Terminals         bool              `toml:"terminals"`
	Tunnels           []string          `toml:"tunnels"`
	AllowedSigners    string            `toml:"allowed_signers"`
	PGPKeys           string            `toml:"pgp_keys"`
	HostCommands      bool              `toml:"host_commands"`
	HostDirectories   []string          `toml:"host_directories"`
	RepoDirectory     string            `toml:"repo_directory"`
	SecretsOnDisk     bool              `toml:"secrets_on_disk"`
	Secrets           map[string]string `toml:"secrets"`
	SecretFiles       map[string]string `toml:"secret_files"`
	Registry          []account         `toml:"registry"`
}

type account struct {
	Domain       string `toml:"domain"`
	Username     string `toml:"username"`
	Password     string `toml:"password"`
	PasswordFile string `toml:"password_file"`
}

// Load reads a policy. A file that is not there is an error wrapping fs.ErrNotExist.
func Load(path string) (Policy, error) {
	text, err := readOwned(path, true)
	if err != nil {
		return Policy{}, err
	}
	if err := ownDirectory(path); err != nil {
		return Policy{}, err
	}
	var doc document
	if err := decode(path, text, &doc); err != nil {
		return Policy{}, err
	}
	return doc.policy(path, text)
}

// LoadSecrets adds the secrets of a file of its own, which holds nothing but lines like
// NAME = "value".
func (p *Policy) LoadSecrets(path string) error {
	text, err := readOwned(path, false)
	if err != nil {
		return err
	}
	var values map[string]string
	if err := decode(path, text, &values); err != nil {
		return err
	}
	for name, value := range values {
		if err := p.addSecret(path, text, name, value); err != nil {
			return err
		}
	}
	return nil
}

// decode parses strictly, and says where a fault is.
func decode(path string, text []byte, into any) error {
	decoder := toml.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		return nil
	}
	at := func(line, col int) fleet.Position { return fleet.Position{File: path, Line: line, Col: col} }
	if unknown, ok := errors.AsType[*toml.StrictMissingError](err); ok {
		first := unknown.Errors[0]
		return &Error{
			Pos: at(first.Position()), Message: fmt.Sprintf("unknown key %q", strings.Join(first.Key(), ".")),
			Hint: "the keys are tier, host_commands, allowed_registries, allowed_signers, pgp_keys, terminals, tunnels, host_directories, repo_directory, secrets_on_disk, [secrets], [secret_files] and [[registry]]",
		}
	}
	if fault, ok := errors.AsType[*toml.DecodeError](err); ok {
		// What the library quotes of the file could be a secret.
		return &Error{Pos: at(fault.Position()), Message: strings.TrimPrefix(fault.Error(), "toml: ")}
	}
	return &Error{Pos: at(0, 0), Message: "this is not the TOML of a policy"}
}

func (d *document) policy(path string, text []byte) (Policy, error) {
	p := Policy{
		Tier: fleet.Tier(d.Tier), AllowedRegistries: slices.Clone(d.AllowedRegistries),
		HostCommands: d.HostCommands, RepoDirectory: d.RepoDirectory, SecretsOnDisk: d.SecretsOnDisk,
		HostDirectories: slices.Clone(d.HostDirectories),
	}
	fault := func(key, format string, args ...any) error {
		return &Error{Pos: find(path, text, key), Message: fmt.Sprintf(format, args...)}
	}
	if err := d.checkTier(fault); err != nil {
		return p, err
	}
	var err error
	if p.Signers, err = commitsig.Parse(d.AllowedSigners, d.PGPKeys); err != nil {
		key := "pgp_keys"
		if bad, ok := errors.AsType[*commitsig.KeysError](err); ok && bad.Line > 0 {
			key = "allowed_signers"
		}
		return p, fault(key, "%v", err)
	}
	if err := d.checkPlaces(fault); err != nil {
		return p, err
	}
	if err := d.addSecrets(&p, path, text); err != nil {
		return p, err
	}
	for _, a := range d.Registry {
		r, err := a.read()
		if err != nil {
			return p, fault("[[registry]]", "%v", err)
		}
		p.Registries = append(p.Registries, r)
	}
	inline := func(a account) bool { return a.Password != "" }
	if len(d.Secrets) > 0 || slices.ContainsFunc(d.Registry, inline) {
		return p, private(path)
	}
	return p, nil
}

// faultFunc makes the error of a key.
type faultFunc func(key, format string, args ...any) error

// checkTier refuses an unknown tier, and what the tier or this agent does not allow.
func (d *document) checkTier(fault faultFunc) error {
	tier := fleet.Tier(d.Tier)
	switch tier {
	case "", fleet.TierTrusted, fleet.TierUntrusted:
	default:
		return fault("tier", "there is no tier %q: it is trusted or untrusted", d.Tier)
	}
	if tier == fleet.TierUntrusted && d.HostCommands {
		return fault("host_commands", "commands never run on an untrusted host: take tier or host_commands out")
	}
	if d.Terminals || len(d.Tunnels) > 0 {
		return fault(cmp.Or(map[bool]string{true: "terminals"}[d.Terminals], "tunnels"),
			"this agent opens neither terminals nor tunnels, so that there is nothing to allow: leave the key out, or false or empty")
	}
	return nil
}

// checkPlaces refuses registries and directories that cannot be ones.
func (d *document) checkPlaces(fault faultFunc) error {
	for _, pattern := range d.AllowedRegistries {
		if !fleet.ValidRegistryPattern(pattern) {
			return fault("allowed_registries", "%q is no registry or part of one, such as ghcr.io or docker.io/library/*", pattern)
		}
	}
	for _, dir := range d.HostDirectories {
		if !filepath.IsAbs(dir) || dir == "/" {
			return fault("host_directories", "%q must be an absolute directory, and not all of the host", dir)
		}
	}
	if d.RepoDirectory != "" && !filepath.IsAbs(d.RepoDirectory) {
		return fault("repo_directory", "%q must be an absolute directory", d.RepoDirectory)
	}
	return nil
}

// addSecrets adds the secrets in the policy and in the files that it names.
func (d *document) addSecrets(p *Policy, path string, text []byte) error {
	for name, value := range d.Secrets {
		if err := p.addSecret(path, text, name, value); err != nil {
			return err
		}
	}
	for name, file := range d.SecretFiles {
		value, err := readOwned(file, false)
		if err != nil {
			return &Error{Pos: find(path, text, name), Message: fmt.Sprintf("the secret %s: %v", name, err)}
		}
		if err := p.addSecret(path, text, name, strings.TrimRight(string(value), "\r\n")); err != nil {
			return err
		}
	}
	return nil
}

func (a account) read() (Registry, error) {
	r := Registry{Domain: a.Domain, Username: a.Username, Password: fleet.NewSecret(a.Password)}
	switch {
	case a.Domain == "" || a.Username == "":
		return r, errors.New("a registry needs a domain and a username")
	case (a.Password == "") == (a.PasswordFile == ""):
		return r, fmt.Errorf("the account %s at %s needs a password or a password_file", a.Username, a.Domain)
	case a.PasswordFile != "":
		value, err := readOwned(a.PasswordFile, false)
		if err != nil {
			return r, fmt.Errorf("the account %s at %s: %w", a.Username, a.Domain, err)
		}
		r.Password = fleet.NewSecret(strings.TrimRight(string(value), "\r\n"))
	}
	return r, nil
}

// addSecret refuses names that no stack could ask for, and values that say nothing.
func (p *Policy) addSecret(path string, text []byte, name, value string) error {
	switch {
	case !(fleet.LocalSecret{Name: name, Version: "v"}).Valid():
		return &Error{
			Pos: find(path, text, name), Message: fmt.Sprintf("%q cannot be the name of a secret", name),
			Hint: "letters, digits, _, - and . make a name",
		}
	case value == "":
		return &Error{Pos: find(path, text, name), Message: fmt.Sprintf("the secret %s is empty", name)}
	}
	if _, twice := p.Secrets[name]; twice {
		return &Error{Pos: find(path, text, name), Message: fmt.Sprintf("the secret %s is there twice", name)}
	}
	if p.Secrets == nil {
		p.Secrets = map[string]fleet.Secret{}
	}
	p.Secrets[name] = fleet.NewSecret(value)
	return nil
}

// find is where a key is written, as well as that can be told.
func find(path string, text []byte, key string) fleet.Position {
	n := 0
	for line := range bytes.Lines(text) {
		n++
		trimmed := bytes.TrimLeft(line, " \t\"'")
		if bytes.HasPrefix(trimmed, []byte(key)) {
			return fleet.Position{File: path, Line: n, Col: len(line) - len(trimmed) + 1}
		}
	}
	return fleet.Position{File: path}
}

// readOwned reads a file that nobody but root and this user can have written. One that
// is not public must not be readable by others either.
func readOwned(path string, public bool) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := trustworthy(path, info, public); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return text, err
}

// private refuses a file that others can read.
func private(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return trustworthy(path, info, false)
}

// ownDirectory refuses a policy that others could put another file in the place of.
func ownDirectory(path string) error {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	mode := info.Mode()
	switch {
	case !ownedByUs(info):
		return &Error{Pos: fleet.Position{File: path}, Message: "its directory belongs to another user", Hint: "chown root " + dir}
	case mode.Perm()&0o022 != 0 && mode&fs.ModeSticky == 0:
		return &Error{
			Pos:     fleet.Position{File: path},
			Message: fmt.Sprintf("others can write its directory (mode %04o)", mode.Perm()), Hint: "chmod go-w " + dir,
		}
	}
	return nil
}

func trustworthy(path string, info fs.FileInfo, public bool) error {
	pos := fleet.Position{File: path}
	mode := info.Mode().Perm()
	switch {
	case !info.Mode().IsRegular():
		return &Error{Pos: pos, Message: "not a regular file"}
	case !ownedByUs(info):
		return &Error{Pos: pos, Message: "belongs to another user", Hint: "chown root " + path}
	case mode&0o022 != 0:
		return &Error{Pos: pos, Message: fmt.Sprintf("others can write it (mode %04o)", mode), Hint: "chmod go-w " + path}
	case !public && mode&0o007 != 0:
		return &Error{Pos: pos, Message: fmt.Sprintf("holds secrets and everybody can read it (mode %04o)", mode), Hint: "chmod 600 " + path}
	}
	return nil
}
