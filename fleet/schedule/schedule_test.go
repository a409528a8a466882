package schedule_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet/schedule"
)

func parsed(tb testing.TB, format, text, zone string) schedule.Schedule {
	tb.Helper()
	s, err := schedule.Parse(format, text, zone)
	if err != nil {
		tb.Fatalf("%s %q: %v", format, text, err)
	}
	return s
}

// first lists the first times after the begin of 2026, a year that begins on a Thursday.
func first(tb testing.TB, s schedule.Schedule, count int) []string {
	tb.Helper()
	at := time.Date(2025, 12, 31, 23, 59, 59, 0, s.Zone())
	var times []string
	for range count {
		next, ok := s.Next(at)
		if !ok {
			break
		}
		times = append(times, next.Format("01-02 15:04:05"))
		at = next
	}
	return times
}

func TestEnglish(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, words, next string }{
		{"Every day at 06:00", "every day at 06:00", "01-01 06:00:00 01-02 06:00:00"},
		{"every day", "every day at 00:00", "01-01 00:00:00 01-02 00:00:00"},
		{"daily", "every day at 00:00", "01-01 00:00:00 01-02 00:00:00"},
		{"@daily", "every day at 00:00", "01-01 00:00:00 01-02 00:00:00"},
		{"Run at 10:00 am", "every day at 10:00", "01-01 10:00:00 01-02 10:00:00"},
		{"Run at 12:15 pm", "every day at 12:15", "01-01 12:15:00 01-02 12:15:00"},
		{"12:15 a.m.", "every day at 00:15", "01-01 00:15:00 01-02 00:15:00"},
		{"at 06:00:30", "every day at 06:00:30", "01-01 06:00:30 01-02 06:00:30"},
		{"noon", "every day at 12:00", "01-01 12:00:00 01-02 12:00:00"},
		{"Every 5 minutes", "every 5 minutes", "01-01 00:00:00 01-01 00:05:00"},
		{"every 7 minutes", "at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour", "01-01 00:00:00 01-01 00:07:00"},
		{"every 90 minutes", "every 90 minutes", "01-01 00:00:00 01-01 01:30:00"},
		{"Run every minute", "every minute", "01-01 00:00:00 01-01 00:01:00"},
		{"every hour", "every hour", "01-01 00:00:00 01-01 01:00:00"},
		{"hourly", "every hour", "01-01 00:00:00 01-01 01:00:00"},
		{"every hour at minute 10", "at minute 10 of every hour", "01-01 00:10:00 01-01 01:10:00"},
		{"at minutes 5, 25 and 45 of every hour", "at minutes 5, 25 and 45 of every hour", "01-01 00:05:00 01-01 00:25:00"},
		{"every hour at :30", "at minute 30 of every hour", "01-01 00:30:00 01-01 01:30:00"},
		{"every 3 hours", "every 3 hours", "01-01 00:00:00 01-01 03:00:00"},
		{"every 120 minutes", "every 2 hours", "01-01 00:00:00 01-01 02:00:00"},
		{"every 5 hours", "every day at 00:00, 05:00, 10:00, 15:00 and 20:00", "01-01 00:00:00 01-01 05:00:00"},
		{"every other hour", "every 2 hours", "01-01 00:00:00 01-01 02:00:00"},
		{"Run every 6 hours, starting at 1:00 pm on day Monday", "at 01:00, 07:00, 13:00 and 19:00 on Mondays", "01-05 01:00:00 01-05 07:00:00"},
		{"every 15 seconds", "every 15 seconds", "01-01 00:00:00 01-01 00:00:15"},
		{"every second", "every second", "01-01 00:00:00 01-01 00:00:01"},
		{"every 2 seconds, only on thursday", "every 2 seconds on Thursdays", "01-01 00:00:00 01-01 00:00:02"},
		{"twice a day", "every 12 hours", "01-01 00:00:00 01-01 12:00:00"},
		{"once daily", "every day at 00:00", "01-01 00:00:00 01-02 00:00:00"},
		{"4 times an hour", "every 15 minutes", "01-01 00:00:00 01-01 00:15:00"},
		{"every weekday at 9am", "at 09:00 from Monday to Friday", "01-01 09:00:00 01-02 09:00:00 01-05 09:00:00"},
		{"every weekend at noon", "at 12:00 on Saturdays and Sundays", "01-03 12:00:00 01-04 12:00:00"},
		{"every monday and friday at 9:30 pm", "at 21:30 on Mondays and Fridays", "01-02 21:30:00 01-05 21:30:00"},
		{"Every sunday at noon", "at 12:00 on Sundays", "01-04 12:00:00 01-11 12:00:00"},
		{"monday through friday", "at 00:00 from Monday to Friday", "01-01 00:00:00 01-02 00:00:00"},
		{"Run at 6:00 pm every Monday through Friday", "at 18:00 from Monday to Friday", "01-01 18:00:00 01-02 18:00:00"},
		{"fri-mon at 8:00", "at 08:00 on Mondays, Fridays, Saturdays and Sundays", "01-02 08:00:00 01-03 08:00:00"},
		{"midnight on Tuesdays", "at 00:00 on Tuesdays", "01-06 00:00:00 01-13 00:00:00"},
		{"2pm on Tuesday, Wednesday and Thursday", "at 14:00 on Tuesdays, Wednesdays and Thursdays", "01-01 14:00:00 01-06 14:00:00"},
		{"5am, 10am and 3pm", "every day at 05:00, 10:00 and 15:00", "01-01 05:00:00 01-01 10:00:00"},
		{"4pm, 5pm, and 7pm", "every day at 16:00, 17:00 and 19:00", "01-01 16:00:00 01-01 17:00:00"},
		{"at 17:30 and 9:15 on weekdays", "at 09:15 and 17:30 from Monday to Friday", "01-01 09:15:00 01-01 17:30:00"},
		{"on the 1st and 15th of the month at midnight", "at 00:00 on the 1st and 15th of the month", "01-01 00:00:00 01-15 00:00:00 02-01 00:00:00"},
		{"at 10:00 am on the 1st and 15th of every month", "at 10:00 on the 1st and 15th of the month", "01-01 10:00:00 01-15 10:00:00"},
		{"last day of the month at 23:59", "at 23:59 on the last day of the month", "01-31 23:59:00 02-28 23:59:00 03-31 23:59:00"},
		{"the 1st and last day of the month at 8:00", "at 08:00 on the 1st and last day of the month", "01-01 08:00:00 01-31 08:00:00"},
		{"Run every 2nd day of the month", "at 00:00 on the 2nd of the month", "01-02 00:00:00 02-02 00:00:00"},
		{"on day 15 at 4:00", "at 04:00 on the 15th of the month", "01-15 04:00:00 02-15 04:00:00"},
		{"every first monday of the month at 3am", "at 03:00 on the 1st Monday of the month", "01-05 03:00:00 02-02 03:00:00"},
		{"on the second and last sunday of the month", "at 00:00 on the 2nd and last Sunday of the month", "01-11 00:00:00 01-25 00:00:00"},
		{"last weekday of the month at 17:00", "at 17:00 on the last workday of the month", "01-30 17:00:00 02-27 17:00:00"},
		{"first weekday of the month at 17:00", "at 17:00 on the first workday of the month", "01-01 17:00:00 02-02 17:00:00"},
		{"every month at 02:00", "at 02:00 on the 1st of the month", "01-01 02:00:00 02-01 02:00:00"},
		{"every 3 months", "at 00:00 on the 1st of the month in January, April, July and October", "01-01 00:00:00 04-01 00:00:00"},
		{"every week at 4am", "at 04:00 on Sundays", "01-04 04:00:00 01-11 04:00:00"},
		{"every week on tuesday at 4am", "at 04:00 on Tuesdays", "01-06 04:00:00 01-13 04:00:00"},
		{"yearly", "at 00:00 on the 1st of the month in January", "01-01 00:00:00 01-01 00:00:00"},
		{"every day from January to March", "every day at 00:00 in January, February and March", "01-01 00:00:00 01-02 00:00:00"},
		{"every 10 minutes Monday through Friday every month", "every 10 minutes from Monday to Friday", "01-01 00:00:00 01-01 00:10:00"},
		{
			"Run every 10 minutes Monday through thursday between 6:00 am and 8:00 pm",
			"every 10 minutes between 06:00 and 20:00 on Mondays, Tuesdays, Wednesdays and Thursdays", "01-01 06:00:00 01-01 06:10:00",
		},
		{"every hour between 22:00 and 2:00", "every hour between 22:00 and 02:00", "01-01 00:00:00 01-01 01:00:00 01-01 02:00:00 01-01 22:00:00"},
		{"every 20 minutes from 9am to 9:40 am", "every 20 minutes between 09:00 and 09:40", "01-01 09:00:00 01-01 09:20:00 01-01 09:40:00 01-02 09:00:00"},
		{"Run every 3 days at noon", "at 12:00 on the 1st, 4th, 7th, 10th, 13th, 16th, 19th, 22nd, 25th, 28th and 31st of the month", "01-01 12:00:00 01-04 12:00:00"},
		{"every second day", "at 00:00 on the 1st, 3rd, 5th, 7th, 9th, 11th, 13th, 15th, 17th, 19th, 21st, 23rd, 25th, 27th, 29th and 31st of the month", "01-01 00:00:00 01-03 00:00:00"},
	} {
		s := parsed(t, schedule.English, test.text, "Europe/Berlin")
		if got := s.Words(); got != test.words {
			t.Errorf("%q is %q, want %q", test.text, got, test.words)
		}
		got := first(t, s, strings.Count(test.next, "-"))
		if strings.Join(got, " ") != test.next {
			t.Errorf("%q: %s, want %s", test.text, got, test.next)
		}
		// What it says of itself means the same.
		again, err := schedule.Parse(schedule.English, s.Words(), "Europe/Berlin")
		if err != nil {
			t.Errorf("%q in its own words, %q: %v", test.text, s.Words(), err)
		} else if diff := cmp.Diff(first(t, s, 50), first(t, again, 50)); diff != "" {
			t.Errorf("%q in its own words, %q:\n%s", test.text, s.Words(), diff)
		}
	}
}

func TestCron(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, words, next string }{
		{"0 6 * * *", "every day at 06:00", "01-01 06:00:00 01-02 06:00:00"},
		{"0 0 6 * * *", "every day at 06:00", "01-01 06:00:00 01-02 06:00:00"},
		{"0 10 * * * *", "at minute 10 of every hour", "01-01 00:10:00 01-01 01:10:00"},
		{"*/5 * * * *", "every 5 minutes", "01-01 00:00:00 01-01 00:05:00"},
		{"30 */10 * * * ?", "at second 30 of every 10 minutes", "01-01 00:00:30 01-01 00:10:30"},
		{"30 4 * JAN-MAR Wed", "at 04:30 on Wednesdays in January, February and March", "01-07 04:30:00 01-14 04:30:00"},
		{"0 0 * * 7", "at 00:00 on Sundays", "01-04 00:00:00"},
		{"0 0 * * 5-7", "at 00:00 on Fridays, Saturdays and Sundays", "01-02 00:00:00 01-03 00:00:00 01-04 00:00:00 01-09 00:00:00"},
		{"0 0 * * FRI-SUN", "at 00:00 on Fridays, Saturdays and Sundays", "01-02 00:00:00 01-03 00:00:00 01-04 00:00:00 01-09 00:00:00"},
		{"0 0 * * 1-7/2", "at 00:00 on Mondays, Wednesdays, Fridays and Sundays", "01-02 00:00:00 01-04 00:00:00 01-05 00:00:00"},
		{"*/20 8-9 * * *", "every day at 08:00, 08:20, 08:40, 09:00, 09:20 and 09:40", "01-01 08:00:00 01-01 08:20:00"},
		// With five fields a day of either kind will do, with six it must be of both.
		{"0 0 13 * 5", "at 00:00 on the 13th of the month, and also on Fridays", "01-02 00:00:00 01-09 00:00:00 01-13 00:00:00"},
		{"0 0 0 13 * 5", "at 00:00 on the 13th of the month, only on Fridays", "02-13 00:00:00 03-13 00:00:00 11-13 00:00:00"},
		{"0 0 L * *", "at 00:00 on the last day of the month", "01-31 00:00:00 02-28 00:00:00"},
		{"0 0 15W * ?", "at 00:00 on the workday nearest to the 15th of the month", "01-15 00:00:00 02-16 00:00:00 03-16 00:00:00"},
		{"0 0 LW * ?", "at 00:00 on the last workday of the month", "01-30 00:00:00 02-27 00:00:00 03-31 00:00:00"},
		{"0 0 12 ? * 5#3", "at 12:00 on the 3rd Friday of the month", "01-16 12:00:00 02-20 12:00:00"},
		{"0 12 ? * FRIL", "at 12:00 on the last Friday of the month", "01-30 12:00:00 02-27 12:00:00"},
		{"@hourly", "every hour", "01-01 00:00:00 01-01 01:00:00"},
		{"@WEEKLY", "at 00:00 on Sundays", "01-04 00:00:00 01-11 00:00:00"},
		{"0 0 29 2 *", "at 00:00 on the 29th of the month in February", "02-29 00:00:00 02-29 00:00:00"},
		{"5 4 3 2 1 *", "at 03:04:05 on the 2nd of the month in January", "01-02 03:04:05"},
		{"7/20 * * * *", "at minutes 7, 27 and 47 of every hour", "01-01 00:07:00 01-01 00:27:00"},
	} {
		s := parsed(t, schedule.Cron, test.text, "")
		if got := s.Words(); got != test.words {
			t.Errorf("%q is %q, want %q", test.text, got, test.words)
		}
		if got := strings.Join(first(t, s, strings.Count(test.next, "-")), " "); got != test.next {
			t.Errorf("%q: %s, want %s", test.text, got, test.next)
		}
	}
}

// TestFaults are rows S01 and S02: where the fault is, and what would be right.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		format, text, at string
		hint             string
	}{
		{schedule.English, "", "0: it is empty", "every day at 06:00"},
		{schedule.English, "every", `0: it ends with "every"`, "every 5 minutes"},
		{schedule.English, "Every day at 25:00", "13: 25:00 is no time of day", "06:00"},
		{schedule.English, "Every day at 06:60", "13: 06:60 is no time of day", "06:00"},
		{schedule.English, "Every day at 13 pm", "13: 13 pm is no time of day", "6 am"},
		{schedule.English, "Every day at 6", "13: 6 is no time of day", "6 am"},
		{schedule.English, "Every day at 6:5", "13: 6:5 is no time of day", "06:00"},
		{schedule.English, "Every 0 minutes", "6: every 0 minutes is never", "every 5 minutes"},
		{schedule.English, "every day at 06:00 and", `19: it ends with "and"`, "every day"},
		{schedule.English, "every day at", `10: it ends with "at"`, "every day"},
		{schedule.English, "every day at ☕", `13: '☕' is in no English time`, "every day"},
		{schedule.English, "every munday at 9am", `6: "munday" is no word of a schedule`, "did you mean `monday`?"},
		{schedule.English, "every 5 minuets", `8: "minuets" cannot be counted`, "minutes"},
		{schedule.English, "evry day", `0: "evry" is no word of a schedule`, "did you mean `every`?"},
		{schedule.English, "every 5 minutes at 06:00", "19: it happens every so many minutes, and so at no time of the day", "one of the two"},
		{schedule.English, "every 7 hours starting at 01:00", "6: a day cannot be divided into 7 hours", "12"},
		{schedule.English, "every 2 weeks", "6: every 2 weeks is not possible", "1st and 15th"},
		{schedule.English, "every 70 minutes", "6: a day has no room for every 70 minutes", "divides a day"},
		{schedule.English, "on the 32nd of the month", "7: there is no 32nd", "31st"},
		{schedule.English, "on the 30th of february", "0: there is no such day, so it never fires", "days"},
		{schedule.English, "at 06:00 at 07:00 daily 5", "24: 5 could be a time or a day", "6th"},
		{schedule.English, "0 0 6 * * *", "0: it is cron, and read as English", `"Cron"`},
		{schedule.English, "@reboot", "0: @reboot is no time", "@daily"},
		{schedule.English, "every day at 06:00 UTC", `19: "utc" is no word of a schedule`, "every day"},
		{schedule.English, "every 4 days on monday", "6: every 4 days does not go with other days", "count"},
		{schedule.Cron, "", "0: it has 0 fields, and cron has 5 or 6", "five fields"},
		{schedule.Cron, "* * * *", "6: it has 4 fields, and cron has 5 or 6", "five fields"},
		{schedule.Cron, "0 0 0 1 1 * 2030", "12: it has 7 fields, and cron has 5 or 6", "six"},
		{schedule.Cron, "60 * * * *", `0: "60" is not among the minutes`, "0 to 59"},
		{schedule.Cron, "0  24 * * *", `3: "24" is not among the hours`, "0 to 23"},
		{schedule.Cron, "0 0 30 2 *", "0: there is no such day, so it never fires", "days"},
		{schedule.Cron, "0 0 0 31 4,6,9,11 *", "0: there is no such day, so it never fires", "days"},
		{schedule.Cron, "*/0 * * * *", `0: the step "0" of minutes is no number above 0`, "0 to 59"},
		{schedule.Cron, "0 5,5-1 * * *", "4: 5-1 ends before it begins", "0 to 23"},
		{schedule.Cron, "1-99999 * * * *", `0: "1-99999" is not among the minutes`, "0 to 59"},
		{schedule.Cron, "*/99 * * * *", "0: a step of 99 is more than there are minutes", "0 to 59"},
		{schedule.Cron, "@reboot", "0: @reboot is no time", "@daily"},
		{schedule.Cron, "0 0 * FEB-JAN *", "6: FEB-JAN ends before it begins", "JAN to DEC"},
		{schedule.Cron, "0 0 6 * * 8", `10: "8" is not among the weekdays`, "0 to 7"},
		{schedule.Cron, "0 6 * * 1,", `9: there is nothing after the comma`, "SAT"},
		{schedule.Cron, "0 6 * * MON#6", `8: "MON#6" is not among the weekdays`, "SAT"},
		{schedule.Cron, "CRON_TZ=UTC 0 6 * * *", `0: "CRON_TZ=UTC" is not among the seconds`, "0 to 59"},
		{schedule.Cron, "Every day at 06:00", "13: it has 4 fields, and cron has 5 or 6", "five fields"},
		{"Crom", "0 6 * * *", `0: there is no format "Crom"`, "English or Cron"},
	} {
		_, err := schedule.Parse(test.format, test.text, "")
		var fault *schedule.Error
		if !errors.As(err, &fault) {
			t.Errorf("%s %q: %v", test.format, test.text, err)
			continue
		}
		if got := fmt.Sprintf("%d: %s", fault.Offset, fault.Message); got != test.at || !strings.Contains(fault.Hint, test.hint) {
			t.Errorf("%s %q:\n got %s (%s)\nwant %s (%s)", test.format, test.text, got, fault.Hint, test.at, test.hint)
		}
	}
}

func TestUnknownZone(t *testing.T) {
	t.Parallel()
	_, err := schedule.Parse(schedule.English, "every day", "Mars/X")
	var fault *schedule.Error
	if !errors.As(err, &fault) || !fault.Zone || fault.Message != `there is no time zone "Mars/X"` {
		t.Errorf("%v", err)
	}
}

func TestHastySchedules(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"* * * * * *": true, "0,30 * * * * *": true, "0 * * * * *": false, "* * * * *": false, "0 6 * * *": false,
	} {
		if got := parsed(t, schedule.Cron, text, "").Hasty(); got != want {
			t.Errorf("%q is hasty: %v", text, got)
		}
	}
	if !parsed(t, schedule.English, "at 06:00:00 and 06:00:30", "").Hasty() {
		t.Error("two times within a minute are not hasty")
	}
}

func TestWindow(t *testing.T) {
	t.Parallel()
	nights := schedule.Window{Schedule: parsed(t, schedule.English, "every day at 22:00", "Europe/Berlin"), Duration: 4 * time.Hour}
	always := schedule.Window{Schedule: parsed(t, schedule.Cron, "0 * * * *", ""), Duration: time.Hour}
	berlin := nights.Schedule.Zone()
	day := func(d, h, m int) time.Time { return time.Date(2026, 5, d, h, m, 0, 0, berlin) }
	for _, test := range []struct {
		at    time.Time
		open  bool
		until time.Time
	}{
		{day(1, 21, 59), false, day(1, 22, 0)},
		{day(1, 22, 0), true, day(2, 2, 0)},
		{day(2, 1, 59), true, day(2, 2, 0)},
		{day(2, 2, 0), false, day(2, 22, 0)},
	} {
		open, until := nights.Open(test.at)
		if open != test.open || !until.Equal(test.until) {
			t.Errorf("at %s: %v until %s, want %v until %s", test.at, open, until, test.open, test.until)
		}
	}
	if open, until := always.Open(day(1, 0, 30)); !open || until.Sub(day(1, 0, 30)) < 24*time.Hour {
		t.Errorf("a window that opens as it closes: %v until %s", open, until)
	}
	if open, until := (schedule.Window{}).Open(day(1, 0, 0)); open || !until.IsZero() {
		t.Errorf("a window without a schedule: %v until %s", open, until)
	}
}

func asError(err error, fault **schedule.Error) bool { return errors.As(err, fault) }
