package main

import (
	"testing"
	"time"
)

func TestTimesAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("here", 3600)
	now := time.Date(2026, 3, 1, 9, 30, 0, 0, zone)
	for text, want := range map[string]string{
		"":                      "0001-01-01T00:00:00Z",
		"now":                   "2026-03-01T09:30:00+01:00",
		"2026-02-03":            "2026-02-03T00:00:00+01:00",
		"2026-02-03 18:00":      "2026-02-03T18:00:00+01:00",
		"2026-02-03T18:00:01":   "2026-02-03T18:00:01+01:00",
		"2026-02-03T18:00:00Z":  "2026-02-03T18:00:00Z",
		"18:00":                 "2026-03-01T18:00:00+01:00",
		"today":                 "2026-03-01T00:00:00+01:00",
		"yesterday":             "2026-02-28T00:00:00+01:00",
		"yesterday 18:00":       "2026-02-28T18:00:00+01:00",
		"90m":                   "2026-03-01T08:00:00+01:00",
		"2h ago":                "2026-03-01T07:30:00+01:00",
		"7d":                    "2026-02-22T09:30:00+01:00",
		"1w":                    "2026-02-22T09:30:00+01:00",
		"2026-02-03T18:00:00.5": "2026-02-03T18:00:00.5+01:00",
	} {
		got, err := when("since", text, now)
		if err != nil || got.Format(time.RFC3339Nano) != want {
			t.Errorf("%q: %s, %v; want %s", text, got.Format(time.RFC3339Nano), err, want)
		}
	}
	for _, text := range []string{"soon", "-2h", "2026-02-30", "25:00", "tomorrow 18:00", "d"} {
		if got, err := when("since", text, now); err == nil {
			t.Errorf("%q: %s", text, got)
		}
	}
}
