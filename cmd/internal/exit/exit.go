// Package exit turns errors into messages and exit codes, the same way for every
// binary. The codes are part of the command line's contract: scripts rely on them.
// Only packages below cmd may import it.
package exit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/varanhq/varan/fleet"
)

// The exit codes.
const (
	// OK: done, or nothing to do.
	OK = 0
	// Failed: the work was tried and failed.
	Failed = 1
	// Changes: the plan has changes; only with --detailed-exitcode.
	Changes = 2
	// Config: a configuration, a key or a resource file is invalid.
	Config = 4
	// Unreachable: core, an agent or Docker does not answer.
	Unreachable = 5
	// Usage: the command line itself is wrong.
	Usage = 64
	// Internal: a fault of ours. Panics end here, so that Changes stays unambiguous.
	Internal = 70
	// Interrupted: a signal ended the command.
	Interrupted = 130
)

// Error is an error with the exit code it asks for and advice on what to do next.
type Error struct {
	// Code is one of the constants above; zero means Failed.
	Code int
	// Err is what went wrong. Nil exits with Code and says nothing.
	Err error
	// Hint is printed on a line of its own; may be empty.
	Hint string
}

// Error is the message alone.
func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap returns the error inside.
func (e *Error) Unwrap() error { return e.Err }

// Usagef is an Error for a wrong command line.
func Usagef(format string, args ...any) error {
	return &Error{Code: Usage, Err: fmt.Errorf(format, args...)}
}

// Run calls f and returns the exit code for what it returned, after printing
// "name: message" and "hint: …" to stderr. A panic is a fault of ours: its stack is
// printed and the code is Internal.
func Run(name string, stderr io.Writer, f func() error) (code int) {
	defer func() {
		if v := recover(); v != nil {
			fmt.Fprintf(stderr, "%s: internal fault: %v\n\n%s\nhint: this is a bug; please report it with the lines above\n",
				name, v, debug.Stack())
			code = Internal
		}
	}()
	return report(name, stderr, f())
}

func report(name string, stderr io.Writer, err error) int {
	if err == nil {
		return OK
	}
	if e, ok := errors.AsType[*Error](err); ok {
		if e.Err != nil {
			// err, not e: whatever was wrapped around it belongs to the message.
			message(name, stderr, err.Error(), e.Hint)
		}
		if e.Code == OK {
			return Failed
		}
		return e.Code
	}
	if ds, ok := errors.AsType[fleet.Diagnostics](err); ok {
		for _, d := range ds {
			message(name, stderr, d.String(), d.Hint)
		}
		return Config
	}
	if errors.Is(err, context.Canceled) {
		message(name, stderr, "interrupted", "")
		return Interrupted
	}
	message(name, stderr, err.Error(), "")
	return Failed
}

func message(name string, stderr io.Writer, text, hint string) {
	fmt.Fprintf(stderr, "%s: %s\n", name, text)
	if hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", hint)
	}
}

// Signals returns a context that the first SIGINT or SIGTERM cancels, so that the
// command can drain. A second signal then ends the process at once. Call stop when
// the command has ended.
func Signals(parent context.Context) (ctx context.Context, stop context.CancelFunc) {
	ctx, stop = signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
	// Giving the signals their default action back is what makes the second one final.
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
