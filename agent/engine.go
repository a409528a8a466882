package agent

import (
	"context"
	"io"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

// Engine makes a host run what an order says, and tells what runs. The agent calls
// it; agent/docker implements it over Docker.
//
// All methods are safe for concurrent use. Do serialises orders of one stack itself.
type Engine interface {
	// Do carries out an order to its end and returns the outcome. It is idempotent and
	// journalled: after a crash, Recover lists what was under way and Do with the same
	// order finishes it. Canceling ctx stops the order only while nothing was touched;
	// once containers change, it is carried on to success or rollback.
	Do(ctx context.Context, order fleet.Order, blobs Blobs, progress func(fleet.Progress)) fleet.Outcome

	// Recover returns the orders that a crash or restart cut off, oldest first.
	Recover(ctx context.Context) ([]fleet.Order, error)

	// Observe reads the live state of every stack of this server, sorted by name.
	Observe(ctx context.Context) (fleet.AgentInfo, []fleet.StackReport, error)

	// ObserveStack reads one stack. ok is false when nothing of it is left.
	ObserveStack(ctx context.Context, stack string) (report fleet.StackReport, ok bool, err error)

	// Watch calls changed with the name of a stack whenever something of it changes,
	// and with "" when everything should be read again. It returns when ctx ends or the
	// engine goes away.
	Watch(ctx context.Context, changed func(stack string)) error

	// Host works on the engine itself: single containers, pruning, deleting. It returns
	// what was done in words. Nothing of it is recorded.
	Host(ctx context.Context, task fleet.HostTask) (string, error)

	// Logs writes wire.LogLine values as JSON lines until the logs end, or ctx ends
	// when following.
	Logs(ctx context.Context, req wire.LogsRequest, w io.Writer) error

	// Files writes wire.HostFile values as JSON lines, if the host's policy lets core read
	// there. A refusal is a *wire.Error with the code denied.
	Files(ctx context.Context, req wire.FilesRequest, w io.Writer) error

	// Projects lists the Compose projects on the host, and the containers of none.
	Projects(ctx context.Context) (wire.Projects, error)
}

// Blobs fetches what an order needs from core. Implementations verify nothing: the
// engine does.
type Blobs interface {
	// Logins asks for the account that the order's release names. What it returns must
	// stay in memory.
	Logins(ctx context.Context) ([]wire.Login, error)

	// Fetch calls each with the content of every digest, in the order asked.
	Fetch(ctx context.Context, digests []fleet.Digest, each func(fleet.Digest, []byte) error) error
}
