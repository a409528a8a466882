package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/varanhq/varan/agent/docker/job"
	"github.com/varanhq/varan/fleet"
)

// clearAway takes down what cannot stay while the release comes up: the stack itself when
// it asks for that or has no service any more, and what runs under another project's name.
// Named volumes always stay.
func (t *task) clearAway(ctx context.Context, release *fleet.Release, req job.Request) *failure {
	req.Op, req.Model, req.Services = job.Down, "", nil
	var projects []string
	if len(t.before) > 0 && (release.Options.DestroyFirst && !t.adopting && t.rec.Failure == nil || len(release.Services) == 0) {
		projects = append(projects, release.Project)
	}
	for i := range t.elsewhere {
		if p := t.elsewhere[i].project; p != release.Project && !slices.Contains(projects, p) {
			projects = append(projects, p)
		}
	}
	for _, project := range projects {
		t.tell(fleet.PhaseRemove, "", "taking the project "+project+" down first")
		req.Project = project
		if _, err := t.work(ctx, fleet.PhaseRemove, req); err != nil {
			return t.away(ctx, fmt.Errorf("take the project %s down: %w", project, err))
		}
	}
	return nil
}

// restarts lists the services that run on as they are, except that a file of theirs
// changed which asks for a restart.
func (t *task) restarts(release *fleet.Release, recreated []string) []string {
	// Going back, it is the release that failed whose files the containers may have read.
	from := t.e.states.get(t.order.Stack).Good
	if t.rec.Failure != nil {
		from = &t.order.Release
	}
	if from == nil {
		return nil
	}
	var out []string
	for i := range t.before {
		l := &t.before[i]
		want, ok := release.Service(l.Service)
		was, had := from.Service(l.Service)
		switch {
		case !ok, !had, l.oneOff, was.Restart == want.Restart, l.Digest != want.Digest, l.project != release.Project:
		case slices.Contains(recreated, l.Service), slices.Contains(out, l.Service):
		case l.State == fleet.StateRunning, l.State == fleet.StateRestarting:
			out = append(out, l.Service)
		}
	}
	return out
}

// putFilesBack ends an order whose command refused the deploy: nothing but files was
// touched, and they are put back.
func (t *task) putFilesBack(f *failure) fleet.Outcome {
	f.Log = t.said.String()
	if f.Retryable {
		return t.outcome(f, true)
	}
	st := t.e.states.get(t.order.Stack)
	err := t.restoreFiles(st)
	if err == nil {
		err = t.remember(f, st.Good != nil)
	}
	if err != nil {
		f.Reason += "; " + err.Error()
	}
	return t.outcome(f, true)
}

// restoreFiles puts the files of the last good release back, or takes those of a first
// one away.
func (t *task) restoreFiles(st *state) error {
	good, key := &fleet.Release{Options: t.order.Release.Options, Services: t.order.Release.Services}, ""
	if st.Good != nil {
		good = st.Good
	}
	s, f := t.place(good)
	if f != nil {
		return errors.New(f.Reason)
	}
	if s.host && st.Good != nil {
		key = s.dir
	}
	if err := t.leave(t.e.states.get(t.order.Stack), func(dir string) bool { return dir == key }); err != nil {
		return err
	}
	if s.host {
		return t.emptyRunDir(st)
	}
	return t.e.states.update(t.order.Stack, func(st *state) { st.Placed = paths(good) })
}
