package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/internal/diskspace"
	"github.com/varanhq/varan/wire"
)

// Config of an agent.
type Config struct {
	// Dir holds the agent's keys, its registration and the orders it owes an outcome
	// for. Required; created with mode 0700.
	Dir string
	// Server is the name to serve, as ServerName gives it. Required.
	Server string
	// Cores are the addresses of core, tried in turn. At least one is required, unless the
	// agent listens.
	Cores []string
	// Listen says where core may dial the agent. Optional.
	Listen ListenConfig
	// OnboardingToken lets an agent that core does not know join, once. Optional.
	OnboardingToken fleet.Secret
	// ForgetToken removes the token from the file it is kept in, once it is spent. Optional:
	// nil when it is in none.
	ForgetToken func() error
	// CorePublicKeys are the keys core may show: base64 SPKI, PEM, or "file:/path" to
	// either. Optional when the agent onboarded before or has a token.
	CorePublicKeys []string
	// CAFile holds further certificate authorities for wss:// addresses. Optional.
	CAFile string
	// InsecureSkipVerify accepts any TLS certificate. It is safe here, unlike almost
	// anywhere else: TLS is only the outer transport, and inside it Noise authenticates
	// core against its pinned key and encrypts every byte. Optional.
	InsecureSkipVerify bool
	// Proxy is the URL of a proxy, which may hold a login; the environment decides when it is empty.
	Proxy fleet.Secret
	// Engine does the work. Required.
	Engine Engine
	// Logger is required.
	Logger *slog.Logger
	// Version is what core is told. Optional.
	Version string
	// LocalSecrets and HostCommands are what core is told of the host's policy before the
	// first report. Optional.
	LocalSecrets []fleet.LocalSecret
	HostCommands bool
	// Tier and AllowedRegistries are so too.
	Tier              fleet.Tier
	AllowedRegistries []string
	// Verify checks the signature of a Git commit, which is the content of the object, and
	// says who signed it. With it, releases of commits that fail are refused. Optional.
	Verify func(commit []byte) (by string, err error)
	// LowDisk is from where on the disk with Dir is too full for new orders. Optional; Statfs
	// tells of the disk, default the system's.
	LowDisk diskspace.Limit
	Statfs  func(dir string) (diskspace.Space, error)
	// Drain bounds the wait for orders under way at shutdown. Optional, default 30 s.
	Drain time.Duration
	// KeepAlive is how often core is pinged, so that a proxy between does not take the
	// connection for dead and both sides notice when it is. Optional, default 25 s.
	KeepAlive time.Duration
	// Reread is how often the engine is read in full, in case an event was missed.
	// Optional, default 5 min.
	Reread time.Duration
	// LookAtHost is how often room on the disk and the clock are looked at. Optional, default
	// 30 s.
	LookAtHost time.Duration
	// HealAfter is how long core must be away before the agent puts back what does not run.
	// Optional, default one minute.
	HealAfter time.Duration
	// KeyFiles is where the files with keys are changed. Optional, default the system's file
	// system; a test gives one that fails.
	KeyFiles atomicfile.FS
	// Dial opens a connection to core. Optional, default a WebSocket.
	Dial func(ctx context.Context, address string) (wire.MessageConn, error)
}

// ConfigError is a fault that retrying cannot repair: a person has to change the
// agent's configuration or files.
type ConfigError struct {
	Err error
	// Hint says what to change.
	Hint string
}

// Error is the message alone.
func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap returns the error inside.
func (e *ConfigError) Unwrap() error { return e.Err }

// hostnameMarker is the one form of substitution in connect_as. It looks like shell so
// that existing configurations work; no shell ever sees it.
const hostnameMarker = "$(hostname)"

// ServerName is the name that connectAs asks for: each "$(hostname)" in it stands for
// this machine's host name. An empty connectAs means the name that the agent in dir
// registered with, or else the host name.
func ServerName(dir, connectAs string) (string, error) {
	if connectAs == "" {
		reg, ok, err := loadRegistration(dir)
		if err != nil {
			return "", err
		}
		if ok {
			return reg.Server, nil
		}
		connectAs = hostnameMarker
	}
	name := connectAs
	if strings.Contains(name, hostnameMarker) {
		host, err := os.Hostname()
		if err != nil {
			return "", fmt.Errorf("read the host name: %w", err)
		}
		name = strings.ReplaceAll(name, hostnameMarker, host)
	}
	if !fleet.ValidServerName(name) {
		return "", &ConfigError{
			Err:  fmt.Errorf("connect as %q: not a server name", name),
			Hint: "a name is one printable word of at most 63 characters; $(hostname) is the only substitution",
		}
	}
	return name, nil
}

func (c *Config) validate() error {
	switch {
	case c.Dir == "":
		return &ConfigError{Err: errors.New("no state directory given"), Hint: "set --dir"}
	case c.Engine == nil || c.Logger == nil:
		return errors.New("agent needs an engine and a logger")
	case !fleet.ValidServerName(c.Server):
		return &ConfigError{Err: fmt.Errorf("%q is not a server name", c.Server), Hint: "set --connect-as"}
	case len(c.Cores) == 0 && !c.Listen.on():
		return &ConfigError{
			Err:  errors.New("no address of core given"),
			Hint: "set --core or VARAN_CORE_ADDRESS, such as --core wss://varan.example.com; --listen if core dials this agent",
		}
	}
	if c.KeyFiles == nil {
		c.KeyFiles = atomicfile.OS{}
	}
	if c.Drain <= 0 {
		c.Drain = 30 * time.Second
	}
	if c.LookAtHost <= 0 {
		c.LookAtHost = 30 * time.Second
	}
	if c.Reread <= 0 {
		c.Reread = 5 * time.Minute
	}
	if c.HealAfter <= 0 {
		c.HealAfter = healAfter
	}
	return nil
}

// tlsConfig is what wss:// addresses are dialled with.
func (c *Config) tlsConfig() (*tls.Config, error) {
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: c.InsecureSkipVerify, //nolint:gosec // Noise authenticates core inside TLS, see Config
	}
	if c.CAFile == "" {
		return conf, nil
	}
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, &ConfigError{Err: fmt.Errorf("read certificate authorities: %w", err), Hint: "check --ca-file"}
	}
	conf.RootCAs, err = x509.SystemCertPool()
	if err != nil {
		conf.RootCAs = x509.NewCertPool()
	}
	if !conf.RootCAs.AppendCertsFromPEM(text) {
		return nil, &ConfigError{Err: fmt.Errorf("%s holds no certificate", c.CAFile), Hint: "--ca-file takes certificates in PEM"}
	}
	return conf, nil
}
