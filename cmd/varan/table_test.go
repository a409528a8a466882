package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTableAlignsColouredCells(t *testing.T) {
	t.Parallel()
	s := style{on: true}
	tab := table{head: []string{"A", "B"}}
	tab.add(s.green("ok"), "one")
	tab.add("longer", "two")
	var b strings.Builder
	tab.write(&b, style{})
	want := "A       B\n" + s.green("ok") + "      one\nlonger  two\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestTableBecomesParagraphsWhereItDoesNotFit(t *testing.T) {
	t.Parallel()
	tab := table{head: []string{"STACK", "SERVER", "COMMIT", "NOTE"}}
	tab.add("web", "alpha", "-", "its health check fails since the last deploy")
	tab.add("db", "alpha", "1a2b3c4d", "")
	var wide, narrow strings.Builder
	tab.fit(&wide, style{}, 60)
	if got := strings.Count(wide.String(), "\n"); got != 3 {
		t.Errorf("on 60 columns it is no table:\n%s", wide.String())
	}
	tab.fit(&narrow, style{}, 40)
	want := "web\n  server  alpha\n  note    its health check fails since the last deploy\n" +
		"db\n  server  alpha\n  commit  1a2b3c4d\n"
	if diff := cmp.Diff(want, narrow.String()); diff != "" {
		t.Error(diff)
	}
}

func TestAgoIsRough(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for want, at := range map[string]time.Time{
		"-": {}, "0s": now.Add(time.Second), "59s": now.Add(-59 * time.Second), "3m": now.Add(-3 * time.Minute),
		"47h": now.Add(-47 * time.Hour), "2d": now.Add(-48 * time.Hour),
	} {
		if got := ago(at, now); got != want {
			t.Errorf("ago of %s is %q, not %q", at, got, want)
		}
	}
}

func TestPrintableTakesAwayWhatMovesTheCursor(t *testing.T) {
	t.Parallel()
	if got := printable("a\x1b[31mb\r\nc\u009bd\té"); got != "a[31mbcd\té" {
		t.Errorf("got %q", got)
	}
}
