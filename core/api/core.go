package api

import (
	"context"
	"net/http"
)

// Setting is one setting of core. The value of a secret is three stars.
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	// Origin is "file:line", "$VARIABLE", "--flag" or "default".
	Origin string `json:"origin"`
	// Dynamic settings may change while core runs.
	Dynamic bool `json:"dynamic"`
}

// SettingChange is a setting that a reload changed.
type SettingChange struct {
	Key string `json:"key"`
	Old string `json:"old"`
	New string `json:"new"`
}

// ReloadSpec says what to read again.
type ReloadSpec struct {
	// Only are keys of settings, or of tables of them; empty means all.
	Only []string `json:"only,omitempty" maxItems:"64"`
}

// Reloaded is what a reload applied.
type Reloaded struct {
	Changed []SettingChange `json:"changed"`
	// Certificates are the listeners whose certificate was read again.
	Certificates []string `json:"certificates,omitempty"`
}

// Settings lists the settings of core in force.
func (c *Client) Settings(ctx context.Context) ([]Setting, error) {
	return get[[]Setting](ctx, c, "/core/settings")
}

// Reload has core read its settings again.
func (c *Client) Reload(ctx context.Context, spec ReloadSpec) (Reloaded, error) {
	return send[Reloaded](ctx, c, http.MethodPost, "/core/reload", spec)
}
