package docker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/varanhq/varan/fleet"
)

// Limits on the evidence that an outcome carries.
const (
	maxLog      = 64 << 10
	maxLogLines = 50
	maxLogged   = 3
)

// fall handles a release that did not pass: the last good one is put back, where there
// is one. It may be entered again after a crash.
func (t *task) fall(ctx context.Context, f *failure) fleet.Outcome {
	st := t.e.states.get(t.order.Stack)
	if f.Retryable {
		// The engine is away: nothing can be put back, and nothing is known of the release.
		return t.outcome(f, false)
	}
	if st.Good == nil {
		return t.stranded(f)
	}
	if st.Good.Digest == t.order.Release.Digest && !t.imagesMoved(ctx, st) {
		// Going back to what just failed would fail again, and it is not a bad release.
		f.Retryable = true
		return t.outcome(f, false)
	}
	t.rec.Failure = f
	if err := t.e.journal.save(t.rec); err != nil {
		f.Reason += "; " + err.Error()
	}
	t.tell(fleet.PhaseRollback, "", "putting the last good release back: "+f.Reason)
	now, err := t.restore(ctx, st)
	if err != nil {
		f.Reason += "; and the last good release did not come back: " + err.Error()
		f.Hint = "the stack needs a look on its host"
		if err := t.remember(f, false); err != nil {
			f.Reason += "; " + err.Error()
		}
		return t.outcome(f, false)
	}
	if err := t.remember(f, true); err != nil {
		f.Reason += "; " + err.Error()
	}
	out := t.changed(t.outcome(f, false), now)
	out.Status = fleet.OutcomeRolledBack
	out.Hint = "the last good release runs again; this one is not tried again until it changes"
	if f.Outside {
		out.Hint = "the last good release runs again; this one is tried again later, for what is in its way is not its own"
	}
	return out
}

// stranded ends a first deploy that failed: it is left as it is, for a look and for the
// next release to repair.
func (t *task) stranded(f *failure) fleet.Outcome {
	if err := t.remember(f, false); err != nil {
		f.Reason += "; " + err.Error()
	}
	f.Hint = "there is no earlier release to go back to; push a fix"
	if f.Outside {
		f.Hint = "it is tried again later; make room for it on the host to speed that up"
	}
	return t.outcome(f, false)
}

// restore puts the last good release back: files, images, containers.
func (t *task) restore(ctx context.Context, st *state) ([]live, error) {
	deadline := time.Now().Add(max(t.order.Timeout, defaultTimeout))
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if err := t.e.putBack(ctx, st.Images); err != nil {
		return nil, err
	}
	t.slot.release()
	again, err := t.e.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer again.release()
	t.slot = again
	now, f := t.bringBack(ctx, st.Good, deadline)
	if f != nil && !f.Retryable {
		// For a worker that was killed the engine may still be stopping a container: what
		// looked well then ended a moment later. Bringing it up again repairs that.
		now, f = t.bringBack(ctx, st.Good, deadline)
	}
	if f != nil {
		return nil, errors.New(f.Reason)
	}
	return t.settle(ctx, st.Good, now)
}

func (t *task) bringBack(ctx context.Context, good *fleet.Release, deadline time.Time) ([]live, *failure) {
	t.project = good.Project
	if f := t.look(ctx); f != nil {
		return nil, f
	}
	t.tell(fleet.PhaseFiles, "", "placing files")
	s, f := t.place(good)
	if f != nil {
		return nil, f
	}
	return t.bring(ctx, good, s, nil, deadline)
}

// imagesMoved tells whether the references of the last good release stand for other
// images now: the same release can fail with a newer image.
func (t *task) imagesMoved(ctx context.Context, st *state) bool {
	for _, img := range st.Images {
		if id, err := t.e.imageID(ctx, img.Ref); err != nil || id != img.ID {
			return true
		}
	}
	return false
}

// remember notes that a release failed here.
func (t *task) remember(f *failure, rolledBack bool) error {
	if f.Outside {
		return nil
	}
	if good := t.e.states.get(t.order.Stack).Good; good != nil && good.Digest == t.order.Release.Digest {
		return nil
	}
	return t.e.states.update(t.order.Stack, func(s *state) {
		s.named(t.order.Project)
		s.Bad = s.withBad(fleet.BadRelease{
			Release: t.order.Release.Digest, Commit: t.order.Release.Commit.ID,
			Reason: t.e.secrets.clean(f.Reason), At: time.Now(), RolledBack: rolledBack,
		})
	})
}

// evidence collects what the engine and the failing containers said.
func (t *task) evidence(ctx context.Context, f *failure) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	out := tail{max: maxLog - 1<<10}
	fmt.Fprint(&out, t.said.String())
	suspects := f.containers
	found, err := t.e.list(ctx, nil, labelProject+"="+t.project, fleet.LabelServer+"="+t.e.cfg.Server)
	if err != nil {
		return out.String()
	}
	byID := map[string]*live{}
	for i := range found {
		l := &found[i]
		byID[l.ID] = l
		if len(f.containers) == 0 && l.sickness() > 0 {
			suspects = append(suspects, l.ID)
		}
	}
	for _, id := range suspects[:min(maxLogged, len(suspects))] {
		if l := byID[id]; l != nil {
			t.e.lastLines(ctx, l, &out)
		}
	}
	return strings.TrimSpace(out.String())
}

// lastLines appends the end of a container's log.
func (e *Engine) lastLines(ctx context.Context, l *live, out *tail) {
	cl, err := e.conn.api()
	if err != nil {
		return
	}
	r, err := cl.ContainerLogs(ctx, l.ID, client.ContainerLogsOptions{
		ShowStdout: true, ShowStderr: true, Tail: strconv.Itoa(maxLogLines),
	})
	if err != nil {
		return
	}
	defer func() { _ = r.Close() }()
	_ = splitLog(r, l.tty, func(_ bool, line string) error {
		fmt.Fprintln(out, l.Name+" | "+line)
		return nil
	})
}
