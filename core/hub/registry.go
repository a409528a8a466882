package hub

import (
	"context"
	"errors"
	"net/netip"

	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

// Registry is the durable list of servers and of the keys of their agents. All methods
// are safe for concurrent use. Their errors are logged and never reach an agent.
type Registry interface {
	// ServerByKey returns the server whose agent has shown that key. It is an error when there
	// is none, or when the server must not connect. A key that was to take the place of the
	// server's current one has taken it when this returns.
	ServerByKey(ctx context.Context, key noise.PublicKey) (Admitted, error)
	// NextEpoch numbers a new session of the server; each number is given out once, and
	// higher than those before, restarts of the core included.
	NextEpoch(ctx context.Context, server string) (uint64, error)
	// Onboard consumes the token and registers server and key, or does neither. ErrPending
	// says that it did, and that the server waits for approval.
	Onboard(ctx context.Context, req OnboardRequest) (server string, err error)
	// Servers lists the names of all registered servers.
	Servers(ctx context.Context) ([]string, error)
}

// Admitted is what the owner of a key may do.
type Admitted struct {
	Server string
	// Retired keys were replaced: their owner may say so and nothing else.
	Retired bool
	// Refuse is a key with which no session may go on, because the one shown has taken its
	// place in an emergency; zero for none.
	Refuse noise.PublicKey
}

// Rotations is the durable record of changes of agents' keys. All methods are safe for
// concurrent use.
type Rotations interface {
	// Open returns the id of the change that is under way, or nothing.
	Open(ctx context.Context, server string) (id string, err error)
	// Propose accepts a key beside the server's current one. Repeating it changes nothing.
	Propose(ctx context.Context, server, id string, key noise.PublicKey) error
	// Confirm ends the grace of the replaced key.
	Confirm(ctx context.Context, server string) error
}

// ErrPending refuses an agent whose server waits for approval. It will ask again.
var ErrPending = errors.New("the server waits for approval")

// OnboardRequest is what a new agent asks for.
type OnboardRequest struct {
	Token wire.OnboardingToken
	// Server is the name the agent wants to serve.
	Server string
	// Key is the agent's key; it has proved to hold the private half.
	Key noise.PublicKey
	// RemoteAddr is where it comes from; zero when that is not known.
	RemoteAddr netip.Addr
}
