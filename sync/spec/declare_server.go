package spec

import "github.com/varanhq/varan/fleet"

// Server is a [[server]] table.
//
// Komodo's default for `enabled` is false, which fits a server that core dials. Here an
// agent usually dials core, and its server has no `address`: then an absent `enabled`
// counts as true, and a note with the rule server-enabled-default says so. With an
// address, the default stays false. An explicit value is always taken.
//
// The tags trusted, untrusted, tier:trusted and tier:untrusted set the tier.
type Server struct {
	Common
	Config ServerConfig

	marks
}

// ServerConfig is [server.config].
type ServerConfig struct {
	Address         string       `key:"address" doc:"Address at which core dials the agent, such as https://10.0.0.5:8120. Empty: the agent dials core."`
	InsecureTLS     bool         `key:"insecure_tls" default:"true" doc:"Do not check the certificate when core dials the agent: its key is checked either way."`
	ExternalAddress string       `key:"external_address" doc:"Address shown in links."`
	Region          string       `key:"region" later:"true" doc:"A label for people."`
	Enabled         bool         `key:"enabled" doc:"Whether the server takes part. Absent counts as true unless address is set."`
	Tier            fleet.Tier   `key:"tier" default:"trusted" enum:"trusted,untrusted" doc:"How far the server is trusted with secrets and settings."`
	AutoRotateKeys  bool         `key:"auto_rotate_keys" default:"true" doc:"Take part when all server keys are rotated."`
	Passkey         fleet.Secret `key:"passkey" moot:"agents prove who they are with keys, also when core dials them: varan server accept shows and accepts the key" doc:"Deprecated way of proving who the agent is."`
	IgnoreMounts    []string     `key:"ignore_mounts" later:"true" doc:"Mounts left out of disk statistics."`
	AutoPrune       bool         `key:"auto_prune" default:"true" later:"true" doc:"Remove unused images every day."`
	Links           []string     `key:"links" doc:"Quick links."`
	StatsMonitoring bool         `key:"stats_monitoring" default:"true" later:"true" doc:"Record system statistics."`

	SendUnreachableAlerts     bool    `key:"send_unreachable_alerts" default:"true" doc:"Alert when the server cannot be reached."`
	SendCPUAlerts             bool    `key:"send_cpu_alerts" default:"true" later:"true" doc:"Alert on processor load."`
	SendMemAlerts             bool    `key:"send_mem_alerts" default:"true" later:"true" doc:"Alert on memory use."`
	SendDiskAlerts            bool    `key:"send_disk_alerts" default:"true" later:"true" doc:"Alert on disk use."`
	SendVersionMismatchAlerts bool    `key:"send_version_mismatch_alerts" default:"true" later:"true" doc:"Alert when the agent's version differs from core's."`
	CPUWarning                float64 `key:"cpu_warning" default:"90" later:"true" doc:"Percent of processor load that warns."`
	CPUCritical               float64 `key:"cpu_critical" default:"99" later:"true" doc:"Percent of processor load that is critical."`
	MemWarning                float64 `key:"mem_warning" default:"75" later:"true" doc:"Percent of memory that warns."`
	MemCritical               float64 `key:"mem_critical" default:"95" later:"true" doc:"Percent of memory that is critical."`
	DiskWarning               float64 `key:"disk_warning" default:"75" later:"true" doc:"Percent of a disk that warns."`
	DiskCritical              float64 `key:"disk_critical" default:"95" later:"true" doc:"Percent of a disk that is critical."`

	MaintenanceWindows []MaintenanceWindow `key:"maintenance_windows" doc:"Times without alerts."`

	_ struct{} `retired:"timeout_seconds" doc:"agents dial core"`
}

// Swarm is a [[swarm]] table. It is kept and not acted on.
type Swarm struct {
	Common
	Config SwarmConfig

	marks
}

// SwarmConfig is [swarm.config].
type SwarmConfig struct {
	Servers             []string            `key:"servers" old:"server_ids" doc:"Names of the manager nodes."`
	Links               []string            `key:"links" doc:"Quick links."`
	SendUnhealthyAlerts bool                `key:"send_unhealthy_alerts" default:"true" doc:"Alert when the swarm is unhealthy."`
	MaintenanceWindows  []MaintenanceWindow `key:"maintenance_windows" doc:"Times without alerts."`
}
