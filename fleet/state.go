package fleet

// SyncState says whether what runs is what Git says.
type SyncState string

// The sync axis.
const (
	Synced      SyncState = "Synced"
	OutOfSync   SyncState = "OutOfSync"
	SyncBlocked SyncState = "Blocked"
	SyncUnknown SyncState = "Unknown"
)

// HealthState says whether what runs is well. It never mixes with SyncState.
type HealthState string

// The health axis.
const (
	Healthy       HealthState = "Healthy"
	Progressing   HealthState = "Progressing"
	Degraded      HealthState = "Degraded"
	Missing       HealthState = "Missing"
	Suspended     HealthState = "Suspended"
	HealthUnknown HealthState = "Unknown"
)
