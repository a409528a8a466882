package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/varanhq/varan/fleet"
)

// UpdateState says how an image compares with its registry.
type UpdateState string

// The states.
const (
	// UpdateCurrent: what runs is what the tag stands for.
	UpdateCurrent UpdateState = "current"
	// UpdateAvailable: the tag stands for a newer image.
	UpdateAvailable UpdateState = "available"
	// UpdateTooYoung: so it does, and the image is not old enough to be deployed.
	UpdateTooYoung UpdateState = "too_young"
	// UpdateHeld: so it does, and that image failed before. It is not tried again.
	UpdateHeld UpdateState = "held"
	// UpdateSkipped: it is not looked for.
	UpdateSkipped UpdateState = "skipped"
	// UpdateUnknown: the registry did not say, or nothing is known of what runs.
	UpdateUnknown UpdateState = "unknown"
)

// Update is what is known of newer images for one service on one server.
type Update struct {
	Stack   string `json:"stack"`
	Server  string `json:"server"`
	Service string `json:"service"`
	// Kind is what the stack was declared as.
	Kind  fleet.Kind `json:"kind"`
	Image string     `json:"image"`
	// Running is the digest of the image that runs, Newest what its tag stands for now.
	Running string `json:"running,omitempty"`
	Newest  string `json:"newest,omitempty"`
	// Tag is a newer tag that Policy allows. Git says which tag runs, so it is only told.
	Tag    string `json:"tag,omitempty"`
	Policy string `json:"policy,omitempty"`
	// Auto says that newer images are deployed, not only told of.
	Auto  bool        `json:"auto"`
	State UpdateState `json:"state"`
	// Reason says why it is not current, or not looked for.
	Reason string `json:"reason,omitempty"`
	// Created is when the newest image was made, as it says; FirstSeen when core first saw it.
	Created   time.Time `json:"created,omitzero"`
	FirstSeen time.Time `json:"first_seen,omitzero"`
	Checked   time.Time `json:"checked,omitzero"`
	// Failed is the digest of the newest image that did not run well here.
	Failed       string    `json:"failed,omitempty"`
	FailedReason string    `json:"failed_reason,omitempty"`
	FailedAt     time.Time `json:"failed_at,omitzero"`
}

// Newer reports whether the tag stands for another image than the one that runs.
func (u *Update) Newer() bool {
	return u.State == UpdateAvailable || u.State == UpdateTooYoung || u.State == UpdateHeld
}

// UpdateRequest asks registries, and has what is newer deployed if Apply is set.
type UpdateRequest struct {
	// Stack narrows it to one stack or deployment, which need not poll for updates then.
	Stack string `json:"stack,omitempty"`
	// Apply deploys what is newer, however young, and whatever failed before. It needs a Stack.
	Apply bool `json:"apply,omitempty"`
}

// UpdateResult is what was found, and done.
type UpdateResult struct {
	Updates []Update `json:"updates"`
	// Done are sentences about what was deployed, or failed.
	Done []string `json:"done,omitempty"`
	// Failed counts the stacks whose update did not succeed.
	Failed int `json:"failed"`
}

// Updates is what the last looks found; of one stack if it is not empty, and only what is
// newer if newer is set.
func (c *Client) Updates(ctx context.Context, stack string, newer bool) ([]Update, error) {
	q := url.Values{"newer": {strconv.FormatBool(newer)}}
	if stack != "" {
		q.Set("stack", stack)
	}
	return get[[]Update](ctx, c, "/updates?"+q.Encode())
}

// CheckUpdates asks the registries now.
func (c *Client) CheckUpdates(ctx context.Context, req UpdateRequest) (UpdateResult, error) {
	return send[UpdateResult](ctx, c, http.MethodPost, "/updates/check", req)
}
