package git

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/varanhq/varan/internal/atomicfile"
)

// A mirror's folder holds stores in folders of their own, of which the highest number
// counts, and what is being cloned under another prefix.
const (
	storePrefix = "store-"
	clonePrefix = "clone-"
)

// load opens the newest store that can be read. The others are left alone until a new
// one is complete.
func (m *Mirror) load() error {
	numbers, err := m.tidy()
	if err != nil {
		return err
	}
	for _, n := range slices.Backward(numbers) {
		m.number = max(m.number, n)
		s, head, branch, err := openStore(m.storeDir(n), m.limits)
		if err == nil {
			var tree *Tree
			if tree, err = readTree(s, head, branch, nil, m.limits, func() error { return nil }); err == nil {
				s.rest()
				m.store = s
				m.current.Store(tree)
				m.removeStores(n)
				return nil
			}
		}
		m.log.Warn("mirror on disk is damaged, the next fetch clones it afresh", slog.String("err", err.Error()))
	}
	return nil
}

// tidy removes what a killed clone left, and lists the numbers of the stores, sorted.
func (m *Mirror) tidy() ([]int, error) {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return nil, fmt.Errorf("list mirror: %w", err)
	}
	var numbers []int
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), clonePrefix) {
			if err := os.RemoveAll(filepath.Join(m.dir, e.Name())); err != nil {
				return nil, fmt.Errorf("remove unfinished clone: %w", err)
			}
			continue
		}
		if digits, ok := strings.CutPrefix(e.Name(), storePrefix); ok {
			if n, err := strconv.Atoi(digits); err == nil && n > 0 {
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func (m *Mirror) storeDir(n int) string {
	return filepath.Join(m.dir, fmt.Sprintf("%s%06d", storePrefix, n))
}

// removeStores removes all stores but one. Trees that live in them stay readable.
func (m *Mirror) removeStores(keep int) {
	entries, err := os.ReadDir(m.dir)
	for _, e := range entries {
		name := filepath.Join(m.dir, e.Name())
		if strings.HasPrefix(e.Name(), storePrefix) && name != m.storeDir(keep) {
			err = errors.Join(err, os.RemoveAll(name))
		}
	}
	if err != nil {
		m.log.Warn("old mirror could not be removed", slog.String("err", err.Error()))
	}
}

func (m *Mirror) fetchRemote(ctx context.Context) (*Tree, bool, error) {
	s, adv, err := m.ask(ctx)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = s.close() }()
	current := m.current.Load()
	healthy := m.store != nil && !m.store.broken.Load()
	if healthy && current != nil && current.commit.ID == adv.head.String() {
		m.store.rest()
		return current, false, nil
	}
	if m.rejected.head == adv.head && m.rejected.err != nil {
		return nil, false, m.rejected.err
	}
	if healthy && current != nil && m.store.fetches() < maxFetches {
		tree, err := m.advance(ctx, s, adv, current)
		if err == nil {
			return tree, true, nil
		}
		if !damaged(err) && !errors.Is(err, errPackLimit) {
			return nil, false, m.reject(adv.head, err)
		}
		m.log.InfoContext(ctx, "cloning afresh", slog.String("err", err.Error()))
		// A session answers one request only.
		_ = s.close()
		if s, adv, err = m.ask(ctx); err != nil {
			return nil, false, err
		}
	}
	tree, err := m.clone(ctx, s, adv)
	if err != nil {
		return nil, false, m.reject(adv.head, err)
	}
	return tree, true, nil
}

// advance fetches what is new since the current commit into the current store.
func (m *Mirror) advance(ctx context.Context, s session, adv advert, current *Tree) (*Tree, error) {
	if m.store.has(adv.head) {
		// The branch went back to a commit we have had.
		if tree, err := m.check(ctx, m.store, adv, current); err == nil {
			return tree, m.believe(m.store, tree)
		}
	}
	req := fetchRequest{want: adv.head, have: plumbing.NewHash(current.commit.ID)}
	p, _, err := m.receive(ctx, s, m.store, adv, req)
	if err != nil {
		return nil, err
	}
	tree, err := m.check(ctx, m.store, adv, current)
	if err == nil {
		err = m.believe(m.store, tree)
	}
	if err != nil {
		m.store.drop(p)
		return nil, err
	}
	return tree, nil
}

// clone makes a new store with one commit, or all that led to it, and swaps it in. The old
// one stays until then.
func (m *Mirror) clone(ctx context.Context, s session, adv advert) (*Tree, error) {
	return m.cloneFor(ctx, s, adv, fetchRequest{want: adv.head, whole: m.source.History})
}

// cloneFor is clone with a request of the caller's, whose answer must hold adv.head.
func (m *Mirror) cloneFor(ctx context.Context, s session, adv advert, req fetchRequest) (_ *Tree, err error) {
	dir, err := os.MkdirTemp(m.dir, clonePrefix)
	if err != nil {
		return nil, fmt.Errorf("clone: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(dir)
		}
	}()
	fresh, err := createStore(dir, m.limits)
	if err != nil {
		return nil, err
	}
	_, cut, err := m.receive(ctx, s, fresh, adv, req)
	if err != nil {
		return nil, err
	}
	tree, err := m.check(ctx, fresh, adv, nil)
	if err != nil {
		return nil, err
	}
	if err := fresh.setShallow(cut); err != nil {
		return nil, err
	}
	if err := fresh.setHead(adv.head, adv.branch); err != nil {
		return nil, err
	}
	number := m.number + 1
	if err := os.Rename(dir, m.storeDir(number)); err != nil {
		return nil, fmt.Errorf("swap mirror: %w", err)
	}
	if err := atomicfile.SyncDir(m.dir); err != nil {
		return nil, fmt.Errorf("swap mirror: %w", err)
	}
	fresh.dir, m.store, m.number = m.storeDir(number), fresh, number
	m.rejected = rejection{}
	m.current.Store(tree)
	m.removeStores(number)
	return tree, nil
}

// receive asks for a pack and stores it.
func (m *Mirror) receive(
	ctx context.Context, s session, into *store, adv advert, req fetchRequest,
) (*pack, []plumbing.Hash, error) {
	body, err := req.encode(adv)
	if err != nil {
		return nil, nil, err
	}
	answer, err := s.request(ctx, body)
	if err != nil {
		return nil, nil, err
	}
	data, cut, err := m.source.readAnswer(answer, req.shallow(adv))
	if err != nil {
		return nil, nil, err
	}
	p, err := into.ingest(data, m.limits, stopper(ctx))
	return p, cut, err
}

// check makes sure that a commit is complete and within the limits.
func (m *Mirror) check(ctx context.Context, s *store, adv advert, old *Tree) (*Tree, error) {
	return readTree(s, adv.head, adv.branch, old, m.limits, stopper(ctx))
}

// believe makes a checked commit the current one, durably.
func (m *Mirror) believe(s *store, tree *Tree) error {
	if err := s.setHead(plumbing.NewHash(tree.commit.ID), tree.commit.Branch); err != nil {
		return err
	}
	m.rejected = rejection{}
	m.current.Store(tree)
	return nil
}
