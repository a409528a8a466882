package acme

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logger is certmagic's way into our log. It talks a lot: what it calls information is for
// debugging, and what it calls debugging, requests and proofs among it, is left out.
func logger(to *slog.Logger) *zap.Logger { return zap.New(&bridge{to: to.Handler()}) }

// bridge implements zapcore.Core.
type bridge struct {
	to     slog.Handler
	fields []zapcore.Field
}

func level(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// Enabled implements zapcore.LevelEnabler.
func (b *bridge) Enabled(l zapcore.Level) bool {
	return l >= zapcore.InfoLevel && b.to.Enabled(context.Background(), level(l)) //nolint:forbidigo // zapcore.Core hands no context on
}

// With implements zapcore.Core.
func (b *bridge) With(fields []zapcore.Field) zapcore.Core {
	return &bridge{b.to, slices.Concat(b.fields, fields)}
}

// Check implements zapcore.Core.
func (b *bridge) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(entry.Level) {
		return checked.AddCore(entry, b)
	}
	return checked
}

// Write implements zapcore.Core.
func (b *bridge) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	encoder := zapcore.NewMapObjectEncoder()
	for _, f := range slices.Concat(b.fields, fields) {
		f.AddTo(encoder)
	}
	record := slog.NewRecord(entry.Time, level(entry.Level), "certificates: "+entry.Message, 0)
	for _, name := range slices.Sorted(maps.Keys(encoder.Fields)) {
		record.AddAttrs(slog.Any(name, encoder.Fields[name]))
	}
	return b.to.Handle(context.Background(), record) //nolint:forbidigo // zapcore.Core hands no context on
}

// Sync implements zapcore.Core.
func (*bridge) Sync() error { return nil }
