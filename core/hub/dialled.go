package hub

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

// dialled is a connection that core made to the address of a server. A nil one is an agent's,
// of which nothing is expected.
type dialled struct {
	server string
	ended  chan error // capacity 1
	// session is under the hub's lock; nil before the agent is authenticated.
	session *session
}

// RefusedError says that the agent at a server's address did not prove to be that server's.
type RefusedError struct {
	// Key is the one that it showed and proved to hold; zero when it did not get that far.
	Key noise.PublicKey
	Err error
}

// Error tells why.
func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap returns the error inside.
func (e *RefusedError) Unwrap() error { return e.Err }

var errNotRunning = errors.New("core takes no agents now")

// Dialled serves the agent of a server over a connection that core made. The roles are those
// of every connection: the agent shows its key when it has seen core's. Another server's key
// is refused. It returns when the session is over, and ends it when ctx ends.
func (h *Hub) Dialled(ctx context.Context, server string, conn wire.MessageConn, addr netip.Addr) error {
	d := &dialled{server: server, ended: make(chan error, 1)}
	h.take(arrival{conn: conn, addr: addr, dialled: d})
	select {
	case err := <-d.ended:
		return err
	case <-ctx.Done():
	}
	h.mu.Lock()
	s := d.session
	h.mu.Unlock()
	if s == nil {
		_ = conn.Close()
	} else {
		s.end(ctx, &wire.Error{Code: wire.CodeShutdown, Message: "core does not keep this connection any more", Retryable: true})
	}
	return <-d.ended
}

// Connected reports whether the agent of a server is connected, and returns a channel that is
// closed when that changes.
func (h *Hub) Connected(server string) (bool, <-chan struct{}) {
	s, changed := h.watch(server)
	return s != nil, changed
}

// done gives back what a connection took of the budget.
func (h *Hub) done(a arrival) {
	if a.dialled == nil {
		h.budget.leave(a.addr)
	}
}

// has notes the session. The caller holds the hub's lock.
func (d *dialled) has(s *session) {
	if d != nil {
		d.session = s
	}
}

// over says that nothing more comes of the connection.
func (d *dialled) over(err error) {
	if d != nil {
		d.ended <- err
	}
}

// expects refuses the agent of any other server than the one that was dialled.
func (d *dialled) expects(server string) error {
	if d != nil && d.server != server {
		return fmt.Errorf("the agent at the address of server %s is that of server %q", d.server, server)
	}
	return nil
}
