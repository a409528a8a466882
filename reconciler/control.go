package reconciler

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// Controls is the durable memory of what people decided, and of how far rollouts are.
type Controls interface {
	Control(ctx context.Context, name string) (plan.Control, error)
	// Hold keeps releases back, all or none; Unhold lets them go again and says why.
	Hold(ctx context.Context, holds []plan.Hold) error
	Unhold(ctx context.Context, holds []plan.Hold, actor, why string) error
	// SaveRollouts records rollouts, with a sentence about each; an empty one tells nobody.
	SaveRollouts(ctx context.Context, rollouts []plan.Rollout, actor string, text func(plan.Rollout) string) error
	// Deployed records a release that a server runs since; ReleaseOf gives it back, whole.
	Deployed(ctx context.Context, release fleet.Release) error
	ReleaseOf(ctx context.Context, stack, server string, digest fleet.Digest) (fleet.Release, bool, error)
	// Releases are those that were deployed of a stack on a server, newest first.
	Releases(ctx context.Context, stack, server string) ([]fleet.Release, error)
}

// Past reads earlier commits.
type Past interface {
	// At is what a commit of the named sync's repository says. sources are the states of other
	// repositories that take the place of their heads.
	At(ctx context.Context, name, commit string, sources []fleet.Source) (Loaded, error)
}

// undecided is a Controls where nobody decided anything, and nothing is remembered.
type undecided struct{}

// Control implements Controls.
func (undecided) Control(context.Context, string) (plan.Control, error) { return plan.Control{}, nil }

// Hold implements Controls.
func (undecided) Hold(context.Context, []plan.Hold) error { return nil }

// Unhold implements Controls.
func (undecided) Unhold(context.Context, []plan.Hold, string, string) error { return nil }

// SaveRollouts implements Controls.
func (undecided) SaveRollouts(context.Context, []plan.Rollout, string, func(plan.Rollout) string) error {
	return nil
}

// Deployed implements Controls.
func (undecided) Deployed(context.Context, fleet.Release) error { return nil }

// ReleaseOf implements Controls.
func (undecided) ReleaseOf(context.Context, string, string, fleet.Digest) (fleet.Release, bool, error) {
	return fleet.Release{}, false, nil
}

// Releases implements Controls.
func (undecided) Releases(context.Context, string, string) ([]fleet.Release, error) { return nil, nil }

// Recheck has syncs plan again without a look at their sources, all of them when none is
// named: people decided something.
func (r *Reconciler) Recheck(actor string, syncs ...string) {
	r.mu.Lock()
	loops := make([]*loop, 0, len(r.loops))
	for name, l := range r.loops {
		if len(syncs) == 0 || slices.Contains(syncs, name) {
			loops = append(loops, l)
		}
	}
	r.mu.Unlock()
	for _, l := range loops {
		l.check(TriggerManual, actor)
	}
}

// Forgive forgets how deploys of a stack fared: a person lets it go on.
func (r *Reconciler) Forgive(name, stack string) {
	l, ok := r.find(name)
	if !ok {
		return
	}
	l.mu.Lock()
	for at := range l.deploys {
		if at.stack == stack {
			delete(l.deploys, at)
		}
	}
	l.attempts = attempts{}
	l.mu.Unlock()
}

// decide makes a plan that may be carried out: what ended is taken off the record, what is
// decided now is put on it first. by is who asked.
func (l *loop) decide(ctx context.Context, in *plan.Input, by string, automatic bool) (plan.Plan, error) {
	if err := l.endHolds(ctx, in); err != nil {
		return plan.Plan{}, err
	}
	for {
		p := plan.Compute(*in)
		held, err := false, error(nil)
		if automatic {
			held, err = l.stopLoops(ctx, in, p)
		}
		moved := false
		if err == nil {
			moved, err = l.moveRollouts(ctx, in, p, by)
		}
		switch {
		case err != nil:
			return plan.Plan{}, err
		case !held && !moved:
			return p, nil
		}
	}
}

// endHolds takes holds off the record whose stack has another release now.
func (l *loop) endHolds(ctx context.Context, in *plan.Input) error {
	over := in.Over()
	if len(over) == 0 {
		return nil
	}
	if err := l.r.cfg.Controls.Unhold(ctx, over, "core", "commit "+in.Desired.Commit.Short()+" changes the stack"); err != nil {
		return fmt.Errorf("end holds of %s: %w", l.name, err)
	}
	in.Control.Holds = slices.DeleteFunc(slices.Clone(in.Control.Holds), func(h plan.Hold) bool {
		return slices.ContainsFunc(over, func(o plan.Hold) bool { return o.Stack == h.Stack && o.Server == h.Server })
	})
	return nil
}

// stopLoops holds back what was deployed in vain, and reports whether there was any.
func (l *loop) stopLoops(ctx context.Context, in *plan.Input, p plan.Plan) (bool, error) {
	var holds []plan.Hold
	l.mu.Lock()
	for i := range p.Ops {
		op := &p.Ops[i]
		field, loop := plan.Repeats(l.deploys[place{op.Server, op.Stack}], *op, in.Now)
		if !loop {
			continue
		}
		holds = append(holds, plan.Hold{
			Kind: plan.HoldLoop, Sync: l.name, Stack: op.Stack, Server: op.Server, Bad: op.Release,
			Commit: p.Commit, Field: field, By: "core", At: in.Now,
		})
	}
	l.mu.Unlock()
	if len(holds) == 0 {
		return false, nil
	}
	if err := l.r.cfg.Controls.Hold(ctx, holds); err != nil {
		return false, fmt.Errorf("stop what does not converge in %s: %w", l.name, err)
	}
	in.Control.Holds = append(slices.Clone(in.Control.Holds), holds...)
	for _, h := range holds {
		l.r.cfg.Logger.LogAttrs(ctx, slog.LevelError, "deploys stopped", slog.String("sync", l.name),
			slog.String("stack", h.Stack), slog.String("server", h.Server), slog.String("reason", h.Text()))
		l.r.emit(Event{Kind: EventHeld, Sync: l.name, Stack: h.Stack, Server: h.Server, Text: h.Text()}, nil)
	}
	l.mu.Lock()
	for _, h := range holds {
		delete(l.deploys, place{h.Server, h.Stack})
	}
	l.mu.Unlock()
	return true, nil
}

// moveRollouts records the rollouts that moved, and reports whether any did.
func (l *loop) moveRollouts(ctx context.Context, in *plan.Input, p plan.Plan, by string) (bool, error) {
	var moved []plan.Rollout
	before := map[string]*plan.Rollout{}
	for i := range in.Control.Rollouts {
		before[in.Control.Rollouts[i].Stack] = &in.Control.Rollouts[i]
	}
	for _, r := range p.Rollouts {
		was := before[r.Stack]
		if was != nil && sameRollout(*was, r) {
			continue
		}
		if was == nil || was.Target != r.Target {
			if err := l.remember(ctx, &r); err != nil {
				return false, err
			}
		}
		moved = append(moved, r)
	}
	if len(moved) == 0 {
		return false, nil
	}
	text := func(r plan.Rollout) string { return r.News(before[r.Stack]) }
	if err := l.r.cfg.Controls.SaveRollouts(ctx, moved, by, text); err != nil {
		return false, fmt.Errorf("record rollouts of %s: %w", l.name, err)
	}
	kept := slices.DeleteFunc(slices.Clone(in.Control.Rollouts), func(r plan.Rollout) bool {
		return slices.ContainsFunc(moved, func(m plan.Rollout) bool { return m.Stack == r.Stack })
	})
	kept = append(kept, moved...)
	in.Control.Rollouts = kept
	for _, r := range moved {
		if told := text(r); told != "" {
			l.r.emit(Event{Kind: EventRollout, Sync: l.name, Stack: r.Stack, Text: told}, nil)
		}
	}
	return true, nil
}

func sameRollout(a, b plan.Rollout) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// remember completes what ran before a rollout: an agent's report says it without its files.
// What is not on record, and not to be had from its commit, cannot be put back.
func (l *loop) remember(ctx context.Context, r *plan.Rollout) error {
	whole := map[string]fleet.Release{}
	for server, seen := range r.Before {
		release, ok, err := l.r.cfg.Controls.ReleaseOf(ctx, r.Stack, server, seen.Digest)
		if err != nil {
			return fmt.Errorf("read what %s runs on %s: %w", r.Stack, server, err)
		}
		if !ok {
			release, ok = l.readBack(ctx, seen)
		}
		if ok {
			whole[server] = release
		}
	}
	r.Before = whole
	return nil
}

// readBack reads a release from its commit.
func (l *loop) readBack(ctx context.Context, seen fleet.Release) (fleet.Release, bool) {
	if l.r.cfg.Past == nil || seen.Commit.ID == "" {
		return fleet.Release{}, false
	}
	loaded, err := l.r.cfg.Past.At(ctx, l.name, seen.Commit.ID, sourcesOf(seen))
	if err != nil {
		l.r.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "an earlier release cannot be read", slog.String("sync", l.name),
			slog.String("stack", seen.Stack), slog.String("commit", seen.Commit.Short()), slog.Any("err", err))
		return fleet.Release{}, false
	}
	i := slices.IndexFunc(loaded.Desired.Stacks, func(s fleet.Stack) bool {
		return s.Name == seen.Stack && s.Server == seen.Server && s.Release.Digest == seen.Digest
	})
	if i < 0 {
		return fleet.Release{}, false
	}
	return loaded.Desired.Stacks[i].Release, true
}

// sourcesOf are the states of other repositories that a release was made from.
func sourcesOf(r fleet.Release) []fleet.Source {
	if r.Source.Repository == "" {
		return nil
	}
	return []fleet.Source{r.Source}
}

// onItsWay are the stacks whose rollout a person began in a sync that does not apply by
// itself: it goes on by itself.
func onItsWay(in plan.Input, p plan.Plan) []string {
	var stacks []string
	for _, r := range p.Rollouts {
		begun := slices.ContainsFunc(in.Control.Rollouts, func(was plan.Rollout) bool {
			return was.Stack == r.Stack && was.Target == r.Target &&
				(was.Status == plan.RolloutRunning || was.Status == plan.RolloutRolledBack)
		})
		if begun {
			stacks = append(stacks, r.Stack)
		}
	}
	return stacks
}

// keepDeploy remembers a deploy for the detection of loops. The caller holds the lock.
func (l *loop) keepDeploy(op plan.Op, result OpResult, now time.Time) {
	at := place{op.Server, op.Stack}
	cause := plan.CauseOf(op)
	switch {
	case result.Status != OpSucceeded:
	case cause == "":
		delete(l.deploys, at)
	default:
		l.deploys[at] = append(l.deploys[at], plan.Deploy{Release: op.Release, Cause: cause, At: now})
		l.deploys[at] = l.deploys[at][max(0, len(l.deploys[at])-2):]
	}
}

// goBack gives an execution the earlier releases that its ops deploy.
func (e *execution) goBack(in *plan.Input) {
	first := e.content
	var from []fleet.Release
	for _, n := range e.nodes {
		if release, back := in.Release(n.op); back {
			at := place{n.op.Server, n.op.Stack}
			e.stacks[at], e.back[at] = release, true
			from = append(from, release)
		}
	}
	if len(from) > 0 {
		e.content = &pastContent{first: first, past: e.l.r.cfg.Past, sync: e.l.name, releases: from}
	}
}

// pastContent serves what earlier commits have, read when it is first asked for: most often
// the agent has everything.
type pastContent struct {
	first    Content
	past     Past
	sync     string
	releases []fleet.Release

	mu   sync.Mutex
	read []Content
}

// Blob implements Content.
func (c *pastContent) Blob(ctx context.Context, digest fleet.Digest) ([]byte, error) {
	blob, err := c.first.Blob(ctx, digest)
	if err == nil || c.past == nil {
		return blob, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.releases {
		if !slices.Contains(r.Blobs(), digest) {
			continue
		}
		for _, content := range c.read {
			if blob, err := content.Blob(ctx, digest); err == nil {
				return blob, nil
			}
		}
		loaded, err := c.past.At(ctx, c.sync, r.Commit.ID, sourcesOf(r))
		if err != nil {
			return nil, fmt.Errorf("read commit %s again: %w", r.Commit.Short(), err)
		}
		c.read = append(c.read, loaded.Content)
		if blob, err := loaded.Content.Blob(ctx, digest); err == nil {
			return blob, nil
		}
	}
	return nil, fmt.Errorf("no commit at hand has the content %s any more: a variable or a secret may have another value now", digest.Short())
}
