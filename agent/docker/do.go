package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/agent/docker/job"
	"github.com/varanhq/varan/fleet"
)

// defaultTimeout bounds an order that does not say.
const defaultTimeout = 10 * time.Minute

// task is one order being carried out.
type task struct {
	e     *Engine
	order fleet.Order
	rec   *record
	slot  *slot
	// first is how the stack's containers were when the order began, before how they were
	// when they were last going to be changed.
	first, before []live
	// elsewhere are those of the stack's containers that are in another project: it was
	// renamed.
	elsewhere []live
	// foreign are containers of a project that nobody of us made, for the order to adopt.
	foreign []live
	// adopting is set once the order took such a project over.
	adopting bool
	// project is the one that is worked on; going back may mean another than the order's.
	project string
	logins  []job.Login
	began   time.Time

	mu       sync.Mutex
	progress func(fleet.Progress)
	// said are the last lines for people: what Compose did and what went wrong.
	said tail
	// questions are what Compose asked and was refused.
	questions []string
}

// Do implements agent.Engine. The first progress, PhaseQueued, is told when the order is
// in the journal.
func (e *Engine) Do(ctx context.Context, order fleet.Order, blobs agent.Blobs, progress func(fleet.Progress)) fleet.Outcome {
	t := &task{e: e, order: order, project: order.Project, began: time.Now(), progress: progress, said: tail{max: maxSaid}}
	log := e.log.With(slog.String("stack", order.Stack), slog.String("order", order.ID), slog.String("kind", string(order.Kind)))
	if err := e.accepts(&order); err != nil {
		return t.outcome(&failure{Reason: err.Error()}, true)
	}
	var err error
	if t.rec, err = e.journal.begin(order, t.began); err != nil {
		return t.outcome(&failure{Reason: err.Error(), Retryable: true}, true)
	}
	if t.rec.Outcome != nil {
		return *t.rec.Outcome
	}
	// What is in the journal was accepted; what a resent order says has to be the same.
	t.order = t.rec.Order
	t.project = t.order.Project
	if t.rec.Touched {
		ctx = context.WithoutCancel(ctx)
	}
	t.tell(fleet.PhaseQueued, "", "")
	leave, err := e.enter(ctx, &t.order)
	if err != nil {
		return t.finish(t.canceled())
	}
	defer leave()
	// It may have been finished while we waited for the stack's turn.
	if t.rec, err = e.journal.find(order.ID); err != nil || t.rec == nil {
		return t.outcome(&failure{Reason: fmt.Sprintf("read journal again: %v", err), Retryable: true}, true)
	}
	if t.rec.Outcome != nil {
		return *t.rec.Outcome
	}
	log.InfoContext(ctx, "order started")
	out := t.carryOut(ctx, blobs)
	if out.Status == fleet.OutcomeSucceeded {
		log.InfoContext(ctx, "order succeeded")
	} else {
		log.WarnContext(ctx, "order did not succeed", slog.String("status", string(out.Status)), slog.String("reason", out.Reason))
	}
	return t.finish(out)
}

// withRelease are the kinds of order that bring a release.
var withRelease = []fleet.OrderKind{fleet.OrderApply, fleet.OrderAdopt, fleet.OrderPull, fleet.OrderUpdate, fleet.OrderHeal}

// accepts refuses orders that are not for us or that no engine could carry out.
func (e *Engine) accepts(o *fleet.Order) error {
	switch {
	case o.ID == "" || o.Stack == "":
		return errors.New("the order has no id or no stack")
	case o.Server != e.cfg.Server:
		return fmt.Errorf("the order is for server %s, this is %s", o.Server, e.cfg.Server)
	case !validProject(o.Project):
		return fmt.Errorf("%q cannot be the name of a Compose project", o.Project)
	case slices.Contains(withRelease, o.Kind) && (o.Release.Stack != o.Stack || o.Release.Project != o.Project || o.Release.Server != o.Server):
		return errors.New("the order's release belongs to another stack, project or server")
	case o.Kind == fleet.OrderRun && (o.Run == nil || o.Run.Service == ""):
		return errors.New("the order does not say what to run")
	}
	return nil
}

// validProject tells what Compose accepts as a project's name.
func validProject(name string) bool {
	const first = "abcdefghijklmnopqrstuvwxyz0123456789"
	return name != "" && strings.ContainsRune(first, rune(name[0])) && strings.Trim(name, first+"_-") == ""
}

// carryOut waits for a slot and for what an earlier agent left running, and does the work.
func (t *task) carryOut(ctx context.Context, blobs agent.Blobs) fleet.Outcome {
	timeout := t.order.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	deadline := time.Now().Add(timeout)
	var err error
	if t.slot, err = t.e.acquire(ctx); err != nil {
		return t.canceled()
	}
	defer t.slot.release()
	if err := t.e.awaitWorkers(ctx, t.order.Stack, deadline); err != nil {
		return t.outcome(&failure{Reason: fmt.Sprintf("wait for an earlier worker: %v", err), Retryable: true}, !t.rec.Touched)
	}
	f := t.look(ctx)
	if ctx.Err() != nil {
		return t.canceled()
	}
	if f != nil {
		return t.outcome(f, !t.rec.Touched)
	}
	switch t.order.Kind {
	case fleet.OrderApply, fleet.OrderAdopt, fleet.OrderUpdate, fleet.OrderHeal:
		return t.apply(ctx, deadline, blobs)
	case fleet.OrderRemove:
		return t.remove(ctx, deadline)
	case fleet.OrderRestart, fleet.OrderStop, fleet.OrderStart, fleet.OrderPause, fleet.OrderUnpause, fleet.OrderDown:
		return t.manage(ctx, deadline)
	case fleet.OrderPull:
		return t.refresh(ctx, deadline, blobs)
	case fleet.OrderRun:
		return t.oneOff(ctx, deadline, blobs)
	}
	return t.outcome(&failure{
		Reason: fmt.Sprintf("this agent does not know orders of the kind %q", t.order.Kind),
		Hint:   "update the agent",
	}, true)
}

// look reads the stack's containers and refuses a project that is someone else's.
func (t *task) look(ctx context.Context) *failure {
	found, err := t.e.list(ctx, nil, labelProject+"="+t.project)
	if err != nil {
		return t.away(ctx, err)
	}
	all, err := t.e.list(ctx, nil, fleet.LabelServer+"="+t.e.cfg.Server, fleet.LabelStack+"="+t.order.Stack)
	if err != nil {
		return t.away(ctx, err)
	}
	t.elsewhere = slices.DeleteFunc(all, func(l live) bool { return l.project == t.project })
	t.foreign = nil
	for i := range found {
		l := &found[i]
		if l.server == "" && !l.oneOff && t.mayAdopt() {
			t.foreign = append(t.foreign, *l)
			continue
		}
		var owner string
		switch {
		case l.server == t.e.cfg.Server && l.stack == t.order.Stack:
			continue
		case l.server == "":
			owner = "a Compose project that Varan did not create"
		case l.server == t.e.cfg.Server:
			owner = "the stack " + l.stack
		default:
			owner = fmt.Sprintf("the stack %s of server %s on the same engine", l.stack, l.server)
		}
		if l.oneOff {
			continue
		}
		return &failure{
			Reason: fmt.Sprintf("project name clash: %s belongs to %s (container %s)", t.project, owner, l.Name),
			Hint:   "give the stack another project name, or take the other project down first",
		}
	}
	t.before = slices.DeleteFunc(found, func(l live) bool { return l.server != t.e.cfg.Server })
	if t.first == nil {
		t.first = slices.Concat(t.before, t.elsewhere)
	}
	return nil
}

// mayAdopt reports whether the order may take over what somebody else started: the first
// deploy of a stack may.
func (t *task) mayAdopt() bool {
	return (t.order.Kind == fleet.OrderApply || t.order.Kind == fleet.OrderAdopt) &&
		t.e.states.get(t.order.Stack).Good == nil && len(t.order.Release.Services) > 0
}

// awaitWorkers waits for workers that an agent before us started for the stack: two at
// a time would undo each other's work.
func (e *Engine) awaitWorkers(ctx context.Context, stack string, deadline time.Time) error {
	unfinished, err := e.journal.pending(stack)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	for _, r := range unfinished {
		if r.Worker == nil || r.Worker.Start == 0 {
			continue
		}
		for startOf(r.Worker.PID) == r.Worker.Start {
			pause(ctx, nil, lookAtMost)
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	return nil
}

// work runs the worker for one request and turns its news into progress.
func (t *task) work(ctx context.Context, phase fleet.Phase, req job.Request) (job.Result, error) {
	req.Project = cmp.Or(req.Project, t.project)
	if t.rec.Touched {
		// The worker stops at the deadline by itself, and can then say what it was doing.
		ctx = context.WithoutCancel(ctx)
	}
	res, said, err := t.e.run(ctx, req, func(p process) error {
		t.rec.Worker = &p
		return t.e.journal.save(t.rec)
	}, func(l job.Line) {
		switch {
		case l.Event != nil:
			if l.Event.Text == "Waiting" {
				// Compose waits for a health check. Others may use the engine meanwhile.
				t.slot.release()
			}
			t.event(phase, l.Event)
		case l.Question != nil && !l.Question.Answer:
			t.note("asked, and answered no: " + l.Question.Text)
			t.questions = append(t.questions, l.Question.Text)
		}
	})
	if said = strings.TrimSpace(said); said != "" {
		t.note(said)
	}
	if err == nil && res.Error != "" {
		err = errors.New(res.Error)
	}
	return res, err
}

// event tells one event of the worker.
func (t *task) event(phase fleet.Phase, ev *job.Event) {
	text := strings.TrimSpace(ev.ID + " " + ev.Text + " " + ev.Details)
	if ev.Failed {
		t.note(text)
	}
	service := ""
	if name, ok := strings.CutPrefix(ev.ID, "Container "+t.project+"-"); ok {
		service, _, _ = cutLast(name, "-")
	}
	t.tellPercent(phase, service, text, ev.Percent)
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func (t *task) note(line string) { fmt.Fprintln(&t.said, t.e.secrets.clean(line)) }

func (t *task) tell(phase fleet.Phase, service, text string) { t.tellPercent(phase, service, text, -1) }

func (t *task) tellPercent(phase fleet.Phase, service, text string, percent int) {
	if t.progress == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress(fleet.Progress{
		Order: t.order.ID, Stack: t.order.Stack, Phase: phase, Service: service,
		Text: t.e.secrets.clean(text), Percent: percent, At: time.Now(),
	})
}

// outcome makes an outcome of a failure, or of success when there is none.
func (t *task) outcome(f *failure, untouched bool) fleet.Outcome {
	out := fleet.Outcome{
		Order: t.order.ID, Stack: t.order.Stack, Status: fleet.OutcomeSucceeded,
		StartedAt: t.began, EndedAt: time.Now(),
	}
	if f != nil {
		clean := t.e.secrets.clean
		out.Status, out.Reason, out.Hint = fleet.OutcomeFailed, clean(f.Reason), f.Hint
		out.Retryable, out.Log, out.Untouched = f.Retryable || f.Outside, clean(f.Log), untouched
	}
	return out
}

func (t *task) canceled() fleet.Outcome {
	out := t.outcome(&failure{Reason: "stopped before anything was touched", Retryable: true}, true)
	out.Status = fleet.OutcomeCanceled
	return out
}

// away makes a failure of an error of the engine, told apart by whether it answers.
func (t *task) away(ctx context.Context, err error) *failure {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if ping := t.e.conn.ping(ctx); ping != nil {
		return &failure{Reason: ping.Error(), Hint: "start the Docker service on the host", Retryable: true}
	}
	return &failure{Reason: err.Error(), Outside: outside(err.Error())}
}

// inTheWay are the engine's words for what has nothing to do with a release: a container
// name or a port that somebody else has, a disk that is full, a registry that is away.
var inTheWay = []string{
	"is already in use by container", "port is already allocated", "address already in use", "ports are not available",
	"no space left on device", "no such host", "connection refused", "i/o timeout", "tls handshake timeout",
}

// outside tells a failure that the release is not to blame for.
func outside(reason string) bool {
	reason = strings.ToLower(reason)
	return slices.ContainsFunc(inTheWay, func(words string) bool { return strings.Contains(reason, words) })
}

// finish records the outcome. One that cannot be recorded is still told: the order is
// then done again after a restart, which is harmless.
func (t *task) finish(out fleet.Outcome) fleet.Outcome {
	if err := t.e.journal.finish(t.rec, out); err != nil {
		t.e.log.Error("outcome not recorded", slog.String("order", out.Order), slog.String("err", err.Error()))
	}
	t.tell(fleet.PhaseDone, "", string(out.Status))
	return out
}
