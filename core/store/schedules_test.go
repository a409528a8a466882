package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/procedure"
)

func TestMarksOfSchedules(t *testing.T) {
	t.Parallel()
	s := open(t, config(t, newClock()))
	day := func(d int) time.Time { return time.Date(2026, 5, d, 6, 0, 0, 0, time.UTC) }
	first := procedure.Mark{Procedure: "nightly", Expression: "e", At: day(1)}
	gone := procedure.Mark{Procedure: "gone", Expression: "e", At: day(1)}
	if err := s.SetMarks(t.Context(), []procedure.Mark{first, gone}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.SetMarks(t.Context(), nil, []string{"gone"}); err != nil {
		t.Fatal(err)
	}
	want := func(m procedure.Mark) {
		t.Helper()
		got, err := s.Marks(t.Context())
		if diff := cmp.Diff([]procedure.Mark{m}, got); err != nil || diff != "" {
			t.Errorf("marks (-want +got): %v\n%s", err, diff)
		}
	}
	want(first)
	begin := func(id string, d int) procedure.Run {
		run := procedure.Run{
			ID: id, Procedure: "nightly", Trigger: reconciler.TriggerSchedule, Actor: procedure.ScheduleActor,
			Status: procedure.StatusQueued, Created: day(d), Fire: &procedure.Fire{Due: day(d), Expression: "e", Missed: 2},
		}
		if err := s.BeginProcedure(t.Context(), run); err != nil {
			t.Fatal(err)
		}
		return run
	}
	// The mark moves with the begin of the run, and never back.
	run := begin("1", 2)
	want(procedure.Mark{Procedure: "nightly", Expression: "e", At: day(2), Run: "1", Due: day(2)})
	skipped := procedure.Mark{Procedure: "nightly", Expression: "e", At: day(5), Run: "1", Due: day(2), Skipped: 3}
	if err := s.SkipTime(t.Context(), skipped, "the run before was not over"); err != nil {
		t.Fatal(err)
	}
	want(skipped)
	// A run that core's end kept from beginning is to be begun again.
	run.Status, run.Reason, run.Ended = procedure.StatusCanceled, procedure.ReasonShutdown, day(2)
	if err := s.EndProcedure(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	skipped.Unbegun = true
	want(skipped)
	run = begin("2", 3)
	if err := s.StepStarted(t.Context(), "2", procedure.Step{Number: 1, Type: "None", Status: procedure.StatusRunning, Started: day(3)}); err != nil {
		t.Fatal(err)
	}
	run.Status, run.Reason, run.Ended = procedure.StatusInterrupted, "", day(3)
	if err := s.EndProcedure(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	want(procedure.Mark{Procedure: "nightly", Expression: "e", At: day(5), Run: "2", Due: day(3), Skipped: 3})
}

func TestOwnProcedures(t *testing.T) {
	t.Parallel()
	s := open(t, config(t, newClock()))
	names := func() (out []string) {
		own, err := s.OwnProcedures(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range own {
			if p.Enabled {
				out = append(out, p.Name)
			}
		}
		return out
	}
	if diff := cmp.Diff([]string{"Backup Core Database", "Global Auto Update", "Rotate Server Keys"}, names()); diff != "" {
		t.Error(diff)
	}
	if err := s.EnableOwnProcedure(t.Context(), "Global Auto Update", "ann", false); err != nil {
		t.Error(err)
	}
	if err := s.RemoveOwnProcedure(t.Context(), "Backup Core Database", "ann"); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"Rotate Server Keys"}, names()); diff != "" {
		t.Error(diff)
	}
	if err := s.RemoveOwnProcedure(t.Context(), "Backup Core Database", "ann"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a second time: %v", err)
	}
}
