package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

// ControlStore keeps what people decide.
type ControlStore interface {
	Suspensions(ctx context.Context) ([]plan.Suspension, error)
	Suspend(ctx context.Context, u plan.Suspension) error
	Resume(ctx context.Context, u plan.Suspension, actor string) error
	Holds(ctx context.Context, sync string) ([]plan.Hold, error)
	Hold(ctx context.Context, holds []plan.Hold) error
	Unhold(ctx context.Context, holds []plan.Hold, actor, why string) error
	Rollouts(ctx context.Context, sync string) ([]plan.Rollout, error)
	SaveRollouts(ctx context.Context, rollouts []plan.Rollout, actor string, text func(plan.Rollout) string) error
	// CommitNamed finds a commit that was run by its first digits.
	CommitNamed(ctx context.Context, sync, prefix string) (string, error)
}

// Controller lets people decide.
type Controller interface {
	Rollback(ctx context.Context, req reconciler.RollbackRequest) (reconciler.Rollback, error)
	Recheck(actor string, syncs ...string)
	Forgive(sync, stack string)
}

func (s *server) registerControl(a huma.API) {
	handle(s, a, route(http.MethodGet, "/suspensions", "listSuspensions", "What is suspended"),
		func(ctx context.Context, _ *none) ([]plan.Suspension, error) { return s.Store.Suspensions(ctx) })
	handle(s, a, route(http.MethodPut, "/suspensions", "suspend", "Keep Varan's hands off a resource"), s.suspend)
	handle(s, a, route(http.MethodPost, "/suspensions/resume", "resume", "End a suspension"), s.resume)
	handle(s, a, route(http.MethodGet, "/holds", "listHolds", "Releases that are held back"),
		func(ctx context.Context, _ *none) ([]plan.Hold, error) { return s.Store.Holds(ctx, "") })
	handle(s, a, route(http.MethodPost, "/rollbacks/plan", "planRollback", "What going back to an earlier release would do"),
		func(ctx context.Context, in *body[api.RollbackRequest]) (api.RollbackPlan, error) {
			return s.planRollback(ctx, in.Body)
		})
	stream(s, a, route(http.MethodPost, "/rollbacks", "rollback",
		"Go back to an earlier release and hold the present one back; JSON lines of api.ApplyEvent"), s.rollback)
	handle(s, a, route(http.MethodPost, "/stacks/{name}/release", "releaseStack", "Let a stack go on that is held back"), s.release)
	handle(s, a, route(http.MethodGet, "/rollouts", "listRollouts", "How far stacks on several servers are"),
		func(ctx context.Context, _ *none) ([]plan.Rollout, error) { return s.Store.Rollouts(ctx, "") })
	handle(s, a, route(http.MethodPost, "/rollouts/{name}", "controlRollout", "Pause, resume or abort a rollout"), s.rollout)
}

// suspend records a suspension of something that exists.
func (s *server) suspend(ctx context.Context, in *body[api.SuspendRequest]) (plan.Suspension, error) {
	now := s.Now()
	u, err := s.resource(ctx, in.Body.Resource)
	if err != nil {
		return u, err
	}
	u.Until, u.Reason, u.By, u.At = in.Body.Until.UTC(), in.Body.Reason, auth.ActorOf(ctx).Name, now.UTC()
	if in.Body.Until.IsZero() {
		u.Until = time.Time{}
	}
	if in.Body.Seconds > 0 {
		u.Until = now.Add(time.Duration(in.Body.Seconds) * time.Second).UTC()
	}
	if !u.InForce(now) {
		return u, badRequest(u.Until.Format(time.RFC3339)+" is over", "name a time to come, or how long: --until 2h")
	}
	if err := s.Store.Suspend(ctx, u); err != nil {
		return u, err
	}
	s.Agents.TellRests(ctx)
	s.Reconciler.Recheck(u.By)
	return u, nil
}

func (s *server) resume(ctx context.Context, in *body[api.ResumeRequest]) (plan.Suspension, error) {
	wanted, err := parseResource(in.Body.Resource)
	if err != nil {
		return wanted, err
	}
	all, err := s.Store.Suspensions(ctx)
	if err != nil {
		return wanted, err
	}
	i := slices.IndexFunc(all, func(u plan.Suspension) bool {
		return u.Kind == wanted.Kind && u.Name == wanted.Name && u.Server == wanted.Server
	})
	if i < 0 {
		hint := "varan suspend --list shows what is"
		if len(all) > 0 {
			hint = all[0].Resource() + " is, for one; " + hint
		}
		return wanted, notFound(wanted.Resource()+" is not suspended", hint)
	}
	actor := auth.ActorOf(ctx).Name
	if err := s.Store.Resume(ctx, all[i], actor); err != nil {
		return wanted, err
	}
	s.Agents.TellRests(ctx)
	s.Reconciler.Recheck(actor)
	return all[i], nil
}

// parseResource reads "web@alpha", "stack/web", "server/alpha", "sync/home".
func parseResource(text string) (plan.Suspension, error) {
	kind, name, explicit := strings.Cut(text, "/")
	if !explicit {
		kind, name = "stack", text
	}
	u := plan.Suspension{Kind: kind, Name: name}
	switch kind {
	case "stack", "deployment", "repo":
		u.Kind = "stack"
		u.Name, u.Server, _ = strings.Cut(name, "@")
	case "sync":
		u.Kind = plan.KindSync
	case plan.KindServer, plan.KindSync, plan.KindProcedure:
	default:
		return u, badRequest(fmt.Sprintf("a %q cannot be suspended", kind), "name a stack, server/NAME, sync/NAME or procedure/NAME")
	}
	if u.Name == "" {
		return u, badRequest(fmt.Sprintf("%q names nothing", text), "name a stack, server/NAME, sync/NAME or procedure/NAME")
	}
	return u, nil
}

// resource reads the name of a resource, and makes sure that there is one of that name: a
// mistyped one would leave the right one to be deployed.
func (s *server) resource(ctx context.Context, text string) (plan.Suspension, error) {
	u, err := parseResource(text)
	if err != nil {
		return u, err
	}
	if u.Kind == plan.KindProcedure {
		_, err := s.procedureNamed(ctx, u.Name)
		return u, err
	}
	view, err := s.look(ctx)
	if err != nil {
		return u, err
	}
	var names []string
	switch u.Kind {
	case plan.KindServer:
		for _, server := range view.servers(view.stacks()) {
			names = append(names, server.Name)
		}
	case plan.KindSync:
		for _, source := range view.sources {
			names = append(names, source.sync.Name)
		}
	default:
		for _, stack := range view.stacks() {
			if u.Server == "" || stack.Server == u.Server {
				names = append(names, stack.Name)
			}
		}
	}
	if !slices.Contains(names, u.Name) {
		what := strings.TrimSuffix(strings.SplitN(u.Resource(), "/", 2)[0], "s")
		where := ""
		if u.Server != "" {
			where = " on server " + u.Server
		}
		return u, notFound(fmt.Sprintf("there is no %s %q%s", what, u.Name, where), didYouMean(u.Name, names))
	}
	return u, nil
}

// goBack finds what a rollback is about.
func (s *server) goBack(ctx context.Context, in api.RollbackRequest) (string, reconciler.Rollback, error) {
	sync := in.Sync
	if in.Stack != "" {
		source, err := s.sourceOf(ctx, in.Stack)
		if err != nil {
			return "", reconciler.Rollback{}, err
		}
		sync = source.sync.Name
	} else if in.To == "" {
		return "", reconciler.Rollback{}, badRequest("a rollback of a whole sync needs a commit to go back to", "say which with --to COMMIT")
	}
	if _, err := s.syncNamed(ctx, sync); err != nil {
		return "", reconciler.Rollback{}, err
	}
	to, err := s.commitNamed(ctx, sync, in.To)
	if err != nil {
		return "", reconciler.Rollback{}, err
	}
	back, err := s.Reconciler.Rollback(ctx, reconciler.RollbackRequest{
		Sync: sync, Stack: in.Stack, Server: in.Server, To: to, Actor: auth.ActorOf(ctx).Name, Reason: in.Reason,
	})
	if err != nil {
		return "", back, err
	}
	if len(back.Holds) > 0 {
		return sync, back, nil
	}
	message := "there is nothing to go back to"
	switch {
	case len(back.Left) > 0:
		message += ": " + strings.Join(back.Left, "; ")
	case in.Server != "":
		message = fmt.Sprintf("stack %s is not for server %s", in.Stack, in.Server)
	}
	return "", back, &api.Error{
		Status: http.StatusConflict, Code: api.CodeConflict, Message: message,
		Hint: "varan history " + in.Stack + " lists what was deployed; --to COMMIT goes to any commit of the repository",
	}
}

// commitNamed completes a commit's id.
func (s *server) commitNamed(ctx context.Context, sync, given string) (string, error) {
	given = strings.ToLower(strings.TrimSpace(given))
	switch {
	case given == "", len(given) == 40, len(given) == 64:
		return given, nil
	case len(given) < 4 || strings.Trim(given, "0123456789abcdef") != "":
		return "", badRequest(fmt.Sprintf("%q is no commit", given), "write at least the first four digits of its id")
	}
	id, err := s.Store.CommitNamed(ctx, sync, given)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return "", notFound("core never ran a commit "+given+" of sync "+sync, "write its whole id")
	case errors.Is(err, store.ErrExists):
		return "", badRequest("several commits begin with "+given, "write more of its id")
	}
	return id, err
}

func (s *server) planRollback(ctx context.Context, in api.RollbackRequest) (api.RollbackPlan, error) {
	sync, back, err := s.goBack(ctx, in)
	if err != nil {
		return api.RollbackPlan{}, err
	}
	result, err := s.plan(ctx, reconciler.PlanRequest{
		Sync: sync, Only: back.Stacks(), Holds: back.Holds, Override: overrideOf(ctx, in.OverrideWindow, in.Reason),
	})
	if err != nil {
		return api.RollbackPlan{}, err
	}
	return api.RollbackPlan{Plan: back.Narrow(result.Plan), Holds: back.Holds, Left: back.Left, Diagnostics: result.Diagnostics}, nil
}

// rollback puts the holds on record first: should it come to nothing now, a server that is
// away say, it is done as soon as it can be.
func (s *server) rollback(ctx context.Context, in *body[api.RollbackRequest]) (func(huma.Context), error) {
	sync, back, err := s.goBack(ctx, in.Body)
	if err != nil {
		return nil, err
	}
	override := overrideOf(ctx, in.Body.OverrideWindow, in.Body.Reason)
	if err := s.Store.Hold(ctx, back.Holds); err != nil {
		return nil, err
	}
	// Not before the apply has begun: the sync's own pass would do the work while whoever
	// asked for it is told that their plan is stale.
	defer s.Reconciler.Recheck(auth.ActorOf(ctx).Name, sync)
	result, err := s.plan(ctx, reconciler.PlanRequest{Sync: sync, Only: back.Stacks(), Override: override})
	if err != nil {
		return nil, err
	}
	narrowed := back.Narrow(result.Plan)
	return s.apply(ctx, reconciler.ApplyRequest{
		Sync: sync, Saved: &narrowed, Approved: in.Body.Approved, Actor: auth.ActorOf(ctx).Name, Override: override,
	})
}

// overrideOf is the wish of whoever asks to work outside the sync windows; nil without it.
func overrideOf(ctx context.Context, wanted bool, reason string) *plan.Override {
	if !wanted {
		return nil
	}
	return &plan.Override{By: auth.ActorOf(ctx).Name, Reason: reason}
}

// release ends the holds of a stack, and lets a rollout go on that was rolled back.
func (s *server) release(ctx context.Context, in *namedBody[api.ReleaseRequest]) (api.Released, error) {
	out := api.Released{Holds: []plan.Hold{}}
	actor := auth.ActorOf(ctx).Name
	holds, err := s.Store.Holds(ctx, "")
	if err != nil {
		return out, err
	}
	rollouts, err := s.Store.Rollouts(ctx, "")
	if err != nil {
		return out, err
	}
	for _, h := range holds {
		if h.Stack == in.Name && (in.Body.Server == "" || h.Server == in.Body.Server) {
			out.Holds = append(out.Holds, h)
		}
	}
	for _, r := range rollouts {
		if r.Stack == in.Name && r.Status == plan.RolloutRolledBack && in.Body.Server == "" {
			r.Resume(actor)
			out.Rollouts = append(out.Rollouts, r)
		}
	}
	if len(out.Holds)+len(out.Rollouts) == 0 {
		if _, err := s.sourceOf(ctx, in.Name); err != nil {
			return out, err
		}
		return out, &api.Error{
			Status: http.StatusConflict, Code: api.CodeConflict, Message: "nothing of stack " + in.Name + " is held back",
			Hint: "a release that failed is tried again with varan deploy " + in.Name,
		}
	}
	if err := s.Store.Unhold(ctx, out.Holds, actor, "released by "+actor); err != nil {
		return out, err
	}
	if err := s.Store.SaveRollouts(ctx, out.Rollouts, actor, resumed(actor)); err != nil {
		return out, err
	}
	out.Applies = map[string]bool{}
	for _, h := range out.Holds {
		s.Reconciler.Forgive(h.Sync, h.Stack)
		status, _ := s.Reconciler.Status(h.Sync)
		out.Applies[h.Sync] = status.AutoApply
	}
	s.Reconciler.Recheck(actor)
	return out, nil
}

func resumed(actor string) func(plan.Rollout) string {
	return func(r plan.Rollout) string { return "rollout of " + r.Stack + " resumed by " + actor + ": " + r.Text() }
}

// rollout pauses, resumes or aborts the rollout of a stack.
func (s *server) rollout(ctx context.Context, in *namedBody[api.RolloutRequest]) (plan.Rollout, error) {
	rollouts, err := s.Store.Rollouts(ctx, "")
	if err != nil {
		return plan.Rollout{}, err
	}
	i := slices.IndexFunc(rollouts, func(r plan.Rollout) bool { return r.Stack == in.Name })
	if i < 0 {
		var names []string
		for _, r := range rollouts {
			names = append(names, r.Stack)
		}
		return plan.Rollout{}, notFound("stack "+in.Name+" has no rollout", cmp.Or(didYouMean(in.Name, names), "varan rollout lists those there are"))
	}
	r, actor := rollouts[i], auth.ActorOf(ctx).Name
	if problem := allowed(r, in.Body.Action); problem != "" {
		return r, &api.Error{
			Status: http.StatusConflict, Code: api.CodeConflict, Message: "the rollout of " + r.Stack + " " + problem,
			Hint: "varan rollout " + r.Stack,
		}
	}
	text := func(r plan.Rollout) string {
		return fmt.Sprintf("rollout of %s %s by %s%s", r.Stack, r.Status, actor, reasonText(in.Body.Reason))
	}
	switch in.Body.Action {
	case "pause":
		r.Stop(plan.RolloutPaused, actor, in.Body.Reason)
	case "abort":
		r.Stop(plan.RolloutAborted, actor, in.Body.Reason)
	default:
		r.Resume(actor)
		text = resumed(actor)
	}
	if err := s.Store.SaveRollouts(ctx, []plan.Rollout{r}, actor, text); err != nil {
		return r, err
	}
	s.Reconciler.Recheck(actor, r.Sync)
	return r, nil
}

func reasonText(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// allowed says why something cannot be done to a rollout; empty when it can.
func allowed(r plan.Rollout, action string) string {
	status := strings.ReplaceAll(string(r.Status), "_", " ")
	switch {
	case r.Status == plan.RolloutDone:
		return "is done"
	case action == "pause" && r.Status != plan.RolloutRunning:
		return "is not running: it is " + status
	case action == "resume" && r.Status == plan.RolloutRunning:
		return "is running"
	case action == "abort" && r.Status == plan.RolloutAborted:
		return "is aborted already"
	}
	return ""
}
