// Package alert tells people what is the matter: it watches servers, stacks, syncs and
// procedures, keeps what it found, and sends it through the alerters that are declared. A
// thing is told of once when it begins and once when it is over, not once a look. Sending
// has its own goroutines and bounded queues: an endpoint that does not answer delays nothing.
package alert

import (
	"slices"
	"time"

	"github.com/varanhq/varan/fleet"
)

// Level is how bad it is, in Komodo's words.
type Level string

// The levels.
const (
	LevelOK       Level = "OK"
	LevelWarning  Level = "WARNING"
	LevelCritical Level = "CRITICAL"
)

// Alert is one thing that people are told.
type Alert struct {
	// ID is the store's; Key names what is the matter, so that it is told once. An alert
	// without a key is about something that is over as it is told.
	ID    int64
	Key   string
	Type  fleet.AlertType
	Level Level
	// Target is what it is about; Server, where it is about something on one.
	Target fleet.ResourceName
	Server string
	// Text is a sentence, Data the particulars by Komodo's names for them.
	Text     string
	Data     map[string]any
	At       time.Time
	Resolved time.Time
}

// over reports whether the matter is over.
func (a Alert) over() bool { return !a.Resolved.IsZero() }

// wants reports whether an alerter is to send an alert now.
func wants(to fleet.Alerter, a Alert, now time.Time, local *time.Location) bool {
	if !to.Enabled || quietAt(to.Maintenance, now, local) {
		return false
	}
	if len(to.Types) > 0 && !contains(to.Types, a.Type) {
		return false
	}
	if a.Type == fleet.AlertTest || a.Type == fleet.AlertCustom {
		return true
	}
	if named(to.Except, a.Target) {
		return false
	}
	return len(to.Resources) == 0 || named(to.Resources, a.Target)
}

func contains(types []string, typ fleet.AlertType) bool {
	return slices.Contains(types, string(typ))
}

func named(list []fleet.ResourceName, target fleet.ResourceName) bool {
	return slices.Contains(list, target)
}
