package web

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
)

// answer is a handler's result as the framework wants it.
type answer[T any] struct{ Body T }

// none is the input of an operation without parameters.
type none struct{}

// named is the input of an operation on one thing.
type named struct {
	Name string `path:"name" maxLength:"128"`
}

// namedBody is the same with a body.
type namedBody[T any] struct {
	Name string `path:"name" maxLength:"128"`
	Body T
}

// body is the input of an operation with nothing but one.
type body[T any] struct{ Body T }

func pageSize(limit int) int {
	if limit == 0 {
		return defaultPage
	}
	return min(limit, maxPage)
}

// route describes an operation.
func route(method, path, id, summary string) huma.Operation {
	return huma.Operation{
		Method: method, Path: api.Prefix + path, OperationID: id, Summary: summary,
		MaxBodyBytes: maxBody, BodyReadTimeout: -1, // see boundBodies
	}
}

// handle registers an operation that answers with JSON.
func handle[I, O any](s *server, a huma.API, operation huma.Operation, f func(context.Context, *I) (O, error)) {
	huma.Register(a, operation, func(ctx context.Context, in *I) (*answer[O], error) {
		out, err := f(ctx, in)
		if err != nil {
			return nil, s.failure(ctx, err)
		}
		return &answer[O]{out}, nil
	})
}

// act registers an operation that answers with nothing but success.
func act[I any](s *server, a huma.API, operation huma.Operation, f func(context.Context, *I) error) {
	operation.DefaultStatus = http.StatusNoContent
	huma.Register(a, operation, func(ctx context.Context, in *I) (*struct{}, error) {
		if err := f(ctx, in); err != nil {
			return nil, s.failure(ctx, err)
		}
		return nil, nil //nolint:nilnil // the framework's way to say "no content"
	})
}

// stream registers an operation that answers with JSON lines.
func stream[I any](s *server, a huma.API, operation huma.Operation, f func(context.Context, *I) (func(huma.Context), error)) {
	huma.Register(a, operation, func(ctx context.Context, in *I) (*huma.StreamResponse, error) {
		write, err := f(ctx, in)
		if err != nil {
			return nil, s.failure(ctx, err)
		}
		return &huma.StreamResponse{Body: write}, nil
	})
}
