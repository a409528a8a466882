package core

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/settings"
)

// noKeys is a store without keys.
type noKeys struct{}

func (noKeys) KeyHash(context.Context, string) (string, [32]byte, error) {
	return "", [32]byte{}, errors.New("no such key")
}

func (noKeys) KeyUsed(context.Context, string, time.Time) error { return nil }

func defaults(t *testing.T) *Settings {
	t.Helper()
	s := &Settings{}
	if _, err := settings.Load(s, settings.Source{Defaults: map[string]string{"dir": "data"}}); err != nil {
		t.Fatal(err)
	}
	return s
}

// reloadable is a core that reads next when it reloads.
func reloadable(t *testing.T, next func() (*Settings, error)) *core {
	t.Helper()
	c := &core{cfg: Config{
		Logger: slog.New(slog.DiscardHandler), LogLevel: &slog.LevelVar{},
		Reload: func() (*Settings, *settings.Values, error) {
			s, err := next()
			return s, nil, err
		},
	}}
	c.live.Store(&configuration{Settings: defaults(t)})
	var err error
	c.guard, err = auth.New(auth.Config{Keys: noKeys{}, Logger: c.cfg.Logger})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestA018EveryDecisionUsesOneSnapshot(t *testing.T) {
	t.Parallel()
	const readers, swaps = 64, 1000
	base, turn := defaults(t), 0
	c := reloadable(t, func() (*Settings, error) {
		turn++
		next := *base
		next.Limits.Handshakes, next.Limits.HandshakesPerNet = turn, turn
		next.Webhook.PerMinute, next.Webhook.TotalMinute = turn, turn
		return &next, nil
	})
	first := *base
	first.Limits.HandshakesPerNet, first.Webhook.TotalMinute = first.Limits.Handshakes, first.Webhook.PerMinute
	c.live.Store(&configuration{Settings: &first})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for {
				s := c.settings()
				if s.Limits.Handshakes != s.Limits.HandshakesPerNet || s.Webhook.PerMinute != s.Webhook.TotalMinute {
					t.Errorf("a torn state: %+v", s.Limits)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for range swaps {
		if _, err := c.reload(nil); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	if got := c.settings().Limits.Handshakes; got != swaps {
		t.Errorf("the last state is number %d", got)
	}
}

func TestA012StaticSettingsAreRefusedByNameAndNothingIsApplied(t *testing.T) {
	t.Parallel()
	c := reloadable(t, func() (*Settings, error) {
		s := defaults(t)
		s.Listen, s.Dir, s.Log.Level = "0.0.0.0:1", "elsewhere", "debug"
		return s, nil
	})
	_, err := c.reload(nil)
	refusal, ok := errors.AsType[*api.Error](err)
	if !ok || refusal.Code != api.CodeConflict || !strings.Contains(refusal.Message, "dir, listen") {
		t.Errorf("got %v", err)
	}
	if c.settings().Log.Level != "info" || c.cfg.LogLevel.Level() != slog.LevelInfo {
		t.Error("a part was applied")
	}
}

func TestA020AnInvalidReloadLeavesTheOldSettings(t *testing.T) {
	t.Parallel()
	found := fleet.Diagnostics{{Rule: "unknown-key", Position: fleet.Position{File: "core.toml", Line: 3, Col: 1}, Message: "unknown key"}}
	c := reloadable(t, func() (*Settings, error) { return nil, found })
	before := c.settings()
	_, err := c.reload(nil)
	refusal, ok := errors.AsType[*api.Error](err)
	if !ok || refusal.Code != api.CodeInvalid || !strings.Contains(refusal.Message, "core.toml:3:1") || len(refusal.Diagnostics) != 1 {
		t.Errorf("got %v", err)
	}
	if c.settings() != before {
		t.Error("the settings are others")
	}
}

func TestA048AReloadMayBeOfAPart(t *testing.T) {
	t.Parallel()
	c := reloadable(t, func() (*Settings, error) {
		s := defaults(t)
		s.Listen = "0.0.0.0:1" // static, but not asked for
		s.Auth.Failures, s.Limits.Handshakes, s.Log.Level = 7, 8, "debug"
		return s, nil
	})
	got, err := c.reload([]string{"auth", "limits.handshakes"})
	if err != nil {
		t.Fatal(err)
	}
	want := []api.SettingChange{
		{Key: "limits.handshakes", Old: "256", New: "8"}, {Key: "auth.failures_per_minute", Old: "5", New: "7"},
	}
	if diff := cmp.Diff(want, got.Changed); diff != "" {
		t.Error(diff)
	}
	if s := c.settings(); s.Auth.Failures != 7 || s.Limits.Handshakes != 8 || s.Log.Level != "info" || s.Listen == "0.0.0.0:1" {
		t.Errorf("got %+v", s)
	}
	if _, err := c.reload([]string{"auht"}); err == nil || !strings.Contains(err.Error(), "auht") {
		t.Errorf("got %v", err)
	}
}
