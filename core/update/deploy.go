package update

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/varanhq/varan/core/alert"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

// deploy brings newer images to the services that are due, and returns how all stand then.
//
// When several are due and one of them is to blame for a failure, the others are tried again
// without it: they must not wait for an image that may never come.
func (l *look) deploy(ctx context.Context, t target, found []api.Update, due []string) ([]api.Update, error) {
	for len(due) > 0 {
		l.req.News(fmt.Sprintf("updating %s on %s: %s", t.stack.Name, t.stack.Server, strings.Join(due, ", ")))
		_, result, err := l.cfg.Fleet.Update(ctx, reconciler.UpdateRequest{
			Sync: t.sync, Stack: t.stack.Name, Server: t.stack.Server, Causes: causesOf(found, due),
			All: t.stack.Updates.AllServices, Actor: l.req.Actor, Parent: l.req.Parent, Watch: l.watch,
		})
		switch {
		case errors.Is(err, reconciler.ErrKeptBack):
			l.say("%s", err)
			return found, nil
		case ctx.Err() != nil:
			return found, fmt.Errorf("wait for the update of %s on %s: %w", t.stack.Name, t.stack.Server, ctx.Err())
		case err != nil:
			return found, l.failed(ctx, t, found, nil, err.Error())
		case result.Status == reconciler.OpSucceeded:
			return l.updated(ctx, t, found, due)
		}
		reason := result.Reason
		if result.Outcome.Retryable || result.Status != reconciler.OpRolledBack && result.Status != reconciler.OpFailed {
			// It says nothing about the image: it could not be fetched, or it was not its turn.
			return found, l.failed(ctx, t, found, nil, reason)
		}
		bad := blamed(reason, due)
		if err := l.failed(ctx, t, found, bad, reason); err != nil {
			return found, err
		}
		if t.stack.Updates.AllServices {
			return found, nil
		}
		due = slices.DeleteFunc(slices.Clone(due), func(s string) bool { return slices.Contains(bad, s) })
	}
	return found, nil
}

// causesOf say what is newer, for the plan.
func causesOf(found []api.Update, due []string) map[string]plan.Cause {
	causes := map[string]plan.Cause{}
	for i := range found {
		if u := &found[i]; slices.Contains(due, u.Service) {
			causes[u.Service] = plan.Cause{
				Kind: plan.CauseImage, Field: "image",
				From: u.Image + " (" + short(u.Running) + ")", To: u.Image + " (" + short(u.Newest) + ")",
			}
		}
	}
	return causes
}

// watch passes on what the agent does.
func (l *look) watch(e reconciler.Event) {
	if p := e.Progress; e.Kind == reconciler.EventProgress && p != nil {
		l.req.News(strings.TrimSpace(fmt.Sprintf("%s: %s %s %s", e.Stack, p.Phase, p.Service, p.Text)))
	}
}

// blamed are the services that a failure is about: the one that is named, else all.
func blamed(reason string, due []string) []string {
	if rest, ok := strings.CutPrefix(reason, "service "); ok {
		if service, _, _ := strings.Cut(rest, ": "); slices.Contains(due, service) {
			return []string{service}
		}
	}
	return due
}

// failed records an update that did not succeed, and holds the images that are to blame.
func (l *look) failed(ctx context.Context, t target, found []api.Update, bad []string, reason string) error {
	l.result.Failed++
	for i := range found {
		u := &found[i]
		if slices.Contains(bad, u.Service) {
			u.Failed, u.FailedReason, u.FailedAt = u.Newest, reason, l.cfg.Now()
			u.State, u.Reason = api.UpdateHeld, "that image failed on "+u.Server+": "+reason
		}
	}
	text := "the update failed: " + reason
	if len(bad) > 0 {
		text = fmt.Sprintf("the update of %s was undone, and is not tried again until there is another image: %s", strings.Join(bad, ", "), reason)
	}
	l.say("%s on %s: %s", t.stack.Name, t.stack.Server, text)
	l.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "image update failed",
		slog.String("stack", t.stack.Name), slog.String("host", t.stack.Server), slog.String("reason", reason))
	return l.keep(ctx, t, found, []api.Event{l.event(t, text)})
}

// updated records an update that succeeded, and tells of it where nobody asked for it.
func (l *look) updated(ctx context.Context, t target, before []api.Update, done []string) ([]api.Update, error) {
	l.cfg.Fleet.Refresh(ctx, []string{t.stack.Server})
	found, _ := l.compare(ctx, t, l.cfg.Fleet.Observed()[t.stack.Server])
	var texts, images []string
	for i := range before {
		if u := &before[i]; slices.Contains(done, u.Service) {
			texts = append(texts, fmt.Sprintf("%s runs %s (%s)", u.Service, u.Image, short(u.Newest)))
			images = append(images, u.Image)
		}
	}
	text := "updated: " + strings.Join(texts, ", ")
	l.say("%s on %s %s", t.stack.Name, t.stack.Server, text)
	if l.req.Mode == Auto {
		l.cfg.Tell(autoUpdated(t.stack, text, images))
	}
	return found, l.keep(ctx, t, found, []api.Event{l.event(t, text)})
}

func autoUpdated(stack *fleet.Stack, text string, images []string) alert.Alert {
	a := alert.Alert{
		Type: fleet.AlertStackAutoUpdated, Level: alert.LevelOK, Server: stack.Server,
		Target: fleet.ResourceName{Kind: string(fleet.KindStack), Name: stack.Name},
		Text:   fmt.Sprintf("stack %s on %s was %s", stack.Name, stack.Server, text),
		Data:   map[string]any{"id": stack.Name, "name": stack.Name, "server_id": stack.Server, "server_name": stack.Server, "images": images},
	}
	if stack.Kind == fleet.KindDeployment {
		a.Type, a.Target.Kind = fleet.AlertDeploymentAutoUpdated, string(fleet.KindDeployment)
		a.Text = fmt.Sprintf("deployment %s on %s was %s", stack.Name, stack.Server, text)
		delete(a.Data, "images")
		a.Data["image"] = strings.Join(images, ", ")
	}
	return a
}
