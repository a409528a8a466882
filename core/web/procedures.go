package web

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/procedure"
)

// Procedures runs what is declared to be run.
type Procedures interface {
	// Start returns when the run is on record; what becomes of it does not depend on ctx.
	Start(ctx context.Context, req procedure.Request) (run procedure.Run, coalesced bool, err error)
	// Cancel keeps the runs of that procedure, or with that id, from starting another stage.
	Cancel(name, actor string) int
	// Decide approves or rejects the run with that id, or the one of that procedure, that waits.
	Decide(ctx context.Context, name string, d procedure.Decision) (procedure.Run, error)
	// Declared are the procedures of all syncs by name, and the sync of each; then core's own.
	Declared(ctx context.Context) ([]fleet.Procedure, map[string]string, error)
	// Zone is the time zone of schedules that name none.
	Zone() string
	// ProceduresChanged says that core's own procedures were changed.
	ProceduresChanged()
	// Execution makes an execution of texts, or says as an *api.Error what is wrong with them.
	Execution(typ string, params map[string]string) (fleet.Execution, error)
}

// ProcedureStore keeps the runs.
type ProcedureStore interface {
	ProcedureRuns(ctx context.Context, name, before string, waiting bool, limit int) ([]api.ProcedureRun, error)
	LastProcedureRuns(ctx context.Context) (map[string]api.ProcedureRun, error)
	ProcedureRun(ctx context.Context, id string) (api.ProcedureRun, error)
}

// runsOf is the input of a list of runs.
type runsOf struct {
	Procedure string `query:"procedure" maxLength:"128"`
	Limit     int    `query:"limit" minimum:"0" maximum:"500"`
	Before    string `query:"before" maxLength:"64"`
	Waiting   bool   `query:"waiting"`
}

func (s *server) registerProcedures(a huma.API) {
	handle(s, a, route(http.MethodGet, "/procedures", "listProcedures", "Procedures by name"),
		func(ctx context.Context, _ *none) ([]api.Procedure, error) { return s.procedures(ctx) })
	handle(s, a, route(http.MethodGet, "/procedures/{name}", "getProcedure", "One procedure"),
		func(ctx context.Context, in *named) (api.Procedure, error) { return s.procedureNamed(ctx, in.Name) })
	stream(s, a, route(http.MethodPost, "/procedures/{name}/run", "runProcedure", "Run a procedure; JSON lines of api.ProcedureEvent"),
		func(ctx context.Context, in *namedBody[api.RunRequest]) (func(huma.Context), error) {
			if _, err := s.procedureNamed(ctx, in.Name); err != nil {
				return nil, err
			}
			return s.startRun(ctx, procedure.Request{Procedure: in.Name, Inputs: in.Body.Inputs}, in.Body.Detach)
		})
	handle(s, a, route(http.MethodPost, "/procedures/{name}/decide", "decideProcedure", "Approve or reject a run that waits, by its id or its procedure"),
		func(ctx context.Context, in *namedBody[api.DecisionRequest]) (api.ProcedureRun, error) {
			run, err := s.Procedures.Decide(ctx, in.Name, procedure.Decision{
				Approve: in.Body.Approve, Actor: auth.ActorOf(ctx).Name, Reason: in.Body.Reason,
			})
			if err != nil {
				return api.ProcedureRun{}, procedureError(err)
			}
			return procedureRunOf(run), nil
		})
	handle(s, a, route(http.MethodPost, "/procedures/{name}/cancel", "cancelProcedure", "End the runs of a procedure, or one run, after their stage"),
		func(ctx context.Context, in *named) (api.Canceled, error) {
			return api.Canceled{Runs: s.Procedures.Cancel(in.Name, auth.ActorOf(ctx).Name)}, nil
		})
	stream(s, a, route(http.MethodPost, "/executions", "runExecution", "Run a single execution; JSON lines of api.ProcedureEvent"),
		func(ctx context.Context, in *body[api.ExecutionRequest]) (func(huma.Context), error) {
			x, err := s.Procedures.Execution(in.Body.Type, in.Body.Params)
			if err != nil {
				return nil, err
			}
			return s.startRun(ctx, procedure.Request{Execution: &x}, in.Body.Detach)
		})
	handle(s, a, route(http.MethodGet, "/procedure-runs", "listProcedureRuns", "Runs of procedures, newest first, without their steps"),
		func(ctx context.Context, in *runsOf) ([]api.ProcedureRun, error) {
			return s.Store.ProcedureRuns(ctx, in.Procedure, in.Before, in.Waiting, pageSize(in.Limit))
		})
	handle(s, a, route(http.MethodGet, "/procedure-runs/{name}", "getProcedureRun", "One run with its steps"),
		func(ctx context.Context, in *named) (api.ProcedureRun, error) {
			return s.Store.ProcedureRun(ctx, in.Name)
		})
}

func (s *server) procedures(ctx context.Context) ([]api.Procedure, error) {
	declared, sources, err := s.Procedures.Declared(ctx)
	if err != nil {
		return nil, err
	}
	last, err := s.Store.LastProcedureRuns(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]api.Procedure, 0, len(declared))
	for i := range declared {
		p := &declared[i]
		shown := api.Procedure{
			Name: p.Name, Description: p.Description, Tags: p.Tags, Inputs: p.Inputs, Stages: p.Stages, Source: sources[p.Name], Origin: p.Origin,
			Webhook: p.Webhook && (!p.WebhookSecret.IsEmpty() || !s.HookSecret().IsEmpty()), Timetable: p.Timetable,
		}
		if run, ok := last[p.Name]; ok {
			shown.LastRun = &run
		}
		out = append(out, shown)
	}
	return out, nil
}

func (s *server) procedureNamed(ctx context.Context, name string) (api.Procedure, error) {
	all, err := s.procedures(ctx)
	if err != nil {
		return api.Procedure{}, err
	}
	names := make([]string, 0, len(all))
	for _, p := range all {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return api.Procedure{}, notFound("no sync declares a procedure \""+name+"\"", didYouMean(name, names))
}

// startRun begins a run and returns the writer of its events. The run goes on when the
// client leaves.
func (s *server) startRun(ctx context.Context, req procedure.Request, detach bool) (func(huma.Context), error) {
	news := &runNews{queued: make(chan struct{}, 1)}
	req.Trigger, req.Actor, req.Watch = reconciler.TriggerManual, auth.ActorOf(ctx).Name, news.watch
	if _, _, err := s.Procedures.Start(ctx, req); err != nil {
		return nil, procedureError(err)
	}
	return func(hc huma.Context) {
		lines := newLineWriter(hc)
		defer lines.close()
		for {
			for _, e := range news.take() {
				if !lines.write(procedureEvent(e)) || e.Kind == procedure.EventEnded || detach {
					news.leave()
					return
				}
			}
			select {
			case <-news.queued:
			case <-hc.Context().Done():
				news.leave()
				return
			}
		}
	}, nil
}

// procedureError says what keeps a run from being begun.
func procedureError(err error) error {
	switch {
	case errors.Is(err, procedure.ErrUnknown):
		return notFound(err.Error(), "varan procedure list")
	case errors.Is(err, procedure.ErrTooMany):
		return &api.Error{Status: http.StatusTooManyRequests, Code: api.CodeRateLimited, Message: err.Error()}
	case errors.Is(err, procedure.ErrSuspended):
		return &api.Error{Status: http.StatusConflict, Code: api.CodeConflict, Message: err.Error(), Hint: "varan resume procedure/NAME"}
	case errors.Is(err, procedure.ErrStopped):
		return unavailable("core is shutting down", "try again in a moment")
	case errors.Is(err, procedure.ErrInputs):
		return badRequest(err.Error(), "varan procedure show NAME tells its inputs; give them with --input NAME=VALUE")
	case errors.Is(err, procedure.ErrNotApprover):
		return &api.Error{Status: http.StatusForbidden, Code: api.CodeForbidden, Message: err.Error()}
	case errors.Is(err, procedure.ErrNotWaiting), errors.Is(err, procedure.ErrAmbiguous):
		return &api.Error{Status: http.StatusConflict, Code: api.CodeConflict, Message: err.Error(), Hint: "varan procedure runs --waiting"}
	case errors.Is(err, procedure.ErrLoop):
		return &api.Error{Status: http.StatusUnprocessableEntity, Code: api.CodeInvalid, Message: err.Error()}
	}
	return err
}

// runNews holds the events of a run until its client took them. Progress beyond the backlog
// is left out: it is news, not record.
type runNews struct {
	queued chan struct{} // has room for one wake-up

	mu     sync.Mutex
	events []procedure.Event
	gone   bool
}

// watch takes an event and never blocks.
func (n *runNews) watch(e procedure.Event) {
	n.mu.Lock()
	if !n.gone && (e.Kind != procedure.EventProgress || len(n.events) < backlog) {
		n.events = append(n.events, e)
	}
	n.mu.Unlock()
	select {
	case n.queued <- struct{}{}:
	default:
	}
}

func (n *runNews) take() []procedure.Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	events := n.events
	n.events = nil
	return events
}

func (n *runNews) leave() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gone, n.events = true, nil
}

func procedureEvent(e procedure.Event) api.ProcedureEvent {
	out := api.ProcedureEvent{Kind: string(e.Kind), At: e.At, ID: e.ID, Stage: e.Stage, Text: e.Text}
	if e.Step != nil {
		step := stepOf(*e.Step)
		out.Step = &step
	}
	if e.Run != nil {
		run := procedureRunOf(*e.Run)
		out.Run = &run
	}
	return out
}

func stepOf(s procedure.Step) api.ProcedureStep {
	return api.ProcedureStep{
		Number: s.Number, Stage: s.Stage, Type: s.Type, Target: s.Target, Stack: s.Stack, Server: s.Server,
		Status: api.ProcedureStatus(s.Status), Attempts: s.Attempts, MayFail: s.MayFail, Reason: s.Reason, Text: s.Text, Run: s.Run, Log: s.Log,
		Started: s.Started, Ended: s.Ended,
	}
}

func procedureRunOf(r procedure.Run) api.ProcedureRun {
	out := api.ProcedureRun{
		ID: r.ID, Procedure: r.Procedure, Parent: r.Parent, Trigger: string(r.Trigger), Actor: r.Actor,
		Status: api.ProcedureStatus(r.Status), Reason: r.Reason, Inputs: r.Inputs, Stages: slices.Clone(r.Stages),
		Created: r.Created, Started: r.Started, Ended: r.Ended,
	}
	for _, s := range r.Steps {
		out.Steps = append(out.Steps, stepOf(s))
	}
	return out
}
