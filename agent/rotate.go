package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/varanhq/varan/internal/keyfile"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

// settleEvery is how soon what could not be done about keys is tried again.
const settleEvery = 15 * time.Second

// offers are the keys to show to core, in that order. Core may have accepted the next one
// without the agent having heard so; the previous one is what a core knows that was restored
// from a backup.
func (id *identity) offers() []noise.PrivateKey {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.token != nil {
		return []noise.PrivateKey{id.keys.Current}
	}
	keys := []noise.PrivateKey{id.keys.Next, id.keys.Current, id.keys.Prev}
	return slices.DeleteFunc(keys, noise.PrivateKey.IsZero)
}

func (id *identity) have() keyfile.Keys {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.keys
}

// change lets f change the files and remembers what there is afterwards.
func (id *identity) change(f func(keys keyfile.Keys) (keyfile.Keys, error)) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	keys, err := f(id.keys)
	if err == nil {
		id.keys = keys
	}
	return err
}

// propose makes the next key, if there is none, and returns when it is on disk (R2).
func (id *identity) propose() error {
	return id.change(func(keys keyfile.Keys) (_ keyfile.Keys, err error) {
		keys.Next, err = id.files.Propose()
		return keys, err
	})
}

// accepted puts the files in the order that core's acceptance of a key asks for (R6).
func (id *identity) accepted(key noise.PublicKey) error {
	return id.change(func(keys keyfile.Keys) (keyfile.Keys, error) {
		switch key {
		case keys.Next.Public():
			prev := keys.Current
			if prev.IsZero() { // an earlier attempt got half the way
				prev = keys.Prev
			}
			return keyfile.Keys{Current: keys.Next, Prev: prev}, id.files.Advance()
		case keys.Prev.Public():
			return keyfile.Keys{Current: keys.Prev, Next: keys.Next}, id.files.Restore()
		}
		return keys, nil
	})
}

// dropNext gives up a next key that core does not know.
func (id *identity) dropNext(key noise.PublicKey) error {
	return id.change(func(keys keyfile.Keys) (keyfile.Keys, error) {
		if keys.Next.Public() == key {
			keys.Next = noise.PrivateKey{}
		}
		return keys, id.files.DropNext(key)
	})
}

// dropPrev removes the key that core does not accept any more (R8).
func (id *identity) dropPrev() error {
	return id.change(func(keys keyfile.Keys) (keyfile.Keys, error) {
		keys.Prev = noise.PrivateKey{}
		return keys, id.files.DropPrev()
	})
}

// keepKeys brings the agent's keys in order for as long as the session lasts. What fails is
// tried again: at every moment core accepts a key that is on disk.
func (s *session) keepKeys(ctx context.Context) error {
	rotation := s.welcome.Rotation
	said := ""
	for {
		err := s.settle(ctx, rotation)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the session is over, and that is no fault
		case errors.Is(err, wire.ErrClosed):
			return err
		case err != nil && err.Error() != said:
			s.log.WarnContext(ctx, "keys are not in order yet; trying again", slog.Any("err", err))
			said = err.Error()
		}
		var ended bool
		if rotation, ended = s.nextRotation(ctx, rotation, err != nil); ended {
			return nil
		}
	}
}

// nextRotation waits for another change than the one given, or, when that one failed, until it
// is time to try it again. It reports whether the session ended instead.
func (s *session) nextRotation(ctx context.Context, rotation string, failed bool) (next string, ended bool) {
	again := make(<-chan time.Time)
	if failed {
		timer := time.NewTimer(settleEvery)
		defer timer.Stop()
		again = timer.C
	}
	select {
	case <-ctx.Done():
		return rotation, true
	case next = <-s.rotations:
		return next, false
	case <-again:
		return rotation, false
	}
}

// settle does what is left to be done about the agent's keys, given the one this session was
// opened with and the change that is under way, if any.
func (s *session) settle(ctx context.Context, rotation string) error {
	id := s.agent.id
	if err := id.accepted(s.key); err != nil {
		return err
	}
	have := id.have()
	if have.Current.Public() != s.key {
		return nil // a newer session has another key; what is left is for that one
	}
	if !have.Prev.IsZero() {
		if err := s.call(ctx, wire.VerbRotateConfirm, wire.RotateConfirmed{}, &wire.RotateDone{}); err != nil {
			return fmt.Errorf("confirm the new key: %w", err)
		}
		if err := id.dropPrev(); err != nil {
			return err
		}
		s.log.InfoContext(ctx, "this agent has a new key", slog.String("public_key", s.key.String()))
	}
	switch {
	case rotation != "":
		if err := id.propose(); err != nil {
			return err
		}
		return s.propose(ctx, rotation, id.have().Next.Public())
	case !have.Next.IsZero() && slices.Contains(s.refused, have.Next.Public()):
		return id.dropNext(have.Next.Public()) // it is of a change that is over
	}
	return nil
}

// propose has core accept the next key and the link come back with it (R2, R4).
func (s *session) propose(ctx context.Context, rotation string, key noise.PublicKey) error {
	text := key.String()
	msg := wire.RotateProposed{ID: rotation, Key: text, MAC: wire.RotateMAC(s.conn.Binding(), rotation, text)}
	err := s.call(ctx, wire.VerbRotatePropose, msg, &wire.RotateAccepted{})
	if refused, ok := errors.AsType[*wire.Error](err); ok && refused.Code == wire.CodeNotFound {
		// The change is over, and may have ended with this key in use: a new session shows it,
		// and drops it if core does not know it.
		err = nil
	}
	if err != nil {
		return fmt.Errorf("propose the next key: %w", err)
	}
	poke(s.agent.renew)
	return nil
}

func (s *session) call(ctx context.Context, verb wire.Verb, req, resp any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.peer.Call(ctx, verb, req, resp)
}

// rotate serves core's wish for another key. The answer says that it is on disk; what follows
// is the agent's to do.
func (s *session) rotate(ctx context.Context, req wire.RotateStart) error {
	if err := s.current(req.Epoch); err != nil {
		return err
	}
	if req.ID == "" {
		return wire.Errorf(wire.CodeBadRequest, "a change of keys needs an id")
	}
	if err := s.agent.id.propose(); err != nil {
		s.log.ErrorContext(ctx, "no next key could be made", slog.Any("err", err))
		return &wire.Error{Code: wire.CodeInternal, Message: "the agent cannot store a new key: " + err.Error(), Retryable: true}
	}
	select {
	case s.rotations <- req.ID:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// coreKeys pins the keys that core says it has.
func (s *session) coreKeys(ctx context.Context, keys wire.CoreKeys) error {
	select {
	case <-s.remembered: // or the pin of an onboarding key would be written over what core says
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.agent.id.learn(keys); err != nil {
		s.log.ErrorContext(ctx, "core's keys could not be pinned", slog.Any("err", err))
		if known, ok := errors.AsType[*wire.Error](err); ok {
			return known
		}
		return &wire.Error{Code: wire.CodeInternal, Message: "the agent cannot pin core's key: " + err.Error(), Retryable: true}
	}
	s.log.InfoContext(ctx, "pinned core's keys", slog.String("current", keys.Current), slog.String("next", keys.Next))
	return nil
}
