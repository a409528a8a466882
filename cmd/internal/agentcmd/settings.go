package agentcmd

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/agent/policy"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/buildinfo"
	"github.com/varanhq/varan/internal/diskspace"
)

// Settings are all settings of an agent; docs/configuration.md is made from the tags. The
// names of Komodo's periphery work too, so that it can be replaced in place. An agent takes
// its settings once: a restart costs it nothing, its containers run on.
type Settings struct {
	Cores          []string      `key:"core" alias:"core_address,core_addresses" flag:"core" env:"VARAN_CORE_ADDRESS,PERIPHERY_CORE_ADDRESS,PERIPHERY_CORE_ADDRESSES" single:"text" reload:"static" doc:"address of core; several are tried in turn"`
	ConnectAs      string        `key:"connect_as" flag:"connect-as" env:"VARAN_CONNECT_AS,PERIPHERY_CONNECT_AS" reload:"static" doc:"name of the server to serve; $(hostname) stands for the host name, which is also the default"`
	OnboardingKey  fleet.Secret  `key:"onboarding_key" flag:"onboarding-key" fileflag:"onboarding-key-file" env:"VARAN_ONBOARDING_KEY,PERIPHERY_ONBOARDING_KEY" optional:"file" reload:"static" doc:"key for the first start"`
	CorePublicKeys []string      `key:"core_public_keys" alias:"core_public_key" flag:"core-public-key" env:"VARAN_CORE_PUBLIC_KEY,PERIPHERY_CORE_PUBLIC_KEYS" single:"text" reload:"static" doc:"key that core must show: base64, PEM or file:/path"`
	Dir            string        `key:"dir" flag:"dir" env:"VARAN_AGENT_DIR" reload:"static" doc:"state directory"`
	CAFile         string        `key:"ca_file" flag:"ca-file" env:"VARAN_CA_FILE" reload:"static" doc:"further certificate authorities for wss://"`
	InsecureSkip   bool          `key:"insecure_skip_verify" alias:"core_tls_insecure_skip_verify" flag:"insecure-skip-verify" env:"VARAN_INSECURE_SKIP_VERIFY,PERIPHERY_CORE_TLS_INSECURE_SKIP_VERIFY" reload:"static" doc:"accept any TLS certificate; core is still authenticated, by its key"`
	Proxy          fleet.Secret  `key:"proxy" flag:"proxy" fileflag:"proxy-file" env:"VARAN_PROXY" reload:"static" doc:"proxy to reach core through, http:// or socks5://, instead of the one of the environment; it may hold a login"`
	Listen         string        `key:"listen" flag:"listen" env:"VARAN_AGENT_LISTEN" reload:"static" doc:"address to be dialled at by core, such as [::]:8120; without it the agent opens no port"`
	AllowedIPs     []string      `key:"allowed_ips" flag:"allowed-ip" env:"VARAN_ALLOWED_IPS,PERIPHERY_ALLOWED_IPS" reload:"static" doc:"addresses and networks that may connect where the agent listens; all if empty"`
	ListenTLS      bool          `key:"listen_tls" alias:"ssl_enabled" flag:"listen-tls" env:"VARAN_LISTEN_TLS,PERIPHERY_SSL_ENABLED" default:"true" reload:"static" doc:"listen with TLS"`
	ListenCertFile string        `key:"listen_cert_file" alias:"ssl_cert_file" flag:"listen-cert-file" env:"VARAN_LISTEN_CERT_FILE,PERIPHERY_SSL_CERT_FILE" reload:"static" doc:"certificate to listen with, instead of one that the agent makes"`
	ListenKeyFile  string        `key:"listen_key_file" alias:"ssl_key_file" flag:"listen-key-file" env:"VARAN_LISTEN_KEY_FILE,PERIPHERY_SSL_KEY_FILE" reload:"static" doc:"private key of listen_cert_file"`
	ServerEnabled  bool          `key:"server_enabled" env:"PERIPHERY_SERVER_ENABLED" reload:"static" doc:"Komodo's word for listening, at bind_ip and port"`
	BindIP         string        `key:"bind_ip" env:"PERIPHERY_BIND_IP" default:"[::]" reload:"static" doc:"address for server_enabled"`
	Port           int           `key:"port" env:"PERIPHERY_PORT" default:"8120" min:"1" max:"65535" reload:"static" doc:"port for server_enabled"`
	DockerHost     string        `key:"docker_host" flag:"docker-host" env:"VARAN_DOCKER_HOST" reload:"static" doc:"address of the Docker Engine, instead of $DOCKER_HOST or the local socket"`
	Policy         string        `key:"policy" flag:"policy" env:"VARAN_AGENT_POLICY" reload:"static" doc:"file with what this host lets core do, instead of /etc/varan/policy.toml"`
	SecretsFile    string        `key:"secrets_file" flag:"secrets-file" env:"VARAN_AGENT_SECRETS_FILE" reload:"static" doc:"further secrets that never leave this host, as lines NAME = \"value\""`
	StableFor      time.Duration `key:"stable_for" flag:"stable-for" env:"VARAN_STABLE_FOR" default:"1s" min:"0s" max:"1h" reload:"static" doc:"how long a new container must run before it counts as running"`
	Parallel       int           `key:"parallel" flag:"parallel" env:"VARAN_PARALLEL" default:"4" min:"1" max:"256" reload:"static" doc:"how many stacks are changed at a time"`
	Drain          time.Duration `key:"drain" flag:"drain" env:"VARAN_DRAIN" default:"30s" min:"0s" max:"1h" reload:"static" doc:"how long to wait at shutdown for work that is under way"`
	HealAfter      time.Duration `key:"heal_after" flag:"heal-after" env:"VARAN_HEAL_AFTER" default:"1m" min:"1s" max:"24h" reload:"static" doc:"how long core must be away before stacks of syncs with self_heal are put back without it"`
	FreePercent    int           `key:"free_percent" env:"VARAN_FREE_PERCENT" default:"5" min:"0" max:"100" reload:"static" doc:"no new orders are taken while less than this part of the disk with the state directory is free, and also less than free_mib; 0 is never"`
	FreeMiB        int           `key:"free_mib" env:"VARAN_FREE_MIB" default:"512" min:"0" max:"1048576" reload:"static" doc:"the same in MiB; 0 is never"`
	Log            LogSettings   `key:"log"`
}

// LogSettings say what is logged, and how.
type LogSettings struct {
	Level  string `key:"level" flag:"log-level" env:"VARAN_LOG_LEVEL" default:"info" enum:"debug,info,warn,error" reload:"static" doc:"least level that is logged"`
	Format string `key:"format" flag:"log-format" env:"VARAN_LOG_FORMAT" default:"text" enum:"text,json" reload:"static" doc:"form of the log"`
}

// config is what the settings say to an agent.
func (s *Settings) config(logger *slog.Logger) (agent.Config, error) {
	cfg := agent.Config{
		Cores: s.Cores, CorePublicKeys: s.CorePublicKeys, CAFile: s.CAFile, InsecureSkipVerify: s.InsecureSkip, Proxy: s.Proxy,
		OnboardingToken: s.OnboardingKey, Logger: logger, Version: buildinfo.Version(), Drain: s.Drain, HealAfter: s.HealAfter,
		LowDisk: diskspace.Limit{Percent: s.FreePercent, MiB: s.FreeMiB},
	}
	if cfg.Listen.Address = s.listenAddress(); cfg.Listen.Address != "" {
		cfg.Listen.Allowed, cfg.Listen.Plain = s.AllowedIPs, !s.ListenTLS
		cfg.Listen.CertFile, cfg.Listen.KeyFile = s.ListenCertFile, s.ListenKeyFile
	}
	var err error
	if cfg.Dir, err = filepath.Abs(s.Dir); err != nil {
		return agent.Config{}, fmt.Errorf("state directory: %w", err)
	}
	cfg.Server, err = agent.ServerName(cfg.Dir, s.ConnectAs)
	return cfg, err
}

// listenAddress is where the agent listens, if it does. A port is opened for nobody who did
// not ask for one in so many words.
func (s *Settings) listenAddress() string {
	if s.Listen == "" && s.ServerEnabled {
		return net.JoinHostPort(strings.Trim(s.BindIP, "[]"), strconv.Itoa(s.Port))
	}
	return s.Listen
}

// loadPolicy reads what this host lets core do. Without a file that is nothing special.
func (s *Settings) loadPolicy() (policy.Policy, error) {
	p, err := policy.Load(cmp.Or(s.Policy, policy.DefaultPath))
	if s.Policy == "" && errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return p, fmt.Errorf("policy: %w", err)
	}
	if s.SecretsFile != "" {
		if err := p.LoadSecrets(s.SecretsFile); err != nil {
			return p, fmt.Errorf("secrets file: %w", err)
		}
	}
	return p, nil
}
