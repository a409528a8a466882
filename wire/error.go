package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrClosed is wrapped by every error that says the connection ended before an answer
// came: the request may or may not have been carried out.
var ErrClosed = errors.New("connection closed")

// Code classifies an Error for programs.
type Code string

// The codes of version 1.
const (
	CodeBadRequest  Code = "bad_request"  // the body does not say what the verb needs
	CodeUnknownVerb Code = "unknown_verb" // the other side is older, or newer
	CodeVersion     Code = "version"      // the protocol versions do not meet
	CodeDenied      Code = "denied"       // the other side may not ask for that
	CodeNotFound    Code = "not_found"    // what was asked for is not there
	CodeStale       Code = "stale"        // of an epoch that is over
	CodeBusy        Code = "busy"         // too much is under way
	CodeTooLarge    Code = "too_large"    // over a limit
	CodeCanceled    Code = "canceled"     // whoever asked does not wait any more
	CodeProtocol    Code = "protocol"     // the frames make no sense
	CodeReplaced    Code = "replaced"     // a newer session of the same agent took over
	CodeShutdown    Code = "shutdown"     // the process ends; try again soon
	CodeInternal    Code = "internal"     // anything else
)

// Error is an answer that says no. It crosses the wire: it must hold no secret.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Retryable says that the same request may succeed later.
	Retryable bool `json:"retryable,omitempty"`
}

// Error is the message with its code.
func (e *Error) Error() string { return fmt.Sprintf("%s (%s)", e.Message, e.Code) }

// Errorf makes an Error that is not retryable.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// UnknownVerb is the answer to a verb that a side does not serve.
func UnknownVerb(verb Verb) *Error {
	return Errorf(CodeUnknownVerb, "unknown verb %q: this side speaks protocol versions %d to %d",
		verb, MinVersion, Version)
}

// VersionMismatch is the answer to a peer whose version is not spoken here.
func VersionMismatch(theirs int) *Error {
	return Errorf(CodeVersion, "protocol version %d is not spoken here: want %d to %d",
		theirs, MinVersion, Version)
}

// Decode reads a body. It is strict about types and about bytes that follow, and
// tolerant of unknown fields, so that a newer side can add some.
func Decode(body []byte, v any) error {
	if raw, ok := v.(*json.RawMessage); ok {
		*raw = body
		return nil
	}
	if err := json.Unmarshal(body, v); err != nil {
		return Errorf(CodeBadRequest, "decode body: %v", err)
	}
	return nil
}

// encode is the reverse of Decode. A json.RawMessage is sent as it is.
func encode(v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case json.RawMessage:
		return v, nil
	}
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode body: %w", err)
	}
	return body, nil
}

// remoteError reads the payload of a frameError or frameBye, and bounds it.
func remoteError(payload []byte) *Error {
	const maxMessage = 4 << 10
	var e Error
	if json.Unmarshal(payload, &e) != nil || e.Code == "" {
		return Errorf(CodeInternal, "the other side failed without saying why")
	}
	if len(e.Message) > maxMessage {
		e.Message = e.Message[:maxMessage]
	}
	return &e
}

// asError makes the answer of a handler's error. What is not an Error may tell of our
// insides, and is only shown when verbose.
func asError(err error, verbose bool) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, context.Canceled):
		return &Error{Code: CodeCanceled, Message: "canceled", Retryable: true}
	case verbose:
		return &Error{Code: CodeInternal, Message: err.Error(), Retryable: true}
	default:
		return &Error{Code: CodeInternal, Message: "internal error", Retryable: true}
	}
}
