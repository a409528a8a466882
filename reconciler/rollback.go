package reconciler

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// RollbackRequest asks what going back to an earlier release amounts to.
type RollbackRequest struct {
	Sync string
	// Stack and Server narrow it; empty is all.
	Stack, Server string
	// To is the id of the commit to go back to; empty is the last good release before the one
	// that runs, of each stack.
	To string
	// Actor is who asks, Reason why.
	Actor, Reason string
}

// Rollback is what going back amounts to.
type Rollback struct {
	// Holds keep the releases back that are to be gone, and say what runs in their place.
	Holds []plan.Hold
	// Left says of the other stacks why nothing is done about them.
	Left []string
}

// Rollback finds the releases to go back to. It changes nothing: with Controls.Hold the
// holds take effect, and an Apply carries them out at once.
func (r *Reconciler) Rollback(ctx context.Context, req RollbackRequest) (Rollback, error) {
	l, ok := r.find(req.Sync)
	if !ok {
		return Rollback{}, fmt.Errorf("roll back %s: %w", req.Sync, ErrUnknownSync)
	}
	loaded, err := l.read(ctx)
	if err != nil {
		return Rollback{}, err
	}
	if loaded.Diagnostics.HasErrors() {
		return Rollback{}, loaded.Diagnostics
	}
	var at *Loaded
	if req.To != "" {
		if r.cfg.Past == nil {
			return Rollback{}, fmt.Errorf("roll back %s: earlier commits cannot be read", req.Sync)
		}
		past, err := r.cfg.Past.At(ctx, req.Sync, req.To, nil)
		if err != nil {
			return Rollback{}, err
		}
		if past.Diagnostics.HasErrors() {
			return Rollback{}, past.Diagnostics
		}
		at = &past
	}
	var out Rollback
	observed := r.cfg.Fleet.Observed()
	for i := range loaded.Desired.Stacks {
		s := &loaded.Desired.Stacks[i]
		if req.Stack != "" && s.Name != req.Stack || req.Server != "" && s.Server != req.Server {
			continue
		}
		report, _ := observed[s.Server].Stack(s.Name)
		release, why, err := l.earlier(ctx, s, report.Release.Digest, at)
		if err != nil {
			return Rollback{}, err
		}
		if why != "" {
			out.Left = append(out.Left, s.Name+"@"+s.Server+": "+why)
			continue
		}
		out.Holds = append(out.Holds, plan.Hold{
			Kind: plan.HoldRollback, Sync: req.Sync, Stack: s.Name, Server: s.Server,
			Bad: s.Release.Digest, Commit: loaded.Desired.Commit, Release: release, To: release.Commit,
			By: req.Actor, Reason: req.Reason, At: time.Now(),
		})
	}
	return out, nil
}

// earlier finds the release that a stack goes back to, or says why there is none.
func (l *loop) earlier(ctx context.Context, s *fleet.Stack, runs fleet.Digest, at *Loaded) (release fleet.Release, why string, err error) {
	if s.Unreadable != "" {
		return release, "its files cannot be read: " + s.Unreadable, nil
	}
	if at != nil {
		i := slices.IndexFunc(at.Desired.Stacks, func(old fleet.Stack) bool { return old.Name == s.Name && old.Server == s.Server })
		switch {
		case i < 0:
			return release, "commit " + at.Desired.Commit.Short() + " does not have it; it stays as it is", nil
		case at.Desired.Stacks[i].Unreadable != "":
			return release, "its files cannot be read: " + at.Desired.Stacks[i].Unreadable, nil
		case at.Desired.Stacks[i].Release.Digest == s.Release.Digest:
			return release, "commit " + at.Desired.Commit.Short() + " says the same of it", nil
		}
		return at.Desired.Stacks[i].Release, "", nil
	}
	releases, err := l.r.cfg.Controls.Releases(ctx, s.Name, s.Server)
	if err != nil {
		return release, "", err
	}
	i := slices.IndexFunc(releases, func(r fleet.Release) bool { return r.Digest != s.Release.Digest && r.Digest != runs })
	if i < 0 {
		return release, "no earlier release of it is on record", nil
	}
	return l.again(ctx, releases[i]), "", nil
}

// again reads a release that is on record from its commit once more. With another value of a
// variable it is another release now, of which the content can be had; what cannot be read
// is used as it is on record, for the agent may have all of it.
func (l *loop) again(ctx context.Context, recorded fleet.Release) fleet.Release {
	if l.r.cfg.Past == nil || recorded.Commit.ID == "" {
		return recorded
	}
	loaded, err := l.r.cfg.Past.At(ctx, l.name, recorded.Commit.ID, sourcesOf(recorded))
	if err != nil || loaded.Diagnostics.HasErrors() {
		return recorded
	}
	for i := range loaded.Desired.Stacks {
		s := &loaded.Desired.Stacks[i]
		if s.Name == recorded.Stack && s.Server == recorded.Server && s.Unreadable == "" {
			return s.Release
		}
	}
	return recorded
}

// Narrow leaves of a plan what is about the places of the holds.
func (b Rollback) Narrow(p plan.Plan) plan.Plan {
	about := func(op plan.Op) bool {
		return slices.ContainsFunc(b.Holds, func(h plan.Hold) bool { return h.Stack == op.Stack && h.Server == op.Server })
	}
	p.Ops = slices.DeleteFunc(slices.Clone(p.Ops), func(op plan.Op) bool { return !about(op) })
	p.Blocked = slices.DeleteFunc(slices.Clone(p.Blocked), func(o plan.Blocked) bool { return !about(o.Op) })
	p.Stacks = slices.DeleteFunc(slices.Clone(p.Stacks), func(s plan.StackState) bool { return !about(plan.Op{Stack: s.Stack, Server: s.Server}) })
	p.Resources, p.Rollouts, p.Notices = nil, nil, nil
	p.Totals = plan.Count(p)
	return p
}

// Stacks are the names of the stacks that the holds are of.
func (b Rollback) Stacks() []string {
	names := make([]string, 0, len(b.Holds))
	for _, h := range b.Holds {
		names = append(names, h.Stack)
	}
	slices.SortFunc(names, cmp.Compare[string])
	return slices.Compact(names)
}
