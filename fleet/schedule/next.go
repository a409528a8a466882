package schedule

import (
	"math/bits"
	"slices"
	"time"
)

// horizon is how many years ahead a day is looked for: a Monday the 29th of February can be
// 40 years away, when a century without a leap day is between.
const horizon = 41

// Next is the first time of the schedule after a moment; ok is false when there is none.
//
// A time that the clocks skip counts once, at the end of what they skip; one that they show
// twice counts once, the first time. A schedule that names no hour, like every 5 minutes,
// goes by what the clocks show.
func (s Schedule) Next(after time.Time) (next time.Time, ok bool) {
	zone := s.Zone()
	after = after.Truncate(time.Second)
	if s.Clockwork() {
		return s.nextShown(after, zone)
	}
	wall := asShown(after.In(zone))
	for {
		wall, ok = s.naive(wall.Add(time.Second))
		if !ok {
			return time.Time{}, false
		}
		if next = moment(wall, zone); next.After(after) {
			return next, true
		}
	}
}

// nextShown is Next for a schedule that goes by what the clocks show.
func (s Schedule) nextShown(after time.Time, zone *time.Location) (time.Time, bool) {
	for at := after.Add(time.Second).In(zone); ; {
		wall, ok := s.naive(asShown(at))
		if !ok {
			return time.Time{}, false
		}
		// The same offset holds until the clocks change; then it is looked at again from there.
		next := at.Add(wall.Sub(asShown(at)))
		_, end := at.ZoneBounds()
		if end.IsZero() || next.Before(end) {
			return next, true
		}
		at = end
	}
}

// asShown is the time that a clock shows, as if it were UTC.
func asShown(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.Add(time.Duration(offset) * time.Second).UTC()
}

// shift is more than clocks were ever moved at once.
const shift = 26 * time.Hour

// moment is when clocks in a zone first show a time, or, when they skip it, when they first
// show a later one.
func moment(wall time.Time, zone *time.Location) time.Time {
	t := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, zone)
	start, _ := t.ZoneBounds()
	if asShown(t).Equal(wall) && (start.IsZero() || t.Sub(start) > shift) {
		return t
	}
	at := t.Add(-shift)
	for {
		_, end := at.ZoneBounds()
		_, offset := at.Zone()
		shown := wall.Add(-time.Duration(offset) * time.Second)
		if end.IsZero() || shown.Before(end) {
			if shown.Before(at) { // skipped: the clocks began here with a later time
				return at
			}
			return shown.In(zone)
		}
		at = end
	}
}

// naive is the first time of the schedule from a moment on, on clocks that never change.
func (s Schedule) naive(from time.Time) (time.Time, bool) {
	second := from.Hour()*3600 + from.Minute()*60 + from.Second()
	year, month, day := from.Date()
	for y := year; y <= year+horizon; y++ {
		for m := nextBit(s.months, int(month)); m > 0; m = nextBit(s.months, m+1) {
			if y != year || m != int(month) {
				day, second = 1, 0
			}
			first := weekdayOf(y, m)
			for length := daysIn(y, m); day <= length; day, second = day+1, 0 {
				if !s.hasDay(day, length, first) {
					continue
				}
				if at := s.timeFrom(second); at >= 0 {
					return time.Date(y, time.Month(m), day, 0, 0, at, 0, time.UTC), true
				}
			}
		}
		month, day, second = 1, 1, 0
	}
	return time.Time{}, false
}

// nextBit is the first bit that is set, from low on, or -1.
func nextBit(set uint64, low int) int {
	rest := set >> low << low
	if low > 63 || rest == 0 {
		return -1
	}
	return bits.TrailingZeros64(rest)
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

func weekdayOf(year, month int) int {
	return int(time.Date(year, time.Month(month), 1, 0, 0, 0, 0, time.UTC).Weekday())
}

// hasDay reports whether a day of a month counts whose first is that weekday.
func (s Schedule) hasDay(day, length, first int) bool {
	switch {
	case s.days.any && s.weeks.any:
		return true
	case s.either && !s.days.any && !s.weeks.any:
		return s.days.has(day, length, first) || s.weeks.has(day, length, first)
	}
	return s.days.has(day, length, first) && s.weeks.has(day, length, first)
}

func (d days) has(day, length, first int) bool {
	switch {
	case d.any || d.on>>day&1 == 1 || d.last && day == length:
		return true
	case d.lastWorkday && day == nearest(length, length, first):
		return true
	}
	for near := nextBit(d.near, 1); near > 0 && near <= length; near = nextBit(d.near, near+1) {
		if day == nearest(near, length, first) {
			return true
		}
	}
	return false
}

// nearest is the workday nearest to a day, in the same month.
func nearest(day, length, first int) int {
	switch (first + day - 1) % 7 {
	case int(time.Saturday):
		if day == 1 {
			return day + 2
		}
		return day - 1
	case int(time.Sunday):
		if day == length {
			return day - 2
		}
		return day + 1
	}
	return day
}

func (w weekdays) has(day, length, first int) bool {
	weekday := (first + day - 1) % 7
	if w.any || w.on>>weekday&1 == 1 {
		return true
	}
	nth := w.nth[weekday]
	return nth>>((day-1)/7+1)&1 == 1 || nth&1 == 1 && day+7 > length
}

// timeFrom is the first time of a day from a second of it on, or -1.
func (s Schedule) timeFrom(second int) int {
	if !s.bounded {
		return s.chosenFrom(second)
	}
	if s.from <= s.to {
		at := s.chosenFrom(max(second, s.from))
		if at > s.to {
			return -1
		}
		return at
	}
	if at := s.chosenFrom(second); at >= 0 && at <= s.to {
		return at
	}
	return s.chosenFrom(max(second, s.from))
}

// chosenFrom is timeFrom without regard to bounds.
func (s Schedule) chosenFrom(second int) int {
	if s.listed != nil {
		i, _ := slices.BinarySearch(s.listed, second)
		if i == len(s.listed) {
			return -1
		}
		return s.listed[i]
	}
	if second >= everyDay {
		return -1
	}
	hour, minute, rest := second/3600, second/60%60, second%60
	for h := nextBit(s.hours, hour); h >= 0; h = nextBit(s.hours, h+1) {
		if h > hour {
			minute, rest = 0, 0
		}
		for m := nextBit(s.minutes, minute); m >= 0; m = nextBit(s.minutes, m+1) {
			if h > hour || m > minute {
				rest = 0
			}
			if at := nextBit(s.seconds, rest); at >= 0 {
				return h*3600 + m*60 + at
			}
		}
	}
	return -1
}

// Note says what a change of the clocks did to a time that Next gave; empty for nothing.
func (s Schedule) Note(at time.Time) string {
	if s.Clockwork() {
		return ""
	}
	at = at.In(s.Zone())
	start, end := at.ZoneBounds()
	_, offset := at.Zone()
	if at.Equal(start) {
		_, before := start.Add(-time.Second).Zone()
		if skipped := time.Duration(offset-before) * time.Second; skipped > 0 {
			shown := asShown(at)
			from := shown.Add(-skipped)
			if wall, ok := s.naive(from); ok && wall.Before(shown) {
				return "the clocks skip " + from.Format("15:04") + " to " + shown.Format("15:04") + ": it runs at the end of that"
			}
		}
	}
	if !end.IsZero() {
		_, after := end.Zone()
		if repeated := time.Duration(offset-after) * time.Second; repeated > 0 && !at.Before(end.Add(-repeated)) {
			return "the clocks show this time twice: it runs the first time"
		}
	}
	return ""
}
