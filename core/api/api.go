// Package api holds what core and its clients say to each other over HTTP: the values,
// and a typed client. Core's handlers and the command line both build on it, so neither
// can drift from the other. It holds no logic of the server and imports only the domain.
package api

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/varanhq/varan/fleet"
)

// Prefix is where every route of this version starts.
const Prefix = "/api/v1"

// ErrorCode classifies an error for programs.
type ErrorCode string

// The codes. Clients must treat one they do not know like CodeInternal.
const (
	CodeBadRequest   ErrorCode = "bad-request"  // 400: the request cannot be understood
	CodeUnauthorized ErrorCode = "unauthorized" // 401: no key, or not one of ours
	CodeForbidden    ErrorCode = "forbidden"    // 403: the key is ours, and this is not for it
	CodeNotFound     ErrorCode = "not-found"    // 404
	CodeConflict     ErrorCode = "conflict"     // 409: it exists, or the world moved
	CodeTooLarge     ErrorCode = "too-large"    // 413
	CodeInvalid      ErrorCode = "invalid"      // 422: the configuration is wrong; see Diagnostics
	CodeRateLimited  ErrorCode = "rate-limited" // 429
	CodeInternal     ErrorCode = "internal"     // 500: a fault of ours; core's log has it
	CodeUnavailable  ErrorCode = "unavailable"  // 503: try again: shutting down, or an agent is away
	CodeNoRoom       ErrorCode = "no-room"      // 507: core's disk is nearly full
)

// Error is the one shape of every failure.
type Error struct {
	// Status is the HTTP status; it travels in the status line, not in the body.
	Status  int       `json:"-"`
	Code    ErrorCode `json:"code"`
	Message string    `json:"message"`
	// Hint says what to do about it.
	Hint string `json:"hint,omitempty"`
	// Diagnostics are set with CodeInvalid when files are to blame.
	Diagnostics fleet.Diagnostics `json:"diagnostics,omitempty"`
}

// Error is the message.
func (e *Error) Error() string { return e.Message }

// GetStatus is the HTTP status, as the API framework asks for it.
func (e *Error) GetStatus() int { return e.Status }

// WriteOnly is a secret on its way in or, the one time it is created, out. It encodes as
// it is, because it must travel, but prints as "[secret]" under every verb.
type WriteOnly string

// Secret wraps the value for use inside core or the command line.
func (w WriteOnly) Secret() fleet.Secret { return fleet.NewSecret(string(w)) }

// Format redacts under every verb.
func (w WriteOnly) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, w.redacted()) }

// LogValue redacts in structured logs.
func (w WriteOnly) LogValue() slog.Value { return slog.StringValue(w.redacted()) }

func (w WriteOnly) redacted() string { return fleet.NewSecret(string(w)).String() }

// Version describes a core.
type Version struct {
	Version string `json:"version"`
	// API counts the incompatible versions of this API.
	API int `json:"api"`
	// Fingerprint is that of core's public key, as onboarding tokens carry it.
	Fingerprint string `json:"fingerprint"`
	// PublicKey is core's public key, as agents pin it.
	PublicKey string    `json:"public_key"`
	Started   time.Time `json:"started"`
}

// Page asks for a part of a list that grows, newest first.
type Page struct {
	// Limit is how many; zero means 50, at most 500.
	Limit int
	// Before is the ID or Seq of the last item already seen; zero starts with the newest.
	Before int64
}
