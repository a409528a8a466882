package web

import (
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/reconciler"
)

// backlog is how many events of a run wait for a slow client. Beyond it progress is left
// out: it is news, not record.
const backlog = 1024

// application is a run that a client watches.
type application struct {
	// first is closed at the first event, done when the run has ended; run, result and err
	// are set then.
	first, done chan struct{}
	run         reconciler.Run
	result      reconciler.RunResult
	err         error

	mu     sync.Mutex
	queue  []reconciler.Event
	seen   bool
	queued chan struct{} // has room for one wake-up
}

func newApplication() *application {
	return &application{first: make(chan struct{}), done: make(chan struct{}), queued: make(chan struct{}, 1)}
}

// watch takes an event and never blocks.
func (a *application) watch(e reconciler.Event) {
	a.mu.Lock()
	if e.Kind != reconciler.EventProgress || len(a.queue) < backlog {
		a.queue = append(a.queue, e)
	}
	if !a.seen {
		a.seen = true
		close(a.first)
	}
	a.mu.Unlock()
	select {
	case a.queued <- struct{}{}:
	default:
	}
}

func (a *application) begun() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen
}

func (a *application) take() []reconciler.Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	events := a.queue
	a.queue = nil
	return events
}

// write sends the events as they come and the result last. It returns when the run has
// ended, which it does, as far as this client is concerned, when the client leaves.
func (a *application) write(hc huma.Context, failure func(error) *api.Error) {
	lines := newLineWriter(hc)
	defer lines.close()
	run := reconciler.Run{}
	drain := func() {
		for _, e := range a.take() {
			if e.Kind == reconciler.EventRunStarted && e.Plan != nil {
				run = reconciler.Run{ID: e.Run, Sync: e.Sync, Plan: *e.Plan}
			}
			if event, ok := applyEvent(run, e); ok {
				lines.write(event)
			}
		}
	}
	for open := true; open; {
		select {
		case <-a.queued:
		case <-a.done:
			open = false
		}
		drain()
	}
	if a.err != nil {
		lines.write(api.ApplyEvent{Kind: api.EventError, Run: a.run.ID, Error: failure(a.err)})
		return
	}
	if run.ID == "" { // nothing to do: the plan says so
		lines.write(api.ApplyEvent{Kind: api.EventPlan, At: a.run.Started, Plan: &a.run.Plan})
	}
	done := &api.RunResult{Run: a.run.ID, Status: api.OpStatus(a.result.Status), Ops: []api.Op{}, Ended: a.result.Ended}
	for _, result := range a.result.Ops {
		done.Ops = append(done.Ops, opOf(a.run, result))
	}
	lines.write(api.ApplyEvent{Kind: api.EventDone, At: a.result.Ended, Run: a.run.ID, Done: done})
}

// applyEvent translates an event; ok is false for those that are of no interest here.
func applyEvent(run reconciler.Run, e reconciler.Event) (event api.ApplyEvent, ok bool) {
	event = api.ApplyEvent{At: e.At, Run: e.Run, Op: e.Op}
	switch e.Kind {
	case reconciler.EventRunStarted:
		event.Kind, event.Plan = api.EventPlan, e.Plan
	case reconciler.EventOpStarted:
		event.Kind = api.EventStarted
	case reconciler.EventProgress:
		event.Kind, event.Progress = api.EventProgress, e.Progress
	case reconciler.EventOpEnded:
		event.Kind = api.EventEnded
		if e.Result != nil {
			result := opOf(run, *e.Result)
			event.Result = &result
		}
	case reconciler.EventPlan, reconciler.EventRunEnded, reconciler.EventStatus, reconciler.EventHeld, reconciler.EventRollout:
		return event, false
	}
	return event, true
}

// queueLines is how many queued lines are sent at a time at most.
const queueLines = 256

// lineWriter writes JSON lines, each at once. After a failure it writes no more.
type lineWriter struct {
	out     io.Writer
	control *http.ResponseController
	failed  bool
	queued  int
}

func newLineWriter(hc huma.Context) *lineWriter {
	_, w := humago.Unwrap(hc)
	hc.SetHeader("Content-Type", "application/x-ndjson")
	hc.SetHeader("X-Accel-Buffering", "no") // a proxy must pass lines on as they come
	hc.SetStatus(http.StatusOK)
	l := &lineWriter{out: w, control: http.NewResponseController(w)}
	l.failed = l.control.Flush() != nil
	return l
}

func (l *lineWriter) write(v any) bool {
	if l.failed {
		return false
	}
	// Without a deadline a client that stops reading would hold on to the run's events.
	_ = l.control.SetWriteDeadline(time.Now().Add(lineTimeout))
	l.failed = json.NewEncoder(l.out).Encode(v) != nil || l.control.Flush() != nil
	return !l.failed
}

// queue is write for those of whom many come: they are sent when there are enough.
func (l *lineWriter) queue(v any) bool {
	l.queued++
	if l.queued%queueLines == 0 {
		return l.write(v)
	}
	l.failed = l.failed || json.NewEncoder(l.out).Encode(v) != nil
	return !l.failed
}

// close lets the connection serve further requests.
func (l *lineWriter) close() { _ = l.control.SetWriteDeadline(time.Time{}) }
