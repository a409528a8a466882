// Package logging makes the logger that the flags of a long-running command ask for.
package logging

import (
	"io"
	"log/slog"
)

// New makes a logger of a format, text or json.
func New(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// Level is that of debug, info, warn or error. The settings allow no other words.
func Level(word string) slog.Level {
	var l slog.Level
	if l.UnmarshalText([]byte(word)) != nil {
		return slog.LevelInfo
	}
	return l
}
