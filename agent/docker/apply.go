package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/agent/docker/job"
	"github.com/varanhq/varan/fleet"
)

// apply makes the host run the order's release, or puts the last good one back.
//
// Until touch is passed everything can be called off. From there on it is carried
// through, whatever becomes of ctx.
func (t *task) apply(ctx context.Context, deadline time.Time, blobs agent.Blobs) fleet.Outcome {
	release := &t.order.Release
	if t.rec.Failure != nil {
		// An agent before us had found the release bad and was putting the old one back.
		return t.fall(context.WithoutCancel(ctx), t.rec.Failure)
	}
	st := t.e.states.get(t.order.Stack)
	if t.order.Kind == fleet.OrderUpdate && (st.Good == nil || st.Good.Digest != release.Digest) {
		return t.outcome(&failure{
			Reason: "the host runs another release than the one to update", Retryable: true,
			Hint: "deploy the stack, then look for updates again",
		}, !t.rec.Touched)
	}
	if t.order.Kind == fleet.OrderHeal && !st.heals(release.Digest) {
		return t.canceled()
	}
	if b, ok := st.bad(release.Digest); ok && !t.order.Force {
		return t.outcome(&failure{
			Reason: "this release failed here before: " + b.Reason,
			Hint:   "push a fix, or deploy the stack by hand to try the same release again",
		}, true)
	}
	if f := t.permitted(release); f != nil {
		t.e.log.WarnContext(ctx, "refused", slog.String("order", t.order.ID), slog.String("stack", t.order.Stack), slog.String("reason", f.Reason))
		return t.outcome(f, !t.rec.Touched)
	}
	prepare, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	t.tell(fleet.PhaseFiles, "", "fetching files")
	images, f := t.prepare(prepare, release, blobs)
	switch {
	case f != nil && ctx.Err() != nil:
		return t.canceled()
	case f != nil:
		f.Log = t.said.String()
		return t.refuse(f)
	}
	if f := t.filled(release); f != nil {
		return t.outcome(f, !t.rec.Touched)
	}
	if f := t.adopt(prepare, release, deadline); f != nil {
		return t.outcome(f, true)
	}
	// The point of no return.
	t.rec.Touched = true
	ctx, cancel = context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	return t.deploy(ctx, release, images.build, deadline)
}

// deploy brings a release up whose images and content are on the host.
func (t *task) deploy(ctx context.Context, release *fleet.Release, build []string, deadline time.Time) fleet.Outcome {
	// Taking over what is as declared is no deploy.
	good := t.e.states.get(t.order.Stack).Good
	commands := commandsDue(good, release) && (!t.adopting || t.order.Force)
	first := good == nil || t.rec.First == runsStarted
	t.tell(fleet.PhaseFiles, "", "placing files")
	s, f := t.place(release)
	if f == nil && commands {
		if f = t.command(ctx, "pre_deploy", release.Options.PreDeploy, &t.rec.Pre, s); f != nil {
			return t.putFilesBack(f)
		}
	}
	var now []live
	if f == nil {
		now, f = t.bring(ctx, release, s, build, deadline)
	}
	if f != nil {
		f.Log = t.evidence(ctx, f)
		return t.fall(context.WithoutCancel(ctx), f)
	}
	now, err := t.settle(ctx, release, now)
	if err != nil {
		return t.outcome(&failure{Reason: err.Error(), Retryable: true}, false)
	}
	if commands {
		f = t.after(context.WithoutCancel(ctx), deadline, s, first)
	}
	out := t.changed(t.outcome(f, false), now)
	if len(t.questions) > 0 {
		out.Hint = "a volume keeps its old definition, since changing it would destroy its data"
	}
	return out
}

// prepare gets everything the release needs onto the host without touching a container
// or a file that one may have mounted.
func (t *task) prepare(ctx context.Context, release *fleet.Release, blobs agent.Blobs) (imagePlan, *failure) {
	if err := t.e.blobs.fetch(ctx, release, blobs); err != nil {
		return imagePlan{}, &failure{Reason: err.Error(), Retryable: true}
	}
	if len(release.Services) == 0 {
		return imagePlan{}, nil
	}
	raw, err := t.e.blobs.get(release.Model)
	if err != nil {
		return imagePlan{}, &failure{Reason: err.Error(), Retryable: true}
	}
	if f := t.modelPermitted(release, raw); f != nil {
		return imagePlan{}, f
	}
	images, err := t.planImages(ctx, release, raw)
	if err != nil {
		return imagePlan{}, t.away(ctx, err)
	}
	if len(images.pull)+len(images.build) > 0 {
		if f := t.logIn(ctx, release, blobs); f != nil {
			return images, f
		}
	}
	if len(images.pull) == 0 {
		return images, nil
	}
	return images, t.pull(ctx, images.pull)
}

// logIn gets what the pulls of an order need. It is kept for this order, in memory.
func (t *task) logIn(ctx context.Context, release *fleet.Release, blobs agent.Blobs) *failure {
	t.logins = nil
	for _, r := range t.e.cfg.Policy.Registries {
		t.logins = append(t.logins, job.Login{Registry: r.Domain, Username: r.Username, Password: r.Password.Reveal()})
	}
	if release.Options.Registry.Account == "" {
		return nil
	}
	if blobs == nil {
		return &failure{Reason: "there is nobody to ask for the registry account", Retryable: true}
	}
	logins, err := blobs.Logins(ctx)
	if err != nil {
		return &failure{
			Reason: err.Error(), Retryable: true,
			Hint: "check that core has the account " + release.Options.Registry.Account + " at " + release.Options.Registry.Registry,
		}
	}
	for _, l := range logins {
		// Core's come last: of two accounts at one registry the later one counts.
		t.logins = append(t.logins, job.Login{Registry: l.Registry, Username: l.Username, Password: l.Password})
	}
	return nil
}

// pull pulls. Only an image that is not on the host either way is a failure.
func (t *task) pull(ctx context.Context, images []wantedImage) *failure {
	req := job.Request{Op: job.Pull, Logins: t.logins}
	req.Deadline, _ = ctx.Deadline()
	for _, img := range images {
		req.Images = append(req.Images, job.Image{Ref: img.ref, Platform: img.platform})
	}
	t.tell(fleet.PhasePull, "", "pulling images")
	res, err := t.work(ctx, fleet.PhasePull, req)
	if err != nil {
		f := t.away(ctx, fmt.Errorf("pull images: %w", err))
		f.Retryable = true
		return f
	}
	for _, img := range images {
		reason, failed := res.Images[img.ref]
		switch {
		case !failed:
		case img.present:
			t.note(fmt.Sprintf("warning: %s was not refreshed, the one on the host is used: %s", img.ref, reason))
		default:
			return &failure{
				Reason:    fmt.Sprintf("image %s is not on the host and cannot be pulled: %s", img.ref, reason),
				Hint:      "check the image's name and tag, and that the host may pull it",
				Retryable: retryablePull(reason),
			}
		}
	}
	return nil
}

// refuse ends an order that touched nothing. Unless trying again may help, the release
// is remembered as bad.
func (t *task) refuse(f *failure) fleet.Outcome {
	if !f.Retryable {
		if err := t.remember(f, t.e.states.get(t.order.Stack).Good != nil); err != nil {
			f.Reason += "; " + err.Error()
		}
	}
	return t.outcome(f, true)
}

// bring starts a release whose files are in place, and waits for the verdict.
func (t *task) bring(ctx context.Context, release *fleet.Release, s site, build []string, deadline time.Time) ([]live, *failure) {
	t.project = release.Project
	req := t.request(release, s, deadline)
	if len(release.Services) > 0 {
		var err error
		if req.Model, err = t.e.writeModel(t.order.Stack, release); err != nil {
			return nil, &failure{Reason: err.Error()}
		}
	}
	if len(build) > 0 {
		t.tell(fleet.PhaseBuild, "", "building "+strings.Join(build, ", "))
		b := req
		b.Op, b.Services, b.Refresh = job.Build, build, release.Options.Pull || release.Options.BuildWith.Pull
		b.BuildFlags = job.BuildFlags{NoCache: release.Options.BuildWith.NoCache, Args: release.Options.BuildWith.Args}
		b.Logins = t.logins
		if _, err := t.work(ctx, fleet.PhaseBuild, b); err != nil {
			return nil, t.away(ctx, fmt.Errorf("build: %w", err))
		}
	}
	if f := t.clearAway(ctx, release, req); f != nil || len(release.Services) == 0 {
		return nil, f
	}
	up := release.Options.Up
	req.Op, req.Recreate, req.StopSeconds = job.Up, t.stale(release), up.TimeoutSeconds
	// Going back recreates what has to be and no more.
	req.UpFlags = job.UpFlags{
		ForceRecreate:      up.ForceRecreate && t.rec.Failure == nil,
		AlwaysRecreateDeps: up.AlwaysRecreateDeps, RenewAnonymousVolume: up.RenewAnonymousVolume,
	}
	req.Only = t.outstanding(release, req.Recreate)
	if req.Only == nil || len(req.Only) > 0 {
		t.tell(fleet.PhaseUp, "", "starting")
		if _, err := t.work(ctx, fleet.PhaseUp, req); err != nil {
			return nil, t.blame(ctx, err)
		}
	}
	if services := t.restarts(release, req.Recreate); len(services) > 0 && !req.UpFlags.ForceRecreate {
		t.tell(fleet.PhaseUp, "", "restarting "+strings.Join(services, ", ")+" for changed files")
		req.Op, req.Services, req.Recreate = job.Restart, services, nil
		if _, err := t.work(ctx, fleet.PhaseUp, req); err != nil {
			return nil, t.blame(ctx, err)
		}
	}
	// Others may load the engine while this one waits.
	t.slot.release()
	j := newJury(release.Services, release.Options.IgnoreServices, t.before, t.e.cfg.StableFor, time.Now())
	return t.e.verdict(ctx, t.project, j, func(service, text string) { t.tell(fleet.PhaseVerdict, service, text) })
}

// request is what every call of the worker for a release has in common.
func (t *task) request(release *fleet.Release, s site, deadline time.Time) job.Request {
	return job.Request{
		Project: release.Project,
		Dir:     s.dir,
		OwnerLabels: map[string]string{
			fleet.LabelServer: t.e.cfg.Server,
			fleet.LabelStack:  t.order.Stack,
		},
		ReleaseLabels: map[string]string{
			fleet.LabelRelease: string(release.Digest),
			fleet.LabelCommit:  release.Commit.ID,
			fleet.LabelOrder:   t.order.ID,
		},
		RecreateVolumes: t.order.RecreateVolumes,
		StopSeconds:     t.order.StopSeconds,
		Deadline:        deadline,
	}
}

// stale lists the services that Compose would leave alone although they are not as they
// were deployed: it compares a hash it wrote itself.
func (t *task) stale(release *fleet.Release) []string {
	st := t.e.states.get(t.order.Stack)
	healing := st.Good != nil && st.Good.Digest == release.Digest
	var out []string
	for i := range t.before {
		l := &t.before[i]
		s, ok := release.Service(l.Service)
		if !ok || l.oneOff || l.Digest != s.Digest || l.project != release.Project {
			continue
		}
		_, recorded := st.Baseline[l.ID]
		// What a worker made for this very release before a crash is not drift.
		ours := !recorded && !healing && l.release == release.Digest
		switch {
		case !ours && len(drift(l, st)) > 0,
			l.State == fleet.StatePaused, l.State == fleet.StateDead,
			healing && l.Health == fleet.HealthUnhealthy:
			out = append(out, l.Service)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// blame finds the service that an error of Compose is about: the engine's words seldom
// name it.
func (t *task) blame(ctx context.Context, err error) *failure {
	f := t.away(ctx, err)
	if f.Retryable {
		return f
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	found, err := t.e.list(ctx, nil, labelProject+"="+t.project, fleet.LabelServer+"="+t.e.cfg.Server)
	if err != nil {
		return f
	}
	worst := 0
	for i := range found {
		if sick := found[i].sickness(); sick > worst && !found[i].oneOff {
			worst = sick
			f.containers = []string{found[i].ID}
			f.service = found[i].Service
		}
	}
	if f.service != "" && !strings.HasPrefix(f.Reason, "service ") {
		f.Reason = "service " + f.service + ": " + f.Reason
	}
	return f
}

// sickness orders containers by how likely they are why a deploy failed; 0 is well.
func (l *live) sickness() int {
	switch {
	case l.State == fleet.StateCreated && l.ExitCode != 0: // could not be started
		return 5
	case l.Health == fleet.HealthUnhealthy:
		return 4
	case l.State == fleet.StateExited && l.ExitCode != 0:
		return 3
	case l.State == fleet.StateRestarting, l.RestartCount > 0:
		return 2
	case l.Health == fleet.HealthStarting:
		return 1
	}
	return 0
}

// settle makes a release the last good one, and returns what is left after orphans went.
func (t *task) settle(ctx context.Context, release *fleet.Release, now []live) ([]live, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	now, err := t.removeOrphans(ctx, release, now)
	if err != nil {
		return nil, err
	}
	old := t.e.states.get(t.order.Stack)
	images, held := imagesOf(now), old.Images
	renamed := old.Project != "" && old.Project != t.project
	if renamed {
		held = nil
	}
	if err := t.e.hold(ctx, t.project, images, held); err != nil {
		return nil, err
	}
	at, f := t.e.siteOf(t.order.Stack, release)
	if f != nil {
		return nil, errors.New(f.Reason)
	}
	if err := t.leave(old, func(dir string) bool { return at.host && dir == at.dir }); err != nil {
		return nil, err
	}
	if at.host {
		if err := t.emptyRunDir(old); err != nil {
			return nil, err
		}
	}
	good := *release
	err = t.e.states.update(t.order.Stack, func(s *state) {
		s.Project, s.Good, s.Images = t.project, &good, images
		s.Adopted = stillAdopted(s, now)
		s.place(at, release)
		s.Baseline = t.baselines(release, now, old)
		s.Bad = s.withoutBad(release.Digest)
		s.Stopped, s.Held = false, nil
		if t.order.Kind == fleet.OrderApply {
			s.SelfHeal = t.order.SelfHeal
		}
		if t.rec.Failure == nil {
			s.DeployedAt = time.Now()
		}
	})
	if err != nil {
		return nil, err
	}
	dropped := slices.DeleteFunc(slices.Clone(old.Images), func(img image) bool {
		_, ok := release.Service(img.Service)
		return ok && !renamed
	})
	if err := t.e.unhold(ctx, cmp.Or(old.Project, t.project), dropped); err != nil {
		return nil, err
	}
	gone := t.order.Release.Blobs()
	if old.Good != nil {
		gone = append(gone, old.Good.Blobs()...)
	}
	t.forgetWanted()
	return now, t.e.blobs.drop(gone, t.e.needed())
}

// place has the state say where the files of a release are.
func (s *state) place(at site, release *fleet.Release) {
	s.Placed = nil
	if !at.host {
		s.Placed = paths(release)
	} else if files := s.PlacedIn[at.dir]; files != nil {
		s.PlacedIn = map[string]map[string]fleet.Digest{at.dir: digests(release)}
	}
}

// forgetWanted lets the blobs of the order's release go.
func (t *task) forgetWanted() {
	t.e.mu.Lock()
	defer t.e.mu.Unlock()
	delete(t.e.wanted, t.order.ID)
}

// removeOrphans removes the containers of services that the release no longer has.
// Only now: what it replaces them with runs.
func (t *task) removeOrphans(ctx context.Context, release *fleet.Release, now []live) ([]live, error) {
	cl, err := t.e.conn.api()
	if err != nil {
		return nil, err
	}
	keep := make([]live, 0, len(now))
	for i := range now {
		l := &now[i]
		if _, ok := release.Service(l.Service); ok || l.oneOff {
			keep = append(keep, *l)
			continue
		}
		t.tell(fleet.PhaseRemove, l.Service, "removing "+l.Name+", which is no longer declared")
		if _, err := cl.ContainerStop(ctx, l.ID, client.ContainerStopOptions{}); err != nil && !errdefs.IsNotFound(err) {
			return nil, fmt.Errorf("stop %s: %w", l.Name, err)
		}
		_, err := cl.ContainerRemove(ctx, l.ID, client.ContainerRemoveOptions{Force: true})
		if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
			return nil, fmt.Errorf("remove %s: %w", l.Name, err)
		}
	}
	return keep, nil
}

// imagesOf lists what each service runs.
func imagesOf(now []live) []image {
	var out []image
	for i := range now {
		if l := &now[i]; !l.oneOff {
			out = append(out, image{Service: l.Service, Ref: l.Image, ID: l.ImageID})
		}
	}
	slices.SortFunc(out, func(a, b image) int { return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.ID, b.ID)) })
	return slices.CompactFunc(out, func(a, b image) bool { return a.Service == b.Service })
}

// baselines records how the containers should stay. One that was recorded keeps its
// record. One that is new but not of this order's making was put there by someone else
// while the order ran: the record of what it replaced stays, so that it shows as drift.
func (t *task) baselines(release *fleet.Release, now []live, old *state) map[string]baseline {
	healing := old.Good != nil && old.Good.Digest == release.Digest
	out := make(map[string]baseline, len(now))
	for i := range now {
		l := &now[i]
		if l.oneOff {
			continue
		}
		if known, ok := old.Baseline[l.ID]; ok {
			out[l.ID] = known
			continue
		}
		// An order before this one may have made it, and been cut off before it was recorded.
		ours := l.order == t.order.ID || (!healing && l.release == release.Digest)
		if id, replaced, ok := replaced(l, old); ok && !ours {
			out[id] = replaced
			continue
		}
		out[l.ID] = baseline{Service: l.Service, Number: l.number, Config: l.config}
	}
	return out
}

// changed fills in which services' containers changed.
func (t *task) changed(out fleet.Outcome, now []live) fleet.Outcome {
	old, had, has := map[string]live{}, map[string]bool{}, map[string]bool{}
	for _, l := range t.first {
		old[l.ID], had[l.Service] = l, true
	}
	recreated, started := map[string]bool{}, map[string]bool{}
	for i := range now {
		l := &now[i]
		has[l.Service] = true
		was, same := old[l.ID]
		switch {
		case !same && had[l.Service]:
			recreated[l.Service] = true
		case !same, !was.StartedAt.Equal(l.StartedAt):
			started[l.Service] = true
		}
	}
	maps.DeleteFunc(had, func(s string, _ bool) bool { return has[s] })
	out.Recreated, out.Started, out.Removed = keys(recreated), keys(started), keys(had)
	return out
}

func keys(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }
