package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"

	"github.com/varanhq/varan/fleet"
)

// Fingerprint names the part of a report that a plan relies on: which containers there
// are, what they were made from, whether they are up, what drifted, and the release on
// record. Restart counts, health and times come and go and are left out.
func Fingerprint(r fleet.StackReport) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %t\n", r.Project, r.Release.Digest, r.Stopped)
	if r.SecretsGone {
		fmt.Fprintln(h, "secrets gone")
	}
	fingerDrift(h, r.Drift)
	containers := slices.Clone(r.Containers)
	slices.SortFunc(containers, func(a, b fleet.Container) int { return cmp.Compare(a.ID, b.ID) })
	for i := range containers {
		c := &containers[i]
		fmt.Fprintf(h, "%q %q %q %s\n", c.ID, c.Service, c.Digest, stateClass(c.State))
		fingerDrift(h, c.Drift)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

func fingerDrift(w io.Writer, list []fleet.Drift) {
	drift := slices.Clone(list)
	slices.SortFunc(drift, func(a, b fleet.Drift) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Have, b.Have))
	})
	for _, d := range drift {
		fmt.Fprintf(w, " %q %q %q\n", d.Field, d.Want, d.Have)
	}
}

// stateClass keeps a container that restarts in a loop from looking different each time.
func stateClass(s fleet.ContainerState) string {
	switch s {
	case fleet.StateRunning, fleet.StateRestarting:
		return "up"
	case fleet.StatePaused:
		return "paused"
	case fleet.StateCreated, fleet.StateExited, fleet.StateDead, fleet.StateRemoving:
		return "down"
	}
	return string(s)
}

// Validate compares a saved plan with one computed just now and says, op by op, whether
// it may still be applied: the same op must be due, for the same release, on a stack that
// looks as it did, after nothing that the saved plan does not also do. stale maps the
// other ops to the reason.
func Validate(saved, fresh Plan) (ok []string, stale map[string]string) {
	due := make(map[string]*Op, len(fresh.Ops))
	for i := range fresh.Ops {
		due[fresh.Ops[i].ID] = &fresh.Ops[i]
	}
	blocked := make(map[string]string, len(fresh.Blocked))
	for _, b := range fresh.Blocked {
		blocked[b.Op.ID] = b.Text
	}
	planned := make(map[string]*Op, len(saved.Ops))
	for i := range saved.Ops {
		planned[saved.Ops[i].ID] = &saved.Ops[i]
	}
	stale = map[string]string{}
	moved := "the commit moved from " + saved.Commit.Short() + " to " + fresh.Commit.Short()
	for i := range fresh.Ops {
		// The order of the fresh plan is a dependency order, so that one pass is enough.
		op := &fresh.Ops[i]
		was, known := planned[op.ID]
		if !known {
			continue
		}
		if why := staleness(was, op, moved); why != "" {
			stale[op.ID] = why
			continue
		}
		for _, dep := range op.After {
			if !slices.Contains(ok, dep) {
				stale[op.ID] = "comes after " + dep + ", which is stale or not in the plan"
				break
			}
		}
		if stale[op.ID] == "" {
			ok = append(ok, op.ID)
		}
	}
	for id := range planned {
		switch {
		case due[id] != nil:
		case blocked[id] != "":
			stale[id] = "blocked by now: " + blocked[id]
		case saved.Commit.ID != fresh.Commit.ID:
			stale[id] = moved + " and no longer asks for it"
		default:
			stale[id] = "there is nothing to do any more"
		}
	}
	return ok, stale
}

// staleness says why an op may not run as it was planned; empty when it may.
func staleness(was, is *Op, moved string) string {
	switch {
	case was.Release != is.Release:
		return moved + " and changes the stack"
	case was.Expect != is.Expect:
		return "what runs on " + is.Server + " changed since the plan was made"
	case slices.ContainsFunc(is.Gates, func(g string) bool { return !slices.Contains(was.Gates, g) }):
		return "it needs a consent that the plan did not show"
	}
	return ""
}
