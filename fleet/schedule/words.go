package schedule

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// maxTimes is how many times of a day are named one by one.
const maxTimes = 12

// Words says in English when it is. Parse reads most of what it says.
func (s Schedule) Words() string {
	if s.months == 0 {
		return "never"
	}
	when, repeated := s.timeWords()
	day := s.dayWords()
	switch {
	case day == "" && !repeated:
		when = "every day " + when
	case day != "":
		when += " " + day
	}
	if s.months != allMonths {
		when += " in " + list(s.months, func(n int) string { return time.Month(n).String() })
	}
	return when
}

// timeWords says which times of a day it is; repeated that they go on all day.
func (s Schedule) timeWords() (words string, repeated bool) {
	words, repeated = s.chosenWords()
	if s.bounded {
		words += " between " + clock(s.from) + " and " + clock(s.to)
	}
	return words, repeated
}

func (s Schedule) chosenWords() (words string, repeated bool) {
	if times := s.fewTimes(); len(times) > 0 && s.hours != allHours {
		return "at " + join(times), false
	}
	if every := s.everyMinutes(); every > 0 {
		return fmt.Sprintf("every %d minutes", every), true
	}
	second := ""
	if s.seconds != 1 {
		n, first := step(s.seconds, 59)
		switch {
		case n == 1:
			second = "every second"
		case n > 0 && first == 0:
			second = fmt.Sprintf("every %d seconds", n)
		default:
			second = "at " + plural("second", s.seconds)
		}
		if s.minutes == allMinutes && s.hours == allHours {
			return second, true
		}
		second += " of "
	}
	return second + s.minuteWords(second != ""), true
}

// minuteWords says which minutes of which hours.
func (s Schedule) minuteWords(of bool) string {
	minute := "at " + plural("minute", s.minutes)
	if of {
		minute = strings.TrimPrefix(minute, "at ")
	}
	n, first := step(s.minutes, 59)
	everyMinute := n > 0 && first == 0
	if everyMinute {
		minute = every(n, "minute")
	}
	n, first = step(s.hours, 23)
	switch {
	case s.hours == allHours && everyMinute:
		return minute
	case s.hours == allHours && s.minutes == 1 && !of:
		return "every hour"
	case s.hours == allHours:
		return minute + " of every hour"
	case n > 0 && s.minutes == 1 && !of && first == 0:
		return every(n, "hour")
	}
	return minute + " of " + plural("hour", s.hours)
}

func every(n int, unit string) string {
	if n == 1 {
		return "every " + unit
	}
	return fmt.Sprintf("every %d %ss", n, unit)
}

// everyMinutes is the time between the times of a day when they are listed and many.
func (s Schedule) everyMinutes() int {
	if len(s.listed) < 2 || s.listed[0] != 0 {
		return 0
	}
	gap := s.listed[1]
	for i, at := range s.listed {
		if at != i*gap {
			return 0
		}
	}
	if gap%60 != 0 || gap*len(s.listed) != everyDay {
		return 0
	}
	return gap / 60
}

// step is the distance between the values of a set that goes on evenly to its end and divides
// it; 0 if it is none.
func step(set uint64, high int) (n, first int) {
	first = nextBit(set, 0)
	second := nextBit(set, first+1)
	if first < 0 || second < 0 {
		return 0, first
	}
	n = second - first
	if (high+1)%n != 0 || set != steps(first, high, n) || first >= n {
		return 0, first
	}
	return n, first
}

// steps has every nth bit.
func steps(low, high, n int) (set uint64) {
	for i := low; i <= high; i += n {
		set |= 1 << i
	}
	return set
}

// fewTimes are the times of a day when they can be named one by one.
func (s Schedule) fewTimes() []string {
	if s.everyMinutes() > 0 || s.listed == nil && bits.OnesCount64(s.seconds)*bits.OnesCount64(s.minutes)*bits.OnesCount64(s.hours) > maxTimes {
		return nil
	}
	if n, first := step(s.hours, 23); s.listed == nil && n > 0 && first == 0 && s.minutes == 1 && s.seconds == 1 {
		return nil // every n hours
	}
	var times []string
	for at := s.chosenFrom(0); at >= 0; at = s.chosenFrom(at + 1) {
		times = append(times, clock(at))
	}
	return times
}

func clock(second int) string {
	text := fmt.Sprintf("%02d:%02d", second/3600, second/60%60)
	if second%60 != 0 {
		text += fmt.Sprintf(":%02d", second%60)
	}
	return text
}

// dayWords says which days; nothing when it is all of them.
func (s Schedule) dayWords() string {
	days, weeks := "", ""
	if !s.days.any {
		days = s.days.words()
	}
	if !s.weeks.any {
		weeks = s.weeks.words()
	}
	switch {
	case days == "" || weeks == "":
		return days + weeks
	case s.either:
		return days + ", and also " + weeks
	}
	return days + ", only " + weeks
}

func (d days) words() string {
	var which []string
	if d.on == all(1, 31) {
		which = append(which, "every day")
	} else {
		which = append(which, items(d.on, ordinal)...)
	}
	near := d.near
	if near>>1&1 == 1 {
		which, near = append(which, "first workday"), near&^2
	}
	which = append(which, items(near, func(n int) string { return "workday nearest to the " + ordinal(n) })...)
	if d.last {
		which = append(which, "last day")
	}
	if d.lastWorkday {
		which = append(which, "last workday")
	}
	return "on the " + join(which) + " of the month"
}

func (w weekdays) words() string {
	var which []string
	switch w.on {
	case 0:
	case workdays:
		which = append(which, "from Monday to Friday")
	default:
		which = append(which, "on "+list(mondayFirst(w.on), func(n int) string { return time.Weekday(n%7).String() + "s" }))
	}
	for day, nth := range w.nth {
		if nth == 0 {
			continue
		}
		names := items(nth&^1, ordinal)
		if nth&1 == 1 {
			names = append(names, "last")
		}
		which = append(which, fmt.Sprintf("on the %s %s of the month", join(names), time.Weekday(day)))
	}
	return join(which)
}

// mondayFirst puts Sunday after Saturday.
func mondayFirst(set uint64) uint64 { return set&^1 | set&1<<7 }

func ordinal(n int) string {
	switch {
	case n%10 == 1 && n != 11:
		return strconv.Itoa(n) + "st"
	case n%10 == 2 && n != 12:
		return strconv.Itoa(n) + "nd"
	case n%10 == 3 && n != 13:
		return strconv.Itoa(n) + "rd"
	}
	return strconv.Itoa(n) + "th"
}

func items(set uint64, name func(n int) string) (names []string) {
	for n := nextBit(set, 0); n >= 0; n = nextBit(set, n+1) {
		names = append(names, name(n))
	}
	return names
}

func list(set uint64, name func(n int) string) string { return join(items(set, name)) }

func plural(unit string, set uint64) string {
	if !single(set) {
		unit += "s"
	}
	return unit + " " + list(set, strconv.Itoa)
}

// join is "a", "a and b" or "a, b and c".
func join(parts []string) string {
	if len(parts) < 2 {
		return strings.Join(parts, "")
	}
	last := len(parts) - 1
	return strings.Join(parts[:last], ", ") + " and " + parts[last]
}
