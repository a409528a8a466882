// Package fakeengine is an agent.Engine in memory, for tests of everything above Docker.
// It passes the same conformance suite as the real one.
package fakeengine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

// Script replaces what an order does. It runs without any lock held; call Engine.Apply
// from it to let the order have its usual effect.
type Script func(ctx context.Context, order fleet.Order, blobs agent.Blobs, progress func(fleet.Progress)) fleet.Outcome

// Engine is a host in memory. The zero value is not usable, see New.
type Engine struct {
	server string

	mu       sync.Mutex
	stacks   map[string]*stack
	scripts  map[string]Script        // by stack; "" for all others
	outcomes map[string]fleet.Outcome // by order id
	crashed  []fleet.Order            // what Recover returns
	done     []fleet.Order            // every order Do was asked for, in order
	bad      map[fleet.Digest]string  // releases that do not come up, and why
	away     error                    // why the engine does not answer
	blind    error                    // why it cannot be observed, although it sends events
	watchers map[*watcher]struct{}
	tasks    []fleet.HostTask // every host task, in order
	serial   int              // numbers containers
	reads    int              // counts observations
}

type stack struct {
	order  sync.Mutex // serialises orders
	report *fleet.StackReport
}

type watcher struct {
	changed func(stack string)
	gone    chan error // capacity 1
}

// New makes an empty host that serves the named server.
func New(server string) *Engine {
	return &Engine{
		server:   server,
		stacks:   map[string]*stack{},
		scripts:  map[string]Script{},
		outcomes: map[string]fleet.Outcome{},
		bad:      map[fleet.Digest]string{},
		watchers: map[*watcher]struct{}{},
	}
}

// Script makes orders for a stack run s; "" stands for every stack without its own.
func (e *Engine) Script(stack string, s Script) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.scripts[stack] = s
}

// Hold makes the next orders for a stack wait, after they began to touch containers,
// until release is called. started receives the id of each order that waits.
func (e *Engine) Hold(stack string) (started <-chan string, release func()) {
	ids := make(chan string, 64)
	gate := make(chan struct{})
	e.Script(stack, func(ctx context.Context, order fleet.Order, blobs agent.Blobs, progress func(fleet.Progress)) fleet.Outcome {
		ids <- order.ID
		<-gate
		return e.Apply(context.WithoutCancel(ctx), order, blobs, progress)
	})
	return ids, sync.OnceFunc(func() {
		e.Script(stack, nil)
		close(gate)
	})
}

// Break makes a release fail its verdict.
func (e *Engine) Break(release fleet.Digest, reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.bad[release] = reason
}

// Crash makes Recover return these orders.
func (e *Engine) Crash(orders ...fleet.Order) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.crashed = append(e.crashed, orders...)
}

// Away makes the engine unreachable, and with nil reachable again. Watchers return.
func (e *Engine) Away(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.away = err
	if err == nil {
		return
	}
	for w := range e.watchers {
		select {
		case w.gone <- err:
		default:
		}
	}
}

// Blind makes observations fail although events still come, and with nil work again.
func (e *Engine) Blind(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.blind = err
}

// Set changes a stack behind Varan's back, as a person at the host would, and tells the
// watchers.
func (e *Engine) Set(report fleet.StackReport) {
	e.mu.Lock()
	e.stack(report.Stack).report = &report
	e.mu.Unlock()
	e.notify(report.Stack)
}

// Orders lists every order Do was asked for, repeats included.
func (e *Engine) Orders() []fleet.Order {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.done)
}

// Tasks lists every task Host was asked for.
func (e *Engine) Tasks() []fleet.HostTask {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.tasks)
}

// Host implements agent.Engine: it knows the kinds and does nothing.
func (e *Engine) Host(_ context.Context, task fleet.HostTask) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away != nil {
		return "", e.away
	}
	e.tasks = append(e.tasks, task)
	return strings.TrimSpace(string(task.Kind) + " " + task.Target), nil
}

// Observations counts the calls of Observe and ObserveStack.
func (e *Engine) Observations() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reads
}

// Do implements agent.Engine.
func (e *Engine) Do(ctx context.Context, order fleet.Order, blobs agent.Blobs, progress func(fleet.Progress)) fleet.Outcome {
	e.mu.Lock()
	e.done = append(e.done, order)
	script := e.scripts[order.Stack]
	if script == nil {
		script = e.scripts[""]
	}
	st := e.stack(order.Stack)
	e.mu.Unlock()

	st.order.Lock()
	defer st.order.Unlock()
	e.mu.Lock()
	if outcome, ok := e.outcomes[order.ID]; ok {
		e.mu.Unlock()
		return outcome
	}
	e.mu.Unlock()
	if script == nil {
		script = e.Apply
	}
	started := time.Now()
	outcome := script(ctx, order, blobs, progress)
	outcome.Order, outcome.Stack = order.ID, order.Stack
	outcome.StartedAt, outcome.EndedAt = started, time.Now()
	e.mu.Lock()
	e.outcomes[order.ID] = outcome
	e.crashed = slices.DeleteFunc(e.crashed, func(o fleet.Order) bool { return o.ID == order.ID })
	e.mu.Unlock()
	e.notify(order.Stack)
	return outcome
}

// Apply is what an order does when no script replaces it.
func (e *Engine) Apply(ctx context.Context, order fleet.Order, blobs agent.Blobs, progress func(fleet.Progress)) fleet.Outcome {
	tell := func(phase fleet.Phase) {
		progress(fleet.Progress{Order: order.ID, Stack: order.Stack, Phase: phase, Percent: -1, At: time.Now()})
	}
	if order.Kind == fleet.OrderApply {
		tell(fleet.PhaseFiles)
		if err := fetch(ctx, order.Release, blobs); err != nil {
			if ctx.Err() == nil {
				return fleet.Outcome{Status: fleet.OutcomeFailed, Reason: err.Error(), Untouched: true, Retryable: true}
			}
		}
	}
	if ctx.Err() != nil {
		return fleet.Outcome{Status: fleet.OutcomeCanceled, Reason: ctx.Err().Error(), Untouched: true}
	}
	tell(fleet.PhaseUp)
	outcome := e.change(order)
	tell(fleet.PhaseDone)
	return outcome
}

// change carries out an order at one instant.
func (e *Engine) change(order fleet.Order) fleet.Outcome {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away != nil {
		return fleet.Outcome{Status: fleet.OutcomeFailed, Reason: e.away.Error(), Untouched: true, Retryable: true}
	}
	st := e.stack(order.Stack)
	switch order.Kind {
	case fleet.OrderApply, fleet.OrderAdopt:
		return e.apply(st, order)
	case fleet.OrderRemove:
		return remove(st)
	case fleet.OrderRestart, fleet.OrderStop, fleet.OrderStart, fleet.OrderPause, fleet.OrderUnpause, fleet.OrderDown:
		return cycle(st, order)
	case fleet.OrderPull:
		return fleet.Outcome{Status: fleet.OutcomeSucceeded, Untouched: true}
	case fleet.OrderUpdate:
		return e.update(st, order)
	case fleet.OrderRun:
		return run(st, order)
	case fleet.OrderHeal: // this engine does not heal
	}
	return fleet.Outcome{Status: fleet.OutcomeFailed, Reason: fmt.Sprintf("unknown order kind %q", order.Kind), Untouched: true}
}

// apply brings a release up, or leaves the last good one as it was; e.mu is held.
func (e *Engine) apply(st *stack, order fleet.Order) fleet.Outcome {
	release := order.Release
	if reason, broken := e.bad[release.Digest]; broken {
		return fail(st, order, reason)
	}
	before := map[string]fleet.Container{}
	next := fleet.StackReport{Stack: order.Stack, Project: release.Project, Release: release, DeployedAt: time.Now()}
	next.Release.Files = nil
	if st.report != nil {
		next.Bad = slices.DeleteFunc(slices.Clone(st.report.Bad), func(b fleet.BadRelease) bool { return b.Release == release.Digest })
		for _, c := range st.report.Containers {
			before[c.Name] = c
		}
	}
	outcome := fleet.Outcome{Status: fleet.OutcomeSucceeded}
	for _, service := range release.Services {
		for n := range max(service.Replicas, 1) {
			name := fmt.Sprintf("%s-%s-%d", release.Project, service.Name, n+1)
			c, exists := before[name]
			delete(before, name)
			switch {
			case !exists:
				outcome.Started = append(outcome.Started, service.Name)
			case c.Digest == service.Digest && c.State == fleet.StateRunning && len(c.Drift) == 0:
				next.Containers = append(next.Containers, c)
				continue
			default:
				outcome.Recreated = append(outcome.Recreated, service.Name)
			}
			next.Containers = append(next.Containers, e.container(name, service))
		}
	}
	for _, c := range before {
		outcome.Removed = append(outcome.Removed, c.Service)
	}
	for _, names := range []*[]string{&outcome.Started, &outcome.Recreated, &outcome.Removed} {
		slices.Sort(*names)
		*names = slices.Compact(*names)
	}
	st.report = &next
	return outcome
}

// update makes the containers of the services anew: the registry of this engine always has
// a newer image.
func (e *Engine) update(st *stack, order fleet.Order) fleet.Outcome {
	if st.report == nil || st.report.Release.Digest != order.Release.Digest {
		return fleet.Outcome{Status: fleet.OutcomeFailed, Reason: "the host runs another release", Untouched: true, Retryable: true}
	}
	next := *st.report
	next.Containers = slices.Clone(next.Containers)
	outcome := fleet.Outcome{Status: fleet.OutcomeSucceeded}
	for i := range next.Containers {
		c := &next.Containers[i]
		service, ok := order.Release.Service(c.Service)
		if ok && (len(order.Services) == 0 || slices.Contains(order.Services, c.Service)) {
			*c = e.container(c.Name, service)
			outcome.Recreated = append(outcome.Recreated, c.Service)
		}
	}
	st.report = &next
	return outcome
}

// fail remembers a release as bad; whatever ran before still runs.
func fail(st *stack, order fleet.Order, reason string) fleet.Outcome {
	outcome := fleet.Outcome{Status: fleet.OutcomeFailed, Reason: reason}
	if st.report == nil {
		st.report = &fleet.StackReport{Stack: order.Stack, Project: order.Release.Project}
	}
	rolledBack := st.report.Release.Digest != ""
	if rolledBack {
		outcome.Status = fleet.OutcomeRolledBack
	}
	next := *st.report
	next.Bad = append(slices.Clone(next.Bad), fleet.BadRelease{
		Release: order.Release.Digest, Commit: order.Release.Commit.ID, Reason: reason, At: time.Now(), RolledBack: rolledBack,
	})
	st.report = &next
	return outcome
}

// remove takes a stack down.
func remove(st *stack) fleet.Outcome {
	outcome := fleet.Outcome{Status: fleet.OutcomeSucceeded}
	if st.report != nil {
		for _, c := range st.report.Containers {
			outcome.Removed = append(outcome.Removed, c.Service)
		}
	}
	st.report = nil
	return outcome
}

// cycle stops, starts or restarts what is there.
func cycle(st *stack, order fleet.Order) fleet.Outcome {
	if st.report == nil {
		return fleet.Outcome{Status: fleet.OutcomeFailed, Reason: "nothing of the stack is on this host", Untouched: true}
	}
	next := *st.report
	next.Containers = slices.Clone(next.Containers)
	for i := range next.Containers {
		c := &next.Containers[i]
		if len(order.Services) > 0 && !slices.Contains(order.Services, c.Service) {
			continue
		}
		switch order.Kind {
		case fleet.OrderStop, fleet.OrderDown:
			c.State = fleet.StateExited
		case fleet.OrderPause:
			c.State = fleet.StatePaused
		case fleet.OrderUnpause:
			c.State = fleet.StateRunning
		case fleet.OrderApply, fleet.OrderAdopt, fleet.OrderRemove, fleet.OrderRestart, fleet.OrderStart, fleet.OrderPull,
			fleet.OrderUpdate, fleet.OrderRun, fleet.OrderHeal:
			c.State, c.StartedAt = fleet.StateRunning, time.Now()
		}
	}
	if order.Kind == fleet.OrderDown {
		next.Containers = slices.DeleteFunc(next.Containers, func(c fleet.Container) bool { return c.State == fleet.StateExited })
	}
	if len(order.Services) == 0 {
		next.Stopped = order.Kind == fleet.OrderStop || order.Kind == fleet.OrderPause || order.Kind == fleet.OrderDown
	}
	st.report = &next
	return fleet.Outcome{Status: fleet.OutcomeSucceeded}
}

// run says what a container of a service was told to say; told to exit with a code, it does.
func run(st *stack, order fleet.Order) fleet.Outcome {
	if st.report == nil {
		return fleet.Outcome{Status: fleet.OutcomeFailed, Reason: "the stack does not run here", Untouched: true}
	}
	if _, ok := st.report.Release.Service(order.Run.Service); !ok {
		return fleet.Outcome{
			Status: fleet.OutcomeFailed, Untouched: true,
			Reason: fmt.Sprintf("what runs of the stack has no service %q", order.Run.Service),
		}
	}
	out := fleet.Outcome{Status: fleet.OutcomeSucceeded, Log: strings.Join(order.Run.Command, " ")}
	if args := order.Run.Command; len(args) > 1 && args[0] == "exit" && args[1] != "0" {
		out.Status = fleet.OutcomeFailed
		out.Reason = fmt.Sprintf("service %s: the container exited with code %s", order.Run.Service, args[1])
	}
	return out
}

// container makes a running container; e.mu is held.
func (e *Engine) container(name string, service fleet.Service) fleet.Container {
	e.serial++
	return fleet.Container{
		ID: fmt.Sprintf("%064x", e.serial), Name: name, Service: service.Name,
		Image: service.Image, ImageID: string(fleet.SumDigest([]byte(service.Image))),
		State: fleet.StateRunning, Health: fleet.HealthNone, StartedAt: time.Now(), Digest: service.Digest,
	}
}

// Recover implements agent.Engine.
func (e *Engine) Recover(context.Context) ([]fleet.Order, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.crashed), nil
}

// Observe implements agent.Engine.
func (e *Engine) Observe(ctx context.Context) (fleet.AgentInfo, []fleet.StackReport, error) {
	if err := ctx.Err(); err != nil {
		return fleet.AgentInfo{}, nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reads++
	if err := cmp.Or(e.away, e.blind); err != nil {
		return fleet.AgentInfo{EngineError: err.Error()}, nil, err
	}
	var reports []fleet.StackReport
	for _, name := range slices.Sorted(maps.Keys(e.stacks)) {
		if report := e.stacks[name].report; report != nil {
			reports = append(reports, *report)
		}
	}
	return fleet.AgentInfo{Engine: "fake", EngineAPI: "1.0"}, reports, nil
}

// ObserveStack implements agent.Engine.
func (e *Engine) ObserveStack(ctx context.Context, name string) (fleet.StackReport, bool, error) {
	if err := ctx.Err(); err != nil {
		return fleet.StackReport{}, false, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reads++
	if err := cmp.Or(e.away, e.blind); err != nil {
		return fleet.StackReport{}, false, err
	}
	st := e.stacks[name]
	if st == nil || st.report == nil {
		return fleet.StackReport{}, false, nil
	}
	return *st.report, true, nil
}

// Watch implements agent.Engine.
func (e *Engine) Watch(ctx context.Context, changed func(stack string)) error {
	w := &watcher{changed: changed, gone: make(chan error, 1)}
	e.mu.Lock()
	if err := e.away; err != nil {
		e.mu.Unlock()
		return err
	}
	e.watchers[w] = struct{}{}
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.watchers, w)
		e.mu.Unlock()
	}()
	changed("") // whatever happened before this call was missed
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-w.gone:
		return err
	}
}

// Logs implements agent.Engine: one line for each container, then with Follow the end
// of ctx.
func (e *Engine) Logs(ctx context.Context, req wire.LogsRequest, w io.Writer) error {
	report, ok, err := e.ObserveStack(ctx, req.Stack)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("stack %s is not on this host", req.Stack)
	}
	out := json.NewEncoder(w)
	for _, c := range report.Containers {
		if req.Service != "" && req.Service != c.Service {
			continue
		}
		if err := out.Encode(wire.LogLine{Service: c.Service, Container: c.Name, Text: "hello from " + c.Name}); err != nil {
			return err
		}
	}
	if req.Follow {
		<-ctx.Done()
	}
	return nil
}

// Files implements agent.Engine: this host lets core read nothing.
func (*Engine) Files(context.Context, wire.FilesRequest, io.Writer) error {
	return wire.Errorf(wire.CodeDenied, "the policy of this host does not let core read there")
}

// Projects implements agent.Engine: what was applied, as a project each.
func (e *Engine) Projects(context.Context) (wire.Projects, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away != nil {
		return wire.Projects{}, e.away
	}
	var list []wire.Project
	for _, st := range e.stacks {
		if st.report == nil {
			continue
		}
		p := wire.Project{Name: st.report.Project, Stack: st.report.Stack}
		for _, c := range st.report.Containers {
			p.Containers = append(p.Containers, wire.ProjectContainer{ID: c.ID, Name: c.Name, Service: c.Service, Image: c.Image, State: c.State})
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b wire.Project) int { return strings.Compare(a.Name, b.Name) })
	return wire.Projects{Projects: list}, nil
}

// stack returns the entry of a stack, made if needed; e.mu is held.
func (e *Engine) stack(name string) *stack {
	if e.stacks[name] == nil {
		e.stacks[name] = &stack{}
	}
	return e.stacks[name]
}

func (e *Engine) notify(stack string) {
	e.mu.Lock()
	watchers := slices.Collect(maps.Keys(e.watchers))
	e.mu.Unlock()
	for _, w := range watchers {
		w.changed(stack)
	}
}

// fetch gets everything a release names and checks it, as the real engine does.
func fetch(ctx context.Context, release fleet.Release, blobs agent.Blobs) error {
	var digests []fleet.Digest
	if release.Model != "" {
		digests = append(digests, release.Model)
	}
	for _, file := range release.Files {
		digests = append(digests, file.Digest)
	}
	if len(digests) == 0 {
		return nil
	}
	if blobs == nil {
		return errors.New("the release names content and there is nowhere to get it from")
	}
	return blobs.Fetch(ctx, digests, func(want fleet.Digest, content []byte) error {
		if got := fleet.SumDigest(content); got != want {
			return fmt.Errorf("blob %s has digest %s", want.Short(), got.Short())
		}
		return nil
	})
}
