package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// The kinds of account.
const (
	AccountGit      = "git"
	AccountRegistry = "registry"
)

// AccountID names an account.
type AccountID struct {
	// Kind is AccountGit or AccountRegistry.
	Kind string `json:"kind"`
	// Domain is a host such as "github.com" or "ghcr.io", with a port if it has one.
	Domain   string `json:"domain"`
	Username string `json:"username"`
}

// String is "git account ada at github.com".
func (id AccountID) String() string { return id.Kind + " account " + id.Username + " at " + id.Domain }

// Account opens repositories or registries. What opens it can be replaced, never read.
type Account struct {
	AccountID

	HasToken  bool      `json:"has_token"`
	HasSSHKey bool      `json:"has_ssh_key,omitempty"`
	Updated   time.Time `json:"updated"`
}

// AccountSpec sets what opens an account: a token, or for Git an SSH key.
type AccountSpec struct {
	Token         WriteOnly `json:"token,omitempty" maxLength:"65536"`
	SSHKey        WriteOnly `json:"ssh_key,omitempty" maxLength:"65536"`
	SSHPassphrase WriteOnly `json:"ssh_passphrase,omitempty" maxLength:"1024"`
	// KnownHosts pins SSH host keys in OpenSSH's format; needed with SSHKey.
	KnownHosts string `json:"known_hosts,omitempty" maxLength:"65536"`
}

// Accounts lists the accounts.
func (c *Client) Accounts(ctx context.Context) ([]Account, error) {
	return get[[]Account](ctx, c, "/accounts")
}

// SetAccount creates or replaces an account.
func (c *Client) SetAccount(ctx context.Context, id AccountID, spec AccountSpec) (Account, error) {
	return send[Account](ctx, c, http.MethodPut, accountPath(id), spec)
}

// DeleteAccount removes an account.
func (c *Client) DeleteAccount(ctx context.Context, id AccountID) error {
	return c.do(ctx, http.MethodDelete, Prefix+accountPath(id), nil, nil)
}

func accountPath(id AccountID) string {
	return "/accounts/" + url.PathEscape(id.Kind) + "/" + url.PathEscape(id.Domain) + "/" + url.PathEscape(id.Username)
}
