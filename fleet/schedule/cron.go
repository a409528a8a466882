package schedule

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"github.com/robfig/cron/v3"
)

// cronParser reads the fields; what they mean together is decided here.
var cronParser = cron.NewParser(cron.Second | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

// star is the bit by which cron's parser marks a field that chooses nothing.
const star = 1 << 63

// cronField is one field of a cron expression.
type cronField struct {
	name      string
	low, high int
	allowed   string
}

var cronFields = [6]cronField{
	{"seconds", 0, 59, "0 to 59"},
	{"minutes", 0, 59, "0 to 59"},
	{"hours", 0, 23, "0 to 23"},
	{"days of the month", 1, 31, "1 to 31, L for the last, 15W for the workday nearest to the 15th"},
	{"months", 1, 12, "1 to 12, or JAN to DEC"},
	{"weekdays", 0, 7, "0 to 7 with Sunday as 0 and 7, SUN to SAT, 5#2 for the second Friday, 5L for the last"},
}

// cronNames are the expressions of one word.
var cronNames = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
	"@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

const (
	cronShape = `write five fields, minutes, hours, days, months and weekdays ("0 6 * * *"), or six with seconds before them ("0 0 6 * * *")`
	cronWords = "write @yearly, @monthly, @weekly, @daily or @hourly"
)

// cronPart is a field of the text, or an item of one.
type cronPart struct {
	text string
	at   int
}

// parseCron reads five fields, or six with seconds before them. With five, a day of the month
// or a weekday is enough where both are chosen, as crontab has it; with six it must be both,
// as Komodo has it.
func parseCron(s *Schedule, text string) error {
	fields := cronParts(text)
	if len(fields) == 1 && strings.HasPrefix(fields[0].text, "@") {
		named, ok := cronNames[strings.ToLower(fields[0].text)]
		if !ok {
			return &Error{Offset: fields[0].at, Message: fields[0].text + " is no time", Hint: cronWords}
		}
		fields = cronParts(named)
	}
	switch len(fields) {
	case 5:
		fields = append([]cronPart{{text: "0"}}, fields...)
		s.either = true
	case 6:
	default:
		at := 0
		if len(fields) > 0 {
			at = fields[min(len(fields)-1, 6)].at
		}
		return &Error{Offset: at, Message: fmt.Sprintf("it has %d fields, and cron has 5 or 6", len(fields)), Hint: cronShape}
	}
	chosen := [6]uint64{}
	for i, field := range fields {
		at := field.at
		for item := range strings.SplitSeq(field.text, ",") {
			if item == "" {
				comma := cronPart{at: max(field.at, at-1)}
				return cronFault(i, comma, "there is nothing %s the comma", map[bool]string{true: "before", false: "after"}[at == field.at])
			}
			set, err := s.cronItem(i, cronPart{item, at})
			if err != nil {
				return err
			}
			chosen[i] |= set
			at += len(item) + 1
		}
	}
	s.seconds, s.minutes, s.hours, s.months = chosen[0]&^star, chosen[1]&^star, chosen[2]&^star, chosen[4]&^star
	s.days.on, s.days.any = chosen[3]&^star, chosen[3]&star != 0
	s.weeks.on, s.weeks.any = chosen[5]&^star, chosen[5]&star != 0
	return nil
}

// cronParts are the fields of a text and where they are.
func cronParts(text string) (parts []cronPart) {
	at := 0
	for word := range strings.FieldsSeq(text) {
		at += strings.Index(text[at:], word)
		parts = append(parts, cronPart{word, at})
		at += len(word)
	}
	return parts
}

func cronFault(i int, at cronPart, format string, args ...any) error {
	field := cronFields[i]
	return &Error{Offset: at.at, Message: fmt.Sprintf(format, args...), Hint: fmt.Sprintf("%s are %s", field.name, field.allowed)}
}

// cronItem reads one item of field i: "5", "1-5", "*/10" or "mon-fri". Days that only a
// calendar knows go into the schedule by themselves.
func (s *Schedule) cronItem(i int, item cronPart) (uint64, error) {
	field := cronFields[i]
	if s.calendarDay(i, strings.ToLower(item.text)) {
		return 0, nil
	}
	fail := func(format string, args ...any) (uint64, error) { return 0, cronFault(i, item, format, args...) }
	if base, step, ok := strings.Cut(item.text, "/"); ok {
		n, err := strconv.Atoi(step)
		switch {
		case err != nil || n < 1:
			return fail("the step %q of %s is no number above 0", step, field.name)
		case n > field.high:
			return fail("a step of %d is more than there are %s", n, field.name)
		case base == "":
			return fail("there is nothing before the step of %s", field.name)
		}
	}
	if from, to, ok := strings.Cut(item.text, "-"); ok {
		to, _, _ = strings.Cut(to, "/")
		if a, b := cronSet(i, from), cronSet(i, to); single(a) && single(b) && b < a && (i != 5 || b != 1) {
			return fail("%s-%s ends before it begins", from, to)
		}
	}
	set := cronSet(i, item.text)
	if set == 0 {
		return fail("%q is not among the %s", item.text, field.name)
	}
	return set, nil
}

func single(set uint64) bool { return bits.OnesCount64(set) == 1 }

// cronSet reads an item through cron's parser; 0 if it cannot be read.
func cronSet(i int, item string) uint64 {
	if i == 5 {
		item = sundayFirst(item)
	}
	var set uint64
	for part := range strings.SplitSeq(item, ",") {
		fields := [6]string{"0", "0", "0", "1", "1", "0"}
		fields[i] = part
		if part == "" || strings.ContainsAny(part, "= \t") {
			return 0
		}
		parsed, err := cronParser.Parse(strings.Join(fields[:], " "))
		if err != nil {
			return 0
		}
		spec := parsed.(*cron.SpecSchedule) //nolint:forcetypeassert // what Parse makes of fields
		set |= [6]uint64{spec.Second, spec.Minute, spec.Hour, spec.Dom, spec.Month, spec.Dow}[i]
	}
	return set
}

// sundayFirst writes weekdays that end with Sunday as 7 so that Sunday is 0.
func sundayFirst(item string) string {
	base, stepText, _ := strings.Cut(item, "/")
	from, to, isRange := strings.Cut(base, "-")
	if base == "7" && item == base {
		return "0"
	}
	if !isRange || to != "7" && (!strings.EqualFold(to, "sun") || strings.EqualFold(from, "sun")) {
		return item
	}
	step := 1
	if stepText != "" {
		step, _ = strconv.Atoi(stepText)
	}
	first := nextBit(cronSet(5, from)&^star, 0)
	if from == "7" {
		first = 7
	}
	if first < 0 || step < 1 {
		return item
	}
	var days []string
	for day := first; day <= 7; day += step {
		days = append(days, strconv.Itoa(day%7))
	}
	return strings.Join(days, ",")
}

// calendarDay takes the forms L, LW, 15W, 5#2 and 5L.
func (s *Schedule) calendarDay(i int, item string) bool {
	number := func(text string, low, high int) (int, bool) {
		n, err := strconv.Atoi(text)
		return n, err == nil && n >= low && n <= high && text[0] != '+'
	}
	switch {
	case i == 3 && item == "l":
		s.days.last = true
	case i == 3 && (item == "lw" || item == "wl"):
		s.days.lastWorkday = true
	case i == 3 && strings.HasSuffix(item, "w"):
		day, ok := number(strings.TrimSuffix(item, "w"), 1, 31)
		if !ok {
			return false
		}
		s.days.near |= 1 << day
	case i == 5 && (strings.Contains(item, "#") || strings.HasSuffix(item, "l")):
		day, nth, ok := strings.Cut(item, "#")
		if !ok {
			day, nth = strings.TrimSuffix(item, "l"), "l"
		}
		set := cronSet(5, day)
		n, ok := number(nth, 1, 5)
		if nth == "l" {
			n, ok = 0, true
		}
		if !ok || !single(set) {
			return false
		}
		s.weeks.nth[bits.TrailingZeros64(set)] |= 1 << n
	default:
		return false
	}
	return true
}
