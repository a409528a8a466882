package docker

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/moby/moby/client"

	"github.com/varanhq/varan/fleet"
)

// How the verdict is reached.
const (
	// maxCrashes is how often a container may be restarted while it is watched.
	maxCrashes = 3
	// unhealthyGrace is for a container that was unhealthy before and was not replaced:
	// what it waits for may just have been deployed.
	unhealthyGrace = 30 * time.Second
	// lookEvery bounds how long a lost event can delay the verdict; lookAtMost is the
	// other way round, for a container that makes many.
	lookEvery  = time.Second
	lookAtMost = 250 * time.Millisecond
	// engineAwayFor is how long the engine may be away before the verdict gives up.
	engineAwayFor = 30 * time.Second
)

// failure says why something was not deployed.
type failure struct {
	Reason string `json:"reason"`
	Hint   string `json:"hint,omitempty"`
	// Retryable failures say nothing about the release.
	Retryable bool `json:"retryable,omitempty"`
	// Outside failures are due to something else on the host, such as a name or a port that
	// is taken: the last good release is put back, and this one is tried again later.
	Outside bool `json:"outside,omitempty"`
	// Log is what the engine and the failing containers said.
	Log string `json:"log,omitempty"`

	// service is the one to blame and containers are those to ask for their logs, as far
	// as it is known.
	service    string
	containers []string
}

// jury watches containers until they are well or it is clear that they will not be.
type jury struct {
	services  []fleet.Service
	ignore    []string
	stableFor time.Duration
	// before is how the containers were before the deploy, by id.
	before map[string]live
	began  time.Time
	// seen is when each run of a container was first seen running.
	seen map[string]time.Time
	// exits are the codes with which containers were last seen to have ended: one that was
	// started again says 0.
	exits map[string]int
}

func newJury(services []fleet.Service, ignore []string, before []live, stableFor time.Duration, now time.Time) *jury {
	j := &jury{
		services: services, ignore: ignore, stableFor: stableFor,
		before: map[string]live{}, began: now, seen: map[string]time.Time{}, exits: map[string]int{},
	}
	for _, l := range before {
		j.before[l.ID] = l
	}
	return j
}

// pending is what a verdict still waits for, in words.
type pending struct {
	service, text string
	// left is how long it takes if nothing happens; zero when only an event can end it.
	left time.Duration
}

// judge looks once. Without pending and without a failure all is well.
func (j *jury) judge(now []live, at time.Time) ([]pending, *failure) {
	var waits []pending
	for i := range j.services {
		s := &j.services[i]
		if s.Replicas == 0 || slices.Contains(j.ignore, s.Name) {
			continue
		}
		var mine []live
		for k := range now {
			if now[k].Service == s.Name && !now[k].oneOff {
				mine = append(mine, now[k])
			}
		}
		if len(mine) < s.Replicas {
			return nil, fail(s, nil, fmt.Sprintf("%d of %d containers exist", len(mine), s.Replicas))
		}
		for k := range mine {
			wait, f := j.container(s, &mine[k], at)
			if f != nil {
				return nil, f
			}
			if wait != nil {
				waits = append(waits, *wait)
			}
		}
	}
	return waits, nil
}

// container judges one container.
func (j *jury) container(s *fleet.Service, l *live, at time.Time) (*pending, *failure) {
	old, existed := j.before[l.ID]
	crashes := l.RestartCount
	if existed && crashes >= old.RestartCount {
		crashes -= old.RestartCount
	}
	if l.State != fleet.StateRunning {
		j.exits[l.ID] = l.ExitCode
	}
	switch {
	case s.Digest != "" && l.Digest != s.Digest:
		return nil, fail(s, l, "container "+l.Name+" was not recreated")
	case crashes >= maxCrashes:
		return j.looping(s, l, crashes, at)
	}
	switch l.State {
	case fleet.StateRunning:
		return j.running(s, l, existed && old.StartedAt.Equal(l.StartedAt) && old.State == fleet.StateRunning, at)
	case fleet.StateRestarting, fleet.StateRemoving:
		return &pending{service: s.Name, text: "waiting for " + l.Name + " to restart"}, nil
	case fleet.StateExited:
		if s.OneShot && l.ExitCode == 0 {
			return nil, nil
		}
		return nil, fail(s, l, fmt.Sprintf("exited with code %d", l.ExitCode))
	case fleet.StateCreated:
		return nil, fail(s, l, "container "+l.Name+" was created but never started")
	case fleet.StatePaused, fleet.StateDead:
	}
	return nil, fail(s, l, fmt.Sprintf("container %s is %s", l.Name, l.State))
}

// running judges a container that runs. same says that it ran before the deploy already.
func (j *jury) running(s *fleet.Service, l *live, same bool, at time.Time) (*pending, *failure) {
	if s.OneShot {
		return &pending{service: s.Name, text: "waiting for " + l.Name + " to finish"}, nil
	}
	switch l.Health {
	case fleet.HealthUnhealthy:
		if same && at.Sub(j.began) < unhealthyGrace {
			return &pending{service: s.Name, text: l.Name + " is unhealthy, as before; waiting"}, nil
		}
		return nil, fail(s, l, "the health check of container "+l.Name+" fails")
	case fleet.HealthStarting:
		return &pending{service: s.Name, text: "waiting for the health check of " + l.Name}, nil
	case fleet.HealthNone, fleet.HealthHealthy:
	}
	if same {
		return nil, nil
	}
	return j.watching(s, l, at), nil
}

// watching is what a container that runs is waited for: nil once it has run for long enough.
func (j *jury) watching(s *fleet.Service, l *live, at time.Time) *pending {
	run := l.ID + l.StartedAt.String()
	since, ok := j.seen[run]
	if !ok {
		since = at
		j.seen[run] = at
	}
	if left := j.stableFor - at.Sub(since); left > 0 {
		return &pending{service: s.Name, text: "watching whether " + l.Name + " keeps running", left: left}
	}
	return nil
}

// looping judges a container that was restarted too often. One that was never seen but
// running is waited for, since the code it ends with is what people ask for first.
func (j *jury) looping(s *fleet.Service, l *live, crashes int, at time.Time) (*pending, *failure) {
	times := fmt.Sprintf("%d times in %s", crashes, max(at.Sub(j.began), time.Second).Round(time.Second))
	if code, known := j.exits[l.ID]; known {
		return nil, fail(s, l, fmt.Sprintf("exited with code %d, %s", code, times))
	}
	if wait := j.watching(s, l, at); wait != nil {
		return wait, nil
	}
	return nil, fail(s, l, "was restarted "+times)
}

func fail(s *fleet.Service, l *live, reason string) *failure {
	f := &failure{Reason: "service " + s.Name + ": " + reason}
	if l != nil {
		f.containers = []string{l.ID}
	}
	return f
}

// verdict watches a project until the jury is done or ctx ends. tell gets what it waits
// for, whenever that changes.
func (e *Engine) verdict(ctx context.Context, project string, j *jury, tell func(service, text string)) ([]live, *failure) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wake := e.wakeups(ctx, project)
	var said string
	var awaySince time.Time
	for {
		now, err := e.list(ctx, nil, labelProject+"="+project, fleet.LabelServer+"="+e.cfg.Server)
		at := time.Now()
		wait := lookEvery
		switch {
		case ctx.Err() != nil:
			return nil, &failure{Reason: "gave up after the order's timeout: " + cmp.Or(said, "nothing to see yet"), containers: ids(now)}
		case err != nil:
			awaySince = earliest(awaySince, at)
			if at.Sub(awaySince) > engineAwayFor {
				return nil, &failure{Reason: fmt.Sprintf("%v: %v", errEngineAway, err), Retryable: true}
			}
		default:
			awaySince = time.Time{}
			waits, f := j.judge(now, at)
			if f != nil || len(waits) == 0 {
				return now, f
			}
			if waits[0].text != said {
				said = waits[0].text
				tell(waits[0].service, said)
			}
			for _, w := range waits {
				if w.left > 0 {
					wait = min(wait, w.left)
				}
			}
		}
		pause(ctx, wake, wait)
	}
}

// pause waits for an event or the time, but never less than lookAtMost.
func pause(ctx context.Context, wake <-chan struct{}, atMost time.Duration) {
	least := time.NewTimer(min(lookAtMost, atMost))
	defer least.Stop()
	most := time.NewTimer(atMost)
	defer most.Stop()
	select {
	case <-least.C:
	case <-ctx.Done():
		return
	}
	select {
	case <-wake:
	case <-most.C:
	case <-ctx.Done():
	}
}

// wakeups delivers one pending wake-up for any number of events of a project. When the
// events end, the verdict goes on without.
func (e *Engine) wakeups(ctx context.Context, project string) <-chan struct{} {
	wake := make(chan struct{}, 1)
	cl, err := e.conn.api()
	if err != nil {
		return wake
	}
	events := cl.Events(ctx, client.EventsListOptions{
		Filters: make(client.Filters).Add("type", "container").Add("label", labelProject+"="+project),
	})
	go func() {
		for {
			select {
			case <-events.Messages:
				select {
				case wake <- struct{}{}:
				default:
				}
			case err := <-events.Err:
				e.log.DebugContext(ctx, "verdict goes on without events", slog.Any("err", err))
				return
			}
		}
	}()
	return wake
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() {
		return b
	}
	return a
}

func ids(list []live) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = list[i].ID
	}
	return out
}
