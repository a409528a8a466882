package alert

import (
	"strings"
	"time"

	"github.com/varanhq/varan/fleet"
)

// quietAt reports whether any window is open. local is the zone of those that name none.
func quietAt(windows []fleet.MaintenanceWindow, now time.Time, local *time.Location) bool {
	for i := range windows {
		if open(&windows[i], now, local) {
			return true
		}
	}
	return false
}

// open reports whether a window is open. Windows begin at a time of day in their zone and
// last for minutes that really pass, over midnight and changes of the clock too.
func open(w *fleet.MaintenanceWindow, now time.Time, local *time.Location) bool {
	zone := local
	if w.Timezone != "" {
		var err error
		if zone, err = time.LoadLocation(w.Timezone); err != nil {
			return false // refused where it is declared
		}
	}
	lasts := time.Duration(w.Minutes) * time.Minute
	at := now.In(zone)
	// A window may have begun days ago.
	for back := range int(lasts/(24*time.Hour)) + 2 {
		day := at.AddDate(0, 0, -back)
		begins := time.Date(day.Year(), day.Month(), day.Day(), w.Hour, w.Minute, 0, 0, zone)
		if on(w, begins) && !now.Before(begins) && now.Before(begins.Add(lasts)) {
			return true
		}
	}
	return false
}

// on reports whether a window begins on a day.
func on(w *fleet.MaintenanceWindow, day time.Time) bool {
	switch w.Schedule {
	case fleet.WindowWeekly:
		return strings.EqualFold(day.Weekday().String(), w.DayOfWeek)
	case fleet.WindowOneTime:
		return day.Format(time.DateOnly) == w.Date
	case fleet.WindowDaily:
	}
	return true
}
