package hub

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

const (
	// coreKeyWithin is how long an agent may take to pin a key of core.
	coreKeyWithin = 20 * time.Second
	// startWithin is how long an agent may take to make its next key.
	startWithin = 20 * time.Second
	// maxTold is how many agents are told of core's keys at a time.
	maxTold = 64
)

// ErrNoRotation is what a Rotations says of a change of keys that is not under way.
var ErrNoRotation = errors.New("no such change of keys is under way")

// coreKeys are the keys that core answers with: key, and other to those whose pin hint names it.
type coreKeys struct {
	key, other  noise.PrivateKey
	otherIsNext bool
}

func (h *Hub) coreKeys() coreKeys {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.keys
}

// SetKeys changes the keys that core answers with from now on. Sessions go on.
func (h *Hub) SetKeys(key, other noise.PrivateKey, otherIsNext bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys = coreKeys{key, other, otherIsNext}
}

// TellCoreKeys has every connected agent pin the keys of core as they are now. It returns
// those that did, and why each of the others did not.
func (h *Hub) TellCoreKeys(ctx context.Context) (told []string, failed map[string]error) {
	h.mu.Lock()
	var sessions []*session
	for _, srv := range h.servers {
		if srv.session != nil {
			sessions = append(sessions, srv.session)
		}
	}
	h.mu.Unlock()
	failed = map[string]error{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxTold)
	for _, s := range sessions {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			err := s.tellCoreKeys(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				told = append(told, s.server)
			} else {
				failed[s.server] = err
			}
		})
	}
	wg.Wait()
	return told, failed
}

// tellCoreKeys has the agent pin the keys of core as they are now.
func (s *session) tellCoreKeys(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, coreKeyWithin)
	defer cancel()
	keys := s.hub.coreKeys()
	newest := keys.key.Public()
	msg := wire.CoreKeys{Current: newest.String()}
	if keys.otherIsNext {
		newest = keys.other.Public()
		msg.Next = newest.String()
	}
	if err := s.peer.Call(ctx, wire.VerbCoreKey, msg, nil); err != nil {
		return tooOld(err)
	}
	if s.hub.cfg.PinnedCoreKey != nil {
		s.hub.cfg.PinnedCoreKey(ctx, s.server, newest)
	}
	return nil
}

// catchUp tells an agent that has just connected of keys of core that it may not know.
func (h *Hub) catchUp(ctx context.Context, s *session) {
	if keys := h.coreKeys(); s.retired || keys.other.IsZero() && s.shown == keys.key.Public() {
		return
	}
	ctx = context.WithoutCancel(ctx)
	h.tasks.Go(func() {
		if err := s.tellCoreKeys(ctx); err != nil && !errors.Is(err, wire.ErrClosed) {
			h.log.LogAttrs(ctx, slog.LevelWarn, "an agent did not take core's key", slog.String("host", s.server), slog.Any("err", err))
		}
	})
}

// Online reports whether the agent of a server is connected.
func (h *Hub) Online(server string) bool { return h.session(server) != nil }

// KeyOf is the key with which the connected agent of a server was let in; zero for none.
func (h *Hub) KeyOf(server string) noise.PublicKey {
	if s := h.session(server); s != nil {
		return s.key
	}
	return noise.PublicKey{}
}

// StartRotation asks the agent of a server to change its key. When it returns nil the agent has
// its next key on disk; it proposes it, and comes back with it.
func (h *Hub) StartRotation(ctx context.Context, server, id string) error {
	s := h.session(server)
	if s == nil {
		return &OfflineError{Server: server}
	}
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	if err := s.peer.Call(ctx, wire.VerbRotate, wire.RotateStart{Epoch: s.epoch, ID: id}, nil); err != nil {
		return tooOld(err)
	}
	return nil
}

// tooOld says in words what an unknown verb means.
func tooOld(err error) error {
	if isCode(err, wire.CodeUnknownVerb) {
		return errors.New("its agent is of a release that cannot change keys: update it first")
	}
	return err
}

// rotation is the id of the change of a server's key that is under way, or nothing.
func (h *Hub) rotation(ctx context.Context, server string) (string, error) {
	if h.cfg.Rotations == nil {
		return "", nil
	}
	id, err := h.cfg.Rotations.Open(ctx, server)
	if err != nil {
		h.log.LogAttrs(ctx, slog.LevelError, "changes of keys not read", slog.String("host", server), slog.Any("err", err))
	}
	return id, err
}

// rotatePropose takes the key that an agent wants to change to.
func (s *session) rotatePropose(ctx context.Context, body []byte) (any, error) {
	var msg wire.RotateProposed
	if err := wire.Decode(body, &msg); err != nil {
		return nil, err
	}
	key, err := noise.ParsePublicKey(msg.Key)
	switch {
	case err != nil || key.String() != msg.Key:
		return nil, wire.Errorf(wire.CodeBadRequest, "the proposed key is no key")
	case !hmac.Equal(wire.RotateMAC(s.binding, msg.ID, msg.Key), msg.MAC):
		return nil, wire.Errorf(wire.CodeDenied, "the proposal was not made for this connection")
	case s.hub.cfg.Rotations == nil:
		return nil, wire.Errorf(wire.CodeNotFound, "%v", ErrNoRotation)
	}
	err = s.hub.cfg.Rotations.Propose(ctx, s.server, msg.ID, key)
	if err != nil {
		s.hub.log.LogAttrs(ctx, slog.LevelWarn, "proposed key refused", slog.String("host", s.server), slog.Any("err", err))
	}
	switch {
	case errors.Is(err, ErrNoRotation):
		return nil, wire.Errorf(wire.CodeNotFound, "%v", ErrNoRotation)
	case err != nil:
		return nil, fmt.Errorf("propose: %w", err)
	}
	return wire.RotateAccepted{ID: msg.ID}, nil
}

// rotateConfirm ends the grace of the key that the agent had before.
func (s *session) rotateConfirm(ctx context.Context) (any, error) {
	if s.hub.cfg.Rotations != nil {
		if err := s.hub.cfg.Rotations.Confirm(ctx, s.server); err != nil {
			s.hub.log.LogAttrs(ctx, slog.LevelError, "confirmed key not recorded", slog.String("host", s.server), slog.Any("err", err))
			return nil, fmt.Errorf("confirm: %w", err)
		}
	}
	return wire.RotateDone{}, nil
}

// stillAdmitted looks again whether the agent may connect, if since its handshake any server
// was told to go: its sessions then were ended before this one counted.
func (h *Hub) stillAdmitted(ctx context.Context, s *session) bool {
	h.mu.Lock()
	same := s.drops == h.drops
	s.drops = h.drops
	h.mu.Unlock()
	if same {
		return true
	}
	admitted, err := h.cfg.Registry.ServerByKey(ctx, s.key)
	return err == nil && admitted.Server == s.server && !admitted.Retired
}
