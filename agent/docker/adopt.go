package docker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/agent/docker/job"
	"github.com/varanhq/varan/fleet"
)

// adopted is a container that somebody else made and that Varan took over as it was. It
// carries no label of ours, so that the record stands for them.
type adopted struct {
	Service string `json:"service"`
	// Digest is that of the service which the container was found to match; empty for one
	// that matched none and is replaced by the next deploy.
	Digest fleet.Digest `json:"digest,omitempty"`
}

// adoption finds the record of a container.
func (s *states) adoption(id string) (stack string, a adopted, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.all {
		if a, ok := st.Adopted[id]; ok {
			return st.Stack, a, true
		}
	}
	return "", adopted{}, false
}

// adoptedProjects lists the projects with adopted containers, of one stack or of all.
func (s *states) adoptedProjects(stack string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, st := range s.all {
		if len(st.Adopted) > 0 && (stack == "" || st.Stack == stack) {
			out = append(out, st.Project)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// adopt takes over what somebody else started, if there is any.
func (t *task) adopt(ctx context.Context, release *fleet.Release, deadline time.Time) *failure {
	if len(t.foreign) > 0 {
		return t.takeOver(ctx, release, deadline)
	}
	if t.order.Kind == fleet.OrderAdopt && len(t.before) == 0 {
		return &failure{Reason: "no Compose project " + t.project + " runs here", Hint: "deploy the stack instead"}
	}
	return nil
}

// takeOver makes a Compose project that somebody else started the stack's own, without
// touching a container: each is compared with what the release asks for. Unless a person
// forces it, one that differs stops the order.
func (t *task) takeOver(ctx context.Context, release *fleet.Release, deadline time.Time) *failure {
	hashes, f := t.hashes(ctx, release, deadline)
	if f != nil {
		return f
	}
	found := map[string]adopted{}
	count := map[string]int{}
	var differ []string
	for i := range t.foreign {
		l := &t.foreign[i]
		why, err := t.e.unlike(ctx, l, release, hashes)
		if err != nil {
			return t.away(ctx, err)
		}
		a := adopted{Service: l.Service}
		if why == "" {
			s, _ := release.Service(l.Service)
			a.Digest = s.Digest
			count[l.Service]++
		} else {
			differ = append(differ, l.Name+" "+why)
		}
		found[l.ID] = a
	}
	for _, s := range release.Services {
		if s.Replicas > count[s.Name] && !s.OneShot {
			differ = append(differ, fmt.Sprintf("of service %s %d of %d containers are as declared", s.Name, count[s.Name], s.Replicas))
		}
	}
	if len(differ) > 0 && (!t.order.Force || t.order.Kind == fleet.OrderAdopt) {
		return &failure{
			Reason: fmt.Sprintf("project name clash: %s is a Compose project that Varan did not create, and it is not what the stack declares: %s",
				t.project, strings.Join(differ, "; ")),
			Hint: "make the stack declare what runs, give it another project name, or take the project over with `varan deploy " +
				t.order.Stack + "`, which recreates what differs",
		}
	}
	err := t.e.states.update(t.order.Stack, func(s *state) {
		s.Project, s.Adopted = t.project, found
	})
	if err != nil {
		return &failure{Reason: err.Error(), Retryable: true}
	}
	for id := range found {
		t.e.memory.forget(id)
	}
	t.note(fmt.Sprintf("took the Compose project %s over, with %d containers as they are", t.project, len(found)-len(differ)))
	t.foreign, t.adopting = nil, true
	return t.look(ctx)
}

// hashes asks Compose what it would record of each service of a release, if our label
// were not there.
func (t *task) hashes(ctx context.Context, release *fleet.Release, deadline time.Time) (map[string]string, *failure) {
	s, f := t.e.siteOf(t.order.Stack, release)
	if f != nil {
		return nil, f
	}
	req := t.request(release, s, deadline)
	req.Op, req.Unlabelled = job.Hash, []string{fleet.LabelDigest}
	var err error
	if req.Model, err = t.e.writeModel(t.order.Stack, release); err != nil {
		return nil, &failure{Reason: err.Error()}
	}
	res, err := t.work(ctx, fleet.PhaseFiles, req)
	if err != nil {
		return nil, t.away(ctx, fmt.Errorf("compare what runs: %w", err))
	}
	return res.Hashes, nil
}

// unlike says how a container is not what a release asks for; empty when it is.
func (e *Engine) unlike(ctx context.Context, l *live, release *fleet.Release, hashes map[string]string) (string, error) {
	s, ok := release.Service(l.Service)
	switch {
	case !ok:
		return "belongs to the service " + l.Service + ", which is not declared", nil
	case l.hash == "" || l.hash != hashes[l.Service]:
		return "was made from another definition of service " + l.Service, nil
	case l.State != fleet.StateRunning && !s.OneShot:
		return "is " + string(l.State), nil
	}
	id, err := e.imageID(ctx, l.Image)
	if err != nil {
		return "", err
	}
	if id != l.ImageID {
		return "runs an older image than the one that is called " + l.Image + " now", nil
	}
	return "", nil
}

// outstanding lists the services that a worker has to bring up when some containers are
// adopted ones: Compose would recreate those too, since they lack our labels. Without
// adopted containers it is nil, and all is Compose's to decide.
func (t *task) outstanding(release *fleet.Release, stale []string) []string {
	st := t.e.states.get(t.order.Stack)
	kept := map[string]int{}
	for i := range t.before {
		l := &t.before[i]
		s, ok := release.Service(l.Service)
		_, adopted := st.Adopted[l.ID]
		well := l.State == fleet.StateRunning || s.OneShot && l.State == fleet.StateExited && l.ExitCode == 0
		if ok && adopted && well && l.Digest == s.Digest && !slices.Contains(stale, l.Service) && !t.updates(l.Service) {
			kept[l.Service]++
		}
	}
	if len(kept) == 0 {
		return nil
	}
	out := []string{}
	for _, s := range release.Services {
		if kept[s.Name] != s.Replicas || kept[s.Name] == 0 {
			out = append(out, s.Name)
		}
	}
	return out
}

// stillAdopted keeps the records of the containers that are still there.
func stillAdopted(st *state, now []live) map[string]adopted {
	var out map[string]adopted
	for i := range now {
		if a, ok := st.Adopted[now[i].ID]; ok {
			if out == nil {
				out = map[string]adopted{}
			}
			out[now[i].ID] = a
		}
	}
	return out
}
