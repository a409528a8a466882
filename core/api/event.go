package api

import (
	"context"
	"net/url"
	"strconv"
	"time"
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
	"core":       "starts and stops of core",
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
