package docker

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

// Limits on logs.
const (
	maxLogLine     = 64 << 10
	defaultLogTail = 100
)

// Logs implements agent.Engine. Without Follow the containers' lines are merged by
// time; with it they are told as they come.
func (e *Engine) Logs(ctx context.Context, req wire.LogsRequest, w io.Writer) error {
	labels := []string{fleet.LabelServer + "=" + e.cfg.Server, fleet.LabelStack + "=" + req.Stack}
	if req.Service != "" {
		labels = append(labels, labelService+"="+req.Service)
	}
	found, err := e.list(ctx, nil, labels...)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return wire.Errorf(wire.CodeNotFound, "no container of %s is here", strings.TrimSpace(req.Stack+" "+req.Service))
	}
	if req.Follow {
		return e.followLogs(ctx, req, found, w)
	}
	return e.mergeLogs(ctx, req, found, w)
}

// mergeLogs writes the lines of all containers in the order of their times. Each
// container's are in order already, so that one line of each is held at a time.
func (e *Engine) mergeLogs(ctx context.Context, req wire.LogsRequest, found []live, w io.Writer) error {
	group, ctx := errgroup.WithContext(ctx)
	streams := make([]chan wire.LogLine, len(found))
	for i := range found {
		lines := make(chan wire.LogLine)
		streams[i] = lines
		group.Go(func() error {
			// The merge below reads until this is closed.
			defer close(lines)
			return e.containerLogs(ctx, req, &found[i], position{tail: req.Tail}, func(l wire.LogLine) error {
				select {
				case lines <- l:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		})
	}
	group.Go(func() error {
		out := json.NewEncoder(w)
		return merge(streams, func(l wire.LogLine) error { return out.Encode(plain(l, req.Timestamps)) })
	})
	return group.Wait()
}

// merge calls each with the lines of all streams by their times.
func merge(streams []chan wire.LogLine, each func(wire.LogLine) error) error {
	heads := make([]*wire.LogLine, len(streams))
	next := func(i int) {
		heads[i] = nil
		if l, ok := <-streams[i]; ok {
			heads[i] = &l
		}
	}
	for i := range streams {
		next(i)
	}
	for {
		first := -1
		for i, h := range heads {
			if h != nil && (first < 0 || h.Time.Before(heads[first].Time)) {
				first = i
			}
		}
		if first < 0 {
			return nil
		}
		if err := each(*heads[first]); err != nil {
			return fmt.Errorf("write logs: %w", err)
		}
		next(first)
	}
}

// followLogs writes lines as they come, also those of containers that are started later
// in the place of these.
func (e *Engine) followLogs(ctx context.Context, req wire.LogsRequest, found []live, w io.Writer) error {
	cl, err := e.conn.api()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	out := &followed{out: json.NewEncoder(w), last: map[string]time.Time{}, timestamps: req.Timestamps}
	attach := func(l live, from position) {
		group.Go(func() error {
			var written error
			// A container that goes away ends its own lines and nobody else's.
			_ = e.containerLogs(ctx, req, &l, from, func(line wire.LogLine) error {
				written = out.write(l.ID, line)
				return written
			})
			return written
		})
	}
	filters := make(client.Filters).Add("type", "container").Add("event", "start").
		Add("label", fleet.LabelServer+"="+e.cfg.Server, fleet.LabelStack+"="+req.Stack)
	if req.Service != "" {
		filters.Add("label", labelService+"="+req.Service)
	}
	starts := cl.Events(ctx, client.EventsListOptions{Filters: filters})
	for _, l := range found {
		attach(l, position{tail: req.Tail})
	}
	group.Go(func() error {
		for {
			select {
			case m := <-starts.Messages:
				res, err := cl.ContainerInspect(ctx, m.Actor.ID, client.ContainerInspectOptions{})
				if err == nil {
					attach(e.look(&res.Container), position{tail: -1, since: out.lastOf(m.Actor.ID)})
				}
			case err := <-starts.Err:
				return fmt.Errorf("follow logs: %w", err)
			}
		}
	})
	err = group.Wait()
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return nil
	}
	return err
}

// position is where in a container's log to begin: so many lines before its end, or
// after a time.
type position struct {
	tail  int
	since time.Time
}

// followed writes the lines of several containers. A container that is started again
// repeats its last lines, which are not written twice.
type followed struct {
	timestamps bool

	mu   sync.Mutex
	out  *json.Encoder
	last map[string]time.Time
}

func (f *followed) write(id string, line wire.LogLine) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !line.Time.IsZero() && !line.Time.After(f.last[id]) {
		return nil
	}
	f.last[id] = line.Time
	return f.out.Encode(plain(line, f.timestamps))
}

func (f *followed) lastOf(id string) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last[id]
}

// plain drops the time where it was not asked for.
func plain(l wire.LogLine, timestamps bool) wire.LogLine {
	if !timestamps {
		l.Time = time.Time{}
	}
	return l
}

// containerLogs calls each with the lines of one container.
func (e *Engine) containerLogs(
	ctx context.Context, req wire.LogsRequest, l *live, from position, each func(wire.LogLine) error,
) error {
	cl, err := e.conn.api()
	if err != nil {
		return err
	}
	opts := client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true, Follow: req.Follow}
	if !from.since.IsZero() {
		opts.Since = from.since.Format(time.RFC3339Nano)
	}
	switch tail := cmp.Or(from.tail, defaultLogTail); {
	case tail < 0:
		opts.Tail = "all"
	default:
		opts.Tail = strconv.Itoa(tail)
	}
	r, err := cl.ContainerLogs(ctx, l.ID, opts)
	if err != nil {
		return fmt.Errorf("read logs of %s: %w", l.Name, err)
	}
	defer func() { _ = r.Close() }()
	return splitLog(r, l.tty, func(stderr bool, text string) error {
		line := wire.LogLine{Service: l.Service, Container: l.Name, Stderr: stderr}
		stamp, rest, _ := strings.Cut(text, " ")
		if at, err := time.Parse(time.RFC3339Nano, stamp); err == nil {
			line.Time, text = at, rest
		}
		line.Text = text
		return each(line)
	})
}

// splitLog reads the engine's log stream and calls each with every line. Without a
// terminal the stream is two in one.
func splitLog(r io.Reader, tty bool, each func(stderr bool, line string) error) error {
	out := &lineWriter{each: func(line string) error { return each(false, line) }}
	errs := &lineWriter{each: func(line string) error { return each(true, line) }}
	var err error
	if tty {
		_, err = io.Copy(out, r)
	} else {
		_, err = stdcopy.StdCopy(out, errs, r)
	}
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.Join(out.flush(), errs.flush())
	}
	return err
}

// lineWriter calls each with every line written to it, cutting those that are too long.
type lineWriter struct {
	each func(string) error
	line []byte
}

// Write implements io.Writer.
func (w *lineWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		piece, after, ended := bytes.Cut(rest, []byte{'\n'})
		if room := maxLogLine - len(w.line); room > 0 {
			w.line = append(w.line, piece[:min(room, len(piece))]...)
		}
		if rest = after; ended {
			if err := w.end(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

// flush ends a line that has no line end.
func (w *lineWriter) flush() error {
	if len(w.line) == 0 {
		return nil
	}
	return w.end()
}

func (w *lineWriter) end() error {
	line := strings.ToValidUTF8(strings.TrimRight(string(w.line), "\r"), "\uFFFD")
	w.line = w.line[:0]
	return w.each(line)
}
