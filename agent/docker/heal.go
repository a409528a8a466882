package docker

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/fleet"
)

var _ agent.Healer = (*Engine)(nil)

// Repairs implements agent.Healer.
func (e *Engine) Repairs(ctx context.Context) ([]fleet.Order, error) {
	found, err := e.list(ctx, e.memory, fleet.LabelServer+"="+e.cfg.Server)
	if err != nil {
		return nil, err
	}
	byStack := map[string][]live{}
	for _, l := range found {
		byStack[l.stack] = append(byStack[l.stack], l)
	}
	var due []fleet.Order
	for _, st := range e.states.known() {
		if st.Good == nil || !st.heals(st.Good.Digest) || !st.lacking(byStack[st.Stack]) {
			continue
		}
		due = append(due, fleet.Order{
			ID: "heal-" + uuid.Must(uuid.NewV7()).String(), Kind: fleet.OrderHeal, Stack: st.Stack, Server: e.cfg.Server,
			Project: st.Good.Project, Release: *st.Good,
		})
	}
	slices.SortFunc(due, func(a, b fleet.Order) int { return strings.Compare(a.Stack, b.Stack) })
	return due, nil
}

// heals reports whether a release is to be kept running while core is away: nothing that core
// ordered is undone. A stack of which some services are held is left alone altogether, since
// bringing it up would start these too.
func (s *state) heals(release fleet.Digest) bool {
	return s.SelfHeal && !s.Stopped && len(s.Held) == 0 && s.Good != nil && s.Good.Digest == release
}

// lacking reports whether containers that have to run are gone or stopped. One that the
// engine restarts by itself is left to it.
func (s *state) lacking(now []live) bool {
	for i := range s.Good.Services {
		service := &s.Good.Services[i]
		if service.OneShot {
			continue
		}
		running := 0
		for j := range now {
			if l := &now[j]; l.Service == service.Name && !l.oneOff {
				switch l.State {
				case fleet.StateRunning, fleet.StateRestarting, fleet.StateRemoving:
					running++
				case fleet.StateCreated, fleet.StatePaused, fleet.StateExited, fleet.StateDead:
				}
			}
		}
		if running < service.Replicas {
			return true
		}
	}
	return false
}

// hold notes that services are kept from running, or not any more.
func (s *state) hold(services []string, held bool) {
	rest := slices.DeleteFunc(slices.Clone(s.Held), func(name string) bool { return slices.Contains(services, name) })
	if held {
		rest = append(rest, services...)
	}
	s.Held = rest
}
