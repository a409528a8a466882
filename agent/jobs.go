package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/varanhq/varan/fleet"
)

const (
	// defaultTimeout bounds an order that names no timeout.
	defaultTimeout = 10 * time.Minute
	// maxJobs bounds the orders in hand; core dispatches far fewer at a time.
	maxJobs = 1024
	// keepDelivered is how many outcomes are remembered after core acknowledged them,
	// for an order that crossed with its acknowledgement.
	keepDelivered = 256
)

// Reasons for refusing an order. All of them pass; core tries again.
var (
	errStopping = errors.New("the agent is shutting down")
	errTooMany  = errors.New("the agent has too many orders in hand")
	errLowDisk  = errors.New("the disk with the agent's state is nearly full")
)

// jobs carries out orders. Their life has nothing to do with any session: an order that
// was accepted is worked on, and its outcome kept, whatever happens to the link.
type jobs struct {
	engine Engine
	ledger *ledger
	log    *slog.Logger
	// blobs gives the content an order needs; changed is told of a stack whose order
	// ended, settled that core took an outcome; progress must not block.
	blobs func(order string) Blobs
	// vet refuses what the host does not believe; nil lets the engine do it.
	vet     func(ctx context.Context, order fleet.Order) *fleet.Outcome
	changed func(stack string)
	// lowDisk says that there is no room for new work, and how much there is.
	lowDisk  func() (text string, low bool)
	settled  func()
	progress func(fleet.Progress)
	// wake has capacity 1: run looks at queue after each receive.
	wake chan struct{}

	mu        sync.Mutex
	running   map[string]*job // by order id, from acceptance to outcome
	queue     []*job          // accepted, not started
	owed      []fleet.Outcome // not acknowledged by core, oldest first
	delivered []fleet.Outcome // acknowledged, oldest first
	stopping  bool
	// dropped counts the repairs that core will not hear of.
	dropped int
}

type job struct {
	order    fleet.Order
	canceled bool
	cancel   context.CancelFunc // nil until the job started
	// recorded is closed once the order is in the ledger, or err says why it is not.
	recorded chan struct{}
	err      error
}

// restore takes up what an earlier process left: outcomes to deliver, orders to finish.
func (j *jobs) restore(ctx context.Context) error {
	entries, err := j.ledger.load(j.log)
	if err != nil {
		return err
	}
	recovered, err := j.engine.Recover(ctx)
	if err != nil {
		// The engine may only be away. Its orders are in our ledger as well.
		j.log.WarnContext(ctx, "the engine could not list interrupted orders", slog.Any("err", err))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	settled := map[string]bool{}
	for _, e := range entries {
		if e.Outcome != nil {
			j.owed = append(j.owed, *e.Outcome)
			settled[e.Outcome.Order] = true
		}
	}
	resume := func(order fleet.Order) {
		if settled[order.ID] || j.running[order.ID] != nil {
			return
		}
		j.log.InfoContext(ctx, "resuming an interrupted order", slog.String("order", order.ID), slog.String("stack", order.Stack))
		jb := &job{order: order, recorded: make(chan struct{})}
		close(jb.recorded)
		j.running[order.ID] = jb
		j.enqueue(jb)
	}
	for _, order := range recovered {
		resume(order)
	}
	for _, e := range entries {
		if e.Order != nil {
			resume(*e.Order)
		}
	}
	return nil
}

// accept takes an order into the ledger. When it returns nil the order will be done or
// its failure reported. The outcome is set for an order that was done before.
func (j *jobs) accept(order fleet.Order) (*fleet.Outcome, error) {
	jb, outcome, err := j.reserve(order)
	if jb == nil {
		return outcome, err
	}
	err = j.ledger.accept(order, time.Now())
	j.mu.Lock()
	defer j.mu.Unlock()
	defer close(jb.recorded)
	if err == nil && j.stopping {
		err = errors.Join(errStopping, j.ledger.forget(order.ID))
	}
	if err != nil {
		jb.err = err
		delete(j.running, order.ID)
		return nil, err
	}
	j.enqueue(jb)
	return nil, nil
}

// reserve returns a job to record, or what is already known about the order.
func (j *jobs) reserve(order fleet.Order) (*job, *fleet.Outcome, error) {
	j.mu.Lock()
	if outcome, ok := j.outcome(order.ID); ok {
		j.mu.Unlock()
		return nil, &outcome, nil
	}
	if jb := j.running[order.ID]; jb != nil {
		j.mu.Unlock()
		<-jb.recorded // the order is attached to: its outcome is reported once
		return nil, nil, jb.err
	}
	defer j.mu.Unlock()
	switch {
	case j.stopping:
		return nil, nil, errStopping
	case len(j.running) >= maxJobs:
		return nil, nil, errTooMany
	case fills(order.Kind):
		if text, low := j.lowDisk(); low {
			return nil, nil, fmt.Errorf("%w: %s", errLowDisk, text)
		}
	}
	jb := &job{order: order, recorded: make(chan struct{})}
	j.running[order.ID] = jb
	return jb, nil, nil
}

// fills reports whether an order takes room on the disk. What stops or removes something, or
// puts back what ran, goes on when there is little.
func fills(kind fleet.OrderKind) bool {
	switch kind {
	case fleet.OrderApply, fleet.OrderPull, fleet.OrderUpdate, fleet.OrderRun, fleet.OrderAdopt:
		return true
	case fleet.OrderHeal, fleet.OrderRemove, fleet.OrderRestart, fleet.OrderStop, fleet.OrderStart,
		fleet.OrderPause, fleet.OrderUnpause, fleet.OrderDown:
	}
	return false
}

// enqueue hands an order to run; j.mu is held.
func (j *jobs) enqueue(jb *job) {
	j.queue = append(j.queue, jb)
	poke(j.wake)
}

// outcome finds what is known of an order that ended; j.mu is held.
func (j *jobs) outcome(id string) (fleet.Outcome, bool) {
	for _, list := range [][]fleet.Outcome{j.owed, j.delivered} {
		if i := slices.IndexFunc(list, func(o fleet.Outcome) bool { return o.Order == id }); i >= 0 {
			return list[i], true
		}
	}
	return fleet.Outcome{}, false
}

// cancel withdraws an order. The engine decides whether it is too late.
func (j *jobs) cancel(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	jb := j.running[id]
	if jb == nil {
		return
	}
	jb.canceled = true
	if jb.cancel != nil {
		jb.cancel()
	}
}

// run works until ctx ends, then waits for the orders under way, at most for drain.
// Orders that touched nothing yet end at once then; the others are carried on. What is
// not done in time is left to the next start.
func (j *jobs) run(ctx context.Context, drain time.Duration) {
	var wg sync.WaitGroup
	for ctx.Err() == nil {
		j.startQueued(ctx, &wg)
		select {
		case <-j.wake:
		case <-ctx.Done():
		}
	}
	j.mu.Lock()
	j.stopping = true
	j.mu.Unlock()
	j.startQueued(ctx, &wg) // accepted just before: they end as canceled, not in silence
	done := make(chan struct{})
	go func() {
		defer close(done)
		wg.Wait()
	}()
	timer := time.NewTimer(drain)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		j.log.WarnContext(ctx, "leaving with orders under way; the next start finishes them", slog.Any("orders", j.unfinished()))
	}
}

func (j *jobs) startQueued(ctx context.Context, wg *sync.WaitGroup) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, jb := range j.queue {
		timeout := jb.order.Timeout
		if timeout <= 0 {
			timeout = defaultTimeout
		}
		jobCtx, cancel := context.WithTimeout(ctx, timeout)
		jb.cancel = cancel
		if jb.canceled {
			cancel()
		}
		wg.Go(func() {
			defer cancel()
			j.do(jobCtx, jb.order)
		})
	}
	j.queue = nil
}

// do carries out one order and keeps its outcome.
func (j *jobs) do(ctx context.Context, order fleet.Order) {
	log := j.log.With(slog.String("order", order.ID), slog.String("stack", order.Stack))
	log.InfoContext(ctx, "order started", slog.String("kind", string(order.Kind)))
	started := time.Now()
	outcome := j.ask(ctx, order)
	outcome.Order, outcome.Stack, outcome.Heal = order.ID, order.Stack, order.Kind == fleet.OrderHeal
	if outcome.StartedAt.IsZero() {
		outcome.StartedAt = started
	}
	if outcome.EndedAt.IsZero() {
		outcome.EndedAt = time.Now()
	}
	if err := j.ledger.settle(outcome, time.Now()); err != nil {
		// The order stays in the ledger. Should we die before core has the outcome, the
		// engine is asked again and answers from its own journal.
		log.ErrorContext(ctx, "the outcome could not be recorded", slog.Any("err", err))
	}
	log.InfoContext(ctx, "order ended", slog.String("status", string(outcome.Status)), slog.String("reason", outcome.Reason))

	j.mu.Lock()
	delete(j.running, order.ID)
	var gone []fleet.Outcome
	j.owed, gone, j.dropped = dropHeals(append(j.owed, outcome), j.dropped)
	j.mu.Unlock()
	for _, o := range gone {
		if err := j.ledger.forget(o.Order); err != nil {
			log.WarnContext(ctx, "a dropped repair could not be removed", slog.String("order", o.Order), slog.Any("err", err))
		}
	}
	j.changed(order.Stack)
}

// ask calls the engine. A panic in it must not take the other stacks' orders along, nor
// come back with every restart.
func (j *jobs) ask(ctx context.Context, order fleet.Order) (outcome fleet.Outcome) {
	defer func() {
		if v := recover(); v != nil {
			j.log.ErrorContext(ctx, "internal fault in the engine", slog.String("order", order.ID),
				slog.Any("fault", v), slog.String("stack_trace", string(debug.Stack())))
			outcome = fleet.Outcome{
				Status: fleet.OutcomeFailed,
				Reason: fmt.Sprintf("internal fault in the agent: %v", v),
				Hint:   "this is a bug; the agent's log has the details",
			}
		}
	}()
	if refused := j.vet(ctx, order); refused != nil {
		return *refused
	}
	return j.engine.Do(ctx, order, j.blobs(order.ID), j.progress)
}

// unfinished lists the orders in hand, sorted.
func (j *jobs) unfinished() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	ids := make([]string, 0, len(j.running))
	for id := range j.running {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// busy reports whether an order for the stack is in hand.
func (j *jobs) busy(stack string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, jb := range j.running {
		if jb.order.Stack == stack {
			return true
		}
	}
	return false
}

// undelivered lists the outcomes that core has not acknowledged, oldest first.
func (j *jobs) undelivered() []fleet.Outcome {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.owed)
}

// acknowledged drops an outcome that core has.
func (j *jobs) acknowledged(ctx context.Context, outcome fleet.Outcome) {
	j.mu.Lock()
	j.owed = slices.DeleteFunc(j.owed, func(o fleet.Outcome) bool { return o.Order == outcome.Order })
	if outcome.Dropped > 0 {
		j.dropped = 0
	}
	outcome.Log = "" // 64 KiB that nobody will ask for again
	j.delivered = append(j.delivered, outcome)
	if len(j.delivered) > keepDelivered {
		j.delivered = slices.Delete(j.delivered, 0, len(j.delivered)-keepDelivered)
	}
	j.mu.Unlock()
	if err := j.ledger.forget(outcome.Order); err != nil {
		j.log.WarnContext(ctx, "a delivered outcome could not be removed", slog.String("order", outcome.Order), slog.Any("err", err))
	}
	j.settled()
}

// poke wakes the reader of a channel of capacity 1.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
