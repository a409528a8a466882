package spec_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/spec"
)

func schedule(format, text string) fleet.Diagnostics {
	_, diags := spec.ParseFile("fleet.toml", fmt.Appendf(nil,
		"[[procedure]]\nname = \"a\"\nconfig.schedule_format = %q\nconfig.schedule = %q\n", format, text))
	return diags
}

func TestWhatIsNoTimeIsNoSchedule(t *testing.T) {
	t.Parallel()
	for format, texts := range map[string][]string{
		"English": {"every", "Every day at 25:00", "Every day at 06:60", "Every 0 minutes", "every day at 06:00 and", "every day at ☕", "every day at"},
		"Cron": {
			"* * * *", "60 * * * *", "0 0 30 2 *", "0 0 0 31 4,6,9,11 *", "*/0 * * * *", "5-1 * * * *", "1-99999 * * * *", "@reboot",
			"0 0 0 1 1 * 2030", "0 0 * FEB-JAN *", "0 24 * * *", "0 0 0 * *", "a b c d e", "0 0 6 * * 8",
		},
	} {
		for _, text := range texts {
			diags := schedule(format, text)
			if !diags.HasErrors() || !strings.HasPrefix(found(diags)[0], "4:") || !strings.HasSuffix(found(diags)[0], " schedule") {
				t.Errorf("%s %q: %v", format, text, diags)
			}
		}
	}
}

func TestTimesAreSchedules(t *testing.T) {
	t.Parallel()
	for format, texts := range map[string][]string{
		"English": {
			"", "Every day at 06:00", "Every 5 minutes", "every monday and friday at 3 pm", "Every day at midnight",
			"at 10:00 am on the 1st and 15th of every month", "every 2 hours", "noon", "every weekday at 23:59",
		},
		"Cron": {
			"0 12 * * * *", "0 0 6 * * *", "*/5 * * * *", "0 0 1,15 * MON-FRI", "0 0 L * *", "0 0 15W * ?", "0 0 12 ? * 5#3",
			"@daily", "0 0 29 2 *", "0 0 0 31 1,2 *", "30 4 * JAN-MAR Wed", "0 0 * * 7",
		},
	} {
		for _, text := range texts {
			if diags := schedule(format, text); diags.HasErrors() {
				t.Errorf("%s %q: %v", format, text, diags)
			}
		}
	}
}

func TestFaultsOfSchedulesAreInTheirText(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ toml, at, hint string }{
		{`config.schedule = "every munday at 9am"`, "3:26 schedule", "did you mean `monday`?"},
		{`schedule = "Every day at 25:00"`, "3:26 schedule", "06:00"},
		{"config.schedule = \"\"\"\nevery day\n  at 25:00\"\"\"", "5:6 schedule", "06:00"},
		{"[procedure.config]\nschedule_format = \"Cron\"\nschedule = '0 60 6 * * *'", "5:15 schedule", "0 to 59"},
		{"config.schedule = \"daily\"\nconfig.schedule_timezone = \"Mars/X\"", "4:28 schedule", "Europe/Berlin"},
		{`config.schedule = "every 10 seconds"`, "3:19 schedule-hasty", "minutes"},
	} {
		_, diags := spec.ParseFile("fleet.toml", []byte("[[procedure]]\nname = \"a\"\n"+test.toml+"\n"))
		diags = slices.DeleteFunc(diags, func(d fleet.Diagnostic) bool { return d.Rule == "not-acted-on" })
		if len(diags) != 1 || found(diags)[0] != test.at || !strings.Contains(diags[0].Hint, test.hint) {
			t.Errorf("%s: %v", test.toml, diags)
		}
	}
}
