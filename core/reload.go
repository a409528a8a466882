package core

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/settings"
)

// configuration is one state of all settings. It never changes: a reload puts another in its place.
type configuration struct {
	*Settings
	origins *settings.Values
}

// settings are those in force. What is decided by more than one of them must take them from
// one call.
func (c *core) settings() *Settings { return c.live.Load().Settings }

// Settings implements web.CoreControl.
func (c *core) Settings() []api.Setting {
	now := c.live.Load()
	list := now.origins.ListOf(now.Settings)
	out := make([]api.Setting, len(list))
	for i, v := range list {
		out[i] = api.Setting(v)
	}
	return out
}

// authTable is the table of settings whose reload also forgets what is known of keys.
const authTable = "auth"

// Reload implements web.CoreControl.
func (c *core) Reload(ctx context.Context, only []string) (api.Reloaded, error) {
	actor := auth.ActorOf(ctx)
	event := api.Event{Kind: "config", Actor: actor.Name, Remote: actor.Remote, Listener: actor.Listener}
	result, err := c.reload(only)
	if err != nil {
		event.Text = "settings were not reloaded: " + err.Error()
		c.cfg.Logger.LogAttrs(ctx, slog.LevelError, "settings not reloaded", slog.String("err", err.Error()))
		c.record(ctx, event)
		return result, err
	}
	words := make([]string, len(result.Changed))
	for i, change := range result.Changed {
		words[i] = fmt.Sprintf("%s from %s to %s", change.Key, change.Old, change.New)
	}
	event.Text = "settings were reloaded: nothing changed"
	if len(words) > 0 {
		event.Text = "settings were reloaded: " + strings.Join(words, ", ")
	}
	c.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "settings reloaded", slog.Int("changed", len(words)), slog.Any("certificates", result.Certificates))
	c.record(ctx, event)
	return result, nil
}

// reload puts new settings in the place of the old ones, or changes nothing.
func (c *core) reload(only []string) (api.Reloaded, error) {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	if c.cfg.Reload == nil {
		return api.Reloaded{}, errors.New("this core has no settings to read again")
	}
	now := c.live.Load()
	next, origins, err := c.cfg.Reload()
	if err != nil {
		return api.Reloaded{}, refusedSettings(err)
	}
	if len(only) > 0 {
		part := *now.Settings
		if unknown := settings.Take(&part, next, only); len(unknown) > 0 {
			return api.Reloaded{}, &api.Error{
				Status: http.StatusBadRequest, Code: api.CodeBadRequest,
				Message: fmt.Sprintf("there is no setting nor table of settings %q", unknown[0]), Hint: "varan core settings lists them",
			}
		}
		next = &part
	}
	result := api.Reloaded{Changed: []api.SettingChange{}}
	var restart []string
	for _, change := range settings.Diff(now.Settings, next) {
		if !change.Dynamic {
			restart = append(restart, change.Key)
		}
		result.Changed = append(result.Changed, api.SettingChange{Key: change.Key, Old: change.Old, New: change.New})
	}
	if len(restart) > 0 {
		return api.Reloaded{}, &api.Error{
			Status: http.StatusConflict, Code: api.CodeConflict,
			Message: "only a restart can change " + strings.Join(restart, ", "), Hint: "nothing was applied; restart core, or put them back",
		}
	}
	if c.doors != nil && len(only) == 0 {
		names, commit, err := c.doors.readCertificates(time.Now())
		if err != nil {
			return api.Reloaded{}, refusedSettings(err)
		}
		commit()
		result.Certificates = names
	}
	c.live.Store(&configuration{Settings: next, origins: origins})
	if c.cfg.LogLevel != nil {
		c.cfg.LogLevel.Set(next.Log.SlogLevel())
	}
	if c.scheduler != nil {
		c.scheduler.Changed() // the time zone may be another
	}
	if len(only) == 0 || slices.Contains(only, authTable) {
		c.guard.Reload()
	}
	return result, nil
}

// refusedSettings makes an answer of what is wrong with the settings.
func refusedSettings(err error) error {
	found, ok := errors.AsType[fleet.Diagnostics](err)
	if !ok {
		return &api.Error{
			Status: http.StatusUnprocessableEntity, Code: api.CodeInvalid, Message: "the settings cannot be read: " + err.Error(),
			Hint: "nothing was applied",
		}
	}
	return &api.Error{
		Status: http.StatusUnprocessableEntity, Code: api.CodeInvalid, Message: "the settings are invalid: " + found[0].String(),
		Hint: "nothing was applied; varan core --print-config checks a file", Diagnostics: found,
	}
}

// reloadOn reloads at every signal until ctx ends.
func (c *core) reloadOn(ctx context.Context, signals <-chan os.Signal) {
	ctx = auth.WithActor(ctx, auth.Actor{Name: "signal"})
	for {
		select {
		case <-signals:
			_, _ = c.Reload(ctx, nil) // it is in the log and in the history
		case <-ctx.Done():
			return
		}
	}
}
