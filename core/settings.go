package core

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/varanhq/varan/core/web"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/fleet/schedule"
	"github.com/varanhq/varan/internal/network"
	"github.com/varanhq/varan/internal/settings"
	"github.com/varanhq/varan/sync/sops"
)

// Settings are all settings of a core; docs/configuration.md is made from the tags. What is
// dynamic is read from the snapshot at every use, never kept.
type Settings struct {
	Dir           string             `key:"dir" flag:"dir" env:"VARAN_DIR" reload:"static" doc:"data directory"`
	Listen        string             `key:"listen" flag:"listen" env:"VARAN_LISTEN" reload:"static" doc:"address to serve on, instead of [[listeners]]; 127.0.0.1:9120 if neither is there"`
	AddrFile      string             `key:"addr_file" flag:"addr-file" env:"VARAN_ADDR_FILE" reload:"static" doc:"write the address that is served to this file once it is"`
	LocalRoots    []string           `key:"local_roots" flag:"local-root" env:"VARAN_LOCAL_ROOTS" split:"path" reload:"static" doc:"directory below which repositories on this disk may be used as sources"`
	AgentBinaries string             `key:"agent_binaries" flag:"agent-binaries" env:"VARAN_AGENT_BINARIES" reload:"static" doc:"directory with the agents' programs of a release, for new hosts to fetch; hosts of core's own platform get core's own program without it"`
	Listeners     []ListenerSettings `key:"listeners" reload:"static"`
	Timezone      string             `key:"timezone" flag:"timezone" env:"VARAN_TIMEZONE" reload:"dynamic" doc:"time zone of schedules that name none, such as Europe/Berlin; empty is the machine's"`
	Log           LogSettings        `key:"log"`
	Webhook       WebhookSettings    `key:"webhook"`
	Limits        LimitSettings      `key:"limits"`
	Auth          AuthSettings       `key:"auth"`
	Alerts        AlertSettings      `key:"alerts"`
	HTTP          HTTPSettings       `key:"http"`
	History       HistorySettings    `key:"history"`
	Updates       UpdateSettings     `key:"updates"`
	SOPS          SOPSSettings       `key:"sops"`
	Backup        BackupSettings     `key:"backup"`
}

// LogSettings say what is logged, and how.
type LogSettings struct {
	Level  string `key:"level" flag:"log-level" env:"VARAN_LOG_LEVEL" default:"info" enum:"debug,info,warn,error" reload:"dynamic" doc:"least level that is logged"`
	Format string `key:"format" flag:"log-format" env:"VARAN_LOG_FORMAT" default:"text" enum:"text,json" reload:"static" doc:"form of the log"`
}

// SlogLevel is the level as the logger has it.
func (s LogSettings) SlogLevel() slog.Level {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.Level)) // the table allows no other words
	return level
}

// WebhookSettings are about the webhooks of Git hosts.
type WebhookSettings struct {
	Secret        fleet.Secret `key:"secret" fileflag:"webhook-secret-file" env:"VARAN_WEBHOOK_SECRET" reload:"dynamic" doc:"secret for webhooks of declared resources that have none of their own"`
	IDs           []string     `key:"ids" env:"VARAN_WEBHOOK_IDS" reload:"dynamic" doc:"names of the resources whose webhooks carry an id of Komodo's database in their address, as ID=NAME"`
	PerMinute     int          `key:"per_minute" env:"VARAN_WEBHOOK_PER_MINUTE" default:"60" min:"1" max:"100000" reload:"dynamic" doc:"deliveries a minute that one webhook may have"`
	TotalMinute   int          `key:"total_per_minute" env:"VARAN_WEBHOOK_TOTAL_PER_MINUTE" default:"600" min:"1" max:"1000000" reload:"dynamic" doc:"deliveries a minute that all webhooks together may have"`
	RefusedMinute int          `key:"refused_per_minute" env:"VARAN_WEBHOOK_REFUSED_PER_MINUTE" default:"30" min:"1" max:"100000" reload:"dynamic" doc:"refused deliveries a minute from one address that are answered with the reason"`
}

// NameOf is the name of the resource with that id; empty when it is none of those listed.
func (s *WebhookSettings) NameOf(id string) string {
	for _, text := range s.IDs {
		if known, name, _ := strings.Cut(text, "="); known == id {
			return name
		}
	}
	return ""
}

// LimitSettings bound what callers that are not known yet may cost.
type LimitSettings struct {
	Handshakes       int           `key:"handshakes" env:"VARAN_LIMITS_HANDSHAKES" default:"256" min:"1" max:"100000" reload:"dynamic" doc:"handshakes of agents under way at one time"`
	HandshakesPerNet int           `key:"handshakes_per_network" env:"VARAN_LIMITS_HANDSHAKES_PER_NETWORK" default:"16" min:"1" max:"100000" reload:"dynamic" doc:"those of one /24, or /56 of IPv6"`
	Connections      int           `key:"connections_per_address" env:"VARAN_LIMITS_CONNECTIONS_PER_ADDRESS" default:"4096" min:"1" max:"1000000" reload:"dynamic" doc:"connections that one address may have, over all listeners; trusted proxies have no limit"`
	FreePercent      int           `key:"free_percent" env:"VARAN_LIMITS_FREE_PERCENT" default:"5" min:"0" max:"100" reload:"dynamic" doc:"nothing new begins while less than this part of the disk with the data directory is free, and also less than free_mib; 0 is never"`
	FreeMiB          int           `key:"free_mib" env:"VARAN_LIMITS_FREE_MIB" default:"512" min:"0" max:"1048576" reload:"dynamic" doc:"the same in MiB; 0 is never"`
	AgentTimeout     time.Duration `key:"agent_timeout" env:"VARAN_LIMITS_AGENT_TIMEOUT" default:"75s" min:"30s" reload:"static" doc:"how long an agent may be silent before it counts as gone"`
}

// AuthSettings are about callers of the API.
type AuthSettings struct {
	Failures      int `key:"failures_per_minute" env:"VARAN_AUTH_FAILURES_PER_MINUTE" default:"5" min:"1" max:"100000" reload:"dynamic" doc:"failed logins a minute from one address that are told from too many"`
	FailuresTotal int `key:"failures_total_per_minute" env:"VARAN_AUTH_FAILURES_TOTAL_PER_MINUTE" default:"100" min:"1" max:"1000000" reload:"dynamic" doc:"those from all addresses"`
}

// AlertSettings are about alerts as a whole; alerters are resources.
type AlertSettings struct {
	Every time.Duration `key:"every" env:"VARAN_ALERTS_EVERY" default:"15s" min:"1s" max:"1h" reload:"static" doc:"how often it is looked for what is the matter"`
}

// HistorySettings say for how long what happened is kept; zero keeps it for ever.
type HistorySettings struct {
	Events time.Duration `key:"events" env:"VARAN_HISTORY_EVENTS" default:"90d" min:"0s" reload:"dynamic" doc:"how long syncs, plans, runs, ops, webhooks, procedures and alerts stay in the history, and how the stacks were; 0 is for ever"`
	Audit  time.Duration `key:"audit" env:"VARAN_HISTORY_AUDIT" default:"365d" min:"0s" reload:"dynamic" doc:"how long logins, keys, servers, variables and decisions of people stay in it; 0 is for ever"`
	Logs   time.Duration `key:"logs" env:"VARAN_HISTORY_LOGS" default:"14d" min:"0s" reload:"dynamic" doc:"how long what was said during a deploy is kept; 0 is for ever"`
}

// HTTPSettings are about what stands between core and its callers.
type HTTPSettings struct {
	TrustedProxies []Network     `key:"trusted_proxies" env:"VARAN_TRUSTED_PROXIES" reload:"dynamic" doc:"networks of reverse proxies whose X-Forwarded-For is believed"`
	DrainTimeout   time.Duration `key:"drain" env:"VARAN_DRAIN" default:"10s" min:"0s" max:"30s" reload:"static" doc:"how long a core that stops waits for what is under way"`
}

// UpdateSettings are about asking image registries what is new.
type UpdateSettings struct {
	RequestsPerHour    int      `key:"requests_per_hour" env:"VARAN_UPDATES_REQUESTS_PER_HOUR" default:"200" min:"1" max:"100000" reload:"dynamic" doc:"requests an hour to one image registry, when it is looked for newer images"`
	InsecureRegistries []string `key:"insecure_registries" env:"VARAN_UPDATES_INSECURE_REGISTRIES" reload:"dynamic" doc:"image registries that are asked without encryption, such as registry.lan:5000; those on loopback always are"`
}

// Network is a prefix of addresses, or a single address.
type Network struct{ netip.Prefix }

// UnmarshalText accepts "10.0.0.0/8" as well as "10.0.0.5".
func (n *Network) UnmarshalText(text []byte) error {
	prefix, err := network.Parse(string(text))
	if err != nil {
		return errors.New("not an address like 10.0.0.5 nor a network like 10.0.0.0/8")
	}
	n.Prefix = prefix
	return nil
}

// BackupSettings are about backups of core itself.
type BackupSettings struct {
	Recipients []string `key:"recipients" env:"VARAN_BACKUP_RECIPIENTS" reload:"dynamic" doc:"age recipients, or SSH public keys, that backups are encrypted for; without any, none is made"`
	Dir        string   `key:"dir" env:"VARAN_BACKUP_DIR" reload:"dynamic" doc:"directory of the backups; backups in the data directory if empty"`
	Keep       int      `key:"keep" env:"VARAN_BACKUP_KEEP" default:"14" min:"1" max:"10000" reload:"dynamic" doc:"how many backups are kept"`
}

// SOPSSettings name the private keys for encrypted files of the repositories.
type SOPSSettings struct {
	Age          []string `key:"age_key_files" flag:"sops-age-key-file" reload:"static" doc:"file of age identities, or an SSH key, for a tier, as TIER=FILE"`
	PGP          []string `key:"pgp_key_files" flag:"sops-pgp-key-file" reload:"static" doc:"armoured PGP private key for a tier, as TIER=FILE"`
	AgeTrusted   []string `key:"age_key_files_trusted" env:"VARAN_SOPS_AGE_KEY_FILE_TRUSTED" split:"path" reload:"static" doc:"age key files of the tier trusted"`
	AgeUntrusted []string `key:"age_key_files_untrusted" env:"VARAN_SOPS_AGE_KEY_FILE_UNTRUSTED" split:"path" reload:"static" doc:"age key files of the tier untrusted"`
	PGPTrusted   []string `key:"pgp_key_files_trusted" env:"VARAN_SOPS_PGP_KEY_FILE_TRUSTED" split:"path" reload:"static" doc:"PGP key files of the tier trusted"`
	PGPUntrusted []string `key:"pgp_key_files_untrusted" env:"VARAN_SOPS_PGP_KEY_FILE_UNTRUSTED" split:"path" reload:"static" doc:"PGP key files of the tier untrusted"`
}

// KeyFiles sorts the key files by tier.
func (s *SOPSSettings) KeyFiles() KeyFiles {
	byTier := func(trusted, untrusted, written []string) map[fleet.Tier][]string {
		out := map[fleet.Tier][]string{}
		add := func(tier fleet.Tier, names ...string) {
			if len(names) > 0 {
				out[tier] = append(out[tier], names...)
			}
		}
		add(fleet.TierTrusted, trusted...)
		add(fleet.TierUntrusted, untrusted...)
		for _, text := range written {
			tier, name, _ := strings.Cut(text, "=")
			add(fleet.Tier(tier), name)
		}
		return out
	}
	return KeyFiles{Age: byTier(s.AgeTrusted, s.AgeUntrusted, s.Age), PGP: byTier(s.PGPTrusted, s.PGPUntrusted, s.PGP)}
}

// minHookSecret is the least length of a webhook's secret.
const minHookSecret = 8

func (s *Settings) checkWebhook(fail func(key, hint, format string, args ...any)) {
	if secret := s.Webhook.Secret.Reveal(); secret != "" && len(secret) < minHookSecret {
		fail("webhook.secret", "", "the webhook secret is shorter than %d characters", minHookSecret)
	}
	for _, text := range s.Webhook.IDs {
		if id, name, _ := strings.Cut(text, "="); !web.KomodoID(id) || name == "" {
			fail("webhook.ids", "copy the id out of the webhook's address", "%q is not ID=NAME, with an id of 24 digits and letters a to f", text)
		}
	}
}

// Check implements settings.Checker.
func (s *Settings) Check() []settings.Fault {
	var found []settings.Fault
	fail := func(key, hint, format string, args ...any) {
		found = append(found, settings.Fault{Key: key, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	if _, err := schedule.Parse(schedule.English, "daily", s.Timezone); err != nil {
		found = append(found, settings.Fault{Key: "timezone", Message: err.Error(), Hint: "use a name of the IANA, such as Europe/Berlin or UTC"})
	}
	s.checkWebhook(fail)
	for key, files := range map[string][]string{"sops.age_key_files": s.SOPS.Age, "sops.pgp_key_files": s.SOPS.PGP} {
		for _, text := range files {
			tier, name, _ := strings.Cut(text, "=")
			if name == "" || tier != string(fleet.TierTrusted) && tier != string(fleet.TierUntrusted) {
				fail(key, "", "%q is not TIER=FILE, with the tier trusted or untrusted", text)
			}
		}
	}
	for _, recipient := range s.Backup.Recipients {
		if err := sops.CheckAgeRecipient(recipient); err != nil {
			fail("backup.recipients", "varan key age generate --file backup.key prints one", "an age recipient %v", err)
		}
	}
	found = append(found, s.checkListeners()...)
	for _, prefix := range s.HTTP.TrustedProxies {
		if prefix.Bits() == 0 {
			fail("http.trusted_proxies", "name the addresses of the proxies themselves", "%s believes the X-Forwarded-For of everybody", prefix.Prefix)
		}
	}
	return found
}
