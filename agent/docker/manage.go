package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/agent/docker/job"
	"github.com/varanhq/varan/fleet"
)

// remove takes a stack down and forgets it. Named volumes and files that are not ours
// stay, unless a person gave the volumes up.
func (t *task) remove(ctx context.Context, deadline time.Time) fleet.Outcome {
	t.rec.Touched = true
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	st := t.e.states.get(t.order.Stack)
	projects := []string{t.order.Project}
	if st.Project != "" && st.Project != t.order.Project {
		projects = append(projects, st.Project)
	}
	for i := range t.elsewhere {
		if p := t.elsewhere[i].project; !slices.Contains(projects, p) {
			projects = append(projects, p)
		}
	}
	for _, project := range projects {
		if len(t.before) == 0 && project == t.order.Project && (st.Project == "" || st.Good != nil && len(st.Good.Services) == 0) {
			continue // nothing of Compose's is there
		}
		t.tell(fleet.PhaseRemove, "", "taking the stack down")
		req := job.Request{Op: job.Down, Project: project, Volumes: t.order.Volumes, Deadline: deadline}
		if _, err := t.work(ctx, fleet.PhaseRemove, req); err != nil {
			f := t.away(ctx, fmt.Errorf("take the stack down: %w", err))
			f.Log, f.Retryable = t.evidence(ctx, f), true
			return t.outcome(f, false)
		}
	}
	left, err := t.e.list(ctx, nil, fleet.LabelServer+"="+t.e.cfg.Server, fleet.LabelStack+"="+t.order.Stack)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%s is still there", left[0].Name)
	}
	if err == nil {
		err = t.clean(ctx, st)
	}
	if err != nil {
		return t.outcome(&failure{Reason: err.Error(), Retryable: true}, false)
	}
	return t.changed(t.outcome(nil, false), nil)
}

// clean removes what we put on the host beside containers.
func (t *task) clean(ctx context.Context, st *state) error {
	if err := t.e.unhold(ctx, cmp.Or(st.Project, t.order.Project), st.Images); err != nil {
		return err
	}
	if err := t.emptyRunDir(st); err != nil {
		return err
	}
	if err := t.leave(st, func(string) bool { return false }); err != nil {
		return err
	}
	for _, dir := range []string{ramStack(t.order.Stack), ramModel(t.order.Stack)} {
		if err := t.e.blobs.ram.remove(dir); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(filepath.Dir(t.e.modelPath(t.order.Stack))); err != nil {
		return fmt.Errorf("remove model: %w", err)
	}
	if err := t.e.states.drop(t.order.Stack); err != nil {
		return err
	}
	if st.Good == nil {
		return nil
	}
	return t.e.blobs.drop(st.Good.Blobs(), t.e.needed())
}

// emptyRunDir removes our files from the agent's own run directory. Data that containers
// wrote there stays, and the directory with it.
func (t *task) emptyRunDir(st *state) error {
	dir := t.e.runDir(t.order.Stack)
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = errors.Join(unplace(root, st.Placed), root.Close())
	}
	if err != nil {
		return fmt.Errorf("empty run directory: %w", err)
	}
	_ = os.Remove(dir)
	return nil
}

// manage restarts, stops, starts, pauses, unpauses or takes down what is there.
func (t *task) manage(ctx context.Context, deadline time.Time) fleet.Outcome {
	suspends := t.order.Kind == fleet.OrderStop || t.order.Kind == fleet.OrderPause || t.order.Kind == fleet.OrderDown
	var services []fleet.Service
	if t.order.Kind != fleet.OrderDown || len(t.order.Services) > 0 {
		var f *failure
		if services, f = t.targets(); f != nil {
			return t.outcome(f, true)
		}
	} else if len(t.before) == 0 && t.e.states.get(t.order.Stack).Project == "" {
		return t.outcome(nil, true) // it never was here, and nothing shall be remembered of it
	}
	t.rec.Touched = true
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	if t.order.Kind != fleet.OrderRestart {
		// Before it is done: a stop that is interrupted must not be taken for a failure.
		if err := t.rest(suspends); err != nil {
			return t.outcome(&failure{Reason: err.Error(), Retryable: true}, true)
		}
	}
	req := job.Request{Op: job.Op(t.order.Kind), Services: t.order.Services, Deadline: deadline, StopSeconds: t.order.StopSeconds}
	if good := t.e.states.get(t.order.Stack).Good; good != nil && len(good.Services) > 0 && t.order.Kind != fleet.OrderDown {
		if f := t.modelled(&req, good); f != nil {
			return t.outcome(f, false)
		}
	}
	t.tell(fleet.PhaseUp, "", string(t.order.Kind))
	if f := t.signal(ctx); f != nil {
		return t.outcome(f, false)
	}
	if _, err := t.work(ctx, fleet.PhaseUp, req); err != nil {
		f := t.away(ctx, fmt.Errorf("%s: %w", t.order.Kind, err))
		f.Log = t.evidence(ctx, f)
		return t.outcome(f, false)
	}
	if suspends {
		return t.outcome(nil, false)
	}
	t.slot.release()
	j := newJury(services, nil, t.before, t.e.cfg.StableFor, time.Now())
	now, f := t.e.verdict(ctx, t.order.Project, j, func(service, text string) { t.tell(fleet.PhaseVerdict, service, text) })
	if f != nil {
		f.Log = t.evidence(ctx, f)
		return t.outcome(f, false)
	}
	return t.changed(t.outcome(nil, false), now)
}

// rest remembers that a person stopped the stack, or some of its services, or wants it to run.
func (t *task) rest(suspends bool) error {
	return t.e.states.update(t.order.Stack, func(s *state) {
		s.named(t.order.Project)
		if len(t.order.Services) > 0 {
			s.hold(t.order.Services, suspends)
			return
		}
		s.Stopped, s.Held = suspends, nil
	})
}

// signal stops the containers by a signal that is not their own, for which Compose has no
// word. What there is to do besides is left to it.
func (t *task) signal(ctx context.Context) *failure {
	if t.order.StopSignal == "" || t.order.Kind != fleet.OrderStop && t.order.Kind != fleet.OrderDown {
		return nil
	}
	cl, err := t.e.conn.api()
	if err != nil {
		return t.away(ctx, err)
	}
	group, stopping := errgroup.WithContext(ctx)
	for i := range t.before {
		l := &t.before[i]
		if l.oneOff || len(t.order.Services) > 0 && !slices.Contains(t.order.Services, l.Service) {
			continue
		}
		group.Go(func() error {
			err := t.e.stopBy(stopping, cl, l.ID, t.order.StopSignal, t.order.StopSeconds)
			if err != nil && !errdefs.IsNotFound(err) {
				return fmt.Errorf("stop %s by %s: %w", l.Name, t.order.StopSignal, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return t.away(ctx, err)
	}
	return nil
}

// modelled gives a request the model and the directory of what runs.
func (t *task) modelled(req *job.Request, good *fleet.Release) *failure {
	s, f := t.e.siteOf(t.order.Stack, good)
	if f != nil {
		return f
	}
	var err error
	if req.Model, err = t.e.writeModel(t.order.Stack, good); err != nil {
		return &failure{Reason: err.Error()}
	}
	req.Dir = s.dir
	return nil
}

// targets are the services an order is for, as they are here, whatever their release.
func (t *task) targets() ([]fleet.Service, *failure) {
	counts := map[string]int{}
	for i := range t.before {
		if l := &t.before[i]; !l.oneOff {
			counts[l.Service]++
		}
	}
	names := t.order.Services
	if len(names) == 0 {
		names = make([]string, 0, len(counts))
		for name := range counts {
			names = append(names, name)
		}
		slices.Sort(names)
	}
	good := t.e.states.get(t.order.Stack).Good
	out := make([]fleet.Service, 0, len(names))
	for _, name := range names {
		if counts[name] == 0 {
			return nil, &failure{Reason: "no container of service " + name + " is here", Hint: "deploy the stack first"}
		}
		s := fleet.Service{Name: name, Replicas: counts[name]}
		if good != nil {
			known, _ := good.Service(name)
			s.OneShot = known.OneShot
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, &failure{Reason: "nothing of the stack " + strings.TrimSpace(t.order.Stack) + " is here", Hint: "deploy the stack first"}
	}
	return out, nil
}

// refresh pulls the images of the order's release, of some services or all, and touches
// nothing else.
func (t *task) refresh(ctx context.Context, deadline time.Time, blobs agent.Blobs) fleet.Outcome {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	return t.outcome(t.renew(ctx, t.order.Release, t.order.Services, blobs), true)
}

// renew pulls the images of a release, of some services or all. Images that are built here
// have no registry to come from.
func (t *task) renew(ctx context.Context, release fleet.Release, services []string, blobs agent.Blobs) *failure {
	release.Files, release.Options.Pull = nil, true
	release.Options.PreDeploy, release.Options.PostDeploy = fleet.Command{}, fleet.Command{}
	release.Options.FirstDeploy = fleet.Command{}
	wanted := map[string]bool{}
	for _, s := range release.Services {
		wanted[s.Image] = len(services) == 0 || slices.Contains(services, s.Name) || wanted[s.Image]
	}
	if err := t.e.blobs.fetch(ctx, &release, blobs); err != nil {
		return &failure{Reason: err.Error(), Retryable: true}
	}
	raw, err := t.e.blobs.get(release.Model)
	if err != nil {
		return &failure{Reason: err.Error(), Retryable: true}
	}
	plan, err := t.e.planImages(ctx, &release, raw)
	if err != nil {
		return t.away(ctx, err)
	}
	if f := t.logIn(ctx, &release, blobs); f != nil {
		return f
	}
	req := job.Request{Op: job.Pull, Logins: t.logins}
	req.Deadline, _ = ctx.Deadline()
	for _, img := range plan.pull {
		if wanted[img.ref] {
			req.Images = append(req.Images, job.Image{Ref: img.ref, Platform: img.platform})
		}
	}
	if len(req.Images) == 0 {
		return nil
	}
	t.tell(fleet.PhasePull, "", "pulling images")
	res, err := t.work(ctx, fleet.PhasePull, req)
	if err != nil {
		return t.away(ctx, fmt.Errorf("pull images: %w", err))
	}
	for _, img := range req.Images {
		if reason, failed := res.Images[img.Ref]; failed {
			return &failure{
				Reason: fmt.Sprintf("image %s cannot be pulled: %s", img.Ref, reason),
				Hint:   "check the image's name and tag, and that the host may pull it", Retryable: retryablePull(reason),
			}
		}
	}
	return nil
}
