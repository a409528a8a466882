package update

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/update/registry"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/fleet/imagetag"
)

// compare says of each service how its image compares with the registry. blocked says why the
// stack is not to be updated now, whatever there is.
func (l *look) compare(ctx context.Context, t target, server fleet.ServerReport) (found []api.Update, blocked string) {
	report, there := server.Stack(t.stack.Name)
	switch {
	case !server.Online:
		blocked = "the server is not connected"
	case !there || report.Release.Digest == "":
		blocked = "it is not deployed"
	case report.Stopped:
		blocked = "a person stopped it"
	case report.Busy != "":
		blocked = "the agent is at work on it"
	case report.Release.Digest != t.stack.Release.Digest:
		blocked = "it does not run as declared, and a deploy comes first"
	}
	for i := range t.stack.Release.Services {
		service := &t.stack.Release.Services[i]
		u := api.Update{
			Stack: t.stack.Name, Server: t.stack.Server, Service: service.Name, Kind: cmp.Or(t.stack.Kind, fleet.KindStack),
			Image: service.Image, Policy: t.stack.Updates.Tag(service.Name), Auto: t.stack.Updates.Auto, Checked: l.cfg.Now(),
		}
		before := l.known[key(u.Stack, u.Server, u.Service)]
		if before.Image == u.Image {
			u.Failed, u.FailedReason, u.FailedAt = before.Failed, before.FailedReason, before.FailedAt
			u.Newest, u.FirstSeen, u.Created = before.Newest, before.FirstSeen, before.Created
		}
		if reason := skipped(t.stack, service); reason != "" {
			u.State, u.Reason, u.Newest = api.UpdateSkipped, reason, ""
		} else {
			containers := slices.DeleteFunc(slices.Clone(report.Containers), func(c fleet.Container) bool { return c.Service != service.Name })
			l.ask(ctx, t, &u, containers, server.Agent)
			if sick := sickness(service, containers); blocked == "" && sick != "" && l.req.Mode != Apply {
				blocked = "service " + service.Name + " is not well: " + sick
			}
		}
		found = append(found, u)
	}
	return found, blocked
}

// skipped says why an image is not looked at; empty when it is.
func skipped(stack *fleet.Stack, service *fleet.Service) string {
	built := slices.ContainsFunc(service.Fields, func(f fleet.Field) bool {
		return f.Path == "build" || strings.HasPrefix(f.Path, "build.")
	})
	switch {
	case stack.Updates.Skips(service.Name):
		return "auto_update_skip_services names it"
	case built:
		return "it is built, not pulled"
	case registry.Pinned(service.Image):
		return "its image is pinned to a digest"
	case service.Image == "":
		return "it has no image"
	case service.Replicas == 0:
		return "it has no containers"
	}
	return ""
}

// sickness is why a service is not to be updated by itself: a newer image would be blamed for
// it.
func sickness(service *fleet.Service, containers []fleet.Container) string {
	if service.OneShot {
		return ""
	}
	if len(containers) < service.Replicas {
		return fmt.Sprintf("%d of %d containers", len(containers), service.Replicas)
	}
	for i := range containers {
		c := &containers[i]
		if c.State != fleet.StateRunning {
			return string(c.State)
		}
		if c.Health == fleet.HealthUnhealthy || c.Health == fleet.HealthStarting {
			return string(c.Health)
		}
	}
	return ""
}

// ask compares the image of a service with what its tag stands for.
func (l *look) ask(ctx context.Context, t target, u *api.Update, containers []fleet.Container, agent fleet.AgentInfo) {
	u.State = api.UpdateUnknown
	if len(containers) == 0 {
		u.Reason = "no container of it is known"
		return
	}
	for i := range containers {
		if len(containers[i].ImageDigests) == 0 {
			u.State, u.Reason = api.UpdateSkipped, "its image was made on the host, no registry knows it"
			return
		}
		u.Running = cmp.Or(u.Running, containers[i].ImageDigests[0])
	}
	img := registry.Image{Ref: u.Image, Account: t.stack.Release.Options.Registry}
	newest, err := l.cfg.Registry.Digest(ctx, img)
	if err != nil {
		u.Reason = err.Error()
		return
	}
	l.tag(ctx, u, img)
	runs := func(digest string) bool {
		return !slices.ContainsFunc(containers, func(c fleet.Container) bool { return !slices.Contains(c.ImageDigests, digest) })
	}
	if runs(newest) {
		u.State, u.Reason, u.Running, u.Newest = api.UpdateCurrent, "", newest, newest
		u.FirstSeen, u.Created, u.Failed, u.FailedReason, u.FailedAt = time.Time{}, time.Time{}, "", "", time.Time{}
		return
	}
	if u.Newest != newest {
		u.Newest, u.FirstSeen, u.Created = newest, l.cfg.Now(), time.Time{}
	}
	details, err := l.cfg.Registry.Details(ctx, img, newest, platformOS(agent.OS), agent.Arch)
	if err != nil {
		// What the image is made of is not known, so neither is its age, nor whether it is for
		// this host at all.
		u.Reason = err.Error()
		return
	}
	u.Created = details.Created
	same := slices.ContainsFunc(details.Manifests, runs) || !slices.ContainsFunc(containers, func(c fleet.Container) bool {
		return !slices.Contains(details.Configs, c.ImageID)
	})
	if same {
		// Docker calls an image by its index; the index changes with any of its platforms.
		u.State, u.Reason = api.UpdateCurrent, "the tag stands for another index, with the same image for this host"
		return
	}
	l.weigh(t, u)
}

// platformOS is what containers run on: an agent on a desktop has an engine in a machine.
func platformOS(agent string) string {
	if agent == "windows" {
		return agent
	}
	return "linux"
}

// weigh decides whether a newer image may be deployed.
func (l *look) weigh(t target, u *api.Update) {
	u.State, u.Reason = api.UpdateAvailable, ""
	if server, reason := l.failedBefore(u); server != "" {
		u.State, u.Reason = api.UpdateHeld, "that image failed on "+server+": "+reason
		return
	}
	least := t.stack.Updates.MinAge
	since := u.FirstSeen
	if !u.Created.IsZero() && u.Created.Before(since) {
		since = u.Created
	}
	if age := l.cfg.Now().Sub(since); least > 0 && age < least {
		u.State, u.Reason = api.UpdateTooYoung, fmt.Sprintf("it is %s old, and must be %s", span(age), span(least))
	}
}

// failedBefore finds where the newest image of a service did not run well. One server is
// enough: the others need not learn it the same way.
func (l *look) failedBefore(u *api.Update) (server, reason string) {
	for _, other := range l.known {
		if other.Stack == u.Stack && other.Service == u.Service && other.Image == u.Image && other.Failed == u.Newest &&
			(server == "" || other.Server < server) {
			server, reason = other.Server, other.FailedReason
		}
	}
	return server, reason
}

// tag looks for a newer tag. That it cannot is told where there is nothing else to tell.
func (l *look) tag(ctx context.Context, u *api.Update, img registry.Image) {
	if u.Policy == "" {
		return
	}
	policy, err := imagetag.Parse(u.Policy)
	if err != nil {
		return // the resource file was refused for it
	}
	tags, err := l.cfg.Registry.Tags(ctx, img)
	if err != nil {
		if fault, ok := errors.AsType[*registry.Error](err); ok {
			u.Reason = "its tags are not known: " + fault.Message
		}
		return
	}
	u.Tag, _ = policy.Newest(registry.Tag(u.Image), tags)
}

// span is a length of time in its two largest units.
func span(d time.Duration) string {
	d = max(d, 0)
	days, hours, minutes := int(d.Hours())/24, int(d.Hours())%24, int(d.Minutes())%60
	switch {
	case days > 0 && hours > 0:
		return fmt.Sprintf("%dd %dh", days, hours)
	case days > 0:
		return fmt.Sprintf("%dd", days)
	case hours > 0 && minutes > 0:
		return fmt.Sprintf("%dh %dm", hours, minutes)
	case hours > 0:
		return fmt.Sprintf("%dh", hours)
	}
	return fmt.Sprintf("%dm", minutes)
}
