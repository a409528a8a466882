package web

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
)

// failure turns any error into the one shape that clients see. What is not meant for them
// goes to the log only.
func (s *server) failure(ctx context.Context, err error) *api.Error {
	var (
		ours        *api.Error
		diagnostics fleet.Diagnostics
	)
	switch {
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &diagnostics):
		return invalid(diagnostics)
	case errors.Is(err, store.ErrNotFound), errors.Is(err, reconciler.ErrUnknownSync):
		return &api.Error{Status: http.StatusNotFound, Code: api.CodeNotFound, Message: err.Error()}
	case errors.Is(err, store.ErrExists), errors.Is(err, store.ErrLastKey):
		return &api.Error{Status: http.StatusConflict, Code: api.CodeConflict, Message: err.Error()}
	case errors.Is(err, reconciler.ErrStopped), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return unavailable("core is shutting down or did not get to it in time", "try again in a moment")
	}
	s.Logger.LogAttrs(ctx, slog.LevelError, "request failed", slog.String("err", err.Error()))
	return &api.Error{
		Status: http.StatusInternalServerError, Code: api.CodeInternal, Message: "core could not do that",
		Hint: "core's log says why",
	}
}

// invalid says that files are to blame.
func invalid(diagnostics fleet.Diagnostics) *api.Error {
	message := "the configuration is invalid"
	first := slices.IndexFunc(diagnostics, func(d fleet.Diagnostic) bool { return d.Severity == fleet.SeverityError })
	if first >= 0 {
		message += ": " + diagnostics[first].String()
	}
	return &api.Error{
		Status: http.StatusUnprocessableEntity, Code: api.CodeInvalid, Message: message, Diagnostics: diagnostics,
		Hint: "varan validate finds the same without a core",
	}
}

func badRequest(message, hint string) *api.Error {
	return &api.Error{Status: http.StatusBadRequest, Code: api.CodeBadRequest, Message: message, Hint: hint}
}

func notFound(message, hint string) *api.Error {
	return &api.Error{Status: http.StatusNotFound, Code: api.CodeNotFound, Message: message, Hint: hint}
}

func unavailable(message, hint string) *api.Error {
	return &api.Error{Status: http.StatusServiceUnavailable, Code: api.CodeUnavailable, Message: message, Hint: hint}
}

// frameworkError rewrites the framework's own errors, which would repeat the offending
// value: it may be a secret.
func frameworkError(ctx huma.Context, _ string, v any) (any, error) {
	theirs, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	ctx.SetHeader("Content-Type", "application/json")
	e := &api.Error{Status: theirs.Status, Code: codeOf(theirs.Status), Message: theirs.Detail}
	var parts []string
	for _, detail := range theirs.Errors {
		if detail != nil {
			parts = append(parts, strings.TrimSpace(detail.Location+" "+detail.Message))
		}
	}
	if len(parts) > 0 {
		e.Message += ": " + strings.Join(parts, "; ")
	}
	return e, nil
}

func codeOf(status int) api.ErrorCode {
	switch status {
	case http.StatusRequestEntityTooLarge:
		return api.CodeTooLarge
	case http.StatusNotFound:
		return api.CodeNotFound
	}
	if status >= http.StatusInternalServerError {
		return api.CodeInternal
	}
	return api.CodeBadRequest
}

// refuse answers a caller without a valid key.
func refuse(w http.ResponseWriter, _ *http.Request, err error) {
	if errors.Is(err, auth.ErrTooMany) {
		w.Header().Set("Retry-After", "60")
		writeError(w, &api.Error{
			Status: http.StatusTooManyRequests, Code: api.CodeRateLimited, Message: "too many failed attempts",
			Hint: "try again in a minute",
		})
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="varan"`)
	writeError(w, &api.Error{
		Status: http.StatusUnauthorized, Code: api.CodeUnauthorized, Message: "a valid API key is required",
		Hint: "send it as Authorization: Bearer vk1_...; `varan api-key create` makes one",
	})
}

func writeError(w http.ResponseWriter, e *api.Error) { writeJSON(w, e.Status, e) }

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone, or has the answer
}
