package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/varanhq/varan/cmd/internal/exit"
)

// whenForms are the ways to write a time, all but the first in local time.
var whenForms = []string{
	time.RFC3339Nano, "2006-01-02T15:04:05", time.DateTime, "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly,
}

// when reads a time as people write it: a date, with or without a time of day, a time of
// day, also after "yesterday" or "today", or how long ago it was.
func when(flag, text string, now time.Time) (time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return time.Time{}, nil
	}
	for _, form := range whenForms {
		if t, err := time.ParseInLocation(form, text, now.Location()); err == nil {
			return t, nil
		}
	}
	if t, ok := someDay(text, now); ok {
		return t, nil
	}
	if ago, ok := span(strings.TrimSpace(strings.TrimSuffix(text, "ago"))); ok {
		return now.Add(-ago), nil
	}
	return time.Time{}, exit.Usagef(
		"--%s %q is no time: write 2026-11-25, \"2026-11-25 18:00\", 18:00, \"yesterday 18:00\", or how long ago: 90m, 2h, 7d", flag, text)
}

// someDay reads "now", "today", "yesterday" and "yesterday 18:00".
func someDay(text string, now time.Time) (time.Time, bool) {
	if text == "now" {
		return now, true
	}
	year, month, day := now.Date()
	name, clock, _ := strings.Cut(text, " ")
	switch name {
	case "today":
	case "yesterday":
		day--
	default:
		clock = text
	}
	if clock == "" {
		return time.Date(year, month, day, 0, 0, 0, 0, now.Location()), true
	}
	for _, form := range []string{"15:04", "15:04:05"} {
		if t, err := time.Parse(form, strings.TrimSpace(clock)); err == nil {
			return time.Date(year, month, day, t.Hour(), t.Minute(), t.Second(), 0, now.Location()), true
		}
	}
	return time.Time{}, false
}

// span reads a duration, also in days and weeks.
func span(text string) (time.Duration, bool) {
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if number, ok := strings.CutSuffix(text, suffix); ok {
			n, err := strconv.ParseUint(number, 10, 16)
			return time.Duration(n) * unit, err == nil
		}
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d >= 0
}
