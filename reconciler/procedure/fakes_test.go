package procedure_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
	"github.com/varanhq/varan/reconciler/procedure"
)

// world is everything around a runner, in memory.
type world struct {
	*testing.T
	runner  *procedure.Runner
	stop    context.CancelFunc
	stopped chan struct{}

	mu      sync.Mutex
	catalog procedure.Catalog
	// did is what was done, in the order of its begin; takes how long each thing takes.
	did   []string
	takes map[string]time.Duration
	// fails are reasons, by what is done; heals the attempt from which on a thing succeeds.
	fails map[string]string
	heals map[string]int
	// busy counts how often a stack is found to be worked on.
	busy map[string]int
	// atOnce and most count what is under way.
	atOnce, most int
	// journal is every call, refuse the calls that fail.
	journal []string
	refuse  string
	ended   []procedure.Run
}

// in runs a test in a bubble with a runner that runs.
func in(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, takes: map[string]time.Duration{}, fails: map[string]string{}, heals: map[string]int{}, busy: map[string]int{}, stopped: make(chan struct{})}
		w.catalog = procedure.Catalog{
			Syncs: []string{"fleet", "other"}, Servers: []string{"alpha", "beta"},
			Stacks: []procedure.Target{
				{Name: "web", Server: "alpha", Sync: "fleet", Tags: []string{"front"}},
				{Name: "web", Server: "beta", Sync: "fleet", Tags: []string{"front"}},
				{Name: "db", Server: "alpha", Sync: "fleet"},
				{Name: "mail", Server: "beta", Sync: "other", Tags: []string{"front"}},
				{Name: "cache-deployment", Server: "alpha", Sync: "fleet", Kind: fleet.KindDeployment},
				{Name: "cache", Server: "alpha", Sync: "fleet", Kind: fleet.KindStack},
				{Name: "site", Server: "alpha", Sync: "fleet", Kind: fleet.KindRepo},
			},
		}
		var err error
		w.runner, err = procedure.New(procedure.Config{
			Applier: w, Hosts: w, Alerts: w, Journal: w, Logger: slog.New(slog.DiscardHandler),
			Maintenance: procedure.Maintenance{
				"ClearRepoCache": func(ctx context.Context, e *fleet.Execution, _ func(string)) (string, error) {
					return "done " + e.Type + " in " + procedure.RunOf(ctx), w.act(ctx, "maintain "+e.Type)
				},
			},
			Catalog: func(context.Context) (procedure.Catalog, error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				return w.catalog, nil
			},
			Ended: func(r procedure.Run) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.ended = append(w.ended, r)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		w.stop = cancel
		go func() {
			defer close(w.stopped)
			_ = w.runner.Run(ctx)
		}()
		test(w)
		cancel()
		<-w.stopped
	})
}

// declare adds a procedure; a stage is a list of executions.
func (w *world) declare(name string, stages ...[]fleet.Execution) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := fleet.Procedure{Name: name}
	for i, executions := range stages {
		p.Stages = append(p.Stages, fleet.Stage{Name: fmt.Sprint("s", i+1), Enabled: true, Executions: executions})
	}
	w.catalog.Procedures = append(slices.DeleteFunc(w.catalog.Procedures, func(p fleet.Procedure) bool { return p.Name == name }), p)
}

// x is an execution; params are key, value, ... where a value is a string, number or list.
func x(typ string, params ...any) fleet.Execution {
	e := fleet.Execution{Type: typ, Enabled: true}
	for i := 0; i < len(params); i += 2 {
		p := fleet.Param{Name: params[i].(string)}
		switch v := params[i+1].(type) {
		case string:
			p.Text = v
		case int:
			p.Int = v
		case []string:
			p.List = v
		}
		e.Params = append(e.Params, p)
	}
	return e
}

// start begins a procedure.
func (w *world) start(name string) procedure.Run {
	w.Helper()
	run, _, err := w.runner.Start(w.Context(), procedure.Request{Procedure: name, Trigger: reconciler.TriggerManual, Actor: "ann"})
	if err != nil {
		w.Fatal(err)
	}
	return run
}

// run runs a procedure to its end.
func (w *world) run(name string) procedure.Run {
	w.Helper()
	return w.await(w.start(name))
}

// once runs a single execution to its end.
func (w *world) once(e fleet.Execution) procedure.Run {
	w.Helper()
	run, _, err := w.runner.Start(w.Context(), procedure.Request{Execution: &e, Trigger: reconciler.TriggerManual, Actor: "ann"})
	if err != nil {
		w.Fatal(err)
	}
	return w.await(run)
}

func (w *world) await(run procedure.Run) procedure.Run {
	w.Helper()
	w.runner.Await(w.Context(), run.ID)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.ended {
		if r.ID == run.ID {
			return r
		}
	}
	w.Fatalf("run %s of %q did not end", run.ID, run.Procedure)
	return run
}

func (w *world) done() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.did, "; ")
}

// act is one thing being done.
func (w *world) act(ctx context.Context, what string) error {
	w.mu.Lock()
	w.did = append(w.did, what)
	takes, fails := w.takes[what], w.fails[what]
	w.heals[what]--
	if w.heals[what] > 0 {
		fails = "not yet"
	}
	w.atOnce++
	w.most = max(w.most, w.atOnce)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.atOnce--
	}()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	if fails != "" {
		return errors.New(fails)
	}
	return nil
}

func (w *world) Apply(ctx context.Context, req reconciler.ApplyRequest) (reconciler.Run, reconciler.RunResult, error) {
	what := "apply " + req.Sync
	if len(req.Only) > 0 {
		what += " only " + strings.Join(req.Only, ",")
	}
	if len(req.Forced) > 0 {
		what += " forced"
	}
	if req.Parent == "" {
		return reconciler.Run{}, reconciler.RunResult{}, errors.New("it is not said which run asks")
	}
	if err := w.act(ctx, what); err != nil {
		return reconciler.Run{}, reconciler.RunResult{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	run := reconciler.Run{ID: "run", Sync: req.Sync, Parent: req.Parent, Plan: plan.Plan{Commit: fleet.Commit{ID: "c0ffee"}}}
	result := reconciler.RunResult{Status: reconciler.OpSucceeded}
	for _, t := range w.catalog.Stacks {
		if t.Sync != req.Sync || len(req.Only) > 0 && !slices.Contains(req.Only, t.Name) {
			continue
		}
		op := plan.Op{ID: "update " + t.Name + "@" + t.Server, Stack: t.Name, Server: t.Server}
		if w.busy[t.Name] > 0 {
			w.busy[t.Name]--
			run.Plan.Blocked = append(run.Plan.Blocked, plan.Blocked{Op: op, Reason: plan.BlockBusy, Text: "busy"})
			continue
		}
		switch reason := w.fails[t.Name+"@"+t.Server]; {
		case reason == "offline":
			run.Plan.Blocked = append(run.Plan.Blocked, plan.Blocked{Op: op, Reason: plan.BlockOffline, Text: t.Server + " is offline"})
			continue
		case reason == "same":
			continue
		case reason != "":
			result.Ops = append(result.Ops, reconciler.OpResult{Op: op.ID, Status: reconciler.OpRolledBack, Reason: reason})
		default:
			result.Ops = append(result.Ops, reconciler.OpResult{Op: op.ID, Status: reconciler.OpSucceeded})
		}
		run.Plan.Ops = append(run.Plan.Ops, op)
	}
	return run, result, nil
}

func (w *world) Order(ctx context.Context, req reconciler.OrderRequest) (fleet.Outcome, error) {
	what := fmt.Sprintf("%s %s@%s", req.Kind, req.Stack, req.Server)
	if len(req.Services) > 0 {
		what += " " + strings.Join(req.Services, ",")
	}
	if req.StopSeconds > 0 {
		what += fmt.Sprintf(" within %ds", req.StopSeconds)
	}
	if req.StopSignal != "" {
		what += " by " + req.StopSignal
	}
	if req.Run != nil {
		what += fmt.Sprintf(" %s %q %v", req.Run.Service, append(req.Run.Entrypoint, req.Run.Command...), req.Run.Env)
	}
	if err := w.act(ctx, what); err != nil {
		return fleet.Outcome{Status: fleet.OutcomeFailed, Stack: req.Stack, Reason: err.Error(), Log: "evidence"}, nil //nolint:nilerr // what an agent could not do is an outcome
	}
	req.Watch(fleet.Progress{Phase: fleet.PhaseUp, Text: "working"})
	return fleet.Outcome{Status: fleet.OutcomeSucceeded}, nil
}

func (w *world) Host(ctx context.Context, server string, task fleet.HostTask) (string, error) {
	what := strings.TrimSpace(fmt.Sprintf("%s on %s %s", task.Kind, server, task.Target))
	return "it " + string(task.Kind), w.act(ctx, what)
}

func (w *world) Test(ctx context.Context, alerter string) error {
	return w.act(ctx, "test "+alerter)
}

func (w *world) Send(ctx context.Context, level, message, details string, alerters []string) error {
	return w.act(ctx, strings.TrimSpace(fmt.Sprintf("send %s %s %s %v", level, message, details, alerters)))
}

func (w *world) note(what string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.journal = append(w.journal, what)
	if w.refuse != "" && strings.HasPrefix(what, w.refuse) {
		return errors.New("the disk is full")
	}
	return nil
}

func (w *world) BeginProcedure(_ context.Context, run procedure.Run) error {
	return w.note("begin " + run.Procedure)
}

func (w *world) ProcedureStarted(context.Context, string, time.Time) error { return w.note("started") }

func (w *world) StageStarted(_ context.Context, _ string, steps []procedure.Step) error {
	return w.note(fmt.Sprintf("stage of %d", len(steps)))
}

func (*world) OpenProcedures(context.Context) ([]procedure.Run, error) { return nil, nil }

func (w *world) StepStarted(_ context.Context, _ string, s procedure.Step) error {
	return w.note("step " + s.Type + " " + s.Target)
}

func (w *world) StepEnded(_ context.Context, _ string, s procedure.Step) error {
	return w.note(fmt.Sprintf("ended %s %s: %s", s.Type, s.Target, s.Status))
}

func (w *world) EndProcedure(_ context.Context, run procedure.Run) error {
	return w.note(fmt.Sprintf("end %s: %s", run.Procedure, run.Status))
}
