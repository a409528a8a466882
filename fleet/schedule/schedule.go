// Package schedule says when things happen: times in plain English or as cron, in a time
// zone, with its own idea of what a change of the clocks does to them. It is pure: it reads
// no clock, and of the machine only its time zones.
package schedule

import (
	"fmt"
	"math/bits"
	"strings"
	"sync"
	"time"
)

// The formats of Parse.
const (
	English = "English"
	Cron    = "Cron"
)

// MinInterval is the least time between two starts of a procedure by its schedule. A schedule
// may name more times than that; whoever runs it leaves out those in between.
const MinInterval = time.Minute

// Error is what is wrong with the text of a schedule.
type Error struct {
	// Offset is where in the text, in bytes.
	Offset int
	// Zone says that it is not the text but the time zone.
	Zone    bool
	Message string
	// Hint says what would be right.
	Hint string
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Schedule is times without end: those of a day, on some days. The zero Schedule has none.
type Schedule struct { //nolint:recvcheck // only the parsers set it; copies answer too
	text string
	zone *time.Location

	// The times of a day are those at one of each of these, or exactly listed, in seconds.
	seconds, minutes, hours uint64
	listed                  []int
	// from and to, when set, leave the times between them, both included; past midnight when
	// to is before from.
	bounded  bool
	from, to int

	months uint64
	days   days
	weeks  weekdays
	// either lets a day of the month or a weekday be enough where both are chosen: cron's five
	// fields. Otherwise a day must be both.
	either bool
}

// days are days of the month.
type days struct {
	any bool
	// on are days by number, near those whose nearest workday is meant.
	on, near uint64
	// last is the last day, lastWorkday the last from Monday to Friday.
	last, lastWorkday bool
}

// weekdays are days of the week.
type weekdays struct {
	any bool
	on  uint64
	// nth are the first to fifth of a weekday in the month, by bit; bit 0 is the last.
	nth [7]uint64
}

// all has the bits from low to high.
func all(low, high int) uint64 { return (1<<(high-low+1) - 1) << low }

const everyDay = 24 * 60 * 60

var (
	allMinutes          = all(0, 59)
	allHours, allMonths = all(0, 23), all(1, 12)
	workdays            = all(1, 5)
)

// Parse reads a schedule in one of the formats; an empty one is English. zone names a time
// zone of the IANA; empty is UTC. An error is an *Error.
func Parse(format, text, zone string) (Schedule, error) {
	loc, err := location(zone)
	if err != nil {
		return Schedule{}, err
	}
	var s Schedule
	switch {
	case format != "" && format != English && format != Cron:
		return s, &Error{Message: fmt.Sprintf("there is no format %q", format), Hint: "write English or Cron"}
	case len(text) > maxText:
		return s, &Error{Message: "it is longer than any schedule", Hint: examples}
	case format == Cron || strings.HasPrefix(strings.TrimSpace(text), "@"):
		err = parseCron(&s, text)
	default:
		err = parseEnglish(&s, text)
	}
	if err != nil {
		return Schedule{}, err
	}
	s.text, s.zone = strings.TrimSpace(text), loc
	if _, ok := s.naive(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)); !ok {
		return Schedule{}, &Error{
			Offset: len(text) - len(strings.TrimLeft(text, " \t")), Message: "there is no such day, so it never fires",
			Hint: "see which days its months have",
		}
	}
	return s, nil
}

// maxText bounds the text of a schedule.
const maxText = 1024

const examples = `write it like "every day at 06:00", "every 5 minutes" or "every monday and friday at 9:30 pm"`

// zones are the locations that were read, by name: reading one opens a file.
var zones sync.Map

func location(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	if known, ok := zones.Load(name); ok {
		return known.(*time.Location), nil //nolint:forcetypeassert // nothing else is stored
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, &Error{
			Zone: true, Message: fmt.Sprintf("there is no time zone %q", name),
			Hint: "use a name of the IANA: Europe/Berlin, America/New_York or UTC",
		}
	}
	zones.Store(name, loc)
	return loc, nil
}

// String is the text that the schedule was read from.
func (s Schedule) String() string { return s.text }

// Zone is the time zone of the schedule.
func (s Schedule) Zone() *time.Location {
	if s.zone == nil {
		return time.UTC
	}
	return s.zone
}

// Following is the first time after one that was dealt with at which there is to be a run: Next,
// but for the times that come too soon.
func (s Schedule) Following(at time.Time) (time.Time, bool) {
	if s.Hasty() {
		at = at.Add(MinInterval - time.Second)
	}
	return s.Next(at)
}

// Hasty reports whether times of the schedule are closer to each other than MinInterval.
func (s Schedule) Hasty() bool {
	if s.listed != nil {
		for i := range s.listed[1:] {
			if s.listed[i+1]-s.listed[i] < int(MinInterval/time.Second) {
				return true
			}
		}
		return false
	}
	return bits.OnesCount64(s.seconds) > 1
}

// Clockwork reports whether the schedule names no hour: it then follows elapsed time rather
// than the times that a clock shows, and a change of the clocks neither adds nor drops a run.
func (s Schedule) Clockwork() bool { return s.listed == nil && s.hours == allHours && !s.bounded }
