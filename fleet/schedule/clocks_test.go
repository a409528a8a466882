package schedule_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/varanhq/varan/fleet/schedule"
)

// between lists the times of a schedule in a span, as the zone's clocks show them.
func between(tb testing.TB, s schedule.Schedule, from, to string) string {
	tb.Helper()
	at, err := time.ParseInLocation("2006-01-02 15:04", from, s.Zone())
	if err != nil {
		tb.Fatal(err)
	}
	end, err := time.ParseInLocation("2006-01-02 15:04", to, s.Zone())
	if err != nil {
		tb.Fatal(err)
	}
	var times []string
	for next, ok := s.Next(at.Add(-time.Second)); ok && next.Before(end); next, ok = s.Next(next) {
		times = append(times, next.Format("02T15:04-07"))
	}
	return strings.Join(times, " ")
}

// TestClockChanges is row S03: what the clocks skip runs once, at the end of what they skip;
// what they show twice runs once, the first time.
func TestClockChanges(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, zone, from, to, want string }{
		{"every day at 02:30", "Europe/Berlin", "2026-03-28 00:00", "2026-03-31 00:00", "28T02:30+01 29T03:00+02 30T02:30+02"},
		{"every day at 02:30", "Europe/Berlin", "2026-10-24 00:00", "2026-10-27 00:00", "24T02:30+02 25T02:30+02 26T02:30+01"},
		{"every day at 06:00", "Europe/Berlin", "2026-03-28 00:00", "2026-03-30 00:00", "28T06:00+01 29T06:00+02"},
		{"every day at 06:00", "Europe/Berlin", "2026-10-24 00:00", "2026-10-26 00:00", "24T06:00+02 25T06:00+01"},
		{"every 2 hours", "Europe/Berlin", "2026-10-25 00:00", "2026-10-25 07:00", "25T00:00+02 25T02:00+02 25T04:00+01 25T06:00+01"},
		{"at 02:10 and 02:50", "Europe/Berlin", "2026-03-29 00:00", "2026-03-30 00:00", "29T03:00+02"},
		{"at 02:30 and 03:00", "Europe/Berlin", "2026-03-29 00:00", "2026-03-30 00:00", "29T03:00+02"},
		{"every day at midnight", "America/Asuncion", "2023-09-30 00:00", "2023-10-03 00:00", "30T00:00-04 01T01:00-03 02T00:00-03"},
		{"every day at midnight", "Africa/Cairo", "2026-04-23 00:00", "2026-04-26 00:00", "23T00:00+02 24T01:00+03 25T00:00+03"},
		{"every day at 02:15", "Australia/Lord_Howe", "2026-10-04 00:00", "2026-10-06 00:00", "04T02:30+11 05T02:15+11"},
		{"every day at 01:45", "Australia/Lord_Howe", "2026-04-05 00:00", "2026-04-06 00:00", "05T01:45+11"},
		// A day that Samoa never had.
		{"every day at 06:00", "Pacific/Apia", "2011-12-29 00:00", "2012-01-01 00:00", "29T06:00-10 31T00:00+14 31T06:00+14"},
		// What names no hour goes by what the clocks show: evenly through both changes.
		{"every 30 minutes", "Europe/Berlin", "2026-03-29 01:00", "2026-03-29 04:00", "29T01:00+01 29T01:30+01 29T03:00+02 29T03:30+02"},
		{
			"every 30 minutes", "Europe/Berlin", "2026-10-25 01:30", "2026-10-25 03:30",
			"25T01:30+02 25T02:00+02 25T02:30+02 25T02:00+01 25T02:30+01 25T03:00+01",
		},
		{"every hour at minute 10", "Europe/Berlin", "2026-03-29 01:00", "2026-03-29 05:00", "29T01:10+01 29T03:10+02 29T04:10+02"},
		{"on the 29th of february", "UTC", "2026-01-01 00:00", "2033-01-01 00:00", "29T00:00+00 29T00:00+00"},
	} {
		if got := between(t, parsed(t, schedule.English, test.text, test.zone), test.from, test.to); got != test.want {
			t.Errorf("%s in %s:\n got %s\nwant %s", test.text, test.zone, got, test.want)
		}
	}
}

// drawn is a schedule, and what decides whether it has a time of a day.
type drawn struct {
	text    string
	hourly  bool
	matches func(wall time.Time) bool
}

func draw(t *rapid.T) drawn {
	set := func(label string, low, high int) (string, func(int) bool) {
		switch rapid.IntRange(0, 3).Draw(t, label) {
		case 0:
			return "*", func(int) bool { return true }
		case 1:
			n := rapid.IntRange(1, 6).Draw(t, "step")
			return fmt.Sprintf("*/%d", n), func(v int) bool { return (v-low)%n == 0 }
		}
		values := rapid.SliceOfNDistinct(rapid.IntRange(low, high), 1, 3, rapid.ID).Draw(t, "values")
		return strings.Trim(strings.ReplaceAll(fmt.Sprint(values), " ", ","), "[]"), func(v int) bool { return slices.Contains(values, v) }
	}
	minuteText, minute := set("minute", 0, 59)
	hourText, hour := set("hour", 0, 23)
	dayText, day := set("weekday", 0, 6)
	hourly := true
	for h := range 24 {
		hourly = hourly && hour(h)
	}
	return drawn{
		text: fmt.Sprintf("%s %s * * %s", minuteText, hourText, dayText), hourly: hourly,
		matches: func(wall time.Time) bool {
			return minute(wall.Minute()) && hour(wall.Hour()) && day(int(wall.Weekday()))
		},
	}
}

// oracle finds the times by going through every minute of a span, twice: as the zone's clocks
// go, and as clocks that never change would.
func (d drawn) oracle(from, to time.Time) (times []time.Time) {
	type shown struct{ at, wall time.Time }
	var clock []shown
	for at := from.Add(-26 * time.Hour); at.Before(to); at = at.Add(time.Minute) {
		_, offset := at.Zone()
		clock = append(clock, shown{at, at.UTC().Add(time.Duration(offset) * time.Second)})
	}
	if d.hourly {
		for _, c := range clock {
			if !c.at.Before(from) && d.matches(c.wall) {
				times = append(times, c.at)
			}
		}
		return times
	}
	// The first moment at which clocks show a time or a later one, a gap being the latter.
	i := 0
	for wall := clock[0].wall; i < len(clock); wall = wall.Add(time.Minute) {
		for i < len(clock) && clock[i].wall.Before(wall) {
			i++
		}
		if i < len(clock) && d.matches(wall) && !clock[i].at.Before(from) && !slices.ContainsFunc(times, clock[i].at.Equal) {
			times = append(times, clock[i].at)
		}
	}
	return times
}

func TestNextIsWhatGoingThroughEveryMinuteFinds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		change := rapid.SampledFrom([]string{
			"Europe/Berlin 2026-03-29", "Europe/Berlin 2026-10-25", "America/Asuncion 2023-10-01", "America/Asuncion 2024-03-24",
			"Africa/Cairo 2026-04-24", "Africa/Cairo 2026-10-29", "Australia/Lord_Howe 2026-04-05", "Australia/Lord_Howe 2026-10-04",
			"America/St_Johns 2010-03-14", "UTC 2026-02-28",
		}).Draw(t, "change")
		name, date, _ := strings.Cut(change, " ")
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		noon, err := time.ParseInLocation(time.DateOnly, date, zone)
		if err != nil {
			t.Fatal(err)
		}
		noon = noon.Add(time.Duration(rapid.IntRange(-20*60, 20*60).Draw(t, "minutes")) * time.Minute)
		to := noon.Add(36 * time.Hour)
		d := draw(t)
		s, err := schedule.Parse(schedule.Cron, d.text, name)
		if err != nil {
			t.Fatalf("%s: %v", d.text, err)
		}
		var got []time.Time
		for at, ok := s.Next(noon.Add(-time.Second)); ok && at.Before(to); at, ok = s.Next(at) {
			got = append(got, at)
		}
		if diff := cmp.Diff(d.oracle(noon, to), got); diff != "" {
			t.Errorf("%s in %s from %s (-oracle +got):\n%s", d.text, name, noon, diff)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"Every day at 06:00", "every 5 minutes", "on the 1st and 15th of the month at midnight", "every first monday of the month at 3am",
		"every hour between 22:00 and 2:00", "every 6 hours starting at 1pm", "at minutes 5, 25 of every hour", "every second", "every", "every other",
		"twice a day", "last", "monday -", "0 times a day", "every 99999999999 minutes", "day", "from", "at :", "of the", "month",
	} {
		f.Add(true, text)
	}
	for _, text := range []string{
		"0 6 * * *", "*/5 * * * MON-FRI", "0 0 L * *", "0 0 15W * 5#3", "@daily", "0 0 30 2 *", "7-7/7 * * * 7-7/0", "TZ= * * * *", "1,,2 * * * *", "- - - - -",
	} {
		f.Add(false, text)
	}
	f.Fuzz(func(t *testing.T, english bool, text string) {
		format := schedule.Cron
		if english {
			format = schedule.English
		}
		s, err := schedule.Parse(format, text, "Europe/Berlin")
		if err != nil {
			var fault *schedule.Error
			if !asError(err, &fault) || fault.Offset < 0 || fault.Offset > len(text) || fault.Message == "" || fault.Hint == "" {
				t.Fatalf("%q: a fault that says too little: %#v", text, err)
			}
			return
		}
		at := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
		for range 50 {
			next, ok := s.Next(at)
			if !ok || !next.After(at) {
				t.Fatalf("%q: after %s is %s, %v", text, at, next, ok)
			}
			at = next
		}
		if s.Words() == "" {
			t.Fatalf("%q has no words", text)
		}
	})
}
