package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// OwnSource is the source of procedures that no sync declares: they are core's own.
const OwnSource = "varan"

// Schedule is when a procedure runs by itself.
type Schedule struct {
	Procedure string `json:"procedure"`
	// Source is the sync that declares the procedure, or OwnSource.
	Source     string `json:"source"`
	Expression string `json:"expression"`
	Format     string `json:"format"`
	// Timezone is where its times are meant: the schedule's own zone, or core's.
	Timezone string `json:"timezone"`
	// Words say the same in English; empty when the expression is no time, and Error why.
	Words   string `json:"words,omitempty"`
	Error   string `json:"error,omitempty"`
	Enabled bool   `json:"enabled"`
	Missed  string `json:"missed"`
	Overlap string `json:"overlap"`
	// JitterSeconds is how much later than Next it may run.
	JitterSeconds int `json:"jitter_seconds,omitempty"`
	// Next are the next times; none while it is not enabled.
	Next []NextRun `json:"next"`
	// Skipped counts the times without a run since the schedule was seen first.
	Skipped int           `json:"skipped"`
	LastRun *ProcedureRun `json:"last_run,omitempty"`
}

// NextRun is a time of a schedule.
type NextRun struct {
	At time.Time `json:"at"`
	// Note says what a change of the clocks does to it.
	Note string `json:"note,omitempty"`
}

// OwnChange switches the schedule of one of core's own procedures on or off.
type OwnChange struct {
	Enabled bool `json:"enabled"`
}

// Schedules lists the schedules of all procedures, each with so many of its next times.
func (c *Client) Schedules(ctx context.Context, next int) ([]Schedule, error) {
	return get[[]Schedule](ctx, c, "/schedules?next="+strconv.Itoa(next))
}

// EnableProcedure switches the schedule of one of core's own procedures on or off.
func (c *Client) EnableProcedure(ctx context.Context, name string, enabled bool) (Procedure, error) {
	return send[Procedure](ctx, c, http.MethodPatch, "/procedures/"+url.PathEscape(name), OwnChange{Enabled: enabled})
}

// RemoveProcedure removes one of core's own procedures.
func (c *Client) RemoveProcedure(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, Prefix+"/procedures/"+url.PathEscape(name), nil, nil)
}
