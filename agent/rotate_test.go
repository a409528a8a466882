package agent_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

// A change that core does not know any more is one that is over: it may have ended well, with
// the proposed key in use.
func TestAKeyThatCoreTookIsKeptWhenTheChangeIsProposedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var mu sync.Mutex
		var taken string // the key that core took
		r.core.onPropose = func(p wire.RotateProposed) error {
			mu.Lock()
			defer mu.Unlock()
			if p.ID != "one" {
				return wire.Errorf(wire.CodeNotFound, "no such change of keys is under way")
			}
			taken = p.Key
			return nil
		}
		r.start()
		first := r.session()
		var last noise.PublicKey
		r.core.setAdmit(func(peer noise.PeerInfo) error {
			mu.Lock()
			current := taken
			mu.Unlock()
			if peer.Key.String() != current {
				return errors.New("not the key in use")
			}
			if last.IsZero() { // a second request arrives while the agent comes with its new key
				if err := first.rotate("two"); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Second)
			}
			last = peer.Key
			return nil
		})
		if err := first.rotate("one"); err != nil {
			t.Fatal(err)
		}
		r.session()
		time.Sleep(time.Minute)
		r.stopped()
		for len(r.core.sessions) > 0 {
			<-r.core.sessions
		}
		r.start() // with what is on disk
		time.Sleep(time.Hour)
		if len(r.core.sessions) == 0 {
			t.Error("core does not know the key that the agent is left with")
		}
	})
}

// rotate asks the agent for another key.
func (s *coreSession) rotate(id string) error {
	return s.peer.Call(s.core.t.Context(), wire.VerbRotate, wire.RotateStart{Epoch: s.epoch, ID: id}, nil)
}
