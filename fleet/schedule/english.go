package schedule

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/varanhq/varan/internal/didyoumean"
)

// word is a word of the text, in lower case, and where it is.
type word struct {
	text string
	at   int
}

// english reads a schedule in words. What the words are about shows in themselves, so they may
// come in any order: "at noon every Sunday" and "every Sunday at noon".
type english struct {
	words []word
	next  int
	// open is a word that wants another after it: "at", "on", "and".
	open word

	// unit and count are of what it happens every so many: seconds, minutes, hours.
	unit  word
	count int
	// times are the times of the day, minutes those of every hour.
	times   []int
	timeAt  word
	minutes uint64
	start   int // of "starting at", or -1
	bounds  []int

	days    days
	weeks   weekdays
	months  uint64
	everyN  int  // days
	cadence word // week, month, quarter or year
}

var weekdayWords, monthWords = nameWords(0, 6, func(n int) string { return time.Weekday(n).String() }, "s"),
	nameWords(1, 12, func(n int) string { return time.Month(n).String() }, "")

// nameWords maps names and their beginnings to numbers.
func nameWords(low, high int, name func(int) string, ending string) map[string]int {
	words := map[string]int{}
	for n := low; n <= high; n++ {
		full := strings.ToLower(name(n))
		words[full], words[full+ending], words[full[:3]] = n, n, n
	}
	for short, full := range map[string]string{"tues": "tuesday", "thur": "thursday", "thurs": "thursday", "weds": "wednesday", "sept": "september"} {
		if n, ok := words[full]; ok {
			words[short] = n
		}
	}
	return words
}

var ordinalWords = map[string]int{"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "last": -1}

// units are what "every" counts, by their words.
var units = map[string]string{
	"second": "second", "seconds": "second", "sec": "second", "secs": "second",
	"minute": "minute", "minutes": "minute", "min": "minute", "mins": "minute",
	"hour": "hour", "hours": "hour", "hr": "hour", "hrs": "hour",
	"day": "day", "days": "day", "week": "week", "weeks": "week", "month": "month", "months": "month",
	"quarter": "quarter", "quarters": "quarter", "year": "year", "years": "year",
}

// adverbs are "every" and a unit in one word.
var adverbs = map[string]string{
	"hourly": "hour", "daily": "day", "weekly": "week", "monthly": "month", "quarterly": "quarter", "yearly": "year", "annually": "year",
}

// known are words that are none of those.
var known = []string{
	"every", "each", "other", "at", "on", "in", "of", "the", "and", "from", "to", "through", "between", "starting", "only", "run",
	"noon", "midnight", "am", "pm", "weekday", "weekdays", "weekend", "weekends", "workday", "once", "twice", "times",
}

// vocabulary is every word there is.
var vocabulary = func() []string {
	words := slices.Clone(known)
	for name := range weekdayWords {
		words = append(words, name)
	}
	for name := range monthWords {
		words = append(words, name)
	}
	for _, set := range []map[string]string{units, adverbs} {
		for name := range set {
			words = append(words, name)
		}
	}
	for name := range ordinalWords {
		words = append(words, name)
	}
	return words
}()

func parseEnglish(s *Schedule, text string) error {
	words, err := split(text)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return &Error{Message: "it is empty", Hint: examples}
	}
	if len(words) >= 5 && strings.ContainsAny(words[0].text[:1], "*0123456789") && strings.Contains(text, "*") {
		return &Error{Offset: words[0].at, Message: "it is cron, and read as English", Hint: `set schedule_format = "Cron"`}
	}
	p := &english{words: words, start: -1}
	for p.next < len(p.words) {
		if err := p.phrase(); err != nil {
			return err
		}
	}
	if p.open.text != "" {
		return p.fail(p.open, examples, "it ends with %q", p.open.text)
	}
	return p.finish(s)
}

// split finds the words of a text; commas and hyphens are words.
func split(text string) (words []word, err error) {
	start := -1
	end := func(at int) {
		if start >= 0 {
			w := strings.ToLower(text[start:at])
			switch w {
			case "a.m.", "a.m", "p.m.", "p.m":
				w = strings.ReplaceAll(w, ".", "")
			case "&":
				w = "and"
			}
			words = append(words, word{strings.TrimRight(w, ".;"), start})
		}
		start = -1
	}
	for at, r := range text {
		switch {
		case unicode.IsSpace(r):
			end(at)
		case r > unicode.MaxASCII || unicode.IsControl(r):
			return nil, &Error{Offset: at, Message: fmt.Sprintf("%q is in no English time", r), Hint: examples}
		case r == ',' || r == '-':
			end(at)
			words = append(words, word{string(r), at})
		case start < 0:
			start = at
		}
	}
	end(len(text))
	return words, nil
}

func (*english) fail(at word, hint, format string, args ...any) error {
	return &Error{Offset: at.at, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// peek is the word that is n words ahead; empty after the last.
func (p *english) peek(n int) word {
	if p.next+n < len(p.words) {
		return p.words[p.next+n]
	}
	last := p.words[len(p.words)-1]
	return word{at: last.at + len(last.text)}
}

// accept steps over the next word if it is one of those.
func (p *english) accept(words ...string) bool {
	ok := slices.Contains(words, p.peek(0).text)
	if ok {
		p.next++
	}
	return ok
}

var joints = []string{"at", "on", "in", "of", "and", ",", "the", "only", "during", "run", "runs"}

// phrase reads the next words that belong together.
func (p *english) phrase() error {
	w := p.peek(0)
	if slices.Contains(joints, w.text) {
		return p.joint(w)
	}
	open := p.open
	p.open = word{}
	if open.text == "at" {
		return p.timeOfDay()
	}
	switch {
	case p.accept("every", "each"):
		return p.every(w)
	case p.accept("between"):
		return p.between("and", "to", "-")
	case p.accept("starting"):
		return p.starting()
	case p.accept("once", "twice"):
		return p.timesA(w, map[string]int{"once": 1, "twice": 2}[w.text])
	case p.peek(1).text == "times":
		n, err := strconv.Atoi(w.text)
		if err != nil || n < 1 {
			return p.fail(w, examples, "%q is no number of times", w.text)
		}
		p.next += 2
		return p.timesA(w, n)
	case adverbs[w.text] != "":
		p.next++
		return p.everyUnit(w, 1, adverbs[w.text])
	case p.accept("from"):
		if p.isTime() {
			return p.between("to", "until", "till", "through", "-")
		}
		w = p.peek(0)
	}
	if handled, err := p.day(w); handled {
		return err
	}
	if p.isTime() {
		return p.timeOfDay()
	}
	return p.unknown(w)
}

// joint takes a word that only joins others.
func (p *english) joint(w word) error {
	p.next++
	before := p.open.text
	free := before == "" || before == "and" || before == "," || before == "only" || strings.HasPrefix(before, "run")
	article := w.text == "the" && (before == "on" || before == "of" || before == "in" || before == "at" || before == "during")
	if !free && !article || p.next == 1 && (w.text == "and" || w.text == "," || w.text == "of") {
		return p.fail(w, examples, "%q does not go with what is before it", w.text)
	}
	p.open = w
	return nil
}

func (p *english) unknown(w word) error {
	switch {
	case w.text == "":
		last := p.words[len(p.words)-1]
		return p.fail(last, examples, "it ends with %q", last.text)
	case isNumber(w.text):
		return p.fail(w, `write a time as 06:00 or 6 am, a day as 6th, and an interval as "every 6 hours"`, "%s could be a time or a day", w.text)
	}
	if near := didyoumean.Word(w.text, vocabulary); near != "" && !slices.Contains(vocabulary, w.text) {
		return p.fail(w, "did you mean `"+near+"`?", "%q is no word of a schedule", w.text)
	}
	if slices.Contains(vocabulary, w.text) {
		return p.fail(w, examples, "%q does not go with what is before it", w.text)
	}
	return p.fail(w, examples, "%q is no word of a schedule", w.text)
}

func isNumber(text string) bool {
	_, err := strconv.ParseUint(text, 10, 32)
	return err == nil
}

// every reads what comes after "every".
func (p *english) every(w word) error {
	n, counted := 1, false
	at := p.peek(0)
	switch {
	case at.text == "":
		return p.fail(w, examples, "it ends with %q", w.text)
	case p.accept("other"):
		n, counted = 2, true
	case isNumber(at.text):
		n, _ = strconv.Atoi(at.text)
		counted = true
		p.next++
	}
	next := p.peek(0)
	if nth, ok := ordinalOf(next.text); ok && !counted {
		unit := units[p.peek(1).text]
		if unit == "" || p.peek(2).text == "of" || nth < 1 {
			if next.text != "second" || unit != "" || p.ordinalEnd() {
				return nil // "every 1st and 15th": a day of the month, and the next phrase
			}
		} else {
			p.next++
			n, next = nth, p.peek(0)
		}
	}
	if unit := units[next.text]; unit != "" {
		p.next++
		if n < 1 {
			return p.fail(at, examples, "every 0 %ss is never", unit)
		}
		return p.everyUnit(at, n, unit)
	}
	switch {
	case counted && next.text == "":
		return p.fail(at, "say of what: minutes, hours or days", "it ends with %q", at.text)
	case counted:
		return p.fail(next, "seconds, minutes, hours, days or months", "%q cannot be counted", next.text)
	case p.isTime() || next.text == "every" || next.text == "each":
		return p.unknown(next)
	case slices.Contains(joints, next.text) && next.text != "the":
		return p.unknown(next)
	}
	return nil // a weekday or a month, and the next phrase
}

// ordinalEnd reports whether the ordinal ahead is one of a day rather than a time.
func (p *english) ordinalEnd() bool {
	_, weekday := weekdayWords[p.peek(1).text]
	return weekday || p.peek(1).text == "and" || p.peek(1).text == "of"
}

// everyUnit takes "every n units".
func (p *english) everyUnit(at word, n int, unit string) error {
	switch {
	case unit == "day" && n == 1:
		return nil
	case unit == "day":
		if n > 31 || p.everyN > 0 {
			return p.fail(at, "days are counted within a month, up to 31", "every %d days is not possible here", n)
		}
		p.everyN = n
		p.cadence = word{"days", at.at}
	case unit == "week" || unit == "year":
		if n != 1 {
			return p.fail(at, `name the days: "on the 1st and 15th of the month"`, "every %d %ss is not possible", n, unit)
		}
		p.cadence = word{unit, at.at}
	case unit == "month" || unit == "quarter":
		if unit == "quarter" {
			n *= 3
		}
		if n > 12 || p.months != 0 && n > 1 {
			return p.fail(at, "months are counted within a year, up to 12", "every %d months is not possible here", n)
		}
		if n > 1 {
			p.months = steps(1, 12, n)
		}
		p.cadence = word{"month", at.at}
	case p.unit.text != "":
		return p.fail(at, examples, "it already happens every so many %ss", p.unit.text)
	default:
		p.unit, p.count = word{unit, at.at}, n
	}
	return nil
}

// timesA reads "times a day" after a number.
func (p *english) timesA(w word, n int) error {
	p.accept("a", "an", "per", "every", "each")
	at := p.peek(0)
	unit := units[at.text]
	if adverbs[at.text] == "day" {
		unit = "day"
	}
	whole := map[string]int{"day": 24 * 60, "hour": 60}[unit]
	if whole == 0 {
		return p.unknown(at)
	}
	p.next++
	if whole%n != 0 {
		return p.fail(w, "say the times, or the interval", "a %s is not divided into %d", unit, n)
	}
	if unit == "day" && n == 1 {
		return nil
	}
	return p.everyUnit(w, whole/n, "minute")
}

func (p *english) starting() error {
	p.accept("at", "from")
	at := p.peek(0)
	if !p.isTime() {
		return p.unknown(at)
	}
	second, err := p.clock()
	p.start = second
	return err
}

// between reads two times.
func (p *english) between(joined ...string) error {
	for i := range 2 {
		at := p.peek(0)
		if i == 1 && !p.accept(joined...) {
			return p.unknown(at)
		}
		if !p.isTime() {
			return p.unknown(p.peek(0))
		}
		second, err := p.clock()
		if err != nil {
			return err
		}
		p.bounds = append(p.bounds, second)
	}
	if len(p.bounds) > 2 {
		return p.fail(p.peek(-1), examples, "there are two times to be between")
	}
	return nil
}
