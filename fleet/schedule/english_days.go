package schedule

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

var through = []string{"to", "through", "thru", "until", "till", "-"}

// day reads weekdays, days of the month and months; handled is false when it is none of them.
func (p *english) day(w word) (handled bool, err error) {
	switch w.text {
	case "weekday", "weekdays", "workday", "workdays":
		p.next++
		p.weeks.on |= workdays
		return true, nil
	case "weekend", "weekends":
		p.next++
		p.weeks.on |= 1<<time.Saturday | 1<<time.Sunday
		return true, nil
	case "day", "days":
		p.next++
		next := p.peek(0)
		if _, ok := weekdayWords[next.text]; ok {
			return true, nil
		}
		if n, err := strconv.Atoi(next.text); err == nil {
			p.next++
			return true, p.dayOfMonth(next, n)
		}
		return true, p.fail(w, "every day, the 1st day of the month, the last day of the month", "which day?")
	case "month", "months":
		if p.next > 1 && slices.Contains([]string{"the", "of"}, p.peek(-1).text) {
			p.next++
			return true, nil
		}
		return false, nil
	}
	if _, ok := weekdayWords[w.text]; ok {
		set, err := p.span(weekdayWords, 0, 6)
		p.weeks.on |= set
		return true, err
	}
	if _, ok := monthWords[w.text]; ok {
		set, err := p.span(monthWords, 1, 12)
		p.months |= set
		return true, err
	}
	if _, ok := ordinalOf(w.text); ok {
		return true, p.ordinals()
	}
	return false, nil
}

// span reads a name, or two and all between them, past the end if need be.
func (p *english) span(names map[string]int, low, high int) (uint64, error) {
	first := names[p.peek(0).text]
	p.next++
	if !slices.Contains(through, p.peek(0).text) {
		return 1 << first, nil
	}
	p.next++
	last, ok := names[p.peek(0).text]
	if !ok {
		return 0, p.unknown(p.peek(0))
	}
	p.next++
	if first <= last {
		return all(first, last), nil
	}
	return all(first, high) | all(low, last), nil
}

// ordinalOf reads "1st", "first" or "last", which is -1.
func ordinalOf(text string) (int, bool) {
	if n, ok := ordinalWords[text]; ok {
		return n, true
	}
	for _, ending := range []string{"st", "nd", "rd", "th"} {
		if number, ok := strings.CutSuffix(text, ending); ok && isNumber(number) {
			n, err := strconv.Atoi(number)
			return n, err == nil
		}
	}
	return 0, false
}

// ordinals reads "1st and 15th of the month", "last day", "first and third Monday".
func (p *english) ordinals() error {
	var words []word
	for {
		words = append(words, p.peek(0))
		p.next++
		more := 0
		for slices.Contains([]string{",", "and", "the"}, p.peek(more).text) {
			more++
		}
		if _, ok := ordinalOf(p.peek(more).text); !ok {
			break
		}
		p.next += more
	}
	what := p.peek(0)
	weekday, named := weekdayWords[what.text]
	work := slices.Contains([]string{"weekday", "workday"}, what.text)
	day := p.accept("day", "days")
	if named || work {
		p.next++
	}
	for _, w := range words {
		n, _ := ordinalOf(w.text)
		if err := p.nth(w, n, weekday, named, work, day); err != nil {
			return err
		}
	}
	return p.ofMonth()
}

// nth chooses the nth weekday, workday or day of the month.
func (p *english) nth(w word, n, weekday int, named, work, day bool) error {
	switch {
	case named && n > 5, n > 31, n == 0:
		return p.fail(w, "days are the 1st to the 31st, weekdays the first to the fifth", "there is no %s", w.text)
	case named:
		p.weeks.nth[weekday] |= 1 << max(n, 0)
	case work && n == -1:
		p.days.lastWorkday = true
	case work && n == 1:
		p.days.near |= 1 << 1
	case work:
		return p.fail(w, "the first or the last", "which workday is the %s?", w.text)
	case n == -1 && day:
		p.days.last = true
	case n == -1 || ordinalWords[w.text] > 0 && !day && p.peek(0).text != "of":
		return p.fail(w, `write "the last day of the month" or "the first Monday of the month"`, "the %s of what?", w.text)
	default:
		return p.dayOfMonth(w, n)
	}
	return nil
}

func (p *english) dayOfMonth(w word, n int) error {
	if n < 1 || n > 31 {
		return p.fail(w, "days are the 1st to the 31st", "no month has a day %d", n)
	}
	p.days.on |= 1 << n
	return nil
}

// ofMonth reads "of the month", "of every month" or "of" before the names of months.
func (p *english) ofMonth() error {
	if !p.accept("of") {
		return nil
	}
	p.accept("the", "each", "every", "a")
	w := p.peek(0)
	if _, ok := monthWords[w.text]; ok {
		return nil
	}
	if units[w.text] != "month" {
		return p.unknown(w)
	}
	p.next++
	return nil
}
