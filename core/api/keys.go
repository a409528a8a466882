package api

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// KeyStatus is what became of a change of keys for one server.
type KeyStatus string

// The statuses.
const (
	KeyRotated KeyStatus = "rotated"
	KeySkipped KeyStatus = "skipped"
	KeyFailed  KeyStatus = "failed"
)

// KeyRotation says whose key to change: exactly one of Server, All and Core.
type KeyRotation struct {
	// Server is one server, All all that do not say otherwise.
	Server string `json:"server,omitempty"`
	All    bool   `json:"all,omitempty"`
	// Core is core's own key; with Force also when agents do not take it.
	Core  bool `json:"core,omitempty"`
	Force bool `json:"force,omitempty"`
	// Emergency has the server's old key refused as soon as the agent has the new one.
	Emergency bool `json:"emergency,omitempty"`
}

// KeyResult is what became of one server.
type KeyResult struct {
	Server string    `json:"server"`
	Status KeyStatus `json:"status"`
	Text   string    `json:"text"`
	// PublicKey is the agent's new key.
	PublicKey string `json:"public_key,omitempty"`
}

// KeyReport is what became of a change of keys, by server.
type KeyReport struct {
	Results []KeyResult `json:"results"`
	// PublicKey and Fingerprint are core's new key, if that was changed.
	PublicKey   string `json:"public_key,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
}

// Count is the number of servers with a status.
func (r *KeyReport) Count(status KeyStatus) int { return len(r.Names(status)) }

// Names are the servers with one of the statuses.
func (r *KeyReport) Names(statuses ...KeyStatus) []string {
	var names []string
	for i := range r.Results {
		if slices.Contains(statuses, r.Results[i].Status) {
			names = append(names, r.Results[i].Server)
		}
	}
	return names
}

// KeyEvent is one line of the answer to a change of keys: a server, or last the report or an
// error.
type KeyEvent struct {
	Result *KeyResult `json:"result,omitempty"`
	Report *KeyReport `json:"report,omitempty"`
	Error  *Error     `json:"error,omitempty"`
}

// FleetKeys are the keys of core and of the servers that joined.
type FleetKeys struct {
	Core    []CoreKey  `json:"core"`
	Servers []AgentKey `json:"servers"`
}

// CoreKey is a key of core.
type CoreKey struct {
	// State is "current", "next" or "previous".
	State       string `json:"state"`
	PublicKey   string `json:"public_key"`
	Fingerprint string `json:"fingerprint"`
	// Without are the servers whose agents are not known to have the newest key; set only
	// while core has more than one.
	Without []string `json:"without,omitempty"`
}

// AgentKey is a key of a server's agent.
type AgentKey struct {
	Server string `json:"server"`
	// State is "current", "next" or "retired".
	State       string    `json:"state"`
	PublicKey   string    `json:"public_key"`
	Fingerprint string    `json:"fingerprint"`
	Since       time.Time `json:"since"`
	// Shown says that the connected agent was let in with this key.
	Shown bool `json:"shown,omitempty"`
}

// FleetKeys lists the public keys of core and of all servers.
func (c *Client) FleetKeys(ctx context.Context) (FleetKeys, error) {
	return get[FleetKeys](ctx, c, "/fleet-keys")
}

// RotateKeys changes keys and tells each server's result as it comes. When ctx ends, what has
// not started does not start.
func (c *Client) RotateKeys(ctx context.Context, req KeyRotation, each func(KeyResult)) (KeyReport, error) {
	resp, err := c.open(ctx, http.MethodPost, Prefix+"/fleet-keys/rotate", req)
	if err != nil {
		return KeyReport{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	var report *KeyReport
	var refusal error
	err = lines(ctx, resp.Body, func(e KeyEvent) error {
		switch {
		case e.Error != nil:
			refusal = e.Error
		case e.Result != nil && each != nil:
			each(*e.Result)
		}
		if e.Report != nil {
			report = e.Report
		}
		return nil
	})
	switch {
	case err != nil:
		return KeyReport{}, err
	case report == nil && refusal == nil:
		return KeyReport{}, ErrCutOff
	case report == nil:
		return KeyReport{}, refusal
	}
	return *report, refusal
}

// DisableServer refuses a server's key at once, EnableServer accepts it again.
func (c *Client) DisableServer(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodPost, Prefix+"/servers/"+url.PathEscape(name)+"/disable", nil, nil)
}

// AcceptServerKey makes a key the one that a server's agent is known by.
func (c *Client) AcceptServerKey(ctx context.Context, name, publicKey string) error {
	return c.do(ctx, http.MethodPost, Prefix+"/servers/"+url.PathEscape(name)+"/key", AcceptKey{PublicKey: publicKey}, nil)
}

// EnableServer is DisableServer's opposite.
func (c *Client) EnableServer(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodPost, Prefix+"/servers/"+url.PathEscape(name)+"/enable", nil, nil)
}
