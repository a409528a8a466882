package api

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// Event is one record of core's append-only history. Whoever records one says at least its
// Kind and Text, and what it is about; the rest is for what is known.
//
// Each record carries a hash over itself and the one before, see package audit: a new field
// becomes part of that.
type Event struct {
	// ID numbers the records without a gap. Core gives it, with Recorded and Hash.
	ID int64 `json:"id"`
	// At is when it happened, by the clock of who saw it; zero stands for now.
	At time.Time `json:"at"`
	// Recorded is when core heard of it: later than At for what an agent saw while core was
	// away.
	Recorded time.Time `json:"recorded,omitzero"`
	// Kind is a word for what it is about; see EventKinds.
	Kind   string `json:"kind"`
	Sync   string `json:"sync,omitempty"`
	Stack  string `json:"stack,omitempty"`
	Server string `json:"server,omitempty"`
	// Actor is who did it: the name of an API key, "core", a Git host, ...
	Actor string `json:"actor,omitempty"`
	// Text is a sentence that says what happened and why.
	Text string `json:"text"`
	// Cause is the ID of the record that led to this one. When it is zero and Run is set,
	// it becomes the one that began the run.
	Cause int64 `json:"cause,omitempty"`
	// Run is a run of a sync or of a procedure, Op one op of a sync's run.
	Run string `json:"run,omitempty"`
	Op  string `json:"op,omitempty"`
	// Commit is the whole id of the commit it is about.
	Commit string `json:"commit,omitempty"`
	// Status is how it ended, of things that end: "succeeded", "failed", ...
	Status string `json:"status,omitempty"`
	// DurationMS is how long it took, in milliseconds.
	DurationMS int64 `json:"duration_ms,omitempty"`
	// Remote is the address that a request came from, Listener the name of what took it.
	Remote   string `json:"remote,omitempty"`
	Listener string `json:"listener,omitempty"`
	// Data are further facts, for programs.
	Data map[string]string `json:"data,omitempty"`
	// Hash is SHA-256, in hexadecimal, over the record and the hash of the one before.
	Hash string `json:"hash,omitempty"`
}

// EventKinds are the kinds of event, each with what it tells of.
var EventKinds = map[string]string{
	"account":    "accounts at Git hosts and registries",
	"alert":      "alerts that were raised and that are over",
	"backup":     "backups and restores",
	"checkpoint": "records that were deleted because of their age",
	"config":     "the settings of core",
	"control":    "suspensions, rollbacks, releases and other decisions of people",
	"core":       "core itself: starts and stops, its disk, its clock",
	"heal":       "what an agent repaired by itself while core was away",
	"key":        "keys of the API, of agents and of core",
	"login":      "API keys: first uses and refusals",
	"onboarding": "onboarding keys",
	"op":         "what was done to a stack",
	"plan":       "plans that differ from the one before",
	"procedure":  "runs of procedures, and their steps",
	"resource":   "resources that were recorded as declared",
	"run":        "runs of syncs",
	"schedule":   "scheduled times that were met, missed or skipped",
	"server":     "servers that joined, left or came back",
	"sync":       "syncs: new commits, faults and recoveries",
	"update":     "image updates",
	"variable":   "variables",
	"webhook":    "deliveries of Git hosts",
}

// EventFilter chooses records. Empty fields choose nothing out.
type EventFilter struct {
	Page

	// Kinds are those wanted, by name.
	Kinds                           []string
	Sync, Stack, Server, Actor, Run string
	// Since and Until bound At; Since is part of it, Until is not.
	Since, Until time.Time
}

// Values are the filter as a query.
func (f EventFilter) Values() url.Values {
	q := url.Values{}
	for _, kind := range f.Kinds {
		q.Add("kind", kind)
	}
	for name, value := range map[string]string{
		"sync": f.Sync, "stack": f.Stack, "server": f.Server, "actor": f.Actor, "run": f.Run,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, at := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !at.IsZero() {
			q.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	if f.Before > 0 {
		q.Set("before", strconv.FormatInt(f.Before, 10))
	}
	return q
}

// Events lists core's history, newest first.
func (c *Client) Events(ctx context.Context, filter EventFilter) ([]Event, error) {
	path := "/events"
	if q := filter.Values(); len(q) > 0 {
		path += "?" + q.Encode()
	}
	return get[[]Event](ctx, c, path)
}

// Event is one record, with what led to it and what it led to.
func (c *Client) Event(ctx context.Context, id int64) (EventChain, error) {
	return get[EventChain](ctx, c, "/events/"+strconv.FormatInt(id, 10))
}

// EventChain is a record among those that belong to it.
type EventChain struct {
	Event Event `json:"event"`
	// Causes are the records that led to it, the first cause first.
	Causes []Event `json:"causes"`
	// Effects are those it led to, and those of the same run that came after; oldest first,
	// at most 500.
	Effects []Event `json:"effects"`
	// OpRecord is the op that it is about, with its causes and outcome.
	OpRecord *Op `json:"op_record,omitempty"`
}

// AuditHead is the newest record of the history. Who keeps its hash elsewhere can tell later
// that nothing before it was changed.
type AuditHead struct {
	ID   int64  `json:"id"`
	Hash string `json:"hash"`
}

// AuditHead returns the newest record's number and hash.
func (c *Client) AuditHead(ctx context.Context) (AuditHead, error) {
	return get[AuditHead](ctx, c, "/audit/head")
}

// AuditExport streams the history as package audit reads it, or the part that was recorded
// from since to until. The caller closes it.
func (c *Client) AuditExport(ctx context.Context, since, until time.Time) (io.ReadCloser, error) {
	resp, err := c.open(ctx, http.MethodGet, Prefix+"/audit/export?"+EventFilter{Since: since, Until: until}.Values().Encode(), nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// PastStack is how a stack was at some time.
type PastStack struct {
	Name   string            `json:"name"`
	Server string            `json:"server"`
	Source string            `json:"source"`
	Sync   fleet.SyncState   `json:"sync"`
	Health fleet.HealthState `json:"health"`
	// Commit is the last at which it was as Git said, Release what was deployed then.
	Commit  string       `json:"commit,omitempty"`
	Release fleet.Digest `json:"release,omitempty"`
	Text    string       `json:"text,omitempty"`
	// Since is when it came to be so.
	Since time.Time `json:"since"`
}

// PastStatus is how the fleet was at some time.
type PastStatus struct {
	At     time.Time   `json:"at"`
	Stacks []PastStack `json:"stacks"`
	// From is the oldest time of which anything is known.
	From time.Time `json:"from,omitzero"`
}

// StatusAt is how the fleet was at a time.
func (c *Client) StatusAt(ctx context.Context, at time.Time) (PastStatus, error) {
	return get[PastStatus](ctx, c, "/status/past?"+url.Values{"at": {at.UTC().Format(time.RFC3339Nano)}}.Encode())
}

// OpLogLine is a line of what was said while an op was done.
type OpLogLine struct {
	At time.Time `json:"at,omitzero"`
	// Phase and Service are what it is about; both empty for what containers and the engine
	// wrote.
	Phase   string `json:"phase,omitempty"`
	Service string `json:"service,omitempty"`
	Text    string `json:"text"`
	// Error ends a stream that failed.
	Error *Error `json:"error,omitempty"`
}

// OpLogEnd is the phase of the last line of an op's log, which says how it ended.
const OpLogEnd = "ended"

// OpLog calls each with every line of an op's log. With follow it goes on until the op ends.
func (c *Client) OpLog(ctx context.Context, run, op string, follow bool, each func(OpLogLine) error) error {
	q := url.Values{"op": {op}}
	if follow {
		q.Set("follow", "true")
	}
	resp, err := c.open(ctx, http.MethodGet, Prefix+"/runs/"+url.PathEscape(run)+"/log?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return lines(ctx, resp.Body, func(line OpLogLine) error {
		if line.Error != nil {
			return line.Error
		}
		return each(line)
	})
}

// Comparison is how what two commits of a sync say differs: the plan that leads from a fleet
// that runs the first to the second.
type Comparison struct {
	Sync        string            `json:"sync"`
	From        fleet.Commit      `json:"from"`
	To          fleet.Commit      `json:"to"`
	Plan        plan.Plan         `json:"plan"`
	Diagnostics fleet.Diagnostics `json:"diagnostics,omitempty"`
}

// Compare compares two commits of a sync, or one with the commit in force when to is empty;
// all stacks, or one.
func (c *Client) Compare(ctx context.Context, sync, from, to, stack string) (Comparison, error) {
	q := url.Values{"from": {from}, "to": {to}, "stack": {stack}}
	return get[Comparison](ctx, c, syncPath(sync, "diff")+"?"+q.Encode())
}
