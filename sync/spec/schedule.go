package spec

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/varanhq/varan/fleet"
)

// checkSchedule finds what can be no schedule. Schedules are not run yet, so it refuses only
// what no reading of the text could make a time of.
func (p *parser) checkSchedule(t *Timetable, at func(field string) fleet.Position) {
	text := strings.TrimSpace(t.Schedule)
	if text == "" {
		return
	}
	fault, hint := englishFault(text), `write it like "every day at 06:00", "every 5 minutes" or "every monday at 3 pm"`
	if t.ScheduleFormat == "Cron" {
		fault, hint = cronFault(text), `write it like "0 0 6 * * *": seconds, minutes, hours, days, months and weekdays`
	}
	if fault != "" {
		p.failAt(at("config.schedule"), "schedule", hint, "the schedule %s is no time: %s", quoted(text), fault)
	}
}

var (
	clockTime  = regexp.MustCompile(`\b(\d{1,3}):(\d{1,3})\b`)
	everyZero  = regexp.MustCompile(`\bevery\s+0+\s`)
	danglingAt = regexp.MustCompile(`\b(and|at|on|every|the)$`)
)

// englishFault says what is wrong with a schedule in words.
func englishFault(text string) string {
	lower := strings.ToLower(text)
	if strings.IndexFunc(text, func(r rune) bool { return r > unicode.MaxASCII }) >= 0 {
		return "it has characters that are in no English time"
	}
	if m := danglingAt.FindString(lower); m != "" {
		return fmt.Sprintf("it ends with %q", m)
	}
	if everyZero.MatchString(lower + " ") {
		return "every 0 of anything is never"
	}
	for _, m := range clockTime.FindAllStringSubmatch(text, -1) {
		hour, _ := strconv.Atoi(m[1])
		minute, _ := strconv.Atoi(m[2])
		if hour > 23 || minute > 59 {
			return m[0] + " is no time of day"
		}
	}
	return ""
}

// cronField is one field of a cron expression.
type cronField struct {
	name      string
	low, high int
	// words are names of values, in order from low.
	words string
}

var cronFields = []cronField{
	{"seconds", 0, 59, ""},
	{"minutes", 0, 59, ""},
	{"hours", 0, 23, ""},
	{"day of month", 1, 31, ""},
	{"month", 1, 12, "jan feb mar apr may jun jul aug sep oct nov dec"},
	{"day of week", 0, 7, "sun mon tue wed thu fri sat sun"},
}

// cronNames are expressions of one word.
const cronNames = " @yearly @annually @monthly @weekly @daily @midnight @hourly "

// cronFault says what is wrong with a cron expression: five fields, or six with seconds
// before them.
func cronFault(text string) string {
	fields := strings.Fields(text)
	if len(fields) == 1 && strings.HasPrefix(text, "@") {
		if strings.Contains(cronNames, " "+strings.ToLower(text)+" ") {
			return ""
		}
		return "there are" + strings.TrimRight(cronNames, " ")
	}
	if len(fields) != 5 && len(fields) != 6 {
		return fmt.Sprintf("it has %d fields, and cron has 5 or 6", len(fields))
	}
	used := cronFields[len(cronFields)-len(fields):]
	values := make([][]int, len(fields))
	for i, field := range fields {
		for item := range strings.SplitSeq(strings.ToLower(field), ",") {
			list, ok := used[i].item(item)
			if !ok {
				return fmt.Sprintf("%s %q is not from %d to %d", used[i].name, item, used[i].low, used[i].high)
			}
			values[i] = append(values[i], list...)
		}
	}
	return neverFires(values[len(values)-3], values[len(values)-2])
}

// item lists the values of "5", "1-5", "*/10" or "mon-fri"; none for all of them and for
// the forms L, W and #, which mean days that only a calendar knows.
func (f cronField) item(text string) (values []int, ok bool) {
	text, step, stepped := strings.Cut(text, "/")
	if n, err := strconv.Atoi(step); stepped && (err != nil || n < 1 || n > f.high) {
		return nil, false
	}
	if text == "*" || text == "?" {
		return nil, true
	}
	if strings.HasPrefix(f.name, "day") && strings.ContainsAny(strings.TrimPrefix(text, "wed"), "lw#") {
		return nil, true
	}
	from, to, isRange := strings.Cut(text, "-")
	first, ok := f.value(from)
	if !ok || !isRange {
		return []int{first}, ok
	}
	last, ok := f.value(to)
	if !ok || last < first {
		return nil, false
	}
	for n := first; n <= last; n++ {
		values = append(values, n)
	}
	return values, true
}

func (f cronField) value(text string) (int, bool) {
	for i, word := range strings.Fields(f.words) {
		if strings.HasPrefix(text, word) && len(text) >= 3 {
			return f.low + i, true
		}
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= f.low && n <= f.high
}

// neverFires reports days that no chosen month has: the 30th of February.
func neverFires(days, months []int) string {
	if len(days) == 0 || len(months) == 0 {
		return ""
	}
	longest := []int{0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
	for _, month := range months {
		for _, day := range days {
			if day <= longest[month] {
				return ""
			}
		}
	}
	return "no month it names has such a day, so it would never run"
}
