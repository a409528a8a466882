package web

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

func (s *server) registerPlans(a huma.API) {
	handle(s, a, route(http.MethodPost, "/syncs/{name}/plan", "planSync", "What applying a sync would do"), s.planSync)

	upload := route(http.MethodPost, "/plans", "planUpload", "What a directory that is not in Git would do")
	upload.MaxBodyBytes = maxPlanBody
	upload.SkipValidateBody = true // the files are checked one by one; a second decoding would double the memory
	handle(s, a, upload, s.planUpload)

	apply := route(http.MethodPost, "/syncs/{name}/apply", "applySync", "Make a sync's commit so; JSON lines of api.ApplyEvent")
	apply.MaxBodyBytes = maxPlanBody
	apply.SkipValidateBody = true // a saved plan is compared with a fresh one, field by field
	stream(s, a, apply, func(ctx context.Context, in *namedBody[api.ApplyRequest]) (func(huma.Context), error) {
		if _, err := s.syncNamed(ctx, in.Name); err != nil {
			return nil, err
		}
		if in.Body.Saved != nil && in.Body.Saved.Sync != in.Name {
			return nil, badRequest(fmt.Sprintf("the saved plan is of sync %q, not %q", in.Body.Saved.Sync, in.Name),
				"apply it to its own sync")
		}
		return s.apply(ctx, reconciler.ApplyRequest{
			Sync: in.Name, Saved: in.Body.Saved, Only: in.Body.Only, Forced: in.Body.Forced,
			Approved: in.Body.Approved, Actor: auth.ActorOf(ctx).Name,
			Override: overrideOf(ctx, in.Body.OverrideWindow, in.Body.Reason),
		})
	})
}

func (s *server) planSync(ctx context.Context, in *namedBody[api.PlanRequest]) (api.PlanResult, error) {
	if _, err := s.syncNamed(ctx, in.Name); err != nil {
		return api.PlanResult{}, err
	}
	return s.plan(ctx, reconciler.PlanRequest{
		Sync: in.Name, Only: in.Body.Only, Forced: in.Body.Forced, Refresh: in.Body.Refresh,
		Override: overrideOf(ctx, in.Body.OverrideWindow, ""),
	})
}

func (s *server) plan(ctx context.Context, req reconciler.PlanRequest) (api.PlanResult, error) {
	p, diagnostics, err := s.Reconciler.Plan(ctx, req)
	switch {
	case err != nil:
		return api.PlanResult{}, err
	case diagnostics.HasErrors():
		return api.PlanResult{}, invalid(diagnostics)
	}
	return api.PlanResult{Plan: p, Diagnostics: diagnostics}, nil
}

func (s *server) planUpload(ctx context.Context, in *body[api.UploadRequest]) (api.PlanResult, error) {
	if err := checkUpload(in.Body.Files); err != nil {
		return api.PlanResult{}, err
	}
	sync, err := s.standsFor(ctx, in.Body.Sync)
	if err != nil {
		return api.PlanResult{}, err
	}
	loaded, err := s.Sources.Upload(ctx, sync, in.Body.Files)
	if err != nil {
		return api.PlanResult{}, err
	}
	return s.plan(ctx, reconciler.PlanRequest{Sync: sync, Only: in.Body.Only, Desired: &loaded})
}

// standsFor is the sync in whose place an upload is planned.
func (s *server) standsFor(ctx context.Context, name string) (string, error) {
	if name != "" {
		sync, err := s.syncNamed(ctx, name)
		return sync.Name, err
	}
	syncs, err := s.Store.Syncs(ctx)
	switch {
	case err != nil || len(syncs) == 0:
		return "", err
	case len(syncs) == 1:
		return syncs[0].Name, nil
	}
	return "", badRequest(fmt.Sprintf("there are %d syncs, and the directory could take the place of any", len(syncs)),
		"say which with --sync")
}

func checkUpload(files map[string]api.UploadFile) error {
	total := 0
	for name, file := range files {
		if !fs.ValidPath(name) || name == "." {
			return badRequest(fmt.Sprintf("%q is not a path inside a directory", name), "send clean, slash separated, relative paths")
		}
		total += len(file.Data)
	}
	if len(files) > api.MaxUploadFiles || total > api.MaxUploadBytes {
		return &api.Error{
			Status: http.StatusRequestEntityTooLarge, Code: api.CodeTooLarge, Message: api.ErrUploadTooLarge.Error(),
			Hint: fmt.Sprintf("at most %d files and %d MiB", api.MaxUploadFiles, api.MaxUploadBytes>>20),
		}
	}
	return nil
}

// apply starts a run and returns the writer of its events. What goes wrong before the first
// event is an error; a client that leaves keeps from starting what has not started.
func (s *server) apply(ctx context.Context, req reconciler.ApplyRequest) (func(huma.Context), error) {
	if o := req.Override; o != nil {
		if o.Reason == "" {
			return nil, badRequest("working outside of the sync windows needs a reason", "say it with --reason")
		}
		s.record(ctx, api.Event{Kind: "control", Sync: req.Sync, Text: o.By + " works outside of the sync windows of " + req.Sync + ": " + o.Reason})
	}
	run := newApplication()
	req.Watch = run.watch
	go func() {
		defer close(run.done)
		run.run, run.result, run.err = s.Reconciler.Apply(ctx, req)
	}()
	select {
	case <-run.first:
	case <-run.done:
		if run.err != nil && !run.begun() {
			return nil, run.err
		}
	}
	return func(hc huma.Context) { run.write(hc, func(err error) *api.Error { return s.failure(ctx, err) }) }, nil
}

// opOf is an op's result as the API has it.
func opOf(run reconciler.Run, result reconciler.OpResult) api.Op {
	out := api.Op{
		Run: run.ID, ID: result.Op, Sync: run.Sync, Commit: run.Plan.Commit, Trigger: string(run.Trigger), Actor: run.Actor,
		Status: api.OpStatus(result.Status), Reason: result.Reason, Hint: result.Outcome.Hint,
		Outcome: result.Outcome, Started: result.Outcome.StartedAt, Ended: result.Ended,
	}
	if out.Reason == "" {
		out.Reason = result.Outcome.Reason
	}
	if verb, _, resource := strings.Cut(result.Op, " "); resource {
		out.Kind = plan.OpKind(verb)
	}
	if op, ok := findOp(run.Plan, result.Op); ok {
		out.Kind, out.Stack, out.Server, out.Release, out.Causes = op.Kind, op.Stack, op.Server, op.Release, op.Causes
	}
	return out
}

func findOp(p plan.Plan, id string) (plan.Op, bool) {
	for i := range p.Ops {
		if p.Ops[i].ID == id {
			return p.Ops[i], true
		}
	}
	return plan.Op{}, false
}
