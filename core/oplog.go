package core

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/backoff"
	"github.com/varanhq/varan/reconciler"
)

const (
	// maxOpLog bounds what is kept of one op, maxOpLine a line of it (rule L13).
	maxOpLog  = 10 << 20
	maxOpLine = 64 << 10
	// flushEvery is how long a line waits to be stored with others.
	flushEvery = 500 * time.Millisecond
)

// opKey is an op of a run.
type opKey struct{ run, op string }

// opLog is what was said of an op and is not stored yet.
type opLog struct {
	lines []api.OpLogLine
	size  int
	last  fleet.Progress
	ended bool
}

// opLogs keep what is said while ops are done: they take the reconciler's news without
// waiting, and store it from time to time.
type opLogs struct {
	add    func(ctx context.Context, run, op string, lines []api.OpLogLine) error
	logger *slog.Logger

	// heard has capacity 1: there is something to store. Nothing wakes an idle core.
	heard chan struct{}

	mu   sync.Mutex
	open map[opKey]*opLog
}

func newOpLogs(add func(ctx context.Context, run, op string, lines []api.OpLogLine) error, logger *slog.Logger) *opLogs {
	return &opLogs{add: add, logger: logger, heard: make(chan struct{}, 1), open: map[opKey]*opLog{}}
}

// take hears an event.
func (l *opLogs) take(e reconciler.Event) {
	if e.Op == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key := opKey{e.Run, e.Op}
	o := l.open[key]
	if o == nil {
		o = &opLog{}
		l.open[key] = o
	}
	switch e.Kind { //nolint:exhaustive // the others are of no op
	case reconciler.EventOpStarted:
		o.say(api.OpLogLine{At: e.At, Phase: string(fleet.PhaseQueued), Text: "sent to " + e.Server})
	case reconciler.EventProgress:
		o.progress(e)
	case reconciler.EventOpEnded:
		o.end(e)
	}
	poke(l.heard)
}

// progress keeps a step once, however often its percentage moves.
func (o *opLog) progress(e reconciler.Event) {
	p := e.Progress
	if p == nil || p.Phase == o.last.Phase && p.Service == o.last.Service && p.Text == o.last.Text {
		return
	}
	o.last = *p
	at := p.At
	if at.IsZero() {
		at = e.At
	}
	o.say(api.OpLogLine{At: at, Phase: string(p.Phase), Service: p.Service, Text: p.Text})
}

func (o *opLog) end(e reconciler.Event) {
	o.ended = true
	if e.Result == nil {
		return
	}
	for line := range strings.Lines(e.Result.Outcome.Log) {
		o.say(api.OpLogLine{Text: strings.TrimRight(line, "\r\n")})
	}
	text := strings.ReplaceAll(string(e.Result.Status), "_", " ")
	if reason := cmp.Or(e.Result.Reason, e.Result.Outcome.Reason); reason != "" {
		text += ": " + reason
	}
	o.lines = append(o.lines, api.OpLogLine{At: e.Result.Ended, Phase: api.OpLogEnd, Text: text})
}

// say adds a line, in parts if it is long, as long as there is room.
func (o *opLog) say(line api.OpLogLine) {
	rest := line.Text
	for first := true; first || rest != ""; first = false {
		if o.size > maxOpLog {
			return
		}
		line.Text, rest = rest, ""
		if len(line.Text) > maxOpLine {
			line.Text, rest = line.Text[:maxOpLine], line.Text[maxOpLine:]
		}
		// What a line takes besides its text is counted too: empty ones must not be free.
		o.size += len(line.Text) + 64
		if o.size > maxOpLog {
			line = api.OpLogLine{At: line.At, Text: fmt.Sprintf("the rest is left out: more than %d MiB were said", maxOpLog>>20)}
		}
		o.lines = append(o.lines, line)
	}
}

// run stores what was heard until ctx ends, and then what is left.
func (l *opLogs) run(ctx context.Context) {
	for {
		select {
		case <-l.heard:
		case <-ctx.Done():
		}
		if backoff.Pause(ctx, flushEvery) != nil {
			l.flush(context.WithoutCancel(ctx))
			return
		}
		l.flush(ctx)
	}
}

func (l *opLogs) flush(ctx context.Context) {
	l.mu.Lock()
	due := map[opKey][]api.OpLogLine{}
	for key, o := range l.open {
		if len(o.lines) > 0 {
			due[key], o.lines = o.lines, nil
		}
		if o.ended {
			delete(l.open, key)
		}
	}
	l.mu.Unlock()
	for key, lines := range due {
		if err := l.add(ctx, key.run, key.op, lines); err != nil {
			l.logger.LogAttrs(ctx, slog.LevelError, "log of an op not stored", slog.String("run", key.run),
				slog.String("op", key.op), slog.Any("err", err))
		}
	}
}
