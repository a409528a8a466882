package git

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"

	"github.com/go-git/go-git/v5/plumbing"
)

// fetchPinned brings the one commit that the mirror stays at. A commit never changes, so
// that the server is asked once in a mirror's life.
func (m *Mirror) fetchPinned(ctx context.Context) (*Tree, bool, error) {
	if current := m.current.Load(); current != nil && (m.store == nil || !m.store.broken.Load()) {
		return current, false, nil
	}
	id := plumbing.NewHash(m.source.Commit)
	if m.rejected.head == id && m.rejected.err != nil {
		return nil, false, m.rejected.err
	}
	tree, err := m.pinned(ctx, id)
	if err != nil {
		return nil, false, m.reject(id, err)
	}
	m.current.Store(tree)
	return tree, true, nil
}

func (m *Mirror) pinned(ctx context.Context, id plumbing.Hash) (*Tree, error) {
	if m.local == nil {
		return m.clonePinned(ctx, id)
	}
	if !m.local.has(id) {
		return nil, fmt.Errorf("%w: no commit %s", ErrRef, id)
	}
	return readTree(m.local, id, cmp.Or(m.source.Branch, defaultBranch), nil, m.limits, stopper(ctx))
}

// defaultBranch is what a pinned commit is said to be on when nobody says so.
const defaultBranch = "main"

// clonePinned asks for the commit alone, which most servers allow. From one that does not,
// it takes all that led to the branch, within the limits of any pack.
func (m *Mirror) clonePinned(ctx context.Context, id plumbing.Hash) (*Tree, error) {
	s, adv, err := m.askFor(ctx, m.readAny)
	if err != nil {
		return nil, err
	}
	branch := adv.head
	adv.head, adv.branch = id, cmp.Or(adv.branch, m.source.Branch, defaultBranch)
	tree, err := m.cloneFor(ctx, s, adv, fetchRequest{want: id})
	_ = s.close()
	if err == nil || ctx.Err() != nil || Permanent(err) {
		return tree, err
	}
	if branch.IsZero() {
		return nil, fmt.Errorf("%w: the server does not give commit %s, and there is no branch to look for it in: %w", ErrRef, id, err)
	}
	m.log.InfoContext(ctx, "the server does not give a single commit, taking all of the branch", slog.String("err", err.Error()))
	if s, adv, err = m.askFor(ctx, m.readAny); err != nil {
		return nil, err
	}
	defer func() { _ = s.close() }()
	tip := adv.head
	adv.head, adv.branch = id, cmp.Or(adv.branch, m.source.Branch, defaultBranch)
	tree, err = m.cloneFor(ctx, s, adv, fetchRequest{want: tip, whole: true})
	if err != nil && damaged(err) {
		return nil, fmt.Errorf("%w: commit %s is not part of branch %s", ErrRef, id, shown(adv.branch))
	}
	return tree, err
}

// readAny reads what the server advertises; the branch may be gone.
func (m *Mirror) readAny(ctx context.Context, s session) (advert, error) {
	list, err := s.advertise(ctx)
	if err != nil {
		return advert{}, err
	}
	adv, err := m.source.readAdvert(list, m.source.Branch)
	if err == nil && adv.empty {
		err = fmt.Errorf("%w: the repository is empty", ErrRef)
	}
	return adv, err
}
