package core

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/varanhq/varan/core/store"
)

func TestPeopleAreToldOfAClockThatIsNotAsItWas(t *testing.T) {
	t.Parallel()
	wall := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	s, err := store.Open(t.Context(), store.Config{
		Path: filepath.Join(t.TempDir(), "varan.db"), SealKey: make([]byte, store.SealKeySize),
		Now: func() time.Time { return wall }, Elapsed: func() time.Duration { return 0 },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	c := &core{store: s}
	for _, step := range []struct {
		by   time.Duration
		want string
	}{
		{0, ""},
		{time.Second, ""},
		{-time.Second, ""},
		{-2 * time.Hour, "set back by 2h0m0s"},
		{2 * time.Hour, ""},
		{50 * time.Minute, ""},
		{3 * time.Hour, "went forward by 3h0m0s at once"},
		{-3 * time.Hour, "set back by 3h0m0s"},
	} {
		wall = wall.Add(step.by)
		got := c.clockText()
		if step.want == "" && got != "" || !strings.Contains(got, step.want) {
			t.Errorf("after a step of %s: %q, want %q in it", step.by, got, step.want)
		}
	}
}
