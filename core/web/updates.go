package web

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
)

// Updates looks for newer images.
type Updates interface {
	// Updates is what the last looks found.
	Updates(ctx context.Context) ([]api.Update, error)
	// Check asks the registries, and has what is newer deployed if the request says so.
	Check(ctx context.Context, req api.UpdateRequest) (api.UpdateResult, error)
}

// updatesOf is the input of a list of updates.
type updatesOf struct {
	Stack string `query:"stack" maxLength:"128"`
	Newer bool   `query:"newer"`
}

func (s *server) registerUpdates(a huma.API) {
	handle(s, a, route(http.MethodGet, "/updates", "listUpdates", "What the last looks for newer images found"),
		func(ctx context.Context, in *updatesOf) ([]api.Update, error) {
			updates, err := s.Updates.Updates(ctx)
			out := []api.Update{}
			for i := range updates {
				if u := &updates[i]; (in.Stack == "" || u.Stack == in.Stack) && (!in.Newer || u.Newer() || u.Tag != "") {
					out = append(out, *u)
				}
			}
			return out, err
		})
	handle(s, a, route(http.MethodPost, "/updates/check", "checkUpdates", "Ask the registries for newer images, and deploy them if asked to"),
		func(ctx context.Context, in *body[api.UpdateRequest]) (api.UpdateResult, error) {
			if in.Body.Apply && in.Body.Stack == "" {
				return api.UpdateResult{}, &api.Error{
					Status: http.StatusBadRequest, Code: api.CodeBadRequest, Message: "apply needs a stack",
					Hint: "`varan run --execution GlobalAutoUpdate` updates every stack that says so",
				}
			}
			return s.Updates.Check(ctx, in.Body)
		})
}
