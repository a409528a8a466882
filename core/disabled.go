package core

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
)

// outOfService are the servers that commits disable. Their agents are refused, as those that
// somebody disabled by hand are, until a commit enables them again.
type outOfService struct {
	wake  chan struct{} // capacity 1: commits may say something else now
	names atomic.Pointer[map[string]bool]
}

func newOutOfService() *outOfService {
	o := &outOfService{wake: make(chan struct{}, 1)}
	o.names.Store(&map[string]bool{})
	return o
}

// refuse is store.ErrDisabled for a server that must not connect.
func (o *outOfService) refuse(server string) error {
	if (*o.names.Load())[server] {
		return fmt.Errorf("%w by its declaration", store.ErrDisabled)
	}
	return nil
}

// disabledServers are the servers that commits say take no part.
func (c *core) disabledServers() map[string]bool {
	names := map[string]bool{}
	for name, s := range c.declaredServers() {
		if !s.Enabled {
			names[name] = true
		}
	}
	return names
}

// followDisabled ends the sessions of the servers that a commit disables, until ctx ends.
func (c *core) followDisabled(ctx context.Context) {
	for {
		select {
		case <-c.outOfService.wake:
		case <-ctx.Done():
			return
		}
		// From here on no agent of theirs is let in; what is between handshake and Hello is
		// looked at again for that a session was ended.
		names := c.disabledServers()
		before := *c.outOfService.names.Swap(&names)
		var ended sync.WaitGroup
		for name := range names {
			if before[name] {
				continue
			}
			if c.hub.Online(name) {
				c.record(ctx, api.Event{Kind: "key", Server: name, Text: "server disabled by its declaration, its key is refused"})
			}
			ended.Go(func() { c.hub.Disconnect(ctx, name, "the server was disabled by its declaration") })
		}
		for name := range before {
			if !names[name] {
				c.record(ctx, api.Event{Kind: "key", Server: name, Text: "server not disabled by its declaration any more, its key is accepted again"})
			}
		}
		ended.Wait()
	}
}
