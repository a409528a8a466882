// Package logging makes the logger that the flags of a long-running command ask for.
package logging

import (
	"io"
	"log/slog"

	"github.com/varanhq/varan/cmd/internal/exit"
)

// New takes the values of --log-format (text or json) and --log-level (debug, info, warn
// or error).
func New(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, exit.Usagef("--log-level %q is none of debug, info, warn, error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, exit.Usagef("--log-format %q is neither text nor json", format)
}
