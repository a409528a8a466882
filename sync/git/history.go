package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
)

// maxHistory bounds the commits that one look goes through.
const maxHistory = 100_000

// RawCommit is a commit as it is signed and stored.
type RawCommit struct {
	ID string
	// Raw is the object's content.
	Raw []byte
}

// RawCommit is the head's own object, as it is signed and stored.
func (t *Tree) RawCommit() (RawCommit, error) {
	raw, err := t.objects.read(plumbing.CommitObject, plumbing.NewHash(t.commit.ID))
	if err != nil {
		return RawCommit{}, fmt.Errorf("read commit %s: %w", t.commit.Short(), err)
	}
	return RawCommit{ID: t.commit.ID, Raw: raw}, nil
}

// Since lists the commits that are part of a tree's history and not of that of known, the
// head first. An empty or unknown known gives all of them. It needs a mirror with History.
func (m *Mirror) Since(ctx context.Context, t *Tree, known string) ([]RawCommit, error) {
	ctx, done, err := m.begin(ctx)
	if err != nil {
		return nil, m.failed("read history", err)
	}
	defer done()
	old := plumbing.NewHash(known)
	if m.store != nil && !m.store.has(old) || m.local != nil && !m.local.has(old) {
		old = plumbing.ZeroHash
	}
	commits, err := since(ctx, t.objects, plumbing.NewHash(t.commit.ID), old)
	if errors.Is(err, ErrHistory) && m.store != nil {
		m.store.broken.Store(true) // it was cloned without its history
	}
	if err != nil {
		return nil, m.failed("read history", m.cause(ctx, err))
	}
	return commits, nil
}

func since(ctx context.Context, from objects, head, known plumbing.Hash) ([]RawCommit, error) {
	old := map[plumbing.Hash]bool{}
	if !known.IsZero() {
		err := walk(ctx, from, known, old, func(RawCommit) {})
		// One whose own history ends at a cut only makes for more to look at.
		if err != nil && !errors.Is(err, ErrHistory) {
			return nil, err
		}
	}
	var out []RawCommit
	err := walk(ctx, from, head, old, func(c RawCommit) { out = append(out, c) })
	return out, err
}

// walk visits a commit and what led to it, each once and none that was seen.
func walk(ctx context.Context, from objects, start plumbing.Hash, seen map[plumbing.Hash]bool, visit func(RawCommit)) error {
	queue := []plumbing.Hash{start}
	begun := len(seen)
	for len(queue) > 0 {
		id := queue[0]
		queue = queue[1:]
		if seen[id] {
			continue
		}
		if len(seen)-begun >= maxHistory {
			return fmt.Errorf("%w: more than %d commits to look at", ErrLimit, maxHistory)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		raw, err := from.read(plumbing.CommitObject, id)
		if err != nil {
			return fmt.Errorf("%w: commit %s: %w", ErrHistory, id, err)
		}
		seen[id] = true
		visit(RawCommit{ID: id.String(), Raw: raw})
		queue = append(queue, parents(raw)...)
	}
	return nil
}

// parents are the commits that a commit names as those it was made from.
func parents(raw []byte) []plumbing.Hash {
	var out []plumbing.Hash
	for line := range bytes.Lines(raw) {
		if len(bytes.TrimSpace(line)) == 0 {
			break // the message begins
		}
		if id, ok := bytes.CutPrefix(line, []byte("parent ")); ok {
			out = append(out, plumbing.NewHash(string(bytes.TrimSpace(id))))
		}
	}
	return out
}
