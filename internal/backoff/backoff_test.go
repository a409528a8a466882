package backoff_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/varanhq/varan/internal/backoff"
)

func TestNextDoublesUpToMaxAndStartsOverAfterReset(t *testing.T) {
	b := backoff.Backoff{
		Base: time.Second, Max: 5 * time.Second, Floor: time.Minute,
		Rand: func() float64 { return 0.5 },
	}
	next := func(n int) (waits []string) {
		for range n {
			waits = append(waits, b.Next().String())
		}
		return waits
	}
	if diff := cmp.Diff([]string{"1m0.5s", "1m1s", "1m2s", "1m2.5s", "1m2.5s"}, next(5)); diff != "" {
		t.Errorf("waits (-want +got):\n%s", diff)
	}
	b.Reset()
	if diff := cmp.Diff([]string{"1m0.5s"}, next(1)); diff != "" {
		t.Errorf("after a reset (-want +got):\n%s", diff)
	}
}

func TestNextStaysWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := backoff.Backoff{
			Base:  time.Duration(rapid.Int64Min(0).Draw(t, "base")),
			Max:   time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "max")),
			Floor: time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "floor")),
		}
		for range rapid.IntRange(1, 100).Draw(t, "tries") {
			if got := b.Next(); got < b.Floor || got > b.Floor+b.Max {
				t.Fatalf("wait %v outside of [%v, %v]", got, b.Floor, b.Floor+b.Max)
			}
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backoff.Backoff{Base: time.Second, Rand: func() float64 { return 0.5 }}
		start := time.Now()
		if err := b.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 500*time.Millisecond {
			t.Errorf("waited %v, want 500ms", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := b.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait = %v, want context.Canceled", err)
		}
	})
}
