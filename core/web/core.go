package web

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
)

func (s *server) registerCore(a huma.API) {
	if s.Core == nil {
		return
	}
	handle(s, a, route(http.MethodGet, "/core/settings", "listSettings", "The settings in force, with where they come from"),
		func(context.Context, *none) ([]api.Setting, error) { return s.Core.Settings(), nil })
	handle(s, a, route(http.MethodPost, "/core/reload", "reloadCore", "Read the settings again and apply those that may change"),
		func(ctx context.Context, in *body[api.ReloadSpec]) (api.Reloaded, error) {
			return s.Core.Reload(ctx, in.Body.Only)
		})
}
