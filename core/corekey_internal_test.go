package core

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/hub"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/internal/keyfile"
)

// TestTheEndOfAGraceIsNotMissedWhileKeysAreHeld has the last agent pin core's new key while somebody
// keeps keys from changing: a backup, or the change itself that is about to end.
func TestTheEndOfAGraceIsNotMissedWhileKeysAreHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "varan.db"), SealKey: make([]byte, store.SealKeySize)})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		file := filepath.Join(dir, "core.key")
		first, _, err := keyfile.LoadOrCreate(file)
		if err != nil {
			t.Fatal(err)
		}
		set := keyfile.NewSet(file, nil)
		next, err := set.Propose()
		if err != nil {
			t.Fatal(err)
		}
		if err := set.Advance(); err != nil {
			t.Fatal(err)
		}
		if err := s.SetCoreKeyChanged(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		h, err := hub.New(hub.Config{Key: next, CoreID: "core", Registry: &registry{store: s}})
		if err != nil {
			t.Fatal(err)
		}
		k := &coreKey{
			files: set, store: s, hub: h, log: slog.New(slog.DiscardHandler),
			record: func(context.Context, api.Event) {}, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1),
			keys: keyfile.Keys{Current: next, Prev: first},
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- k.Run(ctx) }()
		release, err := k.hold(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		poke(k.wake)
		synctest.Wait()
		if k.have().Prev.IsZero() {
			t.Error("the grace ended while keys were held")
		}
		release()
		synctest.Wait()
		if !k.have().Prev.IsZero() {
			t.Error("the grace is not over, though nobody needs it")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
