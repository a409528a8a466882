package schedule

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var clockText = regexp.MustCompile(`^(\d{1,4})(?::(\d{1,4}))?(?::(\d{1,4}))?(am|pm)?$`)

const clockHint = "write a time of day as 06:00, 18:30, 6 am, 6:30 pm, noon or midnight"

// isTime reports whether a time of day is ahead.
func (p *english) isTime() bool {
	w := p.peek(0)
	if w.text == "noon" || w.text == "midnight" {
		return true
	}
	m := clockText.FindStringSubmatch(w.text)
	if m == nil {
		return false
	}
	return m[2] != "" || m[4] != "" || p.peek(1).text == "am" || p.peek(1).text == "pm"
}

// clock reads a time of day, in seconds of it.
func (p *english) clock() (int, error) {
	w := p.peek(0)
	p.next++
	switch w.text {
	case "noon":
		return everyDay / 2, nil
	case "midnight":
		return 0, nil
	}
	m := clockText.FindStringSubmatch(w.text)
	half := m[4]
	if half == "" && p.accept("am", "pm") {
		half = p.peek(-1).text
	}
	hour, _ := strconv.Atoi(m[1])
	minute, _ := strconv.Atoi(m[2])
	second, _ := strconv.Atoi(m[3])
	wrong := hour > 23 || minute > 59 || second > 59 || m[2] != "" && len(m[2]) != 2 || m[3] != "" && len(m[3]) != 2
	if half != "" {
		wrong = wrong || hour < 1 || hour > 12
		hour %= 12
		if half == "pm" {
			hour += 12
		}
	}
	if wrong {
		text := w.text
		if m[4] == "" && half != "" {
			text += " " + half
		}
		return 0, p.fail(w, clockHint, "%s is no time of day", text)
	}
	return hour*3600 + minute*60 + second, nil
}

// timeOfDay reads a time of day, or minutes of every hour.
func (p *english) timeOfDay() error {
	w := p.peek(0)
	switch {
	case p.accept("minute", "minutes"):
		return p.minutesOfHour()
	case strings.HasPrefix(w.text, ":") && isNumber(w.text[1:]):
		p.words[p.next].text = w.text[1:]
		return p.minutesOfHour()
	case !p.isTime() && isNumber(w.text):
		return p.fail(w, clockHint, "%s is no time of day", w.text)
	case !p.isTime():
		if clockText.MatchString(w.text) {
			return p.fail(w, clockHint, "%s is no time of day", w.text)
		}
		return p.unknown(w)
	}
	second, err := p.clock()
	if err != nil {
		return err
	}
	if !slices.Contains(p.times, second) {
		p.times = append(p.times, second)
	}
	p.timeAt = w
	return nil
}

// minutesOfHour reads "5, 25 and 45 of every hour".
func (p *english) minutesOfHour() error {
	for {
		w := p.peek(0)
		n, err := strconv.Atoi(w.text)
		if err != nil || n < 0 || n > 59 {
			return p.fail(w, "minutes are 0 to 59", "%q is no minute", w.text)
		}
		p.next++
		p.minutes |= 1 << n
		p.timeAt = w
		more := 0
		for p.peek(more).text == "," || p.peek(more).text == "and" {
			more++
		}
		if more == 0 || !isNumber(p.peek(more).text) || slices.Contains([]string{"am", "pm"}, p.peek(more+1).text) {
			break
		}
		p.next += more
	}
	if p.peek(0).text == "past" || p.peek(0).text == "of" {
		next := p.peek(1).text
		if units[next] == "hour" || (next == "the" || next == "every" || next == "each") && units[p.peek(2).text] == "hour" {
			p.next += 2
			if units[next] != "hour" {
				p.next++
			}
		}
	}
	return nil
}

// finish makes a schedule of what was read.
func (p *english) finish(s *Schedule) error {
	if err := p.finishTimes(s); err != nil {
		return err
	}
	if len(p.bounds) == 2 {
		s.bounded, s.from, s.to = true, p.bounds[0], p.bounds[1]
		if len(p.times) == 0 && p.unit.text == "" {
			return p.fail(p.words[0], `say how often, like "every 10 minutes"`, "it says between which times, and not how often")
		}
	}
	s.days, s.weeks, s.months = p.days, p.weeks, p.months
	noDays, noWeeks := p.days == (days{}), p.weeks == (weekdays{})
	switch {
	case p.everyN > 1 && (!noDays || !noWeeks):
		return p.fail(p.cadence, "name the days, or count them", "every %d days does not go with other days", p.everyN)
	case p.everyN > 1:
		s.days.on, noDays = steps(1, 31, p.everyN), false
	case !noDays && !noWeeks:
		return p.fail(p.words[0], `for "the first Monday of the month", put the one before the other`, "it names days of the month and weekdays")
	}
	// Of a week, a month or a year it is the first day, unless another is named.
	if p.unit.text == "" && noDays && noWeeks {
		switch p.cadence.text {
		case "week":
			s.weeks.on, noWeeks = 1, false
		case "year":
			if s.months == 0 {
				s.months = 1 << 1
			}
			s.days.on, noDays = 1<<1, false
		case "month":
			s.days.on, noDays = 1<<1, false
		}
	}
	if s.months == 0 {
		s.months = allMonths
	}
	s.days.any, s.weeks.any = noDays, noWeeks
	return nil
}

func (p *english) finishTimes(s *Schedule) error {
	s.seconds = 1
	if p.unit.text == "" && p.minutes != 0 {
		p.unit, p.count = word{"hour", p.timeAt.at}, 1
	}
	switch {
	case p.unit.text != "" && len(p.times) > 0:
		return p.fail(p.timeAt, "say one of the two", "it happens every so many %ss, and so at no time of the day", p.unit.text)
	case p.start >= 0 && p.unit.text != "hour":
		return p.fail(p.words[0], `write it like "every 6 hours starting at 01:00"`, "only hours are counted from a time")
	case p.unit.text == "":
		s.listed = p.times
		if s.listed == nil {
			s.listed = []int{0}
		}
		slices.Sort(s.listed)
		return nil
	}
	return p.interval(s)
}

// interval chooses the times of "every so many seconds, minutes or hours". They begin anew
// with each minute, hour or day, as in cron.
func (p *english) interval(s *Schedule) error {
	unit, n := p.unit.text, p.count
	if unit == "second" && n >= 60 && n%60 == 0 {
		unit, n = "minute", n/60
	}
	if unit == "minute" && n >= 60 && n%60 == 0 {
		unit, n = "hour", n/60
	}
	s.minutes, s.hours = allMinutes, allHours
	switch {
	case unit == "second" && n < 60:
		s.seconds = steps(0, 59, n)
	case unit == "minute" && n < 60:
		s.minutes = steps(0, 59, n)
	case unit == "minute" && 24*60%n == 0:
		for at := 0; at < everyDay; at += n * 60 {
			s.listed = append(s.listed, at)
		}
	case unit == "hour" && n <= 24:
		return p.hourly(s, n)
	default:
		return p.fail(p.unit, `use an interval that divides a day, or "every 2 days"`, "a day has no room for every %d %ss", p.count, p.unit.text)
	}
	if p.minutes != 0 {
		return p.fail(p.timeAt, "say one of the two", "it happens every %d %ss, and so at no minute of the hour", p.count, p.unit.text)
	}
	return nil
}

func (p *english) hourly(s *Schedule, n int) error {
	s.minutes, s.hours = 1, steps(0, 23, n)
	if p.minutes != 0 {
		s.minutes = p.minutes
	}
	if p.start < 0 {
		return nil
	}
	if 24%n != 0 {
		return p.fail(p.unit, "use 1, 2, 3, 4, 6, 8 or 12 hours", "a day cannot be divided into %d hours", n)
	}
	s.hours = steps(p.start/3600%n, 23, n)
	s.minutes, s.seconds = 1<<(p.start/60%60), 1<<(p.start%60)
	return nil
}
