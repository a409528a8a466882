package api

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// SuspendRequest keeps Varan's hands off a resource.
type SuspendRequest struct {
	// Resource is "web", "web@alpha", "stack/web", "server/alpha", "sync/home" or
	// "procedure/nightly".
	Resource string `json:"resource" maxLength:"300"`
	// Until is when it ends by itself; Seconds says it from now. Neither is until it is resumed.
	Until   time.Time `json:"until,omitzero"`
	Seconds int64     `json:"seconds,omitempty" minimum:"0"`
	Reason  string    `json:"reason,omitempty" maxLength:"1000"`
}

// ResumeRequest ends a suspension.
type ResumeRequest struct {
	Resource string `json:"resource" maxLength:"300"`
}

// RollbackRequest goes back to an earlier release of one stack, or of all of a sync.
type RollbackRequest struct {
	// Sync is needed when Stack is empty; Server narrows Stack.
	Sync   string `json:"sync,omitempty" maxLength:"128"`
	Stack  string `json:"stack,omitempty" maxLength:"128"`
	Server string `json:"server,omitempty" maxLength:"128"`
	// To is a commit, of which the first digits will do where core knows it; empty is the
	// last good release before the one that runs.
	To       string   `json:"to,omitempty" maxLength:"64"`
	Reason   string   `json:"reason,omitempty" maxLength:"1000"`
	Approved []string `json:"approved,omitempty" maxItems:"10000"`
	// OverrideWindow goes outside of sync windows that let people.
	OverrideWindow bool `json:"override_window,omitempty"`
}

// RollbackPlan is what a rollback would do.
type RollbackPlan struct {
	Plan plan.Plan `json:"plan"`
	// Holds are the releases that are held back then.
	Holds []plan.Hold `json:"holds"`
	// Left says of other stacks why nothing is done about them.
	Left        []string          `json:"left,omitempty"`
	Diagnostics fleet.Diagnostics `json:"diagnostics,omitempty"`
}

// ReleaseRequest lets a stack go on that is held back.
type ReleaseRequest struct {
	Server string `json:"server,omitempty" maxLength:"128"`
}

// Released are the holds that ended, and the rollouts that go on.
type Released struct {
	Holds    []plan.Hold    `json:"holds"`
	Rollouts []plan.Rollout `json:"rollouts,omitempty"`
	// Applies says of each sync of the stack whether it deploys by itself what may go on now.
	Applies map[string]bool `json:"applies,omitempty"`
}

// RolloutRequest stops a rollout or lets it go on.
type RolloutRequest struct {
	// Action is "pause", "resume" or "abort".
	Action string `json:"action" enum:"pause,resume,abort"`
	Reason string `json:"reason,omitempty" maxLength:"1000"`
}

// Suspensions lists those in force.
func (c *Client) Suspensions(ctx context.Context) ([]plan.Suspension, error) {
	return get[[]plan.Suspension](ctx, c, "/suspensions")
}

// Suspend keeps Varan's hands off a resource.
func (c *Client) Suspend(ctx context.Context, req SuspendRequest) (plan.Suspension, error) {
	return send[plan.Suspension](ctx, c, http.MethodPut, "/suspensions", req)
}

// Resume ends a suspension.
func (c *Client) Resume(ctx context.Context, resource string) (plan.Suspension, error) {
	return send[plan.Suspension](ctx, c, http.MethodPost, "/suspensions/resume", ResumeRequest{resource})
}

// Holds lists the releases that are held back.
func (c *Client) Holds(ctx context.Context) ([]plan.Hold, error) {
	return get[[]plan.Hold](ctx, c, "/holds")
}

// PlanRollback says what going back would do.
func (c *Client) PlanRollback(ctx context.Context, req RollbackRequest) (RollbackPlan, error) {
	return send[RollbackPlan](ctx, c, http.MethodPost, "/rollbacks/plan", req)
}

// Rollback goes back to an earlier release and holds the present one back.
func (c *Client) Rollback(ctx context.Context, req RollbackRequest, each func(ApplyEvent) error) (RunResult, error) {
	return c.follow(ctx, "/rollbacks", req, each)
}

// Release lets a stack go on that is held back.
func (c *Client) Release(ctx context.Context, stack, server string) (Released, error) {
	return send[Released](ctx, c, http.MethodPost, stackPath(stack, "release"), ReleaseRequest{server})
}

// Rollouts lists the last rollout of every stack that has any.
func (c *Client) Rollouts(ctx context.Context) ([]plan.Rollout, error) {
	return get[[]plan.Rollout](ctx, c, "/rollouts")
}

// Rollout stops the rollout of a stack or lets it go on.
func (c *Client) Rollout(ctx context.Context, stack string, req RolloutRequest) (plan.Rollout, error) {
	return send[plan.Rollout](ctx, c, http.MethodPost, "/rollouts/"+url.PathEscape(stack), req)
}
