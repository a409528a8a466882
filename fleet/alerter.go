package fleet

// Alerter is an [[alerter]]: a place that alerts are sent to, and which.
type Alerter struct {
	Name     string   `json:"name"`
	Tags     []string `json:"tags,omitempty"`
	Enabled  bool     `json:"enabled"`
	Endpoint Endpoint `json:"endpoint"`
	// Types are the types of alert to send; empty is all.
	Types []string `json:"types,omitempty"`
	// Resources are those that alerts may be about, empty is all; Except are those they may
	// not be about.
	Resources []ResourceName `json:"resources,omitempty"`
	Except    []ResourceName `json:"except,omitempty"`
	// Maintenance are times in which nothing is sent.
	Maintenance []MaintenanceWindow `json:"maintenance,omitempty"`
	Origin      Position            `json:"origin,omitzero"`
}

// EndpointType is the protocol of an endpoint.
type EndpointType string

// The endpoint types, as resource files write them.
const (
	EndpointCustom   EndpointType = "Custom"
	EndpointSlack    EndpointType = "Slack"
	EndpointDiscord  EndpointType = "Discord"
	EndpointNtfy     EndpointType = "Ntfy"
	EndpointPushover EndpointType = "Pushover"
)

// Endpoint is where alerts go.
type Endpoint struct {
	Type EndpointType `json:"type"`
	// URL nearly always holds a token.
	URL Secret `json:"-"`
	// Email is where ntfy sends a copy.
	Email string `json:"email,omitempty"`
}

// ResourceName names a resource of a kind: "stack", "server", "resource_sync".
type ResourceName struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// AlertType is what an alert is about.
type AlertType string

// The types of alert. The first group are Komodo's, of which core sends those that it can
// know of; the second Varan's own.
const (
	AlertTest                      AlertType = "Test"
	AlertCustom                    AlertType = "Custom"
	AlertServerUnreachable         AlertType = "ServerUnreachable"
	AlertStackStateChange          AlertType = "StackStateChange"
	AlertContainerStateChange      AlertType = "ContainerStateChange"
	AlertPendingUpdates            AlertType = "ResourceSyncPendingUpdates"
	AlertProcedureFailed           AlertType = "ProcedureFailed"
	AlertStackUpdateAvailable      AlertType = "StackImageUpdateAvailable"
	AlertStackAutoUpdated          AlertType = "StackAutoUpdated"
	AlertDeploymentUpdateAvailable AlertType = "DeploymentImageUpdateAvailable"
	AlertDeploymentAutoUpdated     AlertType = "DeploymentAutoUpdated"
	AlertScheduleRun               AlertType = "ScheduleRun"

	AlertStackDeployFailed AlertType = "StackDeployFailed"
	AlertStackRolledBack   AlertType = "StackRolledBack"
	AlertSyncFailed        AlertType = "SyncFailed"
	// AlertServerPending: a server joined and waits for approval.
	AlertServerPending AlertType = "ServerPending"
	// AlertOnboardingAbuse: somebody tries out an onboarding key.
	AlertOnboardingAbuse AlertType = "OnboardingAbuse"
	// AlertDuplicateIdentity: two agents seem to have the key of one server.
	AlertDuplicateIdentity AlertType = "DuplicateIdentity"
	// AlertKeyRotationFailed: the key of a server's agent was not changed.
	AlertKeyRotationFailed AlertType = "KeyRotationFailed"
	// AlertApprovalPending: a run of a procedure waits for somebody's approval.
	AlertApprovalPending AlertType = "ApprovalPending"
	// AlertDiskLow: the disk of core or of an agent's state is nearly full. Komodo's ServerDisk
	// is of the disks of a host, by its own thresholds.
	AlertDiskLow AlertType = "DiskLow"
	// AlertClock: the clock of core's host jumped, or was set back.
	AlertClock AlertType = "ClockChanged"
	// AlertBackupFailed: core was not backed up.
	AlertBackupFailed AlertType = "BackupFailed"
)

// AlertTypes are all types that a file may name, those that are never sent included.
func AlertTypes() []AlertType {
	return []AlertType{
		"None", AlertTest, AlertCustom, AlertServerUnreachable, "ServerCpu", "ServerMem", "ServerDisk", "ServerVersionMismatch",
		"SwarmUnhealthy", AlertContainerStateChange, AlertDeploymentUpdateAvailable, AlertDeploymentAutoUpdated,
		AlertStackStateChange, AlertStackUpdateAvailable, AlertStackAutoUpdated, "AwsBuilderTerminationFailed",
		AlertPendingUpdates, "BuildFailed", "RepoBuildFailed", AlertProcedureFailed, "ActionFailed", AlertScheduleRun,
		AlertStackDeployFailed, AlertStackRolledBack, AlertSyncFailed, AlertServerPending, AlertOnboardingAbuse,
		AlertKeyRotationFailed, AlertApprovalPending, AlertBackupFailed, AlertDuplicateIdentity, AlertDiskLow, AlertClock,
	}
}

// WindowSchedule is how a maintenance window repeats.
type WindowSchedule string

// The schedules of windows, as resource files write them.
const (
	WindowDaily   WindowSchedule = "Daily"
	WindowWeekly  WindowSchedule = "Weekly"
	WindowOneTime WindowSchedule = "OneTime"
)

// MaintenanceWindow is a time in which alerts are held back.
type MaintenanceWindow struct {
	Name     string         `json:"name,omitempty"`
	Schedule WindowSchedule `json:"schedule"`
	// DayOfWeek is of a weekly window, "Monday"; Date of one that is once, "2026-12-24".
	DayOfWeek string `json:"day_of_week,omitempty"`
	Date      string `json:"date,omitempty"`
	Hour      int    `json:"hour,omitempty"`
	Minute    int    `json:"minute,omitempty"`
	// Minutes is how long it lasts.
	Minutes int `json:"minutes"`
	// Timezone is an IANA name; empty is core's own.
	Timezone string `json:"timezone,omitempty"`
}
