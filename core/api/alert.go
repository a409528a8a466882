package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/varanhq/varan/fleet"
)

// Alert is one thing that people were told.
type Alert struct {
	ID   int64           `json:"id"`
	Type fleet.AlertType `json:"type"`
	// Level is "OK", "WARNING" or "CRITICAL".
	Level  string             `json:"level"`
	Target fleet.ResourceName `json:"target"`
	Server string             `json:"server,omitempty"`
	Text   string             `json:"text"`
	Data   map[string]any     `json:"data,omitempty"`
	At     time.Time          `json:"at"`
	// Resolved is when it was over; zero while it is the matter.
	Resolved time.Time `json:"resolved,omitzero"`
}

// Alerter is a declared alerter. Its address, which often holds a token, is not shown.
type Alerter struct {
	Name    string         `json:"name"`
	Enabled bool           `json:"enabled"`
	Type    string         `json:"type"`
	Types   []string       `json:"alert_types,omitempty"`
	Origin  fleet.Position `json:"origin,omitzero"`
}

// Alerts lists alerts, newest first; only those that are not over when open is set.
func (c *Client) Alerts(ctx context.Context, open bool, limit int) ([]Alert, error) {
	q := url.Values{"open": {strconv.FormatBool(open)}, "limit": {strconv.Itoa(limit)}}
	return get[[]Alert](ctx, c, "/alerts?"+q.Encode())
}

// Alerters lists the alerters that are declared.
func (c *Client) Alerters(ctx context.Context) ([]Alerter, error) {
	return get[[]Alerter](ctx, c, "/alerters")
}

// TestAlerter sends a test through one alerter and returns when it was taken.
func (c *Client) TestAlerter(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodPost, Prefix+"/alerters/"+url.PathEscape(name)+"/test", nil, nil)
}
