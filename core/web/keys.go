package web

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

// Keys are the keys by which core and agents know each other.
type Keys interface {
	// Rotate changes keys and tells what became of each server as it comes.
	Rotate(ctx context.Context, req api.KeyRotation, actor string, each func(api.KeyResult)) (api.KeyReport, error)
	// List is the public halves of all of them.
	List(ctx context.Context) (api.FleetKeys, error)
	// Core is core's own key at this moment.
	Core() (publicKey string, fingerprint wire.Fingerprint)
}

func (s *server) registerKeys(a huma.API) {
	handle(s, a, route(http.MethodGet, "/fleet-keys", "listFleetKeys", "Public keys of core and of all servers"),
		func(ctx context.Context, _ *none) (api.FleetKeys, error) { return s.Keys.List(ctx) })
	stream(s, a, route(http.MethodPost, "/fleet-keys/rotate", "rotateKeys", "Change keys; JSON lines of api.KeyEvent"),
		func(ctx context.Context, in *body[api.KeyRotation]) (func(huma.Context), error) {
			actor := auth.ActorOf(ctx).Name
			return func(hc huma.Context) { s.rotateKeys(ctx, hc, in.Body, actor) }, nil
		})
	act(s, a, route(http.MethodPost, "/servers/{name}/disable", "disableServer", "Refuse a server's key at once"),
		func(ctx context.Context, in *named) error { return s.setDisabled(ctx, in.Name, true) })
	act(s, a, route(http.MethodPost, "/servers/{name}/enable", "enableServer", "Accept a disabled server's key again"),
		func(ctx context.Context, in *named) error { return s.setDisabled(ctx, in.Name, false) })
	act(s, a, route(http.MethodPost, "/servers/{name}/key", "acceptServerKey", "Know a server's agent by a key from now on"), s.acceptKey)
}

// acceptKey makes a key the one of a server, which core dials or which dials core. It is a
// server's own: no session goes on with another one.
func (s *server) acceptKey(ctx context.Context, in *namedBody[api.AcceptKey]) error {
	if !fleet.ValidServerName(in.Name) {
		return badRequest(fmt.Sprintf("%q is not a server name", in.Name), "a name is one printable word of at most 63 characters")
	}
	key, err := noise.ParsePublicKey(in.Body.PublicKey)
	if err != nil {
		return badRequest("the public key cannot be read", "copy it as the agent logs it: one line of base64 that begins with MCow")
	}
	if key.String() == s.coreKey() {
		return badRequest("that is core's own key", "the agent's is in its log")
	}
	if err := s.Store.AcceptServerKey(ctx, in.Name, key.String()); err != nil {
		return err
	}
	s.Agents.Disconnect(ctx, in.Name, "another key of the agent was accepted")
	s.record(ctx, api.Event{Kind: "key", Server: in.Name, Text: "agent's key accepted; it is " + key.String()})
	s.Dials.Now(in.Name)
	s.wakeAll(ctx)
	return nil
}

func (s *server) coreKey() string {
	key, _ := s.Keys.Core()
	return key
}

// rotateKeys writes results as they come; several servers are worked on at a time.
func (s *server) rotateKeys(ctx context.Context, hc huma.Context, req api.KeyRotation, actor string) {
	lines := newLineWriter(hc)
	defer lines.close()
	var mu sync.Mutex
	report, err := s.Keys.Rotate(ctx, req, actor, func(r api.KeyResult) {
		mu.Lock()
		defer mu.Unlock()
		lines.write(api.KeyEvent{Result: &r})
	})
	last := api.KeyEvent{}
	if err == nil || len(report.Results) > 0 {
		last.Report = &report
	}
	if err != nil {
		last.Error = s.failure(ctx, err)
	}
	lines.write(last)
}

// setDisabled decides whether a server's agent may connect. When it returns, no session of a
// disabled one is left.
func (s *server) setDisabled(ctx context.Context, name string, disabled bool) error {
	if err := s.Store.SetServerDisabled(ctx, name, disabled); err != nil {
		return err
	}
	text := "server enabled, its key is accepted again"
	if disabled {
		s.Agents.Disconnect(ctx, name, "the server was disabled")
		text = "server disabled, its key is refused"
	}
	s.record(ctx, api.Event{Kind: "key", Server: name, Text: text})
	s.wakeAll(ctx)
	return nil
}
