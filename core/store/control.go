package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// keepReleases is how many releases of a stack stay for each server.
const keepReleases = 10

// eventControl is the kind of events about what people decide.
const eventControl = "control"

// Control is what people decided about the work of a sync, and how far its rollouts are.
func (s *Store) Control(ctx context.Context, sync string) (plan.Control, error) {
	var c plan.Control
	var err error
	if c.Suspensions, err = s.Suspensions(ctx); err != nil {
		return c, err
	}
	if c.Holds, err = s.Holds(ctx, sync); err != nil {
		return c, err
	}
	c.Rollouts, err = s.Rollouts(ctx, sync)
	return c, err
}

// Suspensions lists those in force.
func (s *Store) Suspensions(ctx context.Context) ([]plan.Suspension, error) {
	all, err := s.suspended.get(ctx, s, table{}, s.readSuspensions)
	if err != nil {
		return nil, fmt.Errorf("list suspensions: %w", err)
	}
	now := s.clock()
	return slices.DeleteFunc(slices.Clone(all), func(u plan.Suspension) bool { return !u.Until.IsZero() && !u.Until.After(now) }), nil
}

// readSuspensions lists all, those that ended included.
func (s *Store) readSuspensions(ctx context.Context) ([]plan.Suspension, error) {
	return list(ctx, s.reader, func(row scanner) (u plan.Suspension, err error) {
		err = row.Scan(&u.Kind, &u.Name, &u.Server, stampColumn{&u.Until}, &u.Reason, &u.By, stampColumn{&u.At})
		return u, err
	}, `SELECT kind, name, server, until_at, reason, actor, at FROM suspensions ORDER BY kind, name, server`)
}

// Suspend records a suspension, in place of the one there was. Those that ended are dropped.
func (s *Store) Suspend(ctx context.Context, u plan.Suspension) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		now := s.clock()
		if _, err := tx.ExecContext(ctx, "DELETE FROM suspensions WHERE until_at <> 0 AND until_at <= $1", stamp(now)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO suspensions (kind, name, server, until_at, reason, actor, at)
			VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (kind, name, server) DO UPDATE
			SET until_at = excluded.until_at, reason = excluded.reason, actor = excluded.actor, at = excluded.at`,
			u.Kind, u.Name, u.Server, stamp(u.Until), u.Reason, u.By, stamp(u.At))
		if err != nil {
			return err
		}
		return s.addEvent(ctx, tx, suspensionEvent(u, u.By, u.Resource()+" "+u.Text()))
	})
	if err != nil {
		return fmt.Errorf("suspend %s: %w", u.Resource(), err)
	}
	return nil
}

// Resume ends a suspension; ErrNotFound when there is none.
func (s *Store) Resume(ctx context.Context, u plan.Suspension, actor string) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		err := oneRow(affected(tx.ExecContext(ctx,
			"DELETE FROM suspensions WHERE kind = $1 AND name = $2 AND server = $3 AND (until_at = 0 OR until_at > $4)",
			u.Kind, u.Name, u.Server, stamp(s.clock()))))
		if err != nil {
			return err
		}
		return s.addEvent(ctx, tx, suspensionEvent(u, actor, u.Resource()+" resumed"))
	})
	if err != nil {
		return fmt.Errorf("resume %s: %w", u.Resource(), err)
	}
	return nil
}

func suspensionEvent(u plan.Suspension, actor, text string) api.Event {
	e := api.Event{Kind: eventControl, Actor: actor, Text: text, Server: u.Server}
	switch u.Kind {
	case plan.KindServer:
		e.Server = u.Name
	case plan.KindSync:
		e.Sync = u.Name
	case plan.KindProcedure:
	default:
		e.Stack = u.Name
	}
	return e
}

// Holds lists the releases of a sync that are held back; of all syncs when it is empty.
func (s *Store) Holds(ctx context.Context, sync string) ([]plan.Hold, error) {
	holds, err := s.holds.get(ctx, s, sync, func(ctx context.Context) ([]plan.Hold, error) {
		return list(ctx, s.reader, func(row scanner) (h plan.Hold, err error) {
			err = row.Scan(jsonColumn{&h}, jsonColumn{&h.Release})
			return h, err
		}, "SELECT hold, release FROM holds WHERE $1 = '' OR sync = $1 ORDER BY stack, server", sync)
	})
	if err != nil {
		return nil, fmt.Errorf("list holds: %w", err)
	}
	return slices.Clone(holds), nil
}

// Hold records holds, all or none, each in place of the one there was.
func (s *Store) Hold(ctx context.Context, holds []plan.Hold) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		for i := range holds {
			if err := s.hold(ctx, tx, holds[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("hold releases back: %w", err)
	}
	return nil
}

func (s *Store) hold(ctx context.Context, tx *sql.Tx, h plan.Hold) error {
	hold, err := encode(h)
	if err != nil {
		return err
	}
	release, err := encode(h.Release)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO holds (stack, server, sync, hold, release, at) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (stack, server) DO UPDATE SET sync = excluded.sync, hold = excluded.hold, release = excluded.release, at = excluded.at`,
		h.Stack, h.Server, h.Sync, hold, release, stamp(h.At))
	if err != nil {
		return err
	}
	text := h.Stack + "@" + h.Server + " " + h.Text()
	if h.To.ID != "" {
		text += "; commit " + h.To.Short() + " runs in its place"
	}
	return s.addEvent(ctx, tx, api.Event{Kind: eventControl, Sync: h.Sync, Stack: h.Stack, Server: h.Server, Actor: h.By, Text: text})
}

// Unhold lets releases go again that are held back.
func (s *Store) Unhold(ctx context.Context, holds []plan.Hold, actor, why string) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		for _, h := range holds {
			n, err := affected(tx.ExecContext(ctx, "DELETE FROM holds WHERE stack = $1 AND server = $2 AND sync = $3", h.Stack, h.Server, h.Sync))
			if err != nil {
				return err
			}
			if n == 0 {
				continue
			}
			err = s.addEvent(ctx, tx, api.Event{
				Kind: eventControl, Sync: h.Sync, Stack: h.Stack, Server: h.Server, Actor: actor,
				Text: h.Stack + "@" + h.Server + " is no longer held back from commit " + h.Commit.Short() + ": " + why,
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("release what is held back: %w", err)
	}
	return nil
}

// Rollouts lists the last rollout of every stack of a sync; of all syncs when it is empty.
func (s *Store) Rollouts(ctx context.Context, sync string) ([]plan.Rollout, error) {
	rollouts, err := s.rollouts.get(ctx, s, sync, func(ctx context.Context) ([]plan.Rollout, error) {
		return list(ctx, s.reader, func(row scanner) (r plan.Rollout, err error) {
			err = row.Scan(jsonColumn{&r}, jsonColumn{&r.Before})
			return r, err
		}, "SELECT rollout, before FROM rollouts WHERE $1 = '' OR sync = $1 ORDER BY stack, sync", sync)
	})
	if err != nil {
		return nil, fmt.Errorf("list rollouts: %w", err)
	}
	return slices.Clone(rollouts), nil
}

// SaveRollouts records how far rollouts are. text says for each what happened; empty is
// nothing that people need to be told.
func (s *Store) SaveRollouts(ctx context.Context, rollouts []plan.Rollout, actor string, text func(plan.Rollout) string) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		for _, r := range rollouts {
			state, err := encode(r)
			if err != nil {
				return err
			}
			before, err := encode(r.Before)
			if err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, `INSERT INTO rollouts (sync, stack, rollout, before, at) VALUES ($1, $2, $3, $4, $5)
				ON CONFLICT (sync, stack) DO UPDATE SET rollout = excluded.rollout, before = excluded.before, at = excluded.at`,
				r.Sync, r.Stack, state, before, stamp(s.clock()))
			if err != nil {
				return err
			}
			if told := text(r); told != "" {
				event := api.Event{Kind: eventControl, Sync: r.Sync, Stack: r.Stack, Actor: actor, Text: told}
				if err := s.addEvent(ctx, tx, event); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record rollouts: %w", err)
	}
	return nil
}

// Deployed records a release that was deployed with success.
func (s *Store) Deployed(ctx context.Context, release fleet.Release) error {
	encoded, err := encode(release)
	if err != nil {
		return err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM releases WHERE stack = $1 AND server = $2 AND release_sum = $3",
			release.Stack, release.Server, string(release.Digest)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO releases (stack, server, release_sum, release, at) VALUES ($1, $2, $3, $4, $5)",
			release.Stack, release.Server, string(release.Digest), encoded, stamp(s.clock())); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM releases WHERE stack = $1 AND server = $2 AND seq <=
			(SELECT seq FROM releases WHERE stack = $1 AND server = $2 ORDER BY seq DESC LIMIT 1 OFFSET $3)`,
			release.Stack, release.Server, keepReleases)
		return err
	})
	if err != nil {
		return fmt.Errorf("record the release of %s on %s: %w", release.Stack, release.Server, err)
	}
	return nil
}

// Releases lists the releases that were deployed of a stack on a server, newest first.
func (s *Store) Releases(ctx context.Context, stack, server string) ([]fleet.Release, error) {
	releases, err := list(ctx, s.reader, func(row scanner) (r fleet.Release, err error) {
		err = row.Scan(jsonColumn{&r})
		return r, err
	}, "SELECT release FROM releases WHERE stack = $1 AND server = $2 ORDER BY seq DESC", stack, server)
	if err != nil {
		return nil, fmt.Errorf("list the releases of %s on %s: %w", stack, server, err)
	}
	return releases, nil
}

// CommitNamed finds the full id of a commit that a run was of, or that was read, by its first digits;
// ErrNotFound when there is none, and ErrExists when there are several.
func (s *Store) CommitNamed(ctx context.Context, sync, prefix string) (string, error) {
	ids, err := list(ctx, s.reader, func(row scanner) (id string, err error) {
		err = row.Scan(&id)
		return id, err
	}, `SELECT json_extract(source_commit, '$.id') FROM runs
		WHERE sync = $1 AND substr(json_extract(source_commit, '$.id'), 1, length($2)) = $2
		UNION SELECT source_commit FROM events WHERE sync = $1 AND sync <> '' AND kind = 'sync'
		AND substr(source_commit, 1, length($2)) = $2 LIMIT 2`, sync, prefix)
	switch {
	case err != nil:
	case len(ids) == 0:
		err = ErrNotFound
	case len(ids) > 1:
		err = ErrExists
	default:
		return ids[0], nil
	}
	return "", fmt.Errorf("find commit %s of sync %q: %w", prefix, sync, err)
}

// ReleaseOf is one release that was deployed, by its digest; false when it is not on record.
func (s *Store) ReleaseOf(ctx context.Context, stack, server string, digest fleet.Digest) (fleet.Release, bool, error) {
	var release fleet.Release
	err := s.reader.QueryRowContext(ctx, "SELECT release FROM releases WHERE stack = $1 AND server = $2 AND release_sum = $3",
		stack, server, string(digest)).Scan(jsonColumn{&release})
	if errors.Is(err, sql.ErrNoRows) {
		return release, false, nil
	}
	if err != nil {
		return release, false, fmt.Errorf("read a release of %s on %s: %w", stack, server, err)
	}
	return release, true, nil
}
