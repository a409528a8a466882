package schedule_test

import (
	"testing"

	"github.com/varanhq/varan/fleet/schedule"
)

func TestAnyFormatIsRead(t *testing.T) {
	for text, words := range map[string]string{
		"0 2 * * *":          "every day at 02:00",
		"every day at 02:00": "every day at 02:00",
		"@daily":             "every day at 00:00",
	} {
		s, err := schedule.ParseAny(text, "")
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if s.Words() == "" {
			t.Errorf("%s: no words, like %q", text, words)
		}
	}
	for _, text := range []string{"", "0 2 * * x", "sometimes"} {
		if _, err := schedule.ParseAny(text, ""); err == nil {
			t.Errorf("%q is a schedule", text)
		}
	}
}
