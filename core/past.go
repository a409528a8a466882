package core

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/fleet/schedule"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
	"github.com/varanhq/varan/sync/render"
)

var _ reconciler.Past = (*source)(nil)

// At implements reconciler.Past: the commit is rendered with what core keeps today, and
// nothing of it is kept.
func (s *source) At(ctx context.Context, name, commit string, sources []fleet.Source) (reconciler.Loaded, error) {
	settings, err := s.store.Sync(ctx, name)
	if err != nil {
		return reconciler.Loaded{}, err
	}
	user := name + "@" + commit
	defer s.mirrors.settle(user, nil)
	defer s.renderer.Forget(user)
	own, err := s.openAt(ctx, settings, user, commit)
	if err != nil {
		return reconciler.Loaded{}, err
	}
	input, err := s.input(ctx, settings)
	if err != nil {
		return reconciler.Loaded{}, err
	}
	opened := s.checkouts(user)
	opened.pinned = sources
	input.Sync, input.Commit, input.Tree, input.Repository, input.Sources = user, own.commit, own.tree, own.repository, opened
	loaded, _, err := s.render(ctx, settings, input)
	if err != nil {
		return reconciler.Loaded{}, err
	}
	loaded.Diagnostics = bearable(loaded.Diagnostics)
	loaded.Desired.Sync = name
	return loaded, nil
}

// openAt reads a commit of a sync's repository: from the mirror there is, or from the server.
func (s *source) openAt(ctx context.Context, settings api.Sync, user, commit string) (ownTree, error) {
	declared := settings.Declared
	if settings.DeclaredBy != "" && (declared.HostDir || declared.Repository.Repo == "") {
		return ownTree{}, unreadable(settings.Name, errors.New("it is read from no repository, so there is no commit to go back to"))
	}
	at, err := s.place(ctx, settings)
	if err != nil {
		return ownTree{}, unreadable(settings.Name, err)
	}
	m, err := s.mirrors.get(user, at)
	if err != nil {
		return ownTree{}, unreadable(settings.Name, err)
	}
	own := ownTree{repository: m.Location().String()}
	tree, err := m.Tree(ctx, commit)
	if err != nil {
		at.commit = commit
		if m, err = s.mirrors.get(user, at); err != nil {
			return ownTree{}, unreadable(settings.Name, err)
		}
		if tree, _, err = m.Fetch(ctx); err != nil {
			return ownTree{}, unreadable(settings.Name, err)
		}
	}
	own.tree, own.commit = tree, tree.Commit()
	return own, nil
}

// pin is the commit at which a repository is to be read in place of its head; empty when
// that is the head.
func (c *checkouts) pin(at where) string {
	i := slices.IndexFunc(c.pinned, func(p fleet.Source) bool { return render.SameRepository(p.Repository, at.url) })
	if i < 0 {
		return ""
	}
	return c.pinned[i].Commit.ID
}

// always is open, and stays so.
type always struct{}

// Open implements plan.Times.
func (always) Open(time.Time) (open bool, until time.Time) { return true, time.Time{} }

// windowsOf reads the sync windows of a declared sync. They were checked with its file; one
// that cannot be read all the same, of a newer core say, keeps everything back.
func windowsOf(declared fleet.SyncSpec) []plan.Window {
	var windows []plan.Window
	for _, w := range declared.Windows {
		times, err := schedule.ParseAny(w.Schedule, w.Timezone)
		if err != nil {
			w.Kind, w.Manual = fleet.WindowDeny, true
			windows = append(windows, plan.Window{SyncWindow: w, Times: always{}})
			continue
		}
		windows = append(windows, plan.Window{SyncWindow: w, Times: schedule.Window{Schedule: times, Duration: w.Duration}})
	}
	return windows
}
