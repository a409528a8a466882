package plan

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/varanhq/varan/fleet"
)

// health says how well a stack runs, measured by the release that was deployed, and why
// not if not. A stack is as well as the worst of its services; ignored ones do not count.
func health(s *fleet.Stack, r *fleet.StackReport) (state fleet.HealthState, text string) {
	services := r.Release.Services
	if r.Release.Digest == "" {
		services = s.Release.Services
	}
	switch {
	case r.Stopped:
		return fleet.Suspended, "stopped by a person"
	case r.Release.Digest == "" && len(r.Containers) == 0:
		return fleet.Missing, "not deployed"
	}
	worst, reason, missing, expected := fleet.Healthy, "", 0, 0
	for i := range services {
		want := &services[i]
		if slices.Contains(s.IgnoreServices, want.Name) {
			continue
		}
		h, why := serviceHealth(want, r.Containers)
		if want.Replicas > 0 && !want.OneShot {
			expected++
			if h == fleet.Missing {
				missing++
			}
		}
		if text = want.Name + ": " + why; graver(h) > graver(worst) || h == worst && text < reason {
			worst, reason = h, text
		}
	}
	switch {
	case expected > 0 && missing == expected:
		return fleet.Missing, "no container is left"
	case worst == fleet.Missing:
		worst = fleet.Degraded
	}
	if r.Busy != "" {
		return fleet.Progressing, "the agent is at work on it"
	}
	return worst, reason
}

// graver orders health from good to bad.
func graver(h fleet.HealthState) int {
	return slices.Index([]fleet.HealthState{
		fleet.Healthy, fleet.Suspended, fleet.Progressing, fleet.HealthUnknown, fleet.Missing, fleet.Degraded,
	}, h)
}

func serviceHealth(want *fleet.Service, containers []fleet.Container) (state fleet.HealthState, text string) {
	live := 0
	worst := fleet.Healthy
	for i := range containers {
		c := &containers[i]
		if c.Service != want.Name {
			continue
		}
		live++
		h, why := containerHealth(want, c)
		if graver(h) > graver(worst) || h == worst && why < text {
			worst, text = h, why
		}
	}
	switch {
	case worst == fleet.Degraded || want.OneShot || live >= want.Replicas:
		return worst, text
	case live == 0:
		return fleet.Missing, "no container"
	}
	return fleet.Degraded, fmt.Sprintf("%d of %d containers", live, want.Replicas)
}

func containerHealth(want *fleet.Service, c *fleet.Container) (state fleet.HealthState, text string) {
	switch c.State {
	case fleet.StateRunning:
		switch c.Health {
		case fleet.HealthUnhealthy:
			return fleet.Degraded, "its health check fails"
		case fleet.HealthStarting:
			return fleet.Progressing, "its health check has not passed yet"
		case fleet.HealthNone, fleet.HealthHealthy:
		}
		return fleet.Healthy, ""
	case fleet.StateExited:
		if want.OneShot && c.ExitCode == 0 {
			return fleet.Healthy, ""
		}
		return fleet.Degraded, "exited with code " + strconv.Itoa(c.ExitCode)
	case fleet.StatePaused:
		return fleet.Suspended, "paused"
	case fleet.StateRestarting:
		return fleet.Degraded, "restarts again and again"
	case fleet.StateCreated:
		return fleet.Degraded, "created and never started"
	case fleet.StateDead, fleet.StateRemoving:
		return fleet.Degraded, string(c.State)
	}
	return fleet.HealthUnknown, "in an unknown state"
}
