package api

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/varanhq/varan/fleet"
)

// Resource is what core keeps of one declared resource.
type Resource struct {
	fleet.Resource

	// Sync owns the resource: it declared it first.
	Sync string `json:"sync"`
	// Commit is the one that was applied last when the resource changed.
	Commit  string    `json:"commit,omitempty"`
	Updated time.Time `json:"updated"`
}

// Resources lists the resources that core keeps, of one kind ("procedure") or of every.
func (c *Client) Resources(ctx context.Context, kind string) ([]Resource, error) {
	path := "/resources"
	if kind != "" {
		path += "?kind=" + url.QueryEscape(kind)
	}
	return get[[]Resource](ctx, c, path)
}

// Resource is one resource that core keeps.
func (c *Client) Resource(ctx context.Context, kind, name string) (Resource, error) {
	return get[Resource](ctx, c, "/resources/"+url.PathEscape(kind)+"/"+url.PathEscape(name))
}

// Export is what core holds as one resource file: what the applied commits declare, and the
// variables that were set in core. Values of secrets are left out.
type Export struct {
	TOML string `json:"toml"`
}

// Export asks for what core holds.
func (c *Client) Export(ctx context.Context) (Export, error) { return get[Export](ctx, c, "/export") }

// Pending is the last plan of a sync: what is not done yet. It looks at nothing anew.
func (c *Client) Pending(ctx context.Context, sync string) (PlanResult, error) {
	return send[PlanResult](ctx, c, http.MethodGet, syncPath(sync, "pending"), nil)
}
