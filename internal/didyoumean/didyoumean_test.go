package didyoumean_test

import (
	"testing"

	"github.com/varanhq/varan/internal/didyoumean"
)

func TestWordFindsWhatWasMeant(t *testing.T) {
	t.Parallel()
	known := []string{"server", "services", "name", "run_directory"}
	for word, want := range map[string]string{
		"naem": "name", "sevrer": "server", "NAME": "name", "run_dirctory": "run_directory",
		"name": "", "x": "", "completely": "", "": "",
	} {
		if got := didyoumean.Word(word, known); got != want {
			t.Errorf("%q was taken for %q, want %q", word, got, want)
		}
	}
}

func TestDistanceCountsSlips(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"ab", "ba", 1}, {"abc", "abd", 1}, {"abc", "ac", 1}, {"", "abc", 3}, {"A", "a", 0}} {
		if got := didyoumean.Distance(c.a, c.b); got != c.want || didyoumean.Distance(c.b, c.a) != c.want {
			t.Errorf("from %q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestSlipLeavesFamiliesAlone(t *testing.T) {
	t.Parallel()
	known := []string{"PGID", "KEY_1", "HOSTS", "PASS", "PORT", "DB_USER"}
	for word, want := range map[string]string{
		"PROT": "PORT", "PAS": "PASS", "PASSS": "PASS", "DB_USR": "DB_USER", "DB_UESR": "DB_USER", "POORT": "PORT",
		"PUID": "", "GID": "", "KEY_2": "", "KEY_12": "", "HOST": "", "PORTS": "", "PORT": "", "X": "",
	} {
		if got := didyoumean.Slip(word, known); got != want {
			t.Errorf("%q was taken for %q, want %q", word, got, want)
		}
	}
}
