package hub

import (
	"context"

	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

// Registry is the durable list of servers and of the keys of their agents. All methods
// are safe for concurrent use. Their errors are logged and never reach an agent.
type Registry interface {
	// ServerByKey returns the server whose agent has that key. It is an error when there
	// is none, or when the server must not connect.
	ServerByKey(ctx context.Context, key noise.PublicKey) (server string, err error)
	// NextEpoch numbers a new session of the server; each number is given out once, and
	// higher than those before, restarts of the core included.
	NextEpoch(ctx context.Context, server string) (uint64, error)
	// Onboard consumes the token and registers server and key, or does neither.
	Onboard(ctx context.Context, req OnboardRequest) (server string, err error)
	// Servers lists the names of all registered servers.
	Servers(ctx context.Context) ([]string, error)
}

// OnboardRequest is what a new agent asks for.
type OnboardRequest struct {
	Token wire.OnboardingToken
	// Server is the name the agent wants to serve.
	Server string
	// Key is the agent's key; it has proved to hold the private half.
	Key noise.PublicKey
	// RemoteAddr is where it comes from, as "host:port" or "host".
	RemoteAddr string
}
