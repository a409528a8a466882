package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// ErrCutOff says that a stream ended before its last event. What core has begun it sees to
// its end; what had not started when the client was gone does not start.
var ErrCutOff = errors.New("the stream from core was cut off")

// Apply makes a sync's commit so and tells each of what happens. The result is that of
// the run. When ctx ends, or each returns an error, what has not started does not start.
func (c *Client) Apply(
	ctx context.Context, sync string, req ApplyRequest, each func(ApplyEvent) error,
) (RunResult, error) {
	return c.follow(ctx, syncPath(sync, "apply"), req, each)
}

// Deploy applies one stack even when it looks right or its release is remembered as bad.
func (c *Client) Deploy(
	ctx context.Context, stack string, req DeployRequest, each func(ApplyEvent) error,
) (RunResult, error) {
	return c.follow(ctx, stackPath(stack, "deploy"), req, each)
}

// Logs calls each with every line of a stack's logs until they end or ctx does.
func (c *Client) Logs(ctx context.Context, stack string, req LogsRequest, each func(LogLine) error) error {
	q := url.Values{}
	for key, value := range map[string]string{"server": req.Server, "service": req.Service} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if req.Follow {
		q.Set("follow", "true")
	}
	if req.Tail != 0 {
		q.Set("tail", strconv.Itoa(req.Tail))
	}
	if req.Timestamps {
		q.Set("timestamps", "true")
	}
	path := Prefix + stackPath(stack, "logs")
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	resp, err := c.open(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return lines(ctx, resp.Body, func(line LogLine) error {
		if line.Error != nil {
			return line.Error
		}
		return each(line)
	})
}

func (c *Client) follow(ctx context.Context, path string, req any, each func(ApplyEvent) error) (RunResult, error) {
	resp, err := c.open(ctx, http.MethodPost, Prefix+path, req)
	if err != nil {
		return RunResult{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	var result *RunResult
	err = lines(ctx, resp.Body, func(event ApplyEvent) error {
		switch {
		case event.Kind == EventError && event.Error != nil:
			return event.Error
		case event.Kind == EventDone:
			result = event.Done
		}
		if each == nil {
			return nil
		}
		return each(event)
	})
	switch {
	case err != nil:
		return RunResult{}, err
	case result == nil:
		return RunResult{}, ErrCutOff
	}
	return *result, nil
}

// lines decodes JSON lines until the stream ends. A stream that breaks is ErrCutOff.
func lines[T any](ctx context.Context, r io.Reader, each func(T) error) error {
	dec := json.NewDecoder(r)
	for {
		var value T
		err := dec.Decode(&value)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("%w: %w", ErrCutOff, err)
		}
		if err := each(value); err != nil {
			return err
		}
	}
}
