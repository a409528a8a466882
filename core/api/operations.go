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

// Procedures lists the procedures by name.
func (c *Client) Procedures(ctx context.Context) ([]Procedure, error) {
	return get[[]Procedure](ctx, c, "/procedures")
}

// Procedure describes one procedure.
func (c *Client) Procedure(ctx context.Context, name string) (Procedure, error) {
	return get[Procedure](ctx, c, "/procedures/"+url.PathEscape(name))
}

// CancelProcedure ends the runs of a procedure, or the run of that id, after their stage.
func (c *Client) CancelProcedure(ctx context.Context, name string) (Canceled, error) {
	return send[Canceled](ctx, c, http.MethodPost, "/procedures/"+url.PathEscape(name)+"/cancel", nil)
}

// DecideProcedure approves or rejects a run that waits: the one with that id, or the one of
// that procedure.
func (c *Client) DecideProcedure(ctx context.Context, name string, req DecisionRequest) (ProcedureRun, error) {
	return send[ProcedureRun](ctx, c, http.MethodPost, "/procedures/"+url.PathEscape(name)+"/decide", req)
}

// ProcedureRuns lists runs, newest first: of one procedure, or of all when name is empty; only
// those that wait for an approval when waiting is set.
func (c *Client) ProcedureRuns(ctx context.Context, name string, limit int, waiting bool) ([]ProcedureRun, error) {
	q := url.Values{"procedure": {name}, "limit": {strconv.Itoa(limit)}, "waiting": {strconv.FormatBool(waiting)}}
	return get[[]ProcedureRun](ctx, c, "/procedure-runs?"+q.Encode())
}

// ProcedureRun is one run with its steps.
func (c *Client) ProcedureRun(ctx context.Context, id string) (ProcedureRun, error) {
	return get[ProcedureRun](ctx, c, "/procedure-runs/"+url.PathEscape(id))
}

// RunProcedure runs a procedure and calls each with every event. It returns the run as it
// ended, or as it was begun when the request detaches.
func (c *Client) RunProcedure(ctx context.Context, name string, req RunRequest, each func(ProcedureEvent) error) (ProcedureRun, error) {
	return c.followRun(ctx, "/procedures/"+url.PathEscape(name)+"/run", req, req.Detach, each)
}

// RunExecution is RunProcedure for a single execution.
func (c *Client) RunExecution(ctx context.Context, req ExecutionRequest, each func(ProcedureEvent) error) (ProcedureRun, error) {
	return c.followRun(ctx, "/executions", req, req.Detach, each)
}

func (c *Client) followRun(ctx context.Context, path string, req any, detach bool, each func(ProcedureEvent) error) (ProcedureRun, error) {
	resp, err := c.open(ctx, http.MethodPost, Prefix+path, req)
	if err != nil {
		return ProcedureRun{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	for dec := json.NewDecoder(resp.Body); ; {
		var e ProcedureEvent
		err := dec.Decode(&e)
		switch {
		case err != nil && ctx.Err() != nil:
			return ProcedureRun{}, ctx.Err()
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return ProcedureRun{}, ErrCutOff
		case err != nil:
			return ProcedureRun{}, fmt.Errorf("%w: %w", ErrCutOff, err)
		case e.Error != nil:
			return ProcedureRun{}, e.Error
		}
		if err := each(e); err != nil {
			return ProcedureRun{}, err
		}
		if e.Run != nil && !e.Run.Ended.IsZero() {
			return *e.Run, nil
		}
		if detach {
			return ProcedureRun{ID: e.ID, Status: ProcedureQueued}, nil
		}
	}
}
