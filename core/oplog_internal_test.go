package core

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
)

func TestWhatAnOpSaysIsKeptWithinBounds(t *testing.T) {
	t.Parallel()
	var kept []api.OpLogLine
	logs := newOpLogs(func(_ context.Context, run, op string, lines []api.OpLogLine) error {
		if run != "r" || op != "o" {
			t.Errorf("lines of %s/%s", run, op)
		}
		kept = append(kept, lines...)
		return nil
	}, slog.New(slog.DiscardHandler))
	progress := func(text string, percent int) {
		logs.take(reconciler.Event{
			Kind: reconciler.EventProgress, Run: "r", Op: "o",
			Progress: &fleet.Progress{Phase: fleet.PhasePull, Text: text, Percent: percent},
		})
	}
	logs.take(reconciler.Event{Kind: reconciler.EventOpStarted, Run: "r", Op: "o", Server: "alpha"})
	for percent := range 100 {
		progress("pulling", percent)
	}
	progress(strings.Repeat("x", maxOpLine+1), 0)
	logs.flush(t.Context())
	if len(kept) != 4 || len(kept[2].Text) != maxOpLine || kept[3].Text != "x" {
		t.Errorf("%d lines are kept", len(kept))
	}
	logs.take(reconciler.Event{Kind: reconciler.EventOpEnded, Run: "r", Op: "o", Result: &reconciler.OpResult{
		Status: reconciler.OpFailed, Reason: "no space", Outcome: fleet.Outcome{Log: strings.Repeat("line\n", 1<<18)},
	}})
	logs.flush(t.Context())
	size := 0
	for _, line := range kept {
		size += len(line.Text)
	}
	last := kept[len(kept)-1]
	if size > maxOpLog || last.Phase != api.OpLogEnd || last.Text != "failed: no space" ||
		!strings.HasPrefix(kept[len(kept)-2].Text, "the rest is left out") {
		t.Errorf("%d bytes in %d lines, the last %+v", size, len(kept), last)
	}
	if len(logs.open) > 0 {
		t.Error("an op that ended is still remembered")
	}
}
